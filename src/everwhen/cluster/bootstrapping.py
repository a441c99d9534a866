"""A new node's replica: from a copy of another one, so that only the rest of the log is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.backends.jetstream.connection import Connection
from everwhen.backends.jetstream.messages import digest_of
from everwhen.backends.jetstream.replayed_replica import ReplayedReplica
from everwhen.backends.jetstream.replica_state import ReplicaState
from everwhen.backends.jetstream.stream_setup import opened_stream
from everwhen.backends.jetstream.subject_log import SubjectLog
from everwhen.backends.sqlite.files import make_folder
from everwhen.cluster.progress import ReplicaProgress
from everwhen.cluster.replica_files import (
    ReplicaFile,
    files_of,
    opened_file,
    state_of_file,
)
from everwhen.system.file_backups import BackupProgress, BackupTask
from everwhen.vocabulary.errors import CorruptStoreError


class BootstrappedReplica(msgspec.Struct, frozen=True):
    """A replica up to a ``message`` of the log, of which the copy had those up to ``copied``."""

    path: str
    copied: int
    message: int
    position: int


def bootstrap_replica(
    url: str,
    copy: str | os.PathLike[str],
    *,
    busy_timeout: float = 30.0,
    progress: Callable[[ReplicaProgress], None] | None = None,
) -> BootstrappedReplica:
    """Make this node's replica from a copy of another node's, such as a backup, and the log's rest.

    The copy is checked, and so is that it belongs to this log: the newest message that it has read
    is the one that the log has there. Its branches come along.

    Raises `NotAStoreError` for a copy that is no replica's, `CorruptStoreError` for one that has a
    fault or is of another history, `BackupError` where this node has a replica already, and
    `StorageError` where the cluster can't be read.
    """
    address = ClusterAddress.parsed(url)
    source = Path(copy)
    connection = Connection(address, busy_timeout)
    try:
        stream = opened_stream(connection, address, read_only=True, patience=busy_timeout)
        for file in files_of(source):
            log = address.beside(file.log, file.path)
            subject = SubjectLog(connection, log.stream, log.subject, busy_timeout)
            with opened_file(file.path) as engine, engine.view() as view:
                state = state_of_file(view, file.path)
            _check_belongs(file, state, stream.created, subject)
            if file.path == source:
                copied = state.seq
        _copy(source, address.replica, progress)
    finally:
        connection.close()

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress(ReplicaProgress("reading the log", done, total))

    replica = ReplayedReplica(address, patience=busy_timeout, listener=tell)
    try:
        message = replica.reach(replica.newest())
        position = replica.head().position
    finally:
        replica.close()
    return BootstrappedReplica(str(address.replica), copied, message, position)


def _check_belongs(file: ReplicaFile, state: ReplicaState, created: str, log: SubjectLog) -> None:
    """Raises `CorruptStoreError` for a file that has read something else than the log says."""
    why = None
    if state.stream != created:
        why = f"of a stream that was made at {state.stream}, and the cluster's was at {created}"
    elif state.seq:
        found = log.next(state.seq - 1)
        if found is None or found.seq != state.seq:
            why = f"of a log that has a message {state.seq}, and the cluster's hasn't"
        elif digest_of(found.data) != state.digest:
            why = f"of a log whose message {state.seq} is another one than the cluster's"
    if why is not None:
        raise CorruptStoreError(
            f"{file.path}: is a replica of another history: {why}. Nothing was made; take a "
            f"copy of a replica of this log"
        )


def _copy(source: Path, target: Path, progress: Callable[[ReplicaProgress], None] | None) -> None:
    def tell(done: BackupProgress) -> None:
        if progress is not None:
            progress(ReplicaProgress(done.stage, done.done, done.total))

    make_folder(target.resolve().parent)
    with opened_file(source) as engine:
        engine.backup(BackupTask(str(target), logs="missing"), tell)
