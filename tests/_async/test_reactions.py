"""Reactions: every event gets its answer, once, also by those who crash and come back."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from everwhen import Decisions, Event, Fold, Query, RecordedEvent, Refusal, StateOf, StorageError
from everwhen.aio import CommandBus, Store, open_store
from everwhen.commands import command_of
from everwhen.errors import DeclarationError, ProjectionError
from everwhen.projections import OnError
from everwhen.reactions import CancelTimer, Reaction, Timer
from everwhen.reactions._async.reaction_runner import ReactionFollower
from everwhen.reactions.aio import ReactionRunner
from everwhen.testing import ManualClock
from everwhen.testing._async.concurrency import together
from everwhen.vocabulary import Checkpoint
from everwhen.vocabulary.clock import system_clock


class Placed(Event):
    bet: int
    amount: int


class Settled(Event):
    bet: int


class Refunded(Event):
    bet: int


class Welcomed(Event):
    bet: int


class Place(msgspec.Struct, frozen=True):
    bet: int
    amount: int = 1


class Settle(msgspec.Struct, frozen=True):
    bet: int


class Refund(msgspec.Struct, frozen=True):
    bet: int


class Welcome(msgspec.Struct, frozen=True):
    bet: int


class IsSettled(Refusal):
    pass


bets = Fold("bets", str)
bets.on(Placed)(lambda state, event: "placed")
bets.on(Settled)(lambda state, event: "settled")
bets.on(Refunded)(lambda state, event: "refunded")

decisions = Decisions()
the_bet: StateOf[Any, str] = StateOf(bets, lambda command: f"bet-{command.bet}")


@decisions.on(Place, the_bet)
def _place(command: Place, state: str) -> list[Event]:
    return [Placed(command.bet, command.amount)]


@decisions.on(Settle, the_bet)
def _settle(command: Settle, state: str) -> list[Event]:
    return [Settled(command.bet)]


@decisions.on(Refund, the_bet)
def _refund(command: Refund, state: str) -> list[Event]:
    if state != "placed":
        raise IsSettled(state)
    return [Refunded(command.bet)]


@decisions.on(Welcome, StateOf(bets, lambda command: f"welcome-{command.bet}"))
def _welcome(command: Welcome, state: str) -> list[Event]:
    return [Welcomed(command.bet)]


HOUR = timedelta(hours=1)
EVENTS = [Placed, Settled, Refunded, Welcomed]


def refunds(**options: Any) -> Reaction:
    """A bet that isn't settled within an hour is refunded."""
    reaction = Reaction("refunds", **options)

    @reaction.on(Placed)
    def placed(event: RecordedEvent[Placed]) -> list[Any]:
        return [Timer(f"bet-{event.event.bet}", Refund(event.event.bet), after=HOUR)]

    @reaction.on(Settled)
    def settled(event: RecordedEvent[Settled]) -> list[Any]:
        return [CancelTimer(f"bet-{event.event.bet}")]

    return reaction


def welcomes(**options: Any) -> Reaction:
    reaction = Reaction("welcomes", **options)

    @reaction.on(Placed)
    def placed(event: RecordedEvent[Placed]) -> list[Any]:
        if event.event.amount < 0:
            raise ValueError(event.event.amount)
        return [Welcome(event.event.bet)]

    return reaction


def opened(location: str, clock: ManualClock | None = None) -> Any:
    return open_store(location, events=EVENTS, durable=False, clock=clock or ManualClock())


async def welcomed(store: Store) -> list[int]:
    return [event.event.bet async for event in store.read(Query().types(Welcomed))]


async def test_an_event_leads_to_a_command_that_knows_its_cause(location: str) -> None:
    async with opened(location) as store:
        bus = CommandBus(store, decisions)
        await bus.send(Place(1))
        runner = ReactionRunner(bus, [welcomes()])
        await runner.catch_up()
        (cause,) = [event async for event in store.read("bet-1")]
        (effect,) = [event async for event in store.read("welcome-1")]
        assert effect.metadata.causation_id == cause.event_id
        assert effect.metadata.correlation_id == cause.metadata.correlation_id
        kept = command_of(effect)
        assert kept is not None
        assert kept.type == "Welcome"
        (status,) = await runner.status()
        assert (status.name, status.kind, status.state) == ("welcomes", "reaction", "live")
        await runner.close()


