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
    CommandBus,
    Commit,
    Decisions,
    Event,
    Fold,
    KeyFile,
    Query,
    Refusal,
    StateOf,
    Store,
    UnknownEvent,
    Vault,
    Write,
    context,
    open_store,
)
from everwhen.audit import AuditAction, AuditEntry, AuditFilter, AuditLog, audited, origin
from everwhen.commands import command_of
from everwhen.errors import BranchError, MergeError
from everwhen.merging import Invariant, MergeItem, Merging
from everwhen.privacy import PLAINTEXT, Erased
from everwhen.testing._sync.concurrency import together
from everwhen.vocabulary import CommitMetadata


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
def opened(where: str) -> Iterator[Store]:
    with open_store(where, events=[Deposited, Withdrawn], durable=False) as store:
        CommandBus(store, decisions).send(Deposit("ada", 150))
        yield store


def balance(store: Store, name: str = "ada") -> int:
    state = store.fold(account, f"account-{name}")
    return state.balance


def test_what_comes_out_the_same(location: str) -> None:
    with opened(location) as main, main.create_branch("trial") as trial:
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


def test_what_is_decided_otherwise(location: str) -> None:
    with opened(location) as main, main.create_branch("trial") as trial:
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


def test_theirs_takes_the_events_as_they_were(location: str) -> None:
    with opened(location) as main, main.create_branch("trial") as trial:
        CommandBus(trial, decisions).send(Withdraw("ada", 20))
        CommandBus(main, decisions).send(Withdraw("ada", 100))
        Merging(main, decisions).merge(trial, strategy="theirs")
        assert balance(main) == 30, "without the fee"


def test_what_is_refused_now(location: str) -> None:
    with opened(location) as main, main.create_branch("trial") as trial:
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


def test_a_resolver_is_asked_for_each(location: str) -> None:
    with opened(location) as main, main.create_branch("trial") as trial:
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
            with pytest.raises(BranchError, match="the resolver returned 'maybe'"):
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


def test_facts_are_compared_on_a_fold_of_ones_own(location: str) -> None:
    with opened(location) as main, main.create_branch("trial") as trial:
        trial.append("account-ada", [Deposited(10)])
        main.append("account-ada", [Deposited(5)])
        totals: Any = Fold("totals", Account)
        totals.on(Deposited)(_deposited)
        plan = Merging(main, compared_on=totals).plan(trial)
        (conflict,) = plan.items[0].conflicts
        assert (conflict.path, conflict.base, conflict.ours, conflict.theirs) == (
            ("balance",), 150, 155, 160,
        )  # fmt: skip


def test_picking_a_commit(location: str) -> None:
    with opened(location) as main, main.create_branch("trial") as trial:
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


def test_rebasing(location: str) -> None:
    with opened(location) as main:
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


def test_back_and_forth_and_across(location: str) -> None:
    with opened(location) as main, main.create_branch("one") as one:
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
    with opened("memory:") as main, main.create_branch("trial") as trial:
        with pytest.raises(BranchError, match="it is the same branch"):
            Merging(main, decisions).plan(main)
        with pytest.raises(BranchError, match="it is the same branch"):
            Merging(trial, decisions).plan(trial)
        with pytest.raises(BranchError, match="use fail, ours"):
            Merging(main, decisions).plan(trial, strategy="best")  # type: ignore[arg-type]
        assert Merging(main, decisions).merge(trial) is None
        with opened("memory:") as other, other.create_branch("else") as elsewhere:
            with pytest.raises(BranchError, match="not a branch of this store"):
                Merging(main, decisions).plan(elsewhere)


def test_others_write_while_it_is_merged(location: str) -> None:
    with opened(location) as main, main.create_branch("trial") as trial:
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


