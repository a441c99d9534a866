"""Statements that users write: in a view, in a transaction, beside the store, or as questions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import apsw

from everwhen.backends.sql_connection import Explained
from everwhen.backends.sqlite.dialect import DIALECT
from everwhen.backends.sqlite.error_translation import translation
from everwhen.vocabulary.errors import EverwhenError, StatementError, StoreClosedError

_STEPS_PER_CHECK: Final = 100_000
"""After how many steps of SQLite's Python may run: some milliseconds, so that Ctrl-C needn't wait
until a long statement ends."""

_QUESTIONS: Final = {
    apsw.SQLITE_SELECT,
    apsw.SQLITE_READ,
    apsw.SQLITE_FUNCTION,
    apsw.SQLITE_RECURSIVE,
}
_ABOUT_THE_SCHEMA: Final = {"table_list", "table_info", "table_xinfo", "index_list", "index_info"}

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
"""What is the statement's own fault, or that of its parameters."""


def streamed(
    connection: apsw.Connection, sql: str, explained: Explained
) -> Iterator[tuple[Any, ...]]:
    """A statement's rows; Ctrl-C doesn't have to wait until they are sorted."""
    let_interrupt(connection)
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


def explaining(path: Path) -> Explained:
    """Says what went wrong with somebody's own statement, as one of our errors."""
    return partial(_explained, path)


def _explained(path: Path, error: Exception, sql: str) -> EverwhenError:
    if isinstance(error, apsw.AuthError):
        return StatementError(f"only a SELECT from the store itself is executed here: {sql}")
    if isinstance(error, apsw.CursorClosedError | apsw.ConnectionClosedError):
        return StoreClosedError()
    if isinstance(error, apsw.Error) and not isinstance(error, _MISTAKES):
        return translation(error, path)
    return StatementError(f"the statement failed: {error}; fix it: {sql}")


def allow_only_questions(connection: apsw.Connection) -> None:
    """From here on it executes nothing but what reads the store itself."""
    connection.set_authorizer(_authorized)
    let_interrupt(connection)


def let_interrupt(connection: apsw.Connection) -> None:
    """Python runs now and then while a statement does, and may be interrupted."""
    connection.set_progress_handler(lambda: False, _STEPS_PER_CHECK)


def _authorized(
    what: int, first: str | None, second: str | None, database: str | None, within: str | None
) -> int:
    del second, database, within
    if what in _QUESTIONS or (what == apsw.SQLITE_PRAGMA and first in _ABOUT_THE_SCHEMA):
        return apsw.SQLITE_OK
    return apsw.SQLITE_DENY


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

    def transaction(self) -> contextlib.AbstractContextManager[object]:
        return self._connection

    def interrupt(self) -> None:
        self._connection.interrupt()

    def close(self) -> None:
        self._connection.close(True)
