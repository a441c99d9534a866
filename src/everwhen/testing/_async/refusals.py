"""Guarantee 11: bad input is refused before anything is written."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final, cast
from uuid import UUID

from everwhen.codec.commits import Commit, Write
from everwhen.testing._async.bench import Bench, events_of
from everwhen.testing._async.concurrency import together
from everwhen.testing.checks import equal, raises, true
from everwhen.testing.promises import Guarantee, promise
from everwhen.testing.specimens import Deposited, Noted, notes, plain
from everwhen.vocabulary.contract import MAX_DEPTH, Condition, Receipt
from everwhen.vocabulary.errors import (
    ConditionError,
    InvalidCommitError,
    InvalidQueryError,
    RefusedError,
    StoreClosedError,
)
from everwhen.vocabulary.events import Event, NewEvent, UnknownEvent
from everwhen.vocabulary.metadata import CommitMetadata
from everwhen.vocabulary.query import Query, Selector


class _Stranger(Event):
    text: str


_HERE: Final = datetime(2024, 1, 1, tzinfo=UTC)
_NAIVE: Final = datetime(2024, 1, 1)  # noqa: DTZ001 (that is the point)
_GOOD: Final = Write("good", (Noted("x"),))
_NOTHING: Final = Query().tags("nothing has this")


def _nested(levels: int) -> dict[str, Any]:
    """So many objects and lists inside one another."""
    found: Any = "innermost"
    for level in reversed(range(levels)):
        found = [found] if level % 2 else {"in": found}
    return cast("dict[str, Any]", found)


_BAD_STREAMS: Final[tuple[Any, ...]] = (
    "", "a\nb", "a\x00b", "\x7f", "line\u2028end", "\ud800", "x" * 513, "é" * 257,
    None, 5, b"bytes", ["a"], ("a",),
)  # fmt: skip

_BAD_EVENTS: Final[dict[str, Any]] = {
    "an undeclared class": _Stranger("x"),
    "no event": None,
    "a dict": {"text": "x"},
    "a text": "x",
    "a class": Noted,
    "a wrong field type": Noted(5),  # type: ignore[arg-type]
    "a boolean for a number": Deposited(1, 1.5),  # type: ignore[arg-type]
    "a lone surrogate": Noted("\ud800"),
    "too large": Noted("x" * (17 << 20)),
    "a nested event": NewEvent(event=NewEvent(event=Noted("x"))),
    "an empty tag": NewEvent(event=Noted("x"), tags=("",)),
    "tags as one text": NewEvent(event=Noted("x"), tags="tag"),  # type: ignore[arg-type]
    "a number as a tag": NewEvent(event=Noted("x"), tags=(5,)),  # type: ignore[arg-type]
    "a number for tags": NewEvent(event=Noted("x"), tags=5),  # type: ignore[arg-type]
    "a list as a tag": NewEvent(event=Noted("x"), tags=(["a"],)),  # type: ignore[arg-type]
    "a tag with a line end": NewEvent(event=Noted("x"), tags=("a\n",)),
    "a long tag": NewEvent(event=Noted("x"), tags=("x" * 513,)),
    "an event id that is empty": NewEvent(event=Noted("x"), event_id=""),
    "an event id with a line end": NewEvent(event=Noted("x"), event_id="a\nb"),
    "an event id that is a number": NewEvent(event=Noted("x"), event_id=5),  # type: ignore[arg-type]
    "occurred_at without a zone": NewEvent(event=Noted("x"), occurred_at=_NAIVE),
    "occurred_at as text": NewEvent(event=Noted("x"), occurred_at="2024-01-01"),  # type: ignore[arg-type]
    "extras that are a list": NewEvent(event=Noted("x"), extras=[1]),  # type: ignore[arg-type]
    "extras with a number as key": NewEvent(event=Noted("x"), extras={1: 1}),  # type: ignore[dict-item]
    "extras with a set": NewEvent(event=Noted("x"), extras={"a": {1}}),
    "extras with a function": NewEvent(event=Noted("x"), extras={"a": print}),
    "plain data that is no object": UnknownEvent("T", [1]),  # type: ignore[arg-type]
    "plain NaN": plain("T", x=math.nan),
    "plain infinity": plain("T", x=-math.inf),
    "a plain Decimal": plain("T", x=Decimal("1.5")),
    "a plain moment": plain("T", x=_HERE),
    "a plain UUID": plain("T", x=UUID(int=1)),
    "plain bytes": plain("T", x=b"bytes"),
    "a plain tuple": plain("T", x=(1, 2)),
    "a plain set": plain("T", x={1}),
    "a plain object": plain("T", x=object()),
    "a plain event": plain("T", x=Noted("x")),
    "a plain number as key": plain("T", x={1: 2}),
    "a plain lone surrogate": plain("T", x="\udfff"),
    "plain data for a declared type": plain("Noted", colour="red"),
    "plain type without a name": plain(""),
    "plain type with a line end": plain("a\nb"),
    "plain data nested too deep": UnknownEvent("T", _nested(MAX_DEPTH + 1)),
    "plain data nested without end": UnknownEvent("T", _nested(50_000)),
    "extras nested too deep": NewEvent(event=Noted("x"), extras=_nested(MAX_DEPTH + 1)),
    "plain version 0": plain("T", 0),
    "plain version True": plain("T", True),
    "plain version as text": plain("T", "1"),  # type: ignore[arg-type]
}

_BAD_COMMITS: Final[dict[str, Commit]] = {
    "nothing at all": Commit(()),
    "no events": Commit((Write("a", ()),)),
    "only a guard": Commit((Write("a", (), 0),)),
    "a belief in the middle": Commit((_GOOD, Write("good", notes(1), 1))),
    "one event instead of a list": Commit((Write("a", Noted("x")),)),  # type: ignore[arg-type]
    "a text instead of a list": Commit((Write("a", "xyz"),)),
    "nothing instead of a list": Commit((Write("a", None),)),  # type: ignore[arg-type]
    "a belief below 0": Commit((_GOOD, Write("a", notes(1), -1))),
    "a belief as text": Commit((Write("a", notes(1), "any"),)),  # type: ignore[arg-type]
    "a belief that is True": Commit((Write("a", notes(1), True),)),
    "no belief": Commit((Write("a", notes(1), None),)),  # type: ignore[arg-type]
    "a commit id as text": Commit((_GOOD,), id=str(UUID(int=1))),  # type: ignore[arg-type]
    "a condition below 0": Commit((_GOOD,), Condition(Query(), -1)),
    "a condition without a place": Commit((_GOOD,), Condition(Query(), None)),  # type: ignore[arg-type]
    "a condition at True": Commit((_GOOD,), Condition(Query(), True)),
    "a condition at half a place": Commit((_GOOD,), Condition(Query(), 1.5)),  # type: ignore[arg-type]
    "a query of other things": Commit((_GOOD,), Condition(Query((7,)), 0)),  # type: ignore[arg-type]
    "a query of a list": Commit((_GOOD,), Condition(Query([Selector()]), 0)),  # type: ignore[arg-type]
    "recorded_at without a zone": Commit((_GOOD,), recorded_at=_NAIVE),
    "recorded_at as a number": Commit((_GOOD,), recorded_at=5),  # type: ignore[arg-type]
    "an empty user": Commit((_GOOD,), metadata=CommitMetadata(user_id="")),
    "a user that is a number": Commit((_GOOD,), metadata=CommitMetadata(user_id=5)),  # type: ignore[arg-type]
    "a source with a line end": Commit((_GOOD,), metadata=CommitMetadata(source="a\n")),
    "a long correlation": Commit((_GOOD,), metadata=CommitMetadata(correlation_id="x" * 513)),
    "metadata as a dict": Commit((_GOOD,), metadata={"user_id": "x"}),  # type: ignore[arg-type]
    "commit extras with a set": Commit((_GOOD,), metadata=CommitMetadata(extras={"a": {1}})),
    "commit extras nested too deep": Commit(
        (_GOOD,), metadata=CommitMetadata(extras=_nested(MAX_DEPTH + 1))
    ),
    "commit extras with NaN": Commit((_GOOD,), metadata=CommitMetadata(extras={"a": math.nan})),
}


@promise(Guarantee.REFUSAL)
async def bad_stream_names_are_refused(bench: Bench) -> None:
    for name in _BAD_STREAMS:
        await _refused(bench, f"stream name {name!r}", Commit((_GOOD, Write(name, notes(1)))))


@promise(Guarantee.REFUSAL)
async def bad_events_are_refused(bench: Bench) -> None:
    for what, event in _BAD_EVENTS.items():
        await _refused(bench, what, Commit((_GOOD, Write("a", [Noted("x"), event]))))


_BAD_NAMES: Final[tuple[Any, ...]] = (
    frozenset({7}),
    frozenset({"good", None}),
    frozenset({b"good"}),
    frozenset({""}),
    ["good"],
    "good",
    None,
)


def _bad_selectors() -> list[Selector]:
    parts = ("streams", "categories", "types", "tags")
    return [Selector(**{part: names}) for part in parts for names in _BAD_NAMES]


@promise(Guarantee.REFUSAL)
async def hand_built_queries_are_judged_like_others(bench: Bench) -> None:
    store = await bench.store()
    await store.append("a", [Deposited(1, 1)])
    for selector in _bad_selectors():
        query = Query((Selector(), selector))
        with raises(InvalidCommitError, f"a condition on {selector}"):
            await store.append("a", notes(1), condition=Condition(query, 0))
        with raises(InvalidQueryError, f"reading {selector}"):
            await events_of(store, query)
        with raises(InvalidQueryError, f"following {selector}"):
            store.subscribe(query)
    for query in (
        Query(after_position=True),
        Query(last_position=-1),
        Query(min_version=1.5),  # type: ignore[arg-type]
        Query(max_events="1"),  # type: ignore[arg-type]
        Query(recorded_until=1.5),  # type: ignore[arg-type]
        Query(reverse=1),  # type: ignore[arg-type]
    ):
        with raises(InvalidQueryError, f"reading {query}"):
            await events_of(store, query)
    of_a_set = Query((Selector(tags={"account:1"}),))  # type: ignore[arg-type]
    equal(len(await events_of(store, of_a_set)), 1, "a set of names is as good as a frozen one")
    with raises(ConditionError, "a set of names in a condition"):
        await store.append("a", notes(1), condition=Condition(of_a_set, 0))


@promise(Guarantee.REFUSAL)
async def a_bad_condition_disturbs_nobody_else(bench: Bench) -> None:
    store = await bench.store()
    bad = [Condition(Query(), True), *(Condition(Query((s,)), 0) for s in _bad_selectors())]

    async def good(number: int) -> Receipt:
        return await store.append(f"good-{number}", notes(1), condition=Condition(_NOTHING, 0))

    async def refused(condition: Condition) -> Receipt:
        return await store.append("bad", notes(1), condition=condition)

    calls = [
        call
        for number, condition in enumerate(bad)
        for call in (partial(good, number), partial(refused, condition))
    ]
    outcomes = await together(*calls)
    for outcome in outcomes[::2]:
        true(isinstance(outcome, Receipt), f"a good append beside bad ones: {outcome!r}")
    for outcome in outcomes[1::2]:
        true(isinstance(outcome, InvalidCommitError), f"a bad one: {outcome!r}")
    equal(len(await events_of(store)), len(bad), "all that were good, and nothing else")


@promise(Guarantee.REFUSAL)
async def bad_commits_are_refused(bench: Bench) -> None:
    for what, commit in _BAD_COMMITS.items():
        await _refused(bench, what, commit)


async def _refused(bench: Bench, what: str, commit: Commit) -> None:
    store = await bench.store()
    with raises(RefusedError, what) as caught:
        await store.commit(commit)
    true(len(str(caught.error)) > 20, f"{what}: the error explains itself")
    with raises(RefusedError, f"{what}, in a batch"):
        await store.commit_batch([Commit((_GOOD,)), commit])
    equal((await store.head()).position, 0, f"{what}: nothing was written")


@promise(Guarantee.REFUSAL)
async def the_store_goes_on_after_refusals(bench: Bench) -> None:
    store = await bench.store()
    for event in list(_BAD_EVENTS.values())[:8]:
        with raises(RefusedError, "a bad event"):
            await store.append("a", [event])
    receipt = await store.append("a", notes(1), expected=0)
    equal(receipt.versions, {"a": 1}, "the first good one is version 1")
    equal(len(await events_of(store)), 1, "and alone")


_CALLS: Final[dict[str, Callable[[Any], Any]]] = {
    "append": lambda store: store.append("a", notes(1)),
    "commit": lambda store: store.commit(Commit((_GOOD,))),
    "commit_batch": lambda store: store.commit_batch([Commit((_GOOD,))]),
    "read": events_of,
    "head": lambda store: store.head(),
    "position_at": lambda store: store.position_at(_HERE),
    "stream": lambda store: store.stream("a"),
    "version": lambda store: store.version("a"),
    "checkpoint": lambda store: store.checkpoint("a"),
    "checkpoints": lambda store: store.checkpoints(),
    "snapshots": lambda store: store.snapshots("a"),
    "check": lambda store: store.check(),
}


@promise(Guarantee.REFUSAL)
async def a_closed_store_says_so(bench: Bench) -> None:
    store = await bench.store()
    await store.append("a", notes(1))
    await store.close()
    for name, call in _CALLS.items():
        with raises(StoreClosedError, f"{name} on a closed store"):
            await call(store)
    with raises(StoreClosedError, "listing streams of a closed store"):
        _ = [info async for info in store.streams()]
    with raises(StoreClosedError, "a transaction on a closed store"):
        async with store.transaction():
            pass
    await store.close()


@promise(Guarantee.REFUSAL)
async def what_is_nested_as_deep_as_allowed_comes_back(bench: Bench) -> None:
    store = await bench.store()
    deepest = UnknownEvent("T", _nested(MAX_DEPTH))
    extras = _nested(MAX_DEPTH)
    await store.append(
        "a",
        [deepest, NewEvent(event=Noted("x"), extras=extras)],
        metadata=CommitMetadata(extras={"of the commit": extras["in"]}),
    )
    await store.append("b", [deepest])
    first, second, third = await events_of(store, Query())
    equal((first.event, third.data), (deepest, deepest.data), "the data")
    own = {"in": extras["in"], "of the commit": extras["in"]}
    equal(second.metadata.extras, own, "the extras")
    equal(await store.check(), [], "problems")


@promise(Guarantee.REFUSAL)
async def names_that_cannot_exist_are_simply_not_there(bench: Bench) -> None:
    store = await bench.store()
    await store.commit_batch(
        Commit((Write(f"s-{n}", notes(3)),)) for n in range(bench.commits(250))
    )
    for name in ("\ud800", "a\x00b", "x" * 5_000, "'; DROP TABLE slices; --"):
        equal(await store.stream(name), None, f"stream {name[:20]!r}")
        equal(await store.version(name), 0, f"version of {name[:20]!r}")
        equal(await store.checkpoint(name), None, f"checkpoint {name[:20]!r}")
        equal(await store.snapshots(name), [], f"snapshots of {name[:20]!r}")
        equal([i async for i in store.streams(name)], [], f"streams of {name[:20]!r}")
        for query in (
            Query().stream(name),
            Query().category(name),
            Query().types(name),
            Query().tags(name),
        ):
            equal(await events_of(store, query), [], f"events by {name[:20]!r}")
            condition = Condition(query, 0)
            await store.append("a", notes(1), condition=condition)
