"""What follows the events for one projection: a state in memory, or rows in tables."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar
from uuid import uuid4

import msgspec

from everwhen._async.repository import Repository
from everwhen._async.seam import Lock, sleep
from everwhen._async.store import Store
from everwhen.commits import stored_query
from everwhen.contract import Checkpoint, Page
from everwhen.engine import EngineTransaction, EngineView
from everwhen.errors import ProjectionError, StatementError, StorageError
from everwhen.fold import is_immutable
from everwhen.projections import (
    Build,
    ParkedEvent,
    Projection,
    ProjectionStatus,
    Record,
    TableProjection,
    Tables,
    builds_of,
    check_names,
    create_tables,
    kept,
    parked_checkpoint,
    parked_of,
    record_of,
    retire,
    status_of,
    switch,
)
from everwhen.query import Query
from everwhen.reading import events_of_page, with_page
from everwhen.recorded import RecordedEvent
from everwhen.snapshots import NOTHING, Adaptive, Loaded, SnapshotStrategy

S = TypeVar("S")
T = TypeVar("T")

_LOG: Final = logging.getLogger("everwhen")
_PAGE_INLINE: Final = 2_000
_UNKEPT: Final = 10_000
_UNKEPT_MICROS: Final = 200_000
_SELDOM: Final = Adaptive(seconds=0.5, shortest=10_000, longest=1_000_000)


class Follower(Protocol):
    """One projection's way along the events."""

    name: str
    of: Query
    position: int
    is_active: bool
    error: ProjectionError | None

    async def start(self) -> bool:
        """Try to become active; False where another runner is."""
        ...

    async def take(self, page: Page) -> None:
        """Let the page's events behind ``position`` take effect, and come to the page's end."""
        ...

    async def stay(self, *, at_end: bool) -> None:
        """Remain active, though nothing happens."""
        ...

    async def stop(self) -> None:
        """Give way to others."""
        ...

    async def status(self, head: int) -> ProjectionStatus:
        """Where it stands."""
        ...


def _now() -> int:
    return time.time_ns() // 1_000


class _Pace:
    """How many events a second, over a second or more."""

    def __init__(self) -> None:
        self.rate = 0.0
        self._since = time.monotonic()
        self._events = 0

    def add(self, events: int) -> float:
        self._events += events
        seconds = time.monotonic() - self._since
        if seconds >= 1.0:
            self.rate = round(self._events / seconds, 1)
            self._since, self._events = time.monotonic(), 0
        return self.rate


