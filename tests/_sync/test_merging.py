# Generated from tests/_async/test_merging.py by tools/unasync.py: edit that, then run `make sync`.
"""Merging: decided again, compared in three ways, and written as one commit or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from everwhen import (
    BranchError,
    CommandBus,
    CommitMetadata,
    Decisions,
    Event,
    Fold,
    Invariant,
    MergeError,
    MergeItem,
    Merging,
    Query,
    Refusal,
    StateOf,
    Store,
    UnknownEvent,
    Write,
    command_of,
    open_store,
)
from everwhen._sync_testing.seam import together


class Deposited(Event):
    amount: int


class Withdrawn(Event):
    amount: int
    fee: int = 0


class Account(msgspec.Struct, frozen=True):
    balance: int = 0


account = Fold("account", Account)


@account.on(Deposited)
def _deposited(state: Account, event: Deposited) -> Account:
    return Account(state.balance + event.amount)


@account.on(Withdrawn)
def _withdrawn(state: Account, event: Withdrawn) -> Account:
    return Account(state.balance - event.amount - event.fee)


class Deposit(msgspec.Struct, frozen=True):
    account: str
    amount: int


class Withdraw(msgspec.Struct, frozen=True):
    account: str
    amount: int


class InsufficientBalance(Refusal):
    pass


decisions = Decisions()
ITS: Any = StateOf(account, lambda command: f"account-{command.account}")


@decisions.on(Deposit, ITS)
def _deposit(command: Deposit, _: Account) -> list[Event]:
    return [Deposited(command.amount)]


@decisions.on(Withdraw, ITS)
def _withdraw(command: Withdraw, state: Account) -> list[Event]:
    """Who has less than a hundred pays a fee."""
    fee = 1 if state.balance < 100 else 0
    if state.balance < command.amount + fee:
        raise InsufficientBalance(f"only {state.balance}")
    return [Withdrawn(command.amount, fee)]


solvent = Invariant("nobody owes", account, lambda state: state.balance >= 0)


@contextmanager
def opened(where: Path | str = "memory:") -> Iterator[Store]:
    with open_store(where, events=[Deposited, Withdrawn]) as store:
        CommandBus(store, decisions).send(Deposit("ada", 150))
        yield store


def balance(store: Store, name: str = "ada") -> int:
    state = store.fold(account, f"account-{name}")
    return state.balance


def test_what_comes_out_the_same(tmp_path: Path) -> None:
    with opened(tmp_path / "a.db") as main, main.create_branch("trial") as trial:
        bus = CommandBus(trial, decisions)
        bus.send(Withdraw("ada", 20), metadata=CommitMetadata(user_id="eve"))
        bus.send(Deposit("bob", 5))
        CommandBus(main, decisions).send(Deposit("ada", 10))
        merging = Merging(main, decisions)
        plan = merging.plan(trial)
        assert plan.counts == {"same": 2}
        assert [item.command for item in plan.items] == ["Withdraw", "Deposit"]
        assert balance(main) == 160
        receipt = merging.merge(trial)
        assert receipt is not None
        assert (balance(main), balance(main, "bob")) == (140, 5)
        events = main.commit_events(receipt.commit_id)
        assert [e.metadata.extras["merged_from"].get("user") for e in events] == ["eve", None]
        record = events[0].metadata
        again = merging.merge(trial)
        assert again == msgspec.structs.replace(receipt, repeated=True)
        assert record.commit_id == receipt.commit_id
        bus.send(Deposit("ada", 1))
        assert (merging.plan(trial)).counts == {"same": 1}
        merging.merge(trial)
        assert balance(main) == 141
        assert not (main.check())


def test_what_is_decided_otherwise() -> None:
    with opened() as main, main.create_branch("trial") as trial:
        CommandBus(trial, decisions).send(Withdraw("ada", 20))
        CommandBus(main, decisions).send(Withdraw("ada", 100))
        merging = Merging(main, decisions)
        (item,) = (merging.plan(trial)).items
        assert (item.outcome, item.is_settled, item.writes) == ("redecided", False, ())
        head = main.head()
        with pytest.raises(MergeError, match="leads to other events now") as raised:
            merging.merge(trial)
        assert raised.value.plan.unsettled == [item]
        assert main.head() == head
        assert merging.merge(trial, strategy="ours") is None
        merging.merge(trial, strategy="redecide")
        assert balance(main) == 29, "with the fee"


def test_theirs_takes_the_events_as_they_were() -> None:
    with opened() as main, main.create_branch("trial") as trial:
        CommandBus(trial, decisions).send(Withdraw("ada", 20))
        CommandBus(main, decisions).send(Withdraw("ada", 100))
        Merging(main, decisions).merge(trial, strategy="theirs")
        assert balance(main) == 30, "without the fee"


def test_what_is_refused_now() -> None:
    with opened() as main, main.create_branch("trial") as trial:
        CommandBus(trial, decisions).send(Withdraw("ada", 120))
        CommandBus(trial, decisions).send(Deposit("bob", 7))
        CommandBus(main, decisions).send(Withdraw("ada", 100))
        merging = Merging(main, decisions, invariants=[_of_ada()])
        plan = merging.plan(trial)
        assert plan.counts == {"rejected": 1, "same": 1}
        assert plan.items[0].reason == "only 50"
        with pytest.raises(MergeError, match="only 50"):
            merging.merge(trial)
        with pytest.raises(MergeError, match="nobody owes would no longer hold"):
            merging.merge(trial, strategy="theirs")
        merging.merge(trial, strategy="redecide")
        assert (balance(main), balance(main, "bob")) == (50, 7)


def _of_ada() -> Invariant[Any]:
    return Invariant("nobody owes", account, solvent.holds, Query().stream("account-ada"))


def test_a_resolver_is_asked_for_each() -> None:
    with opened() as main, main.create_branch("trial") as trial:
        CommandBus(trial, decisions).send(Withdraw("ada", 20))
        CommandBus(trial, decisions).send(Withdraw("ada", 120))
        CommandBus(main, decisions).send(Withdraw("ada", 100))
        asked: list[MergeItem] = []

        def resolve(item: MergeItem) -> Any:
            asked.append(item)
            if item.outcome == "rejected":
                return [Write("account-ada", [Withdrawn(1)])]
            return "redecide"

        Merging(main, decisions).merge(trial, resolver=resolve)
        assert [item.outcome for item in asked] == ["redecided", "rejected"]
        assert balance(main) == 28
        with main.create_branch("other", 1) as other:
            CommandBus(other, decisions).send(Withdraw("ada", 140))
            odd: Any = lambda _: "maybe"  # noqa: E731
            with pytest.raises(BranchError, match="the resolver said 'maybe'"):
                Merging(main, decisions).plan(other, resolver=odd)


def test_facts_are_compared_in_three_ways() -> None:
    with open_store("memory:") as main:
        main.append("page-1", [_set(title="a", text="x")])
        with main.create_branch("draft") as draft:
            draft.append("page-1", [_set(title="b")])
            draft.append("page-2", [_set(title="new")])
            main.append("page-1", [_set(text="y")])
            merging = Merging(main)
            assert (merging.plan(draft)).counts == {"same": 2}
            main.append("page-1", [_set(title="c")])
            plan = merging.plan(draft)
            assert plan.counts == {"conflict": 1, "same": 1}
            (conflict,) = plan.items[0].conflicts
            assert (conflict.path, conflict.base, conflict.ours, conflict.theirs) == (
                ("page-1", "title"), "a", "c", "b",
            )  # fmt: skip
            for strategy in ("fail", "redecide"):
                with pytest.raises(MergeError, match="was 'a', is 'c' here and 'b' there"):
                    merging.merge(draft, strategy=strategy)
            main.append("page-1", [_set(title="b")])
            plan = merging.plan(draft)
            assert [(item.outcome, item.reason) for item in plan.items] == [
                ("same", "it is so already"),
                ("same", ""),
            ]
            merging.merge(draft)
            assert main.version("page-1") == 4
            assert main.version("page-2") == 1


def _set(**data: Any) -> UnknownEvent:
    return UnknownEvent("Set", data)


def test_facts_of_ours_and_theirs() -> None:
    with open_store("memory:") as main:
        main.append("page-1", [_set(title="a")])
        with main.create_branch("draft") as draft:
            draft.append("page-1", [_set(title="b")])
            main.append("page-1", [_set(title="c")])
            assert Merging(main).merge(draft, strategy="ours") is None
            receipt = Merging(main).merge(draft, strategy="theirs")
            assert receipt is not None
            assert receipt.versions == {"page-1": 3}
            (event,) = main.commit_events(receipt.commit_id)
            assert event.data == {"title": "b"}
            assert event.metadata.extras["merged_from"]["commit"] != str(receipt.commit_id)


def test_facts_are_compared_on_a_fold_of_ones_own() -> None:
    with opened() as main, main.create_branch("trial") as trial:
        trial.append("account-ada", [Deposited(10)])
        main.append("account-ada", [Deposited(5)])
        totals: Any = Fold("totals", Account)
        totals.on(Deposited)(_deposited)
        plan = Merging(main, compared_on=totals).plan(trial)
        (conflict,) = plan.items[0].conflicts
        assert (conflict.path, conflict.base, conflict.ours, conflict.theirs) == (
            ("balance",), 150, 155, 160,
        )  # fmt: skip


def test_picking_a_commit() -> None:
    with opened() as main, main.create_branch("trial") as trial:
        bus = CommandBus(trial, decisions)
        bus.send(Deposit("bob", 1))
        picked = (bus.send(Deposit("bob", 2))).receipt
        assert picked is not None
        merging = Merging(main, decisions)
        receipt = merging.cherry_pick(trial, picked.commit_id)
        assert receipt is not None
        assert balance(main, "bob") == 2
        assert (merging.cherry_pick(trial, picked.commit_id)) == msgspec.structs.replace(
            receipt, repeated=True
        )
        plan = merging.plan(trial)
        assert [item.reason for item in plan.items] == ["", "it was merged before"]
        merging.merge(trial)
        assert balance(main, "bob") == 3
        with pytest.raises(BranchError, match="was not written on it"):
            merging.cherry_pick(trial, uuid4())


def test_rebasing() -> None:
    with opened() as main:
        with main.create_branch("trial") as trial:
            CommandBus(trial, decisions).send(
                Withdraw("ada", 20), metadata=CommitMetadata(user_id="eve")
            )
            CommandBus(main, decisions).send(Deposit("ada", 10))
            merging = Merging(main, decisions)
            rebased = merging.rebase(trial)
        assert rebased.name == "trial"
        assert balance(rebased) == 140
        assert {info.name: info.position for info in main.branches()} == {
            "trial.until-2": 1,
            "trial": 2,
        }
        (event,) = [e for e in rebased.read(Query().after(2))]
        command = command_of(event)
        assert command is not None
        assert (command.type, event.metadata.user_id) == ("Withdraw", "eve")
        merging.merge(rebased)
        assert balance(main) == 140


def test_back_and_forth_and_across() -> None:
    with opened() as main, main.create_branch("one") as one:
        CommandBus(one, decisions).send(Deposit("ada", 1))
        with one.create_branch("two") as two, main.create_branch("three") as three:
            CommandBus(two, decisions).send(Deposit("ada", 2))
            CommandBus(three, decisions).send(Deposit("ada", 4))
            Merging(three, decisions).merge(two)
            assert balance(three) == 157, "what two has of one comes along"
            Merging(main, decisions).merge(three)
            assert balance(main) == 157
            plan = Merging(three, decisions).plan(main)
            assert [item.reason for item in plan.items] == ["it was merged before"]
            assert Merging(three, decisions).merge(main) is None
            plan = Merging(main, decisions).plan(one)
            assert [item.reason for item in plan.items] == ["it was merged before"]


def test_merges_that_make_no_sense() -> None:
    with opened() as main, main.create_branch("trial") as trial:
        with pytest.raises(BranchError, match="it is the same branch"):
            Merging(main, decisions).plan(main)
        with pytest.raises(BranchError, match="it is the same branch"):
            Merging(trial, decisions).plan(trial)
        with pytest.raises(BranchError, match="use fail, ours"):
            Merging(main, decisions).plan(trial, strategy="best")  # type: ignore[arg-type]
        assert Merging(main, decisions).merge(trial) is None
        with opened() as other, other.create_branch("else") as elsewhere:
            with pytest.raises(BranchError, match="no branch of this store"):
                Merging(main, decisions).plan(elsewhere)


def test_others_write_while_it_is_merged(tmp_path: Path) -> None:
    with opened(tmp_path / "a.db") as main, main.create_branch("trial") as trial:
        for _ in range(5):
            CommandBus(trial, decisions).send(Withdraw("ada", 1))
        bus = CommandBus(main, decisions)

        def write() -> None:
            for _ in range(10):
                bus.send(Deposit("ada", 10))

        def merge() -> Any:
            return Merging(main, decisions, attempts=500).merge(trial, strategy="redecide")

        done = together(write, merge, merge, write)
        assert [type(one) for one in done if isinstance(one, BaseException)] == []
        assert balance(main) == 150 + 200 - 5, "merged once"


def test_a_merge_in_two_steps_goes_on_where_it_was() -> None:
    with opened() as main, main.create_branch("trial") as trial:
        merging = Merging(main, decisions)
        for round_ in range(3):
            CommandBus(trial, decisions).send(Deposit("ada", 1))
            receipt = merging.merge(trial)
            assert receipt is not None
            assert not receipt.repeated
            assert balance(main) == 151 + round_
        plan = merging.plan(trial)
        assert (plan.items, plan.after) == ((), plan.up_to)


def test_unknown_commands_are_facts() -> None:
    with opened() as main, main.create_branch("trial") as trial:
        CommandBus(trial, decisions).send(Deposit("bob", 3))
        (item,) = (Merging(main).plan(trial)).items
        assert (item.outcome, item.command) == ("same", "Deposit")
        Merging(main).merge(trial)
        assert balance(main, "bob") == 3
