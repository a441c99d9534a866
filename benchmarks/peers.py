"""Everwhen beside its peers and the bare limit: every line in one run, as ratios.

    python benchmarks/peers.py [--quick] [--json FILE]

Each line runs in rounds, the contenders in turn within a round, so that a drifting machine hits all
of them alike; figures are the medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.contenders import (
    PAYLOAD,
    BareSqlite,
    Contender,
    Eventsourcing,
    Everwhen,
    EverwhenSealed,
    EverwhenTasks,
    UmaDB,
    event,
)

Line = Callable[[Contender], tuple[int, float]]
Results = dict[str, dict[str, float]]


def single(appends: int) -> Line:
    """One client, one event per durable commit, over 100 streams."""

    def run(store: Contender) -> tuple[int, float]:
        def work() -> None:
            for number in range(appends):
                store.append(number % 100, number // 100, [event(number)])

        return appends, store.timed(work)

    return run


def concurrent(clients: int, events: int) -> Line:
    """So many clients at once, one event per durable commit."""

    def run(store: Contender) -> tuple[int, float]:
        each = max(4, events // clients)
        return clients * each, store.timed(lambda: store.append_concurrently(clients, each))

    return run


def bulk(commits: int, size: int) -> Line:
    """Commits of many events on one stream each."""

    def run(store: Contender) -> tuple[int, float]:
        def work() -> None:
            for number in range(commits):
                store.append(1_000 + number, 0, [event(n) for n in range(size)])

        return commits * size, store.timed(work)

    return run


def batch(rounds: int, streams: int, *, atomic: bool) -> Line:
    """One event on each of many streams, in one call."""

    def run(store: Contender) -> tuple[int, float]:
        append = store.append_over if atomic else store.append_batch

        def work() -> None:
            for version in range(rounds):
                append(streams, version)

        return rounds * streams, store.timed(work)

    return run


def reading(commits: int, size: int) -> Line:
    """Everything, as recorded events, from commits of so many events."""

    def run(store: Contender) -> tuple[int, float]:
        if size == 1:
            for version in range(commits // 1_000):
                store.append_batch(1_000, version)
        else:
            for number in range(commits):
                store.append(number % 500, number // 500 * size, [event(n) for n in range(size)])
        store.settle()
        expected = commits * size
        return expected, store.timed(lambda: _check(store.read_all(), expected))

    return run


def stream_reading(events: int, times: int) -> Line:
    """One stream of so many events, written one by one, among others."""

    def run(store: Contender) -> tuple[int, float]:
        for number in range(events):
            store.append(7, number, [event(number)])
            if number % 4 == 0:
                store.append(8 + number, 0, [event(number)])

        def work() -> None:
            for _ in range(times):
                _check(store.read_stream(7), events)

        return events * times, store.timed(work)

    return run


def _check(got: int, expected: int) -> None:
    if got != expected:
        raise RuntimeError(f"read {got} events instead of {expected}")


def measure(line: Line, openers: list[type[Contender]], rounds: int) -> dict[str, float]:
    """Events per second by contender, the median over the rounds."""
    rates: dict[str, list[float]] = {}
    for _ in range(rounds):
        for opener in openers:
            with tempfile.TemporaryDirectory(prefix="everwhen-bench-") as folder:
                store = opener(Path(folder))
                try:
                    events, seconds = line(store)
                finally:
                    store.close()
            rates.setdefault(opener.name, []).append(events / seconds)
    return {name: statistics.median(values) for name, values in rates.items()}


def sizes() -> Results:
    """Bytes on disk per event, as a multiple of the payload."""
    found: Results = {}
    for size, commits in ((1, 20_000), (10, 5_000)):
        for opener in (Everwhen, Eventsourcing, UmaDB):
            with tempfile.TemporaryDirectory(prefix="everwhen-bench-") as folder:
                store = opener(Path(folder))
                try:
                    if size == 1:
                        for version in range(commits // 1_000):
                            store.append_batch(1_000, version)
                    else:
                        for number in range(commits):
                            events = [event(n) for n in range(size)]
                            store.append(number % 500, number // 500 * size, events)
                    per_event = store.size() / (size * commits)
                finally:
                    store.close()
            line = f"bytes on disk / payload, commits of {size}"
            found.setdefault(line, {})[opener.name] = per_event / PAYLOAD
    return found


def lines(*, quick: bool) -> list[tuple[str, Line, list[type[Contender]]]]:
    """What is measured, and whom it concerns."""
    k = 1 if quick else 4
    peers: list[type[Contender]] = [Eventsourcing, UmaDB]
    ours: list[type[Contender]] = [Everwhen]
    tiers: list[type[Contender]] = [Everwhen, EverwhenSealed]
    both: list[type[Contender]] = [EverwhenTasks, Everwhen]
    return [
        ("single append, 1 client", single(500 * k), [*ours, BareSqlite, *peers]),
        ("single appends, 64 clients", concurrent(64, 5_000 * k), [*both, *peers]),
        ("single appends, 256 clients", concurrent(256, 5_000 * k), [*both, *peers]),
        ("bulk, commits of 1,000", bulk(25 * k, 1_000), [*ours, *peers]),
        ("1,000 streams, one commit", batch(8 * k, 1_000, atomic=True), [*ours, *peers]),
        ("1,000 streams, a commit each", batch(8 * k, 1_000, atomic=False), [*ours, *peers]),
        ("read all, commits of 1", reading(10_000 * k, 1), [*tiers, *peers]),
        ("read all, commits of 10", reading(1_000 * k, 10), [*tiers, *peers]),
        ("read all, commits of 100", reading(250 * k, 100), [*tiers, *peers]),
        ("read a stream of 200", stream_reading(200, 25 * k), [*ours, *peers]),
    ]


def show(name: str, rates: dict[str, float]) -> None:
    ours = max(rate for who, rate in rates.items() if who.startswith("everwhen"))
    cells = "  ".join(
        f"{who} {rate:,.0f}" + ("" if who.startswith("everwhen") else f" ({ours / rate:.2f}x)")
        for who, rate in rates.items()
    )
    print(f"{name:36s} {cells}", flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="a quarter of the work, 1 round")
    arguments.add_argument("--only", default="", help="only lines whose name contains this")
    arguments.add_argument("--json", type=Path, help="also write the figures there")
    options = arguments.parse_args()
    rounds = 1 if options.quick else 3
    print(f"Python {platform.python_version()}, payload {PAYLOAD} bytes, events/s, {rounds} rounds")
    results: Results = {}
    for name, line, openers in lines(quick=options.quick):
        if options.only in name:
            results[name] = measure(line, openers, rounds)
            show(name, results[name])
    if not options.only:
        for name, ratios in sizes().items():
            results[name] = ratios
            print(f"{name:36s} " + "  ".join(f"{k} {v:.2f}" for k, v in ratios.items()))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
