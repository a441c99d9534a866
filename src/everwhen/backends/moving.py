"""Moving history in small steps, by one mover at a time.

A move works without a lock, and writes in transactions that keep nobody waiting for long. Whoever
begins to move stops who did before: each write first looks whose turn it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeAlias, TypeVar

from everwhen.vocabulary.errors import BusyError

C = TypeVar("C")
"""A connection: what reads and writes are made on."""
C_co = TypeVar("C_co", covariant=True)
C_contra = TypeVar("C_contra", contravariant=True)
T = TypeVar("T")

Work: TypeAlias = Callable[[C], None]
"""What one write transaction does."""


class ReadsOnce(Protocol[C_co]):
    """Runs a function on a connection that reads."""

    def __call__(self, read: Callable[[C_co], T]) -> T:
        """What the function returns."""
        ...


class Turns(Protocol[C_contra]):
    """Where it is written whose turn it is."""

    def take_over(self, connection: C_contra, token: bytes) -> None:
        """From here on it is the turn of whoever has the token."""
        ...

    def turn(self, connection: C_contra) -> bytes:
        """Whose turn it is: it stays so until the transaction ends."""
        ...


class Mover(Generic[C]):
    """Takes the turn to move a log's history, and writes as long as it has it."""

    def __init__(self, turns: Turns[C]) -> None:
        self._token = secrets.token_bytes(16)
        self._turns = turns

    def steps(self, work: Iterator[Work[C]]) -> Iterator[Work[C]]:
        """The work's write transactions, after one that takes the turn.

        Each raises `BusyError` where another mover has begun.
        """
        yield self._begin
        yield from map(self._guarded, work)

    def _begin(self, connection: C) -> None:
        self._turns.take_over(connection, self._token)

    def _guarded(self, step: Work[C]) -> Work[C]:
        def guarded(connection: C) -> None:
            if self._turns.turn(connection) != self._token:
                raise BusyError("another process moves history now; let it finish")
            step(connection)

        return guarded
