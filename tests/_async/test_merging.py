"""Merging: decided again, compared in three ways, and written as one commit or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from everwhen import (
    Commit,
    Decisions,
    Event,
    Fold,
    KeyFile,
    Query,
    Refusal,
    StateOf,
    UnknownEvent,
    Vault,
    Write,
    context,
)
from everwhen.aio import CommandBus, Store, open_store
from everwhen.audit import AuditAction, AuditEntry, AuditFilter, origin
from everwhen.audit.aio import AuditLog, audited
from everwhen.commands import command_of
from everwhen.errors import BranchError, MergeError
from everwhen.merging import Invariant, MergeItem
from everwhen.merging.aio import Merging
from everwhen.privacy import PLAINTEXT, Erased
from everwhen.testing._async.concurrency import together
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


@asynccontextmanager
async def opened(where: str) -> AsyncIterator[Store]:
    async with open_store(where, events=[Deposited, Withdrawn], durable=False) as store:
        await CommandBus(store, decisions).send(Deposit("ada", 150))
        yield store


async def balance(store: Store, name: str = "ada") -> int:
    state = await store.fold(account, f"account-{name}")
    return state.balance


async def test_what_comes_out_the_same(location: str) -> None:
    async with opened(location) as main, main.create_branch("trial") as trial:
        bus = CommandBus(trial, decisions)
        await bus.send(Withdraw("ada", 20), metadata=CommitMetadata(user_id="eve"))
        await bus.send(Deposit("bob", 5))
        await CommandBus(main, decisions).send(Deposit("ada", 10))
        merging = Merging(main, decisions)
        plan = await merging.plan(trial)
        assert plan.counts == {"same": 2}
        assert [item.command for item in plan.items] == ["Withdraw", "Deposit"]
        assert await balance(main) == 160
        receipt = await merging.merge(trial)
        assert receipt is not None
        assert (await balance(main), await balance(main, "bob")) == (140, 5)
        events = await main.commit_events(receipt.commit_id)
        assert [e.metadata.extras["merged_from"].get("user") for e in events] == ["eve", None]
        record = events[0].metadata
        again = await merging.merge(trial)
        assert again == msgspec.structs.replace(receipt, repeated=True)
        assert record.commit_id == receipt.commit_id
        await bus.send(Deposit("ada", 1))
        assert (await merging.plan(trial)).counts == {"same": 1}
        await merging.merge(trial)
        assert await balance(main) == 141
        assert not (await main.check())


async def test_what_is_decided_otherwise(location: str) -> None:
    async with opened(location) as main, main.create_branch("trial") as trial:
        await CommandBus(trial, decisions).send(Withdraw("ada", 20))
        await CommandBus(main, decisions).send(Withdraw("ada", 100))
        merging = Merging(main, decisions)
        (item,) = (await merging.plan(trial)).items
        assert (item.outcome, item.is_settled, item.writes) == ("redecided", False, ())
        head = await main.head()
        with pytest.raises(MergeError, match="leads to other events now") as raised:
            await merging.merge(trial)
        assert raised.value.plan.unsettled == [item]
        assert await main.head() == head
        assert await merging.merge(trial, strategy="ours") is None
        await merging.merge(trial, strategy="redecide")
        assert await balance(main) == 29, "with the fee"


async def test_theirs_takes_the_events_as_they_were(location: str) -> None:
    async with opened(location) as main, main.create_branch("trial") as trial:
        await CommandBus(trial, decisions).send(Withdraw("ada", 20))
        await CommandBus(main, decisions).send(Withdraw("ada", 100))
        await Merging(main, decisions).merge(trial, strategy="theirs")
        assert await balance(main) == 30, "without the fee"


async def test_what_is_refused_now(location: str) -> None:
    async with opened(location) as main, main.create_branch("trial") as trial:
        await CommandBus(trial, decisions).send(Withdraw("ada", 120))
        await CommandBus(trial, decisions).send(Deposit("bob", 7))
        await CommandBus(main, decisions).send(Withdraw("ada", 100))
        merging = Merging(main, decisions, invariants=[_of_ada()])
        plan = await merging.plan(trial)
        assert plan.counts == {"rejected": 1, "same": 1}
        assert plan.items[0].reason == "only 50"
        with pytest.raises(MergeError, match="only 50"):
            await merging.merge(trial)
        with pytest.raises(MergeError, match="nobody owes would no longer hold"):
            await merging.merge(trial, strategy="theirs")
        await merging.merge(trial, strategy="redecide")
        assert (await balance(main), await balance(main, "bob")) == (50, 7)


def _of_ada() -> Invariant[Any]:
    return Invariant("nobody owes", account, solvent.holds, Query().stream("account-ada"))


async def test_a_resolver_is_asked_for_each(location: str) -> None:
    async with opened(location) as main, main.create_branch("trial") as trial:
        await CommandBus(trial, decisions).send(Withdraw("ada", 20))
        await CommandBus(trial, decisions).send(Withdraw("ada", 120))
        await CommandBus(main, decisions).send(Withdraw("ada", 100))
        asked: list[MergeItem] = []

        def resolve(item: MergeItem) -> Any:
            asked.append(item)
            if item.outcome == "rejected":
                return [Write("account-ada", [Withdrawn(1)])]
            return "redecide"

        await Merging(main, decisions).merge(trial, resolver=resolve)
        assert [item.outcome for item in asked] == ["redecided", "rejected"]
        assert await balance(main) == 28
        async with main.create_branch("other", 1) as other:
            await CommandBus(other, decisions).send(Withdraw("ada", 140))
            odd: Any = lambda _: "maybe"  # noqa: E731
            with pytest.raises(BranchError, match="the resolver returned 'maybe'"):
                await Merging(main, decisions).plan(other, resolver=odd)


async def test_facts_are_compared_in_three_ways() -> None:
    async with open_store("memory:") as main:
        await main.append("page-1", [_set(title="a", text="x")])
        async with main.create_branch("draft") as draft:
            await draft.append("page-1", [_set(title="b")])
            await draft.append("page-2", [_set(title="new")])
            await main.append("page-1", [_set(text="y")])
            merging = Merging(main)
            assert (await merging.plan(draft)).counts == {"same": 2}
            await main.append("page-1", [_set(title="c")])
            plan = await merging.plan(draft)
            assert plan.counts == {"conflict": 1, "same": 1}
            (conflict,) = plan.items[0].conflicts
            assert (conflict.path, conflict.base, conflict.ours, conflict.theirs) == (
                ("page-1", "title"), "a", "c", "b",
            )  # fmt: skip
            for strategy in ("fail", "redecide"):
                with pytest.raises(MergeError, match="was 'a', is 'c' here and 'b' there"):
                    await merging.merge(draft, strategy=strategy)
            await main.append("page-1", [_set(title="b")])
            plan = await merging.plan(draft)
            assert [(item.outcome, item.reason) for item in plan.items] == [
                ("same", "it is so already"),
                ("same", ""),
            ]
            await merging.merge(draft)
            assert await main.version("page-1") == 4
            assert await main.version("page-2") == 1


def _set(**data: Any) -> UnknownEvent:
    return UnknownEvent("Set", data)


async def test_facts_of_ours_and_theirs() -> None:
    async with open_store("memory:") as main:
        await main.append("page-1", [_set(title="a")])
        async with main.create_branch("draft") as draft:
            await draft.append("page-1", [_set(title="b")])
            await main.append("page-1", [_set(title="c")])
            assert await Merging(main).merge(draft, strategy="ours") is None
            receipt = await Merging(main).merge(draft, strategy="theirs")
            assert receipt is not None
            assert receipt.versions == {"page-1": 3}
            (event,) = await main.commit_events(receipt.commit_id)
            assert event.data == {"title": "b"}
            assert event.metadata.extras["merged_from"]["commit"] != str(receipt.commit_id)


async def test_facts_are_compared_on_a_fold_of_ones_own(location: str) -> None:
    async with opened(location) as main, main.create_branch("trial") as trial:
        await trial.append("account-ada", [Deposited(10)])
        await main.append("account-ada", [Deposited(5)])
        totals: Any = Fold("totals", Account)
        totals.on(Deposited)(_deposited)
        plan = await Merging(main, compared_on=totals).plan(trial)
        (conflict,) = plan.items[0].conflicts
        assert (conflict.path, conflict.base, conflict.ours, conflict.theirs) == (
            ("balance",), 150, 155, 160,
        )  # fmt: skip


async def test_picking_a_commit(location: str) -> None:
    async with opened(location) as main, main.create_branch("trial") as trial:
        bus = CommandBus(trial, decisions)
        await bus.send(Deposit("bob", 1))
        picked = (await bus.send(Deposit("bob", 2))).receipt
        assert picked is not None
        merging = Merging(main, decisions)
        receipt = await merging.cherry_pick(trial, picked.commit_id)
        assert receipt is not None
        assert await balance(main, "bob") == 2
        assert (await merging.cherry_pick(trial, picked.commit_id)) == msgspec.structs.replace(
            receipt, repeated=True
        )
        plan = await merging.plan(trial)
        assert [item.reason for item in plan.items] == ["", "it was merged before"]
        await merging.merge(trial)
        assert await balance(main, "bob") == 3
        with pytest.raises(BranchError, match="was not written on it"):
            await merging.cherry_pick(trial, uuid4())


async def test_rebasing(location: str) -> None:
    async with opened(location) as main:
        async with main.create_branch("trial") as trial:
            await CommandBus(trial, decisions).send(
                Withdraw("ada", 20), metadata=CommitMetadata(user_id="eve")
            )
            await CommandBus(main, decisions).send(Deposit("ada", 10))
            merging = Merging(main, decisions)
            rebased = await merging.rebase(trial)
        assert rebased.name == "trial"
        assert await balance(rebased) == 140
        assert {info.name: info.position for info in await main.branches()} == {
            "trial.until-2": 1,
            "trial": 2,
        }
        (event,) = [e async for e in rebased.read(Query().after(2))]
        command = command_of(event)
        assert command is not None
        assert (command.type, event.metadata.user_id) == ("Withdraw", "eve")
        await merging.merge(rebased)
        assert await balance(main) == 140


async def test_back_and_forth_and_across(location: str) -> None:
    async with opened(location) as main, main.create_branch("one") as one:
        await CommandBus(one, decisions).send(Deposit("ada", 1))
        async with one.create_branch("two") as two, main.create_branch("three") as three:
            await CommandBus(two, decisions).send(Deposit("ada", 2))
            await CommandBus(three, decisions).send(Deposit("ada", 4))
            await Merging(three, decisions).merge(two)
            assert await balance(three) == 157, "what two has of one comes along"
            await Merging(main, decisions).merge(three)
            assert await balance(main) == 157
            plan = await Merging(three, decisions).plan(main)
            assert [item.reason for item in plan.items] == ["it was merged before"]
            assert await Merging(three, decisions).merge(main) is None
            plan = await Merging(main, decisions).plan(one)
            assert [item.reason for item in plan.items] == ["it was merged before"]


async def test_merges_that_make_no_sense() -> None:
    async with opened("memory:") as main, main.create_branch("trial") as trial:
        with pytest.raises(BranchError, match="it is the same branch"):
            await Merging(main, decisions).plan(main)
        with pytest.raises(BranchError, match="it is the same branch"):
            await Merging(trial, decisions).plan(trial)
        with pytest.raises(BranchError, match="use fail, ours"):
            await Merging(main, decisions).plan(trial, strategy="best")  # type: ignore[arg-type]
        assert await Merging(main, decisions).merge(trial) is None
        async with opened("memory:") as other, other.create_branch("else") as elsewhere:
            with pytest.raises(BranchError, match="not a branch of this store"):
                await Merging(main, decisions).plan(elsewhere)


async def test_others_write_while_it_is_merged(location: str) -> None:
    async with opened(location) as main, main.create_branch("trial") as trial:
        for _ in range(5):
            await CommandBus(trial, decisions).send(Withdraw("ada", 1))
        bus = CommandBus(main, decisions)

        async def write() -> None:
            for _ in range(10):
                await bus.send(Deposit("ada", 10))

        async def merge() -> Any:
            return await Merging(main, decisions, attempts=500).merge(trial, strategy="redecide")

        done = await together(write, merge, merge, write)
        assert [type(one) for one in done if isinstance(one, BaseException)] == []
        assert await balance(main) == 150 + 200 - 5, "merged once"


async def test_a_merge_in_two_steps_goes_on_where_it_was(location: str) -> None:
    async with opened(location) as main, main.create_branch("trial") as trial:
        merging = Merging(main, decisions)
        for round_ in range(3):
            await CommandBus(trial, decisions).send(Deposit("ada", 1))
            receipt = await merging.merge(trial)
            assert receipt is not None
            assert not receipt.repeated
            assert await balance(main) == 151 + round_
        plan = await merging.plan(trial)
        assert (plan.items, plan.after) == ((), plan.up_to)


async def test_unknown_commands_are_facts(location: str) -> None:
    async with opened(location) as main, main.create_branch("trial") as trial:
        await CommandBus(trial, decisions).send(Deposit("bob", 3))
        (item,) = (await Merging(main).plan(trial)).items
        assert (item.outcome, item.command) == ("same", "Deposit")
        await Merging(main).merge(trial)
        assert await balance(main, "bob") == 3


# ------------------------------------------------------------ audit entries


def _bus(store: Store) -> CommandBus:
    """A bus whose commands have an audit entry in their commits."""
    return CommandBus(store, decisions, middleware=[audited(_log(store))])


def _log(store: Store) -> AuditLog:
    return AuditLog(store, policy=lambda _: [AuditFilter()])


async def _entries(store: Store) -> list[tuple[str | None, str]]:
    """Who did what, of all entries."""
    read = _log(store).read(by="auditor")
    return [(record.entry.user, record.entry.resource) async for record in read]


@asynccontextmanager
async def audited_and_branched() -> AsyncIterator[tuple[Store, Store]]:
    types = [Deposited, Withdrawn, AuditEntry]
    async with open_store("memory:", events=types, vault=PLAINTEXT) as main:
        with context(user_id="ann"):
            await _bus(main).send(Deposit("ada", 150))
        async with main.create_branch("trial") as trial:
            yield main, trial


async def test_audit_entries_go_along_with_what_comes_out_the_same() -> None:
    async with audited_and_branched() as (main, trial):
        with context(user_id="bob"):
            await _bus(trial).send(Withdraw("ada", 20))
        with context(user_id="ann"):
            await _bus(main).send(Deposit("ada", 10))
        merging = Merging(main, decisions, invariants=[_of_ada()])
        (item,) = (await merging.plan(trial)).items
        assert (item.outcome, item.reason, len(item.events)) == ("same", "", 2)
        receipt = await merging.merge(trial)
        assert receipt is not None
        event, entry = await main.commit_events(receipt.commit_id)
        assert event.event == Withdrawn(20)
        assert entry.event == item.events[1].event
        assert entry.tags == item.events[1].tags
        assert entry.metadata.extras["merged_from"]["commit"] == str(item.commit_id)
        assert await _entries(main) == [(who, "commands/" + what) for who, what in (
            ("ann", "Deposit"), ("ann", "Deposit"), ("bob", "Withdraw"),
        )]  # fmt: skip
        assert (await merging.merge(trial)) == msgspec.structs.replace(receipt, repeated=True)


async def test_audit_entries_go_along_with_what_is_decided_otherwise() -> None:
    async with audited_and_branched() as (main, trial):
        with context(user_id="bob"):
            await _bus(trial).send(Withdraw("ada", 20))
            await _bus(trial).send(Withdraw("ada", 120))
        await _bus(main).send(Withdraw("ada", 100))
        merging = Merging(main, decisions)
        plan = await merging.plan(trial, strategy="redecide")
        assert plan.counts == {"redecided": 1, "rejected": 1}
        receipt = await merging.merge(trial, strategy="redecide")
        assert receipt is not None
        event, entry = await main.commit_events(receipt.commit_id)
        assert event.event == Withdrawn(20, 1)
        assert entry.event == plan.items[0].events[1].event, "and none of what is rejected"
        assert await merging.merge(trial, strategy="ours") is not None, "it is written already"


async def test_audit_entries_by_strategy() -> None:
    async with audited_and_branched() as (main, trial):
        with context(user_id="bob"):
            await _bus(trial).send(Withdraw("ada", 120))
        await _bus(main).send(Withdraw("ada", 100))
        merging = Merging(main, decisions)
        (item,) = (await merging.plan(trial, strategy="theirs")).items
        assert [write.stream.split("-")[0] for write in item.writes] == ["account", "audit"]
        own = [Write("account-ada", [Withdrawn(1)])]
        (item,) = (await merging.plan(trial, resolver=lambda _: own)).items
        assert item.writes == tuple(own), "a resolver says all of it"
        assert await merging.merge(trial, strategy="ours") is None


async def test_audit_entries_are_compared_with_nothing() -> None:
    """Facts with entries, of which those of both sides say different things in one stream."""
    async with audited_and_branched() as (main, trial):
        log = _log(trial)

        async def write(store: Store, amount: int, *streams: str) -> None:
            entry = log.entry(AuditAction.UPDATE, f"accounts/{amount}")
            deeds = [Write(stream, [Deposited(amount)]) for stream in streams]
            await store.commit(Commit([log.write_for(entry), *deeds]))

        await write(trial, 1, "account-bob")
        await write(trial, 2)  # an entry of its own
        await write(trial, 3, "account-eve")
        await write(trial, 4, "account-zoe")
        await write(main, 3, "account-eve")
        await write(main, 5, "account-zoe")
        merging = Merging(main)
        plan = await merging.plan(trial, strategy="ours")
        assert [(item.outcome, len(item.writes)) for item in plan.items] == [
            ("same", 2), ("same", 1), ("same", 0), ("conflict", 0),
        ]  # fmt: skip
        assert [item.position for item in plan.items] == [3, 5, 6, 8]
        assert [conflict.path[0] for conflict in plan.items[3].conflicts] == ["account-zoe"]
        await merging.merge(trial, strategy="ours")
        assert [what for _, what in await _entries(main)] == [
            "commands/Deposit", "accounts/3", "accounts/5", "accounts/1", "accounts/2",
        ]  # fmt: skip


async def test_audit_entries_that_are_written_meanwhile_are_in_no_merges_way() -> None:
    async with audited_and_branched() as (main, trial):
        await _bus(trial).send(Withdraw("ada", 20))
        await _bus(trial).send(Deposit("bob", 20))
        async with Merging(main, decisions)._planned(trial, "fail", None, None) as planned:
            commit = await planned.commit(planned.plan(), None)
        await _log(main).record(_log(main).entry(AuditAction.LOGIN, "web", user="eve"))
        await main.commit(commit)
        assert await balance(main) == 130
        assert len(await _entries(main)) == 4


async def test_rebasing_takes_audit_entries_along() -> None:
    async with audited_and_branched() as (main, trial):
        with context(user_id="bob"):
            await _bus(trial).send(Withdraw("ada", 20))
        await _bus(main).send(Deposit("ada", 10))
        rebased = await Merging(main, decisions).rebase(trial)
        assert await balance(rebased) == 140
        assert (await _entries(rebased))[-1] == ("bob", "commands/Withdraw")
        assert (await Merging(main, decisions).plan(rebased)).counts == {"same": 1}


async def test_audit_entries_of_the_forgotten_go_along_as_the_bare_fact(tmp_path: Path) -> None:
    types = [Deposited, Withdrawn, AuditEntry]
    with Vault(tmp_path / "vault.db", KeyFile.create(tmp_path / "key")) as vault:
        async with open_store(tmp_path / "a.db", events=types, vault=vault) as main:
            await main.append("account-ada", [Deposited(150)])
            async with main.create_branch("trial") as trial:
                with context(user_id="bob"), origin(ip_address="192.0.2.7"):
                    entry = _log(main).entry(AuditAction.UPDATE, "accounts/ada")
                deed = Write("account-ada", [Withdrawn(20)])
                await trial.commit(Commit([deed, _log(main).write_for(entry)]))
                await main.forget("bob")
                await Merging(main).merge(trial)
            (entry,) = [r.entry async for r in _log(main).read(by="auditor")]
            assert (entry.user, entry.action) == ("bob", AuditAction.UPDATE)
            assert isinstance(entry.ip_address, Erased)
            assert await balance(main) == 130
