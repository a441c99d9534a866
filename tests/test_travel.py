"""Travel against an oracle: every state is the one that a plain replay gives."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import immutables
import jsonpatch
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everwhen import (
    Commit,
    Event,
    EventTypes,
    Fold,
    NewEvent,
    Query,
    RecordedEvent,
    Store,
    TimeMachine,
    UnknownEvent,
    Write,
    documents,
    open_store,
)
from everwhen.codec import Upcast
from everwhen.state import MISSING, diff, plain
from everwhen.state.paths import value_at
from everwhen.state.read_sets import EVERYTHING_READ, Read, looked_at, reads_of
from everwhen.state.snapshots import NOTHING, START, Loaded, Place
from everwhen.testing import ManualClock
from everwhen.travel import AsOf, EventFilter, Step, window
from everwhen.travel import value_history as spans_module
from everwhen.travel._sync import search as finding_module
from everwhen.travel._sync import timeline as timeline_module
from everwhen.travel.waypoints import Waypoints
from everwhen.travel.window import bytes_apart


class Put(Event):
    tag_fields = ("key",)

    key: str
    value: int


class Gone(Event):
    key: str


class Item(msgspec.Struct, frozen=True):
    value: int
    writes: int = 1


class Shelf(msgspec.Struct, frozen=True):
    items: immutables.Map[str, Item] = immutables.Map()
    events: int = 0


def persistent() -> Fold[Any]:
    fold = Fold("shelf", Shelf, state=Shelf)

    @fold.on(Put)
    def _(state: Shelf, event: Put) -> Shelf:
        old = state.items.get(event.key)
        item = Item(event.value, 1 if old is None else old.writes + 1)
        return Shelf(state.items.set(event.key, item), state.events + 1)

    @fold.on(Gone)
    def _(state: Shelf, event: Gone) -> Shelf:
        return (
            Shelf(state.items.delete(event.key), state.events + 1)
            if event.key in state.items
            else state
        )

    return fold


def in_place() -> Fold[Any]:
    fold: Fold[dict[str, Any]] = Fold(
        "mutable", lambda: {"items": {}, "log": []}, state=dict[str, Any]
    )

    @fold.on(Put)
    def _(state: dict[str, Any], event: Put) -> dict[str, Any]:
        old = state["items"].get(event.key, {"writes": 0})
        state["items"][event.key] = {"value": event.value, "writes": old["writes"] + 1}
        state["log"].append(event.key)
        del state["log"][:-3]
        return state

    @fold.on(Gone)
    def _(state: dict[str, Any], event: Gone) -> dict[str, Any]:
        state["items"].pop(event.key, None)
        return state

    return fold


def by_record() -> Fold[Any]:
    fold: Fold[Any] = Fold("records", dict, copy=dict.copy, state=dict[str, Any])

    @fold.otherwise
    def _(state: dict[str, Any], recorded: RecordedEvent[Any]) -> dict[str, Any]:
        state[recorded.stream] = {"at": recorded.position, **recorded.data}
        return state

    return fold


FOLDS = [persistent, in_place, by_record]
KEYS = ["a", "b", "c"]
EVENTS = st.builds(Put, st.sampled_from(KEYS), st.integers(-2, 5)) | st.builds(
    Gone, st.sampled_from(KEYS)
)
COMMITS = st.lists(
    st.tuples(st.sampled_from(["x-1", "x-2", "y-1"]), st.lists(EVENTS, min_size=1, max_size=4)),
    min_size=1,
    max_size=25,
)
Histories = list[tuple[str, list[Event]]]


def written(history: Histories) -> Store:
    clock = ManualClock(datetime(2024, 1, 1, tzinfo=UTC))
    store = open_store("memory:", events=EventTypes(Put, Gone), clock=clock)
    for stream, events in history:
        store.append(stream, events)
        clock.advance(1)
    return store


@pytest.fixture(autouse=True)
def _short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waypoints everywhere, pages of two events, short searches: every border is crossed."""
    monkeypatch.setattr(timeline_module, "_APART_SECONDS", 0.0)
    monkeypatch.setattr(timeline_module, "_MIN_PAGE_EVENTS", 2)
    short = {
        "_FIRST_CHUNK_POSITIONS": 2,
        "_CHUNK_POSITIONS": 3,
        "_MAX_CHUNK_POSITIONS": 7,
        "_NEAR_POSITIONS": 4,
        "PAGE_EVENTS": 2,
    }
    for name, number in short.items():
        monkeypatch.setattr(finding_module, name, number)
    monkeypatch.setattr(spans_module, "_MANY_CHANGES", 3)


