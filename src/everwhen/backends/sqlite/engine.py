"""The embedded store: one SQLite file, written by many threads and processes.

One connection writes, under a lock, the commits of all waiting callers in one transaction; since
the transaction holds SQLite's write lock from its start, what it reads of other processes' work is
settled. A few more connections read; in WAL mode neither side waits for the other.

What the writer knows of the file (its end, the streams' versions) it remembers until SQLite says
that another process has written.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeAlias, TypeVar

import apsw

from everwhen.backends.commit_checks import (
    LONG_AGO,
    check_condition,
    refusal_of,
    repeated,
    time_of_commit,
)
from everwhen.backends.engine import ChangedError, EngineTransaction, EngineView, Inline, Scratch
from everwhen.backends.notifier import News
from everwhen.backends.query_matching import Matcher
from everwhen.backends.sql_connection import SqlConnection
from everwhen.backends.sqlite.backup import backed_up
from everwhen.backends.sqlite.connection import (
    MAX_STORED_NAME_BYTES,
    OPENING_SECONDS,
    Immutable,
    check_room,
    check_schema,
    is_outdated,
    judged,
    limited,
    make_folder,
    open_connection,
    patience,
    prepare,
    reached,
    remove,
    too_large,
    translated,
    translation,
)
from everwhen.backends.sqlite.file_watch import Watch
from everwhen.backends.sqlite.lock_guard import (
    Guard,
    Hold,
    Reservation,
    check_no_stray_log,
    opening,
)
from everwhen.backends.sqlite.query_plan import (
    CATEGORY,
    COLUMNS,
    TAG,
    TYPE,
    Row,
    Window,
    block_of,
    everything,
    rows_in,
    rows_to_judge,
    searchable,
)
from everwhen.backends.sqlite.schema_check import READ_SCHEMA
from everwhen.backends.sqlite.scratch import SqliteScratch, executed, streamed
from everwhen.backends.sqlite.stored_rows import (
    check_rows,
    checkpoint_of,
    counter,
    moment,
    number,
    slice_of,
    snapshot_of,
    stream_of,
    text,
)
from everwhen.backends.sqlite.structural_check import hiding_problems, structural_problems
from everwhen.backends.sqlite_dialect import DIALECT
from everwhen.system.fair_lock import FairLock
from everwhen.system.file_backups import BackupListener, BackupReport, BackupTask
from everwhen.system.forks import Inside, keep, register
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.clock import Clock, clock_from, micros_by, system_clock
from everwhen.vocabulary.contract import (
    MAX_KEPT_BYTES,
    Capabilities,
    Checkpoint,
    EncodedCommit,
    EncodedSlice,
    Head,
    Outcome,
    Page,
    Problem,
    Receipt,
    Snapshot,
    SnapshotInfo,
    StoredSlice,
    StreamInfo,
)
from everwhen.vocabulary.errors import (
    BusyError,
    ConflictError,
    EverwhenError,
    InlineError,
    LocksLostError,
    ReadOnlyError,
    RefusedError,
    StatementError,
    StorageError,
    StoreClosedError,
    StoreMovedError,
)
from everwhen.vocabulary.microseconds import from_micros
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.streams import category_of, holds

P = ParamSpec("P")
T = TypeVar("T")

_Judge: TypeAlias = Callable[[apsw.Connection], Iterator[Problem]]

_REMEMBERED: Final = 100_000
_TOGETHER: Final = 8
_READERS: Final = 8
_PAGE_BYTES: Final = 4 << 20
_LOOKED_AT: Final = 8_192
_WAL_PAGES: Final = 1_000
_MOMENT_SECONDS: Final = 0.05


def _again(
    read: Callable[Concatenate[SqliteEngine, P], T],
) -> Callable[Concatenate[SqliteEngine, P], T]:
    """Reads again what was read off a file that somebody was just writing to."""

    @functools.wraps(read)
    def settled(self: SqliteEngine, /, *args: P.args, **kwargs: P.kwargs) -> T:
        while True:
            try:
                return read(self, *args, **kwargs)
            except ChangedError:
                continue

    return settled


class SqliteEngine:
    """One store in one file. Safe from any thread; not to be taken through a fork.

    ``busy_timeout`` is in seconds. ``durable=False`` skips the sync at each commit: a power loss
    may then take the newest commits, a crash of the process never does. ``vfs`` names an SQLite
    VFS to go through.
    """

    blocking = True
    capabilities = Capabilities(
        name="sqlite",
        durable=True,
        dense_positions=True,
        shared_by_processes=True,
        sql=True,
        keeps_recorded_at=True,
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock = system_clock,
        read_only: bool = False,
        durable: bool = True,
        busy_timeout: float = 30.0,
        vfs: str | None = None,
    ) -> None:
        self.path = Path(path)
        self.lock = FairLock()
        self.news = News()
        self.inline: list[Inline] = []
        self._clock = clock
        self._read_only = read_only
        self._durable = durable
        self.busy_timeout = busy_timeout
        self.vfs = vfs
        self._process = os.getpid()
        self._closed = False
        self._is_shut = False
        self._names: dict[int, str] = {}
        self._inside = Inside()
        self._transaction_by = 0
        if read_only and not self.path.exists():
            raise StorageError(f"{self.path}: no such file; check the path")
        self._real = real = self.path.resolve()
        self.place = str(real)
        check_no_stray_log(real)
        with reached(self.path):
            first, self._hold = self._opened(real)
        self._beside = str(real.with_name(f"{real.name}-branches"))
        reader = partial(
            open_connection, self.path, read_only=True, busy_timeout=busy_timeout, vfs=vfs
        )
        self._watch = Watch(reader, self.news.publish, self._inside)
        self._writer = _Writer(first, clock, self._hold.guard, self.path, busy_timeout)
        self._readers: list[apsw.Connection] = []
        register(self)
        if not read_only:
            first.wal_autocheckpoint(_WAL_PAGES)
            if not durable:
                self.capabilities = _NOT_DURABLE

    def _opened(self, real: Path) -> tuple[apsw.Connection, Hold]:
        """The first connection, and what guards it: opened anew where it can't be guarded."""
        seconds = min(self.busy_timeout, OPENING_SECONDS)
        waits = patience(seconds)
        for attempt in itertools.count():
            with opening(real, seconds) as made:
                first = self._first(made)
                try:
                    return first, Hold(real, keeps_locks=_keeps_locks(first))
                except BaseException as error:
                    _leave_alone(first)
                    made.end()
                    first.close()
                    if not isinstance(error, LocksLostError) or not waits(attempt):
                        raise
        raise AssertionError  # pragma: no cover (it counts for ever)

    def _first(self, made: Reservation) -> apsw.Connection:
        """The connection that the store is opened with, once the file has been looked at."""
        waits = patience(min(self.busy_timeout, OPENING_SECONDS))
        for attempt in itertools.count():
            connection = self._connect(read_only=self._read_only)
            try:
                prepare(
                    connection,
                    self.path,
                    read_only=self._read_only,
                    durable=self._durable,
                    busy_timeout=self.busy_timeout,
                )
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

    def _connect(self, *, read_only: bool) -> apsw.Connection:
        return open_connection(
            self.path, read_only=read_only, busy_timeout=self.busy_timeout, vfs=self.vfs
        )

    # Writing

    def write(self, commits: Sequence[EncodedCommit]) -> list[Outcome]:
        self._check_open()
        self._check_writable()
        try:
            outcomes = self._writer.write(commits, self._run_inline if self.inline else None)
        except apsw.Error as error:
            raise translation(error, self.path) from error
        except StoreMovedError:
            self._abandon()
            raise
        self.news.publish()
        return outcomes

    @contextmanager
    def transaction(self) -> Iterator[_SqliteTransaction]:
        with self._changing(), self._writer.transaction() as connection:
            yield _SqliteTransaction(connection, self)

    def transact(self, work: Callable[[EngineTransaction], T]) -> T:
        with self._changing():
            return self._writer.transact(
                lambda connection: work(_SqliteTransaction(connection, self))
            )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self._check_open()
        self._check_writable()
        self._transaction_by = threading.get_ident()
        try:
            with translated(self.path):
                yield
        except StoreMovedError:
            self._abandon()
            raise
        finally:
            self._transaction_by = 0

    def _run_inline(self, connection: apsw.Connection) -> None:
        transaction = _SqliteTransaction(connection, self)
        for inline in self.inline:
            inline(transaction)

    # Reading

    def watch(self) -> int:
        self._check_open()
        with translated(self.path):
            return self._watch.go_on()

    @contextmanager
    def _reading(self) -> Iterator[apsw.Connection]:
        self._check_open()
        token = object()
        try:
            self._inside.enter(token)
            with judged(self.path), self._reader() as connection:
                yield connection
        finally:
            self._inside.leave(token)
            if self._closed:
                self._release()

    @contextmanager
    def _reader(self) -> Iterator[apsw.Connection]:
        connection = self._idle_reader()
        try:
            yield connection
        except Exception as error:
            # a connection that only reads writes nothing: a writer opens or closes the file
            outdated = is_outdated(connection) or isinstance(error, apsw.ReadOnlyError)
            damage = too_large(connection, self.path, error)
            connection.close(True)
            if outdated and not is_interrupt(error):
                raise ChangedError(self.path) from error
            if damage is not None:
                raise damage from error
            raise
        except BaseException:
            connection.close(True)
            raise
        if is_outdated(connection):
            connection.close()
            raise ChangedError(self.path)
        # what a caller's error still reads would keep the next one at what it sees
        if len(self._readers) < _READERS and not self._closed and not connection.txn_state():
            self._readers.append(connection)
        else:
            connection.close(True)

    def _idle_reader(self) -> apsw.Connection:
        while self._readers:
            try:
                connection = self._readers.pop()
            except IndexError:
                break
            if not is_outdated(connection):
                return connection
            connection.close()
        return self._connect(read_only=True)

    @contextmanager
    def view(self) -> Iterator[_SqliteView]:
        with self._reading() as connection, connection:
            connection.pragma("user_version")  # the moment is this one, and it can be read
            yield _SqliteView(connection, self)

    @_again
    def read(self, query: Query, events: int) -> Page:
        with self._reading() as connection:
            return self.page(connection, query, events, self._names)

    def page(
        self, connection: apsw.Connection, query: Query, events: int, names: dict[int, str]
    ) -> Page:
        """What ``read`` gives, as this connection sees the file. ``names`` of streams are kept.

        Inside a transaction they are its own: what it makes may be rolled back.
        """
        window = self._window(connection, query)
        if window is None:
            return Page([], query.after_position, end=True)
        with limited(connection):
            if everything(query):
                return _page_of_all(connection, window, events, names)
            return self._page(connection, query, window, events, names)

    def _window(self, connection: apsw.Connection, query: Query) -> Window | None:
        newest = connection.execute("SELECT max(position) FROM slices").get
        if newest is None:
            return None
        last = newest if query.last_position is None else min(query.last_position, newest)
        if query.after_position >= last:
            return None
        if last < newest:
            last = connection.execute(
                "SELECT min(position) FROM slices WHERE position >= ?", (last,)
            ).get
        return Window(query.after_position, last, reverse=query.reverse)

    def _page(
        self,
        connection: apsw.Connection,
        query: Query,
        window: Window,
        events: int,
        names: dict[int, str],
    ) -> Page:
        reaches = Matcher(query).reaches
        rows: list[Row] = []
        slices: list[StoredSlice] = []
        size = volume = 0
        for looked_at, row in enumerate(rows_to_judge(connection, query, window), 1):
            position, stream, version, count, moment, commit_id, index, metadata, body = row
            if position > window.last:
                continue  # a stream's rows are found by version, and it has grown since we looked
            if position <= window.after:
                raise apsw.CorruptError(f"the row at position {position} is out of order")
            name = names.get(stream) or _name(connection, stream, names)
            stored = StoredSlice(
                position, name, version, count, moment, commit_id, index, metadata, body
            )
            if reaches(stored):
                rows.append(row)
                slices.append(stored)
                size += count
                volume += len(body)
            if size >= events or volume >= _PAGE_BYTES or looked_at >= _LOOKED_AT:
                check_rows(rows, window)
                return Page(slices, position - count + 1 if window.reverse else position, end=False)
        check_rows(rows, window)
        return Page(slices, window.last, end=True)

    @_again
    def stored_commit(self, commit_id: bytes) -> list[StoredSlice]:
        with self._reading() as connection:
            return _stored_commit(connection, commit_id)

    @_again
    def head(self) -> Head:
        with self._reading() as connection:
            found = connection.execute(
                "SELECT position, recorded_at FROM slices ORDER BY position DESC LIMIT 1"
            ).get
            if found is None:
                return Head(0, None)
            return Head(number(found[0]), from_micros(number(found[1])))

    @_again
    def position_at(self, recorded_at: int) -> int:
        sql = (
            "SELECT position, count, recorded_at FROM slices WHERE position >= ? "
            "ORDER BY position LIMIT 1"
        )
        with self._reading() as connection:
            newest = connection.execute("SELECT max(position) FROM slices").get or 0
            low, high = 0, newest
            while low < high:
                position, count, moment = connection.execute(sql, ((low + high) // 2 + 1,)).get
                if moment <= recorded_at:
                    low = position
                else:
                    high = position - count
        return int(low)

    @_again
    def stream(self, name: str) -> StreamInfo | None:
        with self._reading() as connection, limited(connection, MAX_STORED_NAME_BYTES):
            return next(_streams(connection, "name = ?", (searchable(name),)), None)

    @_again
    def streams(self, category: str | None, after: str, limit: int) -> list[StreamInfo]:
        where, bounds = "name > ?", [searchable(after)]
        if category is not None:
            if category_of(category) != category:
                return []
            category = searchable(category)
            where += " AND (name = ? OR (name >= ? AND name < ?))"
            bounds += [category, category + "-", category + "."]
        with self._reading() as connection, limited(connection, MAX_STORED_NAME_BYTES):
            found = _streams(connection, f"{where} ORDER BY name LIMIT {int(limit)}", bounds)
            return list(found)

    @_again
    def checkpoint(self, name: str) -> Checkpoint | None:
        with self._reading() as connection:
            return _checkpoint(connection, name)

    @_again
    def checkpoints(self) -> list[Checkpoint]:
        with self._reading() as connection:
            rows = connection.execute("SELECT name, position, data FROM checkpoints ORDER BY name")
            return list(map(checkpoint_of, rows))

    @_again
    def snapshots(self, subject: str, up_to: int | None, limit: int) -> list[Snapshot]:
        bounds = (searchable(subject), _END if up_to is None else min(up_to, _END), limit)
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT subject, position, fold, fold_version, state FROM snapshots "
                "WHERE subject = ? AND position <= ?"
                f" AND octet_length(state) <= {MAX_KEPT_BYTES} ORDER BY position DESC LIMIT ?",
                bounds,
            )
            return list(map(snapshot_of, rows))

    @_again
    def snapshots_after(self, subject: str, position: int, limit: int) -> list[SnapshotInfo]:
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT subject, position, fold, fold_version FROM snapshots "
                "WHERE (subject, position) > (?, ?) ORDER BY subject, position LIMIT ?",
                (searchable(subject), position, limit),
            )
            return [
                SnapshotInfo(text(name), number(at), text(fold), number(version))
                for name, at, fold, version in rows
            ]

    # Other logs beside it, each in a file of its own

    def has_log(self, log: str) -> bool:
        self._check_open()
        return os.path.exists(f"{self._beside}/{log}.db")  # noqa: PTH110  often asked

    def open_log(self, log: str, not_before: datetime | None) -> SqliteEngine:
        self._check_open()
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
        self._check_open()
        self._check_writable()
        remove(self.file_of(log))

    def file_of(self, log: str) -> Path:
        """The file of the log of that id."""
        return Path(self._beside, f"{log}.db")

    # Looking after it

    def backup(self, task: BackupTask, told: BackupListener) -> BackupReport:
        self._check_open()
        with translated(self.path):
            return backed_up(self, task, told)

    def sql(self) -> SqlConnection:
        self._check_open()
        with translated(self.path), opening(self._real, 0):
            connection = self.connection_to(self.path)
            try:
                held = Hold(self._real, keeps_locks=_keeps_locks(connection))
            except LocksLostError:
                connection.close()
                raise
            connection.set_authorizer(_only_questions)
            connection.set_progress_handler(lambda: False, _STEPS)  # or Ctrl-C would have to wait

        def check() -> None:
            if is_outdated(connection):
                raise BusyError(
                    f"{self.path}: it has changed since sql() was called; call it again"
                )

        return SqlConnection(connection, self._explained, check, held)

    def scratch(self) -> Scratch:
        self._check_open()
        return SqliteScratch(self._explained)

    def _explained(self, error: Exception, sql: str) -> EverwhenError:
        """What went wrong with somebody's own statement, as one of our errors."""
        if isinstance(error, apsw.AuthError):
            return StatementError(f"only a SELECT from the store itself is executed here: {sql}")
        if isinstance(error, apsw.CursorClosedError | apsw.ConnectionClosedError):
            return StoreClosedError()
        if isinstance(error, apsw.Error) and not isinstance(error, _MISTAKES):
            return translation(error, self.path)
        return StatementError(f"the statement failed: {error}; fix it: {sql}")

    def connection_to(self, path: Path) -> apsw.Connection:
        """A reading connection of its own to this file, or to one of a log beside it."""
        return open_connection(path, read_only=True, busy_timeout=self.busy_timeout, vfs=self.vfs)

    def seen_by(self, connection: apsw.Connection) -> EngineView:
        """What a connection sees of this file."""
        return _SqliteView(connection, self)

    def purge(self) -> None:
        self._check_open()
        self._check_writable()
        with translated(self.path):
            self._writer.purge()

    def probe_purge(self) -> None:
        self._check_open()
        self._check_writable()
        with translated(self.path):
            size = self._writer.probe()
        check_room(self.path, size)

    def empty_journal(self) -> None:
        self._check_open()
        self._check_writable()
        with translated(self.path):
            emptied = self._writer.empty_journal()
        if not emptied:
            raise BusyError(
                f"{self.path}: somebody still reads what is to be purged; find out who has the "
                f"store open, and let them end what they read"
            )

    def check(self) -> Iterator[Problem]:
        """SQLite's integrity check, and our own of what the tables say together."""
        return self._judged_by(structural_problems)

    def find_hidden(self, after: int) -> Iterator[Problem]:
        """SQLite's integrity check, the schema, and what is derived from the slices."""
        return self._judged_by(partial(hiding_problems, after=after))

    @_again
    def check_schema(self) -> None:
        with self._reading() as connection, connection:
            check_schema(connection, self.path)
        self._names.clear()

    def _judged_by(self, judge: _Judge) -> Iterator[Problem]:
        self._check_open()
        token = object()
        try:
            self._inside.enter(token)
            with judged(self.path):
                yield from self._problems(judge)
        finally:
            self._inside.leave(token)
            if self._closed:
                self._release()

    def _problems(self, judge: _Judge) -> Iterator[Problem]:
        while True:
            with contextlib.closing(self._connect(read_only=True)) as connection:
                problems = judge(connection)
                if isinstance(connection, Immutable):
                    found = _unless_outdated(connection, problems)
                else:
                    found = _unless_passing(problems)
                if found is not None:
                    yield from found
                    return

    def close(self) -> None:
        if self.is_foreign:
            return  # the connections are the parent's
        with self.lock.mutex:
            if self._closed and not self._hold.is_held:
                return
            self._closed = True
            self._watch.stop()
            with translated(self.path):
                self._close()
        self.news.publish()

    def _close(self) -> None:
        guard = self._hold.guard
        if guard is not None:
            try:
                guard.check_place(str(self._real))
            except StoreMovedError:
                self._abandon()
            if guard.has_lost_locks:
                self._leave_alone()
        try:
            with self._writer.last():
                self._hold.let_go()
                while self._readers:
                    self._readers.pop().close()
                try:
                    self._writer.connection.close()
                finally:  # it is closed all the same
                    self._is_shut = True
        finally:
            self._release()

    def _release(self) -> None:
        """Give the guard back, when all is closed and nobody reads any more."""
        if self._is_shut and not self._inside:
            self._hold.release()

    def _abandon(self) -> None:
        """Leave alone what is at the path, which may belong to another file by now."""
        self._leave_alone()
        self._writer.settle()

    def _leave_alone(self) -> None:
        """Closing won't take the log for its own, and delete what it finds beside the path."""
        for connection in (self._writer.connection, *self._readers):
            _leave_alone(connection)

    def __del__(self) -> None:
        held = getattr(self, "_hold", None)
        if held is not None and held.is_held and not self.lock.mutex.locked():
            with contextlib.suppress(Exception):
                self.close()

    # Forks

    @property
    def is_foreign(self) -> bool:
        """Whether this was opened by another process, of which this one is a fork."""
        return os.getpid() != self._process

    def hold(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        if self.is_foreign or self._transaction_by == threading.get_ident():
            return False
        if not self.lock.mutex.acquire(timeout=seconds):
            return False
        if self._inside.is_left(until - time.monotonic()):
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
        connections = [self._writer.connection, *self._readers, *self._watch.connections]
        if quiet:
            with contextlib.suppress(apsw.Error):
                while connections:
                    connections[-1].config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
                    connections[-1].close(True)
                    connections.pop()
        if connections:
            keep(connections)
            if not self._closed:
                self._hold.torn()

    def _check_writable(self) -> None:
        if self._read_only:
            raise ReadOnlyError(f"{self.path}: opened with read_only=True; open it for writing")

    def check_open(self) -> None:
        if self._closed:
            raise StoreClosedError
        if os.getpid() != self._process:
            raise StorageError(
                f"{self.path}: this store was opened by process {self._process}; SQLite "
                f"connections don't survive a fork, open the store again in the child"
            )

    _check_open = check_open


def _unless_outdated(
    connection: Immutable, problems: Iterator[Problem]
) -> Iterable[Problem] | None:
    """Every fault; None where the file has changed meanwhile."""
    try:
        found = list(problems)
    except Exception:
        if connection.is_outdated:
            return None
        raise
    return None if connection.is_outdated else found


def _unless_passing(problems: Iterator[Problem]) -> Iterable[Problem] | None:
    """Every fault; None where a writer just opens or closes the file, so that nothing is read."""
    try:
        first = list(itertools.islice(problems, 1))
    except apsw.ReadOnlyError:
        return None
    return itertools.chain(first, problems)


_NOT_DURABLE: Final = Capabilities(
    name="sqlite",
    durable=False,
    dense_positions=True,
    shared_by_processes=True,
    sql=True,
    keeps_recorded_at=True,
)
_END: Final = (1 << 63) - 1


def _streams(
    connection: apsw.Connection, where: str, bounds: Sequence[Any]
) -> Iterator[StreamInfo]:
    rows = connection.execute(
        "SELECT name, version, position, recorded_at FROM"
        f" (SELECT id, name FROM streams WHERE {where}) AS stream"
        " JOIN slices ON slices.stream = stream.id AND slices.version ="
        " (SELECT max(version) FROM slices WHERE stream = stream.id) ORDER BY name",
        bounds,
    )
    return map(stream_of, rows)


def _leave_alone(connection: apsw.Connection) -> None:
    """Closing it takes nothing into the file, and deletes nothing."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)


def _keeps_locks(connection: apsw.Connection) -> bool:
    """Whether the connection holds locks on the file for as long as it is open."""
    return not isinstance(connection, Immutable) and connection.pragma("journal_mode") == "wal"


def _checkpoint(connection: apsw.Connection, name: str) -> Checkpoint | None:
    row = connection.execute(
        "SELECT name, position, data FROM checkpoints WHERE name = ?", (searchable(name),)
    ).get
    return None if row is None else checkpoint_of(row)


_STEPS: Final = 100_000
_QUESTIONS: Final = {
    apsw.SQLITE_SELECT,
    apsw.SQLITE_READ,
    apsw.SQLITE_FUNCTION,
    apsw.SQLITE_RECURSIVE,
}
_ABOUT_THE_SCHEMA: Final = {"table_list", "table_info", "table_xinfo", "index_list", "index_info"}


def _only_questions(
    what: int, first: str | None, second: str | None, database: str | None, within: str | None
) -> int:
    """An authorizer that lets pass what only reads the store."""
    del second, database, within
    if what in _QUESTIONS or (what == apsw.SQLITE_PRAGMA and first in _ABOUT_THE_SCHEMA):
        return apsw.SQLITE_OK
    return apsw.SQLITE_DENY


_MISTAKES: Final = (
    apsw.SQLError,
    apsw.BindingsError,
    apsw.ConstraintError,
    apsw.MismatchError,
    apsw.TooBigError,
    apsw.AuthError,
    apsw.ReadOnlyError,
    TypeError,
    ValueError,
    OverflowError,
    LookupError,
)


def _page_of_all(
    connection: apsw.Connection, window: Window, events: int, names: dict[int, str]
) -> Page:
    """A page of a query that every slice matches: the least that a row can cost."""
    rows: list[Row] = []
    size = volume = 0
    for row in rows_in(connection, window):
        rows.append(row)
        size += row[3]
        volume += len(row[8])
        if size >= events or volume >= _PAGE_BYTES:
            break
    check_rows(rows, window)
    known = _names_of(connection, {row[1] for row in rows}, names)
    slices = [
        StoredSlice(position, known[stream], version, count, moment, commit_id, index, own, body)
        for position, stream, version, count, moment, commit_id, index, own, body in rows
    ]
    if size >= events or volume >= _PAGE_BYTES:
        last = slices[-1]
        cursor = last.position - last.count + 1 if window.reverse else last.position
        return Page(slices, cursor, end=False)
    return Page(slices, window.last, end=True)


def _names_of(
    connection: apsw.Connection, streams: set[int], names: dict[int, str]
) -> dict[int, str]:
    """The names of these streams. Those that aren't known, and began together, in one go."""
    known = {stream: name for stream in streams if (name := names.get(stream)) is not None}
    unknown = sorted(streams - known.keys())
    if len(names) + len(unknown) > _REMEMBERED:
        names.clear()
    while unknown:
        near = 1
        while near < len(unknown) and unknown[near] - unknown[near - 1] < _TOGETHER:
            near += 1
        rows = connection.execute(
            "SELECT id, name FROM streams WHERE id >= ? AND id <= ?",
            (unknown[0], unknown[near - 1]),
        )
        found = [(stream, text(name)) for stream, name in rows]
        known.update(found)
        names.update(found)
        for stream in unknown[:near]:
            if stream not in known:
                raise apsw.CorruptError(f"stream {stream!r} has no name")
        del unknown[:near]
    return known


def _name(connection: apsw.Connection, stream: int, names: dict[int, str]) -> str:
    if len(names) >= _REMEMBERED:
        names.clear()
    names[stream] = name = _name_of(connection, stream)
    return name


def _name_of(connection: apsw.Connection, stream: int) -> str:
    name = connection.execute("SELECT name FROM streams WHERE id = ?", (stream,)).get
    if name is None:
        raise apsw.CorruptError(f"stream {stream!r} has no name")
    return text(name)


class _SqliteView:
    """A connection inside a transaction."""

    dialect = DIALECT

    def __init__(self, connection: apsw.Connection, engine: SqliteEngine) -> None:
        self._connection = connection
        self._engine = engine
        self._names = engine._names

    def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        return executed(self._connection, sql, parameters, self._engine._explained)

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        return streamed(self._connection, sql, self._engine._explained)

    def checkpoint(self, name: str) -> Checkpoint | None:
        with self._judged():
            return _checkpoint(self._connection, name)

    def checkpoints(self, prefix: str) -> list[Checkpoint]:
        with self._judged():
            rows = self._connection.execute(
                "SELECT name, position, data FROM checkpoints WHERE substr(name, 1, ?) = ?"
                " ORDER BY name",
                (len(prefix), searchable(prefix)),
            )
            return list(map(checkpoint_of, rows))

    def read(self, query: Query, events: int) -> Page:
        with self._judged():
            return self._engine.page(self._connection, query, events, self._names)

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """Each call for itself: its user may handle what it raises, inside the transaction."""
        with judged(self._engine.path):
            try:
                yield
            except apsw.TooBigError as error:
                raise too_large(self._connection, self._engine.path, error) or error from error


class _SqliteTransaction(_SqliteView):
    """The writer's connection, inside a transaction."""

    def __init__(self, connection: apsw.Connection, engine: SqliteEngine) -> None:
        super().__init__(connection, engine)
        self._names = {}  # it sees streams that may be rolled back

    def save_checkpoint(self, checkpoint: Checkpoint, *, local: bool = False) -> None:
        del local  # there is one replica
        self._run(
            "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?)",
            (checkpoint.name, checkpoint.position, checkpoint.data),
        )

    def delete_checkpoint(self, name: str, *, local: bool = False) -> None:
        del local
        self._run("DELETE FROM checkpoints WHERE name = ?", (searchable(name),))

    def save_snapshot(self, snapshot: Snapshot) -> None:
        self._run(
            "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?)",
            (
                snapshot.subject,
                snapshot.position,
                snapshot.fold,
                snapshot.fold_version,
                snapshot.state,
            ),
        )

    def delete_snapshots(self, subject: str, positions: Sequence[int] | None = None) -> None:
        if positions is None:
            self._run("DELETE FROM snapshots WHERE subject = ?", (subject,))
        for position in positions or ():
            self._run(
                "DELETE FROM snapshots WHERE subject = ? AND position = ?", (subject, position)
            )

    def _run(self, sql: str, bounds: tuple[Any, ...]) -> None:
        with translated(self._engine.path):
            self._connection.execute(sql, bounds)


def _stored_commit(connection: apsw.Connection, commit_id: bytes) -> list[StoredSlice]:
    """The slices of a commit that is in the file; none where it isn't."""
    start = connection.execute(
        "SELECT position FROM slices WHERE commit_id = ? AND first_index = 0", (commit_id,)
    ).get
    if start is None:
        return []
    with limited(connection):
        rows = connection.execute(
            f"SELECT {COLUMNS} FROM slices WHERE position >= ? ORDER BY position", (start,)
        )
        with contextlib.closing(rows):
            whole = itertools.takewhile(lambda row: row[5] == commit_id, rows)
            return [_named(connection, row) for row in whole]


def _named(connection: apsw.Connection, row: Row) -> StoredSlice:
    return slice_of(row, _name_of(connection, row[1]))


class _Stream:
    __slots__ = ("category", "id", "version")

    def __init__(self, id_: int, name: str, version: int) -> None:
        self.id = id_
        self.category = category_of(name)
        self.version = version


_Mark: TypeAlias = tuple[int, int, tuple[int, ...]]

_EVERYBODYS: Final = (
    apsw.BusyError,
    apsw.LockedError,
    apsw.FullError,
    apsw.IOError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.NotADBError,
    apsw.InterruptError,
    apsw.NoMemError,
    MemoryError,
)


def _is_everybodys(error: Exception) -> bool:
    """Whether the medium failed, which is no single commit's fault."""
    if isinstance(error, StorageError):
        return not isinstance(error, StatementError)
    return isinstance(error, _EVERYBODYS)


def _is_not_its_own(error: Exception) -> bool:
    """Whether it isn't for the commit that was judged to answer for."""
    return _is_everybodys(error) or is_interrupt(error)


class _Writer:
    """The writing connection, and what it remembers of the file. Used under the engine's lock."""

    def __init__(
        self,
        connection: apsw.Connection,
        clock: Clock,
        guard: Guard | None,
        path: Path,
        busy_timeout: float,
    ) -> None:
        self.connection = connection
        connection.transaction_mode = "IMMEDIATE"
        self._guard = guard
        self._path = path
        self._place = str(path.resolve())
        self._busy_timeout = busy_timeout
        self._now = micros_by(clock)
        self._left_at = connection.data_version()
        self._open: object = None
        self._schema_version: int | None = None
        self._schema: list[Any] = []
        self._token = object()
        self._is_decided = False
        self._data_version: int | None = None
        self._forget()

    def _forget(self) -> None:
        self._data_version = None
        self._position = 0
        self._recorded_at = LONG_AGO
        self._last_stream = self._last_term = 0
        self._streams: dict[str, _Stream] = {}
        self._terms: dict[tuple[int, str], int] = {}
        self._noted: dict[tuple[str, tuple[str, ...]], int] = {}

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """A write transaction; whatever goes wrong in it leaves nothing behind.

        Not by the connection's own ``with``, which keeps the interpreter's lock while it waits for
        the disk, or for others.
        """
        connection = self.connection
        known = self._begin_afresh()
        self._open = mine = object()
        try:
            self._begin()
            if connection.data_version() != known:
                known = None
            yield connection
            self._commit()
            self._committed(forget=known is None)
        finally:
            if self._open is mine and connection.in_transaction:
                connection.execute("ROLLBACK")
            self._end(mine)

    def transact(self, work: Callable[[apsw.Connection], T]) -> T:
        """Run the work in a write transaction."""
        connection = self.connection
        known = self._begin_afresh()
        self._open = mine = object()
        try:
            self._begin()
            if connection.data_version() != known:
                known = None
            result = work(connection)
            self._commit()
            self._committed(forget=known is None)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._end(mine)
        return result

    def write(
        self,
        commits: Sequence[EncodedCommit],
        inline: Callable[[apsw.Connection], None] | None = None,
    ) -> list[Outcome]:
        """Write the commits, and run what is inline with them, in one transaction.

        Where that fails for what is in one of them, those that happened to be written together
        with it are written one by one, so that it fails none of them.
        """
        try:
            return self._write(commits, inline)
        except InlineError as error:
            if len(commits) == 1:
                return [error]
        except Exception as error:
            if len(commits) == 1 or self._is_decided or _is_not_its_own(error):
                raise
        outcomes: list[Outcome] = []
        for commit in commits:
            try:
                outcomes += self.write((commit,), inline)
            except Exception as error:
                if is_interrupt(error) or (not outcomes and _is_everybodys(error)):
                    raise
                outcomes.append(self._explained(commit, error))
                if _is_everybodys(error):
                    missing = len(commits) - len(outcomes)
                    return outcomes + [self._explained(commit, error)] * missing
        return outcomes

    def _explained(self, commit: EncodedCommit, error: Exception) -> EverwhenError:
        if isinstance(error, apsw.Error):
            explained = too_large(self.connection, self._path, error)
            explained = explained or translation(error, self._path)
            explained.__cause__ = error
            return explained
        return refusal_of(commit, error)

    def _write(
        self, commits: Sequence[EncodedCommit], inline: Callable[[apsw.Connection], None] | None
    ) -> list[Outcome]:
        known = self._begin_afresh()
        self._open = mine = object()
        try:
            self._begin()
            self._check_schema(known)
            self._catch_up(known)
            staged = _Staged()
            outcomes: list[Outcome] = []
            for commit in commits:
                before = self._mark(staged)
                try:
                    outcomes.append(self._stage(commit, staged))
                except RefusedError as error:
                    outcomes.append(error)
                except Exception as error:
                    if not self.connection.in_transaction or _is_not_its_own(error):
                        raise
                    self._take_back(staged, before)
                    outcomes.append(self._explained(commit, error))
            staged.insert(self.connection)
            if inline is not None:
                inline(self.connection)
            self._commit()
            self._committed()
        finally:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            self._end(mine)
        return outcomes

    def probe(self) -> int:
        """Write something that changes nothing, durably; how many bytes the file has."""
        with self.transaction() as connection:
            connection.pragma("user_version", connection.pragma("user_version"))
            pages, page_bytes = connection.pragma("page_count"), connection.pragma("page_size")
        return int(pages) * int(page_bytes)

    def _begin_afresh(self) -> int | None:
        """Before a transaction: what is remembered of the file is not true until its end.

        Returns the version of the file that it was true for. A transaction that was left open,
        since interrupts came in too quickly, ends here.
        """
        self._open = None
        self._is_decided = False
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        known, self._data_version = self._data_version, None
        return known

    def _begin(self) -> None:
        self._wait_to_write(self._busy_timeout)
        self.connection.execute("BEGIN IMMEDIATE")

    def _wait_to_write(self, seconds: float) -> None:
        """Until ``_end`` none of our writers writes besides, wherever; SQLite sees to others."""
        if self._guard is not None:
            waits = patience(seconds)
            for attempt in itertools.count():
                if self._guard.begin_writing(self._token):
                    return
                if not waits(attempt):
                    raise apsw.BusyError("another writer is at work")

    def _commit(self) -> None:
        if self._guard is not None:
            self._guard.check_before_commit(self._place)
            self._guard.check_place(self._place)
        self._is_decided = True
        self.connection.execute("COMMIT")

    def _end(self, transaction: object) -> None:
        """Let others write, once it is over; but not in place of the one that has followed it."""
        if self._open is transaction:
            if self._guard is not None:
                self._guard.end_writing(self._token)
            self._open = None

    def _committed(self, *, forget: bool = False) -> None:
        if self._guard is not None:
            self._guard.check_after_commit(self._place)
        self._left_at = self.connection.data_version()
        self._data_version = None if forget else self._left_at

    def settle(self) -> None:
        """Take what is in the log of changes into the file, so that it is whole wherever it is.

        Not if anybody else has written since: the log may be that of another file by now.
        """
        connection = self.connection
        connection.set_busy_handler(None)
        with self.last(), contextlib.suppress(apsw.Error):
            with connection:
                if connection.data_version() != self._left_at:
                    return
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextmanager
    def last(self) -> Iterator[None]:
        """Around closing: nobody begins to write to a log that is about to be deleted.

        If somebody does write, it isn't.
        """
        try:
            if self._guard is not None:
                self._guard.begin_writing(self._token)
            yield
        finally:
            if self._guard is not None:
                self._guard.end_writing(self._token)

    def purge(self) -> None:
        with self._alone(self._busy_timeout):
            self._forget()
            self.connection.execute("DELETE FROM snapshots")
            self.connection.execute("VACUUM")

    @contextmanager
    def _alone(self, seconds: float) -> Iterator[None]:
        """What can't be done within a transaction, while nobody else writes."""
        self._begin_afresh()
        self._open = mine = object()
        try:
            self._wait_to_write(seconds)
            yield
        finally:
            self._end(mine)

    def empty_journal(self) -> bool:
        """False where somebody reads or checkpoints the log of changes.

        It asks for a moment only: what waits for readers here keeps all writers out.
        """
        self.connection.set_busy_handler(patience(_MOMENT_SECONDS))
        try:
            with self._alone(_MOMENT_SECONDS):
                ((busy, _, _),) = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except apsw.BusyError:
            return False
        finally:
            self.connection.set_busy_handler(patience(self._busy_timeout))
        return not busy

    def _check_schema(self, known: int | None) -> None:
        """Raises `CorruptStoreError` where a write wouldn't store what is written, and no more.

        By the number only this connection's own changes are known: others' may leave it as it was.
        """
        connection = self.connection
        version = connection.execute("PRAGMA schema_version").get
        if version == self._schema_version and connection.data_version() == known:
            return
        schema: list[Any] = connection.execute(READ_SCHEMA).fetchall()
        if schema != self._schema:
            check_schema(connection, self._path)
        self._schema_version, self._schema = version, schema

    def _catch_up(self, known: int | None) -> None:
        """Take in what others have written since the file was known as it is remembered."""
        if self.connection.data_version() == known:
            if len(self._streams) > _REMEMBERED:
                self._streams.clear()
            if len(self._terms) > _REMEMBERED:
                self._terms.clear()
            if len(self._noted) > _REMEMBERED:
                self._noted.clear()
            return
        self._forget()
        get = self.connection.execute
        newest = get("SELECT position, recorded_at FROM slices ORDER BY position DESC LIMIT 1").get
        if newest is not None:
            self._position, self._recorded_at = counter(newest[0]), moment(newest[1])
        self._last_stream = counter(get("SELECT max(id) FROM streams").get or 0)
        self._last_term = counter(get("SELECT max(id) FROM terms").get or 0)

    def _stage(self, commit: EncodedCommit, staged: _Staged) -> Receipt:
        """Judge the commit as if all before it were written, and line its rows up."""
        commit_id = commit.id
        if not commit.is_fresh:
            known = staged.commit(commit_id) or _stored_commit(self.connection, commit_id)
            if known:
                return repeated(commit, known)
        for name, expected in commit.expected:
            stream = self._stream(name)
            actual = stream.version if stream is not None else 0
            if not holds(expected, actual):
                raise ConflictError(name, expected, actual)
        if commit.condition is not None:
            after = commit.condition.after
            with contextlib.closing(self._newer(commit.condition.query, after, staged)) as newer:
                check_condition(commit.condition.query, after, newer)
        self._recorded_at = recorded_at = time_of_commit(commit, self._now, self._recorded_at)
        versions: dict[str, int] = {}
        index = 0
        start = len(staged.slices)
        for part in commit.slices:
            versions[part.stream] = self._line_up(part, commit, index, staged)
            index += part.count
        staged.commits[commit_id] = (start, len(staged.slices))
        return Receipt(commit_id, self._position, recorded_at, versions)

    def _mark(self, staged: _Staged) -> _Mark:
        return self._position, self._recorded_at, staged.sizes()

    def _take_back(self, staged: _Staged, mark: _Mark) -> None:
        """Leave nothing of a commit that failed while it was lined up."""
        self._position, self._recorded_at, sizes = mark
        streams, terms = staged.cut(sizes)
        self._last_stream -= streams
        self._last_term -= terms
        self._streams.clear()
        self._terms.clear()
        self._noted.clear()
        self._recall(staged)

    def _recall(self, staged: _Staged) -> None:
        """Remember what is lined up, and not in the file yet."""
        for id_, name in staged.streams:
            self._streams[name] = _Stream(id_, name, 0)
        for term, kind, name in staged.terms:
            self._terms[kind, name] = term
        for name, row in zip(staged.names, staged.slices, strict=True):
            self._streams[name] = _Stream(row[1], name, row[2])

    def _line_up(
        self, part: EncodedSlice, commit: EncodedCommit, index: int, staged: _Staged
    ) -> int:
        """Number the slice's events and add its rows; the stream's new version."""
        name, count = part.stream, part.count
        stream = self._streams.get(name) or self._stream(name) or self._new_stream(name, staged)
        self._position = position = self._position + count
        stream.version = version = stream.version + count
        staged.slices.append(
            (
                position,
                stream.id,
                version,
                count,
                self._recorded_at,
                commit.id,
                index,
                commit.metadata,
                part.body,
            )
        )
        staged.names.append(name)
        block = block_of(position)
        contents = (stream.category, part.types)
        if self._noted.get(contents) != block:
            self._noted[contents] = block
            self._mark_block(contents, block, staged)
        for tag in part.tags:
            staged.marks.append((self._term(TAG, tag, staged), position))
        return version

    def _mark_block(
        self, contents: tuple[str, tuple[str, ...]], block: int, staged: _Staged
    ) -> None:
        """Note in the index that a category and types occur in the block."""
        category, types = contents
        staged.marks.append((self._term(CATEGORY, category, staged), block))
        staged.marks.extend((self._term(TYPE, name, staged), block) for name in types)

    def _term(self, kind: int, name: str, staged: _Staged) -> int:
        key = (kind, name)
        term = self._terms.get(key)
        if term is None:
            term = self.connection.execute(
                "SELECT id FROM terms WHERE kind = ? AND name = ?", key
            ).get
            if term is None:
                self._last_term = term = self._last_term + 1
                staged.terms.append((term, kind, name))
            self._terms[key] = term
        return term

    def _stream(self, name: str) -> _Stream | None:
        stream = self._streams.get(name)
        if stream is None:
            row = self.connection.execute(
                "SELECT id, (SELECT max(version) FROM slices WHERE stream = streams.id)"
                " FROM streams WHERE name = ?",
                (name,),
            ).get
            if row is not None:
                stream = self._streams[name] = _Stream(row[0], name, counter(row[1]))
        return stream

    def _new_stream(self, name: str, staged: _Staged) -> _Stream:
        self._last_stream += 1
        staged.streams.append((self._last_stream, name))
        stream = self._streams[name] = _Stream(self._last_stream, name, 0)
        return stream

    def _newer(
        self, query: Query, after: int, staged: _Staged
    ) -> Generator[StoredSlice, None, None]:
        """Every slice behind the position that may match, written or lined up.

        Close it, or a refusal's traceback keeps its statement open: the connection would stay on
        an old snapshot, and the statement would be let go by whatever thread drops the error.
        """
        newest = self.connection.execute("SELECT max(position) FROM slices").get or 0
        if newest > after:
            window = Window(after, newest, reverse=False)
            with limited(self.connection):
                for row in rows_to_judge(self.connection, query, window):
                    yield _named(self.connection, row)
        for index in range(len(staged.slices)):
            yield staged.slice(index)


class _Staged:
    """Rows lined up by one transaction, inserted together at its end."""

    __slots__ = ("commits", "marks", "names", "slices", "streams", "terms")

    def __init__(self) -> None:
        self.commits: dict[bytes, tuple[int, int]] = {}
        self.slices: list[Row] = []
        self.names: list[str] = []
        self.streams: list[tuple[int, str]] = []
        self.terms: list[tuple[int, int, str]] = []
        self.marks: list[tuple[int, int]] = []

    def sizes(self) -> tuple[int, ...]:
        """How much is lined up; see ``cut``."""
        return tuple(map(len, self._lists()))

    def cut(self, sizes: tuple[int, ...]) -> tuple[int, int]:
        """Drop what a commit added; how many streams and terms were new with it."""
        new = len(self.streams), len(self.terms)
        rows: list[Any]
        for rows, size in zip(self._lists(), sizes, strict=True):
            del rows[size:]
        return new[0] - len(self.streams), new[1] - len(self.terms)

    def _lists(self) -> tuple[list[Any], ...]:
        return self.slices, self.names, self.streams, self.terms, self.marks

    def slice(self, index: int) -> StoredSlice:
        """A lined-up slice as it will be stored."""
        row = self.slices[index]
        return StoredSlice(row[0], self.names[index], *row[2:])

    def commit(self, commit_id: bytes) -> list[StoredSlice]:
        """The slices of a commit that is lined up; none where it isn't."""
        span = self.commits.get(commit_id)
        return [] if span is None else [self.slice(index) for index in range(*span)]

    def insert(self, connection: apsw.Connection) -> None:
        """Write everything that was lined up."""
        _insert(connection, _INTO_STREAMS, self.streams)
        _insert(connection, _INTO_TERMS, self.terms)
        _insert(connection, _INTO_SLICES, self.slices)
        _insert(connection, _INTO_MARKS, self.marks)


_AT_ONCE: Final = (64, 8, 1)


def _inserts(into: str, columns: int) -> dict[int, str]:
    """The statements that insert 64 rows, 8 rows, or one."""
    row = f"({', '.join('?' * columns)})"
    return {rows: f"{into} VALUES {', '.join([row] * rows)}" for rows in _AT_ONCE}


_INTO_STREAMS: Final = _inserts("INSERT INTO streams", 2)
_INTO_TERMS: Final = _inserts("INSERT INTO terms", 3)
_INTO_SLICES: Final = _inserts("INSERT INTO slices", 9)
_INTO_MARKS: Final = _inserts("INSERT OR IGNORE INTO marks", 2)


def _insert(
    connection: apsw.Connection, statements: dict[int, str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert the rows, many with one statement.

    Each step of a statement gives up the interpreter's lock, and takes it back in competition with
    the threads whose commits these are.
    """
    start, left = 0, len(rows)
    for size, sql in statements.items():
        while left >= size:
            connection.execute(
                sql, tuple(itertools.chain.from_iterable(rows[start : start + size]))
            )
            start += size
            left -= size