class StateFollower(Generic[S]):
    """Keeps a fold's state in memory up to date."""

    def __init__(
        self, store: Store, projection: Projection[S], strategy: SnapshotStrategy = _SELDOM
    ) -> None:
        self.projection = projection
        self.name = projection.name
        self.of = projection.of
        self.position = 0
        self.is_active = False
        self.error: ProjectionError | None = None
        self._store = store
        self._repository = Repository(store, projection.fold, strategy=strategy)
        self._loaded: Loaded[S] | None = None
        self._lock = Lock()
        self._left_out: dict[int, ParkedEvent] = {}
        self._parked: set[str] = set()
        self._pace = _Pace()

    async def start(self) -> bool:
        """Load the newest snapshot; what comes after it is followed like all the rest."""
        self._loaded = await self._repository._newest_snapshot(self.of)
        self.position = self._loaded.position
        self.is_active = True
        return True

    async def ask(self, question: Callable[[S], T]) -> tuple[T, int]:
        """What a function says of the state, and the position that it holds at.

        Where the state is mutable the answer is a copy, so that it never changes afterwards.
        """
        async with self._lock:
            answer = question(self._started.state)
            mutable = self.projection.fold.is_mutable and not is_immutable(answer)
            return (deepcopy(answer) if mutable else answer), self.position

    @property
    def _started(self) -> Loaded[S]:
        if self._loaded is None:
            raise AssertionError("a follower is started before anything else")
        return self._loaded

    async def take(self, page: Page) -> None:
        async with self._lock:
            before = self._started
            wanted = self.of.after(self.position)
            asked = stored_query(wanted, self._store._codec)
            loaded = None if self._left_out else self._with_page(page, asked, wanted)
            if loaded is None:
                await self._take_one_by_one(page, asked, wanted)
                return
            self._pace.add(loaded.since.events - before.since.events)
            self._loaded = loaded
            self.position = max(self.position, page.cursor)
        if await self._repository.snapshot_if_due(loaded):
            self._loaded = msgspec.structs.replace(loaded, since=NOTHING)

    def _with_page(self, page: Page, asked: Query, wanted: Query) -> Loaded[S] | None:
        """The page in one go; None where the fold fails on it."""
        fold, codec = self.projection.fold, self._store._codec
        try:
            return with_page(self._started, page, asked, wanted, codec, fold)
        except StorageError:
            raise
        except Exception:  # noqa: BLE001 (user code: it is found again, event by event)
            return None

    async def _take_one_by_one(self, page: Page, asked: Query, wanted: Query) -> None:
        """The page event by event, to find the one that the fold fails on."""
        state = await self._reloaded()
        for event in events_of_page(page, asked, wanted, self._store._codec):
            if event.stream in self._parked:
                self._leave_out(event, None)
            elif event.position not in self._left_out:
                state = await self._tried(state, event)
                if self.error is not None:
                    break
            self._pace.add(1)
            self.position = event.position
        else:
            self.position = max(self.position, page.cursor)
        self._loaded = msgspec.structs.replace(
            self._started, state=state, read_until=self.position, _subject=None
        )

    async def _reloaded(self) -> S:
        """The state at ``position`` again, without what was left out."""
        whole = min(self._left_out, default=self.position + 1) - 1
        loaded = await self._repository.load(self.of.up_to(min(whole, self.position)))
        state = loaded.state
        rest = self.of.after(loaded.read_until).up_to(self.position)
        async for events in self._store.read_pages(rest):
            kept = [event for event in events if event.position not in self._left_out]
            state = self.projection.fold._after(state, kept)
        return state

    async def _tried(self, state: S, event: RecordedEvent[Any]) -> S:
        """The state after the event; without it where it was left out, or the projection halted."""
        policy = self.projection.on_error
        for attempt in range(policy.retries + 1):
            try:
                return self.projection.fold._after(state, (event,))
            except Exception as error:  # noqa: BLE001 (user code)
                failure = error
                state = await self._reloaded()
            if attempt < policy.retries:
                await sleep(policy.pause * 2**attempt)
        why = f"{type(failure).__name__}: {failure}"
        if policy.then == "halt":
            self.error = ProjectionError(self.name, event.position, why)
            self.error.__cause__ = failure
            self.is_active = False
            _LOG.error("%s", self.error)
            return state
        _LOG.warning("projection %s leaves out position %d: %s", self.name, event.position, why)
        self._leave_out(event, why)
        if policy.then == "park":
            self._parked.add(event.stream)
        return state

    def _leave_out(self, event: RecordedEvent[Any], why: str | None) -> None:
        left_out = ParkedEvent(event.position, event.stream, event.type, why, _now())
        self._left_out[event.position] = left_out

    async def parked(self) -> list[ParkedEvent]:
        """The events that wait to be retried, in order."""
        return [p for _, p in sorted(self._left_out.items()) if p.stream in self._parked]

    async def retry(self) -> int:
        """Fold the parked events in where they belong; how many are parked after that."""
        parked = await self.parked()
        if not parked:
            return 0
        async with self._lock:
            until, self.position = self.position, parked[0].position - 1
            for event in parked:
                del self._left_out[event.position]
            self._parked.clear()
            again = self.of.after(self.position).up_to(until)
            async for page, asked, wanted in self._store._pages(again):
                await self._take_one_by_one(page, asked, wanted)
        return len(await self.parked())

    async def stay(self, *, at_end: bool) -> None:
        """Nobody else wants its place."""

    async def stop(self) -> None:
        self.is_active = False

    async def status(self, head: int) -> ProjectionStatus:
        parked = len(await self.parked())
        return ProjectionStatus(
            self.name,
            self.projection.version,
            0,
            "halted" if self.error else "memory",
            self.position,
            max(0, head - self.position),
            self._pace.rate,
            parked,
            len(self._left_out) - parked,
            str(self.error) if self.error else None,
        )


