# Generated from tests/_async/test_undo.py by tools/unasync.py: edit that, then run `make sync`.
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
    Undo,
    UnknownEvent,
    Write,
    context,
    open_store,
)
from everwhen.audit import AuditAction, AuditEntry, AuditFilter, AuditLog
from everwhen.codec import Upcast
from everwhen.errors import DeclarationError, InvalidQueryError, UndoError
from everwhen.privacy import PLAINTEXT
from everwhen.state import Change
from everwhen.testing._sync.concurrency import together
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


def read(store: Any, query: Any) -> list[Any]:
    return [event for event in store.read(query)]


def balance(store: Any, stream: str = "account-1") -> int:
    state: Account = store.fold(account, stream)
    return state.balance


@everywhere
def test_an_event_is_undone_redone_and_undone_again(location: str) -> None:
    with store_at(location) as store:
        undo = Undo(store, compensations)
        placed = CommitMetadata(user_id="ann", correlation_id="talk", extras={"web": True})
        store.append("account-1", [Deposited(5)])
        (first,) = read(store, "account-1")
        store.append("account-1", [Deposited(70)], metadata=placed)
        plan = undo.plan(2)
        assert (store.head()).position == 2, "a plan writes nothing"
        assert [e.position for e in plan.undone] == [2]
        assert plan.is_complete
        assert not plan.is_empty
        receipt = undo.undo(plan, metadata=CommitMetadata(user_id="bob"))
        assert receipt.commit_id == plan.commit_id
        (event,) = store.commit_events(receipt.commit_id)
        assert event.event == Withdrawn(70)
        assert (event.metadata.user_id, event.metadata.correlation_id) == ("bob", "talk")
        assert event.metadata.causation_id == plan.undone[0].event_id
        assert event.metadata.extras == {"undoes": {"events": 1, "positions": [[2, 2]]}}
        assert f"undoes:{plan.undone[0].event_id}" in event.tags
        with pytest.raises(UndoError, match="done before"):
            undo.undo(2)
        assert balance(store) == 5

        redone = undo.redo(2)
        assert balance(store) == 75
        (again,) = store.commit_events(redone.commit_id)
        assert again.event == Deposited(70)
        assert again.event_id != plan.undone[0].event_id
        assert again.metadata.extras == {"redoes": {"events": 1, "positions": [[2, 2]]}}
        with pytest.raises(UndoError, match="done before"):
            undo.redo(2)
        twice = undo.undo(2)
        assert twice.commit_id not in {receipt.commit_id, redone.commit_id}
        assert balance(store) == 5
        with pytest.raises(UndoError, match="done before"):
            undo.undo(again)  # the event that did it again is the same fact
        with pytest.raises(UndoError, match="done before"):
            undo.redo(first)


@everywhere
def test_undoing_an_undo_redoes(location: str) -> None:
    with store_at(location) as store:
        undo = Undo(store, compensations)
        receipt = store.append("account-1", [Deposited(1), Deposited(20), Withdrawn(4)])
        undone = undo.undo(receipt)
        made = [e.event for e in store.commit_events(undone.commit_id)]
        assert made == [Deposited(4), Withdrawn(20), Withdrawn(1)]
        assert balance(store) == 0
        plan = undo.plan(undone.commit_id)
        assert plan.undone == ()
        assert [e.event for e in plan.redone] == [Deposited(1), Deposited(20), Withdrawn(4)]
        redone = undo.undo(plan)
        again = [e.event for e in store.commit_events(redone.commit_id)]
        assert again == [Deposited(1), Deposited(20), Withdrawn(4)]
        assert balance(store) == 17
        with pytest.raises(UndoError):
            undo.undo(undone)  # the undo was undone already
        assert (undo.plan(redone)).undone[0].event == Withdrawn(4)
        undo.undo(redone)
        assert balance(store) == 0
        undo.redo(undone)
        assert balance(store) == 17


