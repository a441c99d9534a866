"""Which events to read, as an immutable value.

``Query()`` is all events in order; each method returns a narrower query::

    Query().category("game").types(BetPlaced, BetWon).as_at(midnight).backwards().limit(10)

Two queries joined with ``|`` match what either matches: together with tags this is the query of
a dynamic consistency boundary (https://dcb.events).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import msgspec

from everwhen.contract import category_of, to_micros
from everwhen.errors import InvalidQueryError
from everwhen.events import Event, EventType

_BEYOND: Final = (1 << 63) - 1
"""Larger than any position or version."""


class Selector(msgspec.Struct, frozen=True):
    """Any of the streams, any of the categories, any of the types and all of the tags.

    An empty part asks nothing.
    """

    streams: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()

    def reaches(self, stream: str) -> bool:
        """Whether events of this stream can match."""
        if self.streams and stream not in self.streams:
            return False
        return not self.categories or category_of(stream) in self.categories


class Query(msgspec.Struct, frozen=True):
    """An immutable description of events to read. Bounds are inclusive unless named ``after``."""

    selectors: tuple[Selector, ...] = (Selector(),)
    min_version: int | None = None
    max_version: int | None = None
    after_position: int = 0
    last_position: int | None = None
    recorded_until: int | None = None
    occurred_until: int | None = None
    max_events: int | None = None
    reverse: bool = False

    def stream(self, *names: str) -> Query:
        """Only events of these streams."""
        return self._narrow(streams=names)

    def category(self, *names: str) -> Query:
        """Only streams whose name up to the first ``-`` is one of these."""
        return self._narrow(categories=names)

    def types(self, *types: str | type[Event] | EventType[Any]) -> Query:
        """Only events of these types, given as type names or as event classes."""
        return self._narrow(types=[_type_name(t) for t in types])

    def tags(self, *tags: str) -> Query:
        """Only events that carry every one of these tags."""
        return self._narrow(tags=tags)

    def from_version(self, version: int) -> Query:
        """Only events with at least this version in their stream."""
        return msgspec.structs.replace(self, min_version=_whole(version, "from_version"))

    def to_version(self, version: int) -> Query:
        """Only events with at most this version in their stream."""
        return msgspec.structs.replace(self, max_version=_whole(version, "to_version"))

    def after(self, position: int) -> Query:
        """Only events behind this position."""
        return msgspec.structs.replace(self, after_position=_whole(position, "after"))

    def up_to(self, position: int) -> Query:
        """Only events at or before this position."""
        return msgspec.structs.replace(self, last_position=_whole(position, "up_to"))

    def as_at(self, moment: datetime) -> Query:
        """Only what was recorded at or before the moment: the store as it was then."""
        return msgspec.structs.replace(self, recorded_until=_micros(moment, "as_at"))

    def as_of(self, moment: datetime) -> Query:
        """Only what happened at or before the moment, by ``occurred_at``, whenever recorded."""
        return msgspec.structs.replace(self, occurred_until=_micros(moment, "as_of"))

    def backwards(self) -> Query:
        """From the newest event to the oldest."""
        return msgspec.structs.replace(self, reverse=True)

    def limit(self, events: int) -> Query:
        """At most so many events."""
        return msgspec.structs.replace(self, max_events=_whole(events, "limit"))

    def __or__(self, other: Query) -> Query:
        if msgspec.structs.replace(self, selectors=()) != msgspec.structs.replace(
            other, selectors=()
        ):
            raise InvalidQueryError(
                "queries joined with | must have the same bounds, direction and limit; "
                "join them first, then add bounds to the result"
            )
        return msgspec.structs.replace(self, selectors=self.selectors + other.selectors)

    def _narrow(self, **parts: Iterable[str]) -> Query:
        ((part, names),) = parts.items()
        wanted = frozenset(names)
        if not wanted:
            raise InvalidQueryError(f"{part}: name at least one, or leave the filter out")
        for name in wanted:
            if not isinstance(name, str) or not name:
                raise InvalidQueryError(f"{part}: {name!r} is not a name; use non-empty text")
        return msgspec.structs.replace(
            self, selectors=tuple(_narrowed(s, part, wanted) for s in self.selectors)
        )


def query_of(asked: Query | str) -> Query:
    """The query, or that for a stream given by name. Raises `InvalidQueryError` for all else."""
    if isinstance(asked, Query):
        return asked
    if isinstance(asked, str):
        return Query().stream(asked)
    raise InvalidQueryError(f"{asked!r} is no query; give a Query or a stream's name")


def name_of(asked: str, what: str) -> str:
    """A name to look up. Raises `InvalidQueryError` for what is no text."""
    if isinstance(asked, str):
        return asked
    raise InvalidQueryError(f"{what} {asked!r}: give its name, as text")


def _narrowed(selector: Selector, part: str, wanted: frozenset[str]) -> Selector:
    """Tags add up (all of them); a second set of streams, categories or types intersects."""
    present: frozenset[str] = getattr(selector, part)
    if part == "tags":
        return msgspec.structs.replace(selector, tags=present | wanted)
    both = present & wanted if present else wanted
    if not both:
        raise InvalidQueryError(
            f"{part}: nothing is both in {sorted(present)} and in {sorted(wanted)}; "
            f"to match either, join two queries with |"
        )
    return msgspec.structs.replace(selector, **{part: both})


def _type_name(event_type: str | type[Event] | EventType[Any]) -> str:
    if isinstance(event_type, str):
        return event_type
    if isinstance(event_type, EventType):
        return event_type.name
    if isinstance(event_type, type) and issubclass(event_type, Event):
        return EventType(event_type).name
    raise InvalidQueryError(
        f"types({event_type!r}): give a type name, an Event subclass or an EventType"
    )


def _whole(number: int, what: str) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise InvalidQueryError(f"{what}({number!r}): use a whole number, 0 or more")
    return min(number, _BEYOND)


def _micros(moment: datetime, what: str) -> int:
    try:
        return to_micros(moment)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidQueryError(f"{what}({moment!r}): use a datetime with a time zone") from error
