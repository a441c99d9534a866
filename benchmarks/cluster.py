"""A log on a JetStream cluster beside its messages alone, and beside a store in a file.

    PYTHONPATH=examples python -m benchmarks.cluster [--quick] [--only NAME] [--copies N]
        [--memory] [--json FILE]

Three servers on this machine, all on its disk, each syncing what it acknowledges; ``--memory`` puts
them on a RAM disk, so that processor time is what counts. "Messages" are as many bytes, written by
the same library behind the same guard, one after the other, without a store: the most that a log
with one order can do there. Each line runs in rounds, the contenders in turn within a round;
figures are medians over the rounds. In brackets are microseconds of processor time for one event,
of the clients and the servers together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import platform
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar

import msgspec
import nats
from benchmarks.contenders import (
    PAYLOAD,
    BetPlaced,
    Contender,
    Everwhen,
    OnlyWritten,
    encode,
    event,
)
from benchmarks.postgres import RAM, measure, show
from benchmarks.postgres_contenders import (
    _TICKS,
    _stores,
    _ticks,
    open_first,
    seconds_of_server,
)
from tests.nats_cluster import NatsCluster, nats_cluster

import everwhen
import everwhen.aio
from everwhen.cluster import bootstrap_replica, offer_replica, rebuild_replica
from everwhen.system.compression import Compressor
from everwhen.system.durable_files import sync_file

Line = Callable[[Contender], tuple[int, float]]


class OnCluster(Contender):
    """A store of its own on the cluster."""

    cluster: ClassVar[NatsCluster]

    def __init__(self, folder: Path) -> None:
        Contender.__init__(self, folder)
        self.store_name = self.cluster.new_name()

    def url(self, replica: str = "replica") -> str:
        return self.cluster.url(self.store_name, self.folder / f"{replica}.db")

    def processor_seconds(self) -> float:
        """With that of the servers."""
        servers = sum(seconds_of_server(node.process_id) for node in self.cluster.nodes)
        return time.process_time() + servers


class EverwhenCluster(OnCluster, Everwhen):
    """Through the public store, as the one in a file is."""

    name = "everwhen"

    def __init__(self, folder: Path) -> None:
        OnCluster.__init__(self, folder)
        self.store = everwhen.open_store(self.url(), events=[BetPlaced])


class EverwhenTasks(OnCluster, OnlyWritten):
    """The same in asyncio: its writers are tasks."""

    name = "everwhen, asyncio"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.loop = asyncio.new_event_loop()
        self.store = self.loop.run_until_complete(self._opened())

    async def _opened(self) -> everwhen.aio.Store:
        return await everwhen.aio.open_store(self.url(), events=[BetPlaced])

    def concurrently(self, clients: int, each: int, size: int) -> None:
        async def work(stream: int) -> None:
            for turn in range(each):
                events = [event(number) for number in range(size)]
                await self.store.append(f"game-{stream}", events, expected=turn * size)

        async def all_of_them() -> None:
            await asyncio.gather(*map(work, range(clients)))

        self.loop.run_until_complete(all_of_them())

    def close(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.loop.close()


class EverwhenNodes(OnCluster, OnlyWritten):
    """The same, its clients divided among four processes, each with a replica of its own."""

    name = "everwhen, 4 nodes"
    nodes = 4

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        spawning = multiprocessing.get_context("spawn")
        self.pools = [ProcessPoolExecutor(1, mp_context=spawning) for _ in range(self.nodes)]
        for number, pool in enumerate(self.pools):
            pool.submit(open_first, self.url(str(number)), 0).result()

    def concurrently(self, clients: int, each: int, size: int) -> None:
        share = clients // self.nodes
        running = [
            pool.submit(written, self.url(str(number)), share, each, size, number * share)
            for number, pool in enumerate(self.pools)
        ]
        for one in running:
            one.result()

    def processor_seconds(self) -> float:
        four = [sum(_ticks(one.pid or 0)[:2]) for one in multiprocessing.active_children()]
        return super().processor_seconds() + sum(four) / _TICKS

    def close(self) -> None:
        for pool in self.pools:
            pool.shutdown()


class Messages(OnCluster, OnlyWritten):
    """The limit: messages of as many bytes, each behind the one before."""

    name = "messages"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        with everwhen.open_store(self.url()):
            pass  # which makes the stream
        self.compressor = Compressor()

    def concurrently(self, clients: int, each: int, size: int) -> None:
        asyncio.run(self._published(clients, each, size))

    async def _published(self, clients: int, each: int, size: int) -> None:
        servers = [f"nats://127.0.0.1:{node.port}" for node in self.cluster.nodes]
        client = await nats.connect(servers)
        subject, last = f"ew.{self.store_name}.log.messages", 0
        try:
            for version in range(each):
                data = b"".join(encode(event(version)) for _ in range(clients * size))
                answer = await client.request(
                    subject,
                    self.compressor.compress(data),
                    timeout=60,
                    headers={"Nats-Expected-Last-Subject-Sequence": str(last)},
                )
                last = msgspec.json.decode(answer.data)["seq"]
        finally:
            await client.close()

    def close(self) -> None:
        """Its messages stay in the stream."""


def written(url: str, clients: int, each: int, size: int, first: int) -> None:
    """One process's clients, each with a stream of its own."""
    open_first(url, 0)
    _write(_stores[url], clients, each, size, first)