@everywhere
def test_an_undo_within_the_target_leads_back_to_before_it_all(location: str) -> None:
    with store_at(location) as store:
        undo = Undo(store, compensations)
        store.append("account-1", [Deposited(10)])
        store.append("account-1", [Deposited(200)])
        undo.undo(1)  # position 3
        store.append("account-1", [Withdrawn(50)])  # position 4
        assert balance(store) == 150
        plan = undo.plan(Positions(3, 4))
        assert [e.position for e in plan.undone] == [4]
        assert [e.position for e in plan.redone] == [1]
        assert [n.event for n in plan.appended[0].events] == [Deposited(50), Deposited(10)]
        undo.undo(plan)
        assert balance(store) == 210
        everything = undo.plan(Positions(1, 4))
        assert sorted(e.position for e in everything.undone) == [1, 2]
        assert [e.position for e in everything.already] == [4]
        undo.undo(everything)
        assert balance(store) == 0


@everywhere
def test_targets(location: str) -> None:
    with store_at(location) as store:
        undo = Undo(store, compensations)
        for number in range(6):
            who = "ann" if number % 2 else "bob"
            with context(user_id=who, correlation_id=f"talk-{number % 3}"):
                store.append(f"account-{number}", [Deposited(number + 1), Noted("n")])
        events = read(store, Query())
        third = events[4]

        def positions(target: Any) -> list[int]:
            return sorted(e.position for e in (undo.plan(target)).undone)

        assert positions(5) == [5]
        assert positions(third) == [5]
        assert positions(third.event_id) == [5]
        assert positions(third.commit_id) == [5, 6]
        assert positions(Correlation("talk-2")) == [5, 6, 11, 12]
        assert positions(Correlation(str(events[0].commit_id))) == []
        assert positions(Positions(2, 7)) == [2, 3, 4, 5, 6, 7]
        assert positions(Positions(3, user_id="ann")) == [3, 4, 7, 8, 11, 12]
        assert positions(Query().types(Deposited).category("account").up_to(5)) == [1, 3, 5]
        assert positions(Query().types(Deposited).backwards().limit(2)) == [9, 11]
        assert positions(str(events[1].commit_id) + "/1") == [2]
        for nothing in (99, 0, -1, uuid4(), f"{uuid4()}/0", "x", Correlation("y"), Positions(50)):
            assert positions(nothing) == []
            with pytest.raises(UndoError, match="no such events"):
                undo.undo(nothing)
        ill: list[Any] = [
            Positions(1, user_id=7),  # type: ignore[arg-type]
            Positions("1"),  # type: ignore[arg-type]
            Correlation(None),  # type: ignore[arg-type]
        ]
        for wrong in ill:
            with pytest.raises(InvalidQueryError, match="whole numbers"):
                undo.plan(wrong)
        wrongs: list[Any] = [None, 1.5, True, [1], b"x"]
        for wrong in wrongs:
            with pytest.raises(InvalidQueryError, match="give a position"):
                undo.plan(wrong)
        few = Undo(store, compensations, max_events=5)
        with pytest.raises(UndoError, match="more than 5"):
            few.plan(Positions(1))


@everywhere
def test_an_event_by_an_id_of_its_own(location: str) -> None:
    with store_at(location) as store:
        undo = Undo(store, compensations)
        store.append("account-1", [NewEvent(event=Deposited(5), event_id="order.7/1")])
        store.append("account-1", [NewEvent(event=Deposited(7), event_id="order")])
        undo.undo("order.7/1")
        assert balance(store) == 7
        undo.redo("order.7/1")
        with pytest.raises(UndoError):
            undo.undo("order.7")


