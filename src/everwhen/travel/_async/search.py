"""When a condition held: by bisection, by the parts that it looks at, or event by event."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Generic, TypeVar

from everwhen.backends._async.concurrency import Lock
from everwhen.expressions.expression import sooner
from everwhen.privacy.erasure_marks import UntilErasure
from everwhen.state.read_sets import EVERYTHING_READ, Predicate, Read, Reads, holds, reads_of
from everwhen.state.snapshots import Place
from everwhen.store.page_decoding import Places, foldable_page
from everwhen.travel._async.timeline import Timeline, TravelProgress
from everwhen.travel.destinations import StateAt, Transition
from everwhen.travel.value_history import PartHistory, Span, Watched, next_stop, stops_of
from everwhen.vocabulary.microseconds import from_micros
from everwhen.vocabulary.paging import PAGE_EVENTS

S = TypeVar("S")

_WHOLE: Final = Read(())
_MAX_TRACKED_PARTS: Final = 16
"""Each is remembered apart; with more, asking after every event is as fast."""
_FIRST_CHUNK_POSITIONS: Final = 4_096
"""What is wanted often lies near: a small piece is looked through first."""
_CHUNK_POSITIONS: Final = 16_384
"""In one direction there is no reason to begin small, but an early answer still counts."""
_MAX_CHUNK_POSITIONS: Final = 131_072
"""Pieces double up to here, so that an answer costs at most about twice the way to it."""
_NEAR_POSITIONS: Final = 8_192
"""Nearer than this to the end, asking after each event is cheaper than tracking reads."""
_NEAREST_POSITIONS: Final = 2
"""Each costs a copy of the state."""
_FIRST_PIECE_EVENTS: Final = 64
"""How slow a condition is shows after that many; pieces grow or shrink by it."""
_PROGRESS_SECONDS: Final = 0.2
"""About how often progress is reported: a condition that looks at a wide state after each event
takes long, so pages are searched in pieces."""


class Finder(Generic[S]):
    """Finds moments in the past's history, and remembers the histories of parts."""

    def __init__(self, timeline: Timeline[S]) -> None:
        self._timeline = timeline
        self._parts: UntilErasure[dict[Read, PartHistory]]
        self._parts = UntilErasure(timeline.store.vault, dict)
        self._lock = Lock()

    async def first(
        self,
        condition: Predicate,
        start: int,
        last: int,
        *,
        tracked: bool = True,
        progress: TravelProgress | None = None,
    ) -> StateAt[S] | None:
        """The first moment in ``start … last`` at which the condition holds."""
        moments = self.transitions(condition, start, last, tracked=tracked, progress=progress)
        async for transition in moments:
            if transition.holds:
                return transition.at
        return None

    async def bisected(
        self, condition: Predicate, start: int, last: int, progress: TravelProgress | None = None
    ) -> StateAt[S] | None:
        """The first moment at which a condition holds that, once it does, never ceases to."""
        timeline = self._timeline
        low, nothing_up_to, high = start, start, last
        while high - nothing_up_to > 1:
            if progress is not None:
                progress(low, last)
            middle = (nothing_up_to + high) // 2
            waypoint = await timeline.waypoint(middle)
            if waypoint.read_until <= low:
                nothing_up_to = middle
            elif holds(condition, waypoint.state):
                high = waypoint.read_until
            else:
                low = nothing_up_to = waypoint.read_until
                nothing_up_to = max(middle, low)
        return await self.first(condition, low, high, tracked=False, progress=progress)

    async def last(
        self,
        condition: Predicate,
        start: int,
        last: int,
        *,
        tracked: bool = True,
        progress: TravelProgress | None = None,
    ) -> StateAt[S] | None:
        """The last moment in ``start … last`` at which the condition holds."""
        timeline = self._timeline
        present = await timeline.state_at(last)
        if holds(condition, present.state):
            return present
        upper, size = last, _FIRST_CHUNK_POSITIONS
        while upper > start:
            lower = max(start, upper - size)
            ended: Transition[S] | None = None
            async for transition in self.transitions(
                condition,
                lower,
                upper,
                tracked=tracked and last - upper >= _NEAR_POSITIONS,
                progress=progress,
            ):
                if not transition.holds:
                    ended = transition
            if ended is not None and ended.at.position > lower:
                before = await timeline.moved(ended.at.position, -1)
                return await timeline.state_at(max(before, start))
            first = await timeline.state_at(lower)
            if holds(condition, first.state):
                return first
            upper, size = lower, size * 2
        return None

    async def transitions(
        self,
        condition: Predicate,
        start: int,
        last: int,
        *,
        tracked: bool = True,
        progress: TravelProgress | None = None,
    ) -> AsyncIterator[Transition[S]]:
        """How it is at the start, and each moment up to ``last`` at which that changes."""
        first = await self._timeline.state_at(start)
        yield Transition(first, holds(condition, first.state))
        reads = reads_of(condition, first.state) if tracked else EVERYTHING_READ
        async for transition in self._changing(condition, reads, first, last, progress):
            yield transition

    async def _changing(
        self,
        condition: Predicate,
        reads: Reads,
        now: StateAt[S],
        last: int,
        progress: TravelProgress | None,
    ) -> AsyncIterator[Transition[S]]:
        """Asks again where the parts that it looked at have changed, as long as that is known."""
        held = holds(condition, now.state)
        position, chunk = now.until, _CHUNK_POSITIONS
        while position < last and len(reads) <= _MAX_TRACKED_PARTS and _WHOLE not in reads:
            until = min(last, position + chunk)
            parts = await self._parts_of(reads, position, until, last, progress)
            if parts is None:
                break
            stop = next_stop(condition, parts, position, until, held=held)
            if stop is None:
                position, chunk = until, min(chunk * 2, _MAX_CHUNK_POSITIONS)
                continue
            now = await self._timeline.state_at(stop)
            position, reads = stop, reads | reads_of(condition, now.state)
            if holds(condition, now.state) is not held:
                held = not held
                yield Transition(now, held)
        if position < last:
            async for transition in self._scanned(condition, position, last, progress):
                yield transition

    async def _scanned(
        self, condition: Predicate, start: int, last: int, progress: TravelProgress | None
    ) -> AsyncIterator[Transition[S]]:
        """Asks after each event that changes the state."""
        condition = sooner(condition)
        state = (await self._timeline.state_at(start)).state
        held = holds(condition, state)

        def noticed(state: S) -> bool:
            try:
                return (not condition(state)) is held
            except LookupError:
                return held

        async for now, place in self._noticed(noticed, state, start, last, progress):
            held = not held
            yield Transition(self._state_at(now, place), held)

    async def _noticed(
        self,
        noticed: Callable[[S], bool],
        state: S,
        start: int,
        last: int,
        progress: TravelProgress | None = None,
    ) -> AsyncIterator[tuple[S, Place]]:
        """Each state after ``start`` in which something is noticed, and where it is."""
        fold, size = self._timeline.fold, _FIRST_PIECE_EVENTS
        async for events, place, reached in self._pages(start, last):
            done = 0
            while done < len(events):
                began, first = time.perf_counter(), done
                done += size
                piece, where = events[first:done], place.words(first)
                state, index = fold.advance_until(state, piece, 0, noticed, where)
                while index < len(piece):
                    yield state, place(first + index)
                    state, index = fold.advance_until(state, piece, index + 1, noticed, where)
                if progress is not None and done < len(events):
                    progress(place(done - 1).position, last)
                size = _next_size(size, time.perf_counter() - began)
            if progress is not None:
                progress(reached, last)

    async def _parts_of(
        self, reads: Reads, start: int, until: int, last: int, progress: TravelProgress | None
    ) -> dict[Read, PartHistory] | None:
        """What the parts were in ``(start, until]``; None where that isn't worth it."""
        async with self._lock:
            known = self._parts.value
            parts = {read: known.setdefault(read, PartHistory(read)) for read in reads}
            gaps = [gap for part in parts.values() if (gap := part.gap(start, until)) is not None]
            if gaps and not any(part.is_busy for part in parts.values()):
                first, end = min(gap[0] for gap in gaps), max(gap[1] for gap in gaps)
                await self._look_through(list(parts.values()), first, end, last, progress)
        return None if any(part.is_busy for part in parts.values()) else parts

    async def _look_through(
        self,
        parts: list[PartHistory],
        start: int,
        until: int,
        last: int,
        progress: TravelProgress | None,
    ) -> None:
        """Get to know what parts were in ``(start, until]``; cut off, what they were so far."""
        state = (await self._timeline.state_at(start)).state
        looks = [part.look for part in parts]
        seen = [look(state) for look in looks]
        spans = [Span(start, value) for value in seen]
        try:
            async for events, place, reached in self._pages(start, until):
                if any(span.is_busy for span in spans):
                    return
                state, found = self._timeline.fold.advance_watched(
                    state, events, looks, seen, place.words(0)
                )
                for index, number, value in found:
                    spans[number].note(place(index).position, value)
                for span in spans:
                    span.until = reached
                if progress is not None:
                    progress(reached, last)
        finally:
            for part, span in zip(parts, spans, strict=True):
                part.add(span)

    async def _pages(self, start: int, last: int) -> AsyncIterator[tuple[list[Any], Places, int]]:
        """The events in ``(start, last]`` as folds take them, and how far each page reaches."""
        timeline, codec = self._timeline, self._timeline.store.kernel.codec
        while start < last:
            wanted = timeline.of.after(start).up_to(last)
            page, asked, wanted = await timeline.store.kernel.one_page(wanted, PAGE_EVENTS)
            start = last if page.end else min(page.cursor, last)
            yield (*foldable_page(page, asked, wanted, codec, timeline.fold), start)

    async def writes(
        self, read: Read, start: int, last: int, progress: TravelProgress | None = None
    ) -> AsyncIterator[tuple[int, Any, Any]]:
        """Where a part changed in ``(start, last]``: the position, its value before and after."""
        position, chunk = start, _CHUNK_POSITIONS
        while position < last:
            until = min(last, position + chunk)
            parts = await self._parts_of(frozenset({read}), position, until, last, progress)
            if parts is None:
                break
            part = parts[read]
            for stop in stops_of([part], position, until):
                yield stop, part.at(stop - 1), part.at(stop)
            position, chunk = until, min(chunk * 2, _MAX_CHUNK_POSITIONS)
        if position == last:
            return
        state = (await self._timeline.state_at(position)).state
        seen = Watched(read, state)
        async for now, place in self._noticed(seen.has_changed, state, position, last, progress):
            yield place.position, *seen.update(now)

    async def last_write(
        self, read: Read, start: int, until: int, progress: TravelProgress | None = None
    ) -> int | None:
        """The last place in ``(start, until]`` at which a part changed."""
        upper, size = until, _FIRST_CHUNK_POSITIONS
        if not read.path:  # nearly every event changes the state as a whole
            upper = max(start, until - _NEAREST_POSITIONS)
            found = await self._last_changed_in(read, upper, until, progress)
            if found is not None:
                return found
        while upper > start:
            lower = max(start, self._known_from(read, upper, upper - size))
            parts = await self._parts_of(frozenset({read}), lower, upper, until, progress)
            if parts is None:
                found = await self._last_changed_in(read, lower, upper, progress)
            else:
                changes = parts[read].changes(lower, upper)
                found = changes[-1] if changes else None
            if found is not None:
                return found
            upper, size = lower, min(size * 2, _MAX_CHUNK_POSITIONS)
        return None

    async def next_write(
        self, read: Read, after: int, last: int, progress: TravelProgress | None = None
    ) -> int | None:
        """The first place in ``(after, last]`` at which a part changes."""
        size = _FIRST_CHUNK_POSITIONS
        while after < last:
            upper = min(last, self._known_until(read, after, after + size))
            parts = await self._parts_of(frozenset({read}), after, upper, last, progress)
            if parts is None:
                return await self._changed_in(read, after, last, progress)
            changes = parts[read].changes(after, upper)
            if changes:
                return changes[0]
            after, size = upper, min(size * 2, _MAX_CHUNK_POSITIONS)
        return None

    async def _changed_in(
        self, read: Read, start: int, last: int, progress: TravelProgress | None
    ) -> int | None:
        """The first place in ``(start, last]`` at which a part changed."""
        state = (await self._timeline.state_at(start)).state
        part = Watched(read, state)
        async for _, place in self._noticed(part.has_changed, state, start, last, progress):
            return place.position
        return None

    async def _last_changed_in(
        self, read: Read, start: int, last: int, progress: TravelProgress | None
    ) -> int | None:
        """The last place in ``(start, last]`` at which a part changed."""
        state = (await self._timeline.state_at(start)).state
        part, found = Watched(read, state), None
        async for now, place in self._noticed(part.has_changed, state, start, last, progress):
            found = place.position
            part.update(now)
        return found

    def _known_from(self, read: Read, position: int, otherwise: int) -> int:
        """Where what is known up to a position begins, if that is sooner."""
        span = self._span(read, position)
        return otherwise if span is None else min(otherwise, span.start)

    def _known_until(self, read: Read, position: int, otherwise: int) -> int:
        """Where what is known after a position ends, if that is later."""
        span = self._span(read, position)
        return otherwise if span is None else max(otherwise, span.until)

    def _span(self, read: Read, position: int) -> Span | None:
        part = self._parts.value.get(read)
        return None if part is None else part.span(position)

    def _state_at(self, state: S, place: Place) -> StateAt[S]:
        recorded = from_micros(place.recorded_at)
        state = self._timeline.fold.copied(state)
        return StateAt(state, place.position, place.version, recorded, place.position)


def _next_size(size: int, seconds: float) -> int:
    """How many events to look through until progress is reported again."""
    if seconds > _PROGRESS_SECONDS * 2:
        return max(1, size // 4)
    return min(PAGE_EVENTS, size * 4) if seconds < _PROGRESS_SECONDS / 4 else size
