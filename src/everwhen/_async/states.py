"""A projection's state, kept in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final, Generic, TypeVar

import msgspec

from everwhen._async.followers import Pace, now_micros, reason
from everwhen._async.repository import Repository
from everwhen._async.seam import Lock, sleep
from everwhen._async.store import Store
from everwhen.commits import stored_query
from everwhen.contract import Page, from_micros
from everwhen.errors import ProjectionError, StaleError, StorageError
from everwhen.fold import is_immutable
from everwhen.projections import ParkedEvent, Projection, ProjectionStatus
from everwhen.query import Query
from everwhen.reading import events_of_page, with_page
from everwhen.recorded import RecordedEvent
from everwhen.snapshots import NOTHING, Adaptive, Loaded, SnapshotStrategy

S = TypeVar("S")
T = TypeVar("T")

_LOG: Final = logging.getLogger("everwhen")
_SELDOM: Final = Adaptive(seconds=0.5, shortest=10_000, longest=1_000_000)


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
        self._pace = Pace()

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
            raise StaleError(self.name, 0, "its state, which is not loaded yet")
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
        why = reason(failure)
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
        now = from_micros(now_micros())
        left_out = ParkedEvent(event.position, event.stream, event.type, why, now)
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
