# Generated from src/everwhen/store/_async/moments.py by tools/unasync.py: edit that, then run `make sync`.
"""Where moments are in a store's history."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, Protocol

from everwhen.codec.recorded_events import RecordedEvent
from everwhen.vocabulary.contract import Checkpoint, Head
from everwhen.vocabulary.errors import InvalidQueryError
from everwhen.vocabulary.moments import (
    HEAD,
    AsOf,
    Back,
    Before,
    Bookmark,
    Moment,
    Version,
    given_moment,
)
from everwhen.vocabulary.query import Query

BOOKMARK: Final = "bookmark/"
"""What the names of the checkpoints of bookmarks begin with."""


class History(Protocol):
    """What is asked of a store."""

    def read(self, query: Query, /) -> Iterator[RecordedEvent[Any]]:
        """The query's events."""
        ...

    def head(self) -> Head:
        """The newest event's place."""
        ...

    def position_at(self, moment: datetime, /) -> int:
        """The last position recorded by then."""
        ...

    def version(self, stream: str, /) -> int:
        """The stream's version."""
        ...

    def checkpoint(self, name: str, /) -> Checkpoint | None:
        """The checkpoint of that name."""
        ...

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints."""
        ...


class Moments:
    """Turns moments into positions; what is counted and timed are a query's events."""

    def __init__(self, store: History, of: Query) -> None:
        self._store = store
        self._of = of

    def position_of(self, moment: Moment, *, here: int | None = None) -> int:
        """The position that a moment means.

        Relative moments (`Back`, `Before`) count from the position ``here``, the newest event's
        unless given. Raises `InvalidQueryError` for a position after the newest, an unknown
        version or bookmark, and for `AsOf`, which has no place in the order of recording.
        """
        match given_moment(moment):
            case int(position):
                return self._existing(position)
            case datetime() as recorded:
                return self._store.position_at(recorded)
            case Version(number, stream):
                return self._position_of_version(number, stream)
            case Bookmark(name):
                return self.bookmarked(name)
            case Back(events):
                start = self._existing(HEAD if here is None else here)
                return self.moved(start, -events)
            case Before(span):
                start = self._existing(HEAD if here is None else here)
                recorded_at = self.recorded_at(start)
                if recorded_at is None:
                    return 0
                return self._store.position_at(recorded_at - span)
            case AsOf():
                raise InvalidQueryError(
                    "an occurred time has no place in the order of recording; use travel_to()"
                )

    def moved(self, position: int, steps: int) -> int:
        """Where that many steps lead from a position, backwards if negative, as far as there are.

        Events that an upcast made of one are one step; before the first one the position is 0.
        """
        query = self._after(position) if steps > 0 else self._up_to(position).backwards()
        left = steps if steps > 0 else 1 - steps
        for event in self._store.read(query):
            if event.part:
                continue
            left -= 1
            if not left:
                return event.position
            if steps > 0:
                position = event.position
        return position if steps > 0 else 0

    def recorded_at(self, position: int) -> datetime | None:
        """When the newest of the events up to a position was recorded; None before the first."""
        for event in self._store.read(self._up_to(position).backwards().limit(1)):
            return event.recorded_at
        return None

    def _after(self, position: int) -> Query:
        return self._of.after(max(position, self._of.after_position))

    def _up_to(self, position: int) -> Query:
        last = self._of.last_position
        return self._of.up_to(position if last is None else min(position, last))

    def _existing(self, position: int) -> int:
        head = (self._store.head()).position
        if position == HEAD:
            return head
        if position > head:
            raise InvalidQueryError(
                f"position {position} is after the store's newest event, {head}"
            )
        return position

    def _position_of_version(self, number: int, name: str | None) -> int:
        (selector, *more) = self._of.selectors
        if name is None:
            if more or len(selector.streams) != 1:
                raise InvalidQueryError(
                    f"version {number}: versions count the events of one stream; name it, as in "
                    f"order-3@{number}, or give a position or a time"
                )
            (name,) = selector.streams
        if number <= 0:
            return 0
        found = Query().stream(name).from_version(number).to_version(number)
        for event in self._store.read(found):
            return event.position
        stands = self._store.version(name)
        raise InvalidQueryError(f"stream {name!r} has no version {number}; its newest is {stands}")

    def bookmarks(self) -> dict[str, int]:
        """The bookmarks' positions, by name."""
        found = self._store.checkpoints()
        return {
            checkpoint.name.removeprefix(BOOKMARK): checkpoint.position
            for checkpoint in found
            if checkpoint.name.startswith(BOOKMARK)
        }

    def bookmarked(self, name: str) -> int:
        """A bookmark's position. Raises `InvalidQueryError` where there is none of that name."""
        found = self._store.checkpoint(BOOKMARK + name)
        if found is not None:
            return found.position
        known = sorted(self.bookmarks())
        among = f" among {', '.join(known)}" if known else "; none is set in this store"
        raise InvalidQueryError(f"there is no bookmark {name!r}{among}")