class Oracle:
    """What a plain replay says of every position."""

    def __init__(self, store: Store, fold: Fold[Any], of: Query) -> None:
        self.head = store.head().position
        self.states = [store.fold(fold, of.up_to(p)) for p in range(self.head + 1)]
        self.stops = [event.position for event in store.read(of)]

    def holds(self, condition: Callable[[Any], Any]) -> list[bool]:
        """Whether it holds, by position."""
        return [_holds(condition, state) for state in self.states]


def _holds(condition: Callable[[Any], Any], state: Any) -> bool:
    try:
        return bool(condition(state))
    except LookupError:
        return False


OF = st.sampled_from([Query(), Query().category("x"), Query().stream("x-1"), Query().tags("key:a")])
SEEDS = st.integers(0, 2**32)


@given(COMMITS, st.sampled_from(FOLDS), OF, SEEDS, st.booleans())
def test_a_visit_has_the_state_of_a_plain_replay(
    history: Histories, make: Callable[[], Fold[Any]], of: Query, seed: int, keep: bool
) -> None:
    with written(history) as store:
        fold, rng = make(), random.Random(seed)
        oracle = Oracle(store, fold, of)
        machine = TimeMachine(store, fold, of, keep=keep)
        if rng.random() < 0.5:
            machine.prepare()
        places = [*range(oracle.head + 1)] * 2
        rng.shuffle(places)
        for position in places:
            visit = machine.travel_to(position)
            assert visit.state == oracle.states[position]
            assert visit.position == max([p for p in oracle.stops if p <= position], default=0)
            assert visit.until == position
            _spoil(visit.state)


def _spoil(state: Any) -> None:
    """Change a state that was given out: nobody else may see it."""
    if isinstance(state, dict):
        state["items" if "items" in state else "x-1"] = {"a": "spoilt"}


@given(COMMITS, st.sampled_from(FOLDS), OF, SEEDS)
def test_steps_forth_and_back_show_what_a_plain_replay_shows(
    history: Histories, make: Callable[[], Fold[Any]], of: Query, seed: int
) -> None:
    with written(history) as store:
        fold, rng = make(), random.Random(seed)
        oracle = Oracle(store, fold, of)
        machine = TimeMachine(store, fold, of)
        every = [0, *oracle.stops]
        position = 0
        for _ in range(30):
            steps = rng.randint(-4, 4)
            index = max([i for i, p in enumerate(every) if p <= position])
            position = machine.moved(position, steps)
            assert position == every[min(max(index + steps, 0), len(every) - 1)]
            if position:
                step = machine.step_at(position)
                assert step.position == position
                assert step.before == oracle.states[position - 1]
                assert step.after == oracle.states[position]
                patch = step.changes.patch()
                assert jsonpatch.apply_patch(plain(step.before), patch) == plain(step.after)
        assert [(s.position, s.before, s.after) for s in machine.replay()] == [
            (p, oracle.states[p - 1], oracle.states[p]) for p in oracle.stops
        ]


CONDITIONS: list[Callable[[Any], Any]] = [
    lambda s: s.items["a"].value > 2,
    lambda s: "b" in s.items,
    lambda s: s.items.get("c") is None,
    lambda s: s.items["a"].value > s.items["b"].value,
    lambda s: sum(item.value for item in s.items.values()) > 4,
    lambda s: len(s.items) == 2,
    lambda s: s.events % 3 == 1,
    lambda s: s.items["a"] == Item(2, 1),
    lambda s: isinstance(s.items.get("a"), Item) and s.items["a"].writes > 1,
    lambda s: s.items["b" if s.items["a"].value > 1 else "c"].value > 0,
    lambda s: any(k != "a" for k in s.items),
    lambda s: _matched(s),  # noqa: PLW0108 (it is defined below)
    lambda s: True,
    lambda s: False,
    lambda s: not s.items,
    lambda s: f"{s.items.get('a')}" == "None",
]


