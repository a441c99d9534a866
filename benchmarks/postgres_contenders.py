"""The stores that are compared on PostgreSQL: all on one server, each in a schema of its own."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import psycopg
from benchmarks.contenders import (
    BetPlaced,
    Contender,
    Eventsourcing,
    Everwhen,
    OnlyWritten,
    encode,
    event,
)
from eventsourcing.dcb.api import DCBAppendCondition, DCBEvent, DCBQuery, DCBQueryItem
from eventsourcing.dcb.postgres_tt import PostgresDCBRecorderTT
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from tests.postgres_server import PostgresServer

import everwhen

COURSES = 50
_TICKS = os.sysconf("SC_CLK_TCK")


class Enrolled(everwhen.Event):
    """What is decided on: how many have enrolled for the course."""

    tag_fields = ("course",)

    course: str
    student: int


class OnServer(Contender):
    """A store in a schema of its own, which is dropped in the end."""

    server: ClassVar[PostgresServer]

    def __init__(self, folder: Path) -> None:
        Contender.__init__(self, folder)
        self.schema = f"b{secrets.token_hex(6)}"

    def processor_seconds(self) -> float:
        """Of this process, those that it ran to the end, and all of the server's."""
        own, ended = (resource.getrusage(who) for who in _OWN)
        mine = own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime
        return mine + seconds_of_server(self.server.process_id)

    def decide(self, number: int) -> None:
        """Read the events of one of 50 courses, and append one unless there came more."""
        raise NotImplementedError

    def drop(self) -> None:
        with psycopg.connect(self.server.url("postgres"), autocommit=True) as session:
            session.execute(f'DROP SCHEMA IF EXISTS "{self.schema}" CASCADE')


_OWN = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def seconds_of_server(server: int) -> float:
    """The processor time of the server's processes, those that ended as well."""
    user, system, ended_user, ended_system = _ticks(server)
    found = user + system + ended_user + ended_system
    for child in Path(f"/proc/{server}/task/{server}/children").read_text().split():
        found += sum(_ticks(int(child))[:2])
    return found / _TICKS


def _ticks(process: int) -> list[int]:
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended: its parent's figures have it
        return [0] * 4
    return [int(word) for word in words[11:15]]


class EverwhenPostgres(OnServer, Everwhen):
    """Through the public store, as the one in a file is."""

    name = "everwhen"

    def __init__(self, folder: Path) -> None:
        OnServer.__init__(self, folder)
        self.url = self.server.url("postgres", schema=self.schema)
        self.store = everwhen.open_store(self.url, events=[BetPlaced, Enrolled])

    def decide(self, number: int) -> None:
        course = f"course-{number % COURSES}"
        query = everwhen.Query().types("Enrolled").tags(f"course:{course}")
        found = list(self.store.read(query))
        after = found[-1].position if found else 0
        self.store.append(
            f"student-{number}",
            [Enrolled(course, number)],
            condition=everwhen.Condition(query, after),
        )

    def close(self) -> None:
        super().close()
        self.drop()


