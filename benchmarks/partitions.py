"""One store in one file beside the same store in partitions: several processes that write.

    python -m benchmarks.partitions [--seconds S] [--processes N]

Each process appends to streams of its own, one durable commit of one event after another, or
batches of a hundred. The layouts take turns of a second or so, so that a busy machine disturbs both
alike; what counts is the ratio. The same is done by one process alone, and everything is read. It
depends on the disk whether syncs of several files go side by side: the first line says how fast one
process syncs a file, and how fast all of them sync one each.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

from everwhen import Commit, Query, Store, UnknownEvent, Write, open_store
from everwhen.backends.partitioned.strategies import partition_of
from everwhen.partitions import BySize, ByStream, ByTime, PartitionStrategy, open_partitioned_store

PARTITIONS = 4
ROUNDS = 5

LAYOUTS: dict[str, PartitionStrategy | None] = {
    "one file": None,
    "4 by stream": ByStream(PARTITIONS),
    "by time": ByTime(timedelta(days=1)),
    "by size": BySize(100_000),
}


def opened(folder: Path, name: str) -> Store:
    """The store of that layout."""
    strategy = LAYOUTS[name]
    if strategy is None:
        return open_store(folder / "one.db")
    return open_partitioned_store(folder / name.replace(" ", "-"), strategy)


def streams_of(number: int, processes: int) -> list[str]:
    """Ten streams of one process: all in the partition of its number, or of one alone anywhere."""
    if processes == 1:
        return [f"alone-{stream}" for stream in range(10)]
    found: list[str] = []
    stream = 0
    while len(found) < 10:
        name = f"p{number}-{stream}"
        if partition_of(name, PARTITIONS) == number % PARTITIONS:
            found.append(name)
        stream += 1
    return found


def event(number: int) -> UnknownEvent:
    """Some 130 bytes."""
    return UnknownEvent("Placed", {"number": number, "note": "the quick brown fox " * 5})


def write(store: Store, streams: list[str], batch: int, until: float) -> int:
    """Commits until then; how many."""
    done = 0
    while time.monotonic() < until:
        stream = streams[done % len(streams)]
        if batch == 1:
            store.append(stream, [event(done)])
        else:
            names = streams * (batch // len(streams))
            store.commit_batch([Commit([Write(s, [event(n)])]) for n, s in enumerate(names)])
        done += batch
    return done


def worker(
    folder: Path, number: int, plan: list[tuple[str, int, float]], ready: Barrier, results: str
) -> None:
    """One process: takes its turn in each round, together with the others."""
    counts = []
    stores = {name: opened(folder, name) for name in LAYOUTS}
    for name, batch, seconds in plan:
        ready.wait()
        until = time.monotonic() + seconds
        counts.append(write(stores[name], streams_of(number, ready.parties), batch, until))
    for store in stores.values():
        store.close()
    Path(results, str(number)).write_text(" ".join(map(str, counts)))


def side_by_side(folder: Path, processes: int, seconds: float) -> None:
    """Commits a second of each layout, with that many processes."""
    for batch in (1, 100):
        names = list(LAYOUTS)
        plan = [(name, batch, seconds) for _ in range(ROUNDS) for name in names]
        with tempfile.TemporaryDirectory() as results:
            context = multiprocessing.get_context("spawn")
            ready = context.Barrier(processes)
            workers = [
                context.Process(target=worker, args=(folder, number, plan, ready, results))
                for number in range(processes)
            ]
            for process in workers:
                process.start()
            for process in workers:
                process.join()
            counts = [
                [int(count) for count in Path(results, str(number)).read_text().split()]
                for number in range(processes)
            ]
        totals = [sum(column) for column in zip(*counts, strict=True)]
        rates = {name: [*totals[i :: len(names)]] for i, name in enumerate(names)}
        kind = "one commit at a time" if batch == 1 else f"batches of {batch} commits"
        print(f"{processes} processes, {kind}")
        for name, found in rates.items():
            ratios = [a / b for a, b in zip(found, rates["one file"], strict=True)]
            rate = statistics.median(found) / seconds
            print(f"  {name:12} {rate:>9,.0f} commits/s   x {statistics.median(ratios):.2f}")


def reading(folder: Path) -> None:
    """Reading the same history from one file and from partitions."""
    commits, stores = 20_000, {name: opened(folder / "read", name) for name in LAYOUTS}
    for store in stores.values():
        for start in range(0, commits, 1_000):
            store.commit_batch(
                Commit([Write(f"s-{n % 500}", [event(n)])]) for n in range(start, start + 1_000)
            )
    print(f"reading {commits:,} commits of one event, by the processor")
    costs: dict[str, list[float]] = {name: [] for name in stores}
    asked: dict[str, Callable[[Store], object]] = {
        "everything": lambda store: sum(len(page) for page in store.read_pages()),
        "200 streams, one by one": lambda store: [
            len(list(store.read(f"s-{n}"))) for n in range(200)
        ],
        "one type": lambda store: sum(
            len(page) for page in store.read_pages(Query().types("Placed"))
        ),
    }
    for what, ask in asked.items():
        for found in costs.values():
            found.clear()
        for _ in range(ROUNDS):
            for name, store in stores.items():
                began = time.process_time()
                ask(store)
                costs[name].append(time.process_time() - began)
        best = {name: min(found) for name, found in costs.items()}
        shown = ", ".join(f"{name} x {cost / best['one file']:.2f}" for name, cost in best.items())
        print(f"  {what}: {best['one file'] * 1_000:.0f} ms; {shown}")
    for store in stores.values():
        store.close()


def _synced(folder: Path, number: int, seconds: float, results: str) -> None:
    """How often a process syncs a file of its own."""
    done = 0
    until = time.monotonic() + seconds
    with Path(folder, f"sync-{number}").open("wb") as file:
        while time.monotonic() < until:
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
            done += 1
    Path(results, str(number)).write_text(str(done))


def syncs(folder: Path, processes: int, seconds: float) -> None:
    """What the disk can do."""
    rates = []
    for count in (1, processes):
        with tempfile.TemporaryDirectory() as results:
            context = multiprocessing.get_context("spawn")
            workers = [
                context.Process(target=_synced, args=(folder, n, seconds, results))
                for n in range(count)
            ]
            for process in workers:
                process.start()
            for process in workers:
                process.join()
            done = sum(int(Path(results, str(n)).read_text()) for n in range(count))
        rates.append(done / seconds)
    print(
        f"syncs a second: {rates[0]:,.0f} of one file, {rates[1]:,.0f} of {processes} files side "
        f"by side (x {rates[1] / rates[0]:.2f}); {os.cpu_count()} processors"
    )


def main() -> None:
    """Run it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=1.0)
    options.add_argument("--processes", type=int, default=4)
    options.add_argument("--folder", type=Path, help="on the disk that counts")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        (folder / "read").mkdir()
        syncs(folder, given.processes, given.seconds)
        for layout in LAYOUTS:
            opened(folder, layout).close()
        side_by_side(folder, given.processes, given.seconds)
        side_by_side(folder, 1, given.seconds)
        reading(folder)


if __name__ == "__main__":
    main()
