"""Windows: pieces of history held in memory, whose states are folded when asked for."""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections import deque
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from everwhen.codec.recorded_events import RecordedEvent, held_bytes
from everwhen.state.fold import IMMUTABLE, Fold, is_immutable
from everwhen.state.paths import MISSING, PartKind, keys_of, kind_of, part_of
from everwhen.state.snapshots import Loaded, Place
from everwhen.store.page_decoding import place_of_event
from everwhen.travel.destinations import StateAt, Step
from everwhen.vocabulary.microseconds import from_micros

S = TypeVar("S")

_MAX_COPIES: Final = 16
"""Of a mutable state in one window: a step back folds at most a sixteenth of it again."""
_MAX_WINDOWS: Final = 8
"""Somebody who compares a few moments finds all of them at hand."""
MAX_BYTES: Final = 128 << 20
"""About what waypoints may take in memory, and windows likewise: three copies of 1 M streams."""
_SAMPLE_PARTS: Final = 16
"""Of a large container, by which its size is estimated."""
_MAX_SAMPLED: Final = 512
"""Objects in all: an estimate takes well below a millisecond."""


class HistoryWindow(Generic[S]):
    """A piece of history held in memory: a state, and the events that follow it.

    It reaches from ``start`` to ``until``: every event between the two that concerns the state is
    here, and the ``stops`` are their positions. States between them are folded when they are asked
    for, and remembered; what is given out never changes.
    """

    def __init__(
        self, fold: Fold[S], base: Loaded[S], events: list[RecordedEvent[Any]], until: int
    ) -> None:
        self.base = base
        self.events = events
        self.until = until
        self.positions = [event.position for event in events]
        self.stops = sorted(set(self.positions))
        self._fold = fold
        self._known = [(0, base.state)]
        self._is_immutable = is_immutable(base.state)
        self._apart = 1 if self._is_immutable else max(1, len(events) // _MAX_COPIES)
        self._bytes_of_copy = 0 if self._is_immutable else bytes_apart(base.state, MISSING)
        self._bytes_of_events = held_bytes(events)

    @property
    def bytes(self) -> int:
        """About what it takes in memory."""
        return self._bytes_of_events + len(self._known) * self._bytes_of_copy

    @property
    def start(self) -> int:
        """The position up to which the base state has everything."""
        return self.base.read_until

    def count_at(self, position: int) -> int:
        """How many of the events lie at or before the position."""
        return bisect_right(self.positions, position)

    def stops_at(self, position: int) -> int:
        """How many of the stops lie at or before the position."""
        return bisect_right(self.stops, position)

    def count_before(self, position: int) -> int:
        """How many of the events lie before the position."""
        return bisect_left(self.positions, position)

    def state(self, count: int) -> S:
        """The state after that many of the events. Raises what the fold raises."""
        known, state = self._known[bisect_right(self._known, count, key=_count) - 1]
        state = self._given(state)
        for done in range(known, count):
            state = self._fold.advance(state, self.events[done : done + 1])
            if done + 1 == self._known[-1][0] + self._apart and self._has_room():
                self._known.append((done + 1, self._given(state)))
        return state

    def _has_room(self) -> bool:
        """Whether another copy leaves room for more windows than this one."""
        return self.bytes + self._bytes_of_copy <= MAX_BYTES // 2

    def _given(self, state: S) -> S:
        return state if self._is_immutable else self._fold.copied(state)

    def state_at(self, position: int) -> StateAt[S]:
        """The state at a position that is covered."""
        count = self.count_at(position)
        place = self.place(count)
        recorded = from_micros(place.recorded_at) if place.position else None
        return StateAt(self.state(count), place.position, place.version, recorded, position)

    def place(self, count: int) -> Place:
        """The place of the last of that many events."""
        if not count:
            return self.base.place
        return place_of_event(self.events[count - 1])

    def step(self, position: int) -> Step[S]:
        """The step at an event's position."""
        first, last = self.count_before(position), self.count_at(position)
        return Step(self.events[first:last], self.state(first), self.state(last))


def _count(known: tuple[int, object]) -> int:
    return known[0]


class RecentWindows(Generic[S]):
    """The windows that were used last: a few, and only as many as fit in memory."""

    def __init__(self) -> None:
        self._newest_first: deque[HistoryWindow[S]] = deque(maxlen=_MAX_WINDOWS)

    def add(self, window: HistoryWindow[S]) -> None:
        """Remember one."""
        self._newest_first.appendleft(window)
        self._trim()

    def at(self, position: int) -> HistoryWindow[S] | None:
        """The one that a position lies in."""
        self._trim()
        found = self._newest_first
        return next((one for one in found if one.start < position <= one.until), None)

    def _trim(self) -> None:
        """Drop what has no room any more: a window grows as its states are asked for."""
        while len(self._newest_first) > 1 and sum(s.bytes for s in self._newest_first) > MAX_BYTES:
            self._newest_first.pop()


def bytes_apart(value: Any, other: Any) -> int:
    """About how many bytes a value takes that another one, which may be `MISSING`, doesn't share.

    An estimate at a small cost: large containers are judged by some of their parts.
    """
    total, looked_at = 0.0, 0
    left = deque([(value, other, 1.0)])
    while left and looked_at < _MAX_SAMPLED:
        value, other, times = left.popleft()
        looked_at += 1
        if value is other:
            continue
        total += times * sys.getsizeof(value, 0)
        if isinstance(value, IMMUTABLE):
            continue
        keys, count = _some_keys(value)
        for key in keys:
            beside = MISSING if other is MISSING else part_of(other, key)
            left.append((part_of(value, key), beside, times * count / len(keys)))
    return int(total)


def _some_keys(value: Any) -> tuple[list[Any], int]:
    """The first keys of a value's parts, and how many there are."""
    match kind_of(type(value)):
        case PartKind.MAPPING:
            return list(islice(value, _SAMPLE_PARTS)), len(value)
        case PartKind.SEQUENCE:
            return list(range(min(len(value), _SAMPLE_PARTS))), len(value)
        case _:
            keys = keys_of(value)
            return keys[:_SAMPLE_PARTS], len(keys)
