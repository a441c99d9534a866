"""Undo by compensating events, over stores in memory and in files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from tests.places import everywhere

from everwhen import (
    Commit,
    Event,
    EventTypes,
    Fold,
    NewEvent,
    Query,
    RecordedEvent,
    Refusal,
    UnknownEvent,
    Write,
    context,
)
from everwhen.aio import Undo, open_store
from everwhen.audit import AuditAction, AuditEntry, AuditFilter
from everwhen.audit.aio import AuditLog
from everwhen.codec import Upcast
from everwhen.errors import DeclarationError, InvalidQueryError, UndoError
from everwhen.privacy import PLAINTEXT
from everwhen.state import Change
from everwhen.testing._async.concurrency import together
from everwhen.undo import ByDifference, Compensations, Correlation, Positions
from everwhen.vocabulary import CommitMetadata


class Opened(Event):
    tag_fields = ("owner",)

    owner: str


class Deposited(Event):
    amount: int


class Withdrawn(Event):
    amount: int


class Named(Event):
    name: str


class Noted(Event):
    text: str


class Spoilt(Event):
    how: str


class Stranger(Event):
    """Declared nowhere."""


class Account(msgspec.Struct, frozen=True):
    balance: int = 0
    name: str = ""


EVENTS = [Opened, Deposited, Withdrawn, Named, Noted, Spoilt]

account: Fold[Account] = Fold("account", Account)


@account.on(Deposited)
def _deposited(state: Account, event: Deposited) -> Account:
    return Account(state.balance + event.amount, state.name)


@account.on(Withdrawn)
def _withdrawn(state: Account, event: Withdrawn) -> Account:
    return Account(state.balance - event.amount, state.name)


@account.on(Named)
def _named(state: Account, event: Named) -> Account:
    return Account(state.balance, event.name)


compensations = Compensations()


class Overdrawn(Refusal):
    pass


@compensations.on(Deposited, given=account)
def _take_back(event: Deposited, state: Account) -> Withdrawn:
    if state.balance < event.amount:
        raise Overdrawn(f"the balance is {state.balance}")
    return Withdrawn(event.amount)


@compensations.on(Withdrawn)
def _bring_back(event: Withdrawn) -> list[Deposited]:
    return [Deposited(event.amount)]


@compensations.on(Noted)
def _nothing_to_do(event: Noted) -> list[Any]:
    return []


@compensations.on_recorded(Opened)
def _never(recorded: RecordedEvent[Opened]) -> None:
    assert recorded.stream


@compensations.on(Spoilt)
def _spoilt(event: Spoilt) -> Any:
    if event.how == "raises":
        raise KeyError("lost")
    return {"undeclared": Stranger(), "nonsense": 42, "text": "text"}[event.how]


def store_at(location: str, events: Any = EVENTS) -> Any:
    return open_store(location, events=events, durable=False, vault=PLAINTEXT)


async def read(store: Any, query: Any) -> list[Any]:
    return [event async for event in store.read(query)]


async def balance(store: Any, stream: str = "account-1") -> int:
    state: Account = await store.fold(account, stream)
    return state.balance


@everywhere
async def test_an_event_is_undone_redone_and_undone_again(location: str) -> None:
    async with store_at(location) as store:
        undo = Undo(store, compensations)
        placed = CommitMetadata(user_id="ann", correlation_id="talk", extras={"web": True})
        await store.append("account-1", [Deposited(5)])
        (first,) = await read(store, "account-1")
        await store.append("account-1", [Deposited(70)], metadata=placed)
        plan = await undo.plan(2)
        assert (await store.head()).position == 2, "a plan writes nothing"
        assert [e.position for e in plan.undone] == [2]
        assert plan.is_complete
        assert not plan.is_empty
        receipt = await undo.undo(plan, metadata=CommitMetadata(user_id="bob"))
        assert receipt.commit_id == plan.commit_id
        (event,) = await store.commit_events(receipt.commit_id)
        assert event.event == Withdrawn(70)
        assert (event.metadata.user_id, event.metadata.correlation_id) == ("bob", "talk")
        assert event.metadata.causation_id == plan.undone[0].event_id
        assert event.metadata.extras == {"undoes": {"events": 1, "positions": [[2, 2]]}}
        assert f"undoes:{plan.undone[0].event_id}" in event.tags
        with pytest.raises(UndoError, match="done before"):
            await undo.undo(2)
        assert await balance(store) == 5

        redone = await undo.redo(2)
        assert await balance(store) == 75
        (again,) = await store.commit_events(redone.commit_id)
        assert again.event == Deposited(70)
        assert again.event_id != plan.undone[0].event_id
        assert again.metadata.extras == {"redoes": {"events": 1, "positions": [[2, 2]]}}
        with pytest.raises(UndoError, match="done before"):
            await undo.redo(2)
        twice = await undo.undo(2)
        assert twice.commit_id not in {receipt.commit_id, redone.commit_id}
        assert await balance(store) == 5
        with pytest.raises(UndoError, match="done before"):
            await undo.undo(again)  # the event that did it again is the same fact
        with pytest.raises(UndoError, match="done before"):
            await undo.redo(first)


@everywhere
async def test_undoing_an_undo_redoes(location: str) -> None:
    async with store_at(location) as store:
        undo = Undo(store, compensations)
        receipt = await store.append("account-1", [Deposited(1), Deposited(20), Withdrawn(4)])
        undone = await undo.undo(receipt)
        made = [e.event for e in await store.commit_events(undone.commit_id)]
        assert made == [Deposited(4), Withdrawn(20), Withdrawn(1)]
        assert await balance(store) == 0
        plan = await undo.plan(undone.commit_id)
        assert plan.undone == ()
        assert [e.event for e in plan.redone] == [Deposited(1), Deposited(20), Withdrawn(4)]
        redone = await undo.undo(plan)
        again = [e.event for e in await store.commit_events(redone.commit_id)]
        assert again == [Deposited(1), Deposited(20), Withdrawn(4)]
        assert await balance(store) == 17
        with pytest.raises(UndoError):
            await undo.undo(undone)  # the undo was undone already
        assert (await undo.plan(redone)).undone[0].event == Withdrawn(4)
        await undo.undo(redone)
        assert await balance(store) == 0
        await undo.redo(undone)
        assert await balance(store) == 17


@everywhere
async def test_an_undo_within_the_target_leads_back_to_before_it_all(location: str) -> None:
    async with store_at(location) as store:
        undo = Undo(store, compensations)
        await store.append("account-1", [Deposited(10)])
        await store.append("account-1", [Deposited(200)])
        await undo.undo(1)  # position 3
        await store.append("account-1", [Withdrawn(50)])  # position 4
        assert await balance(store) == 150
        plan = await undo.plan(Positions(3, 4))
        assert [e.position for e in plan.undone] == [4]
        assert [e.position for e in plan.redone] == [1]
        assert [n.event for n in plan.appended[0].events] == [Deposited(50), Deposited(10)]
        await undo.undo(plan)
        assert await balance(store) == 210
        everything = await undo.plan(Positions(1, 4))
        assert sorted(e.position for e in everything.undone) == [1, 2]
        assert [e.position for e in everything.already] == [4]
        await undo.undo(everything)
        assert await balance(store) == 0


@everywhere
async def test_targets(location: str) -> None:
    async with store_at(location) as store:
        undo = Undo(store, compensations)
        for number in range(6):
            who = "ann" if number % 2 else "bob"
            with context(user_id=who, correlation_id=f"talk-{number % 3}"):
                await store.append(f"account-{number}", [Deposited(number + 1), Noted("n")])
        events = await read(store, Query())
        third = events[4]

        async def positions(target: Any) -> list[int]:
            return sorted(e.position for e in (await undo.plan(target)).undone)

        assert await positions(5) == [5]
        assert await positions(third) == [5]
        assert await positions(third.event_id) == [5]
        assert await positions(third.commit_id) == [5, 6]
        assert await positions(Correlation("talk-2")) == [5, 6, 11, 12]
        assert await positions(Correlation(str(events[0].commit_id))) == []
        assert await positions(Positions(2, 7)) == [2, 3, 4, 5, 6, 7]
        assert await positions(Positions(3, user_id="ann")) == [3, 4, 7, 8, 11, 12]
        assert await positions(Query().types(Deposited).category("account").up_to(5)) == [1, 3, 5]
        assert await positions(Query().types(Deposited).backwards().limit(2)) == [9, 11]
        assert await positions(str(events[1].commit_id) + "/1") == [2]
        for nothing in (99, 0, -1, uuid4(), f"{uuid4()}/0", "x", Correlation("y"), Positions(50)):
            assert await positions(nothing) == []
            with pytest.raises(UndoError, match="no such events"):
                await undo.undo(nothing)
        ill: list[Any] = [
            Positions(1, user_id=7),  # type: ignore[arg-type]
            Positions("1"),  # type: ignore[arg-type]
            Correlation(None),  # type: ignore[arg-type]
        ]
        for wrong in ill:
            with pytest.raises(InvalidQueryError, match="whole numbers"):
                await undo.plan(wrong)
        wrongs: list[Any] = [None, 1.5, True, [1], b"x"]
        for wrong in wrongs:
            with pytest.raises(InvalidQueryError, match="give a position"):
                await undo.plan(wrong)
        few = Undo(store, compensations, max_events=5)
        with pytest.raises(UndoError, match="more than 5"):
            await few.plan(Positions(1))


@everywhere
async def test_an_event_by_an_id_of_its_own(location: str) -> None:
    async with store_at(location) as store:
        undo = Undo(store, compensations)
        await store.append("account-1", [NewEvent(event=Deposited(5), event_id="order.7/1")])
        await store.append("account-1", [NewEvent(event=Deposited(7), event_id="order")])
        await undo.undo("order.7/1")
        assert await balance(store) == 7
        await undo.redo("order.7/1")
        with pytest.raises(UndoError):
            await undo.undo("order.7")


@everywhere
async def test_what_cannot_be_undone_says_why(location: str) -> None:
    async with store_at(location) as store:
        undo = Undo(store, compensations)
        await store.append("account-1", [Opened("ann"), Deposited(50)])
        spoilt = [Spoilt("raises"), Spoilt("undeclared"), Spoilt("nonsense"), Spoilt("text")]
        await store.append("account-1", [Named("Ann"), *spoilt, Withdrawn(50)])
        await store.append("account-1", [UnknownEvent("Alien", {"x": 1})])
        plan = await undo.plan(Positions(1))
        reasons = {u.event.position: u.reason for u in plan.uncompensated}
        assert sorted(reasons) == [1, 3, 4, 5, 6, 7, 9]
        for position, says in (
            (1, "says that it can't be undone"),
            (3, "no compensation is declared for Named"),
            (4, "KeyError: 'lost'"),
            (5, "Stranger is not an event type"),
            (6, "int is not an event type"),
            (7, "str is not an event type"),
            (9, "'Alien' is not known"),
        ):
            assert says in reasons[position]
        assert not plan.is_complete
        # what the state forbids is judged with what the plan does before: 50 come back first
        assert sorted(e.position for e in plan.undone) == [2, 8]
        with pytest.raises(UndoError, match=r"position 9 .*and 6 more"):
            await undo.undo(plan)
        before = await store.head()
        with pytest.raises(UndoError):
            await undo.undo(Positions(1))
        assert await store.head() == before
        alone = await undo.plan(2)
        assert alone.uncompensated[0].reason == "the balance is 0"
        receipt = await undo.undo(plan, allow_partial=True)
        (first, *_) = await store.commit_events(receipt.commit_id)
        assert first.metadata.extras["left_out"]["positions"] == [[1, 1], [3, 7], [9, 9]]
        with pytest.raises(UndoError, match="declare a compensation, undo by difference"):
            await undo.undo(3, allow_partial=True)


@everywhere
async def test_an_upcast_that_fails_and_one_that_splits(location: str) -> None:
    def step(data: dict[str, Any]) -> Any:
        if data["amount"] < 0:
            raise ValueError("negative")
        return [Deposited(data["amount"]), Named("old")]

    async with open_store(location) as store:
        await store.append("account-1", [UnknownEvent("Paid", {"amount": 5})])
        await store.append("account-2", [UnknownEvent("Paid", {"amount": -5})])
        if location == "memory:":
            return
    upcast = Upcast("Paid", 1, step, into=["Deposited", "Named"])
    renaming = Compensations()
    renaming.include(compensations)
    renaming.on(Named)(lambda event: Named(f"not {event.name}"))
    async with store_at(location, EventTypes(*EVENTS, upcasts=[upcast])) as store:
        plan = await Undo(store, compensations).plan(Positions(1, 2))
        assert plan.undone == ()
        assert "negative" in plan.uncompensated[0].reason
        assert "Named" in plan.uncompensated[1].reason
        undo = Undo(store, renaming)
        for target in (1, Query().types(Deposited)):
            plan = await undo.plan(target)
            assert [n.event for n in plan.appended[0].events] == [Named("not old"), Withdrawn(5)]
        await undo.undo(1)
        redone = await undo.redo(1)
        again = [e.event for e in await store.commit_events(redone.commit_id)]
        assert again == [Deposited(5), Named("old")]
        await undo.undo(1)
        assert await store.fold(account, "account-1") == Account(0, "not old")


@everywhere
async def test_nothing_to_do_still_counts_as_undone(location: str) -> None:
    async with store_at(location) as store:
        undo = Undo(store, compensations)
        await store.append("account-1", [Noted("a"), Deposited(5), Noted("b")])
        await store.append("account-2", [Noted("c")])
        with pytest.raises(UndoError, match="nothing needs to be appended"):
            await undo.undo(1)
        old = await undo.plan(Positions(1, 4))
        assert [w.stream for w in old.appended] == ["account-1"]
        await undo.undo(Positions(1, 2))
        with pytest.raises(UndoError, match="plan again"):
            await undo.undo(old)
        with pytest.raises(UndoError, match="done before"):
            await undo.undo(1)
        await undo.redo(1)
        again = await read(store, Query().tags("undo"))
        assert [e.event for e in again] == [Withdrawn(5), Noted("a")]
        plan = await undo.plan_redo(2)
        assert [n.event for n in plan.appended[0].events] == [Deposited(5)]


@everywhere
async def test_a_queried_event_that_writes_nothing_is_guarded(location: str) -> None:
    """Two undos name the same event, and neither writes to its stream."""
    async with store_at(location) as store:
        undo = Undo(store, compensations)
        await store.append("notes-1", [Noted("shared")])
        await store.append("account-1", [Deposited(5)])
        await store.append("account-2", [Deposited(6)])
        one = await undo.plan(Query().stream("notes-1", "account-1"))
        other = await undo.plan(Query().stream("notes-1", "account-2"))
        await undo.undo(one)
        with pytest.raises(UndoError, match="plan again"):
            await undo.undo(other)
        await undo.undo(Query().stream("notes-1", "account-2"))
        assert await balance(store, "account-2") == 0


@everywhere
async def test_an_old_plan_is_refused(location: str) -> None:
    async with store_at(location) as store:
        undo = Undo(store, compensations)
        await store.append("account-1", [Deposited(5)])
        plan = await undo.plan(1)
        await store.append("account-2", [Deposited(1)])
        assert plan.appended[0].expected == 1
        await store.append("account-1", [Deposited(6)])
        with pytest.raises(UndoError, match="plan again") as stale:
            await undo.undo(plan)
        assert stale.value.__cause__ is not None
        assert await balance(store) == 11
        assert (await undo.undo(1)).repeated is False
        assert await balance(store) == 6


@everywhere
async def test_a_plan_sent_twice_is_written_once(location: str) -> None:
    async with store_at(location) as store:
        undo = Undo(store, compensations)
        await store.append("account-1", [Deposited(5), Deposited(6)])
        mine, theirs = await undo.plan(Positions(1, 2)), await undo.plan(Positions(1, 2))
        assert mine.commit_id == theirs.commit_id
        first = await undo.undo(mine, metadata=CommitMetadata(user_id="ann"))
        second = await undo.undo(theirs, metadata=CommitMetadata(user_id="bob"))
        assert second.repeated
        assert second.position == first.position
        assert await balance(store) == 0


@everywhere
async def test_many_undo_the_same_at_once(location: str) -> None:
    async with store_at(location) as store:
        await store.append("account-1", [Deposited(5), Deposited(6), Deposited(7)])
        targets = [1, Positions(1, 2), Positions(1, 3), 1, Query().stream("account-1"), 3, 2]

        async def undo_one(target: Any) -> Any:
            return await Undo(store, compensations).undo(target)

        def one(target: Any) -> Any:
            return lambda: undo_one(target)

        outcomes = await together(*(one(target) for target in targets))
        assert all(isinstance(o, UndoError) for o in outcomes if isinstance(o, Exception))
        names = [t for e in await read(store, Query().tags("undo")) for t in e.tags]
        links = [name for name in names if name.startswith("undoes:")]
        assert len(links) == len(set(links)), "no event is undone twice"
        assert await balance(store) == sum((5, 6, 7)[i] for i in range(3)) - sum(
            e.event.amount for e in await read(store, Query().types(Withdrawn))
        )
        assert len(links) == 3
        assert await balance(store) == 0


@everywhere
async def test_dependents(location: str) -> None:
    async with store_at(location) as store:
        undo = Undo(store, compensations)
        await store.append("account-1", [Deposited(5)])
        (first,) = await read(store, "account-1")
        talk = first.metadata.correlation_id
        for cause, stream in ((first.event_id, "a-1"), (None, "a-2")):
            metadata = CommitMetadata(causation_id=cause, correlation_id=talk if not cause else "z")
            await store.append(stream, [Noted("x")], metadata=metadata)
        (caused,) = await read(store, "a-1")
        await store.append(
            "a-3", [Noted("y")], metadata=CommitMetadata(causation_id=caused.event_id)
        )
        await store.append("a-4", [Noted("no")])
        await store.append("account-1", [Deposited(100), Withdrawn(3)])
        await undo.undo(7)
        plan = await undo.plan(1)
        assert [(d.event.position, d.why) for d in plan.dependents] == [
            (2, "caused by position 1"),
            (3, "later in the same correlation"),
            (4, "caused by position 2"),
            (6, "later in the same stream"),
        ]
        few = await undo.plan(1, dependents=2)
        assert (len(few.dependents), few.dependent_count) == (2, 4)
        assert (await undo.plan(1, dependents=0)).dependent_count == 0
        await undo.redo(7)
        found = {d.event.position: d.event.event for d in (await undo.plan(1)).dependents}
        assert found[9] == Withdrawn(3), "what was done again counts, what was undone doesn't"
        assert 7 not in found


@everywhere
async def test_what_a_compensating_event_carries(location: str) -> None:
    tagging = Compensations()

    @tagging.on_recorded(Deposited)
    def _correct(recorded: RecordedEvent[Deposited]) -> Any:
        return NewEvent(
            event=Opened("ann"),
            tags=(*recorded.tags, "corrected"),
            occurred_at=recorded.occurred_at,
            extras={"why": "typo"},
        )

    async with store_at(location) as store:
        undo = Undo(store, tagging)
        deposit = NewEvent(event=Deposited(5), tags=("vip",), extras={"till": 3}, event_id="own")
        await store.append("account-1", [deposit])
        for _ in range(3):
            receipt = await undo.undo(1)
            (made,) = await store.commit_events(receipt.commit_id)
            (original,) = await read(store, Query().up_to(1))
            assert made.event == Opened("ann")
            assert set(made.tags) == {
                "owner:ann", "vip", "corrected", "undo", f"undoes:{original.commit_id}/0",
            }  # fmt: skip
            assert made.metadata.extras["why"] == "typo"
            receipt = await undo.redo(1)
            (again,) = await store.commit_events(receipt.commit_id)
            assert again.event == Deposited(5)
            assert set(again.tags) == {"vip", "undo", f"redoes:{original.commit_id}/0"}
            assert again.metadata.extras["till"] == 3
            assert again.event_id != "own"


@everywhere
async def test_redo_of_ones_own(location: str) -> None:
    own = Compensations()
    own.include(compensations)

    @own.redo(Deposited, given=account)
    def _(event: Deposited, state: Account) -> Any:
        return None if state.balance > 100 else [Deposited(event.amount - 1), Deposited(1)]

    async with store_at(location) as store:
        undo = Undo(store, own)
        await store.append("account-1", [Deposited(10)])
        await undo.undo(1)
        await undo.redo(1)
        assert await balance(store) == 10
        receipt = await undo.undo(1)
        made = [e.event for e in await store.commit_events(receipt.commit_id)]
        assert made == [Withdrawn(1), Withdrawn(9)], "what did it again is undone"
        await store.append("account-1", [Deposited(101)])
        with pytest.raises(UndoError, match="can't be redone now"):
            await undo.redo(1)


@everywhere
async def test_states_of_queries_are_guarded(location: str) -> None:
    everything: Fold[Account] = account
    across = Compensations()

    @across.on(Deposited, given=everything, of=lambda event: Query().category("account"))
    def _(event: Deposited, state: Account) -> Withdrawn | None:
        return Withdrawn(event.amount) if state.balance >= event.amount else None

    async with store_at(location) as store:
        undo = Undo(store, across)
        for number in range(3):
            await store.append(f"account-{number}", [Deposited(10)])
        await store.append("account-9", [Withdrawn(15)])
        plan = await undo.plan(Positions(1, 3))
        assert [e.position for e in plan.undone] == [3], "the plan's own events count"
        old = await undo.plan(3)
        await store.append("other-1", [Deposited(1)])
        await store.append("account-9", [Withdrawn(6)])
        with pytest.raises(UndoError, match="plan again"):
            await undo.undo(old)
        with pytest.raises(UndoError, match="can't be undone now"):
            await undo.undo(3)
        bounded = Compensations()
        bounded.on(Deposited, given=account, of=lambda event: Query().limit(3))(lambda e, s: None)
        (wrong,) = (await Undo(store, bounded).plan(1)).uncompensated
        assert "without bounds" in wrong.reason


def restored(changes: Sequence[Change], recorded: RecordedEvent[Any]) -> list[Any]:
    made: list[Any] = []
    for change in changes:
        if change.path == ("name",):
            made.append(Named(change.after))
        elif recorded.type != "Deposited":
            made.append(Deposited(change.after - change.before))
    return made


@everywhere
async def test_undo_by_difference(location: str) -> None:
    by = ByDifference(account, restored)
    none = Compensations()
    async with store_at(location) as store:
        undo = Undo(store, none)
        await store.append("account-1", [Named("Ann"), Withdrawn(5), Named("Bea"), Deposited(1)])
        await store.append("account-1", [Noted("no change")])
        assert not (await undo.plan(3)).is_complete, "only on demand"
        plan = await undo.plan(3, by_difference=by)
        assert [n.event for n in plan.appended[0].events] == [Named("Ann")]
        for position, says in (
            (1, "name was '' before it and 'Ann' after it, but is 'Bea' now"),
            (2, "balance was 0 before it and -5 after it, but is -4 now"),
            (4, "balance would be -4, not -5"),
        ):
            (wrong,) = (await undo.plan(position, by_difference=by)).uncompensated
            assert says in wrong.reason
        # the newest first: with it gone, the older ones can be put back too
        everything = await undo.plan(Query().types(Named), by_difference=by)
        assert [n.event for n in everything.appended[0].events] == [Named("Ann"), Named("")]
        with pytest.raises(UndoError, match="nothing needs to be appended"):
            await undo.undo(5, by_difference=by)
        await undo.undo(everything)
        assert (await store.fold(account, "account-1")).name == ""
        await undo.redo(1)
        await undo.redo(3)
        assert (await store.fold(account, "account-1")).name == "Bea"


@everywhere
async def test_a_difference_that_cannot_be_made(location: str) -> None:
    def fails(changes: Sequence[Change], recorded: RecordedEvent[Any]) -> Any:
        raise OSError("no")

    strict: Fold[Account] = Fold("strict", Account, unknown="refuse")
    async with store_at(location) as store:
        undo = Undo(store, Compensations())
        await store.append("account-1", [Named("Ann"), Withdrawn(5)])
        for by, says in (
            (ByDifference(account, fails), "OSError: no"),
            (ByDifference(account, lambda c, r: None), "can't be undone now"),
            (ByDifference(strict, restored), "refuses unknown"),
            (ByDifference(account, restored, of=lambda e: e.nothing), "AttributeError"),
        ):
            (wrong,) = (await undo.plan(1, by_difference=by)).uncompensated
            assert says in wrong.reason
    with pytest.raises(DeclarationError):
        ByDifference("account", restored)  # type: ignore[arg-type]


@everywhere
async def test_folds_that_fail_are_reasons(location: str) -> None:
    broken: Fold[int] = Fold("broken", int)

    @broken.on(Deposited)
    def _add(state: int, event: Deposited) -> int:
        if event.amount == 13:
            raise ArithmeticError("13")
        return state + event.amount

    own = Compensations()
    own.on(Deposited, given=broken)(lambda event, state: Deposited(13))
    own.on(Withdrawn)(lambda event: Deposited(13))
    async with store_at(location) as store:
        undo = Undo(store, own)
        await store.append("account-1", [Deposited(1), Withdrawn(2)])
        (wrong,) = (await undo.plan(1)).uncompensated
        assert "ArithmeticError: 13" in wrong.reason, "it would break its own fold"
        await store.append("account-1", [Deposited(13)])
        (wrong,) = (await undo.plan(1)).uncompensated
        assert wrong.reason == "fold 'broken': ArithmeticError: 13"
        assert (await undo.plan(2)).is_complete


@everywhere
async def test_tags_of_others_mean_nothing(location: str) -> None:
    async with store_at(location) as store:
        undo = Undo(store, compensations)
        await store.append("account-1", [Deposited(5)])
        (first,) = await read(store, "account-1")
        ref = f"{first.commit_id}/0"
        for tags in (("undo",), (f"undoes:{ref}",), ("undo", "undoes:7", "redoes:", "undoes:x/1")):
            await store.append("a-1", [NewEvent(event=Noted("x"), tags=tags)])
        await undo.undo(1)
        assert await balance(store) == 0
        lost = f"undoes:{UUID(int=1)}/0"
        await store.append("a-1", [NewEvent(event=Noted("x"), tags=("undo", lost))])
        with pytest.raises(UndoError, match="not in this store"):
            await undo.plan((await store.head()).position)


@everywhere
async def test_several_streams_in_one_commit(location: str) -> None:
    async with store_at(location) as store:
        undo = Undo(store, compensations)
        writes = [
            Write("account-1", [Withdrawn(5), Named("x")]),
            Write("account-2", [Deposited(5)]),
        ]
        receipt = await store.commit(Commit(writes))
        plan = await undo.plan(receipt.commit_id)
        assert [(w.stream, w.expected) for w in plan.appended] == [
            ("account-2", 1),
            ("account-1", 2),
        ]
        done = await undo.undo(plan, allow_partial=True)
        assert done.versions == {"account-2": 2, "account-1": 3}
        assert await balance(store) == await balance(store, "account-2") == 0


def test_declarations_that_make_no_sense() -> None:
    own = Compensations()
    own.on(Deposited)(lambda event: None)
    with pytest.raises(DeclarationError, match="two compensations of Deposited"):
        own.on_recorded(Deposited)(lambda event: None)
    with pytest.raises(DeclarationError, match="expected a class"):
        own.on("Deposited")  # type: ignore[call-overload]
    with pytest.raises(DeclarationError, match="expected a Fold"):
        own.on(Withdrawn, given=Account)  # type: ignore[call-overload]
    with pytest.raises(DeclarationError, match="given"):
        own.on(Withdrawn, of=lambda event: "x")  # type: ignore[call-overload]
    with pytest.raises(DeclarationError, match="two"):
        own.include(compensations)


@everywhere
async def test_a_branch_undoes_for_itself(location: str) -> None:
    async with store_at(location) as store:
        await store.append("account-1", [Deposited(5)])
        await store.append("account-1", [Deposited(70)])
        await store.create_branch("what-if")
        async with store.branch("what-if") as branch:
            undo = Undo(branch, compensations)
            done = await undo.undo(2)
            assert await balance(branch) == 5
            assert await balance(store) == 75
            with pytest.raises(UndoError, match="done before"):
                await undo.undo(2)
            mine = await Undo(store, compensations).undo(2)
            assert mine.commit_id == done.commit_id, "the same undo, in a log of its own"
            await Undo(store, compensations).redo(2)
            assert await balance(store) == 75
            assert await balance(branch) == 5
            await undo.undo(done)
            assert await balance(branch) == 75


# ------------------------------------------------------------ audit entries


def _audited(store: Any) -> Any:
    return AuditLog(store, policy=lambda _: [AuditFilter()])


async def _deposited_with_entry(store: Any, amount: int, *, first: bool = False) -> Any:
    """A deposit and its entry, in one commit; the entry ``first``, or behind it."""
    log = _audited(store)
    entry = log.write_for(log.entry(AuditAction.UPDATE, "accounts/1", details={"amount": amount}))
    deposit = Write("account-1", [Deposited(amount)])
    writes = [entry, deposit] if first else [deposit, entry]
    return await store.commit(Commit(writes, metadata=CommitMetadata(correlation_id="talk")))


@pytest.mark.parametrize("first", [False, True])
@everywhere
async def test_audit_entries_stay_when_their_commit_is_undone(location: str, first: bool) -> None:
    async with store_at(location, [*EVENTS, AuditEntry]) as store:
        undo, log = Undo(store, compensations), _audited(store)
        receipt = await _deposited_with_entry(store, 5, first=first)
        await _deposited_with_entry(store, 70)
        plan = await undo.plan(receipt)
        assert plan.is_complete
        assert [e.event for e in plan.undone] == [Deposited(5)]
        assert [e.type for e in plan.audit_entries] == ["AuditEntry"]
        assert [d.event.event for d in plan.dependents] == [Deposited(70)], "no entry rests on it"
        about = log.entry(AuditAction.DELETE, "accounts/1")
        undone = await undo.undo(receipt, beside=[log.write_for(about)])
        made = [e.event for e in await store.commit_events(undone.commit_id)]
        assert made == [Withdrawn(5), about]
        assert await balance(store) == 70
        again = await undo.redo(receipt, beside=[log.write_for(about)])
        assert await balance(store) == 75
        plan = await undo.plan(again)
        assert ([e.event for e in plan.undone], len(plan.audit_entries)) == ([Deposited(5)], 1)
        await undo.undo(again)
        await undo.undo(Positions(1))
        assert await balance(store) == 0
        entries = [r.entry.action.value async for r in log.read(by="auditor")]
        assert sorted(entries) == ["Delete", "Delete", "Update", "Update"]


@everywhere
async def test_an_audit_entry_alone_is_nothing_to_undo(location: str) -> None:
    async with store_at(location, [*EVENTS, AuditEntry]) as store:
        undo = Undo(store, compensations)
        receipt = await _deposited_with_entry(store, 5)
        with pytest.raises(UndoError, match="these are audit entries, which stay; undo the events"):
            await undo.undo(receipt.position)
        with pytest.raises(UndoError, match="no compensation is declared"):
            await undo.undo(await store.append("audit-2026-11", [Spoilt("by hand"), Named("n")]))


async def test_audit_entries_stay_where_their_type_is_unknown(location: str) -> None:
    async with store_at(location, [*EVENTS, AuditEntry]) as store:
        receipt = await _deposited_with_entry(store, 5)
    async with store_at(location) as store:
        undo = Undo(store, compensations)
        await undo.undo(receipt, by_difference=ByDifference(account, lambda *_: []))
        assert await balance(store) == 0


@everywhere
async def test_the_same_undo_with_something_else_beside_it(location: str) -> None:
    async with store_at(location) as store:
        undo = Undo(store, compensations)
        receipt = await store.append("account-1", [Deposited(5)])
        plan = await undo.plan(receipt)
        beside = [Write("notes", [Noted("by ann")])]
        done = await undo.undo(plan, beside=beside)
        assert (await undo.undo(plan, beside=beside)).repeated
        with pytest.raises(UndoError, match="things have moved on"):
            await undo.undo(plan, beside=[Write("notes", [Noted("by bob")])])
        assert (await store.head()).position == done.position