@everywhere
def test_what_cannot_be_undone_says_why(location: str) -> None:
    with store_at(location) as store:
        undo = Undo(store, compensations)
        store.append("account-1", [Opened("ann"), Deposited(50)])
        spoilt = [Spoilt("raises"), Spoilt("undeclared"), Spoilt("nonsense"), Spoilt("text")]
        store.append("account-1", [Named("Ann"), *spoilt, Withdrawn(50)])
        store.append("account-1", [UnknownEvent("Alien", {"x": 1})])
        plan = undo.plan(Positions(1))
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
            undo.undo(plan)
        before = store.head()
        with pytest.raises(UndoError):
            undo.undo(Positions(1))
        assert store.head() == before
        alone = undo.plan(2)
        assert alone.uncompensated[0].reason == "the balance is 0"
        receipt = undo.undo(plan, allow_partial=True)
        (first, *_) = store.commit_events(receipt.commit_id)
        assert first.metadata.extras["left_out"]["positions"] == [[1, 1], [3, 7], [9, 9]]
        with pytest.raises(UndoError, match="declare a compensation, undo by difference"):
            undo.undo(3, allow_partial=True)


@everywhere
def test_an_upcast_that_fails_and_one_that_splits(location: str) -> None:
    def step(data: dict[str, Any]) -> Any:
        if data["amount"] < 0:
            raise ValueError("negative")
        return [Deposited(data["amount"]), Named("old")]

    with open_store(location) as store:
        store.append("account-1", [UnknownEvent("Paid", {"amount": 5})])
        store.append("account-2", [UnknownEvent("Paid", {"amount": -5})])
        if location == "memory:":
            return
    upcast = Upcast("Paid", 1, step, into=["Deposited", "Named"])
    renaming = Compensations()
    renaming.include(compensations)
    renaming.on(Named)(lambda event: Named(f"not {event.name}"))
    with store_at(location, EventTypes(*EVENTS, upcasts=[upcast])) as store:
        plan = Undo(store, compensations).plan(Positions(1, 2))
        assert plan.undone == ()
        assert "negative" in plan.uncompensated[0].reason
        assert "Named" in plan.uncompensated[1].reason
        undo = Undo(store, renaming)
        for target in (1, Query().types(Deposited)):
            plan = undo.plan(target)
            assert [n.event for n in plan.appended[0].events] == [Named("not old"), Withdrawn(5)]
        undo.undo(1)
        redone = undo.redo(1)
        again = [e.event for e in store.commit_events(redone.commit_id)]
        assert again == [Deposited(5), Named("old")]
        undo.undo(1)
        assert store.fold(account, "account-1") == Account(0, "not old")


@everywhere
def test_nothing_to_do_still_counts_as_undone(location: str) -> None:
    with store_at(location) as store:
        undo = Undo(store, compensations)
        store.append("account-1", [Noted("a"), Deposited(5), Noted("b")])
        store.append("account-2", [Noted("c")])
        with pytest.raises(UndoError, match="nothing needs to be appended"):
            undo.undo(1)
        old = undo.plan(Positions(1, 4))
        assert [w.stream for w in old.appended] == ["account-1"]
        undo.undo(Positions(1, 2))
        with pytest.raises(UndoError, match="plan again"):
            undo.undo(old)
        with pytest.raises(UndoError, match="done before"):
            undo.undo(1)
        undo.redo(1)
        again = read(store, Query().tags("undo"))
        assert [e.event for e in again] == [Withdrawn(5), Noted("a")]
        plan = undo.plan_redo(2)
        assert [n.event for n in plan.appended[0].events] == [Deposited(5)]


@everywhere
def test_a_queried_event_that_writes_nothing_is_guarded(location: str) -> None:
    """Two undos name the same event, and neither writes to its stream."""
    with store_at(location) as store:
        undo = Undo(store, compensations)
        store.append("notes-1", [Noted("shared")])
        store.append("account-1", [Deposited(5)])
        store.append("account-2", [Deposited(6)])
        one = undo.plan(Query().stream("notes-1", "account-1"))
        other = undo.plan(Query().stream("notes-1", "account-2"))
        undo.undo(one)
        with pytest.raises(UndoError, match="plan again"):
            undo.undo(other)
        undo.undo(Query().stream("notes-1", "account-2"))
        assert balance(store, "account-2") == 0


