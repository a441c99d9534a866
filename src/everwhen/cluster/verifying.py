"""Whether replicas are what their log says: the whole log is taken in anew, and compared."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from pathlib import Path

import msgspec

from everwhen.backends.engine import EngineView
from everwhen.backends.jetstream.address import MAIN, ClusterAddress
from everwhen.backends.jetstream.connection import Connection
from everwhen.backends.jetstream.replayed_replica import ReplayedReplica
from everwhen.backends.jetstream.replica_state import ReplicaState
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.cluster.progress import ReplicaProgress
from everwhen.cluster.replica_copies import ReplicaCopying
from everwhen.cluster.replica_files import (
    Slices,
    files_of,
    opened_file,
    slices_in,
    state_of_file,
)
from everwhen.store.local_checkpoints import is_local
from everwhen.vocabulary.contract import Checkpoint, Problem, StoredSlice
from everwhen.vocabulary.errors import CorruptStoreError, StorageError, TrimmedLogError


class VerifiedReplica(msgspec.Struct, frozen=True):
    """One file, of a store or of a branch of its, and what is wrong with it.

    ``message`` is the newest message of the log that it has, and ``digest`` that message's, which
    stands for all of them: files of one log with the same message and digest have read the same.
    ``contents`` is a SHA-256 of what the file has made of them: its commits, and the checkpoints
    that all replicas share; it is the same in all that have read the same, and retired the same.
    ``problems`` is empty where the file is what the log says.
    """

    path: str
    log: str
    message: int
    digest: str
    position: int
    contents: str
    problems: list[Problem]


def verify_replicas(
    url: str,
    others: Sequence[str | os.PathLike[str]] = (),
    *,
    base: str | os.PathLike[str] | None = None,
    busy_timeout: float = 30.0,
    progress: Callable[[ReplicaProgress], None] | None = None,
) -> list[VerifiedReplica]:
    """This node's replica, and ``others`` (copies of other nodes' files), beside their whole log.

    The log is taken in anew from its first message, into a file that is deleted afterwards, beside
    this node's replica: so there has to be room for one more. Each file is compared with that as it
    was at the same message, so they may have come to different ones; and each is checked as
    ``check`` does, which compares its index and versions with its commits. Branches are, too.
    Nothing is changed, and others may go on to write.

    A log that was trimmed is taken in from a copy of a replica on, the ``base``: one that is known
    to be right, and older than the files.

    Raises `NotAStoreError` for a file that is no replica, `TrimmedLogError` for a base that is
    older than what the log begins with, and `StorageError` where a base is needed, or a file or
    the cluster can't be read.
    """
    address = ClusterAddress.parsed(url)
    given = [address.replica, *(Path(other) for other in others)]
    by_log: dict[str, list[Path]] = {}
    for replica in given:
        if not replica.exists():
            raise StorageError(f"{replica}: there is no such replica; check the path")
        for file in files_of(replica):
            by_log.setdefault(file.log, []).append(file.path)
    connection = Connection(address, busy_timeout)
    copying = ReplicaCopying(connection, address, busy_timeout, progress)
    try:
        return [
            verified
            for log, files in by_log.items()
            for verified in _of_log(
                copying, log, files, Path(base) if base is not None and log == MAIN else None
            )
        ]
    finally:
        connection.close()


def _of_log(
    copying: ReplicaCopying, log: str, files: Sequence[Path], base: Path | None
) -> Iterator[VerifiedReplica]:
    """Those that have come less far first, so that the log is taken in once."""
    beside = copying.address.replica.resolve().parent
    by_place = sorted(files, key=_come_to)
    with tempfile.TemporaryDirectory(prefix=".verifying-", dir=beside) as folder:
        begun = Path(folder, "replica.db")
        if base is not None and (message := copying.copy(base, begun, logs="none")):
            for file in by_place:
                _check_older(base, message, file)
        scratch = _scratch(copying, log, begun)
        try:
            for file in by_place:
                yield _verified(log, file, scratch)
        finally:
            scratch.close()


def _scratch(copying: ReplicaCopying, log: str, begun: Path) -> ReplayedReplica:
    try:
        return ReplayedReplica(
            copying.address.beside(log, begun),
            patience=copying.patience,
            listener=partial(copying.tell, f"reading the log {log}"),
            connection=copying.connection.share(),
        )
    except TrimmedLogError as error:
        raise StorageError(
            f"{copying.address.place}: the log begins with message {error.first} by now: "
            f"what was before was archived, and dropped; give a copy of a replica to begin with: "
            f"--from FILE"
        ) from error


def _check_older(base: Path, message: int, file: Path) -> None:
    if 0 <= (come_to := _come_to(file)) < message:
        raise StorageError(
            f"{base}: has come to message {message}, and {file} to {come_to}; give an older copy "
            f"to begin with"
        )


def _come_to(file: Path) -> int:
    """The newest message that the file has; -1 where it can't be read, which is found out later."""
    try:
        with opened_file(file) as engine, engine.view() as view:
            return state_of_file(view, file).seq
    except CorruptStoreError:
        return -1


