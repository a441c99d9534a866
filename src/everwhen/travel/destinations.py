"""Where a time machine goes, and what it finds there: values, without a store.

A *moment* is given as a position, a recorded time, or one of the forms here; `moment_from` reads
those that people type::

    5877                        a position
    2013-05-01 14:00, 2h ago    a recorded time, as `everwhen.vocabulary.written_moments`
    of 2013-05-01               what had happened by then, whenever it was recorded
    v12                         the twelfth version of the stream
    order-3@12                  the twelfth version of that stream
    @lunch                      a bookmark
    5 back, 5 on                that many events from here
    2h before, 10 min after     that much time from here
    start, head                 before the first event; the newest one
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Any, Final, Generic, TypeVar

import msgspec

from everwhen.codec.recorded_events import RecordedEvent
from everwhen.state.differences import Diff, diff
from everwhen.state.paths import plain
from everwhen.vocabulary.moments import HEAD, AsOf, Back, Before, Bookmark, Moment, Version
from everwhen.vocabulary.written_moments import moment_of, place_of

S = TypeVar("S")


_BACK: Final = re.compile(r"(\d{1,18})(?: events?)? (back|on)")
_BOOKMARK: Final = re.compile(r"@([^\W\d][\w.-]{0,99})")
_STREAM_VERSION: Final = re.compile(r"(\S+)@(\d{1,18})")
_VERSION: Final = re.compile(r"v(?:ersion ?)?(\d{1,18})")


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
    if match := _STREAM_VERSION.fullmatch(words):
        return Version(int(match[2]), match[1])
    if lower.startswith("of "):
        return AsOf(moment_of(words[3:], now=now, zone=zone).time)
    for ending, sign in ((" before", 1), (" after", -1)):
        if lower.endswith(ending):
            then = moment_of(f"{words[: -len(ending)]} ago", now=now, zone=zone).time
            return Before(sign * (now - then))
    place = place_of(words, now=now, zone=zone)
    return place if isinstance(place, int) else place.time


class StateAt(msgspec.Struct, Generic[S], frozen=True):
    """The state at a moment. ``position`` is that of the last event in it, 0 before any.

    ``version`` is that event's in its stream, ``recorded_at`` when it was recorded; ``until`` is
    the position that was asked for: no event that concerns the state lies between the two.
    """

    state: S
    position: int
    version: int
    recorded_at: datetime | None
    until: int


class Transition(msgspec.Struct, Generic[S], frozen=True):
    """A moment at which a condition began to hold, or ceased to."""

    at: StateAt[S]
    holds: bool


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


class Written(msgspec.Struct, frozen=True):
    """A part of the state that an event wrote: `MISSING` stands for a part that wasn't there."""

    event: RecordedEvent[Any]
    before: Any
    after: Any

    @property
    def position(self) -> int:
        """The event's position."""
        return self.event.position


class Divergence(msgspec.Struct, Generic[S], frozen=True):
    """Where two folds come to different states: after the event, or before any if it is None.

    ``mine`` and ``theirs`` are the states there, ``changes`` lead from the one to the other.
    """

    event: RecordedEvent[Any] | None
    mine: S
    theirs: Any

    @property
    def changes(self) -> Diff:
        """What would have to change in the one state to become the other."""
        return diff(plain(self.mine, ordered=True), plain(self.theirs, ordered=True))


class Cause(msgspec.Struct, frozen=True):
    """What led to an event: the id that was recorded, and its event where it is in this store."""

    id: str
    event: RecordedEvent[Any] | None


class Explanation(msgspec.Struct, frozen=True):
    """How an event came about, and what it led to.

    ``causes`` go from its own cause back to the first. ``correlated`` are the events of the same
    conversation in order, itself among them; ``is_whole`` is False where there are more of them.
    """

    event: RecordedEvent[Any]
    causes: Sequence[Cause]
    correlated: Sequence[RecordedEvent[Any]]
    is_whole: bool

    @property
    def effects(self) -> list[RecordedEvent[Any]]:
        """The events of the conversation that it led to at once."""
        return [e for e in self.correlated if e.metadata.causation_id == self.event.event_id]
