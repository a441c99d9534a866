"""One of every value that a notebook shows, from real stores with a little history."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from everwhen import (
    CommandBus,
    Decisions,
    Event,
    Fold,
    KeyFile,
    NewEvent,
    Personal,
    ProjectionRunner,
    Query,
    RecordedEvent,
    Refusal,
    StateOf,
    TableProjection,
    Tables,
    TimeMachine,
    Undo,
    UnknownEvent,
    Vault,
    context,
    open_store,
)
from everwhen.merging import Merging
from everwhen.notebooks import Table
from everwhen.projections import projection_statuses
from everwhen.testing import ManualClock
from everwhen.travel import EventFilter
from everwhen.undo import Compensations, Positions


class Joined(Event):
    data_subject = "player"

    player: str
    name: Personal[str]


class BetPlaced(Event):
    player: str
    amount: int
    on: str = "pass line"


class PointMade(Event):
    dice: tuple[int, int]


class PlaceBet(msgspec.Struct, frozen=True):
    player: str
    amount: int


class TableFull(Refusal):
    pass


class Player(msgspec.Struct, frozen=True):
    balance: int = 1000
    bets: tuple[int, ...] = ()


class Casino(msgspec.Struct, frozen=True):
    players: dict[str, Player] = {}
    dice: tuple[int, int] | None = None
    house: str = "The Golden Nugget"


night = Fold("night", Casino)
staked = Fold("staked", lambda: 0)
staked.on(BetPlaced)(lambda state, event: state + event.amount)


@night.on(Joined)
def _(state: Casino, event: Joined) -> Casino:
    return msgspec.structs.replace(state, players={**state.players, event.player: Player()})


@night.on(BetPlaced)
def _(state: Casino, event: BetPlaced) -> Casino:
    old = state.players.get(event.player, Player())
    new = Player(old.balance - event.amount, (*old.bets, event.amount))
    return msgspec.structs.replace(state, players={**state.players, event.player: new})


@night.on(PointMade)
def _(state: Casino, event: PointMade) -> Casino:
    return msgspec.structs.replace(state, dice=event.dice)


decisions = Decisions()


@decisions.on(PlaceBet, StateOf(staked, lambda command: f"player-{command.player}"))
def _(command: PlaceBet, state: int) -> list[Event]:
    if state + command.amount > 600:
        raise TableFull(f"{600 - state} left below the limit")
    return [BetPlaced(command.player, command.amount)]


compensations = Compensations()


@compensations.on(BetPlaced)
def _(event: BetPlaced) -> BetPlaced:
    return BetPlaced(event.player, -event.amount, on="taken back")


bets = TableProjection("bets", ["CREATE TABLE {bets} (player TEXT, amount INTEGER)"])


@bets.on(BetPlaced)
def _(tables: Tables, recorded: RecordedEvent[BetPlaced]) -> None:
    event = recorded.event
    tables.execute("INSERT INTO {bets} VALUES (?, ?)", (event.player, event.amount))


broken = TableProjection("broken", ["CREATE TABLE {broken} (player TEXT)"])


@broken.on(PointMade)
def _(tables: Tables, recorded: RecordedEvent[PointMade]) -> None:
    raise ValueError(f"no such dice: {recorded.event.dice}")


TYPES = [Joined, BetPlaced, PointMade]


def gallery(folder: Path) -> dict[str, Any]:
    """The values by name. The store stays open: what is shown may be decoded late."""
    keys = KeyFile.create(folder / "keys")
    vault = Vault(folder / "vault.db", keys)
    clock = ManualClock(datetime(2026, 5, 1, 20, tzinfo=UTC))
    store = open_store(folder / "casino.db", events=TYPES, vault=vault, clock=clock)
    bus = CommandBus(store, decisions)
    with context(user_id="hedy"):
        receipt = store.append("player-hedy", [Joined("hedy", "Hedy Lamarr")])
        bus.send(PlaceBet("hedy", 100))
    clock.advance(60)
    store.append("player-ada", [Joined("ada", "Ada Lovelace")])
    bus.send(PlaceBet("ada", 40))
    occurred = datetime(2026, 5, 1, 19, 59, 30, tzinfo=UTC)
    point = NewEvent(event=PointMade((3, 4)), tags=("table:7",), occurred_at=occurred)
    store.append("table-7", [point])
    plan_b = store.create_branch("plan-b")
    CommandBus(plan_b, decisions).send(PlaceBet("hedy", 450))
    CommandBus(plan_b, decisions).send(PlaceBet("ada", 60))
    plan_b.append("table-7", [PointMade((6, 6))])
    bus.send(PlaceBet("hedy", 200))
    store.append("player-ada", [UnknownEvent("Tipped", {"to": "the dealer", "chips": [5, 5, 1]})])
    machine = TimeMachine(store, night)
    with ProjectionRunner(store, [bets, broken]) as runner:
        with contextlib.suppress(Exception):  # one is broken on purpose
            runner.catch_up()
    altered = machine.altered(without=EventFilter(streams={"player-ada"}))
    events = list(store.read())
    return {
        "store": store,
        "branch": plan_b,
        "branches": Table(store.branches()),
        "receipt": receipt,
        "event": events[1],
        "personal event": events[0],
        "unknown event": events[-1],
        "events": Table(store.read(Query().backwards())),
        "state": machine.travel_to(5),
        "step": machine.step_at(4),
        "steps": Table(machine.replay()),
        "diff": machine.diff(2, 7),
        "change": machine.diff(2, 3)[0],
        "history": Table(machine.history("players.hedy.balance")),
        "written": next(iter(machine.history("players.hedy.balance"))),
        "blame": machine.blame("players"),
        "explanation": machine.explain(2),
        "divergence": machine.compare(Fold("empty", Casino)),
        "transitions": Table(machine.transitions(lambda s: "ada" in s.players)),
        "transition": next(iter(machine.transitions(lambda s: "ada" in s.players))),
        "what if": altered.travel_to(),
        "what-if step": list(altered.replay())[-1],
        "merge plan": Merging(store, decisions, compared_on=night).plan(plan_b),
        "undo plan": Undo(store, compensations).plan(Positions(1, 3)),
        "projections": Table(projection_statuses(store)),
        "projection": projection_statuses(store)[0],
        "closing": (store, vault),
    }
