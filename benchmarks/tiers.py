"""Sealed history beside the same history in rows, and what sealing costs.

    python -m benchmarks.tiers [--quick]

Commits of one event (some 130 bytes: a number, a player, a sentence; one tag of 20,000) over 5,000
streams in random order, in one file. Each question is asked of the rows, then all of it is sealed,
then archived in a folder, and the same questions are asked each time, in one process. Figures are
processor time, the best of several turns; what a writer waited while history was sealed, and then
the file was compacted, is by the clock.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from everwhen import Commit, Event, Fold, Query, Store, Write, open_store
from everwhen.tiers import HistoryManager, HistoryPolicy

STREAMS, PLAYERS, WORDS = (
    5_000,
    20_000,
    ["the", "quick", "brown", "fox", "jumps", "over", "seven", "lazy", "dogs"],
)


class Placed(Event):
    """What is written."""

    tag_fields = ("player",)

    player: str
    amount: int
    note: str


SEALING = HistoryPolicy(hot_duration=timedelta(), small_segments=True)

total = Fold("total", int)


@total.on(Placed)
def _(state: int, event: Placed) -> int:
    return state + event.amount


def fill(store: Store, commits: int, chance: random.Random) -> None:
    """Write that many commits of one event."""
    for _ in range(0, commits, 4_000):
        store.commit_batch([_commit(chance) for _ in range(4_000)])


def _commit(chance: random.Random) -> Commit:
    note = " ".join(chance.choices(WORDS, k=8))
    event = Placed(f"p{chance.randrange(PLAYERS)}", chance.randrange(1_000), note)
    return Commit([Write(f"game-{chance.randrange(STREAMS)}", [event])])


def cost(work: Callable[[], object], turns: int) -> float:
    """Processor seconds, the best of so many turns."""
    found: list[float] = []
    for _ in range(turns):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def median(works: Iterator[Callable[[], object]]) -> float:
    """Processor seconds of one of them, by the median."""
    return statistics.median(cost(work, 1) for work in works)


def _all(store: Store, query: Query) -> list[object]:
    return list(store.read(query))


def figures(store: Store, commits: int, times: int = 400) -> dict[str, float]:
    """The questions, in microseconds: of an event for the first two, else of one question.

    One position is asked for so many ``times``, a stream and a tag a tenth as often.
    """
    chance = random.Random(2)

    def read_all() -> int:
        return sum(event.position > 0 and event.type == "Placed" for event in store.read())

    def points() -> Iterator[Callable[[], object]]:
        for _ in range(times):
            position = chance.randrange(1, commits)
            query = Query().after(position - 1).up_to(position)
            yield partial(_all, store, query)

    def selections(name: str) -> Iterator[Callable[[], object]]:
        for number in range(times // 10):
            query = Query()
            if name == "stream":
                query = query.stream(f"game-{number * 7}")
            else:
                query = query.tags(f"player:p{number * 7}")
            yield partial(_all, store, query)

    first = next(iter(store.read())).recorded_at
    span = next(iter(store.read(Query().backwards()))).recorded_at - first
    moments = [first + span * (n / 100) for n in range(100)]
    turns = 5 if times > 100 else 1
    return {
        "read all, an event": cost(read_all, turns) / commits * 1e6,
        "fold all, an event": cost(lambda: store.fold(total, Query()), turns) / commits * 1e6,
        "one position": median(points()) * 1e6,
        "one stream": median(selections("stream")) * 1e6,
        "one tag": median(selections("tag")) * 1e6,
        "a moment": median(partial(store.position_at, at) for at in moments) * 1e6,
    }


def beside_writers(path: Path, store: Store, work: Callable[[], object]) -> tuple[float, str]:
    """Seconds of processor time for the work, and what writers waited meanwhile.

    One writes in a thread of this process, whose time is in the first figure, and one in a process
    of its own.
    """
    ours: list[float] = []
    done = threading.Event()
    writer = threading.Thread(target=_write, args=(store, ours, done.is_set))
    context = multiprocessing.get_context("spawn")
    pipe, end = context.Pipe()
    process = context.Process(target=_write_apart, args=(path, end))
    process.start()
    pipe.recv()
    writer.start()
    began = time.process_time()
    work()
    used = time.process_time() - began
    done.set()
    writer.join()
    pipe.send("done")
    theirs: list[float] = pipe.recv()
    process.join()
    return used, f"a writer waited {_waited(ours)}, one in another process {_waited(theirs)}"


def seal_apart(path: Path) -> None:
    """Seal all of a file, in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=_seal, args=(path,))
    process.start()
    process.join()