def test_a_merge_in_two_steps_goes_on_where_it_was(location: str) -> None:
    with opened(location) as main, main.create_branch("trial") as trial:
        merging = Merging(main, decisions)
        for round_ in range(3):
            CommandBus(trial, decisions).send(Deposit("ada", 1))
            receipt = merging.merge(trial)
            assert receipt is not None
            assert not receipt.repeated
            assert balance(main) == 151 + round_
        plan = merging.plan(trial)
        assert (plan.items, plan.after) == ((), plan.up_to)


def test_unknown_commands_are_facts(location: str) -> None:
    with opened(location) as main, main.create_branch("trial") as trial:
        CommandBus(trial, decisions).send(Deposit("bob", 3))
        (item,) = (Merging(main).plan(trial)).items
        assert (item.outcome, item.command) == ("same", "Deposit")
        Merging(main).merge(trial)
        assert balance(main, "bob") == 3


# ------------------------------------------------------------ audit entries


def _bus(store: Store) -> CommandBus:
    """A bus whose commands have an audit entry in their commits."""
    return CommandBus(store, decisions, middleware=[audited(_log(store))])


def _log(store: Store) -> AuditLog:
    return AuditLog(store, policy=lambda _: [AuditFilter()])


def _entries(store: Store) -> list[tuple[str | None, str]]:
    """Who did what, of all entries."""
    read = _log(store).read(by="auditor")
    return [(record.entry.user, record.entry.resource) for record in read]


@contextmanager
def audited_and_branched() -> Iterator[tuple[Store, Store]]:
    types = [Deposited, Withdrawn, AuditEntry]
    with open_store("memory:", events=types, vault=PLAINTEXT) as main:
        with context(user_id="ann"):
            _bus(main).send(Deposit("ada", 150))
        with main.create_branch("trial") as trial:
            yield main, trial


def test_audit_entries_go_along_with_what_comes_out_the_same() -> None:
    with audited_and_branched() as (main, trial):
        with context(user_id="bob"):
            _bus(trial).send(Withdraw("ada", 20))
        with context(user_id="ann"):
            _bus(main).send(Deposit("ada", 10))
        merging = Merging(main, decisions, invariants=[_of_ada()])
        (item,) = (merging.plan(trial)).items
        assert (item.outcome, item.reason, len(item.events)) == ("same", "", 2)
        receipt = merging.merge(trial)
        assert receipt is not None
        event, entry = main.commit_events(receipt.commit_id)
        assert event.event == Withdrawn(20)
        assert entry.event == item.events[1].event
        assert entry.tags == item.events[1].tags
        assert entry.metadata.extras["merged_from"]["commit"] == str(item.commit_id)
        assert _entries(main) == [(who, "commands/" + what) for who, what in (
            ("ann", "Deposit"), ("ann", "Deposit"), ("bob", "Withdraw"),
        )]  # fmt: skip
        assert (merging.merge(trial)) == msgspec.structs.replace(receipt, repeated=True)


def test_audit_entries_go_along_with_what_is_decided_otherwise() -> None:
    with audited_and_branched() as (main, trial):
        with context(user_id="bob"):
            _bus(trial).send(Withdraw("ada", 20))
            _bus(trial).send(Withdraw("ada", 120))
        _bus(main).send(Withdraw("ada", 100))
        merging = Merging(main, decisions)
        plan = merging.plan(trial, strategy="redecide")
        assert plan.counts == {"redecided": 1, "rejected": 1}
        receipt = merging.merge(trial, strategy="redecide")
        assert receipt is not None
        event, entry = main.commit_events(receipt.commit_id)
        assert event.event == Withdrawn(20, 1)
        assert entry.event == plan.items[0].events[1].event, "and none of what is rejected"
        assert merging.merge(trial, strategy="ours") is not None, "it is written already"


