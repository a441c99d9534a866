# Generated from src/everwhen/branches/_async/branch_backend.py by tools/unasync.py: edit that, then run `make sync`.
"""A branch's backend: its parent's history up to the fork, and then a log of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from everwhen.backends._sync.backend import Backend, CompactionListener, Transaction
from everwhen.backends._sync.concurrency import wait_for_news
from everwhen.backends.branch_server import BranchServer
from everwhen.backends.engine import EngineTransaction, EngineView, Inline, Scratch
from everwhen.backends.sql_connection import SqlConnection
from everwhen.branches._sync.branch_writer import BranchWriter
from everwhen.branches._sync.own_log import OwnLog
from everwhen.branches._sync.parent_log import ParentLog
from everwhen.branches.branch_views import BranchChanges, BranchInline, BranchView, UnwrittenView
from everwhen.branches.commit_translation import shifted
from everwhen.branches.fork_streams import continued, merged
from everwhen.branches.joined_pages import joined_page
from everwhen.branches.joined_snapshots import EVERY, deleted, joined, listed
from everwhen.branches.page_requests import answered
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
from everwhen.vocabulary.errors import BeyondEndError, UnsupportedError
from everwhen.vocabulary.microseconds import from_micros
from everwhen.vocabulary.paging import ReadPage
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.streams import MAX_POSITION

T = TypeVar("T")

_BETWEEN_LOOKS_SECONDS: Final = 0.02  # for another process's first write, which is no news here


class BranchBackend(Backend):
    """Shows the parent up to the fork and then the own log, and writes to the own one only.

    The fork is where a commit of the parent's ends. With ``closes_parent`` the parent belongs to
    this branch, and is closed with it.
    """

    def __init__(self, parent: Backend, own: OwnLog, *, closes_parent: bool = False) -> None:
        self._parent = parent
        self._parent_log = ParentLog(parent, own.fork)
        self._own = own
        self._writer = BranchWriter(self._parent_log, own)
        self._fork = own.fork
        self._capabilities = msgspec.structs.replace(
            own.capabilities,
            dense_positions=(
                own.capabilities.dense_positions and parent.capabilities.dense_positions
            ),
            seals=False,
        )
        self._closes_parent = closes_parent

    def __repr__(self) -> str:
        return f"{self._parent!r}, branch={self._own.name!r}" + (
            ", closed" if self._own.is_closed else ""
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def append(self, commits: Sequence[EncodedCommit], connection: object = None) -> list[Outcome]:
        return self._writer.append(commits, connection)

    def read(self, query: Query, events: int) -> Page:
        own = self._own.existing()
        steps = joined_page(self._parent_log.at_fork, query, events)
        return self._parent_log.answered(steps, own)

    def read_here(self, query: Query, events: int) -> Page:
        self._own.check_open()
        return self._page(self._parent.read_here, self._own.known.read_here, query, events)

    def _page(self, parent: ReadPage, own: ReadPage, query: Query, events: int) -> Page:
        """What ``read`` gives, by calls that block."""
        return answered(joined_page(self._parent_log.at_fork, query, events), parent, own)

    def stored_commit(self, commit_id: bytes) -> list[StoredSlice]:
        own = self._own.existing()
        stored = own.stored_commit(commit_id)
        if not stored:
            return self._parent_log.stored_commit(commit_id)
        bases = self._parent_log.versions({part.stream for part in stored})
        return shifted(stored, self._fork.position, bases)

    def head(self) -> Head:
        own = self._own.existing()
        head = own.head()
        position = self._fork.position
        if head.position or not position:
            return msgspec.structs.replace(head, position=head.position + position)
        return Head(position, from_micros(self._fork.recorded_at))

    def position_at(self, recorded_at: int) -> int:
        own = self._own.existing()
        position = self._fork.position
        if position and recorded_at < self._fork.recorded_at:
            return min(self._parent.position_at(recorded_at), position)
        return position + own.position_at(recorded_at)

    def stream(self, name: str) -> StreamInfo | None:
        own = self._own.existing()
        info = own.stream(name)
        before = (self._parent_log.streams([name]))[name]
        return before if info is None else continued(info, before, self._fork)

    def streams(self, category: str | None, after: str, limit: int) -> list[StreamInfo]:
        own = self._own.existing()
        mine = own.streams(category, after, limit)
        theirs = self._parent_log.list_streams(category, after, limit)
        before = self._parent_log.streams([info.name for info in mine])
        now = [continued(info, before[info.name], self._fork) for info in mine]
        return merged(theirs, now, limit)

    def wait(self, after: int, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        position = self._fork.position
        while True:
            seen = self._own.news.count
            own = self._own.existing()
            left = max(0.0, deadline - time.monotonic())
            if after < position:
                return True
            try:
                if self._own.is_written:
                    return own.wait(after - position, left)
                if after > position:
                    self._parent.wait(MAX_POSITION, 0)  # raises, unless it follows another
            except BeyondEndError as error:
                end = position + error.end if self._own.is_written else position
                place = f"{error.place}, branch {self._own.name!r}"
                raise BeyondEndError(place, after, end) from None
            if not left:
                return False
            wait_for_news(self._own.news, seen, min(left, _BETWEEN_LOOKS_SECONDS))

    # Checkpoints, snapshots and read models: the branch's own

    def checkpoint(self, name: str) -> Checkpoint | None:
        return (self._own.existing()).checkpoint(name)

    def checkpoints(self) -> list[Checkpoint]:
        return (self._own.existing()).checkpoints()

    def snapshots(self, subject: str, up_to: int | None, limit: int) -> list[Snapshot]:
        """The branch's own, and the parent's up to the fork: those are of shared history."""
        own = self._own.existing()
        fork = self._fork.position
        bound = fork if up_to is None else min(up_to, fork)
        newest = own.snapshots(subject, None, 1)
        without_parents = not fork or (bool(newest) and newest[0].position == EVERY)
        count = limit + 1
        while True:
            mine = own.snapshots(subject, up_to, count)
            theirs: list[Snapshot] = []
            if not without_parents:
                theirs = self._parent.snapshots(subject, bound, count)
            found = joined(mine, theirs, count)
            if len(found) >= limit or max(len(mine), len(theirs)) < count:
                return found[:limit]
            count *= 2

    def snapshots_after(self, subject: str, position: int, limit: int) -> list[SnapshotInfo]:
        own = self._own.existing()
        while True:
            mine = own.snapshots_after(subject, position, limit)
            theirs: list[SnapshotInfo] = []
            if self._fork.position:
                theirs = self._parent.snapshots_after(subject, position, limit)
            found, end = listed(mine, theirs, limit, self._fork.position)
            if found or end is None:
                return found
            subject, position = end

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        own = self._own.made()
        with own.transaction() as transaction:
            yield BranchTransaction(transaction, self._fork.position)

    def transact(self, work: Callable[[EngineTransaction], T]) -> T:
        own = self._own.made()
        return own.transact(lambda transaction: work(self._changes(transaction)))

    def _changes(self, transaction: EngineTransaction) -> BranchChanges:
        read = partial(self._page, self._parent.read_here, transaction.read)
        return BranchChanges(transaction, read, self._fork.position)

    def view(self, look: Callable[[EngineView], T]) -> T:
        own = self._own.existing()

        def unwritten(view: EngineView) -> T:
            read = partial(self._page, view.read, own.read_here)
            return look(UnwrittenView(view, read, has_sql=self.capabilities.sql))

        def written(view: EngineView) -> T:
            return look(BranchView(view, partial(self._page, self._parent.read_here, view.read)))

        return own.view(written) if self._own.is_written else self._parent.view(unwritten)

    def attach(self, inline: Inline) -> None:
        own = self._own.made()
        own.attach(BranchInline(inline, self._changes))

    def detach(self, inline: Inline) -> None:
        (self._own.existing()).detach(BranchInline(inline, self._changes))

    # Other logs are the root's business

    def has_log(self, log: str) -> bool:
        return self._parent.has_log(log)

    def open_log(self, log: str, not_before: datetime | None) -> Backend:
        return self._parent.open_log(log, not_before)

    def drop_log(self, log: str) -> None:
        self._parent.drop_log(log)

    def serve(self, ask: Callable[[BranchServer], T]) -> T:
        return self._parent.serve(ask)

    def probe_purge(self) -> None:
        (self._own.existing()).probe_purge()
        self._parent.probe_purge()

    def sql_connection(self) -> SqlConnection:
        raise UnsupportedError(
            "a branch's events are in two files, and no SQL sees them together; ask the store it "
            "was made from, or export the branch"
        )

    def scratch(self) -> Scratch:
        return self._parent.scratch()

    def backup(self, task: BackupTask, progress: BackupListener | None) -> BackupReport:
        del progress
        raise UnsupportedError(
            f"{task.path}: a branch needs the store it was made from and can't be copied alone; "
            f"back up that store, which takes its branches along"
        )

    def purge(self) -> None:
        """The branch's own, and the parent's, whose snapshots show through."""
        (self._own.existing()).purge()
        self._parent.purge()

    def compact(self, progress: CompactionListener | None) -> Compaction:
        """The branch's own file."""
        return (self._own.existing()).compact(progress)

    def check(self) -> list[Problem]:
        problems = (self._own.existing()).check()
        return [*self._parent.check(), *self._own_problems(problems)]

    def check_schema(self) -> None:
        own = self._own.existing()
        self._parent.check_schema()
        own.check_schema()

    def table_sizes(self) -> list[TableSize]:
        """Those of the branch's own log."""
        return (self._own.existing()).table_sizes()

    def segments(self) -> list[Segment]:
        return []

    def move(self, move: Move) -> Segment | None:
        del move
        raise UnsupportedError(
            f"branch {self._own.name!r} has no tiers of its own; move the history of the "
            f"store that it was made from"
        )

    def find_hidden(self, after: int) -> list[Problem]:
        own, own_after = self._own.existing(), max(0, after - self._fork.position)
        problems = own.find_hidden(own_after)
        return [*self._parent.find_hidden(after), *self._own_problems(problems)]

    def _own_problems(self, problems: Sequence[Problem]) -> list[Problem]:
        return [Problem(f"branch {self._own.name!r}: {p.where}", p.what) for p in problems]

    def close(self) -> None:
        self._own.close()
        if self._closes_parent:
            self._parent.close()


class BranchTransaction(Transaction):
    """A transaction of the own log; what it deletes of the parent's snapshots is gone from here."""

    def __init__(self, transaction: Transaction, fork: int) -> None:
        self._transaction = transaction
        self._fork = fork

    def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        return self._transaction.execute(sql, parameters)

    def checkpoint(self, name: str) -> Checkpoint | None:
        return self._transaction.checkpoint(name)

    def save_checkpoint(self, checkpoint: Checkpoint, *, local: bool = False) -> None:
        self._transaction.save_checkpoint(checkpoint, local=local)

    def delete_checkpoint(self, name: str, *, local: bool = False) -> None:
        self._transaction.delete_checkpoint(name, local=local)

    def save_snapshot(self, snapshot: Snapshot) -> None:
        self._transaction.save_snapshot(snapshot)

    def delete_snapshots(self, subject: str, positions: Sequence[int] | None = None) -> None:
        self._transaction.delete_snapshots(subject, positions)
        for gone in deleted(subject, positions, self._fork):
            self._transaction.save_snapshot(gone)
