# Generated from src/everwhen/_async/timemachine.py by tools/unasync.py: edit that, then run `make sync`.
"""The time machine: a fold's state at any moment of a store's history."""

from __future__ import annotations

import logging
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final, Generic, TypeVar

import msgspec

from everwhen._sync.repository import Repository
from everwhen._sync.seam import Lock
from everwhen._sync.store import EVERYTHING, Store
from everwhen.contract import Checkpoint, Page, Snapshot
from everwhen.diff import Diff, diff
from everwhen.engine import EngineTransaction
from everwhen.errors import InvalidQueryError, ReadOnlyError, SnapshotError, StorageError
from everwhen.fold import Fold, is_immutable
from everwhen.query import Query, query_of
from everwhen.reading import PAGE_EVENTS, events_of_page, with_page
from everwhen.snapshots import NOTHING, START, Loaded, sealed, subject_of
from everwhen.travel import (
    HEAD,
    AsOf,
    Back,
    Before,
    Bookmark,
    Moment,
    Step,
    Stretch,
    Version,
    Visit,
    Waypoints,
    given_moment,
    travel_subject,
)
from everwhen.validation import check_text

S = TypeVar("S")

_LOG: Final = logging.getLogger("everwhen")
_APART: Final = 0.003
_AT_ONCE: Final = 32
_STRETCHES: Final = 8
_IN_MEMORY: Final = 256
_SMALLEST: Final = 16
_BOOKMARK: Final = "bookmark/"


