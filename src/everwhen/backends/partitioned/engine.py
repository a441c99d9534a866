"""The engine: a folder of SQLite files that is one store, written by many threads and processes.

Each partition is a file of its own, with the positions and versions of the whole store. What is
beside the log, checkpoints, snapshots and read models, is in one more (``state.db``), and branches
lie beside that. Who writes which positions is settled by the `sequencer`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from everwhen.backends.engine import (
    EngineCompaction,
    EngineTransaction,
    EngineView,
    Inline,
    Scratch,
    check_reached,
)
from everwhen.backends.notifier import News
from everwhen.backends.partitioned.checking import joint_problems, partition_problems
from everwhen.backends.partitioned.group_writer import GroupWriter, Partitions
from everwhen.backends.partitioned.layout import (
    RECORD,
    STATE,
    Layout,
    check_strategy,
    first_layout,
    no_store,
    read_layout,
    save_layout,
)
from everwhen.backends.partitioned.page_watch import PageWatch
from everwhen.backends.partitioned.parallel_partitions import ParallelPartitions
from everwhen.backends.partitioned.partition_files import PartitionFiles, PartitionOptions
from everwhen.backends.partitioned.partition_moves import PartitionCompaction, PartitionMove
from everwhen.backends.partitioned.sequencer import EMPTY, Claim, Sequencer, SequencerPage
from everwhen.backends.partitioned.strategies import (
    MAX_PARTITIONS,
    ByCategory,
    ByStream,
    PartitionStrategy,
)
from everwhen.backends.partitioned.successive_partitions import SuccessivePartitions
from everwhen.backends.partitioned.views import PartitionedTransaction, PartitionedView
from everwhen.backends.sql_connection import SqlConnection
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.backends.sqlite.files import make_folder
from everwhen.system.durable_files import locked_folder
from everwhen.system.file_backups import BackupListener, BackupReport, BackupTask
from everwhen.vocabulary.clock import Clock, micros_by, system_clock
from everwhen.vocabulary.contract import (
    Capabilities,
    Checkpoint,
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
from everwhen.vocabulary.errors import (
    DeclarationError,
    ReadOnlyError,
    StorageError,
    UnsupportedError,
)
from everwhen.vocabulary.microseconds import from_micros, to_micros
from everwhen.vocabulary.query import Query, Selector

T = TypeVar("T")

_CAPABILITIES: Final = Capabilities(
    name="partitions",
    durable=True,
    dense_positions=False,
    shared_by_processes=True,
    sql=True,
    keeps_recorded_at=True,
    seals=True,
    inline=False,
)
_PROBE_SECONDS: Final = 0.05
"""How long a claim is in flight before a reader asks whether its writer is still there."""


class PartitionedEngine:
    """One store in a folder of files. Safe from any thread; not to be taken through a fork.

    ``strategy`` is that of the folder, and makes it where there is none. The other options are
    those of `SqliteEngine`. Raises `DeclarationError` for another strategy than the folder's.
    """

    blocking = True
    capabilities = _CAPABILITIES

    def __init__(
        self,
        folder: str | os.PathLike[str],
        strategy: PartitionStrategy | None = None,
        *,
        clock: Clock = system_clock,
        read_only: bool = False,
        durable: bool = True,
        busy_timeout: float = 30.0,
    ) -> None:
        self.path = Path(folder)
        self.place = self.location = str(self.path.resolve())
        self.busy_timeout = busy_timeout
        self.news = News()
        self._now = micros_by(clock)
        self._read_only = read_only
        options = PartitionOptions(read_only, durable, busy_timeout)
        self._files = PartitionFiles(self.path, options, self._version_before, clock)
        self._probed: dict[Claim, float] = {}
        self._is_closed = False
        with self._opening(strategy):
            with contextlib.ExitStack() as undone:
                state = self.path / STATE
                if read_only and not state.exists():
                    raise no_store(self.path)
                self._state = SqliteEngine(state, clock=clock, **msgspec.structs.asdict(options))
                undone.callback(self._state.close)
                layout = self._laid_out(strategy)
                self._refreshing = threading.Lock()
                self._partitions = self._of(layout)
                undone.callback(self._files.close)
                for number in self._partitions.newest:
                    self._files.engine(number)
                self._sequencer = Sequencer(self.path / "sequencer")
                undone.callback(self._sequencer.close)
                self._sequencer.enter(self._page_made_anew)
                undone.pop_all()
        self.lock = self._state.lock
        self.capabilities = msgspec.structs.replace(
            _CAPABILITIES, durable=durable, joint_commits=self._are_commits_joint
        )
        self._watch = PageWatch(self._settled, self.news.publish)
        self._writer = GroupWriter(self._files, self._sequencer, self, self._now, self._probe)

    # Opening

    @contextmanager
    def _opening(self, strategy: PartitionStrategy | None) -> Iterator[None]:
        """One process at a time opens the folder."""
        if not (self.path / RECORD).exists() and (strategy is None or self._read_only):
            raise no_store(self.path)
        if strategy is not None and not isinstance(strategy, PartitionStrategy):
            raise DeclarationError(
                f"strategy={strategy!r:.80}: give ByStream, ByCategory, ByTime or BySize"
            )
        if not self._read_only:
            make_folder(self.path)
        try:
            locked = locked_folder(self.path)
            locked.__enter__()
        except OSError as error:
            raise StorageError(
                f"{self.path}: can't be locked ({error}); check that it is a folder, and its "
                f"permissions"
            ) from error
        try:
            yield
        finally:
            locked.__exit__(None, None, None)

    def _laid_out(self, strategy: PartitionStrategy | None) -> Layout:
        layout = read_layout(self.path)
        if layout is not None:
            check_strategy(self.path, layout, strategy)
            return layout
        if strategy is None:
            raise no_store(self.path)
        layout = first_layout(strategy)
        for number in range(layout.partitions):
            self._files.make(number)
        save_layout(self.path, layout)
        return layout

    def _of(self, layout: Layout) -> Partitions:
        strategy = layout.strategy
        if isinstance(strategy, ByStream | ByCategory):
            return ParallelPartitions(self._files, layout, strategy)
        return SuccessivePartitions(self._files, layout, strategy, self._now)

    def _page_made_anew(self) -> SequencerPage:
        """What the sequencer knows, by the partitions alone."""
        layout = self._partitions.layout
        heads = [self._files.engine(number).head() for number in self._written()]
        newest = max(head.position for head in heads)
        times = [to_micros(head.recorded_at) for head in heads if head.recorded_at is not None]
        start = layout.starts[-1] if layout.starts else 1
        return msgspec.structs.replace(
            EMPTY,
            generation=layout.generation,
            next=max(newest + 1, start),
            newest=newest,
            recorded_at=max([EMPTY.recorded_at, *times]),
        )

    def _written(self) -> Iterator[int]:
        """The partitions that are written, and before an empty one the one before it."""
        numbers = [*self._partitions.newest]
        yield from numbers
        number = numbers[0]
        while len(numbers) == 1 and number and not self._files.engine(number).head().position:
            number -= 1
            yield number

    @property
    def _are_commits_joint(self) -> bool:
        layout = self._partitions.layout
        return bool(layout.starts) or layout.partitions == 1

    # Layouts

    def known(self) -> Partitions:
        return self._partitions

    def refresh(self) -> None:
        layout = read_layout(self.path)
        if layout is None:
            raise no_store(self.path)
        with self._refreshing:  # another thread may have read a newer one by now
            if layout.generation > self._partitions.layout.generation:
                self._partitions = self._of(layout)
        if self._sequencer.page().generation < layout.generation and not self._read_only:
            self._announce()

    def _announce(self) -> None:
        """Tell all of the layout: whoever made it was killed before it could, or does it now."""
        old = self._partitions
        before = old.numbers if old.layout.placements else old.numbers[-2:]
        with self._files.groups(before):
            layout = read_layout(self.path)
            if layout is not None:
                self._sequencer.change(layout.generation)

    def follow(self) -> None:
        """Begin the next partition, unless that was done already."""
        number = self._partitions.newest[0]
        with self._files.groups([number]):
            layout = read_layout(self.path)
            if layout is None:
                raise no_store(self.path)
            if layout.partitions == number + 1:
                self._files.make(number + 1)
                starts = (*layout.starts, self._sequencer.page().next)
                layout = msgspec.structs.replace(layout, starts=starts)
                save_layout(self.path, layout)
            self._sequencer.change(layout.generation)
        self.refresh()

    def grow(self, partitions: int) -> None:
        """Have so many partitions by aggregate. Raises `DeclarationError` for fewer than now."""
        self.check_open()
        self._check_writable()
        while True:
            old = self._partitions
            layout = old.layout
            if not isinstance(layout.strategy, ByStream | ByCategory):
                raise DeclarationError(
                    f"{self.path}: by time and by size, partitions are added as events come; "
                    f"there is nothing to do"
                )
            if not layout.partitions < partitions <= MAX_PARTITIONS:
                raise DeclarationError(
                    f"{self.path}: it has {layout.partitions} partitions, and can have up to "
                    f"{MAX_PARTITIONS}; give a number between"
                )
            with self.lock.turn(), self.lock.mutex, self._files.groups(old.numbers):
                if read_layout(self.path) == layout:
                    for number in range(layout.partitions, partitions):
                        self._files.make(number)
                    grown = msgspec.structs.replace(
                        layout,
                        strategy=type(layout.strategy)(partitions),
                        placements=(*layout.placements, partitions),
                    )
                    save_layout(self.path, grown)
                    self._sequencer.change(grown.generation)
                    break
            self.refresh()
        self.refresh()

    # Writing

    def write(self, commits: Sequence[EncodedCommit], *, waits: bool = False) -> list[Outcome]:
        del waits  # a partition's writer waits for an archive in any case
        self.check_open()
        self._check_writable()
        outcomes = self._writer.write(commits)
        self.news.publish()
        return outcomes

    @property
    def inline(self) -> list[Inline]:
        """None: no transaction has both events and what is beside the log."""
        return []

    @inline.setter
    def inline(self, given: list[Inline]) -> None:
        del given
        raise UnsupportedError("partitions run nothing inline; let a runner follow the store")

    def _version_before(self, number: int, stream: str) -> int:
        return self._partitions.version_before(number, stream)

    # What is settled

    def _settled(self) -> int:
        """The position up to which nothing new can appear."""
        page = self._sequencer.page()
        if page.generation > self._partitions.layout.generation:
            self.refresh()
        if page.claims:
            self._probe(page)
        return page.settled

    def _probe(self, page: SequencerPage) -> None:
        """Settle the claims of those who were killed: nobody is writing to their partitions."""
        now = time.monotonic()
        known = self._probed
        self._probed = {claim: known.get(claim, now) for claim in page.claims}
        for claim, since in self._probed.items():
            if now - since > _PROBE_SECONDS:
                engine = self._files.engine(claim.partition)
                if engine.is_idle():
                    self._sequencer.settle(claim, engine.head().position)
                else:
                    self._probed[claim] = now

    # Reading

    def watch(self) -> int:
        self.check_open()
        return self._watch.go_on()

    def read(self, query: Query, events: int) -> Page:
        self.check_open()
        settled = self._settled()
        return self._partitions.read(query, events, settled)

    def stored_commit(self, commit_id: bytes) -> list[StoredSlice]:
        self.check_open()
        settled = self._settled()
        for number in reversed(self._partitions.numbers):
            stored = self._files.engine(number).stored_commit(commit_id)
            if stored:
                return stored if stored[-1].position <= settled else []
        return []

    def head(self) -> Head:
        self.check_open()
        settled = self._settled()
        partitions = self._partitions
        if partitions.layout.placements:
            heads = (self._head_of(number, settled) for number in partitions.numbers)
            return max(heads, key=lambda head: head.position)
        for number in reversed(partitions.numbers):
            head = self._head_of(number, settled)
            if head.position:
                return head
        return Head(0, None)

    def _head_of(self, number: int, settled: int) -> Head:
        engine = self._files.engine(number)
        head = engine.head()
        if head.position <= settled:
            return head
        last = self._newest(number, Query(last_position=settled, reverse=True))
        return Head(0, None) if last is None else Head(last.position, from_micros(last.recorded_at))

    def _newest(self, number: int, query: Query) -> StoredSlice | None:
        """The newest slice of a partition that is within a query which goes backwards."""
        settled = query.last_position or 0
        if settled:
            for stored in self._files.engine(number).read(query, 1).slices:
                if stored.position <= settled:
                    return stored
        return None

    def check_end(self, after: int) -> None:
        check_reached(self.place, self._settled(), after)  # a hole may be at the end, and was read

    def position_at(self, recorded_at: int) -> int:
        self.check_open()
        settled = self._settled()
        found = 0
        for number in reversed(self._partitions.numbers):
            position = self._files.engine(number).position_at(recorded_at)
            if position > settled:  # times rise with positions
                position = self._head_of(number, settled).position
            found = max(found, position)
            if found and self._partitions.layout.starts:
                break
        return found

    def stream(self, name: str) -> StreamInfo | None:
        self.check_open()
        return self._stream(name, self._settled())

    def _stream(self, name: str, settled: int) -> StreamInfo | None:
        for number in self._partitions.candidates(name):
            info = self._files.engine(number).stream(name)
            if info is None:
                continue
            if info.position <= settled:
                return info
            selectors = (Selector(streams=frozenset({name})),)
            last = self._newest(number, Query(selectors, last_position=settled, reverse=True))
            if last is not None:
                moment = from_micros(last.recorded_at)
                return StreamInfo(name, last.version, last.position, moment)
        return None

    def streams(self, category: str | None, after: str, limit: int) -> list[StreamInfo]:
        self.check_open()
        settled = self._settled()
        listed: list[StreamInfo] = []
        while len(listed) < limit:
            found: dict[str, StreamInfo] = {}
            ends: list[str] = []
            for number in self._partitions.numbers:
                page = self._files.engine(number).streams(category, after, limit)
                found |= {info.name: info for info in page}
                if len(page) == limit:
                    ends.append(page[-1].name)
            end = min(ends, default=None)
            for name in sorted(found):
                if end is not None and name > end:
                    break
                info = found[name]
                known = info if info.position <= settled else self._stream(name, settled)
                if known is not None:
                    listed.append(known)
            if end is None:
                break
            after = end
        return listed[:limit]

    # Beside the log

    def checkpoint(self, name: str) -> Checkpoint | None:
        return self._state.checkpoint(name)

    def checkpoints(self) -> list[Checkpoint]:
        return self._state.checkpoints()

    def snapshots(self, subject: str, up_to: int | None, limit: int) -> list[Snapshot]:
        return self._state.snapshots(subject, up_to, limit)

    def snapshots_after(self, subject: str, position: int, limit: int) -> list[SnapshotInfo]:
        return self._state.snapshots_after(subject, position, limit)

    @contextmanager
    def transaction(self) -> Iterator[EngineTransaction]:
        with self._state.transaction() as transaction:
            yield PartitionedTransaction(transaction, self.read)

    def transact(self, work: Callable[[EngineTransaction], T]) -> T:
        return self._state.transact(
            lambda transaction: work(PartitionedTransaction(transaction, self.read))
        )

    @contextmanager
    def view(self) -> Iterator[EngineView]:
        with self._state.view() as view:
            yield PartitionedView(view, self._read_at_one_moment())

    def _read_at_one_moment(self) -> Callable[[Query, int], Page]:
        """Reads of the log as it is at the first of them."""
        settled: list[int] = []

        def read(query: Query, events: int) -> Page:
            if not settled:
                settled.append(self._settled())
            return self._partitions.read(query, events, settled[0])

        return read

    def sql_connection(self) -> SqlConnection:
        raise UnsupportedError(
            "the store's events are in several files, and no SQL sees them together; ask its read "
            "models by a query bus, or one partition's file as a store of its own"
        )

    def scratch(self) -> Scratch:
        return self._state.scratch()

    # Other logs

    def has_log(self, log: str) -> bool:
        return self._state.has_log(log)

    def open_log(self, log: str, not_before: datetime | None) -> SqliteEngine:
        return self._state.open_log(log, not_before)

    def drop_log(self, log: str) -> None:
        self._state.drop_log(log)

    # Looking after it

    def _every(self) -> list[SqliteEngine]:
        return [*map(self._files.engine, self._partitions.numbers), self._state]

    def backup(self, task: BackupTask, listener: BackupListener) -> BackupReport:
        del listener
        raise UnsupportedError(
            f"{task.path}: a backup is of one moment, and a partitioned store is in several files; "
            f"close it everywhere and copy its folder, or export it"
        )

    def probe_purge(self) -> None:
        for engine in self._every():
            with _alone(engine, self):
                engine.probe_purge()

    def purge(self) -> None:
        for engine in self._every():
            with _alone(engine, self):
                engine.purge()

    def empty_journal(self) -> None:
        for engine in self._every():
            with _alone(engine, self):
                engine.empty_journal()

    def compaction(self) -> EngineCompaction:
        self.check_open()
        self._check_writable()
        return PartitionCompaction(self._every(), self.lock)

    def check(self) -> Iterator[Problem]:
        self.check_open()
        self._settled()
        partitions = self._partitions
        for number in partitions.numbers:
            yield from partition_problems(self._files, number)
        yield from self._state.check()
        yield from joint_problems(self._files, partitions)

    def check_schema(self) -> None:
        for engine in self._every():
            engine.check_schema()

    def table_sizes(self) -> list[TableSize]:
        self.check_open()
        return []

    def find_hidden(self, after: int) -> Iterator[Problem]:
        for engine in self._every():
            yield from engine.find_hidden(after)

    # Segments, in each partition

    def segments(self) -> list[Segment]:
        numbers = self._partitions.numbers
        found = [s for number in numbers for s in self._files.engine(number).segments()]
        return sorted(found, key=lambda segment: segment.last)

    def moving(self, move: Move) -> PartitionMove:
        self.check_open()
        self._check_writable()
        engines = [self._files.engine(number) for number in self._partitions.numbers]
        side_by_side = not self._are_commits_joint
        return PartitionMove(engines, self._settled(), move, side_by_side=side_by_side)

    # Closing

    @property
    def is_foreign(self) -> bool:
        return self._state.is_foreign

    def check_open(self) -> None:
        self._state.check_open()

    def _check_writable(self) -> None:
        if self._read_only:
            raise ReadOnlyError(f"{self.path}: opened with read_only=True; open it for writing")

    def close(self) -> None:
        if self.is_foreign or self._is_closed:
            return
        self._is_closed = True
        with contextlib.ExitStack() as closing:
            closing.callback(self._sequencer.close)
            closing.callback(self._files.close)
            closing.callback(self._state.close)  # once nobody writes any more
            closing.callback(self._watch.stop)
        self.news.publish()


@contextmanager
def _alone(engine: SqliteEngine, whole: PartitionedEngine) -> Iterator[None]:
    """Hold the lock of a partition; that of the state beside the log is held already."""
    if engine.lock is whole.lock:
        yield
        return
    with engine.lock.turn(), engine.lock.mutex:
        yield
