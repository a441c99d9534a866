"""Everything in memory: for tests, for trying out, and as the model for other backends."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from operator import attrgetter
from typing import Any, Final, TypeVar

from everwhen.backends.commit_checks import (
    LONG_AGO,
    check_condition,
    receipt_of,
    refusal_of,
    repeated,
    slice_problems,
    slices_of_commit,
    time_of_commit,
)
from everwhen.backends.engine import (
    EngineCompaction,
    EngineMove,
    EngineTransaction,
    Inline,
    Scratch,
    check_reached,
)
from everwhen.backends.notifier import News
from everwhen.backends.query_matching import Matcher
from everwhen.backends.sql_connection import SqlConnection
from everwhen.backends.sql_dialect import SqlDialect
from everwhen.system.fair_lock import FairLock
from everwhen.system.file_backups import BackupListener, BackupReport, BackupTask
from everwhen.system.forks import register
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.clock import Clock, clock_from, micros_by, system_clock
from everwhen.vocabulary.contract import (
    Capabilities,
    Checkpoint,
    EncodedCommit,
    Head,
    Move,
    Outcome,
    Page,
    Problem,
    Receipt,
    Segment,
    Snapshot,
    SnapshotInfo,
    StoredSlice,
    StreamInfo,
    TableSize,
)
from everwhen.vocabulary.errors import ConflictError, StoreClosedError, UnsupportedError
from everwhen.vocabulary.microseconds import from_micros
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.streams import category_of, holds

T = TypeVar("T")

_position: Final = attrgetter("position")


class _Log:
    """What is written, for all engines that are open on it."""

    def __init__(self) -> None:
        self.lock = FairLock()
        self.visible = threading.Lock()
        self.news = News()
        self.slices: list[StoredSlice] = []
        self.indexed = 0
        self.streams: dict[str, list[StoredSlice]] = {}
        self.commits: dict[bytes, list[StoredSlice]] = {}
        self.kept: tuple[dict[str, Checkpoint], dict[tuple[str, int], Snapshot]] = {}, {}
        self.beside: dict[str, _Log] = {}
        register(self)

    def catch_up(self) -> None:
        """Index what is in the list. Under ``visible``; where it was cut off, it goes on."""
        for stored in self.slices[self.indexed :]:
            commit = self.commits.setdefault(stored.commit_id, [])
            stream = self.streams.setdefault(stored.stream, [])
            for index in (commit, stream):
                if not index or index[-1] is not stored:
                    index.append(stored)
            self.indexed += 1

    # A child has a copy of it all, as it is between two writes

    def hold(self, seconds: float) -> bool:
        if not self.lock.mutex.acquire(timeout=seconds):
            return False
        if self.visible.acquire(timeout=seconds):
            return True
        self.lock.mutex.release()
        return False

    def resume(self) -> None:
        self.visible.release()
        self.lock.mutex.release()

    def forked(self, *, quiet: bool) -> None:
        if quiet:
            self.resume()


_NO_SQL: Final = "the memory backend has no SQL; use a SQLite store for read models"


class MemoryEngine:
    """A list of slices under a lock."""

    blocking = False
    busy_timeout = 0.0
    place = location = ""
    capabilities = Capabilities(
        name="memory",
        durable=False,
        dense_positions=True,
        shared_by_processes=False,
        sql=False,
        keeps_recorded_at=True,
    )

    def __init__(self, clock: Clock = system_clock, *, log: _Log | None = None) -> None:
        self._log = log = log or _Log()
        self.lock = log.lock
        self.news = log.news
        self.inline: list[Inline] = []
        self._clock = clock
        self._now = micros_by(clock)
        self._visible = log.visible
        self._slices = log.slices
        self._streams = log.streams
        self._commits = log.commits
        self._closed = False

    def write(self, commits: Sequence[EncodedCommit], *, waits: bool = False) -> list[Outcome]:
        del waits  # nothing is elsewhere
        self._check_open()
        with self._visible:
            self._log.catch_up()
        outcomes: list[Outcome] = []
        try:
            for commit in commits:
                try:
                    outcomes.append(self._write(commit))
                except Exception as error:
                    if is_interrupt(error):
                        raise
                    outcomes.append(refusal_of(commit, error))
        finally:
            self.news.publish()
        return outcomes

    def _write(self, commit: EncodedCommit) -> Receipt:
        known = self._commits.get(commit.id)
        if known is not None:
            return repeated(commit, known)
        for stream, expected in commit.expected:
            actual = self._version(stream)
            if not holds(expected, actual):
                raise ConflictError(stream, expected, actual)
        if commit.condition is not None:
            check_condition(
                commit.condition.query, commit.condition.after, self._from(commit.condition.after)
            )
        last = self._slices[-1].recorded_at if self._slices else LONG_AGO
        recorded_at = time_of_commit(commit, self._now, last)
        position = self._slices[-1].position if self._slices else 0
        stored = slices_of_commit(commit, position, recorded_at, self._version)
        with self._visible:
            self._slices.extend(stored)  # it is written now, whatever interrupts what follows
            self._log.catch_up()
        return receipt_of(stored)

    def _version(self, stream: str) -> int:
        slices = self._streams.get(stream)
        return slices[-1].version if slices else 0

    def _from(self, after: int) -> Iterable[StoredSlice]:
        start = bisect.bisect_right(self._slices, after, key=_position)
        return islice(self._slices, start, None)

    def watch(self) -> int:
        self._check_open()
        return 0

    def read(self, query: Query, events: int) -> Page:
        self._check_open()
        every = self._slices
        end = len(every)
        if not end:
            return Page([], query.after_position, end=True)
        low = bisect.bisect_right(every, query.after_position, 0, end, key=_position)
        high = end
        if query.last_position is not None:
            high = min(end, bisect.bisect_left(every, query.last_position, key=_position) + 1)
        order = range(high - 1, low - 1, -1) if query.reverse else range(low, high)
        matcher = Matcher(query)
        slices: list[StoredSlice] = []
        cursor = 0
        size = 0
        for i in order:
            stored = every[i]
            cursor = stored.position - stored.count + 1 if query.reverse else stored.position
            if matcher.reaches(stored):
                slices.append(stored)
                size += stored.count
                if size >= events:
                    return Page(slices, cursor, end=False)
        return Page(slices, max(query.after_position, every[high - 1].position), end=True)

    def stored_commit(self, commit_id: bytes) -> list[StoredSlice]:
        self._check_open()
        with self._visible:
            self._log.catch_up()
            return list(self._commits.get(commit_id, ()))

    def head(self) -> Head:
        self._check_open()
        if not self._slices:
            return Head(0, None)
        last = self._slices[-1]
        return Head(last.position, from_micros(last.recorded_at))

    def check_end(self, after: int) -> None:
        check_reached(self.place, self.head().position, after)

    def position_at(self, recorded_at: int) -> int:
        self._check_open()
        index = bisect.bisect_right(self._slices, recorded_at, key=attrgetter("recorded_at"))
        return self._slices[index - 1].position if index else 0

    def stream(self, name: str) -> StreamInfo | None:
        self._check_open()
        with self._visible:
            self._log.catch_up()
            slices = self._streams.get(name)
            if not slices:
                return None
            last = slices[-1]
        return StreamInfo(name, last.version, last.position, from_micros(last.recorded_at))

    def streams(self, category: str | None, after: str, limit: int) -> list[StreamInfo]:
        self._check_open()
        with self._visible:
            self._log.catch_up()
            names = sorted(
                name
                for name in self._streams
                if name > after and (category is None or category_of(name) == category)
            )
        found = (self.stream(name) for name in names[:limit])
        return [info for info in found if info is not None]

    def checkpoint(self, name: str) -> Checkpoint | None:
        self._check_open()
        return self._log.kept[0].get(name)

    def checkpoints(self) -> list[Checkpoint]:
        self._check_open()
        known = self._log.kept[0]
        return [known[name] for name in sorted(known)]

    def snapshots(self, subject: str, up_to: int | None, limit: int) -> list[Snapshot]:
        self._check_open()
        found = [
            s
            for s in list(self._log.kept[1].values())
            if s.subject == subject and (up_to is None or s.position <= up_to)
        ]
        return sorted(found, key=_position, reverse=True)[:limit]

    def snapshots_after(self, subject: str, position: int, limit: int) -> list[SnapshotInfo]:
        self._check_open()
        known = self._log.kept[1]
        found = (known[key] for key in sorted(known) if key > (subject, position))
        return [
            SnapshotInfo(s.subject, s.position, s.fold, s.fold_version)
            for s in islice(found, limit)
        ]

    @contextmanager
    def transaction(self) -> Iterator[_MemoryTransaction]:
        self._check_open()
        log = self._log
        checkpoints, snapshots = log.kept
        transaction = _MemoryTransaction(self, dict(checkpoints), dict(snapshots))
        yield transaction
        log.kept = transaction.kept, transaction.snapshots  # both or neither

    def transact(self, work: Callable[[EngineTransaction], T]) -> T:
        with self.transaction() as transaction:
            return work(transaction)

    @contextmanager
    def view(self) -> Iterator[_MemoryTransaction]:
        self._check_open()
        yield _MemoryTransaction(self, dict(self._log.kept[0]), {})

    def has_log(self, log: str) -> bool:
        self._check_open()
        return log in self._log.beside

    def open_log(self, log: str, not_before: datetime | None) -> MemoryEngine:
        self._check_open()
        found = self._log.beside.setdefault(log, _Log())
        return MemoryEngine(clock_from(not_before, self._clock), log=found)

    def drop_log(self, log: str) -> None:
        self._check_open()
        self._log.beside.pop(log, None)

    def probe_purge(self) -> None:
        self._check_open()

    def sql_connection(self) -> SqlConnection:
        raise UnsupportedError(_NO_SQL)

    def scratch(self) -> Scratch:
        raise UnsupportedError(_NO_SQL)

    def segments(self) -> list[Segment]:
        self._check_open()
        return []

    def moving(self, move: Move) -> EngineMove:
        del move
        raise UnsupportedError(
            "a store in memory isn't sealed; open it with a path to keep old history compressed"
        )

    def backup(self, task: BackupTask, listener: BackupListener) -> BackupReport:
        del listener
        raise UnsupportedError(
            f"{task.path}: the memory backend has no file to copy; use a SQLite store, or export "
            f"the events"
        )

    def purge(self) -> None:
        self._check_open()
        self._log.kept = self._log.kept[0], {}

    def empty_journal(self) -> None:
        self._check_open()

    def compaction(self) -> EngineCompaction:
        raise UnsupportedError("a store in memory has no file that could be compacted")

    def check(self) -> Iterator[Problem]:
        self._check_open()
        yield from slice_problems(islice(self._slices, len(self._slices)))

    def check_schema(self) -> None:
        self._check_open()

    def table_sizes(self) -> list[TableSize]:
        self._check_open()
        return []

    def find_hidden(self, after: int) -> Iterator[Problem]:
        del after
        self._check_open()
        return iter(())

    def close(self) -> None:
        self._closed = True
        self.news.publish()

    @property
    def is_foreign(self) -> bool:
        """Never: a child has a store of its own, a copy."""
        return False

    def check_open(self) -> None:
        if self._closed:
            raise StoreClosedError

    _check_open = check_open


class _MemoryTransaction:
    """Works on copies, which take the originals' place when all went well."""

    def __init__(
        self,
        engine: MemoryEngine,
        checkpoints: dict[str, Checkpoint],
        snapshots: dict[tuple[str, int], Snapshot],
    ) -> None:
        self._engine = engine
        self.kept = checkpoints
        self.snapshots = snapshots

    @property
    def dialect(self) -> SqlDialect:
        raise UnsupportedError(_NO_SQL)

    def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        del sql, parameters
        raise UnsupportedError(_NO_SQL)

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        del sql
        raise UnsupportedError(_NO_SQL)

    def checkpoint(self, name: str) -> Checkpoint | None:
        return self.kept.get(name)

    def checkpoints(self, prefix: str) -> list[Checkpoint]:
        return [self.kept[name] for name in sorted(self.kept) if name.startswith(prefix)]

    def read(self, query: Query, events: int) -> Page:
        return self._engine.read(query, events)

    def save_checkpoint(self, checkpoint: Checkpoint, *, local: bool = False) -> None:
        del local  # there is one replica
        self.kept[checkpoint.name] = checkpoint

    def delete_checkpoint(self, name: str, *, local: bool = False) -> None:
        del local
        self.kept.pop(name, None)

    def save_snapshot(self, snapshot: Snapshot) -> None:
        self.snapshots[snapshot.subject, snapshot.position] = snapshot

    def delete_snapshots(self, subject: str, positions: Sequence[int] | None = None) -> None:
        gone = [
            key
            for key in self.snapshots
            if key[0] == subject and (positions is None or key[1] in positions)
        ]
        for key in gone:
            del self.snapshots[key]