class TimeMachine(Generic[S]):
    """Travels through the states of a fold over a stream, or over whatever a query gives.

    A journey begins at the newest waypoint before its end: a state that an earlier journey left
    behind, in memory and, with ``keep``, in the store among its snapshots, so that the cost of
    each journey is bounded however long history gets. `prepare` leaves them everywhere at once.
    Like all snapshots they are disposable, and never believed unless they are of this history,
    of this fold and of its version.

    Safe to share between tasks and threads. States that are given out never change.
    """

    def __init__(
        self, store: Store, fold: Fold[S], of: Query | str = EVERYTHING, *, keep: bool = True
    ) -> None:
        self.store = store
        self.fold = fold
        self.of = query_of(of)
        self._repository = Repository(store, fold)
        if self.of != Query(self.of.selectors):
            raise InvalidQueryError(
                "a time machine travels through a query's whole history: leave out its bounds, "
                "limit and direction, and give moments to travel_to()"
            )
        self._subject = subject_of(fold, self.of)
        self._kept_as = travel_subject(self._subject)
        self._keep = keep
        self._is_immutable = is_immutable(fold.initial())
        self._waypoints: Waypoints[S] = Waypoints(_IN_MEMORY)
        self._stretches: deque[Stretch[S]] = deque(maxlen=_STRETCHES)
        self._unsaved: list[Snapshot] = []
        self._apart = _APART
        self._seconds_per_event = 1e-5
        self._lock = Lock()

    def travel_to(self, moment: Moment, *, here: int | None = None) -> Visit[S]:
        """The state at a moment.

        Relative moments (`Back`, `Before`) count from the position ``here``, the newest event's
        unless given. A time before the first event has the initial state, one ahead of the newest
        has the present one. Raises `InvalidQueryError` for a position ahead of the newest, an
        unknown version or bookmark, and whatever the fold raises.
        """
        if isinstance(moment, AsOf):
            return self._as_of(moment)
        return self.visit(self.position_of(moment, here=here))

    def visit(self, position: int) -> Visit[S]:
        """The state at a position."""
        if position <= 0:
            return Visit(self.fold.initial(), 0, 0, None, 0)
        with self._lock:
            return (self._stretch_at(position)).visit(position)

    def position_of(self, moment: Moment, *, here: int | None = None) -> int:
        """The position that a moment means; see `travel_to`."""
        match given_moment(moment):
            case int(position):
                return self._existing(position)
            case datetime() as recorded:
                return self.store.position_at(recorded)
            case Version(number):
                return self._position_of_version(number)
            case Bookmark(name):
                return self._bookmarked(name)
            case Back(events):
                start = self._existing(HEAD if here is None else here)
                return self.moved(start, -events)
            case Before(span):
                start = self._existing(HEAD if here is None else here)
                recorded_at = (self.visit(start)).recorded_at
                if recorded_at is None:
                    return 0
                return self.store.position_at(recorded_at - span)
            case AsOf():
                raise InvalidQueryError(
                    "an occurred time is no place in the order of recording; travel_to() goes there"
                )

    def moved(self, position: int, steps: int) -> int:
        """Where so many steps lead from a position, backwards if negative, as far as there are.

        A step is an event that concerns the state; before the first one the position is 0.
        """
        with self._lock:
            if steps < 0:
                return self._moved_back(position, -steps)
            return self._moved_on(position, steps)

    def step_at(self, position: int) -> Step[S]:
        """The step at an event's position. Raises `InvalidQueryError` where there is none."""
        with self._lock:
            if 0 < position <= (self.store.head()).position:
                stretch = self._stretch_at(position)
                if stretch.count_before(position) < stretch.count_at(position):
                    return stretch.step(position)
            near = self._moved_back(min(position, self._existing(HEAD)) + 1, 1)
            near = near or self._moved_on(0, 1)
        raise InvalidQueryError(
            f"no event of {self._subject} stands at position {position}"
            + (f"; there is one at {near}" if near else "; there is none at all")
        )

    def replay(self, start: Moment = 0, end: Moment = HEAD) -> Iterator[Step[S]]:
        """Each step behind the moment ``start``, up to and with the moment ``end``."""
        position = self.position_of(start)
        last = self.position_of(end, here=position)
        stretch: Stretch[S] | None = None
        while position < last:
            with self._lock:
                if stretch is None:
                    stretch = self._stretch_at(position + 1)
                else:
                    stretch = self._following(stretch)
            for stop in stretch.stops[bisect_right(stretch.stops, position) :]:
                if stop > last:
                    return
                yield stretch.step(stop)
            position = stretch.until

    def diff(self, before: Moment, after: Moment) -> Diff:
        """What differs between the states at two moments; a relative ``after`` is from the first."""
        first = self.travel_to(before)
        second = self.travel_to(after, here=first.until)
        return diff(first.state, second.state)

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Leave waypoints all along history, so that every later journey is short.

        ``progress`` is told the position it has come to, and the last one.
        """
        last = (self.store.head()).position
        loaded = self._base(last)
        with self._lock:
            while loaded.read_until < last:
                page, asked, wanted = self._page(loaded)
                loaded = self._past(loaded, page, asked, wanted)
                if progress is not None:
                    progress(min(loaded.read_until, last), last)
            self._save()

    def set_bookmark(self, name: str, moment: Moment) -> int:
        """Give a name to a place in history, for everyone who travels in this store."""
        check_text(name, "bookmark", InvalidQueryError)
        position = self.position_of(moment)
        with self.store.transaction() as transaction:
            transaction.save_checkpoint(Checkpoint(_BOOKMARK + name, position))
        return position

    def bookmarks(self) -> dict[str, int]:
        """The bookmarks' positions, by name."""
        found = self.store.checkpoints()
        return {
            checkpoint.name.removeprefix(_BOOKMARK): checkpoint.position
            for checkpoint in found
            if checkpoint.name.startswith(_BOOKMARK)
        }

    def delete_bookmark(self, name: str) -> None:
        """Forget a bookmark. Raises `InvalidQueryError` where there is none."""
        self._bookmarked(name)
        with self.store.transaction() as transaction:
            transaction.delete_checkpoint(_BOOKMARK + name)

    def _as_of(self, moment: AsOf) -> Visit[S]:
        loaded = self._repository.load(self.of.as_of(moment.time))
        stands = self.visit(loaded.position)
        return Visit(
            loaded.state, loaded.position, loaded.version, stands.recorded_at, loaded.read_until
        )

    def _existing(self, position: int) -> int:
        head = (self.store.head()).position
        if position == HEAD:
            return head
        if position > head:
            raise InvalidQueryError(
                f"position {position} lies ahead of the store's newest event, {head}"
            )
        return position

    def _position_of_version(self, number: int) -> int:
        (selector, *more) = self.of.selectors
        if more or len(selector.streams) != 1:
            raise InvalidQueryError(
                f"version {number}: versions count the events of one stream; travel a stream by "
                f"its name, or give a position or a time"
            )
        (name,) = selector.streams
        if number <= 0:
            return 0
        found = Query().stream(name).from_version(number).to_version(number)
        for event in self.store.read(found):
            return event.position
        stands = self.store.version(name)
        raise InvalidQueryError(f"stream {name!r} has no version {number}; it is at {stands}")

    def _bookmarked(self, name: str) -> int:
        found = self.store.checkpoint(_BOOKMARK + name)
        if found is not None:
            return found.position
        known = sorted(self.bookmarks())
        among = f" among {', '.join(known)}" if known else "; none is set in this store"
        raise InvalidQueryError(f"there is no bookmark {name!r}{among}")

    def _moved_on(self, position: int, steps: int) -> int:
        head, reached = (self.store.head()).position, position
        stretch: Stretch[S] | None = None
        while steps and position < head:
            stretch = (
                self._stretch_at(position + 1) if stretch is None else self._following(stretch)
            )
            ahead = stretch.stops[bisect_right(stretch.stops, position) :]
            if ahead:
                reached = ahead[min(steps, len(ahead)) - 1]
            steps -= min(steps, len(ahead))
            position = stretch.until
        return reached

    def _moved_back(self, position: int, steps: int) -> int:
        position = min(position, (self.store.head()).position + 1)
        while position > 0:
            stretch = self._stretch_at(position)
            index = bisect_right(stretch.stops, position) - steps
            if index > 0:
                return stretch.stops[index - 1]
            if index == 0:
                return stretch.base.position
            steps, position = -index, stretch.start
        return 0

    def _stretch_at(self, position: int) -> Stretch[S]:
        """The piece of history that a position lies in: ``start < position <= until``."""
        for stretch in self._stretches:
            if stretch.start < position <= stretch.until:
                return stretch
        loaded = self._base(position - 1)
        while True:
            page, asked, wanted = self._page(loaded)
            if page.end or page.cursor >= position:
                self._save()
                return self._stretch(loaded, page, asked, wanted, position)
            loaded = self._past(loaded, page, asked, wanted)

    def _following(self, stretch: Stretch[S]) -> Stretch[S]:
        """The piece of history behind another one."""
        began = time.perf_counter()
        state = stretch.state(len(stretch.events))
        spent = stretch.base.since.seconds + time.perf_counter() - began
        place = stretch.place(len(stretch.events))
        since = msgspec.structs.replace(stretch.base.since, seconds=spent)
        loaded = Loaded(
            state, place.version, place.position, stretch.until, since, place, self._subject
        )
        loaded = self._leave(loaded)
        page, asked, wanted = self._page(loaded)
        return self._stretch(loaded, page, asked, wanted, page.cursor)

    def _stretch(
        self, loaded: Loaded[S], page: Page, asked: Query, wanted: Query, at_least: int
    ) -> Stretch[S]:
        events = events_of_page(page, asked, wanted, self.store._codec, typed=True)
        stretch = Stretch(self.fold, loaded, events, max(page.cursor, at_least))
        self._stretches.appendleft(stretch)
        return stretch

    def _page(self, loaded: Loaded[S]) -> tuple[Page, Query, Query]:
        """The next page behind a state, no larger than is folded in a moment."""
        fits = int(self._apart / self._seconds_per_event)
        wanted = self.of.after(loaded.read_until)
        size = min(PAGE_EVENTS, max(_SMALLEST, fits))
        return self.store._one_page(wanted, size)

    def _past(self, loaded: Loaded[S], page: Page, asked: Query, wanted: Query) -> Loaded[S]:
        """The state behind the page, with a waypoint left there if one is due."""
        before, codec = loaded.since, self.store._codec
        loaded = with_page(loaded, page, asked, wanted, codec, self.fold)
        loaded = msgspec.structs.replace(loaded, read_until=page.cursor)
        events = loaded.since.events - before.events
        if events:
            spent = (loaded.since.seconds - before.seconds) / events
            self._seconds_per_event += 0.3 * (spent - self._seconds_per_event)
        return self._leave(loaded)

    def _leave(self, loaded: Loaded[S]) -> Loaded[S]:
        """Leave a waypoint if one is due."""
        if self._is_immutable:
            self._waypoints.add(loaded)
        if loaded.since.seconds < self._apart or loaded._place is START:
            return loaded
        loaded = msgspec.structs.replace(loaded, since=NOTHING)
        if not self._is_immutable:
            copied = self.fold.copied(loaded.state)
            self._waypoints.add(msgspec.structs.replace(loaded, state=copied))
        if self._keep:
            self._seal(loaded)
        return loaded

    def _seal(self, loaded: Loaded[S]) -> None:
        began = time.perf_counter()
        known = self.store.event_types.current()
        try:
            self._unsaved.append(
                sealed(self.fold, self._kept_as, loaded.state, loaded._place, known)
            )
        except SnapshotError as error:
            self._keep = False
            _LOG.warning("travel keeps its waypoints in memory only: %s", error)
            return
        self._apart = max(_APART, time.perf_counter() - began)
        if len(self._unsaved) >= _AT_ONCE or not self._waypoints:
            self._save()

    def _save(self) -> None:
        """Write the waypoints that were left. They cost speed where they can't be, nothing else."""
        unsaved, self._unsaved = self._unsaved, []
        if not unsaved:
            return

        def save(transaction: EngineTransaction) -> None:
            for snapshot in unsaved:
                transaction.save_snapshot(snapshot)

        try:
            self.store._backend.transact(save)
        except ReadOnlyError:
            self._keep = False
        except StorageError as error:
            self._keep = False
            _LOG.warning("travel keeps its waypoints in memory only: %s", error)

    def _base(self, position: int) -> Loaded[S]:
        """The nearest state at or before a position; whoever asked may change it."""
        remembered = self._waypoints.newest(position)
        query = self.of.up_to(position)
        state, place = self._repository._from_snapshot(self._kept_as, query)
        if place is START and remembered is None:
            state, place = self._repository._from_snapshot(self._subject, query)
        if remembered is not None and remembered.read_until >= place.position:
            copied = self.fold.copied(remembered.state)
            return msgspec.structs.replace(remembered, state=copied)
        at = place.position
        return Loaded(state, place.version, at, at, NOTHING, place, self._subject)