@everywhere
def test_an_old_plan_is_refused(location: str) -> None:
    with store_at(location) as store:
        undo = Undo(store, compensations)
        store.append("account-1", [Deposited(5)])
        plan = undo.plan(1)
        store.append("account-2", [Deposited(1)])
        assert plan.appended[0].expected == 1
        store.append("account-1", [Deposited(6)])
        with pytest.raises(UndoError, match="plan again") as stale:
            undo.undo(plan)
        assert stale.value.__cause__ is not None
        assert balance(store) == 11
        assert (undo.undo(1)).repeated is False
        assert balance(store) == 6


@everywhere
def test_a_plan_sent_twice_is_written_once(location: str) -> None:
    with store_at(location) as store:
        undo = Undo(store, compensations)
        store.append("account-1", [Deposited(5), Deposited(6)])
        mine, theirs = undo.plan(Positions(1, 2)), undo.plan(Positions(1, 2))
        assert mine.commit_id == theirs.commit_id
        first = undo.undo(mine, metadata=CommitMetadata(user_id="ann"))
        second = undo.undo(theirs, metadata=CommitMetadata(user_id="bob"))
        assert second.repeated
        assert second.position == first.position
        assert balance(store) == 0


@everywhere
def test_many_undo_the_same_at_once(location: str) -> None:
    with store_at(location) as store:
        store.append("account-1", [Deposited(5), Deposited(6), Deposited(7)])
        targets = [1, Positions(1, 2), Positions(1, 3), 1, Query().stream("account-1"), 3, 2]

        def undo_one(target: Any) -> Any:
            return Undo(store, compensations).undo(target)

        def one(target: Any) -> Any:
            return lambda: undo_one(target)

        outcomes = together(*(one(target) for target in targets))
        assert all(isinstance(o, UndoError) for o in outcomes if isinstance(o, Exception))
        names = [t for e in read(store, Query().tags("undo")) for t in e.tags]
        links = [name for name in names if name.startswith("undoes:")]
        assert len(links) == len(set(links)), "no event is undone twice"
        assert balance(store) == sum((5, 6, 7)[i] for i in range(3)) - sum(
            e.event.amount for e in read(store, Query().types(Withdrawn))
        )
        assert len(links) == 3
        assert balance(store) == 0


@everywhere
def test_dependents(location: str) -> None:
    with store_at(location) as store:
        undo = Undo(store, compensations)
        store.append("account-1", [Deposited(5)])
        (first,) = read(store, "account-1")
        talk = first.metadata.correlation_id
        for cause, stream in ((first.event_id, "a-1"), (None, "a-2")):
            metadata = CommitMetadata(causation_id=cause, correlation_id=talk if not cause else "z")
            store.append(stream, [Noted("x")], metadata=metadata)
        (caused,) = read(store, "a-1")
        store.append("a-3", [Noted("y")], metadata=CommitMetadata(causation_id=caused.event_id))
        store.append("a-4", [Noted("no")])
        store.append("account-1", [Deposited(100), Withdrawn(3)])
        undo.undo(7)
        plan = undo.plan(1)
        assert [(d.event.position, d.why) for d in plan.dependents] == [
            (2, "caused by position 1"),
            (3, "later in the same correlation"),
            (4, "caused by position 2"),
            (6, "later in the same stream"),
        ]
        few = undo.plan(1, dependents=2)
        assert (len(few.dependents), few.dependent_count) == (2, 4)
        assert (undo.plan(1, dependents=0)).dependent_count == 0
        undo.redo(7)
        found = {d.event.position: d.event.event for d in (undo.plan(1)).dependents}
        assert found[9] == Withdrawn(3), "what was done again counts, what was undone doesn't"
        assert 7 not in found


