"""What an embedded engine offers: blocking calls that are safe from any thread.

Memory and SQLite are engines. The flavours (sync, async) put their own waiting around them; a
backend that talks over a network has no engine, and implements `Backend` in each flavour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, TypeVar, runtime_checkable

from everwhen.backends.notifier import News
from everwhen.backends.sql_connection import SqlConnection
from everwhen.backends.sql_dialect import SqlView
from everwhen.system.fair_lock import FairLock
from everwhen.system.file_backups import BackupListener, BackupReport, BackupTask
from everwhen.vocabulary.contract import (
    Capabilities,
    Checkpoint,
    Compaction,
    EncodedCommit,
    Head,
    Move,
    Outcome,
    Page,
    Problem,
    Segment,
    Snapshot,
    SnapshotInfo,
    StoredSlice,
    StreamInfo,
    TableSize,
)
from everwhen.vocabulary.errors import BeyondEndError, BusyError
from everwhen.vocabulary.query import Query

T = TypeVar("T")

REPLICA: Final = "$replica"
"""The checkpoint of a file that is a replica of a log elsewhere: how far it has come in that."""
LOG_RECORDS: Final = "$log/"
"""Begins the names of checkpoints that a log keeps about itself, on all of its replicas."""


class Scratch(SqlView, Protocol):
    """An empty database of its own, gone when it is closed. It holds as much as a disk does."""

    def transaction(self) -> AbstractContextManager[object]:
        """What is done within takes effect together or not at all; one may stand in another."""
        ...

    def interrupt(self) -> None:
        """End the statement that another thread is running there."""
        ...

    def close(self) -> None:
        """Delete it."""
        ...


class ChangedError(BusyError):
    """A file was written while it was read without locks: what was read can't be believed."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: was written to while it was read; read it again")


class NotFetchedError(Exception):
    """What is read is in an object elsewhere: call ``fetch``, which may take long, then read again.

    It holds no connection and no lock meanwhile, so a slow object storage keeps nobody waiting.
    """

    def __init__(self, fetch: Callable[[], None]) -> None:
        super().__init__("it is in an object that wasn't fetched yet")
        self.fetch = fetch


def check_reached(place: str, end: int, after: int) -> None:
    """Raises `BeyondEndError` where a log ends before the position ``after``."""
    if end < after:
        raise BeyondEndError(place or "memory:", after, end)


class EngineView(SqlView, Protocol):
    """A consistent look at checkpoints and, by SQL, read models."""

    def checkpoint(self, name: str) -> Checkpoint | None:
        """The checkpoint of that name."""
        ...

    def checkpoints(self, prefix: str) -> list[Checkpoint]:
        """Those checkpoints whose names begin so, by name."""
        ...

    def read(self, query: Query, events: int) -> Page:
        """One page of about ``events`` events, with those that this transaction has written."""
        ...


class EngineTransaction(EngineView, Protocol):
    """Checkpoints, snapshots and SQL that take effect together or not at all."""

    def save_checkpoint(self, checkpoint: Checkpoint, *, local: bool = False) -> None:
        """Store or replace the checkpoint of that name.

        Where a log has several replicas, it is one and the same on all of them, unless it is
        ``local``: then it tells of what only this replica has, such as a read model's tables. A
        name is always saved and deleted the same way.
        """
        ...

    def delete_checkpoint(self, name: str, *, local: bool = False) -> None:
        """Delete the checkpoint, if there is one; ``local`` as it was saved."""
        ...

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Store or replace the snapshot at that subject and position."""
        ...

    def delete_snapshots(self, subject: str, positions: Sequence[int] | None = None) -> None:
        """Delete a subject's snapshots at these positions, or all of them."""
        ...


WATCHED_SECONDS: Final = 1.0
"""How long an engine goes on watching after somebody asked for it."""

Inline: TypeAlias = Callable[[EngineTransaction], None]
"""What runs in each append's transaction, after the events. It raises `InlineError` to refuse."""


class Blocking(Protocol):
    """What is called here: ``blocking`` says whether the calls may wait for a disk."""

    blocking: bool


class EngineLog(Protocol):
    """The log: commits in, pages out. Hold ``lock`` to write."""

    capabilities: Capabilities
    lock: FairLock
    news: News

    def write(self, commits: Sequence[EncodedCommit], *, waits: bool = False) -> list[Outcome]:
        """Write the commits, each whole or not at all, durably when this returns.

        Unless it ``waits``, raises `NotFetchedError` where one can't be judged without an archive:
        then nothing was written.
        """
        ...

    def watch(self) -> int:
        """See to it that other processes' commits are published as news, for a second from now on.

        Returns which watch this is: as long as it is the same, nothing is missed in between.
        """
        ...

    def read(self, query: Query, events: int) -> Page:
        """One page of about ``events`` events."""
        ...

    def stored_commit(self, commit_id: bytes) -> list[StoredSlice]:
        """The slices of the commit of that id; none where it was never written."""
        ...

    def head(self) -> Head:
        """The newest event's place."""
        ...

    def check_end(self, after: int) -> None:
        """Raises `BeyondEndError` where the log ends before the position ``after``.

        One that follows another log, as a standby does, may come to that position yet: it says
        nothing.
        """
        ...

    def position_at(self, recorded_at: int) -> int:
        """The last position recorded at or before the moment; 0 if there is none."""
        ...

    def stream(self, name: str) -> StreamInfo | None:
        """Where a stream stands; None where it has no events."""
        ...

    def streams(self, category: str | None, after: str, limit: int) -> list[StreamInfo]:
        """Streams in the order of their names, after the name ``after``."""
        ...