async def test_in_the_background(location: str) -> None:
    async with opened(location) as store:
        bus = CommandBus(store, decisions)
        async with ReactionRunner(bus, [welcomes()]) as runner:
            for number in range(10):
                await bus.send(Place(number))
            await runner.catch_up()
        assert await welcomed(store) == list(range(10))


async def test_what_was_sent_before_a_crash_does_nothing_again(location: str) -> None:
    async with opened(location) as store:
        bus = CommandBus(store, decisions)
        for number in range(5):
            await bus.send(Place(number))
        page = await store.kernel.backend.read(Query(), 100)
        for _ in range(3):  # none of them ever comes to keep its position
            crashing = ReactionFollower(bus, welcomes(), lease=0.0, clock=system_clock)
            assert await crashing.start()
            crashing.position = 0
            for event in [e async for e in store.read(Query().types(Placed))]:
                await crashing._take_event(event)
        assert page.end
        assert await welcomed(store) == list(range(5))


async def test_two_runners_answer_once(location: str) -> None:
    async with opened(location) as store, opened(location) as same:
        runners = [
            ReactionRunner(CommandBus(s, decisions), [welcomes()], lease=0.002)
            for s in (store, same)
        ]

        def work(runner: ReactionRunner) -> Any:
            async def run() -> None:
                for _ in range(60):
                    async with runner._lock:
                        await runner._step()

            return run

        async def write() -> None:
            for number in range(40):
                await store.append(f"bet-{number}", [Placed(number, 1)])

        outcomes = await together(*map(work, runners), write)
        assert not any(isinstance(outcome, BaseException) for outcome in outcomes), outcomes
        for runner in runners:
            await runner.close()
        last = ReactionRunner(CommandBus(store, decisions), [welcomes()])
        await last.catch_up()
        await last.close()
        assert sorted(await welcomed(store)) == list(range(40))


async def test_timers_fire_when_they_are_due_unless_cancelled(location: str) -> None:
    clock = ManualClock()
    async with opened(location, clock) as store:
        bus = CommandBus(store, decisions)
        reaction = refunds()
        runner = ReactionRunner(bus, [reaction], clock=clock)
        for number in (1, 2, 3):
            await bus.send(Place(number))
            clock.advance(600)
        await bus.send(Settle(2))
        await runner.catch_up()
        assert [timer.key for timer in await runner.timers(reaction)] == ["bet-1", "bet-3"]
        clock.advance(1_799)
        await runner.catch_up()
        assert await store.version("bet-1") == 1
        clock.advance(1)
        await runner.catch_up()
        assert await store.fold(bets, "bet-1") == "refunded"
        assert await store.fold(bets, "bet-3") == "placed"
        await runner.close()
        # what is set outlives the runner
        clock.advance(3_600)
        runner = ReactionRunner(bus, [reaction], clock=clock)
        await runner.catch_up()
        assert [await store.fold(bets, f"bet-{n}") for n in (1, 2, 3)] == [
            "refunded", "settled", "refunded",
        ]  # fmt: skip
        assert await runner.timers(reaction) == []
        (refund,) = [event async for event in store.read(Query().stream("bet-3").from_version(2))]
        (placed,) = [event async for event in store.read(Query().stream("bet-3").to_version(1))]
        assert refund.metadata.causation_id == placed.event_id
        await runner.close()


async def test_a_timer_looks_at_the_events_before_it_fires(location: str) -> None:
    clock = ManualClock()
    async with opened(location, clock) as store:
        bus = CommandBus(store, decisions)
        await bus.send(Place(1))
        runner = ReactionRunner(bus, [refunds()], clock=clock)
        await runner.catch_up()
        clock.advance(7_200)
        await bus.send(Settle(1))
        await runner.catch_up()
        assert await store.version("bet-1") == 2
        await runner.close()


