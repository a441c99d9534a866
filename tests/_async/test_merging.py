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
    BranchError,
    CommitMetadata,
    Decisions,
    Event,
    Fold,
    Invariant,
    MergeError,
    MergeItem,
    Query,
    Refusal,
    StateOf,
    UnknownEvent,
    Write,
    command_of,
)
from everwhen._async_testing.seam import together
from everwhen.aio import CommandBus, Merging, Store, open_store


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
async def opened(where: Path | str = "memory:") -> AsyncIterator[Store]:
    async with open_store(where, events=[Deposited, Withdrawn]) as store:
        await CommandBus(store, decisions).send(Deposit("ada", 150))
        yield store


async def balance(store: Store, name: str = "ada") -> int:
    state = await store.fold(account, f"account-{name}")
    return state.balance


async def test_what_comes_out_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as main, main.create_branch("trial") as trial:
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


async def test_what_is_decided_otherwise() -> None:
    async with opened() as main, main.create_branch("trial") as trial:
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


async def test_theirs_takes_the_events_as_they_were() -> None:
    async with opened() as main, main.create_branch("trial") as trial:
        await CommandBus(trial, decisions).send(Withdraw("ada", 20))
        await CommandBus(main, decisions).send(Withdraw("ada", 100))
        await Merging(main, decisions).merge(trial, strategy="theirs")
        assert await balance(main) == 30, "without the fee"


async def test_what_is_refused_now() -> None:
    async with opened() as main, main.create_branch("trial") as trial:
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


async def test_a_resolver_is_asked_for_each() -> None:
    async with opened() as main, main.create_branch("trial") as trial:
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
            with pytest.raises(BranchError, match="the resolver said 'maybe'"):
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


async def test_facts_are_compared_on_a_fold_of_ones_own() -> None:
    async with opened() as main, main.create_branch("trial") as trial:
        await trial.append("account-ada", [Deposited(10)])
        await main.append("account-ada", [Deposited(5)])
        totals: Any = Fold("totals", Account)
        totals.on(Deposited)(_deposited)
        plan = await Merging(main, compared_on=totals).plan(trial)
        (conflict,) = plan.items[0].conflicts
        assert (conflict.path, conflict.base, conflict.ours, conflict.theirs) == (
            ("balance",), 150, 155, 160,
        )  # fmt: skip


async def test_picking_a_commit() -> None:
    async with opened() as main, main.create_branch("trial") as trial:
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


async def test_rebasing() -> None:
    async with opened() as main:
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


async def test_back_and_forth_and_across() -> None:
    async with opened() as main, main.create_branch("one") as one:
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
    async with opened() as main, main.create_branch("trial") as trial:
        with pytest.raises(BranchError, match="it is the same branch"):
            await Merging(main, decisions).plan(main)
        with pytest.raises(BranchError, match="it is the same branch"):
            await Merging(trial, decisions).plan(trial)
        with pytest.raises(BranchError, match="use fail, ours"):
            await Merging(main, decisions).plan(trial, strategy="best")  # type: ignore[arg-type]
        assert await Merging(main, decisions).merge(trial) is None
        async with opened() as other, other.create_branch("else") as elsewhere:
            with pytest.raises(BranchError, match="no branch of this store"):
                await Merging(main, decisions).plan(elsewhere)


async def test_others_write_while_it_is_merged(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as main, main.create_branch("trial") as trial:
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


async def test_a_merge_in_two_steps_goes_on_where_it_was() -> None:
    async with opened() as main, main.create_branch("trial") as trial:
        merging = Merging(main, decisions)
        for round_ in range(3):
            await CommandBus(trial, decisions).send(Deposit("ada", 1))
            receipt = await merging.merge(trial)
            assert receipt is not None
            assert not receipt.repeated
            assert await balance(main) == 151 + round_
        plan = await merging.plan(trial)
        assert (plan.items, plan.after) == ((), plan.up_to)


async def test_unknown_commands_are_facts() -> None:
    async with opened() as main, main.create_branch("trial") as trial:
        await CommandBus(trial, decisions).send(Deposit("bob", 3))
        (item,) = (await Merging(main).plan(trial)).items
        assert (item.outcome, item.command) == ("same", "Deposit")
        await Merging(main).merge(trial)
        assert await balance(main, "bob") == 3