def _matched(state: Any) -> bool:
    match state:
        case Shelf(items={"a": Item(value=value)}) if value > 0:
            return True
        case Shelf(items={"b": _}):
            return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CONDITIONS)))
@settings(max_examples=40)
@given(history=COMMITS, of=OF, seed=SEEDS)
def test_when_a_condition_held(number: int, history: Histories, of: Query, seed: int) -> None:
    with written(history) as store:
        fold, rng = persistent(), random.Random(seed)
        condition = CONDITIONS[number]
        oracle = Oracle(store, fold, of)
        machine = TimeMachine(store, fold, of)
        for _ in range(3):
            start, end = sorted(rng.choices(range(oracle.head + 1), k=2))
            span = range(start, end + 1)
            truth = oracle.holds(condition)
            tracked = rng.random() < 0.8
            found = machine.find_when(condition, start=start, end=end, tracked=tracked)
            first = next((p for p in span if truth[p]), None)
            assert (None if found is None else found.until) == first
            if found is not None:
                assert found.state == oracle.states[found.until]
            flips = [(start, truth[start])]
            flips += [(b, truth[b]) for a, b in pairwise(span) if truth[a] is not truth[b]]
            seen = machine.transitions(condition, start=start, end=end, tracked=tracked)
            assert [(t.at.until, t.holds) for t in seen] == flips
            last = machine.find_when(condition, last=True, start=start, end=end)
            stops = [start, *(p for p in oracle.stops if start < p <= end)]
            final = next((p for p in reversed(stops) if truth[p]), None)
            assert (last is None) == (final is None)
            if last is not None and final is not None:
                assert last.state == oracle.states[final]
                assert max(last.position, start) == max([s for s in stops if s <= last.until])
                assert max(last.position, start) == final or last.until == end
            every = machine.find_all(condition, start=start, end=end, tracked=tracked)
            assert [v.state for v in every] == [oracle.states[p] for p in stops if truth[p]]


@given(COMMITS, st.integers(0, 60), OF, st.booleans())
def test_a_condition_that_never_ceases_is_bisected(
    history: Histories, much: int, of: Query, prepared: bool
) -> None:
    with written(history) as store:
        oracle = Oracle(store, persistent(), of)
        machine = TimeMachine(store, persistent(), of)
        if prepared:
            machine.prepare()
        found = machine.find_when(lambda s: s.events >= much, monotone=True)
        first = next((p for p, s in enumerate(oracle.states) if s.events >= much), None)
        assert (None if found is None else found.until) == first


PATHS: list[tuple[Any, ...]] = [("items", "a", "value"), ("items", "b"), ("events",), (), ("x",)]


@given(COMMITS, st.sampled_from(FOLDS[:2]), st.sampled_from(PATHS), OF, SEEDS)
def test_the_history_of_a_part(
    history: Histories, make: Callable[[], Fold[Any]], path: tuple[Any, ...], of: Query, seed: int
) -> None:
    with written(history) as store:
        rng = random.Random(seed)
        oracle = Oracle(store, make(), of)
        machine = TimeMachine(store, make(), of)
        values = [value_at(state, path) for state in oracle.states]
        changed = [p for p in range(1, len(values)) if values[p] != values[p - 1]]
        for _ in range(3):
            if rng.random() < 0.5:
                history_ = [(w.position, w.before, w.after) for w in machine.history(path)]
                assert history_ == [(p, values[p - 1], values[p]) for p in changed]
            here = rng.randint(0, oracle.head)
            last, after = machine.last_write(path, here), machine.next_write(path, here)
            assert (last and last.position) == max([p for p in changed if p <= here], default=None)
            assert (after and after.position) == min([p for p in changed if p > here], default=None)


