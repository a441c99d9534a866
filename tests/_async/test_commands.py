"""The command bus: decided on the newest state, written once, tried again where others were faster."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID, uuid4

import msgspec
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from everwhen import (
    EXISTS,
    NO_STREAM,
    ConditionError,
    ConflictError,
    Decisions,
    Event,
    EventTypes,
    Fold,
    NewEvent,
    Query,
    Refusal,
    RefusedError,
    StateOf,
    StorageError,
    UnknownEvent,
    Write,
    context,
)
from everwhen.aio import Aggregate, CommandBus, Repository, Store, open_store
from everwhen.backends.aio import BackendWrapper, EmbeddedBackend
from everwhen.backends.memory import MemoryEngine
from everwhen.commands import RecordedCommand, command_of
from everwhen.commands.aio import CallNext, CommandResult, Envelope, authorised, logged, traced
from everwhen.errors import (
    CommitIdError,
    DeclarationError,
    InvalidCommandError,
    InvalidQueryError,
    NotAllowedError,
)
from everwhen.state import EveryEvents
from everwhen.testing._async.concurrency import together
from everwhen.vocabulary import CommitMetadata
from everwhen.vocabulary.contract import EncodedCommit, Outcome, Page


class Deposited(Event):
    tag_fields = ("owner",)

    owner: str
    amount: int


class Withdrawn(Event):
    tag_fields = ("owner",)

    owner: str
    amount: int


class Account(msgspec.Struct, frozen=True):
    balance: int = 0
    deposits: int = 0


account = Fold("account", Account)


@account.on(Deposited)
def _deposited(state: Account, event: Deposited) -> Account:
    return Account(state.balance + event.amount, state.deposits + 1)


@account.on(Withdrawn)
def _withdrawn(state: Account, event: Withdrawn) -> Account:
    return Account(state.balance - event.amount, state.deposits)


Amount = Annotated[int, msgspec.Meta(gt=0)]


class Deposit(msgspec.Struct, frozen=True):
    account: str
    amount: Amount


class Withdraw(msgspec.Struct, frozen=True):
    account: str
    amount: Amount


class Transfer(msgspec.Struct, frozen=True):
    source: str
    target: str
    amount: Amount


class WithdrawAnywhere(msgspec.Struct, frozen=True):
    """From what an owner has in all accounts together."""

    account: str
    amount: Amount


class CloseOut(msgspec.Struct, frozen=True):
    account: str


class Insufficient(Refusal):
    def __init__(self, balance: int) -> None:
        self.balance = balance
        super().__init__(f"the balance is {balance}")


def stream_of(command: Any) -> str:
    return f"account-{command.account}"


def owned(command: WithdrawAnywhere) -> Query:
    return Query().tags(f"owner:{command.account}")


decisions = Decisions()


@decisions.on(Deposit, StateOf(account, stream_of))
def _deposit(command: Deposit, state: Account) -> list[Event]:
    return [Deposited(command.account, command.amount)]


@decisions.on(Withdraw, StateOf(account, stream_of))
def _withdraw(command: Withdraw, state: Account) -> list[Event]:
    if state.balance < command.amount:
        raise Insufficient(state.balance)
    return [Withdrawn(command.account, command.amount)]


@decisions.on(
    Transfer,
    StateOf(account, lambda command: f"account-{command.source}"),
    StateOf(account, lambda command: f"account-{command.target}"),
)
def _transfer(command: Transfer, source: Account, target: Account) -> list[Any]:
    if source.balance < command.amount:
        raise Insufficient(source.balance)
    paid = Deposited(command.target, command.amount)
    return [
        Withdrawn(command.source, command.amount),
        Write(f"account-{command.target}", [paid]),
    ]


@decisions.on(WithdrawAnywhere, StateOf(account, owned))
def _withdraw_anywhere(command: WithdrawAnywhere, state: Account) -> list[Any]:
    if state.balance < command.amount:
        raise Insufficient(state.balance)
    return [Write(f"payout-{uuid4()}", [Withdrawn(command.account, command.amount)])]


@decisions.on(CloseOut, StateOf(account, stream_of))
def _close_out(command: CloseOut, state: Account) -> list[Event]:
    return [Withdrawn(command.account, state.balance)] if state.balance else []


EVENTS = [Deposited, Withdrawn]


async def test_what_is_decided_is_written_with_the_command(location: str) -> None:
    async with open_store(location, events=EVENTS, durable=False) as store:
        bus = CommandBus(store, decisions)
        with context(user_id="ann", extras={"shop": 3}):
            result = await bus.send(Deposit("a", 10), metadata=CommitMetadata(source="web"))
        assert result.events == (Deposited("a", 10),)
        assert result.receipt is not None
        assert (result.position, result.attempts, result.repeated) == (1, 1, False)
        [recorded] = [event async for event in store.read("account-a")]
        assert recorded.event == Deposited("a", 10)
        assert (recorded.metadata.user_id, recorded.metadata.source) == ("ann", "web")
        assert recorded.metadata.extras["shop"] == 3
        kept = command_of(recorded)
        assert kept == RecordedCommand("Deposit", {"account": "a", "amount": 10})
        assert decisions.restored(kept) == Deposit("a", 10)


async def test_a_refusal_says_why_and_writes_nothing(location: str) -> None:
    async with open_store(location, events=EVENTS, durable=False) as store:
        bus = CommandBus(store, decisions)
        await bus.send(Deposit("a", 5))
        with pytest.raises(Insufficient) as refused:
            await bus.send(Withdraw("a", 6))
        assert refused.value.balance == 5
        assert isinstance(refused.value, RefusedError)
        assert (await store.head()).position == 1


async def test_a_decision_that_nothing_happens_writes_nothing(location: str) -> None:
    async with open_store(location, events=EVENTS, durable=False) as store:
        result = await CommandBus(store, decisions).send(CloseOut("a"))
        assert (result.events, result.receipt, result.position) == ((), None, 0)


async def test_a_state_at_hand_is_found_out_when_others_have_written(location: str) -> None:
    async with open_store(location, events=EVENTS, durable=False) as store:
        one, other = CommandBus(store, decisions), CommandBus(store, decisions)
        await one.send(Deposit("a", 5))
        await other.send(Withdraw("a", 5))
        with pytest.raises(Insufficient) as refused:
            await one.send(Withdraw("a", 5))
        assert refused.value.balance == 0
        await other.send(Deposit("a", 7))
        result = await one.send(Deposit("a", 1))
        assert result.attempts == 2
        await other.send(Deposit("a", 1))
        closing = await one.send(CloseOut("a"))
        assert closing.events == (Withdrawn("a", 9),)
        # a no, and a decision that there is nothing to do, rest on the newest state as well
        await other.send(Deposit("a", 2))
        assert (await one.send(CloseOut("a"))).events == (Withdrawn("a", 2),)


async def test_several_streams_in_one_commit(location: str) -> None:
    async with open_store(location, events=EVENTS, durable=False) as store:
        bus = CommandBus(store, decisions)
        await bus.send(Deposit("a", 10))
        result = await bus.send(Transfer("a", "b", 4))
        assert result.receipt is not None
        assert result.receipt.versions == {"account-a": 2, "account-b": 1}
        assert await store.fold(account, "account-b") == Account(4, 1)
        await CommandBus(store, decisions).send(Withdraw("a", 6))
        with pytest.raises(Insufficient):
            await bus.send(Transfer("a", "b", 1))
        assert (await bus.send(Transfer("b", "a", 1))).attempts == 1
        # what was decided first is written first, whatever the streams' versions are
        await store.append("account-c", [Deposited("c", 1)] * 9)
        result = await bus.send(Transfer("b", "c", 1))
        assert result.events == (Withdrawn("b", 1), Deposited("c", 1))


async def test_a_state_that_is_read_only_is_guarded_too(location: str) -> None:
    class Copy(msgspec.Struct, frozen=True):
        source: str
        target: str

    rules = Decisions()
    read: list[Account] = []

    @rules.on(
        Copy,
        StateOf(account, lambda command: f"account-{command.target}"),
        StateOf(account, lambda command: f"account-{command.source}"),
    )
    def copy(command: Copy, target: Account, source: Account) -> list[Event]:
        read.append(source)
        return [Deposited(command.target, source.balance)]

    async with open_store(location, events=EVENTS, durable=False) as store:
        bus = CommandBus(store, rules)
        await store.append("account-a", [Deposited("a", 3)])
        await bus.send(Copy("a", "b"))
        await store.append("account-a", [Deposited("a", 4)])
        result = await bus.send(Copy("a", "b"))
        assert result.events == (Deposited("b", 7),)
        assert (result.attempts, [state.balance for state in read]) == (2, [3, 3, 7])


async def test_a_query_as_the_boundary_of_a_decision(location: str) -> None:
    async with open_store(location, events=EVENTS, durable=False) as store:
        bus = CommandBus(store, decisions)
        await store.append("account-1", [Deposited("ann", 5)])
        await store.append("account-2", [Deposited("ann", 6)])
        await store.append("account-3", [Deposited("ben", 9)])
        await bus.send(WithdrawAnywhere("ann", 11))
        with pytest.raises(Insufficient):
            await bus.send(WithdrawAnywhere("ann", 1))
        await store.append("account-2", [Deposited("ann", 1)])
        await bus.send(WithdrawAnywhere("ann", 1))


async def test_a_boundary_holds_when_many_want_the_same(location: str) -> None:
    async with open_store(location, events=EVENTS, durable=False) as store:
        buses = [CommandBus(store, decisions) for _ in range(4)]
        await store.append("account-1", [Deposited("ann", 10)])

        async def withdraw_with(bus: CommandBus) -> CommandResult:
            return await bus.send(WithdrawAnywhere("ann", 1))

        def task(bus: CommandBus) -> Any:
            async def run() -> CommandResult:
                return await withdraw_with(bus)

            return run

        outcomes = await together(*[task(buses[i % 4]) for i in range(24)])
        done = [outcome for outcome in outcomes if isinstance(outcome, CommandResult)]
        assert len(done) == 10
        assert sum(isinstance(outcome, Insufficient) for outcome in outcomes) == 14
        assert await store.fold(account, Query().tags("owner:ann")) == Account(0, 1)


class CountingReads(BackendWrapper):
    reads = 0

    async def read(self, query: Query, events: int) -> Page:
        self.reads += 1
        return await super().read(query, events)


@pytest.mark.parametrize("remembered", [10_000, 0])
async def test_a_query_is_known_by_heart_while_nobody_else_writes(remembered: int) -> None:
    backend = CountingReads(EmbeddedBackend(MemoryEngine()))
    async with Store(backend, events=EventTypes(*EVENTS)) as store:
        bus = CommandBus(store, decisions, remembered=remembered)
        await bus.send(Deposit("ann", 100))
        await bus.send(Deposit("ben", 9))
        await bus.send(WithdrawAnywhere("ann", 1))
        before = backend.reads
        for _ in range(5):
            await bus.send(Deposit("ann", 2))  # known as a stream's event, wanted as a query's
            await bus.send(Deposit("ben", 9))
            assert (await bus.send(WithdrawAnywhere("ann", 3))).attempts == 1
        if remembered:
            assert backend.reads == before
        with pytest.raises(Insufficient) as refused:
            await bus.send(WithdrawAnywhere("ann", 1_000))
        assert refused.value.balance == 94

        await store.append("account-ann", [Deposited("ann", 6)])  # by somebody else
        assert (await bus.send(WithdrawAnywhere("ann", 100))).attempts <= 2
        await store.append("account-ann", [Deposited("ann", 1)])
        await bus.send(Deposit("ben", 1))  # behind a gap
        assert (await bus.send(WithdrawAnywhere("ann", 1))).attempts <= 2
        await store.append("account-ann", [Deposited("ann", 5)])
        with pytest.raises(Insufficient) as refused:
            await bus.send(WithdrawAnywhere("ann", 6))
        assert refused.value.balance == 5


async def test_many_at_once_lose_nothing(location: str) -> None:
    async with open_store(location, events=EVENTS, durable=False) as store:
        buses = [CommandBus(store, decisions) for _ in range(3)]

        def task(number: int) -> Any:
            async def run() -> int:
                bus = buses[number % 3]
                done = 0
                for turn in range(5):
                    await bus.send(Deposit(str((number + turn) % 4), 1))
                    done += 1
                return done

            return run

        outcomes = await together(*[task(number) for number in range(64)])
        assert outcomes == [5] * 64
        total = 0
        for number in range(4):
            state = await store.fold(account, f"account-{number}")
            assert state.balance == state.deposits == await store.version(f"account-{number}")
            total += state.deposits
        assert total == 320


async def test_a_command_takes_effect_once(location: str) -> None:
    async with open_store(location, events=EVENTS, durable=False) as store:
        bus = CommandBus(store, decisions)
        request = uuid4()
        first = await bus.send(Deposit("a", 5), command_id=request)
        assert first.receipt is not None
        assert first.receipt.commit_id == request
        await CommandBus(store, decisions).send(Withdraw("a", 5))
        for again in (bus, CommandBus(store, decisions)):
            repeat = await again.send(Deposit("a", 5), command_id=request)
            assert repeat.repeated
            assert repeat.receipt is not None
            assert (repeat.events, repeat.position, repeat.attempts) == (first.events, 1, 0)
        with pytest.raises(CommitIdError):
            await bus.send(Deposit("a", 6), command_id=request)
        assert await store.version("account-a") == 2


async def test_the_same_command_at_the_same_time_takes_effect_once(location: str) -> None:
    async with open_store(location, events=EVENTS, durable=False) as store:
        buses = [CommandBus(store, decisions) for _ in range(4)]
        await store.append("account-a", [Deposited("a", 5)])
        request = uuid4()

        def task(bus: CommandBus) -> Any:
            async def run() -> CommandResult:
                return await bus.send(Withdraw("a", 5), command_id=request)

            return run

        outcomes = await together(*[task(buses[number % 4]) for number in range(16)])
        assert all(isinstance(outcome, CommandResult) for outcome in outcomes), outcomes
        assert sum(not outcome.repeated for outcome in outcomes) == 1  # type: ignore[union-attr]
        assert await store.fold(account, "account-a") == Account(0, 1)


async def test_an_id_is_free_after_a_refusal(location: str) -> None:
    async with open_store(location, events=EVENTS, durable=False) as store:
        bus = CommandBus(store, decisions)
        request = uuid4()
        with pytest.raises(Insufficient):
            await bus.send(Withdraw("a", 5), command_id=request)
        await bus.send(Deposit("a", 5))
        assert not (await bus.send(Withdraw("a", 5), command_id=request)).repeated


class Untiring(BackendWrapper):
    """Somebody else is always faster."""

    async def append(self, commits: Any, connection: object = None) -> list[Outcome]:
        rival: list[EncodedCommit] = []
        for commit in commits:
            fresh = msgspec.structs.replace(
                commit, id=uuid4().bytes, expected=(), condition=None, is_fresh=True
            )
            rival.append(fresh)
        await super().append(rival)
        return await super().append(commits, connection)


async def test_conflicts_are_raised_in_the_end() -> None:
    backend = Untiring(EmbeddedBackend(MemoryEngine()))
    async with Store(backend, events=EventTypes(*EVENTS)) as store:
        bus = CommandBus(store, decisions, attempts=3)
        with pytest.raises(ConflictError):
            await bus.send(Deposit("a", 1))
        assert await store.version("account-a") == 3
        with pytest.raises(ConditionError):
            await bus.send(WithdrawAnywhere("a", 1))
    with pytest.raises(DeclarationError, match="at least once"):
        CommandBus(store, decisions, attempts=0)


@pytest.mark.parametrize("strategy", [None, 100, "every", EveryEvents, lambda since: True])
async def test_a_strategy_that_is_none_is_refused(strategy: Any) -> None:
    async with open_store("memory:", events=EVENTS) as store:
        with pytest.raises(DeclarationError, match=r"strategy=.*such as EveryEvents"):
            CommandBus(store, decisions, strategy=strategy)
        with pytest.raises(DeclarationError, match=r"strategy=.*such as EveryEvents"):
            Repository(store, account, strategy=strategy)


class Unsure(BackendWrapper):
    """Writes, and then fails to say so, once."""

    failing = True

    async def append(self, commits: Any, connection: object = None) -> list[Outcome]:
        outcomes = await super().append(commits, connection)
        if self.failing:
            self.failing = False
            raise StorageError("the line went dead")
        return outcomes


async def test_an_open_outcome_is_settled_by_sending_it_again() -> None:
    backend = Unsure(EmbeddedBackend(MemoryEngine()))
    async with Store(backend, events=EventTypes(*EVENTS)) as store:
        bus = CommandBus(store, decisions)
        request = uuid4()
        with pytest.raises(StorageError):
            await bus.send(Deposit("a", 1), command_id=request)
        assert (await bus.send(Deposit("a", 1), command_id=request)).repeated
        assert await store.fold(account, "account-a") == Account(1, 1)


@pytest.mark.parametrize("remembered", [0, 1, 1000])
async def test_snapshots_are_taken_and_change_nothing(location: str, remembered: int) -> None:
    async with open_store(location, events=EVENTS, durable=False) as store:
        bus = CommandBus(store, decisions, strategy=EveryEvents(10), remembered=remembered)
        for number in range(64):
            await bus.send(Deposit(str(number % 2), 1))
        for name in ("0", "1"):
            kept = await store.snapshots(f"account/account-{name}")
            assert len(kept) == 3
            fresh = CommandBus(store, decisions)
            result = await fresh.send(CloseOut(name))
            assert result.events == (Withdrawn(name, 32),)


@pytest.mark.parametrize(
    "command",
    [Deposit("a", 0), Deposit("a", "5"), Deposit("a", 1.0), Deposit("a", float("nan"))],  # type: ignore[arg-type]
)
async def test_commands_out_of_bounds_are_refused(command: Deposit) -> None:
    async with open_store("memory:", events=EVENTS) as store:
        with pytest.raises(InvalidCommandError, match="Deposit"):
            await CommandBus(store, decisions).send(command)
        assert (await store.head()).position == 0


async def test_a_command_that_nobody_decides_on() -> None:
    async with open_store("memory:", events=EVENTS) as store:
        bus = CommandBus(store, decisions)
        with pytest.raises(InvalidCommandError, match=r"nothing decides on str.*CloseOut, Deposit"):
            await bus.send("deposit")
        with pytest.raises(InvalidCommandError, match="nothing decides on 'Other'"):
            decisions.restored(RecordedCommand("Other", {}))
        with pytest.raises(InvalidCommandError, match="Deposit"):
            decisions.restored(RecordedCommand("Deposit", {"account": 1}))


async def test_the_place_of_the_command_in_the_extras_is_taken() -> None:
    async with open_store("memory:", events=EVENTS) as store:
        with pytest.raises(InvalidCommandError, match="extras"):
            await CommandBus(store, decisions).send(
                Deposit("a", 1), metadata=CommitMetadata(extras={"command": 1})
            )


def test_declarations_that_make_no_sense() -> None:
    rules = Decisions()

    @rules.on(CloseOut)
    def close(command: CloseOut) -> list[Event]:
        return [Deposited("a", 1)]

    with pytest.raises(DeclarationError, match="two decisions on CloseOut"):
        rules.on(CloseOut)
    with pytest.raises(DeclarationError, match="two decisions on CloseOut"):
        decisions.include(rules)
    with pytest.raises(DeclarationError, match="StateOf"):
        rules.on(Deposit, account)  # type: ignore[call-overload]
    with pytest.raises(DeclarationError, match="expected a Fold"):
        StateOf("account", stream_of)  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="can't be called"):
        StateOf(account, "account-1")  # type: ignore[arg-type]


async def test_where_events_go(location: str) -> None:
    rules = Decisions()

    @rules.on(WithdrawAnywhere, StateOf(account, owned), into=lambda c: f"payouts-{c.account}")
    def withdraw(command: WithdrawAnywhere, state: Account) -> list[Any]:
        if state.balance < command.amount:
            raise Insufficient(state.balance)
        audit = Write("audit", [Deposited("audit", 1)])
        return [Withdrawn(command.account, 1), audit, Withdrawn(command.account, 2)]

    async with open_store(location, events=EVENTS, durable=False) as store:
        await store.append("account-a", [Deposited("a", 5)])
        result = await CommandBus(store, rules).send(WithdrawAnywhere("a", 3))
        assert result.receipt is not None
        assert result.receipt.versions == {"payouts-a": 2, "audit": 1}
        with pytest.raises(Insufficient):
            await CommandBus(store, rules).send(WithdrawAnywhere("a", 3))


async def test_events_without_a_stream_are_refused() -> None:
    rules = Decisions()

    @rules.on(CloseOut)
    def close(command: CloseOut) -> list[Event]:
        return [Deposited("a", 1)]

    async with open_store("memory:", events=EVENTS) as store:
        with pytest.raises(DeclarationError, match="no stream is known"):
            await CommandBus(store, rules).send(CloseOut("a"))


@pytest.mark.parametrize("returned", [Deposited("a", 1), "text", {"a": 1}, 5])
async def test_decisions_return_lists(returned: Any) -> None:
    rules = Decisions()

    @rules.on(CloseOut, StateOf(account, stream_of))
    def close_out(command: CloseOut, state: Account) -> Any:
        return returned

    async with open_store("memory:", events=EVENTS) as store:
        with pytest.raises(DeclarationError, match="decision on CloseOut returned"):
            await CommandBus(store, rules).send(CloseOut("a"))


@dataclass
class Purse(Aggregate):
    """The object style."""

    coins: int = 0

    def put(self, *amounts: int) -> None:
        for amount in amounts:
            self.record(Deposited("purse", amount))

    def take(self, amount: int) -> None:
        if amount > self.coins:
            raise Insufficient(self.coins)
        self.record(NewEvent(event=Withdrawn("purse", amount)))


purse = Fold("purse", Purse)


@purse.on(Deposited)
def _put(self: Purse, event: Deposited) -> Purse:
    self.coins += event.amount
    return self


@purse.on(Withdrawn)
def _take(self: Purse, event: Withdrawn) -> Purse:
    self.coins -= event.amount
    return self


async def test_the_object_style() -> None:
    rules = Decisions()

    @rules.on(Deposit, StateOf(purse, stream_of))
    def deposit(command: Deposit, state: Purse) -> None:
        state.put(command.amount, command.amount)
        state.take(1)
        assert state.coins % 2 == 1

    @rules.on(Withdraw, StateOf(purse, stream_of))
    def withdraw(command: Withdraw, state: Purse) -> None:
        state.take(1)
        state.take(command.amount)

    async with open_store("memory:", events=EVENTS) as store:
        bus = CommandBus(store, rules, strategy=EveryEvents(2))
        result = await bus.send(Deposit("p", 3))
        assert result.events == (
            Deposited("purse", 3),
            Deposited("purse", 3),
            Withdrawn("purse", 1),
        )
        with pytest.raises(Insufficient) as refused:
            await bus.send(Withdraw("p", 5))
        assert refused.value.balance == 4
        assert (await bus.send(Withdraw("p", 4))).events == (
            Withdrawn("purse", 1),
            Withdrawn("purse", 4),
        )
        assert await store.fold(purse, "account-p") == Purse(0)
    with pytest.raises(DeclarationError, match="not open for changes"):
        Purse().put(1)


async def test_a_refused_command_leaves_no_trace_on_a_state_that_begins_as_none(
    location: str,
) -> None:
    late: Fold[Purse | None] = Fold("late purse", lambda: None)
    late.on(Deposited)(lambda state, event: _put(state or Purse(), event))
    late.on(Withdrawn)(lambda state, event: _take(state or Purse(), event))
    rules = Decisions()

    @rules.on(Withdraw, StateOf(late, stream_of))
    def withdraw(command: Withdraw, state: Purse | None) -> None:
        if state is not None:
            state.take(1)
            state.take(command.amount)

    async with open_store(location, events=EVENTS, durable=False) as store:
        await store.append("account-p", [Deposited("p", 10)])
        bus = CommandBus(store, rules)
        for _ in range(3):
            with pytest.raises(Insufficient) as refused:
                await bus.send(Withdraw("p", 10))
            assert refused.value.balance == 9
        assert len((await bus.send(Withdraw("p", 9))).events) == 2


async def test_an_aggregate_that_its_fold_replaces_is_refused() -> None:
    replacing = Fold("replacing", Purse)
    replacing.on(Deposited)(lambda state, event: Purse(state.coins + event.amount))
    rules = Decisions()

    @rules.on(Deposit, StateOf(replacing, stream_of))
    def deposit(command: Deposit, state: Purse) -> None:
        state.put(command.amount)

    async with open_store("memory:", events=EVENTS) as store:
        with pytest.raises(DeclarationError, match="change it in place"):
            await CommandBus(store, rules).send(Deposit("p", 3))


async def test_a_decision_may_spoil_the_mutable_state_it_is_given(location: str) -> None:
    totals: Fold[dict[str, int]] = Fold("totals", dict)

    @totals.on(Deposited)
    def add(state: dict[str, int], event: Deposited) -> dict[str, int]:
        state["sum"] = state.get("sum", 0) + event.amount
        return state

    rules = Decisions()

    @rules.on(Deposit, StateOf(totals, stream_of))
    def deposit(command: Deposit, state: dict[str, int]) -> list[Event]:
        state["sum"] = state.get("sum", 0) + 1_000
        if command.amount > 5:
            raise Insufficient(state["sum"])
        return [Deposited("a", command.amount)]

    async with open_store(location, events=EVENTS, durable=False) as store:
        bus = CommandBus(store, rules)
        await bus.send(Deposit("a", 1))
        for _ in range(2):
            with pytest.raises(Insufficient) as refused:
                await bus.send(Deposit("a", 6))
            assert refused.value.balance == 1_001


async def test_middleware_is_asked_in_order(location: str) -> None:
    asked: list[str] = []

    async def outer(envelope: Envelope, proceed: CallNext, /) -> CommandResult:
        asked.append("outer")
        result = await proceed(envelope)
        asked.append("after")
        return result

    async def doubling(envelope: Envelope, proceed: CallNext, /) -> CommandResult:
        asked.append("inner")
        double = Deposit(envelope.command.account, envelope.command.amount * 2)
        return await proceed(msgspec.structs.replace(envelope, command=double))

    async with open_store(location, events=EVENTS, durable=False) as store:
        bus = CommandBus(store, decisions, middleware=[outer, doubling])
        assert (await bus.send(Deposit("a", 4))).events == (Deposited("a", 8),)
        assert asked == ["outer", "inner", "after"]


async def test_authorisation(location: str) -> None:
    def may(envelope: Envelope) -> bool:
        return envelope.user_id == "ann" or not isinstance(envelope.command, Withdraw)

    async with open_store(location, events=EVENTS, durable=False) as store:
        bus = CommandBus(store, decisions, middleware=[authorised(may)])
        await bus.send(Deposit("a", 4))
        with pytest.raises(NotAllowedError) as refused:
            await bus.send(Withdraw("a", 4))
        assert (refused.value.command, refused.value.user_id) == ("Withdraw", None)
        with pytest.raises(NotAllowedError, match="ben may not send Withdraw"):
            await bus.send(Withdraw("a", 4), metadata=CommitMetadata(user_id="ben"))
        with context(user_id="ann"):
            await bus.send(Withdraw("a", 4))


async def test_authorisation_says_yes_or_no() -> None:
    async with open_store("memory:", events=EVENTS) as store:
        asked: Any = lambda envelope: "no"  # noqa: E731
        with pytest.raises(DeclarationError, match="True or False"):
            await CommandBus(store, decisions, middleware=[authorised(asked)]).send(Deposit("a", 1))
        assert (await store.head()).position == 0


class Label(msgspec.Struct, frozen=True):
    names: frozenset[str]
    by: dict[int, int]


async def test_commands_of_sets_and_maps_are_themselves_again(location: str) -> None:
    rules = Decisions()

    @rules.on(Label, into=lambda command: "labels")
    def label(command: Label) -> list[Event]:
        return [Deposited(name, command.by[1]) for name in sorted(command.names)]

    names = [f"name {n}" for n in range(50)]
    async with open_store(location, events=EVENTS, durable=False) as store:
        bus, command_id = CommandBus(store, rules), uuid4()
        first = await bus.send(Label(frozenset(names), {1: 2}), command_id=command_id)
        again = await bus.send(Label(frozenset(reversed(names)), {1: 2}), command_id=command_id)
        assert (again.position, again.events) == (first.position, first.events)
        with pytest.raises(CommitIdError):
            await bus.send(Label(frozenset(names), {1: 3}), command_id=command_id)


async def test_a_repeat_that_would_do_nothing_now_gets_the_earlier_result(location: str) -> None:
    rules = Decisions()

    @rules.on(Deposit, StateOf(account, stream_of))
    def deposit_once(command: Deposit, state: Account) -> list[Event]:
        return [] if state.deposits else [Deposited(command.account, command.amount)]

    async with open_store(location, events=EVENTS) as store:
        bus, command_id = CommandBus(store, rules), uuid4()

        async def send() -> None:
            result = await bus.send(Deposit("a", 5), command_id=command_id)
            assert (result.position, result.events) == (1, (Deposited("a", 5),))

        assert await together(send, send, send, send) == [None] * 4


async def test_what_a_decision_expects_itself_holds_beside_what_it_rests_on() -> None:
    rules = Decisions()

    @rules.on(Withdraw, StateOf(account, stream_of))
    def withdraw(command: Withdraw, state: Account) -> list[Any]:
        if state.balance < command.amount:
            raise Insufficient(state.balance)
        gone = Withdrawn(command.account, command.amount)
        return [Write(stream_of(command), [gone], expected=EXISTS)]

    @rules.on(Deposit)
    def deposit(command: Deposit) -> list[Any]:
        first, second = Deposited(command.account, 1), Deposited(command.account, 2)
        return [Write("x", [first], expected=NO_STREAM), Write("x", [second], expected=EXISTS)]

    async with open_store("memory:", events=EVENTS) as store:
        await store.append("account-a", [Deposited("a", 10)])
        one, two = CommandBus(store, rules), CommandBus(store, rules)
        await two.send(Withdraw("a", 1))
        await one.send(Withdraw("a", 9))
        with pytest.raises(Insufficient):  # not what it remembers
            await two.send(Withdraw("a", 9))
        with pytest.raises(DeclarationError, match="keep one"):
            await one.send(Deposit("a", 1))


async def test_a_state_rests_on_all_of_its_history() -> None:
    rules = Decisions()

    @rules.on(Deposit, StateOf(account, lambda command: Query().stream("a").up_to(1)))
    def deposit(command: Deposit, state: Account) -> list[Event]:
        raise AssertionError

    async with open_store("memory:", events=EVENTS) as store:
        with pytest.raises(InvalidQueryError, match="without bounds"):
            await CommandBus(store, rules).send(Deposit("a", 1))


async def test_unknown_events_of_known_types_are_believed_as_they_are_read(location: str) -> None:
    rules = Decisions()

    @rules.on(Withdraw, StateOf(account, stream_of))
    def withdraw(command: Withdraw, state: Account) -> list[Any]:
        if state.balance < command.amount:
            raise Insufficient(state.balance)
        data = {"owner": command.account, "amount": command.amount}
        return [UnknownEvent("Withdrawn", data)]

    async with open_store(location, events=EVENTS, durable=False) as store:
        await store.append("account-a", [Deposited("a", 100)])
        bus = CommandBus(store, rules)
        await bus.send(Withdraw("a", 80))
        with pytest.raises(Insufficient):
            await bus.send(Withdraw("a", 80))


async def test_the_log_has_every_command_and_no_data(
    location: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "everwhen.commands")
    rules = Decisions()

    @rules.on(CloseOut)
    def close(command: CloseOut) -> list[Event]:
        raise ZeroDivisionError

    rules.include(Decisions())
    async with open_store(location, events=EVENTS, durable=False) as store:
        bus = CommandBus(store, decisions, middleware=[logged()])
        with context(user_id="ann"):
            await bus.send(Deposit("secret", 4))
        with pytest.raises(Insufficient):
            await bus.send(Withdraw("secret", 5))
        with pytest.raises(ZeroDivisionError):
            await CommandBus(store, rules, middleware=[logged()]).send(CloseOut("secret"))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("Deposit by ann: 1 events, ")
    assert lines[1:] == ["Withdraw by - refused: Insufficient", "CloseOut by - failed"]
    assert "secret" not in "".join(lines)


async def test_traces(location: str) -> None:
    seen = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(seen))
    async with open_store(location, events=EVENTS, durable=False) as store:
        bus = CommandBus(store, decisions, middleware=[traced(provider.get_tracer("test"))])
        with context(user_id="ann"):
            await bus.send(Deposit("a", 4), command_id=UUID(int=7))
        await bus.send(CloseOut("b"))
        with pytest.raises(Insufficient):
            await bus.send(Withdraw("a", 5))
    deposit, close_out, withdraw = seen.get_finished_spans()
    assert (deposit.name, close_out.name) == ("command Deposit", "command CloseOut")
    assert dict(deposit.attributes or {}) == {
        "everwhen.command.type": "Deposit",
        "enduser.id": "ann",
        "everwhen.commit.id": str(UUID(int=7)),
        "everwhen.position": 1,
        "everwhen.events": 1,
        "everwhen.attempts": 1,
    }
    assert (close_out.attributes or {})["everwhen.events"] == 0
    assert withdraw.status.status_code is StatusCode.ERROR
    assert [event.name for event in withdraw.events] == ["exception"]
