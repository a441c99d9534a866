# Generated from src/everwhen/branches/_async/branch_backend.py by tools/unasync.py: edit that, then run `make sync`.
"""A branch's backend: its parent's history up to the fork, and a log of its own behind that."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec

from everwhen.backends._sync.backend import Backend, Transaction
from everwhen.backends._sync.concurrency import alone, sleep, turn, wait_for_news
from everwhen.backends.branch_records import Fork, branches_in
from everwhen.backends.commit_checks import check_condition, refusal_of, repeated, time_of_commit
from everwhen.backends.engine import EngineTransaction, EngineView, Inline, Scratch
from everwhen.backends.notifier import News
from everwhen.backends.sql_connection import SqlConnection
from everwhen.backends.sql_dialect import SqlDialect
from everwhen.branches.joined_logs import (
    EVERY,
    OfOwn,
    OfParent,
    Steps,
    deleted,
    joined,
    listed,
    merged,
    outcome_of,
    own_commit,
    page_of,
    shifted,
    streams_at,
    streams_of,
    versions_of,
)
from everwhen.system.fair_lock import FairLock
from everwhen.system.file_backups import BackupListener, BackupReport, BackupTask
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.contract import (
    Capabilities,
    Checkpoint,
    Condition,
    EncodedCommit,
    Head,
    Outcome,
    Page,
    Problem,
    Receipt,
    Snapshot,
    SnapshotInfo,
    StoredSlice,
    StreamInfo,
)
from everwhen.vocabulary.errors import (
    CommitIdError,
    ConflictError,
    EverwhenError,
    NotAStoreError,
    ReadOnlyError,
    RefusedError,
    StatementError,
    StoreClosedError,
    UnknownBranchError,
    UnsupportedError,
)
from everwhen.vocabulary.microseconds import from_micros
from everwhen.vocabulary.paging import ReadPage, next_page
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.streams import holds

T = TypeVar("T")

_REMEMBERED: Final = 100_000
_OTHER_PROCESSES: Final = 0.02
_PAGE_EVENTS: Final = 2_000


class OwnLog:
    """The log that holds what is written on a branch: made at the first write, opened when needed.

    ``name`` is the branch's, for errors. ``news`` is published when it is opened or closed.
    """

    def __init__(self, root: Backend, name: str, log: str, fork: Fork) -> None:
        self.name = name
        self.news = News()
        self.opened: Backend | None = None
        self._root = root
        self._log = log
        self._not_before = fork.not_before
        self._opening = FairLock()
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether the branch was closed."""
        return self._closed

    def check_open(self) -> None:
        """Raises `StoreClosedError` once the branch is closed."""
        if self._closed:
            raise StoreClosedError

    def existing(self) -> Backend | None:
        """The log, or None as long as nothing has been written.

        Raises `UnknownBranchError` where it is gone, with its branch.
        """
        self.check_open()
        opened, is_there = self.opened, self._root.has_log(self._log)
        if opened is not None and not is_there:
            raise UnknownBranchError(self.name, sorted(self._root.view(branches_in)))
        if opened is None and is_there:
            with contextlib.suppress(NotAStoreError, ReadOnlyError):  # half made, or just deleted
                self._open()
        if self.opened is None:
            sleep(0)  # nothing else may need waiting for, and others want their turn
        return self.opened

    def made(self) -> Backend:
        """The log, to write to. Raises `UnknownBranchError` where the branch has been deleted."""
        self.check_open()
        opened = self.opened
        if not self._root.has_log(self._log):
            known = self._root.view(branches_in)
            if opened is not None or all(branch.id != self._log for branch in known.values()):
                raise UnknownBranchError(self.name, sorted(known))
        return opened or self._open()

    def _open(self) -> Backend:
        with turn(self._opening), alone(self._opening):
            self.check_open()
            if self.opened is None:
                self.opened = self._root.open_log(self._log, self._not_before)
                self.news.publish()
            return self.opened

    def close(self) -> None:
        """Close it, if it was opened. Nothing can be asked of it afterwards."""
        with turn(self._opening), alone(self._opening):
            if self.opened is not None:
                self.opened.close()
            self._closed = True
        self.news.publish()