@given(COMMITS, OF, SEEDS)
def test_who_wrote_each_part_last(history: Histories, of: Query, seed: int) -> None:
    with written(history) as store:
        oracle = Oracle(store, persistent(), of)
        machine = TimeMachine(store, persistent(), of)
        here = random.Random(seed).randint(0, oracle.head)
        blamed = machine.blame("", here)
        state = oracle.states[here]
        leaves = [("events",), *(("items", k, f) for k in state.items for f in ("value", "writes"))]
        assert set(blamed) == {*leaves, *(() if state.items else [("items",)])}
        for path in leaves:
            wrote = [
                p
                for p in range(1, here + 1)
                if value_at(oracle.states[p], path) != value_at(oracle.states[p - 1], path)
            ]
            event = blamed[path]
            assert (None if event is None else event.position) == max(wrote, default=None)


@pytest.mark.slow
@given(COMMITS, st.sampled_from(FOLDS), SEEDS)
def test_an_altered_history(history: Histories, make: Callable[[], Fold[Any]], seed: int) -> None:
    with written(history) as store:
        rng, fold = random.Random(seed), make()
        machine = TimeMachine(store, fold)
        events = list(store.read())
        until = rng.randint(0, len(events))
        without = set(rng.sample(range(1, len(events) + 1), rng.randint(0, len(events))))
        edited = {rng.randint(1, len(events)): [Put("a", 99)]}
        altered = machine.altered(
            without=EventFilter(positions=frozenset(without)) if without else None, edited=edited
        )
        rest: list[Any] = []
        for event in events[:until]:
            if event.position in without:
                continue
            rest += (
                edited.get(event.position, [event.event])
                if event.position in edited
                else [event.event]
            )
        supposed = altered.travel_to(until)
        if make is not by_record:
            assert supposed.state == fold.apply(fold.initial(), rest)
            assert supposed.state == altered.travel_to(until).state
        assert sum(supposed.left_out.values()) == len({p for p in without if p <= until})
        steps = list(altered.replay(end=until))
        if steps:
            assert steps[-1].after == supposed.state
            assert steps[-1].left_out <= sum(supposed.left_out.values())
        assert not any(isinstance(step, Step) for step in steps)
        first = rng.randint(0, until)
        assert list(altered.replay(first, until)) == [
            step for step in steps if step.position > first or not first
        ]
        assert machine.travel_to(until).state == store.fold(fold, Query().up_to(until))
        assert not diff(altered.travel_to(0).state, fold.initial())


@given(COMMITS, st.sampled_from(range(len(CONDITIONS))))
def test_what_was_not_read_makes_no_difference(history: Histories, number: int) -> None:
    """As long as all that was read stays as it is, so does the answer."""
    condition = CONDITIONS[number]
    with written(history) as store:
        states = Oracle(store, persistent(), Query()).states
    for before in states:
        reads = reads_of(condition, before)
        for after in states:
            if all(looked_at(read)(before) == looked_at(read)(after) for read in reads):
                assert _holds(condition, before) == _holds(condition, after)


def test_what_a_condition_reads() -> None:
    shelf = Shelf(immutables.Map(a=Item(1), b=Item(2)), 7)
    assert reads_of(lambda s: s.items["a"].value > 0, shelf) == {
        Read(("items", "a", "value")),
        Read(("items", "a"), whole=False),
        Read(("items",), whole=False),
        Read((), whole=False),
    }
    whole = reads_of(lambda s: len(s.items) > 0, shelf)
    assert {read.path for read in whole if read.whole} == {("items",)}
    assert reads_of(lambda s: type(s) is Shelf, shelf) == EVERYTHING_READ
    assert reads_of(lambda s: msgspec.json.encode(s) and True, shelf) == EVERYTHING_READ


