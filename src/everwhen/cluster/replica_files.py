"""A replica's file as it lies there: how far it has come, and what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from everwhen.backends.engine import EngineView
from everwhen.backends.jetstream.address import MAIN
from everwhen.backends.jetstream.replica_state import ReplicaState, state_in
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.errors import NotAStoreError
from everwhen.vocabulary.query import Query

_PAGE: Final = 1_000


class ReplicaFile(msgspec.Struct, frozen=True):
    """The file of one log of a store: of the store itself, or of the branch of that id."""

    log: str
    path: Path


@contextmanager
def opened_file(path: Path) -> Iterator[SqliteEngine]:
    """The file, read-only. Raises `StorageError` where it can't be read."""
    engine = SqliteEngine(path, read_only=True)
    try:
        yield engine
    finally:
        engine.close()


def state_of_file(view: EngineView, path: Path) -> ReplicaState:
    """How far it has come. Raises `NotAStoreError` for a store that is no replica."""
    state = state_in(view)
    if state is None:
        raise NotAStoreError(
            f"{path}: is a store of its own, and no replica of a log on a cluster; name a replica, "
            f"or a backup of one"
        )
    return state


def files_of(replica: Path) -> list[ReplicaFile]:
    """The replica's own, and those of its branches."""
    beside = sorted(Path(f"{replica}-branches").glob("*.db"))
    return [ReplicaFile(MAIN, replica), *(ReplicaFile(file.stem, file) for file in beside)]


def branch_file(replica: Path, log: str) -> Path:
    """Where the file of a branch is beside a replica."""
    return Path(f"{replica}-branches", f"{log}.db")


Slices: TypeAlias = Iterator[StoredSlice]


def slices_in(view: EngineView, after: int) -> Slices:
    """All that is stored after a position, in order."""
    while True:
        page = view.read(Query().after(after), _PAGE)
        yield from page.slices
        if page.end:
            return
        after = page.cursor
