"""The PostgreSQL engine: one log in one schema, written by any number of processes and hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import NoReturn, Protocol, TypeVar

import msgspec
import psycopg
from psycopg import Rollback
from psycopg.errors import DataCorrupted, IndexCorrupted
from psycopg.pq.abc import PGconn

from everwhen.backends.commit_checks import refusal_of, written_one_by_one
from everwhen.backends.engine import (
    EngineCompaction,
    EngineTransaction,
    Inline,
    NotFetchedError,
    Scratch,
    check_reached,
)
from everwhen.backends.history_moves import Moving
from everwhen.backends.notifier import News
from everwhen.backends.postgres import lookups, schema
from everwhen.backends.postgres.address import Address
from everwhen.backends.postgres.checking import hidden_problems, problems
from everwhen.backends.postgres.error_translation import translated, words_of
from everwhen.backends.postgres.joined_session import joined
from everwhen.backends.postgres.one_call import written_in_one_call
from everwhen.backends.postgres.page_check import page_problems
from everwhen.backends.postgres.pages import read_page
from everwhen.backends.postgres.scratch import PostgresScratch
from everwhen.backends.postgres.sealed_bodies import NotOfOneMomentError, SealedBodies
from everwhen.backends.postgres.segment_tables import PostgresTables
from everwhen.backends.postgres.sessions import Sessions
from everwhen.backends.postgres.statements import PostgresSession, statements
from everwhen.backends.postgres.views import PostgresTransaction, PostgresView
from everwhen.backends.postgres.watch import LogWatch
from everwhen.backends.postgres.writer import CommitWriter
from everwhen.backends.sql_connection import SqlConnection
from everwhen.system.fair_lock import FairLock
from everwhen.system.file_backups import BackupListener, BackupReport, BackupTask
from everwhen.system.interrupts import is_interrupt
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
    Receipt,
    Segment,
    Snapshot,
    SnapshotInfo,
    StoredSlice,
    StreamInfo,
    TableSize,
)
from everwhen.vocabulary.errors import (
    CorruptStoreError,
    InlineError,
    ReadOnlyError,
    StorageError,
    UnsupportedError,
)
from everwhen.vocabulary.query import Query

T = TypeVar("T")

_MISTAKES = (psycopg.IntegrityError, psycopg.DataError, psycopg.ProgrammingError)


def _is_its_own(error: Exception) -> bool:
    """Whether it is for what is in the commits, so that not all of a group need fail for it."""
    if isinstance(error, StorageError):
        return isinstance(error.__cause__, _MISTAKES)
    return not is_interrupt(error) and not isinstance(error, NotFetchedError)


class _Write(Protocol):
    def __call__(self, commits: Sequence[EncodedCommit], *, waits: bool) -> list[Outcome]: ...


def _written(write: _Write, commits: Sequence[EncodedCommit], *, waits: bool) -> list[Outcome]:
    """Write commits together; one by one, where they fail for what is in one of them.

    What is in an archive is waited for then, as some may be written already.
    """

    def write_one(commit: EncodedCommit) -> list[Outcome]:
        try:
            # an id that was made just now is looked up all the same: one may have lied
            return write((msgspec.structs.replace(commit, is_fresh=False),), waits=True)
        except InlineError as error:
            return [error]

    try:
        return write(commits, waits=waits)
    except InlineError as error:
        if len(commits) == 1:
            return [error]
    except Exception as error:
        if not _is_its_own(error) or (len(commits) == 1 and not commits[0].is_fresh):
            raise
    return written_one_by_one(commits, write_one, refusal_of, lambda error: not _is_its_own(error))


class PostgresEngine:
    """One log in one schema. Safe from any thread; not to be taken through a fork.

    ``url`` is libpq's, with ``schema`` as one more parameter. ``busy_timeout`` is in seconds: for
    so long others are waited for. ``durable=False`` doesn't wait for the server's disk: a crash of
    the server may then take the newest commits.
    """

    blocking = True
    capabilities: Capabilities = Capabilities(
        name="postgresql",
        durable=True,
        dense_positions=True,
        shared_by_processes=True,
        sql=True,
        keeps_recorded_at=True,
        joins_transactions=True,
        seals=True,
    )

    def __init__(
        self,
        url: str | Address,
        *,
        clock: Clock = system_clock,
        read_only: bool = False,
        durable: bool = True,
        busy_timeout: float = 30.0,
    ) -> None:
        self._address = address = url if isinstance(url, Address) else Address.parsed(url)
        self._schema = address.schema
        self.path = self.place = address.place
        self.location = address.url
        self.busy_timeout = busy_timeout
        self.lock = FairLock()
        self.news = News()
        self.inline: list[Inline] = []
        self._bodies = SealedBodies()
        self._clock = clock
        self._read_only = read_only
        self._durable = durable
        if not durable:
            self.capabilities = msgspec.structs.replace(self.capabilities, durable=False)
        self._sessions = Sessions(
            address, read_only=read_only, durable=durable, busy_timeout=busy_timeout
        )
        try:
            session = self._sessions.opened()
            try:
                with translated(self.place):
                    schema.prepare(session, self._schema, self.place, read_only=read_only)
            finally:
                session.close()
        except BaseException:
            self._sessions.close()
            raise
        self._watch = LogWatch(self._sessions.opened, self._schema, self.news.publish)

    # Writing

    def write(self, commits: Sequence[EncodedCommit], *, waits: bool = False) -> list[Outcome]:
        return _written(self._write, commits, waits=waits)

    def write_within(self, pgconn: PGconn, commits: Sequence[EncodedCommit]) -> list[Outcome]:
        """The same in a transaction of the caller's own, which ends as they end it."""
        self.check_open()
        self._check_writable()
        with translated(self.place), joined(pgconn, self._sessions, self.busy_timeout) as session:
            return _written(partial(self._write_joined, session), commits, waits=True)

    def _write_joined(
        self, session: PostgresSession, commits: Sequence[EncodedCommit], *, waits: bool
    ) -> list[Outcome]:
        del waits  # a caller's transaction is not to be begun anew
        with translated(self.place), session.transaction() as savepoint:
            outcomes = None
            if not self.inline:
                outcomes = written_in_one_call(session, self._schema, self._clock, commits)
            if outcomes is None:
                outcomes = self._written_held(session, self._bodies, commits, ends_when_idle=False)
            if not any(isinstance(outcome, Receipt) for outcome in outcomes):
                raise Rollback(savepoint)  # which lets go of the lock
        return outcomes

    def _write(self, commits: Sequence[EncodedCommit], *, waits: bool) -> list[Outcome]:
        self.check_open()
        self._check_writable()
        with translated(self.place):
            outcomes = None
            if commits and not self.inline:
                with self._sessions.calling() as session:
                    outcomes = written_in_one_call(session, self._schema, self._clock, commits)
            if outcomes is None:
                bodies = self._bodies if waits else self._bodies.deferring
                with self._sessions.appending() as session:
                    outcomes = self._written_held(session, bodies, commits, ends_when_idle=True)
        self.news.publish()
        return outcomes

    def _written_held(
        self,
        session: PostgresSession,
        bodies: SealedBodies,
        commits: Sequence[EncodedCommit],
        *,
        ends_when_idle: bool,
    ) -> list[Outcome]:
        """Write them with the log's lock held over round trips, to judge each of them."""
        writer = CommitWriter(session, self._schema, self._clock, bodies)
        outcomes = writer.write(commits, ends_when_idle=ends_when_idle)
        for inline in self.inline:
            inline(self._transaction_on(session))
        return outcomes

    @contextmanager
    def transaction(self) -> Iterator[PostgresTransaction]:
        with self._changing() as session:
            yield self._transaction_on(session)

    def transact(self, work: Callable[[EngineTransaction], T]) -> T:
        with self.transaction() as transaction:
            return work(transaction)

    def _transaction_on(self, session: PostgresSession) -> PostgresTransaction:
        return PostgresTransaction(session, self._schema, self.place, self._bodies)

    @contextmanager
    def _changing(self) -> Iterator[PostgresSession]:
        self.check_open()
        self._check_writable()
        with translated(self.place), self._sessions.writing() as session:
            yield session

    # Reading

    def watch(self) -> int:
        self.check_open()
        return self._watch.go_on()

    @contextmanager
    def view(self) -> Iterator[PostgresView]:
        with translated(self.place), self._sessions.reading() as session:
            yield PostgresView(
                session, self._schema, self.place, self._bodies, self._sessions.streams
            )

    def read(self, query: Query, events: int) -> Page:
        wanted = query, events, self._bodies.deferring, self._sessions.streams
        try:
            return self._sessions.read(read_page, *wanted)
        except NotOfOneMomentError:  # it has sealed slices, which others may be moving
            return self._sessions.read_at_once(read_page, *wanted)

    def stored_commit(self, commit_id: bytes) -> list[StoredSlice]:
        deferring = self._bodies.deferring
        return self._sessions.read_at_once(lookups.stored_commit, commit_id, deferring)

    def head(self) -> Head:
        return self._sessions.read(lookups.head)

    def check_end(self, after: int) -> None:
        end, is_standby = self._sessions.read(lookups.end)
        if not is_standby:
            check_reached(self.place, end, after)

    def position_at(self, recorded_at: int) -> int:
        return self._sessions.read(lookups.position_at, recorded_at)

    def stream(self, name: str) -> StreamInfo | None:
        return self._sessions.read(lookups.stream, name)

    def streams(self, category: str | None, after: str, limit: int) -> list[StreamInfo]:
        return self._sessions.read(lookups.streams, category, after, limit)

    def checkpoint(self, name: str) -> Checkpoint | None:
        return self._sessions.read(lookups.checkpoint, name)

    def checkpoints(self) -> list[Checkpoint]:
        return self._sessions.read(lookups.checkpoints)

    def snapshots(self, subject: str, up_to: int | None, limit: int) -> list[Snapshot]:
        return self._sessions.read(lookups.snapshots, subject, up_to, limit)

    def snapshots_after(self, subject: str, position: int, limit: int) -> list[SnapshotInfo]:
        return self._sessions.read(lookups.snapshots_after, subject, position, limit)

    def sql_connection(self) -> SqlConnection:
        self._refuse("sql_connection() is of SQLite's; connect to the database with psycopg")

    def scratch(self) -> Scratch:
        self.check_open()
        return PostgresScratch(self._sessions.opened(), self.place)

    # Other logs beside it, each in a schema of its own

    def has_log(self, log: str) -> bool:
        self.check_open()
        beside = self._address.beside(log).schema
        return self._sessions.read(lambda session, _: schema.exists(session, beside))

    def open_log(self, log: str, not_before: datetime | None) -> PostgresEngine:
        self.check_open()
        if not self.has_log(log):
            self._check_writable()
        return PostgresEngine(
            self._address.beside(log),
            clock=clock_from(not_before, self._clock),
            read_only=self._read_only,
            durable=self._durable,
            busy_timeout=self.busy_timeout,
        )

    def drop_log(self, log: str) -> None:
        with self._changing() as session:
            schema.drop(session, self._address.beside(log).schema)

    # Looking after it

    def check(self) -> Iterator[Problem]:
        self.check_open()
        with self._sessions.reading() as session, translated(self.place):
            found = list(page_problems(session, self._schema))
            yield from found
            try:
                yield from problems(session, self._schema, SealedBodies())
            except (DataCorrupted, IndexCorrupted) as error:
                if not found:
                    yield Problem("pages", words_of(error))

    def table_sizes(self) -> list[TableSize]:
        return self._sessions.read(lookups.table_sizes)

    def check_schema(self) -> None:
        self._bodies.clear()
        missing = self._sessions.read(schema.missing_tables)
        if missing:
            raise CorruptStoreError(
                f"{self.place}: its tables are not those that Everwhen makes "
                f"({', '.join(sorted(missing))} missing); restore it from a backup"
            )

    def find_hidden(self, after: int) -> Iterator[Problem]:
        self.check_open()
        with self._sessions.reading() as session, translated(self.place):
            yield from hidden_problems(session, self._schema, after, SealedBodies())

    def backup(self, task: BackupTask, listener: BackupListener) -> BackupReport:
        del listener
        self._refuse(f"no file {task.path} is made of it; use pg_dump, or copy the cluster")

    def probe_purge(self) -> None:
        """Takes the locks that an erasure takes, too: whoever holds one is met now."""
        sql = statements("writing", self._schema)
        with self._changing() as session:
            ((may_purge,),) = session.execute(sql["may_purge"]).fetchall()
            if not may_purge:
                raise ReadOnlyError(
                    f"{self.place}: this role may not empty the table of snapshots; "
                    f"GRANT TRUNCATE on it, or let its owner do this"
                )
            session.execute(sql["lock"])
            session.execute(sql["lock_snapshots"])

    def purge(self) -> None:
        """A new file at once: what was in the old one is gone, whoever still looks at it."""
        with self._changing() as session:
            session.execute(statements("writing", self._schema)["purge_snapshots"])

    def empty_journal(self) -> None:
        self.check_open()

    def compaction(self) -> EngineCompaction:
        self._refuse("the server gives pages back itself, see autovacuum")

    def segments(self) -> list[Segment]:
        return self._sessions.read(lookups.segments)

    def moving(self, move: Move) -> Moving[PostgresSession]:
        self.check_open()
        self._check_writable()
        return Moving(
            PostgresTables(self._schema),
            self._read_to_move,
            self._moved,
            self._bodies.groups,
            micros_by(self._clock),
            move,
        )

    def _read_to_move(self, read: Callable[[PostgresSession], T]) -> T:
        return self._sessions.read_at_once(lambda session, _: read(session))

    def _moved(self, step: Callable[[PostgresSession], None]) -> None:
        with self._changing() as session:
            step(session)

    # The end

    @property
    def is_foreign(self) -> bool:
        return self._sessions.is_foreign

    def check_open(self) -> None:
        self._sessions.check_open()

    def close(self) -> None:
        if not self.is_foreign:
            self._watch.stop()
            self._sessions.close()
            self.news.publish()

    def _check_writable(self) -> None:
        if self._read_only:
            raise ReadOnlyError(f"{self.place}: opened with read_only=True; open it for writing")

    def _refuse(self, why: str) -> NoReturn:
        self.check_open()
        raise UnsupportedError(f"{self.place}: {why}")
