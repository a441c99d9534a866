"""Histories to travel in: a casino's, made up, and two real logs, repeated to any length.

A history has two folds: a ``board`` with some thousand entries, and ``sums``, which only grow.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from bitcraps.bets import BetKind
from bitcraps.events import EVENTS, BetLost, BetWon
from bitcraps.projections import leaderboard
from everwhen import Commit, Event, Fold, RecordedEvent, UnknownEvent, Write, open_store
from everwhen.exchange import Flights, Format, Xes, import_events
from everwhen.testing import ManualClock

INCIDENTS = Path("../shared/data/bpic2013_incidents.xes.gz")
PLAYERS = 1_000
PER_GAME = 200
PER_COMMIT = 10
PER_BATCH = 2_000
CASINO = [kind for kind in EVENTS if getattr(kind, "data_subject", None) is None]
"""The casino's events but for those about persons, which need a vault."""


class Counted(msgspec.Struct, frozen=True):
    amount: int = 0
    events: int = 0


class History(msgspec.Struct, frozen=True):
    """How a store is filled, and what is derived from it. ``build`` gets the number of events."""

    name: str
    types: Any
    board: Fold[Any]
    sums: Fold[Counted]
    build: Callable[[Path | str, int], None]


def histories() -> dict[str, History]:
    """Those that can be had here: logs only where their data is."""
    found = [History("casino", CASINO, leaderboard, counted, _build_casino)]
    if INCIDENTS.exists():
        incidents = _log(INCIDENTS, Xes(category="case"))
        found.append(History("incidents", [], by_person, events_counted, incidents))
    flights = Flights.data_file()
    if flights is not None:
        build = _log(flights, Flights(every=5))
        found.append(History("flights", [], by_flight, events_counted, build))
    return {history.name: history for history in found}


counted = Fold("counted", Counted)
events_counted = Fold("events-counted", Counted)
by_person: Fold[dict[str, int]] = Fold("by-person", dict, copy=dict.copy, state=dict[str, int])
by_flight: Fold[dict[str, int]] = Fold("by-flight", dict, copy=dict.copy, state=dict[str, int])


@counted.on(BetWon)
def _won(state: Counted, event: BetWon) -> Counted:
    return Counted(state.amount + event.payout, state.events + 1)


@counted.on(BetLost)
def _lost(state: Counted, event: BetLost) -> Counted:
    del event
    return Counted(state.amount, state.events + 1)


@events_counted.otherwise
def _counted(state: Counted, recorded: RecordedEvent[Any]) -> Counted:
    del recorded
    return Counted(state.amount + 1, state.events + 1)


@by_person.otherwise
def _by_person(state: dict[str, int], recorded: RecordedEvent[Any]) -> dict[str, int]:
    person = recorded.data.get("org:resource")
    if person is not None:
        state[person] = state.get(person, 0) + 1
    return state


@by_flight.otherwise
def _by_flight(state: dict[str, int], recorded: RecordedEvent[Any]) -> dict[str, int]:
    """The minutes that the flights of a number have been late."""
    if recorded.type == "FlightArrived":
        flight = "-".join(recorded.stream.split("-")[4:6])
        state[flight] = state.get(flight, 0) + recorded.data["arrival_delay"]
    return state


def _build_casino(path: Path | str, events: int) -> None:
    clock, rng = ManualClock(), random.Random(7)
    with open_store(path, events=CASINO, clock=clock, durable=False) as store:
        for first in range(0, events // PER_COMMIT, PER_BATCH):
            clock.advance(1)
            store.commit_batch(
                Commit(
                    (Write(_game(number), [_bet(rng, _game(number)) for _ in range(PER_COMMIT)]),)
                )
                for number in range(first, min(first + PER_BATCH, events // PER_COMMIT))
            )


def _game(number: int) -> str:
    """Games of 200 events, a hundred of them at a time."""
    hundred, place = divmod(number, 100 * PER_GAME // PER_COMMIT)
    return f"game-{hundred * 100 + place % 100}"


def _bet(rng: random.Random, game: str) -> Event:
    player = f"player-{rng.randrange(PLAYERS)}"
    if rng.random() < 0.5:
        return BetWon(game, player, 1, BetKind.PASS, None, 10, 10)
    return BetLost(game, player, 1, BetKind.PASS, None, 10)


def _log(source: Path, format_: Format) -> Callable[[Path | str, int], None]:
    """Imports a log, and writes it again and again: each time on streams of its own."""

    def build(path: Path | str, events: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            with open_store(Path(folder) / "log.db", durable=False) as imported:
                import_events(imported, source, format_, skip_invalid=True)
                log = [
                    (event.stream, UnknownEvent(event.type, event.data))
                    for event in imported.read()
                    if not event.stream.startswith("log-")
                ]
        clock, repeated = ManualClock(), islice(_repeated(log), events)
        with open_store(path, clock=clock, durable=False) as store:
            while batch := list(islice(repeated, PER_BATCH * PER_COMMIT)):
                clock.advance(1)
                store.commit_batch(
                    Commit([Write(stream, [event]) for stream, event in batch[i : i + PER_COMMIT]])
                    for i in range(0, len(batch), PER_COMMIT)
                )

    return build


def _repeated(log: list[tuple[str, UnknownEvent]]) -> Iterator[tuple[str, UnknownEvent]]:
    number = 0
    while True:
        for stream, event in log:
            yield (f"{stream}-{number}" if number else stream), event
        number += 1