def _write(store: everwhen.Store, clients: int, each: int, size: int, first: int) -> None:
    def work(stream: int) -> None:
        for turn in range(each):
            events = [event(number) for number in range(size)]
            store.append(f"game-{stream}", events, expected=turn * size)

    threads = [threading.Thread(target=work, args=(first + n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def writing(clients: int, each: int, size: int) -> Line:
    """So many clients at once, each with commits of so many events."""

    def run(store: Contender) -> tuple[int, float]:
        if isinstance(store, Messages | EverwhenNodes | EverwhenTasks):
            work = partial(store.concurrently, clients, each, size)
        else:
            assert isinstance(store, Everwhen)
            work = partial(_write, store.store, clients, each, size, 0)
        return clients * each * size, store.timed(work)

    return run


def following(commits: int, size: int) -> Line:
    """A new replica takes in all that there is."""

    def run(store: Contender) -> tuple[int, float]:
        assert isinstance(store, EverwhenCluster)
        for first in range(0, commits, 500):
            store.store.commit_batch(
                everwhen.Commit((everwhen.Write(f"game-{n % 500}", [event(n)] * size),))
                for n in range(first, first + 500)
            )

        def work() -> None:
            with everwhen.open_store(store.url("late")) as late:
                assert late.head().position == commits * size

        return commits * size, store.timed(work)

    return run


def lag(commits: int, folder: Path) -> dict[str, float]:
    """Milliseconds from an append's return on one node to when another one shows it."""
    writer = EverwhenCluster(folder)
    found = []
    with closing(writer), everwhen.open_store(writer.url("other")) as other:
        for number in range(commits):
            position = writer.store.append("game-1", [event(number)]).position
            began = time.perf_counter()
            other.wait_for(position, timeout=60)
            found.append((time.perf_counter() - began) * 1e3)
    p50, p99 = statistics.median(found), statistics.quantiles(found, n=100)[98]
    print(f"{'lag of another node':28s} p50 {p50:.1f} ms, p99 {p99:.1f} ms", flush=True)
    return {"p50 ms": p50, "p99 ms": p99}


def copies(events: int, rounds: int, folder: Path) -> dict[str, float]:
    """MB/s, by the size of a replica, of what is done with a copy of it; and of its plain copy."""
    writer = EverwhenCluster(folder)
    chance = random.Random(1)
    for first in range(0, events, 320):  # as 32 writers would
        writer.store.commit_batch(
            everwhen.Commit((everwhen.Write(f"game-{n % 500}", [noted(chance, n)] * 10),))
            for n in range(first, first + 320, 10)
        )
    writer.store.close()
    replica = folder / "replica.db"
    megabytes = replica.stat().st_size / 1e6
    backup = folder / "backup.db"
    with everwhen.open_store(replica, read_only=True) as store:
        store.backup(backup)

    def plain() -> None:
        shutil.copyfile(replica, folder / "plain.db")
        sync_file(folder / "plain.db")

    ways: dict[str, Callable[[], object]] = {
        "plain": plain,
        "offer": lambda: offer_replica(writer.url()),
        "bootstrap": lambda: bootstrap_replica(writer.url("offered")),
        "bootstrap from a file": lambda: bootstrap_replica(writer.url("file"), backup),
        "rebuild from the log": lambda: rebuild_replica(writer.url("whole")),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            took[name].append(writer.timed(way))
        for made in ("plain", "offered", "file", "whole"):
            (folder / f"{made}.db").unlink()
    found = {f"{name} MB/s": megabytes / statistics.median(took[name]) for name in ways}
    print(f"{f'copies of {megabytes:.0f} MB':28s} " + ", ".join(
        f"{name} {speed:.0f}" for name, speed in found.items()
    ), flush=True)  # fmt: skip
    return found


def noted(chance: random.Random, number: int) -> BetPlaced:
    """An event of about a kilobyte, which hardly compresses."""
    return BetPlaced(number, 5, "table-17", chance.randbytes(500).hex())


def lines(*, quick: bool) -> list[tuple[str, Line, list[type[Contender]]]]:
    """What is measured, and whom it concerns: the first one is what the others are compared to."""
    k = 1 if quick else 4
    everyone: list[type[Contender]] = [EverwhenCluster, EverwhenTasks, Messages, EverwhenInFile]
    return [
        ("1 writer, commits of 1", writing(1, 250 * k, 1), everyone),
        ("32 writers, commits of 1", writing(32, 50 * k, 1), everyone),
        ("32 writers, commits of 10", writing(32, 50 * k, 10), everyone),
        ("32 writers on 4 nodes", writing(32, 50 * k, 1), [EverwhenCluster, EverwhenNodes]),
        ("a new replica follows", following(2_000 * k, 10), [EverwhenCluster]),
    ]


class EverwhenInFile(Everwhen):
    """A store in a file, on the same disk."""

    name = "in a file"


@contextmanager
def running(copies: int, *, in_memory: bool) -> Iterator[NatsCluster]:
    """The servers, for all contenders."""
    with nats_cluster(copies, folder=RAM if in_memory else None) as cluster:
        OnCluster.cluster = cluster
        yield cluster


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="a quarter of the work, 1 round")
    arguments.add_argument("--only", default="", help="only lines whose name contains this")
    arguments.add_argument("--copies", type=int, default=3, help="how many servers")
    arguments.add_argument("--memory", action="store_true", help="the servers on a RAM disk")
    arguments.add_argument("--json", type=Path, help="also write the figures there")
    options = arguments.parse_args()
    rounds = 1 if options.quick else 3
    results: dict[str, dict[str, dict[str, float]]] = {}
    with running(options.copies, in_memory=options.memory):
        place = "in memory" if options.memory else "on disk"
        print(f"Python {platform.python_version()}, {options.copies} servers {place},")
        print(f"payload {PAYLOAD} bytes, events/s, {rounds} rounds")
        for name, line, contenders in lines(quick=options.quick):
            if options.only in name:
                results[name] = measure(line, contenders, rounds)
                show(name, results[name])
        if options.only in "lag":
            with tempfile.TemporaryDirectory(prefix="everwhen-bench-") as folder:
                results["lag"] = {"everwhen": lag(200 if options.quick else 1_000, Path(folder))}
        if options.only in "copies":
            with tempfile.TemporaryDirectory(prefix="everwhen-bench-") as folder:
                events = 20_000 if options.quick else 300_000
                results["copies"] = {"everwhen": copies(events, rounds, Path(folder))}
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