class BranchBackend(Backend):
    """Shows the parent up to the fork and the own log behind it, and writes to the own one only.

    ``fork`` is where a commit of the parent's ends. With ``closes_parent`` the parent belongs to
    this branch, and is closed with it.
    """

    def __init__(
        self, parent: Backend, own: OwnLog, fork: Fork, *, closes_parent: bool = False
    ) -> None:
        self._parent = parent
        self.parent_here: ReadPage = parent.read_here
        self._own = own
        self.fork = fork
        self._closes_parent = closes_parent
        self._known: dict[str, StreamInfo | None] = {}

    def __repr__(self) -> str:
        return f"{self._parent!r}, branch={self._own.name!r}" + (
            ", closed" if self._own.is_closed else ""
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._parent.capabilities

    # Writing

    def append(self, commits: Sequence[EncodedCommit]) -> list[Outcome]:
        outcomes: list[Outcome | None] = [None] * len(commits)
        ready: list[tuple[int, EncodedCommit]] = []
        for index, commit in enumerate(commits):
            judged = self._judged(commit)
            if isinstance(judged, EncodedCommit):
                ready.append((index, judged))
            elif isinstance(judged, Receipt | CommitIdError):  # known before the fork
                outcomes[index] = judged
            else:
                self._write(commits, ready, outcomes)
                ready = []
                outcomes[index] = self._refused(commit, judged)
        self._write(commits, ready, outcomes)
        return [outcome for outcome in outcomes if outcome is not None]

    def _write(
        self,
        commits: Sequence[EncodedCommit],
        ready: Sequence[tuple[int, EncodedCommit]],
        outcomes: list[Outcome | None],
    ) -> None:
        if not ready:
            return
        own = self._own.made()
        written = own.append([commit for _, commit in ready])
        for (index, _), outcome in zip(ready, written, strict=True):
            outcomes[index] = self._outcome(commits[index], outcome)

    def _outcome(self, commit: EncodedCommit, outcome: Outcome) -> Outcome:
        if not self.fork.position:
            return outcome
        bases = self._versions(streams_of(commit))
        return outcome_of(outcome, commit, self.fork, bases)

    def _judged(self, commit: EncodedCommit) -> EncodedCommit | Outcome:
        """The commit for the own log, once nothing before the fork speaks against it.

        That part never changes, so what was found there holds when the commit is written.
        """
        if not self.fork.position:
            return commit
        if not commit.is_fresh:
            stored = self._parents_commit(commit.id)
            if stored:
                try:
                    return repeated(commit, stored)
                except RefusedError as error:
                    return error
        own = own_commit(commit, self.fork, self._versions(streams_of(commit)))
        if isinstance(own, EncodedCommit):
            try:
                if commit.condition is not None:
                    self._check_condition(commit.condition)
                time_of_commit(commit, lambda: self.fork.recorded_at, self.fork.recorded_at)
            except Exception as error:
                if not isinstance(error, RefusedError) and (
                    isinstance(error, EverwhenError) or is_interrupt(error)
                ):
                    raise
                return refusal_of(commit, error)
        return own

    def _check_condition(self, condition: Condition) -> None:
        """Raises `ConditionError` where something before the fork breaks it."""
        query = condition.query.after(condition.after)
        asked = query.up_to(self.fork.position)
        while condition.after < self.fork.position:
            page = self._parent.read(asked, _PAGE_EVENTS)
            check_condition(query, condition.after, page.slices)
            if page.end:
                return
            asked = next_page(asked, page)

    def _refused(self, commit: EncodedCommit, refusal: Outcome) -> Outcome:
        """What is to be said of a commit that can't be: what a store says first, comes first."""
        own = self._own.existing()
        if own is not None and not commit.is_fresh:
            stored = own.stored_commit(commit.id)
            if stored:
                try:
                    return self._outcome(commit, repeated(commit, stored))
                except RefusedError as error:
                    return self._outcome(commit, error)
        for stream, expected in commit.expected:
            info = self.stream(stream)
            actual = 0 if info is None else info.version
            if not holds(expected, actual):
                return ConflictError(stream, expected, actual)
        return refusal

    # What stood where at the fork

    def _streams_at_fork(self, names: Collection[str]) -> dict[str, StreamInfo | None]:
        if not self.fork.position:
            return dict.fromkeys(names)
        unknown = [name for name in names if name not in self._known]
        if unknown:
            position = self.fork.position
            self._learn(self._parent.view(lambda view: streams_at(view.read, unknown, position)))
        return self._remembered(names)

    def _remembered(self, names: Collection[str]) -> dict[str, StreamInfo | None]:
        known = self._known
        try:
            return {name: known[name] for name in names}
        except KeyError:  # forgotten by another thread meanwhile
            return self._streams_at_fork(names)

    def _learn(self, found: Mapping[str, StreamInfo | None]) -> None:
        if len(self._known) > _REMEMBERED:
            self._known = {}
        self._known.update(found)

    def _versions(self, names: Collection[str]) -> dict[str, int]:
        return versions_of(self._streams_at_fork(names))

    def _streams_here(
        self, parent: ReadPage, names: Collection[str]
    ) -> dict[str, StreamInfo | None]:
        """Where they stood, looked up on the spot."""
        known = self._known
        found = streams_at(parent, [n for n in names if n not in known], self.fork.position)
        self._learn(found)
        return {name: found[name] if name in found else known[name] for name in names}

    # Reading

    def read(self, query: Query, events: int) -> Page:
        own = self._own.existing()
        steps = page_of(self.fork, query, events, has_own=own is not None)
        answer: Any = None
        while True:
            try:
                asked = steps.send(answer)
            except StopIteration as done:
                page: Page = done.value
                return page
            if isinstance(asked, OfParent):
                answer = self._parent.read(asked.query, asked.events)
            elif not isinstance(asked, OfOwn):
                answer = self._streams_at_fork(asked.streams)
            elif own is not None:
                answer = own.read(asked.query, asked.events)

    def read_here(self, query: Query, events: int) -> Page:
        self._own.check_open()
        own = self._own.opened
        return self.page(query, events, self.parent_here, None if own is None else own.read_here)

    def page(self, query: Query, events: int, parent: ReadPage, own: ReadPage | None) -> Page:
        """A page, by calls that block."""
        steps: Steps = page_of(self.fork, query, events, has_own=own is not None)
        answer: Any = None
        while True:
            try:
                asked = steps.send(answer)
            except StopIteration as done:
                page: Page = done.value
                return page
            if isinstance(asked, OfParent):
                answer = parent(asked.query, asked.events)
            elif not isinstance(asked, OfOwn):
                answer = self._streams_here(parent, asked.streams)
            elif own is not None:
                answer = own(asked.query, asked.events)

    def stored_commit(self, commit_id: bytes) -> list[StoredSlice]:
        own = self._own.existing()
        stored = [] if own is None else own.stored_commit(commit_id)
        if not stored:
            return self._parents_commit(commit_id)
        bases = self._versions({part.stream for part in stored})
        return shifted(stored, self.fork.position, bases)

    def _parents_commit(self, commit_id: bytes) -> list[StoredSlice]:
        if not self.fork.position:
            return []
        stored = self._parent.stored_commit(commit_id)
        return stored if stored and stored[-1].position <= self.fork.position else []

    def head(self) -> Head:
        own = self._own.existing()
        head = Head(0, None) if own is None else own.head()
        position = self.fork.position
        if head.position or not position:
            return msgspec.structs.replace(head, position=head.position + position)
        return Head(position, from_micros(self.fork.recorded_at))

    def position_at(self, recorded_at: int) -> int:
        own = self._own.existing()
        position = self.fork.position
        if position and recorded_at < self.fork.recorded_at:
            return min(self._parent.position_at(recorded_at), position)
        return position + (0 if own is None else own.position_at(recorded_at))

    def stream(self, name: str) -> StreamInfo | None:
        own = self._own.existing()
        info = None if own is None else own.stream(name)
        before = (self._streams_at_fork([name]))[name]
        return before if info is None else self._shifted(info, before)

    def streams(self, category: str | None, after: str, limit: int) -> list[StreamInfo]:
        own = self._own.existing()
        mine = [] if own is None else own.streams(category, after, limit)
        theirs = self._parents_streams(category, after, limit)
        before = self._streams_at_fork([info.name for info in mine])
        return merged(theirs, [self._shifted(info, before[info.name]) for info in mine], limit)

    def _parents_streams(self, category: str | None, after: str, limit: int) -> list[StreamInfo]:
        """The parent's streams as they stood at the fork."""
        found: list[StreamInfo] = []
        position = self.fork.position
        while position and len(found) < limit:
            page = self._parent.streams(category, after, limit)
            newer = [info.name for info in page if info.position > position]
            before = self._streams_at_fork(newer)
            then = [before.get(info.name) if info.name in before else info for info in page]
            found += [info for info in then if info is not None]
            if len(page) < limit:
                break
            after = page[-1].name
        return found

    def _shifted(self, info: StreamInfo, before: StreamInfo | None) -> StreamInfo:
        return msgspec.structs.replace(
            info,
            version=info.version + (0 if before is None else before.version),
            position=info.position + self.fork.position,
        )

    def wait(self, after: int, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        position = self.fork.position
        while True:
            seen = self._own.news.count
            own = self._own.existing()
            left = deadline - time.monotonic()
            if after < position:
                return True
            if left <= 0:
                return False
            if own is not None:
                return own.wait(after - position, left)
            wait_for_news(self._own.news, seen, min(left, _OTHER_PROCESSES))

    # Checkpoints, snapshots and read models: the branch's own

    def checkpoint(self, name: str) -> Checkpoint | None:
        own = self._own.existing()
        return None if own is None else own.checkpoint(name)

    def checkpoints(self) -> list[Checkpoint]:
        own = self._own.existing()
        return [] if own is None else own.checkpoints()

    def snapshots(self, subject: str, up_to: int | None, limit: int) -> list[Snapshot]:
        """The branch's own, and the parent's up to the fork: those are of shared history."""
        own = self._own.existing()
        position = self.fork.position
        if own is not None and not position:
            return own.snapshots(subject, up_to, limit)
        bound = position if up_to is None else min(up_to, position)
        if own is None:
            return self._parent.snapshots(subject, bound, limit) if position else []
        newest = own.snapshots(subject, None, 1)
        without_parents = bool(newest) and newest[0].position == EVERY
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
            mine: list[SnapshotInfo] = []
            theirs: list[SnapshotInfo] = []
            if own is not None:
                mine = own.snapshots_after(subject, position, limit)
            if self.fork.position:
                theirs = self._parent.snapshots_after(subject, position, limit)
            found, end = listed(mine, theirs, limit, self.fork.position)
            if found or end is None:
                return found
            subject, position = end

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        own = self._own.made()
        with own.transaction() as transaction:
            yield BranchTransaction(transaction, self.fork.position)

    def transact(self, work: Callable[[EngineTransaction], T]) -> T:
        own = self._own.made()
        return own.transact(lambda transaction: work(_Transaction(self, transaction)))

    def view(self, look: Callable[[EngineView], T]) -> T:
        own = self._own.existing()
        if own is None:
            return self._parent.view(lambda view: look(_Unwritten(self, view)))
        return own.view(lambda view: look(_View(self, view)))

    def attach(self, inline: Inline) -> None:
        own = self._own.made()
        own.attach(_OnBranch(self, inline))

    def detach(self, inline: Inline) -> None:
        own = self._own.existing()
        if own is not None:
            own.detach(_OnBranch(self, inline))

    # Other logs are the root's business

    def has_log(self, log: str) -> bool:
        return self._parent.has_log(log)

    def open_log(self, log: str, not_before: datetime | None) -> Backend:
        return self._parent.open_log(log, not_before)

    def drop_log(self, log: str) -> None:
        self._parent.drop_log(log)

    def probe_purge(self) -> None:
        own = self._own.existing()
        if own is not None:
            own.probe_purge()
        self._parent.probe_purge()

    def sql(self) -> SqlConnection:
        raise UnsupportedError(
            "a branch's events are in two files, and no SQL sees them together; ask the store it "
            "was made from, or export the branch"
        )

    def scratch(self) -> Scratch:
        return self._parent.scratch()

    def backup(self, task: BackupTask, progress: BackupListener | None) -> BackupReport:
        del progress
        raise UnsupportedError(
            f"{task.path}: a branch rests on the store it was made from and is no store by itself; "
            f"back up that store, which takes its branches along"
        )

    def purge(self) -> None:
        """The branch's own, and the parent's, whose snapshots show through."""
        own = self._own.existing()
        if own is not None:
            own.purge()
        self._parent.purge()

    def check(self) -> list[Problem]:
        own = self._own.existing()
        problems = [] if own is None else own.check()
        return [*self._parent.check(), *self._own_problems(problems)]

    def check_schema(self) -> None:
        own = self._own.existing()
        self._parent.check_schema()
        if own is not None:
            own.check_schema()

    def find_hidden(self, after: int) -> list[Problem]:
        own, own_after = self._own.existing(), max(0, after - self.fork.position)
        problems = [] if own is None else own.find_hidden(own_after)
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


class _View(EngineView):
    """A look at the own log, which shows the branch's events."""

    def __init__(self, branch: BranchBackend, view: EngineView) -> None:
        self._branch = branch
        self._view = view

    @property
    def dialect(self) -> SqlDialect:
        return self._view.dialect

    def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        return self._view.execute(sql, parameters)

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        return self._view.rows(sql)

    def checkpoint(self, name: str) -> Checkpoint | None:
        return self._view.checkpoint(name)

    def checkpoints(self, prefix: str) -> list[Checkpoint]:
        return self._view.checkpoints(prefix)

    def read(self, query: Query, events: int) -> Page:
        return self._branch.page(query, events, self._branch.parent_here, self._view.read)


class _Unwritten(_View):
    """A look at a branch that nothing has been written on, by one at its parent."""

    def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        if not self._branch.capabilities.sql:
            return self._view.execute(sql, parameters)  # which says so
        raise StatementError(
            f"the branch has no read models yet; let a runner make them first: {sql}"
        )

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        return iter(self.execute(sql))

    def checkpoint(self, name: str) -> Checkpoint | None:
        del name
        return None

    def checkpoints(self, prefix: str) -> list[Checkpoint]:
        del prefix
        return []

    def read(self, query: Query, events: int) -> Page:
        return self._branch.page(query, events, self._view.read, None)


class _Transaction(_View, EngineTransaction):
    """A transaction of the own log, which shows the branch's events."""

    def __init__(self, branch: BranchBackend, transaction: EngineTransaction) -> None:
        super().__init__(branch, transaction)
        self._transaction = transaction

    def save_checkpoint(self, checkpoint: Checkpoint, *, local: bool = False) -> None:
        self._transaction.save_checkpoint(checkpoint, local=local)

    def delete_checkpoint(self, name: str, *, local: bool = False) -> None:
        self._transaction.delete_checkpoint(name, local=local)

    def save_snapshot(self, snapshot: Snapshot) -> None:
        self._transaction.save_snapshot(snapshot)

    def delete_snapshots(self, subject: str, positions: Sequence[int] | None = None) -> None:
        self._transaction.delete_snapshots(subject, positions)
        for gone in deleted(subject, positions, self._branch.fork.position):
            self._transaction.save_snapshot(gone)


class _OnBranch(msgspec.Struct, frozen=True):
    """What runs in each append's transaction on the own log. Equal to another of the same."""

    branch: BranchBackend
    inline: Inline

    def __call__(self, transaction: EngineTransaction) -> None:
        self.inline(_Transaction(self.branch, transaction))
