"""The store protocol: the few calls that a backend or a wrapper has to offer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol, TypeAlias, TypeVar

from everwhen.backends.branch_server import BranchServer
from everwhen.backends.engine import EngineTransaction, EngineView, Inline, Scratch
from everwhen.backends.sql_connection import SqlConnection
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
from everwhen.vocabulary.query import Query

T = TypeVar("T")

CompactionListener: TypeAlias = Callable[[int, int], None]
"""Is told how far a compaction has come: bytes that were given back, of how many."""


class Transaction(Protocol):
    """Checkpoints, snapshots and, where the backend has it, SQL: all take effect or none."""

    async def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        """Run one SQL statement and return its rows, in the store's own database.

        Raises `UnsupportedError` where the backend has no SQL, and `StatementError` for a
        statement that can't be run.
        """
        ...

    async def checkpoint(self, name: str) -> Checkpoint | None:
        """The checkpoint of that name."""
        ...

    async def save_checkpoint(self, checkpoint: Checkpoint, *, local: bool = False) -> None:
        """Store or replace the checkpoint of that name; ``local`` as in `EngineTransaction`."""
        ...

    async def delete_checkpoint(self, name: str, *, local: bool = False) -> None:
        """Delete the checkpoint, if there is one; ``local`` as it was saved."""
        ...

    async def save_snapshot(self, snapshot: Snapshot) -> None:
        """Store or replace the snapshot at that subject and position."""
        ...

    async def delete_snapshots(self, subject: str, positions: Sequence[int] | None = None) -> None:
        """Delete a subject's snapshots at these positions, or all of them."""
        ...


class Log(Protocol):
    """The log itself: commits in, pages out.

    Positions are ordered but not counted: they may have holes where ``capabilities`` says so.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it does beyond the contract, or differently."""
        ...

    async def append(
        self, commits: Sequence[EncodedCommit], connection: object = None
    ) -> list[Outcome]:
        """Write the commits in order, each whole or not at all; one outcome for each.

        When this returns, the written ones are durable. Raises `StorageError` if the medium
        failed: nothing is then acknowledged, and repeating with the same commit ids is safe.

        ``connection`` is the caller's own, of the database that the log is in: then they are
        written in its transaction, and nothing of it is true before that is committed. Raises
        `UnsupportedError` where ``capabilities`` don't say that the backend joins transactions.
        """
        ...

    async def read(self, query: Query, events: int) -> Page:
        """One page of about ``events`` events; a stateless request.

        Types in the query are stored names. Every slice that may match is in the page or after
        its cursor; a page may be empty and not the end.
        """
        ...

    def read_here(self, query: Query, events: int) -> Page:
        """What ``read`` gives, waited for on the spot: for functions inside transactions."""
        ...

    async def stored_commit(self, commit_id: bytes) -> list[StoredSlice]:
        """The slices of the commit of that id, in their order; none where it was never written."""
        ...

    async def head(self) -> Head:
        """The newest event's position and time."""
        ...

    async def position_at(self, recorded_at: int) -> int:
        """The last position recorded at or before the moment; 0 if there is none."""
        ...

    async def stream(self, name: str) -> StreamInfo | None:
        """Where a stream stands; None where it has no events."""
        ...

    async def streams(self, category: str | None, after: str, limit: int) -> list[StreamInfo]:
        """Streams in the order of their names, after the name ``after``."""
        ...

    async def wait(self, after: int, seconds: float) -> bool:
        """Return soon after something is written after the position, or after the seconds.

        A hint: it may return early or late. False says that nothing was written; else the caller
        reads to know. Raises `BeyondEndError` where the log ends before the position: what was
        read up to there is gone. Only one that follows another log is waited for.
        """
        ...


