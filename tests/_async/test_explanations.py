"""Errors in an application's own code say where in history they happened; mistakes are told."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from everwhen import (
    Aggregate,
    Decisions,
    Event,
    EventTypes,
    Fold,
    Personal,
    Projection,
    Query,
    RecordedEvent,
    StateOf,
    TableProjection,
    Tables,
)
from everwhen.aio import CommandBus, ProjectionRunner, Repository, Store, TimeMachine, open_store
from everwhen.backends.locations import shown
from everwhen.codec import Upcast
from everwhen.errors import DeclarationError, DecodeError, ProjectionError, StatementError
from everwhen.projections import OnError
from everwhen.reactions import Reaction, Timer
from everwhen.reactions.aio import ReactionRunner
from everwhen.state import diff


class Paid(Event):
    amount: int


class Noted(Event):
    text: str


total: Fold[int] = Fold("total", int)
listed: Fold[list[int]] = Fold("listed", list, state=list[int])
mixed: Fold[int] = Fold("mixed", int)
HALT = OnError(retries=0)


@total.on(Paid)
def _(state: int, event: Paid) -> int:
    if event.amount == 13:
        raise ValueError("thirteen")
    return state + event.amount


@listed.on(Paid)
def _(state: list[int], event: Paid) -> list[int]:
    if event.amount == 13:
        raise ValueError("thirteen")
    state.append(event.amount)
    return state


@mixed.on(Paid)
def _(state: int, event: Paid) -> int:
    return state + event.amount


@mixed.otherwise
def _(state: int, recorded: RecordedEvent[Any]) -> int:
    raise KeyError(recorded.type)


async def shop(*, upcasts: bool = False) -> Store:
    """A store whose position 6 is the one that the folds can't take."""
    more = [Upcast("Old", 1, lambda data: data)] if upcasts else []
    store = await open_store("memory:", events=EventTypes(Paid, Noted, upcasts=more))
    await store.append("till-1", [Paid(1), Paid(2)])
    await store.append("till-2", [Noted("x"), Paid(3), Paid(4), Paid(13)])
    await store.append("till-1", [Paid(5)])
    return store


def note_of(error: BaseException) -> str:
    """The one note of an error."""
    (note,) = error.__notes__
    return note


PLACE = "position 6, till-2@4, Paid"


@pytest.mark.parametrize("upcasts", [False, True])
@pytest.mark.parametrize("fold", [total, listed])
async def test_what_a_fold_raises_says_where_it_was(fold: Fold[Any], *, upcasts: bool) -> None:
    async with await shop(upcasts=upcasts) as store:
        machine = TimeMachine(store, fold)

        async def replayed() -> object:
            return [step async for step in machine.replay()]

        async def searched() -> object:
            return await machine.find_when(lambda state: bool(state) and state == "never")

        async def folded_from_events() -> object:
            return fold.state_of([event async for event in store.read()])

        ways: list[Callable[[], Any]] = [
            lambda: store.fold(fold),
            lambda: store.fold(fold, "till-2"),
            lambda: store.fold(fold, Query().limit(6)),
            lambda: Repository(store, fold).load("till-2"),
            lambda: machine.travel_to(6),
            replayed,
            searched,
            folded_from_events,
        ]
        for way in ways:
            with pytest.raises(ValueError, match="thirteen") as raised:
                await way()
            assert note_of(raised.value) == f"in fold {fold.name!r}, at {PLACE}"


async def test_a_function_for_everything_else_says_so_too() -> None:
    async with await shop() as store:
        with pytest.raises(KeyError) as raised:
            await store.fold(mixed)
        assert note_of(raised.value) == "in fold 'mixed', at position 3, till-2@1, Noted"
    with pytest.raises(ValueError, match="thirteen") as without_place:
        total.apply(0, [Paid(13)])
    assert note_of(without_place.value) == "in fold 'total', at an event, Paid"


async def test_a_source_that_fails_is_not_the_folds_fault() -> None:
    async with await shop() as store:
        events = [event async for event in store.read()]

        def broken() -> Any:
            yield events[0]
            raise OSError("the source")

        with pytest.raises(OSError, match="the source") as raised:
            total.state_of(broken())
        assert not hasattr(raised.value, "__notes__")


