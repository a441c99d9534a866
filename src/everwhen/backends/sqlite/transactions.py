"""Transactions of the one connection that writes, one at a time, under the engine's lock.

Each holds SQLite's write lock from its start, so that what it reads of other processes' work is
settled. The guard stands beside it: it is asked before the commit, and once more after it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import apsw

from everwhen.backends.sqlite.connection import leave_alone
from everwhen.backends.sqlite.lock_guard import Guard
from everwhen.backends.sqlite.schema import WITH_PAGE_MAP
from everwhen.backends.sqlite.statements import statements
from everwhen.system.sqlite_connection import patience
from everwhen.vocabulary.errors import LocksLostError

T = TypeVar("T")

_SQL: Final = statements("writing")

_LOG_PAGES: Final = 1_000
"""At how many pages the log of changes is taken into the file: 4 MB, which a commit does in passing
and readers search quickly. It is SQLite's own default, said here so that no build decides it."""

_EMPTYING_SECONDS: Final = 0.05
"""How long emptying the log of changes may wait for readers: all writers are kept out meanwhile."""


class WriteTurn:
    """One transaction's turn to write."""

    __slots__ = ("is_file_as_left",)

    def __init__(self) -> None:
        self.is_file_as_left = False
        """Whether nobody else has written since the last transaction of this connection."""


class Transactions:
    """The connection that writes. Not safe to share: its user holds the engine's lock."""

    def __init__(
        self, connection: apsw.Connection, guard: Guard | None, path: Path, busy_timeout: float
    ) -> None:
        self.connection = connection
        connection.transaction_mode = "IMMEDIATE"
        self.is_decided = False
        """Whether the last transaction has come as far as its commit, so that it may be written."""
        self._guard = guard
        self._place = str(path.resolve())
        self._busy_timeout = busy_timeout
        self._token = object()
        self._open: object = None
        self._left_at = connection.data_version()
        self._known_at: int | None = None

    def limit_log(self) -> None:
        """From here on commits take the log of changes into the file, now and then."""
        self.connection.wal_autocheckpoint(_LOG_PAGES)

    @contextmanager
    def transaction(self) -> Iterator[WriteTurn]:
        """A write transaction; an error rolls all of it back.

        Not by the connection's own ``with``, which keeps the interpreter's lock while it waits for
        the disk, or for others.
        """
        connection = self.connection
        known_at = self._begin_afresh()
        self._open = turn = WriteTurn()
        try:
            self._begin()
            turn.is_file_as_left = connection.data_version() == known_at
            yield turn
            self._commit()
            self._committed(turn)
        finally:
            if self._open is turn and connection.in_transaction:
                connection.execute("ROLLBACK")
            self._end(turn)

    def transact(self, work: Callable[[WriteTurn], T]) -> T:
        """Run the work in a write transaction; also where an interrupt may come at any moment."""
        connection = self.connection
        known_at = self._begin_afresh()
        self._open = turn = WriteTurn()
        try:
            self._begin()
            turn.is_file_as_left = connection.data_version() == known_at
            result = work(turn)
            self._commit()
            self._committed(turn)
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._end(turn)
        return result

    def _begin_afresh(self) -> int | None:
        """Before a transaction: what is remembered of the file is not true until its end.

        Returns the version of the file that it was true for. A transaction that was left open,
        since interrupts came in too quickly, ends here.
        """
        self._open = None
        self.is_decided = False
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        known_at, self._known_at = self._known_at, None
        return known_at

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
        self.is_decided = True
        self.connection.execute("COMMIT")

    def _committed(self, turn: WriteTurn) -> None:
        if self._guard is not None:
            self._guard.check_after_commit(self._place)
        self._left_at = self.connection.data_version()
        self._known_at = self._left_at if turn.is_file_as_left else None

    def _end(self, turn: object) -> None:
        """Let others write, once it is over; but not in place of the one that has followed it."""
        if self._open is turn:
            if self._guard is not None:
                self._guard.end_writing(self._token)
            self._open = None

    @contextmanager
    def _alone(self, seconds: float) -> Iterator[None]:
        """What can't be done within a transaction, while nobody else writes."""
        self._begin_afresh()
        self._open = turn = object()
        try:
            self._wait_to_write(seconds)
            yield
        finally:
            self._end(turn)

    # Looking after the file

    def probe(self) -> int:
        """Write something that changes nothing, durably; how many bytes the file has."""
        connection = self.connection
        with self.transaction():
            connection.pragma("user_version", connection.pragma("user_version"))
            pages, page_bytes = connection.pragma("page_count"), connection.pragma("page_size")
        return int(pages) * int(page_bytes)

    def is_idle(self) -> bool:
        """Whether nobody, wherever, was in the middle of a write at some moment of this call."""
        self.connection.set_busy_handler(None)
        try:
            with self._alone(0):
                self.connection.execute("BEGIN IMMEDIATE")
                self.connection.execute("ROLLBACK")
        except apsw.BusyError:
            return False
        finally:
            self.connection.set_busy_handler(patience(self._busy_timeout))
        return True

    def purge(self) -> None:
        """Delete every snapshot, and write the file anew without its gaps."""
        with self._alone(self._busy_timeout):
            self.connection.execute(_SQL["delete_all_snapshots"])
            self.connection.execute(_SQL["delete_sealed_slices"])
            self._write_anew()

    def write_anew(self) -> None:
        """Write the file anew without its gaps, and with a map of its pages."""
        with self._alone(self._busy_timeout):
            self._write_anew()

    def _write_anew(self) -> None:
        if self._guard is not None:
            self._guard.check_place(self._place)
            if self._guard.has_lost_locks:
                raise LocksLostError(self._place, committed=False)
        self.connection.execute(WITH_PAGE_MAP)
        self.connection.execute("VACUUM")
        if self._guard is not None:
            self._guard.check_after_commit(self._place)

    def empty_log(self) -> bool:
        """False where somebody reads or checkpoints the log of changes.

        It asks for a moment only: what waits for readers here keeps all writers out.
        """
        self.connection.set_busy_handler(patience(_EMPTYING_SECONDS))
        try:
            with self._alone(_EMPTYING_SECONDS):
                ((busy, _, _),) = self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except apsw.BusyError:
            return False
        finally:
            self.connection.set_busy_handler(patience(self._busy_timeout))
        return not busy

    # Closing

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

    def leave_alone(self) -> None:
        """Closing the connection takes nothing into the file, and deletes nothing."""
        leave_alone(self.connection)