class SideState(Protocol):
    """What is kept beside the log: checkpoints, snapshots and, where there is SQL, read models."""

    async def checkpoint(self, name: str) -> Checkpoint | None:
        """The checkpoint of that name."""
        ...

    async def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints, by name."""
        ...

    async def snapshots(self, subject: str, up_to: int | None, limit: int) -> list[Snapshot]:
        """A subject's snapshots, newest first, at or before the position ``up_to``."""
        ...

    async def snapshots_after(self, subject: str, position: int, limit: int) -> list[SnapshotInfo]:
        """All snapshots by subject and position, after these; an empty list at the end."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Commits when left normally, rolls back on an exception."""
        ...

    async def transact(self, work: Callable[[EngineTransaction], T]) -> T:
        """Run a function in a transaction, and return what it returns.

        It is called where waiting does no harm, and takes effect as a whole or, where it raises,
        not at all.
        """
        ...

    async def view(self, look: Callable[[EngineView], T]) -> T:
        """Run a function over one moment's state of the database, and return what it returns."""
        ...

    def sql_connection(self) -> SqlConnection:
        """A connection of its own that only reads, to be closed by the caller.

        Raises `UnsupportedError` where the backend has no SQL.
        """
        ...

    def scratch(self) -> Scratch:
        """An empty database of the same kind, which is gone when it is closed.

        Raises `UnsupportedError` where the backend has no SQL.
        """
        ...


class InlineHooks(Protocol):
    """What runs in each append's transaction."""

    async def attach(self, inline: Inline) -> None:
        """From now on, run this in each append's transaction, after the events.

        Raises `UnsupportedError` where the backend has no SQL.
        """
        ...

    async def detach(self, inline: Inline) -> None:
        """Leave it out again."""
        ...


class LogFamily(Protocol):
    """Other logs beside this one, each a store of its own: what branches are written to."""

    async def has_log(self, log: str) -> bool:
        """Whether there is another log of that id beside this one. Quick."""
        ...

    async def open_log(self, log: str, not_before: datetime | None) -> Backend:
        """The log of that id beside this one, made where there is none: a store of its own.

        It records nothing before ``not_before``. An id is 32 hexadecimal digits. What is written
        to one log never shows in another, read models included. It can be opened more than once.
        Raises `ReadOnlyError` where it can't be made.
        """
        ...

    async def drop_log(self, log: str) -> None:
        """Delete the log of that id; nothing happens where there is none."""
        ...

    async def serve(self, ask: Callable[[BranchServer], T]) -> T:
        """What the server that keeps the branches answers.

        Raises `UnsupportedError` where ``capabilities`` don't say that there is one.
        """
        ...


class Upkeep(Protocol):
    """What keeps the stored data whole, copied and free of what was deleted."""

    async def check(self) -> list[Problem]:
        """Every fault found in the stored data; empty when all is well."""
        ...

    async def check_schema(self) -> None:
        """Raises `CorruptStoreError` where the tables aren't those that the store makes. Quick.

        What was remembered of the stored data is forgotten: what is read next is what is there.
        """
        ...

    async def find_hidden(self, after: int) -> list[Problem]:
        """Every fault by which queries may not find what is stored; a part of ``check``.

        With ``after`` other than 0, only what stands after that position is looked up.
        """
        ...

    async def table_sizes(self) -> list[TableSize]:
        """How large its tables are, by name; an empty list where they are no server's."""
        ...

    async def backup(self, task: BackupTask, progress: BackupListener | None) -> BackupReport:
        """Copy the store and the logs beside it to a path, as they are at one moment.

        Writers aren't held up, and the copy is there as a whole or not at all. ``progress`` may
        raise, which ends it. Raises `UnsupportedError` where there are no files.
        """
        ...

    async def probe_purge(self) -> None:
        """Raises `StorageError` where ``purge`` would find no room, or can't write."""
        ...

    async def purge(self) -> None:
        """Delete every snapshot, and leave no trace of what was ever deleted in any file.

        Takes its time: it may write the whole store anew. Safe to repeat. Raises `BusyError` where
        others read old data for longer than the store waits.
        """
        ...

    async def compact(self, progress: CompactionListener | None) -> Compaction:
        """Give back what the files have free, and delete nothing that is stored.

        ``progress`` is called with the bytes that were given back so far and how many there are
        to give; what it raises ends the work, and what was given back stays so. Safe to repeat, and
        to cut off at any moment. Raises `StorageFullError` before anything is written where the
        disk has no room for what it takes, `BusyError` where others read old data, or write,
        for longer than the store waits, and `UnsupportedError` where there are no files.
        """
        ...


