"""What branches cost: making one at two sizes, and reading through three of them.

    python -m benchmarks.branches [--quick] [--json FILE]

On SQLite files with the defaults, durable. A branch is made with ``create_branch``, which also
opens it, and with the registration alone. For reading, one history is there twice: whole in a
store, and in four parts, a store and three branches, each forked off the one before. Rounds are
taken in turn; figures are medians, and what counts are the ratios of one run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from everwhen import Commit, Event, Fold, Query, Store, Write, open_store


class Noted(Event):
    number: int


count = Fold("count", lambda: 0)


@count.on(Noted)
def _noted(state: int, event: Noted) -> int:
    del event
    return state + 1


STREAMS = 1_000


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def fill(store: Store, first: int, events: int) -> None:
    """Commits of ten events each, over a thousand streams."""
    for start in range(first, first + events, 10_000):
        store.commit_batch(
            Commit([Write(f"s-{n // 10 % STREAMS}", [Noted(n + i) for i in range(10)])])
            for n in range(start, min(start + 10_000, first + events), 10)
        )


def creation(folder: Path, events: int, rounds: int) -> dict[str, float]:
    """Milliseconds to make a branch of a store of that size."""
    with open_store(folder / f"{events}.db", events=[Noted]) as store:
        fill(store, 0, events)
        head = store.head().position
        taken: dict[str, list[float]] = {"at the head": [], "in the middle": [], "registration": []}
        for number in range(rounds):
            for name, at in (("at the head", None), ("in the middle", head // 20 * 10)):
                began = time.perf_counter()
                with store.create_branch(f"{name} {number}", at):
                    taken[name].append(time.perf_counter() - began)
            fork = store.kernel.branches.fork_at(store.kernel.backend, "x", None)
            began = time.perf_counter()
            store.kernel.branches.create(f"registered {number}", None, fork, 0)
            taken["registration"].append(time.perf_counter() - began)
    return {name: statistics.median(times) * 1_000 for name, times in taken.items()}


def reading(folder: Path, events: int, rounds: int) -> dict[str, float]:
    """Times through three branches, as multiples of those in a store of the same history."""
    part = events // 4
    with (
        open_store(folder / "whole.db", events=[Noted]) as whole,
        open_store(folder / "parts.db", events=[Noted]) as first,
    ):
        fill(whole, 0, part * 4)
        fill(first, 0, part)
        last = first
        for number in range(1, 4):
            last = last.create_branch(f"b{number}")
            fill(last, part * number, part)
        assert last.head().position == whole.head().position
        stores = {"whole": whole, "branch": last}
        jobs: dict[str, Callable[[Store], object]] = {
            "read": lambda store: sum(len(page) for page in store.read_pages()),
            "fold": lambda store: store.fold(count),
            "read backwards": lambda store: sum(
                len(page) for page in store.read_pages(Query().backwards())
            ),
            "one stream, 100 times": lambda store: [
                store.fold(count, f"s-{n}") for n in range(100)
            ],
            "parent's part": lambda store: sum(
                len(page) for page in store.read_pages(Query().up_to(part))
            ),
        }
        found: dict[str, float] = {}
        for name, job in jobs.items():
            times: dict[str, list[float]] = {"whole": [], "branch": []}
            for store in stores.values():
                job(store)
            for _ in range(rounds):
                for which, store in stores.items():
                    times[which].append(seconds(lambda job=job, store=store: job(store)))  # type: ignore[misc]
            found[name] = statistics.median(times["branch"]) / statistics.median(times["whole"])
    return found


def appending(folder: Path, rounds: int) -> float:
    """One durable append to a branch, as a multiple of one to its parent."""
    with open_store(folder / "appending.db", events=[Noted]) as store:
        fill(store, 0, 10_000)
        with store.create_branch("b") as branch:
            times: dict[str, list[float]] = {"store": [], "branch": []}
            for number in range(rounds * 50):
                for name, one in (("store", store), ("branch", branch)):
                    event = [Noted(number)]
                    append = lambda one=one, event=event: one.append("s-1", event)  # noqa: E731
                    times[name].append(seconds(append))
    return statistics.median(times["branch"]) / statistics.median(times["store"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the size")
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args()
    small, large, rounds = (1_000, 100_000, 15) if given.quick else (1_000, 1_000_000, 31)
    with tempfile.TemporaryDirectory(prefix="everwhen-benchmark-") as name:
        folder = Path(name)
        made = {size: creation(folder, size, rounds) for size in (small, large)}
        read = reading(folder, large // 2, max(5, rounds // 3))
        appended = appending(folder, rounds)
    for what in made[small]:
        ratio = made[large][what] / made[small][what]
        print(
            f"make, {what:15} {made[small][what]:6.2f} ms at {small:,} events,"
            f" {made[large][what]:6.2f} ms at {large:,}: x {ratio:.2f}"
        )
    for what, ratio in read.items():
        print(f"three branches, {what:22} x {ratio:.2f}")
    print(f"one durable append {'':19} x {appended:.2f}")
    if given.json:
        figures = {"make_ms": made, "read": read, "append": appended}
        given.json.write_text(json.dumps(figures, indent=2), "utf-8")


if __name__ == "__main__":
    main()