@everywhere
def test_what_a_compensating_event_carries(location: str) -> None:
    tagging = Compensations()

    @tagging.on_recorded(Deposited)
    def _correct(recorded: RecordedEvent[Deposited]) -> Any:
        return NewEvent(
            event=Opened("ann"),
            tags=(*recorded.tags, "corrected"),
            occurred_at=recorded.occurred_at,
            extras={"why": "typo"},
        )

    with store_at(location) as store:
        undo = Undo(store, tagging)
        deposit = NewEvent(event=Deposited(5), tags=("vip",), extras={"till": 3}, event_id="own")
        store.append("account-1", [deposit])
        for _ in range(3):
            receipt = undo.undo(1)
            (made,) = store.commit_events(receipt.commit_id)
            (original,) = read(store, Query().up_to(1))
            assert made.event == Opened("ann")
            assert set(made.tags) == {
                "owner:ann", "vip", "corrected", "undo", f"undoes:{original.commit_id}/0",
            }  # fmt: skip
            assert made.metadata.extras["why"] == "typo"
            receipt = undo.redo(1)
            (again,) = store.commit_events(receipt.commit_id)
            assert again.event == Deposited(5)
            assert set(again.tags) == {"vip", "undo", f"redoes:{original.commit_id}/0"}
            assert again.metadata.extras["till"] == 3
            assert again.event_id != "own"


@everywhere
def test_redo_of_ones_own(location: str) -> None:
    own = Compensations()
    own.include(compensations)

    @own.redo(Deposited, given=account)
    def _(event: Deposited, state: Account) -> Any:
        return None if state.balance > 100 else [Deposited(event.amount - 1), Deposited(1)]

    with store_at(location) as store:
        undo = Undo(store, own)
        store.append("account-1", [Deposited(10)])
        undo.undo(1)
        undo.redo(1)
        assert balance(store) == 10
        receipt = undo.undo(1)
        made = [e.event for e in store.commit_events(receipt.commit_id)]
        assert made == [Withdrawn(1), Withdrawn(9)], "what did it again is undone"
        store.append("account-1", [Deposited(101)])
        with pytest.raises(UndoError, match="can't be redone now"):
            undo.redo(1)


@everywhere
def test_states_of_queries_are_guarded(location: str) -> None:
    everything: Fold[Account] = account
    across = Compensations()

    @across.on(Deposited, given=everything, of=lambda event: Query().category("account"))
    def _(event: Deposited, state: Account) -> Withdrawn | None:
        return Withdrawn(event.amount) if state.balance >= event.amount else None

    with store_at(location) as store:
        undo = Undo(store, across)
        for number in range(3):
            store.append(f"account-{number}", [Deposited(10)])
        store.append("account-9", [Withdrawn(15)])
        plan = undo.plan(Positions(1, 3))
        assert [e.position for e in plan.undone] == [3], "the plan's own events count"
        old = undo.plan(3)
        store.append("other-1", [Deposited(1)])
        store.append("account-9", [Withdrawn(6)])
        with pytest.raises(UndoError, match="plan again"):
            undo.undo(old)
        with pytest.raises(UndoError, match="can't be undone now"):
            undo.undo(3)
        bounded = Compensations()
        bounded.on(Deposited, given=account, of=lambda event: Query().limit(3))(lambda e, s: None)
        (wrong,) = (Undo(store, bounded).plan(1)).uncompensated
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
def test_undo_by_difference(location: str) -> None:
    by = ByDifference(account, restored)
    none = Compensations()
    with store_at(location) as store:
        undo = Undo(store, none)
        store.append("account-1", [Named("Ann"), Withdrawn(5), Named("Bea"), Deposited(1)])
        store.append("account-1", [Noted("no change")])
        assert not (undo.plan(3)).is_complete, "only on demand"
        plan = undo.plan(3, by_difference=by)
        assert [n.event for n in plan.appended[0].events] == [Named("Ann")]
        for position, says in (
            (1, "name was '' before it and 'Ann' after it, but is 'Bea' now"),
            (2, "balance was 0 before it and -5 after it, but is -4 now"),
            (4, "balance would be -4, not -5"),
        ):
            (wrong,) = (undo.plan(position, by_difference=by)).uncompensated
            assert says in wrong.reason
        # the newest first: with it gone, the older ones can be put back too
        everything = undo.plan(Query().types(Named), by_difference=by)
        assert [n.event for n in everything.appended[0].events] == [Named("Ann"), Named("")]
        with pytest.raises(UndoError, match="nothing needs to be appended"):
            undo.undo(5, by_difference=by)
        undo.undo(everything)
        assert (store.fold(account, "account-1")).name == ""
        undo.redo(1)
        undo.redo(3)
        assert (store.fold(account, "account-1")).name == "Bea"


