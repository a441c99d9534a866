"""SQL questions to a store in the process that has it open: a connection as DB-API 2.0 shapes it.

Python's own ``sqlite3`` is another SQLite library. Where one process has a file open with both,
closing it in the one drops the locks that the other holds (POSIX), and commits that were
acknowledged get lost. So these questions go through the library that the store uses.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from everwhen.system.forks import keep, register
from everwhen.vocabulary.errors import EverwhenError, StatementError, StorageError, StoreClosedError

if TYPE_CHECKING:
    import apsw

Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]
Explained: TypeAlias = Callable[[Exception, str], EverwhenError]
"""A failure of SQLite's, and the statement it was met in, as one of our errors."""


class Held(Protocol):
    """What stands for an open connection to a file."""

    def closing(self) -> AbstractContextManager[None]:
        """Around closing the connection; once."""
        ...

    def forgotten(self, owner: SqlConnection) -> None:
        """Close the owner, in its ``__del__``: now, or where that can be done."""
        ...

    def torn(self) -> None:
        """In a child whose fork came while the connection was used."""
        ...


class SqlConnection:
    """A connection that only reads, for what takes one of DB-API 2.0: pandas, polars, notebooks.

    Parameters go by place (``?``) or by name (``:name``). It may be used in any thread, by one at
    a time; others wait. It blocks its thread in both flavours. It sees what is committed when a
    statement begins; while a cursor has rows left, the store's write-ahead log keeps growing, so
    read to the end or close it. Close the connection when you are done; closing the store doesn't.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        explained: Explained,
        check: Callable[[], None],
        held: Held,
    ) -> None:
        self._connection: apsw.Connection | None = connection
        self._explained = explained
        self._check = check
        self._held = held
        self._lock = threading.RLock()
        self._process = os.getpid()
        register(self)

    def cursor(self) -> SqlCursor:
        """A cursor for one statement at a time. Raises `StoreClosedError` after ``close``."""
        if os.getpid() != self._process:
            raise StorageError(
                f"this connection was opened by process {self._process}; SQLite connections don't "
                f"survive a fork, open the store again in the child"
            )
        with self._lock:
            if self._connection is None:
                raise StoreClosedError
            cursor = self._connection.cursor()
            return SqlCursor(self, cursor, self._explained, self._check, self._lock)

    def execute(self, sql: str, parameters: Parameters = ()) -> SqlCursor:
        """A cursor that has executed this statement; see `SqlCursor.execute`."""
        return self.cursor().execute(sql, parameters)

    def commit(self) -> None:
        """Nothing to do: it only reads."""

    def rollback(self) -> None:
        """Nothing to do: it only reads."""

    def close(self) -> None:
        """Release the file, and all cursors with it; calling it again does nothing."""
        if os.getpid() != self._process:
            return
        with self._lock:
            if self._connection is not None:
                with self._held.closing():
                    self._connection.close(True)
                self._connection = None

    def __del__(self) -> None:
        if getattr(self, "_connection", None) is not None:
            with contextlib.suppress(Exception):
                self._held.forgotten(self)

    # Forks

    def hold(self, seconds: float) -> bool:
        """Keep everybody out; returns whether nobody was inside within ``seconds``."""
        return os.getpid() == self._process and self._lock.acquire(timeout=seconds)

    def resume(self) -> None:
        """Let them in again."""
        self._lock.release()

    def forked(self, *, quiet: bool) -> None:
        """In a child the connection is taken apart in memory, and never used again."""
        if self._connection is None or os.getppid() != self._process:
            return
        if quiet:
            self._connection.close(True)
        else:
            keep([self._connection])
            self._held.torn()

    def __enter__(self) -> SqlConnection:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SqlConnection, {'closed' if self._connection is None else 'open'}>"


class SqlCursor:
    """One statement's rows, each a tuple. Iterate over it, or fetch them."""

    rowcount = -1
    """What DB-API says where no rows are changed."""

    def __init__(
        self,
        connection: SqlConnection,
        cursor: apsw.Cursor,
        explained: Explained,
        check: Callable[[], None],
        lock: threading.RLock,
    ) -> None:
        self.connection = connection
        self.description: tuple[tuple[Any, ...], ...] | None = None
        """For each column seven values, of which the first is its name. None before ``execute``."""
        self.arraysize = 1
        """How many rows ``fetchmany`` gives by default."""
        self._cursor = cursor
        self._explained = explained
        self._check = check  # raises where what was read may be old, or torn
        self._lock = lock
        self._sql = ""
        self._statements = 0
        cursor.exec_trace = self._begun

    def execute(self, sql: str, parameters: Parameters = ()) -> SqlCursor:
        """Execute one statement, a question. Returns the cursor itself.

        Raises `StatementError` where it can't be run, doesn't only read, or is more than one.
        """
        self._sql, self._statements, self.description = sql, 0, None
        bound = parameters if isinstance(parameters, Mapping) else tuple(parameters)
        with self._lock:
            try:
                self._cursor.execute(sql, bound)
            except StatementError:
                raise
            except Exception as error:
                raise self._explained(error, sql) from error
            self._check()
        return self

    def _begun(self, cursor: apsw.Cursor, sql: str, parameters: object) -> bool:
        """Learn the columns before the first row: there may be none, and then it is too late."""
        del sql, parameters
        self._statements += 1
        if self._statements > 1:
            raise StatementError(f"more than one statement; execute each by itself: {self._sql}")
        self.description = (
            tuple((column[0], *[None] * 6) for column in cursor.get_description()) or None
        )
        return True

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row; None after the last."""
        with self._lock:
            try:
                row = next(self._cursor, None)
            except Exception as error:
                raise self._failed(error) from error
            self._check()
            return row

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """The next rows, at most ``size`` or ``arraysize``; fewer only at the end."""
        rows: list[tuple[Any, ...]] = []
        while len(rows) < (self.arraysize if size is None else size):
            row = self.fetchone()
            if row is None:
                break
            rows.append(row)
        return rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows that are left."""
        with self._lock:
            try:
                rows = self._cursor.fetchall()
            except Exception as error:
                raise self._failed(error) from error
            self._check()
            return rows

    def _failed(self, error: Exception) -> EverwhenError:
        if isinstance(error, EverwhenError):
            return error
        return self._explained(error, self._sql)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self

    def __next__(self) -> tuple[Any, ...]:
        row = self.fetchone()
        if row is None:
            raise StopIteration
        return row

    def close(self) -> None:
        """Let the rows go that are left; calling it again does nothing."""
        with self._lock:
            self._cursor.close(True)

    def __enter__(self) -> SqlCursor:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()
