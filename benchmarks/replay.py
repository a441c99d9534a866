"""A fold replayed by one process, and by two.

    python -m benchmarks.replay [--events N] [--sealed] [--keep FILE]

Commits of one event over 5,000 streams in random order, as in `benchmarks.tiers`. A state of all of
it, by merging pieces; a state for each stream, by merging; and the same by shares of the streams,
for a fold that has no merge. Each is replayed in turn by one process and by two, and the states are
compared; the best of five turns counts. Seconds by the clock are what this machine had to spare.
Processor seconds tell what two free cores would take: the parts of both workers are folded by one,
in turn, and half of that is a worker's share, with its start, beside what this process does. The
last column leaves the start out, which is nothing in a long history.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from benchmarks.tiers import Placed, fill

from everwhen import Fold, Query, Store, open_store
from everwhen.store.replay_workers import LocalProcesses, Running
from everwhen.tiers import HistoryManager, HistoryPolicy

TURNS = 5


class Account(msgspec.Struct, frozen=True):
    """What a stream's events come to."""

    moves: int = 0
    amount: int = 0
    largest: int = 0


def placed(state: Account, event: Placed) -> Account:
    """One more."""
    amount = event.amount
    return Account(state.moves + 1, state.amount + amount, max(state.largest, amount))


merging: Fold[Account] = Fold("merging", Account)
merging.on(Placed)(placed)
alone: Fold[Account] = Fold("alone", Account)
alone.on(Placed)(placed)


@merging.merge
def _(earlier: Account, later: Account) -> Account:
    return Account(
        earlier.moves + later.moves,
        earlier.amount + later.amount,
        max(earlier.largest, later.largest),
    )


LINES: list[tuple[str, Fold[Account], Any]] = [
    ("one state, by merging", merging, None),
    ("by stream, by merging", merging, "stream"),
    ("by stream, no merge", alone, "stream"),
]


class Cost(msgspec.Struct):
    """Seconds: by the clock, of this process and of the workers."""

    wall: float
    here: float
    workers: float


def cost(work: Callable[[], Any]) -> tuple[Any, Cost]:
    """What it gives, and what it takes."""
    wall, here, before = time.perf_counter(), time.process_time(), _of_children()
    found = work()
    return found, Cost(
        time.perf_counter() - wall, time.process_time() - here, _of_children() - before
    )


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def best(costs: list[Cost]) -> Cost:
    """The least of each."""
    return Cost(*(min(getattr(c, n) for c in costs) for n in Cost.__struct_fields__))


class InTurn:
    """The parts of two workers, done by one."""

    workers = 2

    def started(self, tasks: Sequence[bytes]) -> AbstractContextManager[Running]:
        """The parts, under way."""
        return LocalProcesses(1).started(tasks)


def measured(store: Store, fold: Fold[Account], by: Any) -> list[Cost]:
    """What one process takes, two, and what two have to do."""
    ways: list[Any] = [1, 2, InTurn()]
    costs: list[list[Cost]] = [[] for _ in ways]
    for _ in range(TURNS):
        states = []
        for way, taken in zip(ways, costs, strict=True):
            found, took = cost(partial(store.replay, fold, workers=way, by=by))
            taken.append(took)
            states.append(found)
        assert states[0] == states[1] == states[2]
    return [best(taken) for taken in costs]


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--sealed", action="store_true", help="Seal all of it first.")
    parser.add_argument("--keep", type=Path, help="The store's file; made if it isn't there.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = asked.keep or Path(folder) / "replayed.db"
        is_new = not path.exists()
        with open_store(path, events=[Placed], durable=False) as store:
            if is_new:
                fill(store, asked.events, random.Random(1))
                if asked.sealed:
                    policy = HistoryPolicy(hot_duration=timedelta(), small_segments=True)
                    HistoryManager(store, policy).age()
            table(store)


def table(store: Store) -> None:
    """The lines."""
    events = store.head().position
    load = os.getloadavg()[0]
    print(f"{events:,} events; {os.cpu_count()} processors, load {load:.1f}\n")
    store.replay(merging, workers=1)  # what it reads is in memory after it
    nothing = Query().up_to(2)
    starts = [cost(lambda: store.replay(merging, nothing, workers=2))[1] for _ in range(TURNS)]
    start = best(starts).workers / 2
    print(f"a worker starts in {start:.2f} s of processor time\n")
    print("| | one: clock | cpu | two: clock | cpu of each | clock | cpu | without the start |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, fold, by in LINES:
        one, two, turns = measured(store, fold, by)
        each = start + (turns.workers - start) / 2
        print(
            f"| {name} | {one.wall:.2f} | {one.here:.2f} | {two.wall:.2f} | {each:.2f} "
            f"| {one.wall / two.wall:.2f} | {one.here / (each + turns.here):.2f} "
            f"| {one.here / (each - start + turns.here):.2f} |"
        )


if __name__ == "__main__":
    main()
