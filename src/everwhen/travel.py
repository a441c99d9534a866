"""Where a time machine goes, and what it finds there: values, without a store.

A *moment* is given as a position, a recorded time, or one of the forms here; `moment_from` reads
those that people type::

    5877                        a position
    2013-05-01 14:00, 2h ago    a recorded time, in all forms of `everwhen.moments`
    of 2013-05-01               what had happened by then, whenever it was recorded
    v12                         the twelfth version of the stream
    @lunch                      a bookmark
    5 back, 5 on                so many events from here
    2h before, 10 min after     so much time from here
    start, head                 before the first event; the newest one
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from everwhen.contract import MAX_NAME_BYTES, from_micros
from everwhen.diff import Diff, diff
from everwhen.errors import InvalidQueryError
from everwhen.fold import Fold, is_immutable
from everwhen.moments import moment_of, place_of
from everwhen.recorded import RecordedEvent
from everwhen.snapshots import Loaded, Place

S = TypeVar("S")


class AsOf(msgspec.Struct, frozen=True):
    """What had happened by a time, by ``occurred_at``, whenever it was recorded."""

    time: datetime


class Version(msgspec.Struct, frozen=True):
    """A version of the one stream that is travelled."""

    number: int


class Bookmark(msgspec.Struct, frozen=True):
    """A position that was given a name."""

    name: str


class Back(msgspec.Struct, frozen=True):
    """So many events before here; after it, where the number is negative."""

    events: int


class Before(msgspec.Struct, frozen=True):
    """So long before here, by recorded time; after it, where the time is negative."""

    time: timedelta


Moment: TypeAlias = int | datetime | AsOf | Version | Bookmark | Back | Before
"""A position, a recorded time (with a zone), or one of the forms of this module."""

_BACK: Final = re.compile(r"(\d{1,18})(?: events?)? (back|on)")
_BOOKMARK: Final = re.compile(r"@([^\W\d][\w.-]{0,99})")
_VERSION: Final = re.compile(r"v(?:ersion ?)?(\d{1,18})")
HEAD: Final = (1 << 63) - 1
"""The newest event's position, whichever it is."""


def moment_from(text: str, *, now: datetime, zone: tzinfo) -> Moment:
    """The moment that the text means, seen from ``now`` in ``zone``.

    Raises `InvalidQueryError` for what isn't understood.
    """
    words = " ".join(text.split())
    lower = words.lower()
    if lower == "start":
        return 0
    if lower == "head":
        return HEAD
    if match := _BACK.fullmatch(lower):
        return Back(int(match[1]) if match[2] == "back" else -int(match[1]))
    if match := _BOOKMARK.fullmatch(words):
        return Bookmark(match[1])
    if match := _VERSION.fullmatch(lower):
        return Version(int(match[1]))
    if lower.startswith("of "):
        return AsOf(moment_of(words[3:], now=now, zone=zone).time)
    for ending, sign in ((" before", 1), (" after", -1)):
        if lower.endswith(ending):
            then = moment_of(f"{words[: -len(ending)]} ago", now=now, zone=zone).time
            return Before(sign * (now - then))
    place = place_of(words, now=now, zone=zone)
    return place if isinstance(place, int) else place.time


class Visit(msgspec.Struct, Generic[S], frozen=True):
    """The state at a moment. ``position`` is that of the last event in it, 0 before any.

    ``version`` is that event's in its stream, ``recorded_at`` when it was recorded; ``until`` is
    the position that was asked for: no event that concerns the state lies between the two.
    """

    state: S
    position: int
    version: int
    recorded_at: datetime | None
    until: int


class Step(msgspec.Struct, Generic[S], frozen=True):
    """One event, and what it did: the state before and after it.

    An event that an upcast splits is one step with several ``events``; ``event`` is the first.
    """

    events: Sequence[RecordedEvent[Any]]
    before: S
    after: S

    @property
    def event(self) -> RecordedEvent[Any]:
        """What happened."""
        return self.events[0]

    @property
    def position(self) -> int:
        """The event's position."""
        return self.event.position

    @property
    def changes(self) -> Diff:
        """What the event changed."""
        return diff(self.before, self.after)


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
        self._at = [0]
        self._states = {0: fold.copied(base.state)}
        self._apart = 1 if is_immutable(base.state) else max(1, len(events) // 16)

    @property
    def start(self) -> int:
        """The position up to which the base state has everything."""
        return self.base.read_until

    def count_at(self, position: int) -> int:
        """How many of the events lie at or before the position."""
        return bisect_right(self.positions, position)

    def count_before(self, position: int) -> int:
        """How many of the events lie before the position."""
        return bisect_left(self.positions, position)

    def state(self, count: int) -> S:
        """The state after so many of the events. Raises what the fold raises."""
        known = self._at[bisect_right(self._at, count) - 1]
        state = self._fold.copied(self._states[known])
        for done in range(known, count):
            state = self._next(state, self.events[done])
            if (done + 1) % self._apart == 0:
                self._states[done + 1] = self._fold.copied(state)
                insort(self._at, done + 1)
        return state

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
        event = self.events[count - 1]
        stored = event._slice
        return Place(event.position, event.version, stored.recorded_at, stored.commit_id)

    def step(self, position: int) -> Step[S]:
        """The step at an event's position."""
        first, last = self.count_before(position), self.count_at(position)
        return Step(self.events[first:last], self.state(first), self.state(last))


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


def given_moment(moment: object) -> Moment:
    """The moment, checked. Raises `InvalidQueryError` for what is none."""
    if isinstance(moment, bool) or not isinstance(
        moment, int | datetime | AsOf | Version | Bookmark | Back | Before
    ):
        raise InvalidQueryError(
            f"{moment!r} is no moment; give a position, a datetime with a time zone, AsOf, "
            f"Version, Bookmark, Back or Before"
        )
    if isinstance(moment, int) and moment < 0:
        raise InvalidQueryError(f"position {moment} lies before the first; positions are 1, 2, 3 …")
    return moment


def travel_subject(subject: str) -> str:
    """The name that waypoints are kept under, apart from the snapshots of the same state."""
    name = f"travel/{subject}"
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    return f"travel#{hashlib.sha256(subject.encode()).hexdigest()}"
