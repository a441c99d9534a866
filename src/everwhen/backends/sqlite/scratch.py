"""A database beside the store's, for what is computed again and compared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import apsw

from everwhen.backends.sql_connection import Explained
from everwhen.backends.sqlite_dialect import DIALECT

_STEPS: Final = 100_000


def streamed(
    connection: apsw.Connection, sql: str, explained: Explained
) -> Iterator[tuple[Any, ...]]:
    """A statement's rows; Ctrl-C doesn't have to wait until they are sorted."""
    connection.set_progress_handler(lambda: False, _STEPS)
    try:
        with contextlib.closing(connection.execute(sql)) as rows:
            yield from rows
    except (apsw.Error, ValueError) as error:  # such as text that is none
        raise explained(error, sql) from error
    finally:
        connection.set_progress_handler(None)


def executed(
    connection: apsw.Connection,
    sql: str,
    parameters: Sequence[Any] | Mapping[str, Any],
    explained: Explained,
) -> list[tuple[Any, ...]]:
    """A statement's rows, all at once."""
    bound = parameters if isinstance(parameters, Mapping) else tuple(parameters)
    try:
        return connection.execute(sql, bound).fetchall()
    except (apsw.Error, TypeError, ValueError, OverflowError, LookupError) as error:
        raise explained(error, sql) from error


class SqliteScratch:
    """SQLite's temporary database: in memory while it is small, else in a file without a name.

    It lies where SQLite keeps such files: in ``SQLITE_TMPDIR``, or the system's own folder.
    """

    dialect = DIALECT

    def __init__(self, explained: Explained) -> None:
        self._explained = explained
        self._connection = apsw.Connection("")
        self._connection.execute("PRAGMA journal_mode = MEMORY")

    def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        return executed(self._connection, sql, parameters, self._explained)

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        return streamed(self._connection, sql, self._explained)

    def interrupt(self) -> None:
        self._connection.interrupt()

    def close(self) -> None:
        self._connection.close(True)
