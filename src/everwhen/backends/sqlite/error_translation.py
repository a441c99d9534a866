"""What went wrong, as an error of ours that names the file and says what to do.

SQLite's failures and the system's become one of `everwhen.vocabulary.errors`, at the edges of the
engine: `translated` around writing, `reached` where files are opened, `judged` around reading.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw
import msgspec

from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.errors import (
    BusyError,
    CorruptStoreError,
    EverwhenError,
    NotAStoreError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
)

_NONSENSE: Final = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    msgspec.MsgspecError,
)
"""What our own code raises for a stored value that no store writes."""
ANEW: Final = (
    "restore it from a backup, or, if it is a replica of a cluster's log, make it anew: everwhen "
    "cluster rebuild URL"
)
"""What to do about a damaged file: whether it is a replica, it may no longer say itself."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into ours, naming the file."""
    try:
        yield
    except apsw.Error as error:
        raise translation(error, path) from error


@contextmanager
def reached(path: Path) -> Iterator[None]:
    """The same, and the system's errors too: not for around other people's code."""
    try:
        yield
    except apsw.Error as error:
        raise translation(error, path) from error
    except OSError as error:
        if is_interrupt(error):
            raise
        raise _system_failure(error, path) from error


@contextmanager
def judged(path: Path) -> Iterator[None]:
    """The same around what only works with stored values: they are at fault for what else fails."""
    try:
        yield
    except _NONSENSE as error:
        if is_interrupt(error):
            raise
        raise corrupt(path, f"a stored value makes no sense: {error}") from error
    except apsw.Error as error:
        raise translation(error, path) from error
    except OSError as error:
        if is_interrupt(error):
            raise
        raise _system_failure(error, path) from error


def _system_failure(error: OSError, path: Path) -> StorageError:
    if isinstance(error, PermissionError):
        return not_writable(path, _words_of(error))
    return StorageError(f"{path}: the system reports {_words_of(error)}")


def _words_of(error: OSError) -> str:
    return f"{error.strerror or error}" + (f" at {error.filename}" if error.filename else "")


def translation(error: apsw.Error, path: Path) -> EverwhenError:
    """SQLite's error as one of ours, naming the file and the fix."""
    match error:
        case apsw.BusyError() | apsw.LockedError():
            return BusyError(
                f"{path}: another process held the write lock for too long; find out who writes, "
                f"or open the store with a larger busy_timeout"
            )
        case apsw.FullError():
            return StorageFullError(
                f"{path}: no space left to write; free some and try again, "
                f"everything acknowledged before is safe"
            )
        case apsw.ReadOnlyError() | apsw.PermissionsError():
            return not_writable(path, str(error))
        case apsw.NotADBError():
            return not_a_store(path, "it is not a SQLite file")
        case apsw.CorruptError():
            return corrupt(path, str(error))
        case apsw.SQLError() if str(error).startswith(("no such column", "no such table")):
            return corrupt(path, f"its tables are not those that Everwhen makes: {error}")
        case apsw.TooBigError():
            return corrupt(path, "a value is larger than any that a store writes; see check()")
        case apsw.CantOpenError():
            if path.parent.is_dir() and not os.access(path.parent, os.W_OK):
                return not_writable(path, "its folder can't be written to")
            return StorageError(
                f"{path}: can't be opened ({error}); check that the folder exists and may be used, "
                f"and that this process has not too many files open (ulimit -n)"
            )
        case _:
            return StorageError(f"{path}: SQLite reports {type(error).__name__}: {error}")


def not_writable(path: Path, why: str) -> ReadOnlyError:
    """The file, or its folder, can't be written to."""
    return ReadOnlyError(
        f"{path}: can't be written to ({why}); check the permissions of the file and its folder, "
        f"or open it with read_only=True"
    )


def not_a_store(path: Path, why: str) -> NotAStoreError:
    """Something else is at the path."""
    return NotAStoreError(f"{path}: not an Everwhen store, {why}; give another path")


def corrupt(path: Path, why: str) -> CorruptStoreError:
    """What the file says can't be."""
    return CorruptStoreError(f"{path}: the file is damaged ({why}); keep a copy of it, and {ANEW}")
