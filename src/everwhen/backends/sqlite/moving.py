"""Moving history in small steps, by one mover at a time.

A move works without a lock, and writes in transactions that keep nobody waiting for long. Whoever
begins to move stops who did before: each write first looks whose turn it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import apsw

from everwhen.backends.sqlite.statements import statements
from everwhen.vocabulary.errors import BusyError

T = TypeVar("T")

Work: TypeAlias = Callable[[apsw.Connection], None]
"""What one write transaction does."""

_SQL: Final = statements("sealed")

STEP_BYTES: Final = 256 << 10
"""How much of chunks one transaction writes: writers wait for it."""
STEP_ROWS: Final = 500
"""How many small rows one transaction writes or deletes: each may be on a page of its own."""


class ReadsOnce(Protocol):
    """Runs a function on a connection that reads."""

    def __call__(self, read: Callable[[apsw.Connection], T]) -> T:
        """What the function returns."""
        ...


class Mover:
    """Takes the turn to move a file's history, and writes as long as it has it."""

    def __init__(self) -> None:
        self._token = secrets.token_bytes(16)

    def steps(self, work: Iterator[Work]) -> Iterator[Work]:
        """The work's write transactions, after one that takes the turn.

        Each raises `BusyError` where another mover has begun.
        """
        yield self._begin
        yield from map(self._guarded, work)

    def _begin(self, connection: apsw.Connection) -> None:
        connection.execute(_SQL["take_over"], (self._token,))

    def _guarded(self, step: Work) -> Work:
        def guarded(connection: apsw.Connection) -> None:
            if connection.execute(_SQL["mover"]).get != self._token:
                raise BusyError("another process moves history now; let it finish")
            step(connection)

        return guarded


def each(sql: str, rows: Sequence[tuple[Any, ...]], connection: apsw.Connection) -> None:
    """Run a statement for each of these rows."""
    connection.executemany(sql, rows)
