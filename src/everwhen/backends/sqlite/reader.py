"""The connections that read: a few, each used by one thread at a time.

In WAL mode they wait for no writer, and no writer waits for them. A file that is read without
locks may change meanwhile; what was read of it then is read again.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Concatenate, Final, ParamSpec, TypeAlias, TypeVar

import apsw

from everwhen.backends.engine import ChangedError
from everwhen.backends.sqlite.connection import Immutable, is_outdated
from everwhen.backends.sqlite.error_translation import judged
from everwhen.backends.sqlite.lifetime import Lifetime
from everwhen.backends.sqlite.value_sizes import too_large
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.contract import Problem

P = ParamSpec("P")
T = TypeVar("T")

Judge: TypeAlias = Callable[[apsw.Connection], Iterator[Problem]]
"""What finds every fault of a file."""

_MAX_IDLE: Final = 8
"""How many connections are kept open: each takes file descriptors, and as many threads seldom read
at once."""


class Reader:
    """Reads the file of one store. Safe from any thread."""

    def __init__(self, lifetime: Lifetime, connect: Callable[[], apsw.Connection]) -> None:
        self.idle: list[apsw.Connection] = []
        self._lifetime = lifetime
        self._path = lifetime.path
        self._connect = connect

    def run(
        self, read: Callable[Concatenate[apsw.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What ``read`` makes of a connection; again where somebody was just writing to the file.

        Raises an `EverwhenError` in place of SQLite's errors, and of those of stored values.
        """
        while True:
            try:
                with self.connection() as connection:
                    return read(connection, *args, **kwargs)
            except ChangedError:
                continue

    @contextmanager
    def connection(self) -> Iterator[apsw.Connection]:
        """A connection to read from. Raises `ChangedError` where what was read can't be believed.

        Whatever else is raised within is turned into one of our errors.
        """
        with self._lifetime.visit(), judged(self._path):
            connection = self._idle_or_new()
            try:
                yield connection
            except Exception as error:
                # a connection that only reads writes nothing: a writer opens or closes the file
                outdated = is_outdated(connection) or isinstance(error, apsw.ReadOnlyError)
                damage = too_large(connection, self._path, error)
                connection.close(True)
                if outdated and not is_interrupt(error):
                    raise ChangedError(self._path) from error
                if damage is not None:
                    raise damage from error
                raise
            except BaseException:
                connection.close(True)
                raise
            self._give_back(connection)

    def _idle_or_new(self) -> apsw.Connection:
        while self.idle:
            try:
                connection = self.idle.pop()
            except IndexError:
                break
            if not is_outdated(connection):
                return connection
            connection.close()
        return self._connect()

    def _give_back(self, connection: apsw.Connection) -> None:
        if is_outdated(connection):
            connection.close()
            raise ChangedError(self._path)
        # what a caller's error still reads would keep the next one at what it sees
        is_kept = len(self.idle) < _MAX_IDLE and not self._lifetime.is_closed
        if is_kept and not connection.txn_state():
            self.idle.append(connection)
        else:
            connection.close(True)

    def problems(self, judge: Judge) -> Iterator[Problem]:
        """Every fault, by a connection of its own."""
        with self._lifetime.visit(), judged(self._path):
            while True:
                with contextlib.closing(self._connect()) as connection:
                    found = _settled(connection, judge(connection))
                    if found is not None:
                        yield from found
                        return

    def close(self) -> None:
        """Close what nobody uses; the other connections are closed when they are given back."""
        while self.idle:
            self.idle.pop().close()


def _settled(connection: apsw.Connection, problems: Iterator[Problem]) -> Iterable[Problem] | None:
    """Every fault; None where it is to be looked at again, since somebody was just writing."""
    if isinstance(connection, Immutable):
        return _unless_outdated(connection, problems)
    try:
        first = list(itertools.islice(problems, 1))
    except apsw.ReadOnlyError:  # a writer just opens or closes the file, so that nothing is read
        return None
    return itertools.chain(first, problems)


def _unless_outdated(
    connection: Immutable, problems: Iterator[Problem]
) -> Iterable[Problem] | None:
    """Every fault; None where the file has changed meanwhile."""
    try:
        found = list(problems)
    except Exception:
        if connection.is_outdated:
            return None
        raise
    return None if connection.is_outdated else found
