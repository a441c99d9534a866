"""When a condition held: by bisection, by the parts that it looks at, or event by event."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from copy import deepcopy
from heapq import merge
from itertools import groupby
from typing import Any, Final, Generic, TypeVar

from everwhen._async.past import Past, Progress
from everwhen._async.seam import Lock
from everwhen.contract import from_micros
from everwhen.fold import is_immutable
from everwhen.paths import MISSING
from everwhen.reading import PAGE_EVENTS, foldable_page
from everwhen.snapshots import Place
from everwhen.tracking import (
    EVERYTHING_READ,
    Condition,
    Read,
    Reads,
    answer_from,
    holds,
    looked_at,
    reads_of,
)
from everwhen.travel import Transition, Visit

S = TypeVar("S")

_WHOLE: Final = Read(())
_TRACKED: Final = 16
_REMEMBERED: Final = 2_000_000
_FIRST_CHUNK: Final = 4_096
_CHUNK: Final = 65_536


class PartHistory:
    """What a read saw at every place where it changed, from the beginning to ``until``."""

    def __init__(self, read: Read, state: Any) -> None:
        self.look = looked_at(read)
        self.until = 0
        self.positions = array("q")
        self.values = [_kept(self.look(state))]

    @property
    def is_too_busy(self) -> bool:
        """Whether it changes more often than is worth remembering."""
        return len(self.positions) >= _REMEMBERED

    def note(self, position: int, state: Any) -> None:
        """Remember what is there now, if it is another value."""
        if position > self.until and self.has_changed(state):
            self.positions.append(position)
            self.values.append(_kept(self.look(state)))
            self.until = position

    def has_changed(self, state: Any) -> bool:
        """Whether the part may be another than the last one that was noted."""
        value, last = self.look(state), self.values[-1]
        return value is not last and (type(value) is not type(last) or value != last)

    def at(self, position: int) -> Any:
        """What was there at a position."""
        return self.values[bisect_right(self.positions, position)]


def _next_stop(
    condition: Condition, parts: dict[Read, PartHistory], after: int, until: int, *, held: bool
) -> int | None:
    """The next place at which, by its parts, the condition may have another answer."""
    for stop in _stops(parts.values(), after, until):
        try:
            if (
                answer_from(condition, {read: part.at(stop) for read, part in parts.items()})
                is held
            ):
                continue
        except Exception:  # noqa: BLE001, S110 (unknown from the parts: the real state tells)
            pass
        return stop
    return None


def _stops(parts: Iterable[PartHistory], after: int, until: int) -> Iterator[int]:
    """The places in ``(after, until]`` at which any of the parts changed, in order."""
    slices = [
        part.positions[bisect_right(part.positions, after) : bisect_right(part.positions, until)]
        for part in parts
    ]
    for stop, _ in groupby(merge(*slices)):
        yield stop


def _kept(value: Any) -> Any:
    return value if value is MISSING or is_immutable(value) else deepcopy(value)


class Finder(Generic[S]):
    """Finds moments in the past's history, and remembers the histories of parts."""

    def __init__(self, past: Past[S]) -> None:
        self._past = past
        self._parts: dict[Read, PartHistory] = {}
        self._lock = Lock()

    async def first(
        self,
        condition: Condition,
        start: int,
        last: int,
        *,
        tracked: bool = True,
        progress: Progress | None = None,
    ) -> Visit[S] | None:
        """The first moment in ``start … last`` at which the condition holds."""
        moments = self.transitions(condition, start, last, tracked=tracked, progress=progress)
        async for transition in moments:
            if transition.holds:
                return transition.visit
        return None

    async def bisected(self, condition: Condition, start: int, last: int) -> Visit[S] | None:
        """The first moment at which a condition holds that, once it does, never ceases to."""
        past = self._past
        low, nothing_up_to, high = start, start, last
        while high - nothing_up_to > 1:
            middle = (nothing_up_to + high) // 2
            waypoint = await past.waypoint(middle)
            if waypoint.read_until <= low:
                nothing_up_to = middle
            elif holds(condition, waypoint.state):
                high = waypoint.read_until
            else:
                low = nothing_up_to = waypoint.read_until
                nothing_up_to = max(middle, low)
        return await self.first(condition, low, high, tracked=False)

    async def last(self, condition: Condition, start: int, last: int) -> Visit[S] | None:
        """The last moment in ``start … last`` at which the condition holds."""
        past = self._past
        present = await past.visit(last)
        if holds(condition, present.state):
            return present
        known = self._knows(reads_of(condition, present.state), last)
        upper, size = last, _FIRST_CHUNK
        while upper > start:
            lower = max(start, upper - size)
            ended: Transition[S] | None = None
            async for transition in self.transitions(condition, lower, upper, tracked=known):
                if not transition.holds:
                    ended = transition
            if ended is not None and ended.visit.position > lower:
                before = await past.moved(ended.visit.position, -1)
                return await past.visit(max(before, start))
            first = await past.visit(lower)
            if holds(condition, first.state):
                return first
            upper, size = lower, size * 2
        return None

    async def transitions(
        self,
        condition: Condition,
        start: int,
        last: int,
        *,
        tracked: bool = True,
        progress: Progress | None = None,
    ) -> AsyncIterator[Transition[S]]:
        """How it is at the start, and each moment up to ``last`` at which that changes."""
        first = await self._past.visit(start)
        yield Transition(first, holds(condition, first.state))
        reads = reads_of(condition, first.state) if tracked else EVERYTHING_READ
        async for transition in self._changing(condition, reads, first, last, progress):
            yield transition

    async def _changing(
        self,
        condition: Condition,
        reads: Reads,
        now: Visit[S],
        last: int,
        progress: Progress | None,
    ) -> AsyncIterator[Transition[S]]:
        """Asks again where the parts that it looked at have changed, as long as that is known."""
        held = holds(condition, now.state)
        position, chunk = now.until, _CHUNK
        while position < last and len(reads) <= _TRACKED and _WHOLE not in reads:
            until = min(last, position + chunk)
            parts = await self._parts_of(reads, until, last, progress)
            if parts is None:
                break
            stop = _next_stop(condition, parts, position, until, held=held)
            if stop is None:
                position, chunk = until, chunk * 2
                continue
            now = await self._past.visit(stop)
            position, reads = stop, reads | reads_of(condition, now.state)
            if holds(condition, now.state) is not held:
                held = not held
                yield Transition(now, held)
        if position < last:
            async for transition in self._scanned(condition, position, last, progress):
                yield transition

    async def _scanned(
        self, condition: Condition, start: int, last: int, progress: Progress | None
    ) -> AsyncIterator[Transition[S]]:
        """Asks after each event that changes the state."""
        state = (await self._past.visit(start)).state
        held = holds(condition, state)

        def noticed(state: S) -> bool:
            try:
                return (not condition(state)) is held
            except LookupError:
                return held

        async for now, place in self._noticed(noticed, state, start, last, progress):
            held = not held
            yield Transition(self._visit(now, place), held)

    async def _noticed(
        self,
        noticed: Callable[[S], bool],
        state: S,
        start: int,
        last: int,
        progress: Progress | None = None,
    ) -> AsyncIterator[tuple[S, Place]]:
        """Each state behind ``start`` in which something is noticed, and where it is."""
        past = self._past
        fold, codec = past.fold, past.store._codec
        until = start
        while until < last:
            wanted = past.of.after(until).up_to(last)
            page, asked, wanted = await past.store._one_page(wanted, PAGE_EVENTS)
            events, place = foldable_page(page, asked, wanted, codec, fold)
            state, index = fold._until(state, events, 0, noticed)
            while index < len(events):
                yield state, place(index)
                state, index = fold._until(state, events, index + 1, noticed)
            until = last if page.end else min(page.cursor, last)
            if progress is not None:
                progress(until, last)

    async def _parts_of(
        self, reads: Reads, until: int, last: int, progress: Progress | None
    ) -> dict[Read, PartHistory] | None:
        """The histories of the parts up to a position; None where they change too often."""
        async with self._lock:
            initial = self._past.fold.initial()
            parts = {
                read: self._parts.setdefault(read, PartHistory(read, initial)) for read in reads
            }
            behind = [part for part in parts.values() if part.until < until]
            if behind:
                await self._extend(behind, until, last, progress)
        return None if any(part.is_too_busy for part in behind) else parts

    async def _extend(
        self, parts: list[PartHistory], until: int, last: int, progress: Progress | None
    ) -> None:
        """Bring the histories of parts up to a position, all in one go."""
        start = min(part.until for part in parts)
        state = (await self._past.visit(start)).state

        def changed(state: S) -> bool:
            return any(part.has_changed(state) for part in parts)

        def told(position: int, _: int) -> None:
            if progress is not None:
                progress(position, last)

        noticed = parts[0].has_changed if len(parts) == 1 else changed
        async for now, place in self._noticed(noticed, state, start, until, told):
            for part in parts:
                part.note(place.position, now)
            if any(part.is_too_busy for part in parts):
                return
        for part in parts:
            part.until = max(part.until, until)

    async def writes(
        self, read: Read, start: int, last: int, progress: Progress | None = None
    ) -> AsyncIterator[tuple[int, Any, Any]]:
        """Where a part changed in ``(start, last]``: the position, its value before and after."""
        parts = await self._parts_of(frozenset({read}), last, last, progress)
        if parts is not None:
            part = parts[read]
            for stop in _stops([part], start, last):
                yield stop, part.at(stop - 1), part.at(stop)
            return
        state = (await self._past.visit(start)).state
        part = PartHistory(read, state)
        async for now, place in self._noticed(part.has_changed, state, start, last, progress):
            before = part.values[-1]
            part = PartHistory(read, now)
            yield place.position, before, part.values[-1]

    async def last_write(self, read: Read, until: int) -> int | None:
        """The last place up to a position at which a part changed."""
        if self._knows(frozenset({read}), until):
            found = list(_stops([self._parts[read]], 0, until))
            return found[-1] if found else None
        upper, size = until, _FIRST_CHUNK
        while upper > 0:
            lower = max(0, upper - size)
            state = (await self._past.visit(lower)).state
            part, found_at = PartHistory(read, state), None
            async for now, place in self._noticed(part.has_changed, state, lower, upper):
                found_at = place.position
                part.note(found_at, now)
            if found_at is not None:
                return found_at
            upper, size = lower, size * 2
        return None

    async def next_write(self, read: Read, after: int, last: int) -> int | None:
        """The first place behind a position at which a part changes."""
        state = (await self._past.visit(after)).state
        part = PartHistory(read, state)
        if self._knows(frozenset({read}), last):
            return next(_stops([self._parts[read]], after, last), None)
        async for _, place in self._noticed(part.has_changed, state, after, last):
            return place.position
        return None

    def _knows(self, reads: Reads, until: int) -> bool:
        """Whether the histories of all the parts reach that far."""
        parts = [self._parts.get(read) for read in reads]
        return all(part is not None and part.until >= until for part in parts)

    def _visit(self, state: S, place: Place) -> Visit[S]:
        recorded = from_micros(place.recorded_at)
        state = self._past.fold.copied(state)
        return Visit(state, place.position, place.version, recorded, place.position)
