"""A fold's past: any of its states at a bounded cost, however long history gets."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Final, Generic, TypeAlias, TypeVar

import msgspec

from everwhen.backends._async.concurrency import Lock
from everwhen.backends.engine import EngineTransaction
from everwhen.privacy.erasure_marks import ErasureMark, UntilErasure
from everwhen.privacy.failure_texts import shown_failure
from everwhen.state.fold import Fold, is_immutable
from everwhen.state.snapshots import NOTHING, START, Loaded, joined, subject_of
from everwhen.store._async.repository import Repository
from everwhen.store._async.store import Store, check_store
from everwhen.store.page_decoding import events_of_page, with_page
from everwhen.travel.destinations import StateAt, Step
from everwhen.travel.waypoints import Waypoints, travel_subject
from everwhen.travel.window import HistoryWindow, RecentWindows
from everwhen.vocabulary.contract import Page, Snapshot
from everwhen.vocabulary.errors import InvalidQueryError, ReadOnlyError, SnapshotError, StorageError
from everwhen.vocabulary.paging import PAGE_EVENTS
from everwhen.vocabulary.query import Query, query_of

S = TypeVar("S")

TravelProgress: TypeAlias = Callable[[int, int], None]
"""Called with the position reached so far, and the one where it ends."""

_LOG: Final = logging.getLogger("everwhen")
_APART_SECONDS: Final = 0.002
"""Waypoints are at least as much replay apart: less is folded again before anybody notices."""
_ON_THE_WAY_TIMES: Final = 3
"""Waypoints left on the way to a position are this many times as far apart."""
_BATCH_WAYPOINTS: Final = 32
"""Written in one transaction: its sync is shared."""
_APART_COPIES: Final = 8
"""Replay of as many copies' time lies between waypoints, so copying takes an eighth at most."""
_MIN_PAGE_EVENTS: Final = 16
"""Fewer would cost more in calls than they save in folding."""
_WINDOW_EVENTS: Final = 256
"""What somebody steps through next is near, and reading these takes a moment."""
_LEAD_EVENTS: Final = 128
"""A window begins this long before the wanted position, for steps backwards."""


class _States(Generic[S]):
    """The states that are at hand."""

    def __init__(self) -> None:
        self.waypoints: Waypoints[S] = Waypoints()
        self.windows: RecentWindows[S] = RecentWindows()
        self.unsaved: list[Snapshot] = []


