"""The partitions' files: opened when they are needed, each an SQLite store with holes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from everwhen.backends.partitioned.layout import partition_path
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.backends.sqlite.writer import Group
from everwhen.vocabulary.clock import Clock, system_clock
from everwhen.vocabulary.errors import CorruptStoreError


class PartitionOptions(msgspec.Struct, frozen=True):
    """How files are opened, as in `SqliteEngine`."""

    read_only: bool
    durable: bool
    busy_timeout: float


class PartitionFiles:
    """The engines of a folder's partitions, by number. Safe from any thread."""

    def __init__(
        self,
        folder: Path,
        options: PartitionOptions,
        version_before: Callable[[int, str], int],
        clock: Clock = system_clock,
    ) -> None:
        self.folder = folder
        self.options = options
        self._version_before = version_before
        self._clock = clock
        self._open: dict[int, SqliteEngine] = {}
        self._opening = threading.Lock()

    def path(self, number: int) -> Path:
        """Where a partition's file is."""
        return partition_path(self.folder, number)

    def engine(self, number: int) -> SqliteEngine:
        """The engine of a partition. Raises `CorruptStoreError` where its file is missing."""
        engine = self._open.get(number)
        if engine is None:
            with self._opening:
                engine = self._open.get(number)
                if engine is None:
                    engine = self._open[number] = self._opened(number)
        return engine

    def _opened(self, number: int) -> SqliteEngine:
        if not self.path(number).exists():
            raise CorruptStoreError(
                f"{self.path(number)}: a partition's file is missing; put it back, or restore the "
                f"folder from a backup"
            )
        return self._made(number)

    def _made(self, number: int) -> SqliteEngine:
        return SqliteEngine(
            self.path(number),
            clock=self._clock,
            version_before=partial(self._version_before, number),
            **msgspec.structs.asdict(self.options),
        )

    def make(self, number: int) -> None:
        """Make a partition's file, unless it is there and empty.

        Raises `CorruptStoreError` where there is something in it: the folder knows nothing of it.
        """
        engine = self._made(number)
        try:
            newest = engine.head().position
        finally:
            engine.close()
        if newest:
            raise CorruptStoreError(
                f"{self.path(number)}: there are events in it, and the folder doesn't know it; "
                f"restore the folder from a backup, or move that file away"
            )

    @contextmanager
    def groups(self, numbers: Sequence[int]) -> Iterator[list[Group]]:
        """Write transactions in these partitions, in ascending order: left normally, they commit.

        What is written to one is whole or not there; between several of them that isn't so.
        """
        if not numbers:
            yield []
            return
        engine = self.engine(numbers[0])
        with (
            engine.lock.turn(),
            engine.lock.mutex,
            engine.group() as first,
            self.groups(numbers[1:]) as others,
        ):
            yield [first, *others]

    def close(self) -> None:
        """Close all that are open, whatever goes wrong with one of them."""
        with self._opening, contextlib.ExitStack() as closing:
            for engine in self._open.values():
                closing.callback(engine.close)