class Tiers(Protocol):
    """Old history, sealed in segments and archived: read by everyone as before."""

    async def segments(self) -> list[Segment]:
        """All segments, the oldest first; together they are all that is sealed."""
        ...

    async def move(self, move: Move) -> Segment | None:
        """Move some history; the segment that was moved, None where there was nothing to move.

        At any moment, and however it ends, each slice is in one place for whoever reads. Writers
        wait for a small step at most. Raises `BusyError` where another mover begins, `StorageError`
        where an archive doesn't answer, `CorruptStoreError` for what is damaged and moves no
        further, and `UnsupportedError` where ``capabilities.seals`` is False or a library is
        missing.
        """
        ...


class Backend(Log, SideState, InlineHooks, LogFamily, Upkeep, Tiers, Protocol):
    """A backend, or a wrapper around one. `everwhen.testing` has the suite that it must pass."""

    async def close(self) -> None:
        """Release everything; calling it again does nothing."""
        ...


class BackendWrapper(Backend):
    """Hands every call on to another backend: the beginning of a wrapper that changes some."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    async def append(
        self, commits: Sequence[EncodedCommit], connection: object = None
    ) -> list[Outcome]:
        return await self._inner.append(commits, connection)

    async def read(self, query: Query, events: int) -> Page:
        return await self._inner.read(query, events)

    async def stored_commit(self, commit_id: bytes) -> list[StoredSlice]:
        return await self._inner.stored_commit(commit_id)

    async def head(self) -> Head:
        return await self._inner.head()

    async def position_at(self, recorded_at: int) -> int:
        return await self._inner.position_at(recorded_at)

    async def stream(self, name: str) -> StreamInfo | None:
        return await self._inner.stream(name)

    async def streams(self, category: str | None, after: str, limit: int) -> list[StreamInfo]:
        return await self._inner.streams(category, after, limit)

    async def wait(self, after: int, seconds: float) -> bool:
        return await self._inner.wait(after, seconds)

    async def checkpoint(self, name: str) -> Checkpoint | None:
        return await self._inner.checkpoint(name)

    async def checkpoints(self) -> list[Checkpoint]:
        return await self._inner.checkpoints()

    async def snapshots(self, subject: str, up_to: int | None, limit: int) -> list[Snapshot]:
        return await self._inner.snapshots(subject, up_to, limit)

    async def snapshots_after(self, subject: str, position: int, limit: int) -> list[SnapshotInfo]:
        return await self._inner.snapshots_after(subject, position, limit)

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return self._inner.transaction()

    async def transact(self, work: Callable[[EngineTransaction], T]) -> T:
        return await self._inner.transact(work)

    async def view(self, look: Callable[[EngineView], T]) -> T:
        return await self._inner.view(look)

    async def attach(self, inline: Inline) -> None:
        await self._inner.attach(inline)

    async def detach(self, inline: Inline) -> None:
        await self._inner.detach(inline)

    def read_here(self, query: Query, events: int) -> Page:
        return self._inner.read_here(query, events)

    async def has_log(self, log: str) -> bool:
        return await self._inner.has_log(log)

    async def open_log(self, log: str, not_before: datetime | None) -> Backend:
        return await self._inner.open_log(log, not_before)

    async def drop_log(self, log: str) -> None:
        await self._inner.drop_log(log)

    async def serve(self, ask: Callable[[BranchServer], T]) -> T:
        return await self._inner.serve(ask)

    async def probe_purge(self) -> None:
        await self._inner.probe_purge()

    def sql_connection(self) -> SqlConnection:
        return self._inner.sql_connection()

    def scratch(self) -> Scratch:
        return self._inner.scratch()

    async def backup(self, task: BackupTask, progress: BackupListener | None) -> BackupReport:
        return await self._inner.backup(task, progress)

    async def purge(self) -> None:
        await self._inner.purge()

    async def compact(self, progress: CompactionListener | None) -> Compaction:
        return await self._inner.compact(progress)

    async def check(self) -> list[Problem]:
        return await self._inner.check()

    async def check_schema(self) -> None:
        await self._inner.check_schema()

    async def find_hidden(self, after: int) -> list[Problem]:
        return await self._inner.find_hidden(after)

    async def table_sizes(self) -> list[TableSize]:
        return await self._inner.table_sizes()

    async def segments(self) -> list[Segment]:
        return await self._inner.segments()

    async def move(self, move: Move) -> Segment | None:
        return await self._inner.move(move)

    async def close(self) -> None:
        await self._inner.close()
