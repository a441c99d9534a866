"""PostgreSQL's errors as ours, which name the log and say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import errors

from everwhen.vocabulary.errors import (
    BusyError,
    CorruptStoreError,
    EverwhenError,
    ReadOnlyError,
    StatementError,
    StorageError,
    StorageFullError,
)

_BUSY: Final = (
    errors.LockNotAvailable,
    errors.QueryCanceled,
    errors.IdleInTransactionSessionTimeout,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.TooManyConnections,
)
_LOST: Final = {"08", "57"}
"""The classes of errors after which a session is gone, or was never there."""
_LAST_WORDS: Final = {"FATAL", "PANIC"}
_READ_ONLY: Final = (errors.ReadOnlySqlTransaction, errors.InsufficientPrivilege)


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Turns psycopg's errors into ours, naming the log."""
    try:
        yield
    except psycopg.Error as error:
        raise translation(error, place) from error


def translation(error: psycopg.Error, place: str) -> EverwhenError:
    """The error as one of ours."""
    said = words_of(error)
    if _ends_the_session(error):
        return StorageError(
            f"{place}: the connection failed ({said}); see that the server runs and can be "
            f"reached. Whether an append that was under way is written isn't known: append it "
            f"again with the same commit id"
        )
    match error:
        case errors.DiskFull():
            return StorageFullError(
                f"{place}: the server has no space left ({said}); free some and try again, "
                f"everything acknowledged before is safe"
            )
        case _ if isinstance(error, _BUSY):
            return BusyError(
                f"{place}: it couldn't be done in time ({said}), nothing was written; find out who "
                f"holds the lock (pg_stat_activity), then try again"
            )
        case _ if isinstance(error, _READ_ONLY):
            return ReadOnlyError(
                f"{place}: can't be written to ({said}); connect to the primary, with a role that "
                f"may write, or open it with read_only=True"
            )
        case errors.DataCorrupted() | errors.IndexCorrupted():
            return CorruptStoreError(
                f"{place}: the server reports damage ({said}); see check(), and restore the "
                f"database from a backup"
            )
        case errors.UndefinedTable() | errors.UndefinedColumn() | errors.UndefinedFunction():
            return CorruptStoreError(
                f"{place}: its tables are not those that Everwhen makes ({said}); give another "
                f"schema, or restore it from a backup"
            )
        case _:
            return StorageError(f"{place}: PostgreSQL reports {said}")


def _ends_the_session(error: psycopg.Error) -> bool:
    """Whether nothing is known of what was under way: there is no session any more."""
    if error.diag.severity_nonlocalized in _LAST_WORDS:
        return True
    is_lost = error.sqlstate is None or error.sqlstate[:2] in _LOST
    is_canceled = isinstance(error, errors.QueryCanceled)
    return isinstance(error, psycopg.OperationalError) and is_lost and not is_canceled


def statement_error(error: Exception, sql: str, place: str) -> EverwhenError:
    """What went wrong with somebody's own statement."""
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and not isinstance(
        error, errors.QueryCanceled
    ):
        return translation(error, place)
    said = words_of(error) if isinstance(error, psycopg.Error) else str(error)
    return StatementError(f"the statement failed: {said}; fix it: {sql}")


def words_of(error: psycopg.Error) -> str:
    """What the server said, in one line."""
    return error.diag.message_primary or str(error).partition("\n")[0] or type(error).__name__