async def test_a_projection_that_fails_says_where(location: str) -> None:
    in_tables = TableProjection("rows", ["CREATE TABLE {rows} (n INT)"], on_error=HALT)

    @in_tables.on(Paid)
    def _(tables: Tables, recorded: RecordedEvent[Paid]) -> None:
        if recorded.event.amount == 13:
            raise ValueError("thirteen")

    async with open_store(location, events=[Paid]) as store:
        await store.append("till-2", [Paid(1), Paid(13)])
        in_memory = Projection(total, on_error=HALT)
        for projection, kind in ((in_tables, "projection 'rows'"), (in_memory, "fold 'total'")):
            with pytest.raises(ProjectionError) as raised:
                await ProjectionRunner(store, [projection]).catch_up()
            cause = raised.value.__cause__
            assert cause is not None
            assert note_of(cause) == f"in {kind}, at position 2, till-2@2, Paid"


async def test_a_fold_function_that_returns_nothing_is_told() -> None:
    forgetful: Fold[dict[str, int]] = Fold("forgetful", dict, state=dict[str, int])

    @forgetful.on(Paid)
    def _(state: dict[str, int], event: Paid) -> Any:
        state["n"] = event.amount

    from_records: Fold[dict[str, int]] = Fold("from records", dict)
    from_records.otherwise(lambda state, recorded: None)  # type: ignore[arg-type, return-value]
    async with await shop() as store:
        for fold in (forgetful, from_records):
            for way in (
                lambda fold=fold: store.fold(fold),
                lambda fold=fold: TimeMachine(store, fold).travel_to(1),
                lambda fold=fold: TimeMachine(store, fold).find_when(lambda state: state == 7),
            ):
                with pytest.raises(DeclarationError, match=r"Paid.* returned None") as raised:
                    await way()
                assert re.search(r"test_explanations\.py:\d+", str(raised.value))
                assert note_of(raised.value).endswith("at position 1, till-1@1, Paid")


async def test_none_may_be_a_state_where_its_type_or_the_beginning_says_so() -> None:
    async with await shop() as store:
        folds: list[Fold[Any]] = [
            Fold("optional", lambda: 0, state=int | None),
            Fold("nothing yet", lambda: None),
            Fold("anything", dict, state=Any),
        ]
        for fold in folds:
            fold.on(Paid)(lambda state, event: None)
            assert await store.fold(fold) is None
            assert (await TimeMachine(store, fold).travel_to(2)).state is None


async def test_an_aggregate_whose_fold_returns_nothing_is_told() -> None:
    @dataclass
    class Account(Aggregate):
        balance: int = 0

    account: Fold[Account] = Fold("account", Account)
    decisions = Decisions()

    @account.on(Paid)
    def _(self: Account, event: Paid) -> Any:
        self.balance += event.amount

    @decisions.on(Noted, StateOf(account, lambda noted: "till-9"))
    def _(noted: Noted, state: Account) -> None:
        state.record(Paid(1))

    async with await shop() as store:
        with pytest.raises(DeclarationError, match=r"'account'.* for Paid .*returned None"):
            await CommandBus(store, decisions).send(Noted("x"))
        assert await store.version("till-9") == 0


async def reacting(store: Store, answer: Callable[[], Any]) -> BaseException:
    """What a reaction fails with that answers so."""
    reaction = Reaction("pays", on_error=HALT)
    reaction.on(Noted)(lambda recorded: answer())
    with pytest.raises(ProjectionError) as raised:
        await ReactionRunner(CommandBus(store, Decisions()), [reaction]).catch_up()
    assert raised.value.__cause__ is not None
    return raised.value.__cause__


async def test_what_a_reaction_answers_by_mistake_is_told() -> None:
    async with await shop() as store:
        bare = await reacting(store, lambda: Paid(1))
        assert isinstance(bare, DeclarationError)
        assert (
            "'pays': its function for Noted returned Paid(amount=1); let it return a list"
            in str(bare)
        )
    async with await shop() as store:
        timer = await reacting(store, lambda: [Timer("soon", Paid(1))])
        assert "give either after=… or at=…" in str(timer)
        assert note_of(timer) == "in reaction 'pays', at position 3, till-2@1, Noted"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "give either after=… or at=…"),
        ({"after": timedelta(1), "at": datetime.now(UTC)}, "give either after=… or at=…"),
        ({"at": datetime(2026, 1, 1)}, "give a datetime with a time zone"),
        ({"at": "2026-01-01"}, "give a datetime with a time zone"),
        ({"after": 5}, "give a timedelta"),
    ],
)
def test_a_timer_without_a_clear_time_is_told_where_it_is_made(given: Any, told: str) -> None:
    with pytest.raises(DeclarationError, match=re.escape(told)):
        Timer("soon", Paid(1), **given)


