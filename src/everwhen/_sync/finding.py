# Generated from src/everwhen/_async/finding.py by tools/unasync.py: edit that, then run `make sync`.
"""When a condition held: by bisection, by the parts that it looks at, or event by event."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from heapq import merge
from itertools import groupby
from typing import Any, Final, Generic, TypeVar

from everwhen._sync.past import Past, Progress
from everwhen._sync.seam import Lock
from everwhen.contract import from_micros
from everwhen.expressions import sooner
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
_MANY: Final = 1_000
_RARE: Final = 16
_FIRST_CHUNK: Final = 4_096
_CHUNK: Final = 16_384
_NEAR: Final = 32_768


class PartHistory:
    """What a read saw at every place where it changed, from the beginning to ``until``.

    It ``is_busy`` where that isn't worth remembering: it changes with so many events that asking
    after each of them is as fast, or in place, which doesn't show.
    """

    def __init__(self, read: Read, state: Any) -> None:
        self.look = looked_at(read)
        self.until = 0
        self.positions = array("q")
        self.values = [self.look(state)]
        self.is_busy = not _is_fixed(self.values[0])

    def note(self, position: int, value: Any) -> None:
        """Remember what is there from a position on, if it is another value."""
        known = self.positions[-1] if self.positions else self.until
        if position <= known or _is_same(value, self.values[-1]):
            return
        self.positions.append(position)
        self.values.append(value)
        count = len(self.positions)
        self.is_busy = count > _MANY + position // _RARE or not _is_fixed(value)

    def at(self, position: int) -> Any:
        """What was there at a position."""
        return self.values[bisect_right(self.positions, position)]

    def changed_behind(self, position: int) -> int | None:
        """The first place behind a position at which it changed."""
        index = bisect_right(self.positions, position)
        return self.positions[index] if index < len(self.positions) else None

    def changed_by(self, position: int) -> int | None:
        """The last place up to a position at which it changed."""
        index = bisect_right(self.positions, position)
        return self.positions[index - 1] if index else None


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


def _is_same(value: Any, other: Any) -> bool:
    return value is other or (type(value) is type(other) and bool(value == other))


def _is_fixed(value: Any) -> bool:
    """Whether a value that was seen stays as it is."""
    return value is MISSING or isinstance(value, type) or is_immutable(value)


class Watched:
    """A part of a state, and the last value that it was seen with."""

    def __init__(self, read: Read, state: Any) -> None:
        self._look = looked_at(read)
        self.value = self._kept(state)

    def has_changed(self, state: Any) -> bool:
        """Whether it is another value now."""
        return not _is_same(self._look(state), self.value)

    def update(self, state: Any) -> tuple[Any, Any]:
        """See it anew; the value before, and now."""
        before, self.value = self.value, self._kept(state)
        return before, self.value

    def _kept(self, state: Any) -> Any:
        value = self._look(state)
        return value if _is_fixed(value) else deepcopy(value)


class Finder(Generic[S]):
    """Finds moments in the past's history, and remembers the histories of parts."""

    def __init__(self, past: Past[S]) -> None:
        self._past = past
        self._parts: dict[Read, PartHistory] = {}
        self._erasures = past.store._erasures
        self._lock = Lock()

    def first(
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
        for transition in moments:
            if transition.holds:
                return transition.visit
        return None

    def bisected(
        self, condition: Condition, start: int, last: int, progress: Progress | None = None
    ) -> Visit[S] | None:
        """The first moment at which a condition holds that, once it does, never ceases to."""
        past = self._past
        low, nothing_up_to, high = start, start, last
        while high - nothing_up_to > 1:
            if progress is not None:
                progress(low, last)
            middle = (nothing_up_to + high) // 2
            waypoint = past.waypoint(middle)
            if waypoint.read_until <= low:
                nothing_up_to = middle
            elif holds(condition, waypoint.state):
                high = waypoint.read_until
            else:
                low = nothing_up_to = waypoint.read_until
                nothing_up_to = max(middle, low)
        return self.first(condition, low, high, tracked=False, progress=progress)

    def last(
        self,
        condition: Condition,
        start: int,
        last: int,
        *,
        tracked: bool = True,
        progress: Progress | None = None,
    ) -> Visit[S] | None:
        """The last moment in ``start … last`` at which the condition holds."""
        past = self._past
        present = past.visit(last)
        if holds(condition, present.state):
            return present
        known = tracked and self._knows(reads_of(condition, present.state), last)
        upper, size = last, _FIRST_CHUNK
        while upper > start:
            lower = max(start, upper - size)
            ended: Transition[S] | None = None
            for transition in self.transitions(
                condition, lower, upper, tracked=known, progress=progress
            ):
                if not transition.holds:
                    ended = transition
            if ended is not None and ended.visit.position > lower:
                before = past.moved(ended.visit.position, -1)
                return past.visit(max(before, start))
            first = past.visit(lower)
            if holds(condition, first.state):
                return first
            upper, size = lower, size * 2
        return None

    def transitions(
        self,
        condition: Condition,
        start: int,
        last: int,
        *,
        tracked: bool = True,
        progress: Progress | None = None,
    ) -> Iterator[Transition[S]]:
        """How it is at the start, and each moment up to ``last`` at which that changes."""
        first = self._past.visit(start)
        yield Transition(first, holds(condition, first.state))
        reads = reads_of(condition, first.state) if tracked else EVERYTHING_READ
        for transition in self._changing(condition, reads, first, last, progress):
            yield transition

    def _changing(
        self,
        condition: Condition,
        reads: Reads,
        now: Visit[S],
        last: int,
        progress: Progress | None,
    ) -> Iterator[Transition[S]]:
        """Asks again where the parts that it looked at have changed, as long as that is known."""
        held = holds(condition, now.state)
        position, chunk = now.until, _CHUNK
        while position < last and len(reads) <= _TRACKED and _WHOLE not in reads:
            until = min(last, position + chunk)
            parts = self._parts_of(reads, until, last, progress)
            if parts is None:
                break
            stop = _next_stop(condition, parts, position, until, held=held)
            if stop is None:
                position, chunk = until, chunk * 2
                continue
            now = self._past.visit(stop)
            position, reads = stop, reads | reads_of(condition, now.state)
            if holds(condition, now.state) is not held:
                held = not held
                yield Transition(now, held)
        if position < last:
            for transition in self._scanned(condition, position, last, progress):
                yield transition

    def _scanned(
        self, condition: Condition, start: int, last: int, progress: Progress | None
    ) -> Iterator[Transition[S]]:
        """Asks after each event that changes the state."""
        condition = sooner(condition)
        state = (self._past.visit(start)).state
        held = holds(condition, state)

        def noticed(state: S) -> bool:
            try:
                return (not condition(state)) is held
            except LookupError:
                return held

        for now, place in self._noticed(noticed, state, start, last, progress):
            held = not held
            yield Transition(self._visit(now, place), held)

    def _noticed(
        self,
        noticed: Callable[[S], bool],
        state: S,
        start: int,
        last: int,
        progress: Progress | None = None,
    ) -> Iterator[tuple[S, Place]]:
        """Each state behind ``start`` in which something is noticed, and where it is."""
        fold = self._past.fold
        for events, place, reached in self._pages(start, last):
            state, index = fold._until(state, events, 0, noticed)
            while index < len(events):
                yield state, place(index)
                state, index = fold._until(state, events, index + 1, noticed)
            if progress is not None:
                progress(reached, last)

    def _parts_of(
        self, reads: Reads, until: int, last: int, progress: Progress | None
    ) -> dict[Read, PartHistory] | None:
        """The histories of the parts up to a position; None where that isn't worth the while."""
        with self._lock:
            initial = self._past.fold.initial()
            if self._erasures != self._past.store._erasures:
                self._erasures = self._past.store._erasures
                self._parts.clear()
            parts = {
                read: self._parts.setdefault(read, PartHistory(read, initial)) for read in reads
            }
            behind = [part for part in parts.values() if part.until < until]
            if behind and not any(part.is_busy for part in behind):
                self._extend(behind, until, last, progress)
        return None if any(part.is_busy for part in behind) else parts

    def _extend(
        self, parts: list[PartHistory], until: int, last: int, progress: Progress | None
    ) -> None:
        """Bring the histories of parts up to a position, all in one go."""
        start = min(part.until for part in parts)
        state = (self._past.visit(start)).state
        looks = [part.look for part in parts]
        seen = [look(state) for look in looks]
        for events, place, reached in self._pages(start, until):
            state, found = self._past.fold._seen(state, events, looks, seen)
            for index, number, value in found:
                parts[number].note(place(index).position, value)
            for part in parts:  # here, so that being cut off in between leaves them as they are
                part.until = max(part.until, reached)
            if any(part.is_busy for part in parts):
                return
            if progress is not None:
                progress(reached, last)

    def _pages(
        self, start: int, last: int
    ) -> Iterator[tuple[list[Any], Callable[[int], Place], int]]:
        """The events in ``(start, last]`` as folds take them, and how far each page reaches."""
        past, codec = self._past, self._past.store._codec
        while start < last:
            wanted = past.of.after(start).up_to(last)
            page, asked, wanted = past.store._one_page(wanted, PAGE_EVENTS)
            start = last if page.end else min(page.cursor, last)
            yield (*foldable_page(page, asked, wanted, codec, past.fold), start)

    def writes(
        self, read: Read, start: int, last: int, progress: Progress | None = None
    ) -> Iterator[tuple[int, Any, Any]]:
        """Where a part changed in ``(start, last]``: the position, its value before and after."""
        parts = self._parts_of(frozenset({read}), last, last, progress)
        if parts is not None:
            part = parts[read]
            for stop in _stops([part], start, last):
                yield stop, part.at(stop - 1), part.at(stop)
            return
        state = (self._past.visit(start)).state
        seen = Watched(read, state)
        for now, place in self._noticed(seen.has_changed, state, start, last, progress):
            yield place.position, *seen.update(now)

    def last_write(
        self, read: Read, start: int, until: int, progress: Progress | None = None
    ) -> int | None:
        """The last place in ``(start, until]`` at which a part changed.

        What lies near is looked through; for what lies farther the part's history is made.
        """
        upper, size = until, _FIRST_CHUNK
        while upper > start:
            if until - upper >= _NEAR or self._begun(read) is not None:
                parts = self._parts_of(frozenset({read}), until, until, progress)
                if parts is not None:
                    found = parts[read].changed_by(until)
                    return found if found is not None and found > start else None
            lower = max(start, upper - size)
            state = (self._past.visit(lower)).state
            part, found_at = Watched(read, state), None
            for now, place in self._noticed(part.has_changed, state, lower, upper, progress):
                found_at = place.position
                part.update(now)
            if found_at is not None:
                return found_at
            upper, size = lower, size * 2
        return None

    def next_write(
        self, read: Read, after: int, last: int, progress: Progress | None = None
    ) -> int | None:
        """The first place in ``(after, last]`` at which a part changes; near and far as above."""
        begun = self._begun(read)
        if begun is not None and begun.until > after:
            found = begun.changed_behind(after)
            if found is not None:
                return found if found <= last else None
            after = min(begun.until, last)
        near = min(last, after + _NEAR)
        found = self._changed_in(read, after, near, progress)
        if found is not None or near == last:
            return found
        parts = self._parts_of(frozenset({read}), last, last, progress)
        if parts is None:
            return self._changed_in(read, near, last, progress)
        found = parts[read].changed_behind(near)
        return found if found is not None and found <= last else None

    def _changed_in(
        self, read: Read, start: int, last: int, progress: Progress | None
    ) -> int | None:
        """The first place in ``(start, last]`` at which a part changed."""
        state = (self._past.visit(start)).state
        part = Watched(read, state)
        for _, place in self._noticed(part.has_changed, state, start, last, progress):
            return place.position
        return None

    def _begun(self, read: Read) -> PartHistory | None:
        """The part's history, where it has been begun and is worth going on with."""
        if self._erasures != self._past.store._erasures:
            return None
        part = self._parts.get(read)
        return None if part is None or part.is_busy or not part.until else part

    def _knows(self, reads: Reads, until: int) -> bool:
        """Whether the histories of all the parts reach that far."""
        if self._erasures != self._past.store._erasures:
            return False
        parts = [self._parts.get(read) for read in reads]
        return all(part is not None and part.until >= until for part in parts)

    def _visit(self, state: S, place: Place) -> Visit[S]:
        recorded = from_micros(place.recorded_at)
        state = self._past.fold.copied(state)
        return Visit(state, place.position, place.version, recorded, place.position)