@everywhere
def test_a_difference_that_cannot_be_made(location: str) -> None:
    def fails(changes: Sequence[Change], recorded: RecordedEvent[Any]) -> Any:
        raise OSError("no")

    strict: Fold[Account] = Fold("strict", Account, unknown="refuse")
    with store_at(location) as store:
        undo = Undo(store, Compensations())
        store.append("account-1", [Named("Ann"), Withdrawn(5)])
        for by, says in (
            (ByDifference(account, fails), "OSError: no"),
            (ByDifference(account, lambda c, r: None), "can't be undone now"),
            (ByDifference(strict, restored), "refuses unknown"),
            (ByDifference(account, restored, of=lambda e: e.nothing), "AttributeError"),
        ):
            (wrong,) = (undo.plan(1, by_difference=by)).uncompensated
            assert says in wrong.reason
    with pytest.raises(DeclarationError):
        ByDifference("account", restored)  # type: ignore[arg-type]


@everywhere
def test_folds_that_fail_are_reasons(location: str) -> None:
    broken: Fold[int] = Fold("broken", int)

    @broken.on(Deposited)
    def _add(state: int, event: Deposited) -> int:
        if event.amount == 13:
            raise ArithmeticError("13")
        return state + event.amount

    own = Compensations()
    own.on(Deposited, given=broken)(lambda event, state: Deposited(13))
    own.on(Withdrawn)(lambda event: Deposited(13))
    with store_at(location) as store:
        undo = Undo(store, own)
        store.append("account-1", [Deposited(1), Withdrawn(2)])
        (wrong,) = (undo.plan(1)).uncompensated
        assert "ArithmeticError: 13" in wrong.reason, "it would break its own fold"
        store.append("account-1", [Deposited(13)])
        (wrong,) = (undo.plan(1)).uncompensated
        assert wrong.reason == "fold 'broken': ArithmeticError: 13"
        assert (undo.plan(2)).is_complete


@everywhere
def test_tags_of_others_mean_nothing(location: str) -> None:
    with store_at(location) as store:
        undo = Undo(store, compensations)
        store.append("account-1", [Deposited(5)])
        (first,) = read(store, "account-1")
        ref = f"{first.commit_id}/0"
        for tags in (("undo",), (f"undoes:{ref}",), ("undo", "undoes:7", "redoes:", "undoes:x/1")):
            store.append("a-1", [NewEvent(event=Noted("x"), tags=tags)])
        undo.undo(1)
        assert balance(store) == 0
        lost = f"undoes:{UUID(int=1)}/0"
        store.append("a-1", [NewEvent(event=Noted("x"), tags=("undo", lost))])
        with pytest.raises(UndoError, match="not in this store"):
            undo.plan((store.head()).position)


@everywhere
def test_several_streams_in_one_commit(location: str) -> None:
    with store_at(location) as store:
        undo = Undo(store, compensations)
        writes = [
            Write("account-1", [Withdrawn(5), Named("x")]),
            Write("account-2", [Deposited(5)]),
        ]
        receipt = store.commit(Commit(writes))
        plan = undo.plan(receipt.commit_id)
        assert [(w.stream, w.expected) for w in plan.appended] == [
            ("account-2", 1),
            ("account-1", 2),
        ]
        done = undo.undo(plan, allow_partial=True)
        assert done.versions == {"account-2": 2, "account-1": 3}
        assert balance(store) == balance(store, "account-2") == 0


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
def test_a_branch_undoes_for_itself(location: str) -> None:
    with store_at(location) as store:
        store.append("account-1", [Deposited(5)])
        store.append("account-1", [Deposited(70)])
        store.create_branch("what-if")
        with store.branch("what-if") as branch:
            undo = Undo(branch, compensations)
            done = undo.undo(2)
            assert balance(branch) == 5
            assert balance(store) == 75
            with pytest.raises(UndoError, match="done before"):
                undo.undo(2)
            mine = Undo(store, compensations).undo(2)
            assert mine.commit_id == done.commit_id, "the same undo, in a log of its own"
            Undo(store, compensations).redo(2)
            assert balance(store) == 75
            assert balance(branch) == 5
            undo.undo(done)
            assert balance(branch) == 75