async def test_a_refused_command_is_an_answer(location: str) -> None:
    clock = ManualClock()
    reaction = Reaction("hasty")

    @reaction.on(Settled)
    def settled(event: RecordedEvent[Settled]) -> list[Any]:
        return [
            Refund(event.event.bet),
            Timer("late", Refund(event.event.bet), at=clock() + HOUR),
            Welcome(event.event.bet),
        ]

    async with opened(location, clock) as store:
        bus = CommandBus(store, decisions)
        await bus.send(Place(1))
        await bus.send(Settle(1))
        runner = ReactionRunner(bus, [reaction], clock=clock)
        await runner.catch_up()
        clock.advance(3_601)
        await runner.catch_up()
        assert await store.fold(bets, "bet-1") == "settled"
        assert await welcomed(store) == [1]
        assert await runner.timers(reaction) == []
        await runner.close()


async def test_the_state_of_the_process_as_it_was_at_the_event(location: str) -> None:
    seen: list[tuple[int, str]] = []
    reaction = Reaction("manager")

    @reaction.on(Settled, StateOf(bets, lambda event: event.stream))
    def settled(event: RecordedEvent[Settled], state: str) -> None:
        seen.append((event.position, state))

    async with opened(location) as store:
        await store.append("bet-1", [Placed(1, 1), Settled(1), Refunded(1)])
        runner = ReactionRunner(CommandBus(store, decisions), [reaction])
        await runner.catch_up()
        assert seen == [(2, "settled")]
        await runner.close()


async def test_from_now_leaves_out_the_past_and_nothing_else(location: str) -> None:
    async with opened(location) as store:
        bus = CommandBus(store, decisions)
        await bus.send(Place(1))
        runner = ReactionRunner(bus, [welcomes(from_now=True)])
        await runner.catch_up()
        await bus.send(Place(2))
        await runner.close()
        await bus.send(Place(3))
        runner = ReactionRunner(bus, [welcomes(from_now=True)])
        await runner.catch_up()
        assert await welcomed(store) == [2, 3]
        await runner.close()


def policy(then: Any) -> OnError:
    return OnError(then, retries=1, pause=0.0)


async def test_a_failure_halts_until_it_is_mended(location: str) -> None:
    async with opened(location) as store:
        bus = CommandBus(store, decisions)
        for number, amount in enumerate((1, -1, 1)):
            await bus.send(Place(number, amount))
        runner = ReactionRunner(bus, [welcomes(on_error=policy("halt"))])
        with pytest.raises(ProjectionError) as halted:
            await runner.catch_up()
        assert halted.value.position == 2
        (status,) = await runner.status()
        assert (status.state, status.position) == ("halted", 1)
        await runner.close()
        fixed = Reaction("welcomes")
        fixed.on(Placed)(lambda event: [Welcome(event.event.bet)])
        runner = ReactionRunner(bus, [fixed])
        await runner.catch_up()
        assert await welcomed(store) == [0, 1, 2]
        await runner.close()


async def test_skipping_and_parking(location: str) -> None:
    async with opened(location) as store:
        bus = CommandBus(store, decisions)
        await store.append("bet-1", [Placed(1, -1), Placed(2, 1)])
        await store.append("bet-2", [Placed(3, 1)])
        skips, parks = welcomes(on_error=policy("skip")), welcomes(on_error=policy("park"))
        runner = ReactionRunner(bus, [parks])
        await runner.catch_up()
        assert await welcomed(store) == [3]
        assert [p.position for p in await runner.parked(parks)] == [1, 2]
        assert await runner.retry_parked(parks) == 2
        parks._by_class.clear()
        parks.on(Placed)(lambda event: [Welcome(event.event.bet)])
        assert await runner.retry_parked(parks) == 0
        assert await welcomed(store) == [3, 1, 2]
        await store.append("bet-1", [Placed(4, 1)])
        await runner.catch_up()
        await runner.close()
        await store.append("bet-1", [Placed(5, -1), Placed(6, 1)])
        runner = ReactionRunner(bus, [skips])
        await runner.catch_up()
        assert await welcomed(store) == [3, 1, 2, 4, 6]
        (status,) = await runner.status()
        assert (status.skipped, status.parked) == (1, 0)
        await runner.close()


async def test_parked_events_are_skipped_for_good(location: str) -> None:
    async with opened(location) as store:
        await store.append("bet-1", [Placed(1, -1), Placed(2, 1)])
        parks = welcomes(on_error=policy("park"))
        runner = ReactionRunner(CommandBus(store, decisions), [parks])
        await runner.catch_up()
        assert await runner.skip_parked(parks) == 2
        assert await runner.parked(parks) == []
        await store.append("bet-1", [Placed(3, 1)])
        await runner.catch_up()
        assert await welcomed(store) == [3]
        (status,) = await runner.status()
        assert (status.skipped, status.parked) == (2, 0)
        await runner.close()