class _Moved(Exception):  # noqa: N818 (not an error: another runner has the build now)
    """The lease has gone to another runner, or the build has gone."""


class _Failed(Exception):  # noqa: N818 (carries the place of a failure out of a transaction)
    """A function failed on the event at that index."""

    def __init__(self, index: int) -> None:
        self.index = index


class TableFollower:
    """Keeps one build of a projection's tables up to date, for as long as it has the lease.

    The rows, the position and the lease change in one transaction, so a runner that was believed
    dead and comes back can't write: its lease is gone.
    """

    def __init__(
        self, store: Store, projection: TableProjection, *, lease: float, fresh: bool = False
    ) -> None:
        self.projection = projection
        self.name = projection.name
        self.of = projection.of
        self.position = 0
        self.is_active = False
        self.error: ProjectionError | None = None
        self.owner = uuid4().hex
        self._store = store
        self._backend = store._backend
        self._lease = int(lease * 1_000_000)
        self._kept = 0
        self._has_lease = False
        self._fresh = fresh
        self._build = Build(projection.name, projection.version, 0)
        self._record = Record(projection.tables)
        self._physical = self._build.physical(projection.tables)
        self._parked: set[str] = set()
        self._pace = _Pace()

    @property
    def is_live(self) -> bool:
        """Whether readers see this build."""
        return self._record.is_live

    @property
    def build(self) -> int:
        """Its number."""
        return self._build.number

    async def start(self) -> bool:
        """Take the lease of the newest build of this version, or begin one.

        Raises `DeclarationError` for a table name that is taken.
        """
        checkpoints = await self._store.checkpoints()
        builds = builds_of(checkpoints, self.name)
        check_names(self.projection, checkpoints)
        live = [build for build, kept in builds.items() if record_of(kept).is_live]
        mine = sorted(b.number for b in builds if b.version == self.projection.version)
        if any(build.version > self.projection.version for build in live):
            return False
        if self._build in builds:
            number = self._build.number
        elif self._fresh:
            unfinished = [number for number in mine if all(b.number != number for b in live)]
            number = unfinished[-1] if unfinished else (mine[-1] if mine else 0) + 1
        else:
            number = next((b.number for b in live if b.version == self.projection.version), 0)
            number = number or (mine[-1] if mine else 1)
        self._build = Build(self.name, self.projection.version, number)
        self._physical = self._build.physical(self.projection.tables)
        self.is_active = self._has_lease = await self._backend.transact(self._begin)
        if self.is_active:
            found = parked_of(await self._store.checkpoints(), self._build)
            self._parked = {parked.stream for parked in found}
        return self.is_active

    def _begin(self, transaction: EngineTransaction) -> bool:
        known = transaction.checkpoint(self._build.record)
        if known is None:
            create_tables(transaction, self.projection, self._build)
            self._record = Record(self.projection.tables)
            self.position = self._kept = 0
        else:
            self._record = record_of(known)
            self.position = self._kept = known.position
            if not self._record.is_free(self.owner, _now()):
                return False
        self.error = None
        self._keep(transaction, error=None)
        return True

    def _keep(self, transaction: EngineTransaction, **changes: Any) -> None:
        """Keep the position and the record, and go on holding the lease."""
        now = _now()
        self._record = msgspec.structs.replace(
            self._record, owner=self.owner, until=now + self._lease, at=now, **changes
        )
        transaction.save_checkpoint(kept(self._build, self.position, self._record))
        self._kept = self.position

    def _check_lease(self, transaction: EngineView) -> None:
        """Raises `_Moved` unless the lease is still ours, and all is as we left it."""
        known = transaction.checkpoint(self._build.record)
        if known is None or record_of(known).owner != self.owner or known.position != self._kept:
            raise _Moved
        self._record = record_of(known)

    async def take(self, page: Page) -> None:
        wanted = self.of.after(self.position)
        asked = stored_query(wanted, self._store._codec)
        events = events_of_page(page, asked, wanted, self._store._codec, typed=True)
        until = max(self.position, page.cursor)
        if not events and until - self._kept < _UNKEPT:
            self.position = until  # nothing to do is not worth a transaction
            return
        try:
            await self._take(events, until)
        except _Moved:
            self._give_way()

    async def _take(self, events: list[RecordedEvent[Any]], until: int) -> None:
        while self.is_active:
            before = self.position, self._kept
            try:
                await self._backend.transact(partial(self._apply, events=events, until=until))
            except _Failed as failed:
                self.position, self._kept = before
                first, failure = _whole_position(events, failed.index), failed.__cause__
                if first:
                    await self._take(events[:first], events[first].position - 1)
                events = await self._without(events[first:], failure)
            except BaseException:
                self.position, self._kept = before
                raise
            else:
                self._pace.add(len(events))
                return

    def _apply(
        self, transaction: EngineTransaction, events: list[RecordedEvent[Any]], until: int
    ) -> None:
        self._check_lease(transaction)
        tables = Tables(transaction, self._physical)
        apply, parked = self.projection.apply, self._parked
        for index, event in enumerate(events):
            if parked and event.stream in parked:
                self._park(transaction, event, None)
                continue
            try:
                apply(tables, event)
            except Exception as error:
                if isinstance(error, StorageError) and not isinstance(error, StatementError):
                    raise
                raise _Failed(index) from error
        self.position = until
        self._keep(transaction, rate=self._pace.rate)

    async def _without(
        self, events: list[RecordedEvent[Any]], failure: BaseException | None
    ) -> list[RecordedEvent[Any]]:
        """Try the first event's position again, and leave it out if the policy says so.

        Returns the events behind it; nothing where the projection has halted.
        """
        policy = self.projection.on_error
        position = events[0].position
        these = [event for event in events if event.position == position]
        for attempt in range(policy.retries):
            await sleep(min(policy.pause * 2**attempt, self._lease / 2_000_000))
            try:
                await self._backend.transact(partial(self._apply, events=these, until=position))
            except _Failed as failed:
                failure = failed.__cause__
                await self.stay(at_end=False)
            else:
                return events[len(these) :]
        why = f"{type(failure).__name__}: {failure}"
        if policy.then == "halt":
            self.error = ProjectionError(self.name, position, why)
            self.error.__cause__ = failure
            _LOG.error("%s", self.error)
            await self._backend.transact(lambda tx: self._halt(tx, why))
            return []
        _LOG.warning("projection %s leaves out position %d: %s", self.name, position, why)
        await self._backend.transact(lambda tx: self._leave_out(tx, these[0], why))
        return events[len(these) :]

    def _halt(self, transaction: EngineTransaction, why: str) -> None:
        self._check_lease(transaction)
        self._keep(transaction, error=why)
        self.is_active = False

    def _leave_out(
        self, transaction: EngineTransaction, event: RecordedEvent[Any], why: str
    ) -> None:
        self._check_lease(transaction)
        if self.projection.on_error.then == "park":
            self._park(transaction, event, why)
            self._parked.add(event.stream)
            skipped = self._record.skipped
        else:
            skipped = self._record.skipped + 1
        self.position = event.position
        self._keep(transaction, skipped=skipped)

    def _park(
        self, transaction: EngineTransaction, event: RecordedEvent[Any], why: str | None
    ) -> None:
        parked = ParkedEvent(event.position, event.stream, event.type, why, _now())
        transaction.save_checkpoint(parked_checkpoint(self._build, parked))

    async def parked(self) -> list[ParkedEvent]:
        """The events that wait to be retried, in order."""
        return parked_of(await self._store.checkpoints(), self._build)

    async def retry(self) -> int:
        """Apply the parked events, each stream's in order; how many are parked after that."""
        failed: set[str] = set()
        for parked in await self.parked():
            if parked.stream in failed:
                continue
            at = Query().after(parked.position - 1).up_to(parked.position)
            events = [event async for event in self._store.read(at)]
            try:
                await self._backend.transact(partial(self._unpark, events=events))
            except _Failed as failure:
                failed.add(parked.stream)
                why = f"{type(failure.__cause__).__name__}: {failure.__cause__}"
                again = msgspec.structs.replace(parked, error=why, at=_now())
                async with self._store.transaction() as transaction:
                    await transaction.save_checkpoint(parked_checkpoint(self._build, again))
        left = await self.parked()
        self._parked = {parked.stream for parked in left}
        return len(left)

    def _unpark(self, transaction: EngineTransaction, events: list[RecordedEvent[Any]]) -> None:
        self._check_lease(transaction)
        tables = Tables(transaction, self._physical)
        for index, event in enumerate(events):
            try:
                self.projection.apply(tables, event)
            except Exception as error:
                raise _Failed(index) from error
            transaction.delete_checkpoint(f"{self._build.parked}{event.position}")

    async def stay(self, *, at_end: bool) -> None:
        """Renew the lease before it runs out; and once at the end, let readers see the build."""
        switching = at_end and not self._record.is_live
        unkept = self.position != self._kept and _now() - self._record.at > _UNKEPT_MICROS
        if not (switching or unkept) and self._record.until - _now() > self._lease // 2:
            return
        obsolete: list[tuple[Build, Record]] = []
        names: list[str] = []
        if switching:
            checkpoints = await self._store.checkpoints()
            for build, known in builds_of(checkpoints, self.name).items():
                if build != self._build and build.version <= self._build.version:
                    if known.position > self.position and record_of(known).is_live:
                        return  # it has gone on in the meantime: don't go back in time
                    obsolete.append((build, record_of(known)))
                    names += [c.name for c in checkpoints if c.name.startswith(build.parked)]
        try:
            await self._backend.transact(
                lambda tx: self._stay(tx, obsolete, names, switching=switching)
            )
        except _Moved:
            self._give_way()

    def _stay(
        self,
        transaction: EngineTransaction,
        obsolete: Sequence[tuple[Build, Record]],
        names: Sequence[str],
        *,
        switching: bool,
    ) -> None:
        self._check_lease(transaction)
        if switching:
            switch(transaction, self._build, self.projection.tables)
            for build, record in obsolete:
                retire(transaction, build, record, self.projection.tables)
            for name in names:
                transaction.delete_checkpoint(name)
        self._keep(transaction, is_live=self._record.is_live or switching)

    def inline(self, transaction: EngineTransaction) -> None:
        """What is run in each append's transaction: come to its end, or refuse it.

        Raises `ProjectionError`.
        """
        known = transaction.checkpoint(self._build.record)
        if known is None:
            return
        codec, position = self._store._codec, known.position
        tables = Tables(transaction, self._physical)
        while True:
            wanted = self.of.after(position)
            asked = stored_query(wanted, codec)
            page = transaction.read(asked, _PAGE_INLINE)
            for event in events_of_page(page, asked, wanted, codec, typed=True):
                try:
                    self.projection.apply(tables, event)
                except Exception as error:
                    if isinstance(error, StorageError) and not isinstance(error, StatementError):
                        raise
                    why = f"{type(error).__name__}: {error}"
                    raise ProjectionError(self.name, event.position, why) from error
            position = page.cursor
            if page.end:
                break
        transaction.save_checkpoint(Checkpoint(known.name, position, known.data))

    def _give_way(self) -> None:
        self.is_active = self._has_lease = False
        _LOG.info("another runner works on projection %s now", self.name)

    async def stop(self) -> None:
        """Give the lease back, so that another runner need not wait for its end."""
        if not self._has_lease:
            return
        self.is_active = self._has_lease = False
        try:
            await self._backend.transact(self._leave)
        except (_Moved, StorageError):
            return

    def _leave(self, transaction: EngineTransaction) -> None:
        self._check_lease(transaction)
        record = msgspec.structs.replace(self._record, owner=None, until=0, at=_now(), rate=0.0)
        transaction.save_checkpoint(kept(self._build, self.position, record))

    async def status(self, head: int) -> ProjectionStatus:
        checkpoints = await self._store.checkpoints()
        known = next((c for c in checkpoints if c.name == self._build.record), None)
        known = known or kept(self._build, self.position, self._record)
        return status_of(self._build, known, checkpoints, head)


def _whole_position(events: Sequence[RecordedEvent[Any]], index: int) -> int:
    """The first index with the position of the event at this one: an upcast may have split it."""
    while index and events[index - 1].position == events[index].position:
        index -= 1
    return index