def _verified(log: str, file: Path, scratch: ReplayedReplica) -> VerifiedReplica:
    try:
        with _pinned(file) as (engine, view, state):
            problems = [*_history_problems(file, state, scratch)]
            contents = hashlib.sha256()
            if not problems:
                with scratch.view() as due:
                    problems += _differences(file, engine, view, due, contents.update)
            problems += engine.check()
            position = engine.head().position
    except CorruptStoreError as error:
        found = [Problem(str(file), str(error))]
        return VerifiedReplica(str(file), log, 0, "", 0, "", found)
    return VerifiedReplica(
        str(file),
        log,
        state.seq,
        state.digest.hex(),
        position,
        "" if problems else contents.hexdigest(),
        problems,
    )


@contextmanager
def _pinned(file: Path) -> Iterator[tuple[SqliteEngine, EngineView, ReplicaState]]:
    """The file as it is at one moment, while its node goes on with it."""
    with opened_file(file) as engine, engine.view() as view:
        yield engine, view, state_of_file(view, file)


def _history_problems(
    file: Path, state: ReplicaState, scratch: ReplayedReplica
) -> Iterator[Problem]:
    """In what the file isn't of this log at all; brings the scratch replica to where it is."""
    if state.stream != scratch.state().stream:
        yield Problem(
            str(file),
            f"is a replica of a stream that was made at {state.stream}, and the cluster's was made "
            f"at {scratch.state().stream}",
        )
        return
    reached = scratch.reach(state.seq)
    if reached != state.seq:
        yield Problem(
            str(file),
            f"has read message {state.seq} of the log, which isn't there: the newest up to it is "
            f"message {reached}",
        )
    elif scratch.state().digest != state.digest:
        yield Problem(
            str(file),
            f"has read another message {state.seq} than the log has: it is a replica of another "
            f"history",
        )


def _differences(
    file: Path,
    engine: SqliteEngine,
    view: EngineView,
    due: EngineView,
    update: Callable[[bytes], None],
) -> Iterator[Problem]:
    """In what the file has something else than the log says; ``update`` is given what it has."""
    retired = max((one.last for one in engine.segments() if one.retired_at is not None), default=0)
    yield from _compared(file, slices_in(view, retired), slices_in(due, retired), update)
    found, expected = _shared(view), _shared(due)
    update(msgspec.msgpack.encode(list(found.values())))
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            yield Problem(f"{file} checkpoint {name!r}", "isn't what the log says")


def _compared(
    file: Path, found: Slices, expected: Slices, update: Callable[[bytes], None]
) -> Iterator[Problem]:
    """The first difference, if there is one; what comes after it is compared with nothing."""
    encode = msgspec.msgpack.Encoder().encode
    for has, due in zip_longest(found, expected):
        if has != due:
            yield _difference(file, has, due)
            return
        update(encode(has))


def _difference(file: Path, has: StoredSlice | None, due: StoredSlice | None) -> Problem:
    if has is None or (due is not None and due.position < has.position):
        return Problem(f"{file} position {due and due.position}", "is missing")
    if due is None or has.position < due.position:
        return Problem(f"{file} position {has.position}", "isn't in the log")
    return Problem(f"{file} position {has.position}", "isn't what the log says")


def _shared(view: EngineView) -> dict[str, Checkpoint]:
    return {kept.name: kept for kept in view.checkpoints("") if not is_local(kept.name)}