def test_an_upcast_that_splits_is_one_step() -> None:
    def both(data: dict[str, Any]) -> list[UnknownEvent]:
        return [UnknownEvent("Put", {"key": key, "value": data["v"]}) for key in ("a", "b")]

    types = EventTypes(Put, Gone, upcasts=[Upcast("Pair", 1, both, into=["Put"])])
    with open_store("memory:", events=types) as store:
        store.commit(Commit([Write("x-1", [UnknownEvent("Pair", {"v": n}) for n in range(5)])]))
        machine = TimeMachine(store, persistent())
        step = machine.step_at(3)
        assert [e.type for e in step.events] == ["Put", "Put"]
        assert (step.before.events, step.after.events) == (4, 6)
        assert machine.moved(1, 2) == 3
        found = machine.find_when(lambda s: s.items["a"].value == 3)
        assert found is not None
        assert (found.position, found.state.events) == (4, 8)


def test_the_state_as_of_an_occurred_time() -> None:
    noon = datetime(2024, 5, 1, 12, tzinfo=UTC)
    with written([]) as store:
        for hours, value in ((0, 1), (-2, 2), (3, 3)):
            occurred = noon + timedelta(hours=hours)
            store.append("x-1", [NewEvent(event=Put("a", value), occurred_at=occurred)])
        machine = TimeMachine(store, persistent())
        assert machine.travel_to(AsOf(noon - timedelta(hours=1))).state.items["a"].value == 2
        assert machine.travel_to(AsOf(noon)).state.items["a"] == Item(1, 2)
        assert machine.travel_to(AsOf(noon - timedelta(hours=3))).state == Shelf()
        assert machine.travel_to(3).state.items["a"].value == 3


def test_missing_is_told_apart_from_none() -> None:
    assert value_at({"a": None}, ("a",)) is None
    assert value_at({"a": None}, ("b",)) is MISSING


def test_what_is_kept_in_memory_is_bounded_in_bytes() -> None:
    wide = {f"stream-{n}": n for n in range(20_000)}
    copy = dict(wide)
    copy_bytes = bytes_apart(copy, wide)
    assert copy_bytes == sys.getsizeof(copy), "the values are shared"
    assert bytes_apart(wide, wide) == 0
    kept: Waypoints[dict[str, int]] = Waypoints(most_bytes=4 * copy_bytes)
    for position in range(1, 200):
        place = Place(position, position, 0, b"")
        kept.add(Loaded(dict(wide), 0, position, position, NOTHING, place, ""))
        assert 1 <= len(kept) <= 4
        newest = kept.newest(position)
        assert newest is not None
        assert newest.read_until == position, "the newest one stays"
    one: Waypoints[dict[str, int]] = Waypoints(most_bytes=1)
    one.add(Loaded(dict(wide), 0, 1, 1, NOTHING, START, ""))
    assert len(one) == 1, "one there always is"


def test_a_long_history_is_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    limit, count = 16, 8_000
    folded: list[int] = []
    fold = Fold("counted", int)

    @fold.on(Put)
    def _(state: int, event: Put) -> int:
        folded.append(event.value)
        return state + 1

    monkeypatch.setattr(timeline_module, "PAGE_EVENTS", 50)
    with open_store("memory:", events=[Put]) as store:
        for first in range(0, count, 50):
            store.append("a-1", [Put("k", first + number) for number in range(50)])
        machine = TimeMachine(store, fold, keep=False)
        machine._timeline._states.value.waypoints = Waypoints(limit)
        machine.prepare()
        for position in range(count, 0, -500):  # no visit has left anything before the next
            folded.clear()
            assert machine.travel_to(position).state == position
            assert len(set(folded)) <= 2 * count / limit + 50, "twice the mean, and a page"


def test_wide_states_are_right_however_little_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "MAX_BYTES", 100_000)
    with open_store("memory:") as store:
        writes = [Write(f"s-{n}", [UnknownEvent("Set", {"n": n})]) for n in range(3_000)]
        store.commit(Commit(writes))
        machine = TimeMachine(store, documents, keep=False)
        for position in (3_000, 2_999, 1_500, 1_501, 1, 2_998, 40, 3_000):
            state = machine.travel_to(position).state
            assert len(state) == position
            step = machine.step_at(position)
            assert [change.path[0] for change in step.changes] == [f"s-{position - 1}"]
        kept = machine._timeline._states.value.windows._newest_first
        assert len(kept) == 1 or sum(one.bytes for one in kept) <= 100_000