class EngineState(Protocol):
    """Checkpoints, snapshots and, where there is SQL, read models, beside the log."""

    def checkpoint(self, name: str) -> Checkpoint | None:
        """The checkpoint of that name."""
        ...

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints, by name."""
        ...

    def snapshots(self, subject: str, up_to: int | None, limit: int) -> list[Snapshot]:
        """A subject's snapshots, newest first, at or before the position ``up_to``."""
        ...

    def snapshots_after(self, subject: str, position: int, limit: int) -> list[SnapshotInfo]:
        """All snapshots by subject and position, after these; an empty list at the end."""
        ...

    def transaction(self) -> AbstractContextManager[EngineTransaction]:
        """Commits when left normally, rolls back on an exception. Hold ``lock``."""
        ...

    def transact(self, work: Callable[[EngineTransaction], T]) -> T:
        """The same for a function; also where an interrupt may come at any moment."""
        ...

    def view(self) -> AbstractContextManager[EngineView]:
        """A look at one moment's state of things. Raises `ChangedError`, at its end or before."""
        ...

    def sql_connection(self) -> SqlConnection:
        """A connection of its own that only reads. Raises `UnsupportedError` without SQL."""
        ...

    def scratch(self) -> Scratch:
        """An empty database beside the store's. Raises `UnsupportedError` without SQL."""
        ...


class EngineFamily(Protocol):
    """Other logs beside this one, each a store of its own."""

    def has_log(self, log: str) -> bool:
        """Whether there is another log of that id beside this one."""
        ...

    def open_log(self, log: str, not_before: datetime | None) -> Engine:
        """The log of that id beside this one, made where there is none: a store of its own.

        It records nothing before ``not_before``. Raises `ReadOnlyError` where it can't be made.
        """
        ...

    def drop_log(self, log: str) -> None:
        """Delete the log of that id; nothing happens where there is none."""
        ...


class EngineCompaction(Protocol):
    """Making a file smaller, in steps between which others write."""

    progress: tuple[int, int]
    """The bytes that were given back so far, and how many there are to give."""
    is_journal_long: bool
    """Whether the journal is to be emptied before the next step."""

    def steps(self) -> Iterator[Callable[[], None]]:
        """Steps, each to be called with ``lock`` held; what makes them needs no lock."""
        ...

    def report(self) -> Compaction:
        """What it came to, once the journal was emptied after the last step."""
        ...


class EngineUpkeep(Protocol):
    """What keeps the stored data whole, copied and free of what was deleted."""

    busy_timeout: float
    """Seconds to wait for other processes."""

    def check(self) -> Iterator[Problem]:
        """Every fault found in the stored data."""
        ...

    def check_schema(self) -> None:
        """Raises `CorruptStoreError` where the tables aren't those that the store makes. Quick.

        What was remembered of the file is forgotten.
        """
        ...

    def find_hidden(self, after: int) -> Iterator[Problem]:
        """Every fault by which queries may not find what is stored.

        With ``after`` other than 0, only what stands after that position is looked up.
        """
        ...

    def table_sizes(self) -> list[TableSize]:
        """How large its tables are, by name; an empty list where they are no server's."""
        ...

    def backup(self, task: BackupTask, listener: BackupListener) -> BackupReport:
        """Copy the store, with the logs beside it, into a file. No lock is held.

        Raises `UnsupportedError` where there are no files.
        """
        ...

    def probe_purge(self) -> None:
        """Raises `StorageError` where ``purge`` can't write, or finds no room. Hold ``lock``."""
        ...

    def purge(self) -> None:
        """Delete every snapshot, and write the files anew without their gaps. Hold ``lock``."""
        ...

    def empty_journal(self) -> None:
        """Leave no trace in the journal of what was ever deleted. Hold ``lock``.

        Raises `BusyError`, after a moment, while somebody still reads what is in it: call it again.
        """
        ...

    def compaction(self) -> EngineCompaction:
        """What gives the file's free pages back. Raises `UnsupportedError` without a file."""
        ...


class EngineMove(Protocol):
    """A move of history, in steps between which others write."""

    segment: Segment | None
    """The one that was moved, once it is done; None where nothing was."""

    def steps(self) -> Iterator[Callable[[], None]]:
        """Steps, each to be called with ``lock`` held; what makes them needs no lock."""
        ...


class EngineTiers(Protocol):
    """Old history, in segments."""

    def segments(self) -> list[Segment]:
        """All segments, the oldest first."""
        ...

    def moving(self, move: Move) -> EngineMove:
        """What makes a move. Raises `UnsupportedError` where there are no segments."""
        ...


class Engine(EngineLog, EngineState, EngineFamily, EngineUpkeep, EngineTiers, Blocking, Protocol):
    """An embedded engine.

    ``lock`` guards the write side: hold it to call ``write`` or to use ``transaction`` or
    ``transact``, and to change ``inline``. ``place`` tells where the store lies from where any
    other does, and ``location`` is what it is opened by, which may have a password. Both are empty
    for one in memory.
    """

    place: str
    location: str
    inline: list[Inline]

    @property
    def is_foreign(self) -> bool:
        """Whether another process opened it, of which this one is a fork."""
        ...

    def check_open(self) -> None:
        """Raises `StoreClosedError`, or `StorageError` in a fork that can't use it."""
        ...

    def close(self) -> None:
        """Release everything; calling it again does nothing."""
        ...


@runtime_checkable
class JoiningEngine(Protocol):
    """An engine that writes in a transaction of the caller's own, too."""

    def write_within(self, connection: Any, commits: Sequence[EncodedCommit]) -> list[Outcome]:
        """Write the commits in the transaction that the connection is in; ``lock`` isn't needed."""
        ...
