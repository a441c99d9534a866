"""A projection's state, kept in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final, Generic, TypeVar

import msgspec

from everwhen.backends._async.concurrency import Lock, sleep
from everwhen.codec.commits import stored_query
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.privacy.erasure_marks import ErasureMark
from everwhen.privacy.failure_texts import shown_failure, stored_failure
from everwhen.projections._async.followers import Pace, now_micros
from everwhen.projections.projections import Projection
from everwhen.state.fold import is_immutable
from everwhen.state.snapshots import NOTHING, Loaded
from everwhen.store._async.repository import Repository
from everwhen.store._async.store import Store
from everwhen.store.page_decoding import by_position, events_of_page, last_match, with_page
from everwhen.store.projection_records import ParkedEvent, ProjectionStatus, read_back_in
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.contract import Page
from everwhen.vocabulary.errors import (
    BeyondEndError,
    DeclarationError,
    EverwhenError,
    ProjectionError,
    StaleError,
    StorageError,
)
from everwhen.vocabulary.microseconds import from_micros
from everwhen.vocabulary.query import Query

S = TypeVar("S")
T = TypeVar("T")

_LOG: Final = logging.getLogger("everwhen")


class StateFollower(Generic[S]):
    """Keeps a fold's state in memory up to date."""

    def __init__(self, store: Store, projection: Projection[S]) -> None:
        self.projection = projection
        self.name = projection.name
        self.of = projection.of
        self.position = 0
        self.is_active = False
        self.error: EverwhenError | None = None
        self._store = store
        self._repository = Repository(
            store,
            projection.fold,
            strategy=projection.strategy,
            retention=projection.retention,
        )
        self._loaded: Loaded[S] | None = None
        self._lock = Lock()
        self._left_out: dict[int, ParkedEvent] = {}
        self._parked: set[str] = set()
        self._spoiled = False
        self._pace = Pace()

    async def start(self) -> bool:
        """Load the newest snapshot; what comes after it is followed like all the rest."""
        self._loaded = await self._repository.newest_snapshot(self.of)
        self.position = self._loaded.position
        self.error = None
        self._spoiled = False
        self._left_out.clear()
        self._parked.clear()
        self.is_active = True
        return True

    async def ask(self, question: Callable[[S], T]) -> tuple[T, int]:
        """What a function says of the state, and the position that it holds at.

        Where the state is mutable the answer is a copy, so that it never changes afterwards.
        Raises `DeclarationError` for an answer that can't be copied.
        """
        async with self._lock:
            await self._forget_erased()
            state = self._started.state
            answer = question(state)
            if is_immutable(state):
                return answer, self.position
            try:
                return deepcopy(answer), self.position
            except Exception as error:
                raise DeclarationError(
                    f"projection {self.name}: the answer {type(answer).__name__} can't be copied "
                    f"({error}), and the state that it belongs to changes; return a value of "
                    f"its own, such as a list"
                ) from error

    async def _forget_erased(self) -> None:
        """Derive the state anew where somebody has been forgotten since it was derived."""
        loaded = self._started
        if loaded.mark.is_outdated:
            mark = ErasureMark.now(self._store.vault)
            state = await self._reloaded(self.position)
            self._loaded = msgspec.structs.replace(loaded, state=state, mark=mark)

    @property
    def _started(self) -> Loaded[S]:
        if isinstance(self.error, BeyondEndError):
            raise self.error
        if self._loaded is None:
            raise StaleError(self.name, 0, "its state, which is not loaded yet")
        return self._loaded

    async def take(self, page: Page) -> None:
        async with self._lock:
            await self._forget_erased()
            loaded = await self._take(page)
        if await self._repository.snapshot_if_due(loaded):
            self._loaded = msgspec.structs.replace(loaded, since=NOTHING)

    async def _take(self, page: Page) -> Loaded[S]:
        """The state with the page, all of it or none: what is cut off is loaded anew."""
        before, position = self._started, self.position
        wanted = self.of.after(position)
        asked = stored_query(wanted, self._store.kernel.codec)
        try:
            loaded = None if self._parked else self._with_page(page, asked, wanted)
            if loaded is None:
                events = events_of_page(page, asked, wanted, self._store.kernel.codec)
                state, position = await self._one_by_one(events)
                place = last_match(page, asked) or before.place
                loaded = msgspec.structs.replace(
                    before,
                    state=state,
                    version=place.version,
                    position=place.position,
                    read_until=max(before.read_until, position),
                    place=place,
                    subject=None if self._left_out or self.error else before.subject,
                )
                self._pace.add(len(events))
            else:
                self._pace.add(loaded.since.events - before.since.events)
        except BaseException:
            self.is_active, self._loaded = False, None
            raise
        self._loaded = loaded
        self.position = position if self.error else max(position, page.cursor)
        return loaded

    def _with_page(self, page: Page, asked: Query, wanted: Query) -> Loaded[S] | None:
        """The page in one go; None where the fold fails on it."""
        fold, codec = self.projection.fold, self._store.kernel.codec
        try:
            return with_page(self._started, page, asked, wanted, codec, fold)
        except StorageError:
            raise
        except Exception as error:
            if is_interrupt(error):
                raise
            # user code: it is found again, event by event
            self._spoiled = not is_immutable(self._started.state)
            return None

    async def _one_by_one(self, events: list[RecordedEvent[Any]]) -> tuple[S, int]:
        """The state after the events, without those left out, and how far it has come."""
        state, position = self._started.state, self.position
        if self._spoiled:
            state = await self._reloaded(position)
        for these in by_position(events):
            if these[0].stream in self._parked:
                self._leave_out(these[0], None)
            else:
                state = await self._tried(state, these, position)
                if self.error is not None:
                    break
            position = these[0].position
        return state, position

    async def _reloaded(self, until: int) -> S:
        """The state at a position again, without what was left out."""
        self._spoiled = False
        whole = min(self._left_out, default=until + 1) - 1
        loaded = await self._repository.load(self.of.up_to(min(whole, until)))
        state = loaded.state
        rest = self.of.after(loaded.read_until).up_to(until)
        async for events in self._store.read_pages(rest):
            kept = [event for event in events if event.position not in self._left_out]
            state = self.projection.fold.advance(state, kept)
        return state

    async def _tried(self, state: S, these: list[RecordedEvent[Any]], position: int) -> S:
        """The state after the events; without them where they were left out, or it has halted."""
        policy, event = self.projection.on_error, these[0]
        for attempt in range(policy.retries + 1):
            try:
                return self.projection.fold.advance(state, these)
            except Exception as error:
                if is_interrupt(error):
                    raise
                failure = error
            if not is_immutable(state):
                state = await self._reloaded(position)
            if attempt < policy.retries:
                await sleep(policy.pause * 2**attempt)
        why = shown_failure(failure, self._store.vault)
        if policy.then == "halt":
            self.error = ProjectionError(self.name, event.position, why)
            self.error.__cause__ = failure
            self.is_active = False
            _LOG.error("%s", self.error)
            return state
        _LOG.warning("projection %s leaves out position %d: %s", self.name, event.position, why)
        kept = stored_failure(failure, self._started.mark)
        self._leave_out(event, kept)
        if policy.then == "park":
            self._parked.add(event.stream)
        return state

    def _leave_out(self, event: RecordedEvent[Any], why: str | None) -> None:
        now = from_micros(now_micros())
        left_out = ParkedEvent(event.position, event.stream, event.type, why, now)
        self._left_out[event.position] = left_out

    async def parked(self) -> list[ParkedEvent]:
        """The events that wait to be retried, in order."""
        parked = [p for _, p in sorted(self._left_out.items()) if p.stream in self._parked]
        return [read_back_in(event, self._store.vault) for event in parked]

    async def retry(self) -> int:
        """Fold the parked events in where they belong; how many are parked after that."""
        if self._parked:
            async with self._lock:
                await self.start()
                async for page, _, _ in self._store.kernel.pages(self.of.after(self.position)):
                    await self._take(page)
        return len(await self.parked())

    async def skip(self) -> int:
        """Leave the parked events out for good; how many those were."""
        count = len(await self.parked())
        self._parked.clear()
        return count

    async def stay(self, *, at_end: bool) -> None:
        """Nobody else wants its place."""

    async def halt_beyond(self, beyond: BeyondEndError) -> None:
        """Stop, and answer nothing: the state is of events that are gone."""
        _LOG.error("projection %s: %s", self.name, beyond)
        async with self._lock:
            self.error = beyond
            self.is_active, self._loaded = False, None

    async def stop(self) -> None:
        self.is_active = False

    async def status(self, head: int) -> ProjectionStatus:
        parked = len(await self.parked())
        is_beyond = isinstance(self.error, BeyondEndError)
        return ProjectionStatus(
            self.name,
            self.projection.version,
            0,
            "beyond" if is_beyond else "halted" if self.error else "memory",
            self.position,
            None if is_beyond else max(0, head - self.position),
            self._pace.rate,
            parked,
            len(self._left_out) - parked,
            str(self.error) if self.error else None,
        )
