"""A connection to an SQLite file, opened with care: what all our files have in common.

A path is taken as a path, whatever characters are in it. Who waits for a lock waits in short steps,
within bounds. No value is read that is larger than any that we write, and the functions that the
file's schema names are not trusted: somebody else may have made the file. SQLite keeps no mutex of
its own, so one thread at a time may use a connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, TypeAlias, TypeVar

import apsw

T = TypeVar("T")
C = TypeVar("C", bound=apsw.Connection)

Mode: TypeAlias = Literal["read", "immutable", "write", "create"]
"""What is done with the file. One that is immutable is read without locks, since nobody writes."""

_FLAGS: Final = {
    "read": apsw.SQLITE_OPEN_READONLY,
    "immutable": apsw.SQLITE_OPEN_READONLY,
    "write": apsw.SQLITE_OPEN_READWRITE,
    "create": apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE,
}
_STEP_SECONDS: Final = 0.000_2
"""How much longer each wait for a lock is than the one before: about what a short commit takes."""

_LONGEST_STEP_SECONDS: Final = 0.005
"""How long one wait is at most: SQLite's own grow to 100 ms, and starve one among many writers."""


def connect(
    path: Path | None,
    mode: Mode,
    *,
    busy_timeout: float,
    largest_bytes: int | None,
    vfs: str | None = None,
) -> apsw.Connection:
    """A connection to the file; to a database in memory, where ``path`` is None.

    See `careful`. Raises ``apsw.Error``.
    """
    connection = apsw.Connection(*target(path, mode), vfs)
    return careful(connection, busy_timeout=busy_timeout, largest_bytes=largest_bytes)


def target(path: Path | None, mode: Mode) -> tuple[str, int]:
    """How SQLite is told what to open, whatever characters are in its name, and the flags."""
    name = ":memory:" if path is None else path.resolve().as_uri()
    flags = _FLAGS[mode] | apsw.SQLITE_OPEN_NOMUTEX | apsw.SQLITE_OPEN_URI
    return (f"{name}?immutable=1" if mode == "immutable" else name), flags


def careful(connection: C, *, busy_timeout: float, largest_bytes: int | None) -> C:
    """The connection, with bounds on how long it waits, and on what it reads and believes.

    ``busy_timeout`` is in seconds; ``largest_bytes`` is the size of the largest value that may be
    read, None for SQLite's own limit.
    """
    connection.set_busy_handler(patience(busy_timeout))
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    if largest_bytes is not None:
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, largest_bytes)
    return connection


def patience(seconds: float) -> Callable[[int], bool]:
    """What waits a moment at each call, and says until when: it is given 0, 1, 2 and so on."""
    began = 0.0

    def wait(attempts: int) -> bool:
        nonlocal began
        now = time.monotonic()
        if attempts == 0:
            began = now
        elif now - began > seconds:
            return False
        time.sleep(min(_STEP_SECONDS * (attempts + 1), _LONGEST_STEP_SECONDS))
        return True

    return wait


def transact(connection: apsw.Connection, work: Callable[[], T]) -> T:
    """Run the work in a transaction that nobody else writes beside, from its first read on.

    Whatever goes wrong in it leaves nothing behind, also where an interrupt comes at any moment.
    """
    execute = connection.execute
    try:
        execute("BEGIN IMMEDIATE")
        result = work()
        execute("COMMIT")
    finally:
        if connection.in_transaction:
            execute("ROLLBACK")
    return result
