"""The engine: one SQLite file that is a store, written by many threads and processes.

One connection writes, under a lock, the commits of all waiting callers in one transaction
(`writer`, `transactions`). A few more connections read (`reader`, `pages`, `lookups`); in WAL mode
neither side waits for the other. Here they are opened, handed out, and closed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import apsw
import msgspec

from everwhen.backends.engine import (
    REPLICA,
    EngineTransaction,
    EngineView,
    Inline,
    Scratch,
    check_reached,
)
from everwhen.backends.history_moves import Moving
from everwhen.backends.notifier import News
from everwhen.backends.sql_connection import SqlConnection
from everwhen.backends.sqlite import lookups
from everwhen.backends.sqlite.backup import backed_up
from everwhen.backends.sqlite.compaction import Compacting
from everwhen.backends.sqlite.connection import (
    OPENING_SECONDS,
    is_outdated,
    keeps_locks,
    leave_alone,
    open_connection,
)
from everwhen.backends.sqlite.error_translation import reached, translated, translation
from everwhen.backends.sqlite.file_watch import Watch
from everwhen.backends.sqlite.files import check_room, make_folder, remove
from everwhen.backends.sqlite.lifetime import Lifetime
from everwhen.backends.sqlite.lock_guard import Hold, Reservation, check_no_stray_log, opening
from everwhen.backends.sqlite.pages import StreamNames, read_page
from everwhen.backends.sqlite.reader import Reader
from everwhen.backends.sqlite.schema import check_schema, prepare
from everwhen.backends.sqlite.segment_tables import SqliteTables
from everwhen.backends.sqlite.segments import Segments
from everwhen.backends.sqlite.structural_check import hiding_problems, structural_problems
from everwhen.backends.sqlite.transactions import Transactions
from everwhen.backends.sqlite.user_statements import (
    SqliteScratch,
    allow_only_questions,
    explaining,
)
from everwhen.backends.sqlite.views import SqliteTransaction, SqliteView
from everwhen.backends.sqlite.writer import Group, Writer
from everwhen.system.fair_lock import FairLock
from everwhen.system.file_backups import BackupListener, BackupReport, BackupTask
from everwhen.system.forks import keep, register
from everwhen.system.sqlite_connection import patience
from everwhen.vocabulary.clock import Clock, clock_from, micros_by, system_clock
from everwhen.vocabulary.contract import (
    Capabilities,
    Checkpoint,
    EncodedCommit,
    Head,
    Move,
    Outcome,
    Page,
    Problem,
    Segment,
    Snapshot,
    SnapshotInfo,
    StoredSlice,
    StreamInfo,
    TableSize,
)
from everwhen.vocabulary.errors import (
    BusyError,
    LocksLostError,
    ReadOnlyError,
    StorageError,
    StoreMovedError,
)
from everwhen.vocabulary.query import Query

T = TypeVar("T")

_DURABLE: Final = Capabilities(
    name="sqlite",
    durable=True,
    dense_positions=True,
    shared_by_processes=True,
    sql=True,
    keeps_recorded_at=True,
    seals=True,
)


class SqliteEngine:
    """One store in one file. Safe from any thread; not to be taken through a fork.

    ``busy_timeout`` is in seconds. ``durable=False`` skips the sync at each commit: a power loss
    may then take the newest commits, a crash of the process never does. ``vfs`` names an SQLite
    VFS to go through. ``version_before`` is given where the file is one of several: it says at
    which version a stream begins that isn't in this one. Its positions are then given from outside,
    and may have holes.
    """

    blocking = True
    capabilities = _DURABLE
    is_replica = False
    """Whether it is opened as a replica of a log elsewhere, which tells it what to write."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock = system_clock,
        read_only: bool = False,
        durable: bool = True,
        busy_timeout: float = 30.0,
        vfs: str | None = None,
        version_before: Callable[[str], int] | None = None,
    ) -> None:
        self.path = Path(path)
        self._is_whole = version_before is None
        self.lock = FairLock()
        self.news = News()
        self.inline: list[Inline] = []
        self._clock = clock
        self._read_only = read_only
        self._durable = durable
        self.busy_timeout = busy_timeout
        self.vfs = vfs
        self._names = StreamNames()
        self._segments = Segments()
        self._explained = explaining(self.path)
        self._transaction_by = 0
        if read_only and not self.path.exists():
            raise StorageError(f"{self.path}: no such file; check the path")
        self._real = real = self.path.resolve()
        self.place = self.location = str(real)
        check_no_stray_log(real)
        with reached(self.path):
            first, self._hold = self._opened(real)
        self._beside = str(real.with_name(f"{real.name}-branches"))
        self._lifetime = lifetime = Lifetime(self.path, self._hold)
        # not by a method of this engine, which would be kept alive by its own watch
        connect = partial(
            open_connection, self.path, read_only=True, busy_timeout=busy_timeout, vfs=vfs
        )
        self._watch = Watch(connect, self.news.publish, lifetime.inside)
        self._transactions = Transactions(first, self._hold.guard, self.path, busy_timeout)
        self._writer = Writer(
            self._transactions,
            clock if self._is_whole else _no_clock,
            self.path,
            self._segments,
            version_before or _from_the_start,
        )
        self._reader = Reader(lifetime, connect)
        register(self)
        if not read_only:
            self._transactions.limit_log()
            if not durable:
                self.capabilities = msgspec.structs.replace(_DURABLE, durable=False)

    def _opened(self, real: Path) -> tuple[apsw.Connection, Hold]:
        """The first connection, and what guards it: opened anew where it can't be guarded."""
        seconds = min(self.busy_timeout, OPENING_SECONDS)
        waits = patience(seconds)
        for attempt in itertools.count():
            with opening(real, seconds) as made:
                first = self._first(made)
                try:
                    return first, Hold(real, keeps_locks=keeps_locks(first))
                except BaseException as error:
                    leave_alone(first)
                    made.end()
                    first.close()
                    if not isinstance(error, LocksLostError) or not waits(attempt):
                        raise
        raise AssertionError  # pragma: no cover (it counts for ever)

    def _first(self, made: Reservation) -> apsw.Connection:
        """The connection that the store is opened with, once the file has been looked at."""
        waits = patience(min(self.busy_timeout, OPENING_SECONDS))
        for attempt in itertools.count():
            connection = open_connection(
                self.path,
                read_only=self._read_only,
                busy_timeout=self.busy_timeout,
                vfs=self.vfs,
            )
            try:
                prepare(
                    connection,
                    self.path,
                    read_only=self._read_only,
                    durable=self._durable,
                    busy_timeout=self.busy_timeout,
                )
                self._check_replica(connection)
                connection.pragma("user_version")  # from here on the files beside it are there
            except BaseException as error:
                changed = isinstance(error, Exception) and is_outdated(connection)
                passing = self._read_only and isinstance(error, apsw.ReadOnlyError)
                made.end()
                connection.close()
                if not changed and not (passing and waits(attempt)):
                    raise
            else:
                return connection
        raise AssertionError  # pragma: no cover (it counts for ever)

    def _check_replica(self, connection: apsw.Connection) -> None:
        """Raises `ReadOnlyError` where what is written would be in no log."""
        if self._read_only or self.is_replica:
            return
        if lookups.checkpoint(connection, REPLICA) is not None:
            raise ReadOnlyError(
                f"{self.path}: is a replica of a log on a cluster; open it by the cluster's URL, "
                f"open it with read_only=True, or copy it: everwhen copy {self.path} NEW"
            )

    # Writing

    def write(self, commits: Sequence[EncodedCommit], *, waits: bool = False) -> list[Outcome]:
        self.check_open()
        self._check_writable()
        try:
            inline = self._run_inline if self.inline else None
            outcomes = self._writer.write(commits, inline, waits=waits)
        except apsw.Error as error:
            raise translation(error, self.path) from error
        except StoreMovedError:
            self._abandon()
            raise
        self.news.publish()
        return outcomes

    def _run_inline(self, connection: apsw.Connection) -> None:
        transaction = self._transaction_on(connection)
        for inline in self.inline:
            inline(transaction)

    @contextmanager
    def transaction(self) -> Iterator[SqliteTransaction]:
        with self._changing(), self._transactions.transaction():
            yield self._transaction_on(self._transactions.connection)

    @contextmanager
    def group(self) -> Iterator[Group]:
        """Commits that are written together when left normally. Hold ``lock``."""
        with self._changing(), self._transactions.transaction() as turn:
            yield self._writer.group(turn)

    def is_idle(self) -> bool:
        """Whether nobody, wherever, was in the middle of a write at some moment of this call."""
        self.check_open()
        if self._read_only or not self.lock.mutex.acquire(blocking=False):
            return False
        try:
            with translated(self.path):
                return self._transactions.is_idle()
        finally:
            self.lock.mutex.release()

    def transact(self, work: Callable[[EngineTransaction], T]) -> T:
        transactions = self._transactions
        with self._changing():
            return transactions.transact(
                lambda _: work(self._transaction_on(transactions.connection))
            )

    def _transaction_on(self, connection: apsw.Connection) -> SqliteTransaction:
        return SqliteTransaction(connection, self.path, self._segments)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self.check_open()
        self._check_writable()
        with self._in_transaction():
            yield

    @contextmanager
    def _in_transaction(self) -> Iterator[None]:
        self._transaction_by = threading.get_ident()
        try:
            with translated(self.path):
                yield
        except StoreMovedError:
            self._abandon()
            raise
        finally:
            self._transaction_by = 0

    # Reading

    def watch(self) -> int:
        self.check_open()
        with translated(self.path):
            return self._watch.go_on()

    @contextmanager
    def view(self) -> Iterator[SqliteView]:
        with self._reader.connection() as connection, connection:
            connection.pragma("user_version")  # the moment is this one, and it can be read
            yield SqliteView(connection, self.path, self._names, self._segments)

    def seen_by(self, connection: apsw.Connection) -> EngineView:
        """What a connection sees of this file."""
        return SqliteView(connection, self.path, self._names, self._segments)

    def read(self, query: Query, events: int) -> Page:
        return self._reader.run(read_page, query, events, self._names, self._segments.deferring)

    def stored_commit(self, commit_id: bytes) -> list[StoredSlice]:
        return self._reader.run(lookups.stored_commit, commit_id, self._segments.deferring)

    def head(self) -> Head:
        return self._reader.run(lookups.head)

    def check_end(self, after: int) -> None:
        check_reached(self.place, self.head().position, after)

    def position_at(self, recorded_at: int) -> int:
        return self._reader.run(lookups.position_at, recorded_at, self._segments.deferring)

    def stream(self, name: str) -> StreamInfo | None:
        return self._reader.run(lookups.stream, name)

    def streams(self, category: str | None, after: str, limit: int) -> list[StreamInfo]:
        return self._reader.run(lookups.streams, category, after, limit)

    def checkpoint(self, name: str) -> Checkpoint | None:
        return self._reader.run(lookups.checkpoint, name)

    def checkpoints(self) -> list[Checkpoint]:
        return self._reader.run(lookups.checkpoints)

    def snapshots(self, subject: str, up_to: int | None, limit: int) -> list[Snapshot]:
        return self._reader.run(lookups.snapshots, subject, up_to, limit)

    def snapshots_after(self, subject: str, position: int, limit: int) -> list[SnapshotInfo]:
        return self._reader.run(lookups.snapshots_after, subject, position, limit)

    # Other logs beside it, each in a file of its own

    def has_log(self, log: str) -> bool:
        self.check_open()
        return os.path.exists(f"{self._beside}/{log}.db")  # noqa: PTH110  often asked

    def open_log(self, log: str, not_before: datetime | None) -> SqliteEngine:
        self.check_open()
        file = self.file_of(log)
        if not file.exists():
            self._check_writable()
            make_folder(file.parent)
        return SqliteEngine(
            file,
            clock=clock_from(not_before, self._clock),
            read_only=self._read_only,
            durable=self._durable,
            busy_timeout=self.busy_timeout,
            vfs=self.vfs,
        )

    def drop_log(self, log: str) -> None:
        self.check_open()
        self._check_writable()
        remove(self.file_of(log))

    def file_of(self, log: str) -> Path:
        """The file of the log of that id."""
        return Path(self._beside, f"{log}.db")

    # Looking after it

    def backup(self, task: BackupTask, listener: BackupListener) -> BackupReport:
        self.check_open()
        with translated(self.path):
            return backed_up(self, task, listener)

    def sql_connection(self) -> SqlConnection:
        self.check_open()
        with translated(self.path), opening(self._real, 0):
            connection = self.connection_to(self.path)
            try:
                held = Hold(self._real, keeps_locks=keeps_locks(connection))
            except LocksLostError:
                connection.close()
                raise
            allow_only_questions(connection)

        def check() -> None:
            if is_outdated(connection):
                raise BusyError(
                    f"{self.path}: it has changed since sql_connection() was called; call it again"
                )

        return SqlConnection(connection, self._explained, check, held)

    def scratch(self) -> Scratch:
        self.check_open()
        return SqliteScratch(self._explained)

    def connection_to(self, path: Path) -> apsw.Connection:
        """A reading connection of its own to this file, or to one of a log beside it."""
        return open_connection(path, read_only=True, busy_timeout=self.busy_timeout, vfs=self.vfs)

    def segments(self) -> list[Segment]:
        return self._reader.run(lookups.segments)

    def moving(self, move: Move) -> Moving[apsw.Connection]:
        self.check_open()
        self._check_writable()
        return Moving(
            SqliteTables(is_whole=self._is_whole),
            self._reader.run,
            self._written,
            self._segments.groups,
            micros_by(self._clock),
            move,
        )

    def _written(self, step: Callable[[apsw.Connection], None]) -> None:
        with self._changing():
            self._transactions.transact(lambda _: step(self._transactions.connection))

    def purge(self) -> None:
        self.check_open()
        self._check_writable()
        with translated(self.path):
            self._transactions.purge()

    def probe_purge(self) -> None:
        self.check_open()
        self._check_writable()
        with translated(self.path):
            size = self._transactions.probe()
        check_room(self.path, size)

    def empty_journal(self) -> None:
        self.check_open()
        self._check_writable()
        with translated(self.path):
            emptied = self._transactions.empty_log()
        if not emptied:
            raise BusyError(
                f"{self.path}: somebody still reads what was there before, so that no disk "
                f"space is given back yet; find out who has the store open, let them end what they "
                f"read, and try again"
            )

    def compaction(self) -> Compacting:
        self.check_open()
        self._check_writable()
        return Compacting(self.path, self._reader.run, self._written, self._write_anew)

    def _write_anew(self) -> None:
        with self._changing():
            self._transactions.write_anew()

    def check(self) -> Iterator[Problem]:
        """SQLite's integrity check, and our own of what the tables say together."""
        return self._reader.problems(partial(structural_problems, is_whole=self._is_whole))

    def table_sizes(self) -> list[TableSize]:
        self.check_open()
        return []

    def find_hidden(self, after: int) -> Iterator[Problem]:
        """SQLite's integrity check, the schema, and what is derived from the slices."""
        return self._reader.problems(partial(hiding_problems, after=after))

    def check_schema(self) -> None:
        self._reader.run(_check_schema, self.path)
        self._names.clear()
        self._segments.clear()

    # Closing

    def close(self) -> None:
        lifetime = self._lifetime
        if lifetime.is_foreign:
            return  # the connections are the parent's
        with self.lock.mutex:
            if lifetime.is_closed and not self._hold.is_held:
                return
            lifetime.is_closed = True
            self._watch.stop()
            with translated(self.path):
                self._close()
        self.news.publish()

    def _close(self) -> None:
        lifetime, guard = self._lifetime, self._hold.guard
        if guard is not None:
            try:
                guard.check_place(str(self._real))
            except StoreMovedError:
                self._abandon()
            if guard.has_lost_locks:
                self._leave_alone()
        try:
            with self._transactions.last():
                self._hold.let_go()
                self._reader.close()
                try:
                    self._transactions.connection.close()
                finally:  # it is closed all the same
                    lifetime.is_shut = True
        finally:
            lifetime.release()

    def _abandon(self) -> None:
        """Leave alone what is at the path, which may belong to another file by now."""
        self._leave_alone()
        self._transactions.settle()

    def _leave_alone(self) -> None:
        """Closing won't take the log for its own, and delete what it finds beside the path."""
        for connection in (self._transactions.connection, *self._reader.idle):
            leave_alone(connection)

    def __del__(self) -> None:
        lifetime = getattr(self, "_lifetime", None)
        if lifetime is not None and lifetime.hold.is_held and not self.lock.mutex.locked():
            with contextlib.suppress(Exception):
                lifetime.hold.forgotten(self)

    # Forks

    @property
    def is_foreign(self) -> bool:
        return self._lifetime.is_foreign

    def hold(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        if self.is_foreign or self._transaction_by == threading.get_ident():
            return False
        if not self.lock.mutex.acquire(timeout=seconds):
            return False
        if self._lifetime.inside.is_left(until - time.monotonic()):
            return True
        self.lock.mutex.release()
        return False

    def resume(self) -> None:
        self.lock.mutex.release()

    def forked(self, *, quiet: bool) -> None:
        """In a child nothing of SQLite's is used again; what is quiet is taken apart in memory.

        Its connections hold no locks of this process, and closing them touches no file. Else
        SQLite would believe that a store which is opened here shares their locks.
        """
        connections = [self._transactions.connection, *self._reader.idle, *self._watch.connections]
        if quiet:
            with contextlib.suppress(apsw.Error):
                while connections:
                    connections[-1].config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                    connections[-1].close(True)
                    connections.pop()
        if connections:
            keep(connections)
            if not self._lifetime.is_closed:
                self._hold.torn()

    def _check_writable(self) -> None:
        if self._read_only:
            raise ReadOnlyError(f"{self.path}: opened with read_only=True; open it for writing")

    def check_open(self) -> None:
        self._lifetime.check_open()


def _no_clock() -> datetime:
    """What tells the time in a file that is one of several: times are given with positions."""
    return datetime.min.replace(tzinfo=UTC)


def _from_the_start(stream: str) -> int:
    """At which version a stream begins, in a file that has all of it."""
    del stream
    return 0


def _check_schema(connection: apsw.Connection, path: Path) -> None:
    with connection:
        check_schema(connection, path)
