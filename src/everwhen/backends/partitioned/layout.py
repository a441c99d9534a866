"""What a folder of partitions says of itself: the strategy, and which partitions there are."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from everwhen.backends.partitioned.strategies import (
    MAX_PARTITIONS,
    ByCategory,
    ByStream,
    PartitionStrategy,
    Successive,
)
from everwhen.system.durable_files import NewFile
from everwhen.vocabulary.errors import (
    CorruptStoreError,
    DeclarationError,
    NewerStoreError,
    NotAStoreError,
    StorageError,
)

RECORD: Final = "partitions.json"
"""The file that says it."""
STATE: Final = "state.db"
"""The file with checkpoints, snapshots and read models; the branches lie beside it."""

_FORMAT: Final = 1
_LARGEST: Final = 16 << 20
"""Bytes of the record that are read: of a million partitions."""
_MAX_POSITION: Final = 1 << 62


class Layout(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which partitions there are. ``generation`` grows with each change.

    By aggregate, ``placements`` are how many there were, one number after another: a stream is
    where the newest number of them that has it puts it. By time or size, ``starts`` are the
    partitions' first positions; what comes before the next one's is in it.
    """

    format: int = _FORMAT
    strategy: PartitionStrategy
    placements: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()

    @property
    def partitions(self) -> int:
        """How many there are."""
        return self.placements[-1] if self.placements else len(self.starts)

    @property
    def generation(self) -> int:
        """How often it has changed."""
        return len(self.placements) + len(self.starts)


def first_layout(strategy: PartitionStrategy) -> Layout:
    """The layout of a store that begins."""
    if isinstance(strategy, ByStream | ByCategory):
        return Layout(strategy=strategy, placements=(strategy.partitions,))
    return Layout(strategy=strategy, starts=(1,))


def partition_path(folder: Path, number: int) -> Path:
    """The file of a partition; numbers begin at 0, names at 1."""
    return folder / f"{number + 1:04}.db"


def read_layout(folder: Path) -> Layout | None:
    """The folder's layout; None where there is none.

    Raises `NewerStoreError` and `CorruptStoreError`.
    """
    path = folder / RECORD
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(f"{path}: can't be read ({error}); check its permissions") from error
    try:
        version = msgspec.json.decode(data, type=_Version).format
        if version > _FORMAT:
            raise NewerStoreError(
                f"{path}: format {version} is newer than this Everwhen, which knows {_FORMAT}; "
                f"install a newer Everwhen"
            )
        layout = msgspec.json.decode(data, type=Layout)
    except (msgspec.MsgspecError, UnicodeDecodeError, DeclarationError) as error:
        raise CorruptStoreError(f"{path}: {error}; restore it from a backup") from error
    problem = _problem_of(layout)
    if problem is not None:
        raise CorruptStoreError(f"{path}: {problem}; restore it from a backup")
    return layout


class _Version(msgspec.Struct):
    format: int


def _problem_of(layout: Layout) -> str | None:
    if isinstance(layout.strategy, Successive):
        starts = layout.starts
        rise = all(a <= b for a, b in pairwise(starts))
        if not starts or layout.placements or not rise or not 1 <= starts[0] <= _MAX_POSITION:
            return f"its partitions begin at {starts}, which can't be"
        return None if starts[-1] <= _MAX_POSITION else "it begins at no position that can be"
    counts = layout.placements
    rise = all(a < b for a, b in pairwise(counts))
    if (
        not counts
        or layout.starts
        or not rise
        or not 1 <= counts[0] <= counts[-1] <= MAX_PARTITIONS
    ):
        return f"it has {counts} partitions, which can't be"
    if layout.strategy.partitions != counts[-1]:
        return f"it has {counts[-1]} partitions, and its strategy is {layout.strategy}"
    return None


def save_layout(folder: Path, layout: Layout) -> None:
    """Make it the folder's layout, durably. Raises `StorageError`."""
    path = folder / RECORD
    try:
        new = NewFile(path)
        try:
            new.file.write(msgspec.json.format(msgspec.json.encode(layout)) + b"\n")
            new.finish(replaces=True)
        finally:
            new.abandon()
    except OSError as error:
        raise StorageError(f"{path}: can't be written ({error})") from error


def check_strategy(folder: Path, layout: Layout, strategy: PartitionStrategy | None) -> None:
    """Raises `DeclarationError` where the folder is partitioned by another strategy."""
    if strategy is None or strategy == layout.strategy:
        return
    fix = "open it with that, or with none"
    if type(strategy) is type(layout.strategy) and isinstance(strategy, ByStream | ByCategory):
        fix += "; add_partitions(…) makes more of them"
    raise DeclarationError(f"{folder}: it is partitioned {layout.strategy}, not {strategy}; {fix}")


def no_store(folder: Path) -> NotAStoreError:
    """The error for a folder that has no partitions."""
    return NotAStoreError(
        f"{folder}: it is a folder, and there is no {RECORD} in it; name a store's file, or give a "
        f"strategy to make a partitioned store of it"
    )