def test_audit_entries_by_strategy() -> None:
    with audited_and_branched() as (main, trial):
        with context(user_id="bob"):
            _bus(trial).send(Withdraw("ada", 120))
        _bus(main).send(Withdraw("ada", 100))
        merging = Merging(main, decisions)
        (item,) = (merging.plan(trial, strategy="theirs")).items
        assert [write.stream.split("-")[0] for write in item.writes] == ["account", "audit"]
        own = [Write("account-ada", [Withdrawn(1)])]
        (item,) = (merging.plan(trial, resolver=lambda _: own)).items
        assert item.writes == tuple(own), "a resolver says all of it"
        assert merging.merge(trial, strategy="ours") is None


def test_audit_entries_are_compared_with_nothing() -> None:
    """Facts with entries, of which those of both sides say different things in one stream."""
    with audited_and_branched() as (main, trial):
        log = _log(trial)

        def write(store: Store, amount: int, *streams: str) -> None:
            entry = log.entry(AuditAction.UPDATE, f"accounts/{amount}")
            deeds = [Write(stream, [Deposited(amount)]) for stream in streams]
            store.commit(Commit([log.write_for(entry), *deeds]))

        write(trial, 1, "account-bob")
        write(trial, 2)  # an entry of its own
        write(trial, 3, "account-eve")
        write(trial, 4, "account-zoe")
        write(main, 3, "account-eve")
        write(main, 5, "account-zoe")
        merging = Merging(main)
        plan = merging.plan(trial, strategy="ours")
        assert [(item.outcome, len(item.writes)) for item in plan.items] == [
            ("same", 2), ("same", 1), ("same", 0), ("conflict", 0),
        ]  # fmt: skip
        assert [item.position for item in plan.items] == [3, 5, 6, 8]
        assert [conflict.path[0] for conflict in plan.items[3].conflicts] == ["account-zoe"]
        merging.merge(trial, strategy="ours")
        assert [what for _, what in _entries(main)] == [
            "commands/Deposit", "accounts/3", "accounts/5", "accounts/1", "accounts/2",
        ]  # fmt: skip


def test_audit_entries_that_are_written_meanwhile_are_in_no_merges_way() -> None:
    with audited_and_branched() as (main, trial):
        _bus(trial).send(Withdraw("ada", 20))
        _bus(trial).send(Deposit("bob", 20))
        with Merging(main, decisions)._planned(trial, "fail", None, None) as planned:
            commit = planned.commit(planned.plan(), None)
        _log(main).record(_log(main).entry(AuditAction.LOGIN, "web", user="eve"))
        main.commit(commit)
        assert balance(main) == 130
        assert len(_entries(main)) == 4


def test_rebasing_takes_audit_entries_along() -> None:
    with audited_and_branched() as (main, trial):
        with context(user_id="bob"):
            _bus(trial).send(Withdraw("ada", 20))
        _bus(main).send(Deposit("ada", 10))
        rebased = Merging(main, decisions).rebase(trial)
        assert balance(rebased) == 140
        assert (_entries(rebased))[-1] == ("bob", "commands/Withdraw")
        assert (Merging(main, decisions).plan(rebased)).counts == {"same": 1}


def test_audit_entries_of_the_forgotten_go_along_as_the_bare_fact(tmp_path: Path) -> None:
    types = [Deposited, Withdrawn, AuditEntry]
    with Vault(tmp_path / "vault.db", KeyFile.create(tmp_path / "key")) as vault:
        with open_store(tmp_path / "a.db", events=types, vault=vault) as main:
            main.append("account-ada", [Deposited(150)])
            with main.create_branch("trial") as trial:
                with context(user_id="bob"), origin(ip_address="192.0.2.7"):
                    entry = _log(main).entry(AuditAction.UPDATE, "accounts/ada")
                deed = Write("account-ada", [Withdrawn(20)])
                trial.commit(Commit([deed, _log(main).write_for(entry)]))
                main.forget("bob")
                Merging(main).merge(trial)
            (entry,) = [r.entry for r in _log(main).read(by="auditor")]
            assert (entry.user, entry.action) == ("bob", AuditAction.UPDATE)
            assert isinstance(entry.ip_address, Erased)
            assert balance(main) == 130
