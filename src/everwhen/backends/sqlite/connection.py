"""Connections to a store's file, also where no lock can be taken on it.

Beside a file that nobody has open, SQLite makes two others, even to read it. Where that can't be
done, for want of permission or of space, the file is read without locks, as long as nobody writes.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Final, TypeAlias

import apsw

from everwhen.backends.sqlite.error_translation import not_a_store
from everwhen.backends.sqlite.files import beside
from everwhen.backends.sqlite.sealed_table import add_sealed_table
from everwhen.backends.sqlite.value_sizes import MAX_VALUE_BYTES
from everwhen.system.sqlite_connection import careful, connect, patience, target

OPENING_SECONDS: Final = 1.0
"""How long a writer that opens or closes the file may leave a log there that can't be read yet."""

_TICK_SECONDS: Final = 0.05
"""What files' times are rounded to, at most."""

_Seen: TypeAlias = tuple[int, int, int, int]


def open_connection(
    path: Path, *, read_only: bool, busy_timeout: float, vfs: str | None = None
) -> apsw.Connection:
    """A connection to an existing or, unless read-only, a new file; it may be an `Immutable` one.

    Raises `NotAStoreError` for a folder, and ``apsw.Error``.
    """
    connection = _connection(path, read_only=read_only, busy_timeout=busy_timeout, vfs=vfs)
    add_sealed_table(connection)
    return connection


def _connection(
    path: Path, *, read_only: bool, busy_timeout: float, vfs: str | None
) -> apsw.Connection:
    if path.is_dir():
        raise not_a_store(path, "it is a folder")
    if not read_only:
        return connect(
            path, "create", busy_timeout=busy_timeout, largest_bytes=MAX_VALUE_BYTES, vfs=vfs
        )
    waits = patience(min(busy_timeout, OPENING_SECONDS))
    for attempt in itertools.count():
        try:
            return _reading_connection(path, busy_timeout, vfs)
        except (apsw.CantOpenError, apsw.ReadOnlyError):
            if not beside(path.resolve(), "-wal").exists() or not waits(attempt):
                raise
    raise AssertionError  # pragma: no cover (it counts for ever)


def _reading_connection(path: Path, busy_timeout: float, vfs: str | None) -> apsw.Connection:
    connection = connect(
        path, "read", busy_timeout=busy_timeout, largest_bytes=MAX_VALUE_BYTES, vfs=vfs
    )
    try:
        connection.pragma("schema_version")
    except (apsw.CantOpenError, apsw.IOError, apsw.FullError, apsw.ReadOnlyError):
        connection.close()
        try:
            seen = _settled(path)
        except OSError:
            seen = None
        if seen is None:
            raise
        return careful(
            Immutable(path, seen, vfs), busy_timeout=busy_timeout, largest_bytes=MAX_VALUE_BYTES
        )
    except apsw.Error:  # the next read reports what is wrong with the file
        return connection
    return connection


class Immutable(apsw.Connection):
    """A connection that takes no locks: it is only right as long as nobody writes to the file."""

    def __init__(self, file: Path, seen: _Seen, vfs: str | None) -> None:
        super().__init__(*target(file, "immutable"), vfs)
        self._file = file
        self._seen = seen

    @property
    def is_outdated(self) -> bool:
        """Whether the file has changed, so that what was read of it may be old, or torn."""
        try:
            return _seen(self._file) != self._seen
        except OSError:  # it is gone, or out of reach
            return True


def is_outdated(connection: apsw.Connection) -> bool:
    """Whether the connection is an immutable one of a file that has changed."""
    return isinstance(connection, Immutable) and connection.is_outdated


def _seen(path: Path) -> _Seen:
    """What tells one state of the file from another: a writer's log appears before all else."""
    try:
        log = beside(path.resolve(), "-wal").stat().st_size
    except FileNotFoundError:
        log = 0
    file = path.stat()
    return file.st_ino, file.st_size, file.st_mtime_ns, log


def _settled(path: Path) -> _Seen | None:
    """What the file looks like, where all that was written is in it; None where it isn't.

    Two writes within one tick of the clock leave the same time, so that tick is waited for.
    """
    while (seen := _seen(path))[3] == 0:
        age = time.time() - seen[2] / 1e9
        if not 0 <= age < _TICK_SECONDS:
            return seen
        time.sleep(_TICK_SECONDS - age)
    return None


def leave_alone(connection: apsw.Connection) -> None:
    """Closing it takes nothing into the file, and deletes nothing."""
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)


def keeps_locks(connection: apsw.Connection) -> bool:
    """Whether the connection holds locks on the file for as long as it is open."""
    return not isinstance(connection, Immutable) and connection.pragma("journal_mode") == "wal"