class EverwhenFull(EverwhenPostgres):
    """The same, where much was written before; it is filled once, and stays."""

    name = "everwhen, full"
    events: ClassVar[int]
    filled: ClassVar[str] = ""
    turn: ClassVar[int] = 0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        if not self.filled:
            EverwhenFull.filled = self.url
            with everwhen.open_store(self.url, events=[BetPlaced], durable=False) as store:
                for first in range(0, self.events // 10, 2_000):
                    store.commit_batch(
                        everwhen.Commit((everwhen.Write(f"old-{n // 20}", [event(n)] * 10),))
                        for n in range(first, first + 2_000)
                    )
        else:
            self.store.close()
            self.drop()
            self.store = everwhen.open_store(self.filled, events=[BetPlaced])
        EverwhenFull.turn += 1

    def append(self, stream: int, version: int, events: list[BetPlaced]) -> None:
        super().append(self.turn * 10_000 + stream, version, events)

    def close(self) -> None:
        Everwhen.close(self)


class EverwhenProcesses(EverwhenPostgres):
    """The same, its clients divided among four processes."""

    name = "everwhen, 4 processes"
    processes = 4

    def append_concurrently(self, clients: int, each: int) -> None:
        share = clients // self.processes
        work = partial(appended, self.url, share, each)
        list(self.pool.map(work, range(0, clients, share)))

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        spawning = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(self.processes, mp_context=spawning)
        list(self.pool.map(partial(open_first, self.url), range(self.processes * 4)))

    def processor_seconds(self) -> float:
        """With that of the four."""
        four = [sum(_ticks(one.pid or 0)[:2]) for one in multiprocessing.active_children()]
        return super().processor_seconds() + sum(four) / _TICKS

    def close(self) -> None:
        self.pool.shutdown()
        super().close()


_stores: dict[str, everwhen.Store] = {}
"""Of a process of the pool: it is ready before the clock runs."""


def open_first(url: str, _number: int) -> None:
    if url not in _stores:
        _stores[url] = everwhen.open_store(url, events=[BetPlaced])
        time.sleep(0.2)  # so that the others get their turn to open theirs


def appended(url: str, clients: int, each: int, first: int) -> None:
    """One process's clients, each with a stream of its own."""
    open_first(url, first)
    store = _stores[url]

    def work(stream: int) -> None:
        for version in range(each):
            store.append(f"game-{stream}", [event(version)], expected=version)

    threads = [threading.Thread(target=work, args=(first + n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class EventsourcingPostgres(OnServer, Eventsourcing):
    """Through its recorders, without the machinery of aggregates."""

    name = "eventsourcing"

    def __init__(self, folder: Path) -> None:
        OnServer.__init__(self, folder)
        with psycopg.connect(self.server.url("postgres"), autocommit=True) as session:
            session.execute(f'CREATE SCHEMA "{self.schema}"')
        self.datastore = self._connected(self.schema)
        self.recorder = PostgresApplicationRecorder(self.datastore, events_table_name="events")
        self.recorder.create_table()
        self.shared: PostgresDatastore | None = None
        self.courses: Any = None
        self.ids = {}

    def _connected(self, schema: str) -> PostgresDatastore:
        return PostgresDatastore(
            "postgres", "127.0.0.1", self.server.port, "postgres", "",
            pool_size=64, max_overflow=10, schema=schema,
        )  # fmt: skip

    def decide(self, number: int) -> None:
        if self.courses is None:
            # it doesn't name the schema of its tables in all of its statements
            self.shared = self._connected("public")
            self.courses = PostgresDCBRecorderTT(self.shared, events_table_name=self.schema)
            self.courses.create_table()
        course = f"course-{number % COURSES}"
        tags = [f"course:{course}"]
        query = DCBQuery(items=[DCBQueryItem(types=["Enrolled"], tags=tags)])
        found = self.courses.read(query)
        list(found)
        enrolled = DCBEvent(type="Enrolled", data=encode(Enrolled(course, number)), tags=tags)
        self.courses.append([enrolled], DCBAppendCondition(query, found.head))

    def close(self) -> None:
        if self.shared is not None:
            self.shared.close()
        super().close()
        self.drop()


class Pgbench(OnServer, OnlyWritten):
    """The limit: pgbench's own simple transactions, an update and an insert each."""

    name = "pgbench -N"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.server.run("pgbench", "-i", "-q", "-s", 5, *self._where)

    @property
    def _where(self) -> list[object]:
        return ["-h", "127.0.0.1", "-p", self.server.port, "-U", "postgres", "postgres"]

    def append_concurrently(self, clients: int, each: int) -> None:
        said = self.server.run(
            "pgbench", "-N", "-n", "-M", "prepared", "-c", clients, "-j", min(2, clients),
            "-t", each, *self._where,
        )  # fmt: skip
        found = re.search(r"tps = ([\d.]+) \(without", said)
        assert found is not None, said
        self.seconds = clients * each / float(found[1])

    def timed(self, work: Callable[[], object]) -> float:
        """As pgbench says itself: its sessions are open before its clock runs."""
        super().timed(work)
        return self.seconds

    def close(self) -> None:
        """Its tables stay, and are made anew."""