# ------------------------------------------------------------ audit entries


def _audited(store: Any) -> Any:
    return AuditLog(store, policy=lambda _: [AuditFilter()])


def _deposited_with_entry(store: Any, amount: int, *, first: bool = False) -> Any:
    """A deposit and its entry, in one commit; the entry ``first``, or behind it."""
    log = _audited(store)
    entry = log.write_for(log.entry(AuditAction.UPDATE, "accounts/1", details={"amount": amount}))
    deposit = Write("account-1", [Deposited(amount)])
    writes = [entry, deposit] if first else [deposit, entry]
    return store.commit(Commit(writes, metadata=CommitMetadata(correlation_id="talk")))


@pytest.mark.parametrize("first", [False, True])
@everywhere
def test_audit_entries_stay_when_their_commit_is_undone(location: str, first: bool) -> None:
    with store_at(location, [*EVENTS, AuditEntry]) as store:
        undo, log = Undo(store, compensations), _audited(store)
        receipt = _deposited_with_entry(store, 5, first=first)
        _deposited_with_entry(store, 70)
        plan = undo.plan(receipt)
        assert plan.is_complete
        assert [e.event for e in plan.undone] == [Deposited(5)]
        assert [e.type for e in plan.audit_entries] == ["AuditEntry"]
        assert [d.event.event for d in plan.dependents] == [Deposited(70)], "no entry rests on it"
        about = log.entry(AuditAction.DELETE, "accounts/1")
        undone = undo.undo(receipt, beside=[log.write_for(about)])
        made = [e.event for e in store.commit_events(undone.commit_id)]
        assert made == [Withdrawn(5), about]
        assert balance(store) == 70
        again = undo.redo(receipt, beside=[log.write_for(about)])
        assert balance(store) == 75
        plan = undo.plan(again)
        assert ([e.event for e in plan.undone], len(plan.audit_entries)) == ([Deposited(5)], 1)
        undo.undo(again)
        undo.undo(Positions(1))
        assert balance(store) == 0
        entries = [r.entry.action.value for r in log.read(by="auditor")]
        assert sorted(entries) == ["Delete", "Delete", "Update", "Update"]


@everywhere
def test_an_audit_entry_alone_is_nothing_to_undo(location: str) -> None:
    with store_at(location, [*EVENTS, AuditEntry]) as store:
        undo = Undo(store, compensations)
        receipt = _deposited_with_entry(store, 5)
        with pytest.raises(UndoError, match="these are audit entries, which stay; undo the events"):
            undo.undo(receipt.position)
        with pytest.raises(UndoError, match="no compensation is declared"):
            undo.undo(store.append("audit-2026-11", [Spoilt("by hand"), Named("n")]))


def test_audit_entries_stay_where_their_type_is_unknown(location: str) -> None:
    with store_at(location, [*EVENTS, AuditEntry]) as store:
        receipt = _deposited_with_entry(store, 5)
    with store_at(location) as store:
        undo = Undo(store, compensations)
        undo.undo(receipt, by_difference=ByDifference(account, lambda *_: []))
        assert balance(store) == 0


@everywhere
def test_the_same_undo_with_something_else_beside_it(location: str) -> None:
    with store_at(location) as store:
        undo = Undo(store, compensations)
        receipt = store.append("account-1", [Deposited(5)])
        plan = undo.plan(receipt)
        beside = [Write("notes", [Noted("by ann")])]
        done = undo.undo(plan, beside=beside)
        assert (undo.undo(plan, beside=beside)).repeated
        with pytest.raises(UndoError, match="things have moved on"):
            undo.undo(plan, beside=[Write("notes", [Noted("by bob")])])
        assert (store.head()).position == done.position
