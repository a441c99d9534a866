"""A store of ten million events: opening it, moments, reading, folding and projecting it.

    python -m benchmarks.large [--events N] [--commit N] [--json FILE]

Each measurement runs in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from everwhen import (
    Commit,
    Event,
    Fold,
    Projection,
    ProjectionRunner,
    Query,
    RecordedEvent,
    Store,
    TableProjection,
    Tables,
    Write,
    open_store,
)
from everwhen.testing import ManualClock

STREAMS = 100_000
PER_BATCH = 2_000


class BetPlaced(Event):
    player: int
    amount: int
    table: str
    note: str


def opened(path: Path) -> Store:
    return open_store(path, events=[BetPlaced], read_only=True)


def build(path: Path, events: int, size: int) -> float:
    """Events per second, written in commits of ``size``, a second apart for each batch."""
    clock = ManualClock()
    began = time.perf_counter()
    with open_store(path, events=[BetPlaced], clock=clock, durable=False) as store:
        for batch in range(0, events // size, PER_BATCH):
            clock.advance(1)
            store.commit_batch(
                Commit((Write(f"game-{n * 7_919 % STREAMS}", _events(n, size)),))
                for n in range(batch, min(batch + PER_BATCH, events // size))
            )
    return events / (time.perf_counter() - began)


def _events(number: int, size: int) -> list[BetPlaced]:
    return [BetPlaced(number, 5, "table-17", "x" * 46) for _ in range(size)]


def opening(path: Path) -> dict[str, float]:
    """Milliseconds from a path to the first answer, and to find a moment (median, 99 %)."""
    began = time.perf_counter()
    store = opened(path)
    head = store.head()
    first = time.perf_counter() - began
    start = next(store.read(Query().limit(1))).recorded_at
    assert head.recorded_at is not None
    found = sorted(_search(store, start, head.recorded_at) for _ in range(2_000))
    return {
        "open and head, ms": first * 1e3,
        "find a moment, ms, median": statistics.median(found) * 1e3,
        "find a moment, ms, 99 %": found[int(len(found) * 0.99)] * 1e3,
    }


def _search(store: Store, first: datetime, last: datetime) -> float:
    moment = first + random.random() * (last - first)
    began = time.perf_counter()
    store.position_at(moment)
    return time.perf_counter() - began


def reading(path: Path) -> dict[str, float]:
    """Events per second as recorded events; the peak of memory early on, and in the end."""
    count = early = 0
    began = time.perf_counter()
    with opened(path) as store:
        total = store.head().position
        for recorded in store.read():
            count += recorded.version > 0
            if count == total // 20:
                early = _peak()
    return {
        "read all, events/s": count / (time.perf_counter() - began),
        "memory after 5 % of it, MB": early / 1e6,
        "memory after all of it, MB": _peak() / 1e6,
    }


def folding(path: Path) -> dict[str, float]:
    """Typed events per second through a fold."""
    staked = Fold("staked", int)
    staked.on(BetPlaced)(lambda state, event: state + event.amount)
    began = time.perf_counter()
    with opened(path) as store:
        total = store.head().position
        assert store.fold(staked) == 5 * total
    return {"typed fold, events/s": total / (time.perf_counter() - began)}


def projecting(path: Path) -> dict[str, float]:
    """Events per second through a runner with a state in memory, and then one with tables."""
    staked = Fold("staked", int)
    staked.on(BetPlaced)(lambda state, event: state + event.amount)
    in_memory = Projection(staked)
    in_tables = TableProjection(
        "stakes", "CREATE TABLE {stakes} (stream TEXT PRIMARY KEY, staked INTEGER) WITHOUT ROWID"
    )

    @in_tables.on(BetPlaced)
    def stake(tables: Tables, placed: RecordedEvent[BetPlaced]) -> None:
        tables.execute(
            "INSERT INTO {stakes} VALUES (?, ?)"
            " ON CONFLICT DO UPDATE SET staked = staked + excluded.staked",
            (placed.stream, placed.event.amount),
        )

    figures: dict[str, float] = {}
    with open_store(path, events=[BetPlaced]) as store:
        total = store.head().position
        for name, projection in (("in memory", in_memory), ("in tables", in_tables)):
            runner = ProjectionRunner(store, [projection])
            began = time.perf_counter()
            early: list[int] = []

            def progress(at: int, goal: int, early: list[int] = early) -> None:
                if at > goal // 20 and not early:
                    early.append(_peak())

            runner.catch_up(progress)
            figures[f"projection {name}, events/s"] = total / (time.perf_counter() - began)
            figures[f"memory after 5 % of it, {name}, MB"] = early[0] / 1e6
            figures[f"memory after all of it, {name}, MB"] = _peak() / 1e6
            runner.close()
    return figures


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_its_own_process(work: Callable[..., Any], *args: Any) -> Any:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(work, *args).result()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=10_000_000)
    arguments.add_argument("--commit", type=int, default=10, help="events in a commit")
    arguments.add_argument("--json", type=Path, help="also write the figures there")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="everwhen-bench-") as folder:
        path = Path(folder) / "large.db"
        rate = in_its_own_process(build, path, options.events, options.commit)
        figures = {"events": float(options.events), "events in a commit": float(options.commit)}
        figures |= {"write in batches, not durable, events/s": rate}
        figures |= {"on disk, MB": path.stat().st_size / 1e6}
        for work in (opening, reading, folding, projecting):
            figures |= in_its_own_process(work, path)
    for name, figure in figures.items():
        print(f"{name:44s} {figure:,.{3 if figure < 100 else 0}f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
