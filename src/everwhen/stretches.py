"""Pieces of history held in memory, and the places from which they are reached."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right, insort
from typing import Any, Final, Generic, TypeVar

from everwhen.contract import MAX_NAME_BYTES, from_micros
from everwhen.fold import Fold, is_immutable
from everwhen.reading import place_of_event
from everwhen.recorded import RecordedEvent
from everwhen.snapshots import Loaded, Place
from everwhen.travel import Step, Visit

S = TypeVar("S")

_COPIES: Final = 16


class Stretch(Generic[S]):
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
        self._known = [(0, fold.copied(base.state))]
        self._is_immutable = is_immutable(base.state)
        self._apart = 1 if self._is_immutable else max(1, len(events) // _COPIES)

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
        """The state after so many of the events. Raises what the fold raises."""
        known, state = self._known[bisect_right(self._known, count, key=_count) - 1]
        state = self._given(state)
        for done in range(known, count):
            state = self._next(state, self.events[done])
            if done + 1 == self._known[-1][0] + self._apart:
                self._known.append((done + 1, self._given(state)))
        return state

    def _given(self, state: S) -> S:
        return state if self._is_immutable else self._fold.copied(state)

    def _next(self, state: S, event: RecordedEvent[Any]) -> S:
        try:
            return self._fold._after(state, (event,))
        except Exception as error:
            error.add_note(f"fold {self._fold.name!r}, at {event!r}")
            raise

    def visit(self, position: int) -> Visit[S]:
        """The state at a position that is covered."""
        count = self.count_at(position)
        place = self.place(count)
        recorded = from_micros(place.recorded_at) if place.position else None
        return Visit(self.state(count), place.position, place.version, recorded, position)

    def place(self, count: int) -> Place:
        """Where the last of so many events stands."""
        if not count:
            return self.base._place
        return place_of_event(self.events[count - 1])

    def step(self, position: int) -> Step[S]:
        """The step at an event's position."""
        first, last = self.count_before(position), self.count_at(position)
        return Step(self.events[first:last], self.state(first), self.state(last))


def _count(known: tuple[int, object]) -> int:
    return known[0]


class Waypoints(Generic[S]):
    """States at places in history, in memory: evenly thinned when they become too many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._places: list[int] = []
        self._loaded: dict[int, Loaded[S]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, loaded: Loaded[S]) -> None:
        """Remember a state; nobody may change it any more."""
        position = loaded.read_until
        if position in self._loaded:
            return
        if len(self._places) >= self._limit:
            for gone in self._places[::2]:
                del self._loaded[gone]
            self._places = self._places[1::2]
        insort(self._places, position)
        self._loaded[position] = loaded

    def newest(self, up_to: int) -> Loaded[S] | None:
        """The last state that has nothing behind the position."""
        index = bisect_right(self._places, up_to)
        return self._loaded[self._places[index - 1]] if index else None


def travel_subject(subject: str) -> str:
    """The name that waypoints are kept under, apart from the snapshots of the same state."""
    name = f"travel/{subject}"
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    return f"travel#{hashlib.sha256(subject.encode()).hexdigest()}"