async def test_a_table_that_the_projection_does_not_have_is_named(location: str) -> None:
    projection = TableProjection("rows", ["CREATE TABLE {rows} (n TEXT)"], on_error=HALT)

    @projection.on(Paid)
    def _(tables: Tables, recorded: RecordedEvent[Paid]) -> None:
        tables.execute("INSERT INTO {rows} VALUES ('{text}')")  # in a literal it is just text
        if recorded.event.amount > 1:
            tables.execute("INSERT INTO {row} VALUES (1)")

    async with open_store(location, events=[Paid]) as store:
        await store.append("till-1", [Paid(1)])
        runner = ProjectionRunner(store, [projection])
        await runner.catch_up()
        await store.append("till-1", [Paid(2)])
        with pytest.raises(ProjectionError) as raised:
            await runner.catch_up()
        await runner.close()
        assert isinstance(raised.value.__cause__, StatementError)
        assert "{row} is not a table of this projection" in str(raised.value.__cause__)


def test_a_command_of_a_class_that_can_not_be_kept_is_told_where_it_is_declared() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Pay(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        amount: int

    decisions = Decisions()
    with pytest.raises(DeclarationError, match="Pay can't be stored"):
        decisions.on(Pay, StateOf(total, lambda pay: "till-1"))
    with pytest.raises(DeclarationError, match="Pay can't be an event type"):
        EventTypes(Pay)


async def test_data_that_does_not_fit_blames_what_made_it(location: str) -> None:
    path = location
    async with open_store(path, events=[Paid]) as store:
        await store.append("till-1", [Paid(1)])

    class Later(Event):
        type_name = "Paid"
        amount: int
        currency: str

    async with open_store(path, events=[Later]) as store:
        (event,) = [event async for event in store.read()]
        with pytest.raises(DecodeError, match=r"version 1, or give the new field a default$"):
            _ = event.event
        assert "Paid (DecodeError: " in repr(event)

    class Newer(Event):
        type_name = "Paid"
        schema_version = 2
        amount: int
        currency: str

    types = EventTypes(Newer, upcasts=[Upcast("Paid", 1, lambda data: {**data, "currencies": "€"})])
    async with open_store(path, events=types) as store:
        (event,) = [event async for event in store.read()]
        with pytest.raises(
            DecodeError, match="the upcast of 'Paid' from version 1 leads to"
        ) as told:
            _ = event.event
        assert "fix that upcast" in str(told.value)
        assert "declare an upcast" not in str(told.value)


class Joined(Event):
    data_subject = "person"

    person: str
    name: Personal[str]


async def test_reprs_tell(location: str) -> None:
    path = shown(location)
    store = await open_store(location, events=[Paid])
    await store.append("till-1", [Paid(1), Paid(2)])
    assert [repr(event) async for event in store.read()] == [
        "<1 till-1@1 Paid(amount=1)>",
        "<2 till-1@2 Paid(amount=2)>",
    ]
    assert repr(store) == f"Store({str(path)!r})"
    assert repr(TimeMachine(store, total, "till-1")).endswith("of 'total/till-1')")
    assert repr(Repository(store, total)) == f"Repository({store!r}, {total!r})"
    bus = CommandBus(store, Decisions())
    assert repr(bus) == f"CommandBus({store!r}, Decisions())"
    runner = ProjectionRunner(store, [Projection(total)])
    assert repr(runner) == f"<ProjectionRunner on {store!r}, at rest: total at 0>"
    await runner.catch_up()
    assert "total at 2" in repr(runner)
    await runner.close()
    assert ", closed: " in repr(runner)
    branch = await store.create_branch("what-if")
    assert repr(branch) == f"Store({str(path)!r}, branch='what-if')"
    await branch.close()
    assert repr(branch).endswith("branch='what-if', closed)")
    await store.close()
    assert repr(store) == f"Store({str(path)!r}, closed)"
    async with open_store("memory:") as other:
        assert repr(other) == "Store('memory:')"
        await other.commit_batch([])
    assert repr(diff({"a": 1}, {"a": 2, "b": 3})) == "<Diff: a: 1 → 2; b: + 3>"
    assert repr(diff(1, 1)) == "<Diff: no change>"


async def test_an_unknown_event_is_shown_as_stored(location: str) -> None:
    async with open_store(location, events=[Noted]) as store:
        await store.append("notes", [Noted("x" * 500)])
        await store.append("notes", [Noted("y")])
    async with open_store(location) as store:
        long, short = [repr(event) async for event in store.read()]
    assert short == '<2 notes@2 Noted {"text":"y"}>'
    assert len(long) < 200
    assert long.endswith("…>")
