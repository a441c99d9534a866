"""Who may use an engine, and until when."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from everwhen.backends.sqlite.lock_guard import Hold
from everwhen.system.forks import Inside
from everwhen.vocabulary.errors import StorageError, StoreClosedError


class Lifetime:
    """An engine is used by the process that opened it, until it is closed.

    Reads that run when it is closed may end: the guard of the file is kept until then.
    """

    def __init__(self, path: Path, hold: Hold) -> None:
        self.path = path
        self.hold = hold
        self.inside = Inside()
        self.is_closed = False
        self.is_shut = False
        """Whether the connection that writes is closed as well, which is the last to be."""
        self.failure: StorageError | None = None
        """Why nothing of it is to be believed any more."""
        self._process = os.getpid()

    @property
    def is_foreign(self) -> bool:
        """Whether the engine was opened by another process, of which this one is a fork."""
        return os.getpid() != self._process

    def check_open(self) -> None:
        """Raises `StoreClosedError`, or `StorageError` in a fork."""
        if self.is_closed:
            raise StoreClosedError
        if self.failure is not None:
            raise type(self.failure)(*self.failure.args)
        if os.getpid() != self._process:
            raise StorageError(
                f"{self.path}: this store was opened by process {self._process}; SQLite "
                f"connections don't survive a fork, open the store again in the child"
            )

    @contextmanager
    def visit(self) -> Iterator[None]:
        """Around whatever reads: a fork waits for its end, and so does the guard."""
        self.check_open()
        token = object()
        try:
            self.inside.enter(token)
            yield
        finally:
            self.inside.leave(token)
            if self.is_closed:
                self.release()

    def release(self) -> None:
        """Give the guard back, when all is closed and nobody reads any more."""
        if self.is_shut and not self.inside:
            self.hold.release()
