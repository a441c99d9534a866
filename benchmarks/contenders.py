"""The stores that are compared, behind one small interface.

Each gets the same typed event of about 100 bytes, encodes it itself, and makes each append durable
before it returns. Peers are driven at their fastest public level: pyeventsourcing through its
application recorder (no aggregate machinery), UmaDB through its own client, with its server in a
process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import shutil
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import apsw
import msgspec
import umadb
from eventsourcing.persistence import StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

import everwhen
import everwhen.aio
from everwhen.tiers import HistoryManager, HistoryPolicy


class BetPlaced(everwhen.Event):
    player: int
    amount: int
    table: str
    note: str


def event(number: int) -> BetPlaced:
    """An event of about 100 bytes as JSON."""
    return BetPlaced(number, 5, "table-17", "x" * 46)


PAYLOAD = len(msgspec.json.encode(event(1_000)))
encode = msgspec.json.Encoder().encode


class Contender(ABC):
    """A store under measurement. Counts are events, streams are numbers."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cpu_seconds = 0.0

    def timed(self, work: Callable[[], object]) -> float:
        """The seconds that work takes; ``cpu_seconds`` is then the processor time of it."""
        gc.collect()
        cpu, began = self.processor_seconds(), time.perf_counter()
        work()
        took = time.perf_counter() - began
        self.cpu_seconds = self.processor_seconds() - cpu
        return took

    def processor_seconds(self) -> float:
        """The processor time so far, with that of a server where it can be told."""
        return time.process_time()

    @abstractmethod
    def append(self, stream: int, version: int, events: list[BetPlaced]) -> None:
        """One commit on one stream, if the stream is at the version. Durable on return."""

    @abstractmethod
    def read_all(self) -> int:
        """Read everything as recorded events, touching type and position; how many."""

    @abstractmethod
    def read_stream(self, stream: int) -> int:
        """Read one stream's recorded events; how many."""

    def append_concurrently(self, clients: int, each: int) -> None:
        """So many clients at once, each appending single events to a stream of its own."""

        def work(client: int) -> None:
            for version in range(each):
                self.append(client, version, [event(version)])

        threads = [threading.Thread(target=work, args=(c,)) for c in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def append_over(self, streams: int, version: int) -> None:
        """One event on each of so many streams, as one atomic commit."""
        raise NotImplementedError

    def append_batch(self, streams: int, version: int) -> None:
        """The same as commits of their own, in one call; peers have only the atomic one."""
        self.append_over(streams, version)

    def settle(self) -> None:
        """Do what is done with history before it is read; nothing here."""
        return

    def size(self) -> int:
        """Bytes on disk, once everything is in its place."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    @abstractmethod
    def close(self) -> None:
        """Let go of everything."""


class OnlyWritten(Contender):
    """One that is measured by what it writes at once, and is not read."""

    def append(self, stream: int, version: int, events: list[BetPlaced]) -> None:
        raise NotImplementedError

    def read_all(self) -> int:
        raise NotImplementedError

    def read_stream(self, stream: int) -> int:
        raise NotImplementedError


class Everwhen(Contender):
    name = "everwhen"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.path = folder / "everwhen.db"
        self.store = everwhen.open_store(self.path, events=[BetPlaced])

    def append(self, stream: int, version: int, events: list[BetPlaced]) -> None:
        self.store.append(f"game-{stream}", events, expected=version)

    def append_over(self, streams: int, version: int) -> None:
        self.store.commit(
            everwhen.Commit(
                [everwhen.Write(f"game-{s}", [event(s)], version) for s in range(streams)]
            )
        )

    def append_batch(self, streams: int, version: int) -> None:
        self.store.commit_batch(
            everwhen.Commit((everwhen.Write(f"game-{s}", [event(s)], version),))
            for s in range(streams)
        )

    def read_all(self) -> int:
        count = 0
        for recorded in self.store.read():
            count += recorded.position > 0 and recorded.type == "BetPlaced"
        return count

    def read_stream(self, stream: int) -> int:
        return sum(r.type == "BetPlaced" for r in self.store.read(f"game-{stream}"))

    def size(self) -> int:
        with contextlib.closing(apsw.Connection(str(self.path))) as connection:
            connection.execute("PRAGMA wal_checkpoint(truncate)").fetchall()
        return self.path.stat().st_size

    def close(self) -> None:
        self.store.close()


class EverwhenSealed(Everwhen):
    """The same, read once all of its history is sealed."""

    name = "everwhen, sealed"

    def settle(self) -> None:
        policy = HistoryPolicy(hot_duration=timedelta(), small_segments=True)
        HistoryManager(self.store, policy).age()


class EverwhenTasks(Everwhen):
    """The async flavour, with a task per client."""

    name = "everwhen.aio"

    def append_concurrently(self, clients: int, each: int) -> None:
        async def work(store: everwhen.aio.Store, client: int) -> None:
            for version in range(each):
                await store.append(f"game-{client}", [event(version)], expected=version)

        async def run() -> None:
            async with everwhen.aio.open_store(self.path, events=[BetPlaced]) as store:
                await asyncio.gather(*(work(store, c) for c in range(clients)))

        asyncio.run(run())


class BareSqlite(Contender):
    """The limit: apsw alone, one table, one unique index, no features."""

    name = "bare apsw"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.connection = apsw.Connection(str(folder / "bare.db"))
        self.connection.execute(
            "PRAGMA journal_mode = wal; PRAGMA synchronous = full;"
            "CREATE TABLE IF NOT EXISTS events (position INTEGER PRIMARY KEY, stream TEXT,"
            " version INTEGER, type TEXT, data BLOB, UNIQUE (stream, version))"
        ).fetchall()

    def append(self, stream: int, version: int, events: list[BetPlaced]) -> None:
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        for number, one in enumerate(events, version + 1):
            execute(
                "INSERT INTO events VALUES (NULL, ?, ?, ?, ?)",
                (f"game-{stream}", number, "BetPlaced", encode(one)),
            )
        execute("COMMIT")

    def read_all(self) -> int:
        rows = self.connection.execute("SELECT * FROM events ORDER BY position")
        return sum(row[3] == "BetPlaced" for row in rows)

    def read_stream(self, stream: int) -> int:
        rows = self.connection.execute(
            "SELECT * FROM events WHERE stream = ? ORDER BY version", (f"game-{stream}",)
        )
        return sum(row[3] == "BetPlaced" for row in rows)

    def close(self) -> None:
        self.connection.close()


def _id(stream: int) -> UUID:
    return uuid5(NAMESPACE_URL, f"game-{stream}")


class Eventsourcing(Contender):
    name = "eventsourcing"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.datastore = SQLiteDatastore(str(folder / "es.db"), pool_size=64, lock_timeout=60)
        self.recorder = SQLiteApplicationRecorder(self.datastore)
        self.recorder.create_table()
        self.ids: dict[int, UUID] = {}

    def append(self, stream: int, version: int, events: list[BetPlaced]) -> None:
        self.recorder.insert_events(list(self._stored([(stream, version, events)])))

    def append_over(self, streams: int, version: int) -> None:
        self.recorder.insert_events(
            list(self._stored((s, version, [event(s)]) for s in range(streams)))
        )

    def _stored(self, writes: Iterable[tuple[int, int, list[BetPlaced]]]) -> Iterable[StoredEvent]:
        for stream, version, events in writes:
            originator = self.ids.setdefault(stream, _id(stream))
            for number, one in enumerate(events, version + 1):
                yield StoredEvent(originator, number, "BetPlaced", encode(one))

    def read_all(self) -> int:
        count, start = 0, 1
        while batch := self.recorder.select_notifications(start=start, limit=1_000):
            count += sum(n.topic == "BetPlaced" for n in batch)
            start = batch[-1].id + 1
        return count

    def read_stream(self, stream: int) -> int:
        return sum(s.topic == "BetPlaced" for s in self.recorder.select_events(_id(stream)))

    def close(self) -> None:
        self.datastore.close()


class UmaDB(Contender):
    name = "UmaDB"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        program = shutil.which("umadb") or str(Path(sys.executable).with_name("umadb"))
        self.server = subprocess.Popen(
            [program, "--listen", f"127.0.0.1:{port}", "--db-path", str(folder / "uma.db")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.url = f"http://127.0.0.1:{port}"
        self.client = self._connected()
        self.positions: dict[int, int | None] = {}

    def _connected(self) -> Any:
        for _ in range(200):
            try:
                client = umadb.Client(self.url)
                client.head()
            except Exception:  # noqa: BLE001  the server is still starting
                time.sleep(0.05)
            else:
                return client
        raise RuntimeError("the UmaDB server did not start")

    def _events(self, stream: int, events: list[BetPlaced]) -> list[Any]:
        tags = [f"game-{stream}"]
        return [umadb.Event("BetPlaced", encode(one), tags) for one in events]

    def append(self, stream: int, _version: int, events: list[BetPlaced]) -> None:
        query = umadb.Query([umadb.QueryItem(tags=[f"game-{stream}"])])
        condition = umadb.AppendCondition(query, self.positions.get(stream))
        self.positions[stream] = self.client.append(self._events(stream, events), condition)

    def append_over(self, streams: int, _version: int) -> None:
        self.client.append([e for s in range(streams) for e in self._events(s, [event(s)])])

    def read_all(self) -> int:
        return sum(s.position > 0 and s.event.event_type == "BetPlaced" for s in self.client.read())

    def read_stream(self, stream: int) -> int:
        query = umadb.Query([umadb.QueryItem(tags=[f"game-{stream}"])])
        return sum(s.event.event_type == "BetPlaced" for s in self.client.read(query))

    def close(self) -> None:
        self.client.close()
        self.server.terminate()
        self.server.wait(10)


Opener = Callable[[Path], Contender]
