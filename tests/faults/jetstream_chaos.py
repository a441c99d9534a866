"""Clients on a cluster of three, faults that come upon them by a seed, and the judgement after it.

`tests.faults.test_jetstream_chaos` has a few faults, `benchmarks.cluster_faults` hundreds.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import apsw
import msgspec
from tests.cut_off_hosts import CutOffHost
from tests.faults.faults_jetstream import SAVED, Step, logged
from tests.nats_cluster import NatsCluster, NatsNode
from tests.operation_histories import Logged, Operation, faults_in_history
from tests.patience import PATIENCE_SECONDS

from everwhen import Store, open_store

ON_LOOPBACK: Final = (
    "kill leader", "freeze leader", "kill client", "kill all", "kill follower", "freeze follower"
)  # fmt: skip
CUTS: Final = ("cut leader", "part leader", "cut follower")
"""A leader that is parted from the other servers still speaks with clients."""

ROOT: Final = Path(__file__).parents[2]
STORE: Final = "chaos"
CLIENTS: Final = 3
_SHARED: Final = ("slices", "streams", "terms", "marks")


class Report(msgspec.Struct):
    """What was done and found."""

    seed: int
    faults: Counter[str]
    operations: list[Operation]
    log: list[Logged]
    wrong: list[str]
    longest: dict[str, float]
    """For each kind of fault, the longest time from its beginning until all clients had written."""
    waits: dict[str, float]
    """For each kind of fault, the longest append that it fell into or that began while it lasted."""

    @property
    def acknowledged(self) -> int:
        return sum(operation.result == "written" for operation in self.operations)

    @property
    def longest_append(self) -> float:
        return max(o.ended - o.began for o in self.operations if o.result == "written")


class Chaos:
    """A cluster under load. Enter it to begin; ``report`` ends the load and judges."""

    def __init__(
        self,
        cluster: NatsCluster,
        folder: Path,
        seed: int,
        hosts: Sequence[CutOffHost] = (),
    ) -> None:
        self._cluster = cluster
        self._folder = folder
        self._seed = seed
        self._chance = random.Random(seed)
        self._hosts = hosts
        self._stack = ExitStack()
        self._clients: dict[str, subprocess.Popen[bytes]] = {}
        self._faults: Counter[str] = Counter()
        self._spans: list[tuple[str, float, float]] = []

    def __enter__(self) -> Chaos:
        with open_store(self._cluster.url(STORE, self._folder / "first.db")):
            pass  # or the clients race to make the stream
        for number in range(CLIENTS):
            self._start(f"c{number}")
        self._write_on()
        return self

    def __exit__(self, *failure: object) -> None:
        for host in self._hosts:
            host.mend()
        for process in self._clients.values():
            process.kill()
            process.wait()

    # Clients

    def _url(self, name: str) -> str:
        consistency = "fresh" if name == "c0" else "own"
        return self._cluster.url(STORE, self._folder / f"{name}.db", consistency=consistency)

    def _start(self, name: str) -> None:
        seed = f"{self._seed}.{self._chance.random()}"
        words = [self._url(name), name, seed, str(self._folder)]
        with (self._folder / f"{name}.said").open("ab") as said:
            self._clients[name] = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.faults_jetstream", *words],
                cwd=ROOT, stdout=said, stderr=said,
            )  # fmt: skip

    def _said(self, name: str) -> str:
        return (self._folder / f"{name}.said").read_text()

    def _noted(self, name: str) -> list[Operation]:
        path = self._folder / name
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        # a client that was killed may have left half a line
        whole = [line for line in lines if line.endswith(b"}\n") and line.startswith(b"{")]
        return [msgspec.json.decode(line, type=Operation) for line in whole]

    def _written(self) -> dict[str, int]:
        return {
            name: sum(operation.result == "written" for operation in self._noted(name))
            for name in self._clients
        }

    def _write_on(self, commits: int = 5) -> None:
        """Wait until each client was acknowledged so many commits more."""
        before = self._written()
        until = time.monotonic() + PATIENCE_SECONDS
        while any(self._written()[name] < before[name] + commits for name in before):
            ended = [name for name, client in self._clients.items() if client.poll() is not None]
            if ended or time.monotonic() > until:
                raise AssertionError(
                    f"seed {self._seed}: {ended or 'the cluster'} stopped\n"
                    + "\n".join(self._said(name)[-4_000:] for name in ended)
                )
            time.sleep(0.1)

    # Faults

    def inject(self, kind: str) -> None:
        """Have a fault happen and end, and wait until all clients write again."""
        self._faults[kind] += 1
        began = time.monotonic()
        how, _, whom = kind.partition(" ")
        if whom == "client":
            name = self._chance.choice(sorted(self._clients))
            self._clients[name].kill()
            self._clients[name].wait()
            self._start(name)
        elif whom == "all":
            for node in self._cluster.nodes:
                node.kill()
            self._pause(0, 1)
            self._cluster.start()
        else:
            self._strike(how, self._node(whom))
        self._write_on()
        self._spans.append((kind, began, time.monotonic()))

    def _node(self, role: str) -> NatsNode:
        leader = self._cluster.leader(STORE)
        if role == "leader":
            return leader
        return self._chance.choice([node for node in self._cluster.nodes if node is not leader])

    def _strike(self, how: str, node: NatsNode) -> None:
        if how == "kill":
            node.kill()
            self._pause(0, 3)
            node.start()
            node.wait()
        elif how == "freeze":
            node.freeze()
            self._pause(2, 8)
            node.thaw()
        else:
            host = self._hosts[self._cluster.nodes.index(node)]
            host.cut(only_from_hosts=how == "part")
            self._pause(4, 15)
            host.mend()

    def _pause(self, least: float, most: float) -> None:
        time.sleep(self._chance.uniform(least, most))

    # Judgement

    def report(self) -> Report:
        """End the clients, read all of it into a fresh replica, and judge."""
        (self._folder / "stop").touch()
        for name, client in self._clients.items():
            assert client.wait(PATIENCE_SECONDS) == 0, self._said(name)
        operations = [operation for name in self._clients for operation in self._noted(name)]
        with self._opened("fresh.db") as store:
            log = [logged(recorded) for recorded in store.read()]
            wrong = faults_in_history(operations, log)
            wrong += [f"check: {problem.where}: {problem.what}" for problem in store.check()]
            wrong += self._lost_checkpoints(store, operations)
        files = ["fresh.db", *(f"{name}.db" for name in self._clients)]
        for name in files:
            self._opened(name).close()  # once it has all of the log
        contents = {name: contents_of(self._folder / name) for name in files}
        wrong += [f"{n} isn't like fresh.db" for n in files if contents[n] != contents[files[0]]]
        longest = {kind: 0.0 for kind, _, _ in self._spans}
        waits = dict(longest)
        for kind, began, ended in self._spans:
            longest[kind] = max(longest[kind], ended - began)
            waits[kind] = max(waits[kind], _longest_append(operations, began, ended))
        return Report(self._seed, self._faults, operations, log, wrong, longest, waits)

    def _opened(self, name: str) -> Store:
        return open_store(self._cluster.url(STORE, self._folder / name), events=[Step])

    def _lost_checkpoints(self, store: Store, operations: Sequence[Operation]) -> list[str]:
        saved = [operation.position for operation in operations if operation.result == "saved"]
        kept = store.checkpoint(SAVED)
        if saved and (kept is None or kept.position < max(saved)):
            return [f"the checkpoint {max(saved)} was acknowledged, and is {kept}"]
        return []


def _longest_append(operations: Sequence[Operation], began: float, ended: float) -> float:
    return max(
        (
            one.ended - one.began
            for one in operations
            if one.result == "written" and one.ended > began and one.began < ended
        ),
        default=0.0,
    )


def contents_of(path: Path) -> dict[str, str]:
    """A digest of each table that all replicas share."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        asked = {table: f"SELECT * FROM {table} ORDER BY 1, 2" for table in _SHARED}
        asked["checkpoints"] = "SELECT * FROM checkpoints WHERE name <> '$replica' ORDER BY 1"
        return {
            table: hashlib.sha256(repr(connection.execute(sql).fetchall()).encode()).hexdigest()
            for table, sql in asked.items()
        }
    finally:
        connection.close()


def keep(folder: Path, report: Report) -> None:
    """Copy what a failed run left, where the environment says so."""
    if report.wrong and (kept := os.environ.get("EVERWHEN_KEEP")):
        shutil.copytree(folder, Path(kept) / f"seed-{report.seed}", dirs_exist_ok=True)
