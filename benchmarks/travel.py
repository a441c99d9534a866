"""Time travel in histories of 100 thousand, a million and ten million events.

    python -m benchmarks.travel [--events N ...] [--json FILE]

The history is that of BitCraps: bets of a thousand players, settled in games of 200 events each,
and its own leaderboard. Each size runs in a process of its own. "flat" compares the largest with
the smallest.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from bitcraps.bets import BetKind
from bitcraps.events import EVENTS, BetLost, BetWon
from bitcraps.projections import leaderboard
from everwhen import Commit, Event, Fold, Store, TimeMachine, Write, diff, open_store
from everwhen.testing import ManualClock

PLAYERS = 1_000
PER_GAME = 200
PER_COMMIT = 10
PER_BATCH = 2_000
JOURNEYS = 400


class Entity(msgspec.Struct, frozen=True):
    number: int
    value: int


class Counted(msgspec.Struct, frozen=True):
    won: int = 0
    lost: int = 0


counted = Fold("counted", Counted)


@counted.on(BetWon)
def _won(state: Counted, event: BetWon) -> Counted:
    return Counted(state.won + event.payout, state.lost)


@counted.on(BetLost)
def _lost(state: Counted, event: BetLost) -> Counted:
    return Counted(state.won, state.lost + event.stake)


def build(path: Path, events: int) -> None:
    clock, rng = ManualClock(), random.Random(7)
    with open_store(path, events=EVENTS, clock=clock, durable=False) as store:
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


def timed(call: Callable[[], Any]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1e3


def spread(name: str, figures: list[float]) -> dict[str, float]:
    figures.sort()
    return {
        f"{name}, ms, median": figures[len(figures) // 2],
        f"{name}, ms, 99 %": figures[int(len(figures) * 0.99)],
    }


def measured(path: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    with open_store(path, events=EVENTS, durable=False) as store:
        head = store.head().position
        machine = TimeMachine(store, leaderboard)
        found["prepare, events/s"] = head / timed(machine.prepare) * 1e3
        kept = store.snapshots("travel/leaderboard", limit=1_000_000)
        found["waypoints, MB"] = sum(len(snapshot.state) for snapshot in kept) / 1e6
    with open_store(path, events=EVENTS, durable=False) as store:
        machine = TimeMachine(store, leaderboard)
        places = [random.randint(1, head) for _ in range(JOURNEYS)]
        found |= spread("travel", [timed(partial(machine.travel_to, p)) for p in places])
        found |= spread("a game of 200", [_to_a_game(store, head) for _ in range(JOURNEYS)])
        steps = [took for p in places[:100] for took in _stepped(machine, p)]
        found |= spread("step or back", steps)
    with open_store(path, events=EVENTS, durable=False) as store:
        found |= _searched(TimeMachine(store, leaderboard), TimeMachine(store, counted), head)
    return found


def _to_a_game(store: Store, head: int) -> float:
    game = f"game-{random.randrange(head // PER_GAME)}"
    return timed(lambda: TimeMachine(store, counted, game).travel_to(head))


def _stepped(machine: TimeMachine[Any], place: int) -> list[float]:
    """Going there is not counted."""
    machine.travel_to(place)
    here, took = place, []
    for steps in (1, -1, -1, 1, -1):
        began = time.perf_counter()
        here = machine.moved(here, steps)
        if here:
            machine.step_at(here)
        took.append((time.perf_counter() - began) * 1e3)
    return took


def _searched(machine: TimeMachine[Any], sums: TimeMachine[Counted], head: int) -> dict[str, float]:
    sums.prepare()
    total = sums.travel_to(head).state.won
    mid = sums.travel_to(head // 3).state.won
    back = sums.travel_to(max(1, head - 1_000_000)).state.won
    hero = "player-7"
    most = machine.find_when(lambda s: s["player-7"] < -10_000_000)
    assert most is None
    return {
        "find, monotone, ms": timed(lambda: sums.find_when(lambda s: s.won >= mid, monotone=True)),
        "find, by reads, index built, ms": timed(
            lambda: machine.find_when(lambda s: s[hero] < -9e9)
        ),
        "find, event by event, events/s": head
        / timed(lambda: sums.find_when(lambda s: s.won > total, tracked=False))
        * 1e3,
        "last, 1 M events back, ms": timed(
            lambda: sums.find_when(
                lambda s: s.won <= back, last=True, start=max(0, head - 10**6 - 5)
            )
        ),
        "last write, by index, ms": timed(lambda: machine.last_write((hero,), head // 2)),
        "next write, no index, ms": timed(lambda: machine.next_write(("player-8",), head // 2)),
    }


def differing() -> dict[str, float]:
    before = {f"entity-{n}": Entity(n, 0) for n in range(100_000)}
    after = dict(before)
    for n in random.sample(range(100_000), 10):
        after[f"entity-{n}"] = Entity(n, 1)
    took = [timed(lambda: diff(before, after)) for _ in range(50)]
    assert len(diff(before, after)) == 10
    return spread("diff, 10 of 100,000", took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, nargs="*", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    alone = multiprocessing.get_context("spawn")
    results: dict[str, dict[str, float]] = {"": differing()}
    for name, figure in results[""].items():
        print(f"{name:<36}{figure:>14,.3f}", flush=True)
    for events in given.events:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "craps.db"
            build(path, events)
            with ProcessPoolExecutor(1, mp_context=alone) as process:
                results[str(events)] = process.submit(measured, path).result()
        print(f"\n{events:,} events")
        for name, figure in results[str(events)].items():
            print(f"{name:<36}{figure:>14,.3f}", flush=True)
    smallest, largest = results[str(given.events[0])], results[str(given.events[-1])]
    flat = largest["travel, ms, 99 %"] / smallest["travel, ms, 99 %"]
    print(f"\n{'travel, flat (wanted: at most 2)':<36}{flat:>14,.2f}")
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
