"""A new node's replica: from a copy of another one, so that only the rest of the log is read."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.backends.jetstream.connection import Connection
from everwhen.backends.sqlite.files import make_folder
from everwhen.cluster.offering import found_copy
from everwhen.cluster.progress import ReplicaProgress
from everwhen.cluster.replica_copies import ReplicaCopying, caught_up
from everwhen.system.file_backups import destination
from everwhen.vocabulary.errors import BackupError


class BootstrappedReplica(msgspec.Struct, frozen=True):
    """A replica up to a ``message`` of the log, of which the copy had those up to ``copied``."""

    path: str
    copied: int
    message: int
    position: int


def bootstrap_replica(
    url: str,
    copy: str | os.PathLike[str] | None = None,
    *,
    busy_timeout: float = 30.0,
    progress: Callable[[ReplicaProgress], None] | None = None,
) -> BootstrappedReplica:
    """Make this node's replica from a copy of another node's, and the log's rest.

    The ``copy`` is a file, such as a backup; None stands for the newest one that a node has
    offered. It is checked, and so is that it belongs to this log: the newest message that it has
    read is the one that the log has there. Its branches come along.

    Raises `NotAStoreError` for a copy that is no replica's, `CorruptStoreError` for one that has a
    fault or is of another history, `BackupError` where this node has a replica already, and
    `StorageError` where no copy is offered, or the cluster can't be read.
    """
    address = ClusterAddress.parsed(url)
    if address.replica.is_file():
        raise BackupError(
            str(address.replica),
            "it already exists; 'everwhen cluster rebuild' makes a replica anew, also from a copy "
            "(--from FILE, --from-offered)",
            True,
        )
    make_folder(address.replica.resolve().parent)
    connection = Connection(address, busy_timeout)
    try:
        copying = ReplicaCopying(connection, address, busy_timeout, progress)
        if copy is None:
            destination(address.replica, overwrite=False)
        with found_copy(copying, copy) as source:
            copied = copying.copy(source, address.replica, logs="missing")
    finally:
        connection.close()
    message, position = caught_up(address, busy_timeout, progress)
    return BootstrappedReplica(str(address.replica), copied, message, position)
