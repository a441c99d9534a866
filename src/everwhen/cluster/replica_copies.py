"""Copies of a replica: proven to be of their log, copied as a store is backed up, brought up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Literal

import msgspec
from msgspec.structs import replace

from everwhen.backends.jetstream.address import MAIN, ClusterAddress
from everwhen.backends.jetstream.connection import Connection
from everwhen.backends.jetstream.messages import digest_of
from everwhen.backends.jetstream.replayed_replica import ReplayedReplica
from everwhen.backends.jetstream.replica_purge import ReplicaAlone
from everwhen.backends.jetstream.replica_state import ReplicaState, checkpoint_of
from everwhen.backends.jetstream.stream_setup import opened_stream
from everwhen.backends.jetstream.subject_log import SubjectLog
from everwhen.backends.sqlite.files import remove
from everwhen.cluster.progress import ReplicaProgress
from everwhen.cluster.replica_files import ReplicaFile, files_of, opened_file, state_of_file
from everwhen.system.file_backups import BackupProgress, BackupTask
from everwhen.vocabulary.errors import CorruptStoreError, TrimmedLogError


class ReplicaCopying(msgspec.Struct, frozen=True):
    """What copying the replicas of one log, and of its branches, needs."""

    connection: Connection
    address: ClusterAddress
    patience: float
    progress: Callable[[ReplicaProgress], None] | None

    def tell(self, stage: str, done: int, total: int | None) -> None:
        """Say how far a stage has come."""
        if self.progress is not None:
            self.progress(ReplicaProgress(stage, done, total))

    def copy(self, source: Path, target: Path, *, logs: Literal["none", "missing"]) -> int:
        """Copy a replica with its branches; the newest message of the log that it has.

        ``logs`` are the signed logs that come along. A branch that was deleted on the cluster stays
        behind. Raises, before anything is made, `CorruptStoreError` for a replica of another
        history, `TrimmedLogError` for one that lacks what was dropped, and what a backup raises.
        """
        stream = opened_stream(
            self.connection, self.address, read_only=True, patience=self.patience
        )
        gone = [
            file.log
            for file in files_of(source)
            if not self._belongs(file, _state_of(file), stream.created)
        ]

        def tell(done: BackupProgress) -> None:
            self.tell(done.stage, done.done, done.total)

        with opened_file(source) as engine:
            engine.backup(BackupTask(str(target), logs=logs), tell)
        for file in files_of(target):
            if file.log in gone:
                remove(file.path)
            else:
                _take_id(file.path)
        return _state_of(ReplicaFile(MAIN, target)).seq

    def _belongs(self, file: ReplicaFile, state: ReplicaState, created: str) -> bool:
        """Whether the log is still there that the file has read.

        Raises `CorruptStoreError` for a file that has read something else than the log says, and
        `TrimmedLogError` for one that is older than what the log begins with.
        """
        beside = self.address.beside(file.log, file.path)
        log = SubjectLog(self.connection, beside.stream, beside.subject, self.patience)
        why = None
        if state.stream != created:
            why = f"of a stream that was made at {state.stream}, and the cluster's was at {created}"
        elif state.seq:
            found = log.next(state.seq - 1)
            if found is not None and found.seq != state.seq and found == log.next(0):
                raise TrimmedLogError(str(file.path), state.seq, found.seq)
            if found is None and file.log != MAIN and log.newest() is None:
                return False
            if found is None or found.seq != state.seq:
                why = f"of a log that has a message {state.seq}, and the cluster's hasn't"
            elif digest_of(found.data) != state.digest:
                why = f"of a log whose message {state.seq} is another one than the cluster's"
        if why is not None:
            raise CorruptStoreError(
                f"{file.path}: is a replica of another history: {why}. Nothing was made; take a "
                f"copy of a replica of this log"
            )
        return True


def _take_id(path: Path) -> None:
    """Have a copy take an id of its own, also where its inode happens to have the same number."""
    with (
        closing(ReplicaAlone(path)) as engine,
        engine.lock.turn(),
        engine.lock.mutex,
        engine.transaction() as transaction,
    ):
        state = state_of_file(transaction, path)
        transaction.save_checkpoint(checkpoint_of(replace(state, id="", inode=0)))


def _state_of(file: ReplicaFile) -> ReplicaState:
    with opened_file(file.path) as engine, engine.view() as view:
        return state_of_file(view, file.path)


def caught_up(
    address: ClusterAddress,
    patience: float,
    progress: Callable[[ReplicaProgress], None] | None,
) -> tuple[int, int]:
    """Bring a replica up to its log's newest message, also one that isn't there; that message.

    And the position that the replica has come to.
    """

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress(ReplicaProgress("reading the log", done, total))

    replica = ReplayedReplica(address, patience=patience, listener=tell)
    try:
        message = replica.reach(replica.newest())
        return message, replica.head().position
    finally:
        replica.close()