def _seal(path: Path) -> None:
    with open_store(path, events=[Placed], durable=False) as store:
        HistoryManager(store, SEALING).age()


def _write(store: Store, waits: list[float], is_over: Callable[[], bool]) -> None:
    chance = random.Random(3)
    while not is_over():
        began = time.perf_counter()
        store.commit(_commit(chance))
        waits.append(time.perf_counter() - began)
        time.sleep(0.005)


def _write_apart(path: Path, pipe: Connection) -> None:
    waits: list[float] = []
    with open_store(path, events=[Placed], durable=False) as store:
        pipe.send("ready")
        _write(store, waits, pipe.poll)
    pipe.send(waits)


def _waited(waits: list[float]) -> str:
    waits.sort()
    rare = waits[-1 - len(waits) // 1_000]
    return f"{rare * 1e3:.0f} ms (99.9 % of {len(waits):,}), {waits[-1] * 1e3:.0f} ms at most"


def archiving(store: Store, commits: int, folder: Path) -> float:
    """Microseconds of processor time for a slice."""
    began = time.process_time()
    policy = HistoryPolicy(archive_after=timedelta())
    HistoryManager(store, policy, archive=folder).age()
    return (time.process_time() - began) / commits * 1e6


def bytes_in(*paths: Path) -> int:
    """The bytes of files, and of the files in folders."""
    files = [file for path in paths for file in (path.iterdir() if path.is_dir() else [path])]
    return sum(file.stat().st_size for file in files)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    commits = 100_000 if parser.parse_args().quick else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path, far = Path(folder) / "store.db", Path(folder) / "archive"
        with open_store(path, events=[Placed], durable=False) as store:
            fill(store, commits, random.Random(1))
            hot = figures(store, commits)
        hot_bytes = bytes_in(path) / commits
        with open_store(path, events=[Placed], durable=False) as store:
            manager = HistoryManager(store, SEALING)
            _, while_idle = beside_writers(path, store, partial(time.sleep, 10))
            sealing, while_sealing = beside_writers(path, store, manager.age)
            sealing /= store.head().position
            cold = figures(store, commits)
            fill(store, commits // 5, random.Random(4))
            _, while_apart = beside_writers(path, store, partial(seal_apart, path))
            compacting, while_compacting = beside_writers(path, store, manager.compact)
            commits = store.head().position
        cold_bytes = bytes_in(path) / commits
        with open_store(path, events=[Placed], durable=False) as store:
            archive_cost = archiving(store, commits, far)
            archived = figures(store, commits, times=20)
            HistoryManager(store, HistoryPolicy()).compact()
        print(f"{commits:,} commits of one event\n")
        print("| | rows | sealed | ratio | archived |\n|---|--:|--:|--:|--:|")
        for name, before in hot.items():
            now, later = cold[name], archived[name]
            print(f"| {name}, µs | {before:.2f} | {now:.2f} | {before / now:.2f} | {later:.2f} |")
        index, objects = bytes_in(path) / commits, bytes_in(far) / commits
        print(f"| an event, bytes | {hot_bytes:.0f} | {cold_bytes:.0f} |", end="")
        print(f" {hot_bytes / cold_bytes:.2f} | {index:.0f} + {objects:.0f} |")
        print(f"\nnothing: {while_idle}")
        print(f"sealing: {sealing * 1e6:.1f} µs a slice; {while_sealing}")
        print(f"sealing in a process of its own: {while_apart}")
        print(f"compacting: {compacting:.2f} s; {while_compacting}")
        print(f"archiving: {archive_cost:.1f} µs a slice")


if __name__ == "__main__":
    main()
