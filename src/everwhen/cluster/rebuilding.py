"""A replica that is broken: put aside, and made anew from its log, or a copy and the log's rest."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.backends.jetstream.connection import Connection
from everwhen.backends.sqlite.files import make_folder
from everwhen.cluster.offering import found_copy
from everwhen.cluster.progress import ReplicaProgress
from everwhen.cluster.replica_copies import ReplicaCopying, caught_up
from everwhen.system.durable_files import sync_file, sync_folder
from everwhen.system.file_backups import taken, workplace
from everwhen.vocabulary.errors import DeclarationError


class RebuiltReplica(msgspec.Struct, frozen=True):
    """A replica up to a ``message`` of the log, and a ``position`` of the store.

    ``put_aside`` are the files and folders that were in its place, with their new names.
    """

    path: str
    message: int
    position: int
    put_aside: list[str]


def rebuild_replica(
    url: str,
    copy: str | os.PathLike[str] | None = None,
    *,
    offered: bool = False,
    busy_timeout: float = 30.0,
    progress: Callable[[ReplicaProgress], None] | None = None,
) -> RebuiltReplica:
    """Make this node's replica anew in the place of the one that is there.

    It is made from the whole log; or, which is quicker, from a ``copy`` of another replica, or the
    newest one that a node has ``offered``, and the log's rest.

    First the new one is made, beside the old one; then the old one is renamed, with the folder of
    its branches, to ``….broken-TIME``; and the new one takes its name. From the log, branches are
    made anew when they are next opened. What only the replica had is gone, or is what the copy has
    of it: snapshots, and tables of read models, which their runners build anew. Signed logs beside
    it stay, and still fit.

    Raises `BusyError` where the replica is open, here or in another process, what
    `bootstrap_replica` raises for a copy, and `StorageError` where the cluster can't be read or the
    disk is full: the old one is in its place then.
    """
    if copy is not None and offered:
        raise DeclarationError("rebuild_replica: give a copy, or offered=True, not both")
    address = ClusterAddress.parsed(url)
    final = address.replica.resolve()
    make_folder(final.parent)
    with workplace(final) as folder:
        made = msgspec.structs.replace(address, replica=folder / "replica.db")
        if copy is not None or offered:
            _begin_with(copy, address, made.replica, busy_timeout, progress)
        message, position = caught_up(made, busy_timeout, progress)
        sync_file(made.replica)
        with ExitStack() as held:
            held.enter_context(taken(final, folder))
            branches = Path(f"{final}-branches")
            for file in branches.glob("*.db"):
                held.enter_context(taken(file, folder))
            put_aside = _put_aside(final, branches)
            with contextlib.suppress(FileNotFoundError):
                Path(f"{made.replica}-branches").replace(branches)
            made.replica.replace(final)
            sync_folder(final.parent)
    return RebuiltReplica(str(final), message, position, put_aside)


def _begin_with(
    copy: str | os.PathLike[str] | None,
    address: ClusterAddress,
    target: Path,
    patience: float,
    progress: Callable[[ReplicaProgress], None] | None,
) -> None:
    connection = Connection(address, patience)
    try:
        copying = ReplicaCopying(connection, address, patience, progress)
        with found_copy(copying, copy) as source:
            copying.copy(source, target, logs="none")
    finally:
        connection.close()


def _put_aside(*paths: Path) -> list[str]:
    """Rename those that are there; their new names."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return [str(path.rename(f"{path}.broken-{moment}")) for path in paths if path.exists()]
