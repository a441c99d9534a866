"""A long history: what an append costs at its end, and finding a moment in it.

    python -m benchmarks.long_history append [--commits N]
    python -m benchmarks.long_history moments [--commits N] [--tiles N]

``append`` writes ten million commits of one event over 5,000 streams in random order, then some
more at the end, once while all of it is in rows, and once when it is sealed. ``moments`` seals a
hundred thousand such commits, tiles what was sealed a thousand times, each tile later than the one
before, and looks for moments in all of it. Disk: 3 GB, and 6 GB.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import msgspec
from benchmarks.tiers import SEALING, Placed, cost, fill, median

from everwhen import Query, Store, open_store
from everwhen.backends.chunks import MAX_FRAME_BYTES, chunk_of, parts_of
from everwhen.system.compression import Compressor
from everwhen.tiers import HistoryManager

ROUNDS, PER_ROUND = 5, 40_000


def opened(path: Path) -> Store:
    """The store; nothing waits for the disk."""
    return open_store(path, events=[Placed], durable=False)


def seal(path: Path) -> float:
    """Seal all of a file; the processor seconds."""
    with opened(path) as store:
        return cost(HistoryManager(store, SEALING).age, 1)


# Appending at the end


def at_the_end(path: Path) -> tuple[float, float]:
    """Microseconds for a commit, in batches: by the processor, and by the clock. Medians."""
    used: list[float] = []
    waited: list[float] = []
    with opened(path) as store:
        for turn in range(ROUNDS):
            chance = random.Random(turn)
            began, clock = time.process_time(), time.perf_counter()
            fill(store, PER_ROUND, chance)
            used.append((time.process_time() - began) / PER_ROUND * 1e6)
            waited.append((time.perf_counter() - clock) / PER_ROUND * 1e6)
    return statistics.median(used), statistics.median(waited)


def append(folder: Path, commits: int) -> None:
    """Print what a commit costs at the end of rows, and of sealed history."""
    path = folder / "store.db"
    with opened(path) as store:
        fill(store, commits, random.Random(1))
    rows = at_the_end(path)
    sealing = seal(path)
    sealed = at_the_end(path)
    print(f"after {commits:,} commits of one event, in batches\n")
    print("| µs for a commit | rows | sealed | ratio |\n|---|--:|--:|--:|")
    for name, before, after in zip(
        ("of processor time", "by the clock"), rows, sealed, strict=True
    ):
        print(f"| {name} | {before:.1f} | {after:.1f} | {before / after:.2f} |")
    print(f"\nsealing: {sealing / (commits + ROUNDS * PER_ROUND) * 1e6:.1f} µs a slice")


# Moments


def tile(path: Path, tiles: int) -> None:
    """Put what was sealed after itself again and again: positions and times go on rising."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA synchronous = OFF")
    dictionary: Any = connection.execute("SELECT data FROM dictionaries").get
    compressor = Compressor(dictionary)
    chunks = [
        (int(first_time), _frames(compressor, data, int(last)))
        for last, first_time, data in connection.execute(
            "SELECT last, first_time, data FROM chunks"
        )
    ]
    bounds = "SELECT max(last), max(last_time) - min(first_time) + 1 FROM segments"
    measures: Any = connection.execute(bounds).fetchone()
    width, span = measures
    for number in range(1, tiles):
        by, later = number * width, number * span
        with connection:
            for first_time, frames in chunks:
                moved = [
                    (last + by, compressor.compress(_moved(frame, by, later)))
                    for last, frame in frames
                ]
                row = moved[-1][0], first_time + later, chunk_of(moved)
                connection.execute("INSERT INTO chunks VALUES (?, ?, 1, ?)", row)
            connection.execute(
                "INSERT INTO segments SELECT last + ?1, first + ?1, slices, first_time + ?2, "
                "last_time + ?2, bytes, sha256 FROM segments WHERE last <= ?3",
                (by, later, width),
            )
    connection.close()


def _frames(compressor: Compressor, data: Any, last: int) -> list[tuple[int, list[Any]]]:
    """The frames of a chunk, each with the position of its last event."""
    decode = msgspec.msgpack.decode
    return [
        (end, decode(compressor.decompress(data[begins:ends], MAX_FRAME_BYTES)))
        for begins, ends, end in parts_of(data, last)
    ]


def _moved(frame: list[Any], positions: int, micros: int) -> bytes:
    """The frame, later; see `everwhen.codec.frames`."""
    before, began, *rest = frame
    return msgspec.msgpack.encode((before + positions, began + micros, *rest))


def moments(folder: Path, commits: int, tiles: int) -> None:
    """Print what it takes to find a moment."""
    path = folder / "store.db"
    with opened(path) as store:
        fill(store, commits, random.Random(1))
    seal(path)
    print("| positions | first look, ms | a moment, ms of processor time |\n|--:|--:|--:|")
    for times in (1, tiles):
        tile(path, times)
        with opened(path) as store:
            head = store.head()
            assert head.recorded_at is not None
            first = next(iter(store.read(Query().limit(1)))).recorded_at
            chance = random.Random(2)
            span = head.recorded_at - first
            looks = [partial(store.position_at, first + span * chance.random()) for _ in range(400)]
            began = time.perf_counter()
            looks[0]()
            cold = time.perf_counter() - began
            print(f"| {head.position:,} | {cold * 1e3:.2f} | {median(iter(looks)) * 1e3:.3f} |")


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["append", "moments"])
    parser.add_argument("--commits", type=int, help="ten million, or a hundred thousand")
    parser.add_argument("--tiles", type=int, default=1_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "append":
            append(Path(folder), options.commits or 10_000_000)
        else:
            moments(Path(folder), options.commits or 100_000, options.tiles)


if __name__ == "__main__":
    main()