async def test_a_timer_whose_command_is_unknown_halts(location: str) -> None:
    clock = ManualClock()
    async with opened(location, clock) as store:
        await store.append("bet-1", [Placed(1, 1)])
        runner = ReactionRunner(
            CommandBus(store, decisions), [refunds(on_error=policy("halt"))], clock=clock
        )
        await runner.catch_up()
        await runner.close()
        clock.advance(4_000)
        runner = ReactionRunner(
            CommandBus(store, Decisions()), [refunds(on_error=policy("halt"))], clock=clock
        )
        with pytest.raises(
            ProjectionError, match=r"position 1: timer 'bet-1'.*nothing decides on 'Refund'"
        ):
            await runner.catch_up()
        assert len(await runner.timers(refunds())) == 1
        await runner.close()


@pytest.mark.parametrize(
    "timer",
    [
        Timer("", Refund(1), after=HOUR),
        Timer("x" * 300, Refund(1), after=HOUR),
        Timer("t", Refund("?"), after=HOUR),  # type: ignore[arg-type]
        Timer("t", Refund(1), at=datetime.max.replace(tzinfo=timezone(-HOUR))),
        CancelTimer(""),
        CancelTimer(["timer"]),  # type: ignore[arg-type]
    ],
)
async def test_timers_that_make_no_sense(location: str, timer: Timer | CancelTimer) -> None:
    reaction = Reaction("wrong", on_error=policy("halt"))
    reaction.on(Placed)(lambda event: [timer])
    async with opened(location) as store:
        await store.append("bet-1", [Placed(1, 1)])
        runner = ReactionRunner(CommandBus(store, decisions), [reaction])
        with pytest.raises(ProjectionError, match=r"timer|Refund"):
            await runner.catch_up()
        await runner.close()


async def test_a_page_that_takes_longer_than_the_lease_is_got_through_once(location: str) -> None:
    counted: list[int] = []

    def slow() -> Reaction:
        reaction = Reaction("slow")

        @reaction.on(Placed)
        def placed(event: RecordedEvent[Placed]) -> list[Any]:
            counted.append(event.event.bet)
            time.sleep(0.004)
            return [Timer(f"bet-{event.event.bet}", Refund(event.event.bet), after=HOUR)]

        return reaction

    async with opened(location) as store, opened(location) as elsewhere:
        await store.append("bets", [Placed(n, 1) for n in range(200)])
        one = ReactionRunner(CommandBus(store, decisions), [slow()], lease=0.5)
        two = ReactionRunner(CommandBus(elsewhere, decisions), [slow()], lease=0.5)
        assert await together(one.catch_up, two.catch_up) == [None, None]
        assert len(counted) < 400, "each begins where the other ended"
        assert len(await one.timers(slow())) == 200
        await one.close()
        await two.close()


async def test_declarations_that_make_no_sense(location: str) -> None:
    with pytest.raises(DeclarationError, match="without @ and /"):
        Reaction("a/b")
    reaction = welcomes()
    with pytest.raises(DeclarationError, match="two functions for Placed"):
        reaction.on(Placed)(lambda event: None)
    with pytest.raises(DeclarationError, match="StateOf"):
        reaction.on(Settled, bets)  # type: ignore[call-overload]
    async with opened(location) as store:
        bus = CommandBus(store, decisions)
        with pytest.raises(DeclarationError, match="two reactions"):
            ReactionRunner(bus, [welcomes(), welcomes()])
        with pytest.raises(DeclarationError, match="give a Reaction"):
            ReactionRunner(bus, ["welcomes"])  # type: ignore[list-item]
        with pytest.raises(DeclarationError, match="not among"):
            await ReactionRunner(bus, []).parked(welcomes())
        async with store.transaction() as transaction:
            await transaction.save_checkpoint(Checkpoint("timer/refunds/x", 0, b"{"))
        with pytest.raises(StorageError, match="damaged"):
            await ReactionRunner(bus, [refunds()]).catch_up()