class Timeline(Generic[S]):
    """The states of a fold over a query's events, at every position.

    States are found from waypoints, which are left wherever replay has become slow: in
    memory and, with ``keep``, in the store among its snapshots. Safe to share.
    """

    def __init__(self, store: Store, fold: Fold[S], of: Query | str, *, keep: bool) -> None:
        self.store = check_store(store)
        self.fold = fold
        self.of = query_of(of)
        self.repository = Repository(store, fold)
        if self.of != Query(self.of.selectors):
            raise InvalidQueryError(
                "a time machine travels through a query's whole history: leave out its bounds, "
                "limit and direction, and give moments to travel_to()"
            )
        self.subject = subject_of(fold, self.of)
        self._kept_as = travel_subject(self.subject)
        self._keep = keep
        self._is_immutable = is_immutable(fold.initial())
        self._states: UntilErasure[_States[S]] = UntilErasure(store.vault, _States)
        self._apart = _APART_SECONDS
        self._copied_in_seconds = 0.0
        self._seconds_per_event = 1e-5
        self._lock = Lock()

    async def state_at(self, position: int) -> StateAt[S]:
        """The state at a position."""
        if position <= 0:
            return StateAt(self.fold.initial(), 0, 0, None, 0)
        async with self._lock:
            return (await self._window_at(position)).state_at(position)

    async def moved(self, position: int, steps: int) -> int:
        """Where that many steps lead from a position, backwards if negative, as far as there are.

        A step is an event that concerns the state; before the first one the position is 0.
        """
        async with self._lock:
            if steps < 0:
                return await self._moved_back(position, -steps)
            return await self._moved_on(position, steps)

    async def step_at(self, position: int) -> Step[S]:
        """The step at an event's position. Raises `InvalidQueryError` where there is none."""
        async with self._lock:
            if 0 < position <= (await self.store.head()).position:
                window = await self._window_at(position)
                if window.count_before(position) < window.count_at(position):
                    return window.step(position)
            near = await self._moved_back(position, 0)
            near = near or await self._moved_on(0, 1)
        raise InvalidQueryError(
            f"position {position} has no event of {self.subject}"
            + (f"; there is one at {near}" if near else "; there is none at all")
        )

    async def steps(self, position: int, last: int) -> AsyncIterator[Step[S]]:
        """Each step after a position, up to and with another one."""
        window: HistoryWindow[S] | None = None
        while position < last:
            async with self._lock:
                if window is None:
                    window = await self._window_at(position + 1)
                else:
                    window = await self._following(window)
            for stop in window.stops[window.stops_at(position) :]:
                if stop > last:
                    return
                yield window.step(stop)
            position = window.until

    async def window_at(self, position: int) -> HistoryWindow[S]:
        """The piece of history that a position lies in: ``start < position <= until``."""
        async with self._lock:
            return await self._window_at(position)

    async def waypoint(self, position: int) -> Loaded[S]:
        """The nearest state at or before a position that is at hand; the caller's own."""
        async with self._lock:
            return await self._base(position)

    async def prepare(self, progress: TravelProgress | None = None) -> None:
        """Leave waypoints all along history, so that every later journey is short.

        ``progress`` is called with the position reached so far, and the last one.
        """
        last = (await self.store.head()).position
        async with self._lock:
            loaded = await self._base(last)
            while loaded.read_until < last:
                began = time.perf_counter()
                page, asked, wanted = await self._page(loaded, PAGE_EVENTS)
                loaded = await self._folded(loaded, page, asked, wanted, self._apart, began)
                if progress is not None:
                    progress(min(loaded.read_until, last), last)
            await self._save()

    async def _moved_on(self, position: int, steps: int) -> int:
        head, reached = (await self.store.head()).position, position
        window: HistoryWindow[S] | None = None
        while steps and position < head:
            window = (
                await self._window_at(position + 1)
                if window is None
                else await self._following(window)
            )
            ahead = window.stops[window.stops_at(position) :]
            if ahead:
                reached = ahead[min(steps, len(ahead)) - 1]
            steps -= min(steps, len(ahead))
            position = window.until
        return reached

    async def _moved_back(self, position: int, steps: int) -> int:
        position = min(position, (await self.store.head()).position)
        while position > 0:
            window = await self._window_at(position)
            index = window.stops_at(position) - steps
            if index > 0:
                return window.stops[index - 1]
            if index == 0:
                return window.base.position
            steps, position = -index, window.start
        return 0

    async def _window_at(self, position: int) -> HistoryWindow[S]:
        """The piece of history that a position lies in: ``start < position <= until``."""
        window = self._states.value.windows.at(position)
        if window is not None:
            return window
        loaded = await self._base(position - 1)
        while True:
            gap = position - loaded.read_until
            size = gap - _LEAD_EVENTS if gap > 2 * _LEAD_EVENTS else _WINDOW_EVENTS
            began = time.perf_counter()
            page, asked, wanted = await self._page(loaded, size)
            if page.end or page.cursor >= position:
                await self._save()
                return self._window_of(loaded, page, asked, wanted, position)
            apart = self._apart * _ON_THE_WAY_TIMES
            loaded = await self._folded(loaded, page, asked, wanted, apart, began)

    async def _following(self, window: HistoryWindow[S]) -> HistoryWindow[S]:
        """The piece of history after another one."""
        began = time.perf_counter()
        state = window.state(len(window.events))
        spent = window.base.since.seconds + time.perf_counter() - began
        place = window.place(len(window.events))
        since = msgspec.structs.replace(window.base.since, seconds=spent)
        loaded = msgspec.structs.replace(
            window.base,
            state=state,
            version=place.version,
            position=place.position,
            read_until=window.until,
            since=since,
            place=place,
        )
        loaded = await self._leave(loaded, self._apart * _ON_THE_WAY_TIMES)
        page, asked, wanted = await self._page(loaded, _WINDOW_EVENTS)
        return self._window_of(loaded, page, asked, wanted, page.cursor)

    def _window_of(
        self, loaded: Loaded[S], page: Page, asked: Query, wanted: Query, at_least: int
    ) -> HistoryWindow[S]:
        events = events_of_page(page, asked, wanted, self.store.kernel.codec, typed=True)
        window = HistoryWindow(self.fold, loaded, events, max(page.cursor, at_least))
        known = self._states.value
        if not loaded.mark.is_outdated:
            known.windows.add(window)
        return window

    async def _page(self, loaded: Loaded[S], size: int) -> tuple[Page, Query, Query]:
        """The next page of that many events after a state, or of what is folded in a moment."""
        fits = int(self._apart / self._seconds_per_event)
        wanted = self.of.after(loaded.read_until)
        size = min(PAGE_EVENTS, size, max(_MIN_PAGE_EVENTS, fits))
        return await self.store.kernel.one_page(wanted, size)

    async def _folded(
        self,
        loaded: Loaded[S],
        page: Page,
        asked: Query,
        wanted: Query,
        apart: float,
        began: float,
    ) -> Loaded[S]:
        """The state after the page, with a waypoint left there if one is due.

        ``began`` is when the page began to be read, which is part of what replay takes.
        """
        before, codec = loaded.since, self.store.kernel.codec
        loaded = with_page(loaded, page, asked, wanted, codec, self.fold)
        spent = time.perf_counter() - began
        since = msgspec.structs.replace(loaded.since, seconds=before.seconds + spent)
        loaded = msgspec.structs.replace(loaded, read_until=page.cursor, since=since)
        events = since.events - before.events
        if events:
            self._seconds_per_event += 0.3 * (spent / events - self._seconds_per_event)
        return await self._leave(loaded, apart)

    async def _leave(self, loaded: Loaded[S], apart: float) -> Loaded[S]:
        """Leave a waypoint if the last one is that many seconds of replay away."""
        known = self._states.value
        if loaded.mark.is_outdated:
            return loaded
        if self._is_immutable:
            known.waypoints.add(loaded)
        apart = max(apart, _APART_COPIES * self._copied_in_seconds)
        if loaded.since.seconds < apart or loaded.place is START:
            return loaded
        loaded = msgspec.structs.replace(loaded, since=NOTHING)
        if not self._is_immutable:
            began = time.perf_counter()
            copied = self.fold.copied(loaded.state)
            self._copied_in_seconds = time.perf_counter() - began
            known.waypoints.add(msgspec.structs.replace(loaded, state=copied))
        if self._keep:
            await self._keep_waypoint(loaded, known)
        return loaded

    async def _keep_waypoint(self, loaded: Loaded[S], known: _States[S]) -> None:
        began = time.perf_counter()
        try:
            known.unsaved.append(self.repository.snapshot_of(self._kept_as, loaded))
        except SnapshotError as error:
            self._keep = False
            why = shown_failure(error, self.store.vault)
            _LOG.warning("travel keeps its waypoints in memory only: %s", why)
            return
        self._apart = max(_APART_SECONDS, time.perf_counter() - began)
        if len(known.unsaved) >= _BATCH_WAYPOINTS or not known.waypoints:
            await self._save()

    async def _save(self) -> None:
        """Write the waypoints that were left. They cost speed where they can't be, nothing else."""
        known = self._states.value
        unsaved, known.unsaved = known.unsaved, []
        if not unsaved:
            return

        def save(transaction: EngineTransaction) -> None:
            for snapshot in unsaved:
                transaction.save_snapshot(snapshot)

        try:
            for number, new in enumerate(unsaved):
                for stored in await self.store.snapshots(new.subject, up_to=new.position, limit=1):
                    if stored.position == new.position:
                        unsaved[number] = joined(new, stored)
            await self.store.kernel.backend.transact(save)
        except ReadOnlyError:
            self._keep = False
        except StorageError as error:
            self._keep = False
            _LOG.warning("travel keeps its waypoints in memory only: %s", error)

    async def _base(self, position: int) -> Loaded[S]:
        """The nearest state at or before a position; the caller may change it."""
        mark = ErasureMark.now(self.store.vault)
        remembered = self._states.value.waypoints.newest(position)
        query = self.of.up_to(position)
        state, place = await self.repository.from_snapshot(self._kept_as, query)
        if place is START and remembered is None:
            state, place = await self.repository.from_snapshot(self.subject, query)
        if remembered is not None and remembered.read_until >= place.position:
            copied = self.fold.copied(remembered.state)
            return msgspec.structs.replace(remembered, state=copied)
        return Loaded.at(place, state, self.subject, mark)
