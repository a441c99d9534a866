"""Which events to read, as an immutable value.

``Query()`` is all events in order; each method returns a narrower query::

    Query().category("game").types(BetPlaced, BetWon).as_at(midnight).backwards().limit(10)

Two queries joined with ``|`` match what either matches: together with tags this is the query of
a dynamic consistency boundary (https://dcb.events).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, Final, Literal
from zlib import crc32

import msgspec

from everwhen.vocabulary.errors import InvalidQueryError
from everwhen.vocabulary.events import Event, EventType
from everwhen.vocabulary.microseconds import to_micros
from everwhen.vocabulary.streams import MAX_POSITION, category_of


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

    def takes(self, type_name: str | None, tags: Collection[str]) -> bool:
        """Whether events of this type, with these tags, can match.

        None stands for an unknown type, which may be any.
        """
        if self.types and type_name is not None and type_name not in self.types:
            return False
        return self.tags.issubset(tags)

    def matches(self, stream: str, type_name: str | None, tags: Collection[str]) -> bool:
        """Whether an event of this stream, type and tags is one that the selector asks for."""
        return self.takes(type_name, tags) and self.reaches(stream)


class Share(msgspec.Struct, frozen=True):
    """The part of all streams that is one worker's, of ``count`` workers: ``index`` is from 0.

    A stream is in one share, and so are, ``by`` category, all streams of a category. Which one it
    is, its name says: the same one everywhere and always.
    """

    by: Literal["stream", "category"]
    index: int
    count: int

    def has(self, stream: str) -> bool:
        """Whether the stream is in this share."""
        name = stream if self.by == "stream" else category_of(stream)
        return crc32(name.encode(errors="surrogatepass")) % self.count == self.index


_ANYTHING: Final = (Selector(),)


class Query(msgspec.Struct, frozen=True):
    """An immutable description of events to read. Bounds are inclusive unless named ``after``.

    ``share`` is for several workers that read one history side by side, each its streams.
    """

    selectors: tuple[Selector, ...] = _ANYTHING
    min_version: int | None = None
    max_version: int | None = None
    after_position: int = 0
    last_position: int | None = None
    recorded_until: int | None = None
    occurred_until: int | None = None
    max_events: int | None = None
    reverse: bool = False
    skips_retired: bool = False
    share: Share | None = None

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
        """Only events after this position."""
        return msgspec.structs.replace(self, after_position=_whole(position, "after"))

    def up_to(self, position: int) -> Query:
        """Only events at or before this position."""
        return msgspec.structs.replace(self, last_position=_whole(position, "up_to"))

    def as_at(self, moment: datetime) -> Query:
        """Only what was recorded at or before the moment: the store as it was then."""
        return msgspec.structs.replace(self, recorded_until=_micros(moment, "as_at"))

    def as_of(self, moment: datetime) -> Query:
        """Only what happened at or before the moment, by ``occurred_at``, whenever recorded.

        Events are read in the order of positions; a state is folded in that of ``occurred_at``.
        """
        return msgspec.structs.replace(self, occurred_until=_micros(moment, "as_of"))

    def backwards(self) -> Query:
        """From the newest event to the oldest."""
        return msgspec.structs.replace(self, reverse=True)

    def limit(self, events: int) -> Query:
        """At most that many events."""
        return msgspec.structs.replace(self, max_events=_whole(events, "limit"))

    def skipping_retired(self) -> Query:
        """Without what was retired, which else raises `RetiredError` where it might match."""
        return msgspec.structs.replace(self, skips_retired=True)

    def selects(self, stream: str, type_name: str | None, tags: Collection[str]) -> bool:
        """Whether any selector asks for an event of this stream, type and tags.

        Bounds are not looked at. None stands for an unknown type, which may be any.
        """
        return any(selector.matches(stream, type_name, tags) for selector in self.selectors)

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
            _check_name(name, part)
        return msgspec.structs.replace(
            self, selectors=tuple(_narrowed(s, part, wanted) for s in self.selectors)
        )


def query_of(asked: Query | str) -> Query:
    """The query, or that for a stream given by name. Raises `InvalidQueryError` for all else."""
    if isinstance(asked, Query):
        return checked(asked)
    if isinstance(asked, str):
        return Query().stream(asked)
    raise InvalidQueryError(f"expected a Query or a stream's name, got {asked!r}")


def checked(query: Query) -> Query:
    """The query, once every part of it is what its methods would have made.

    Raises `InvalidQueryError` for a selector, name or bound of a hand-built query that isn't.
    """
    if not isinstance(query.selectors, tuple):
        raise InvalidQueryError(f"selectors={query.selectors!r:.80}: use a tuple of Selector")
    if query.selectors != _ANYTHING:
        query = msgspec.structs.replace(
            query, selectors=tuple(_checked_selector(s) for s in query.selectors)
        )
    for bound in ("min_version", "max_version", "last_position", "max_events"):
        value = getattr(query, bound)
        if value is not None:
            _whole(value, bound)
    _whole(query.after_position, "after_position")
    for moment in (query.recorded_until, query.occurred_until):
        if moment is not None and type(moment) is not int:
            raise InvalidQueryError(f"{moment!r} is not a time in microseconds; use as_at or as_of")
    for switch in ("reverse", "skips_retired"):
        value = getattr(query, switch)
        if not isinstance(value, bool):
            raise InvalidQueryError(f"{switch}={value!r}: use True or False")
    if query.share is not None:
        _check_share(query.share)
    return query


def _check_share(share: Share) -> None:
    if not isinstance(share, Share) or share.by not in ("stream", "category"):
        raise InvalidQueryError(f"share={share!r:.80}: use a Share by 'stream' or 'category'")
    if not _whole(share.index, "index") < _whole(share.count, "count"):
        raise InvalidQueryError(f"{share}: use an index from 0 to {share.count - 1}")


_PARTS: Final = ("streams", "categories", "types", "tags")


def _checked_selector(selector: Selector) -> Selector:
    if not isinstance(selector, Selector):
        raise InvalidQueryError(f"expected a tuple of Selector, got {selector!r:.80} in it")
    for part in _PARTS:
        names = getattr(selector, part)
        if not isinstance(names, frozenset):
            if not isinstance(names, set):
                raise InvalidQueryError(f"{part}={names!r:.80}: use a frozenset of names")
            selector = msgspec.structs.replace(selector, **{part: frozenset(names)})
        for name in names:
            _check_name(name, part)
    return selector


def _check_name(name: object, part: str) -> None:
    if not isinstance(name, str) or not name:
        raise InvalidQueryError(f"{part}: {name!r} is not a name; use non-empty text")


def name_of(asked: str, what: str) -> str:
    """A name to look up. Raises `InvalidQueryError` for what is not a text."""
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
    return min(number, MAX_POSITION)


def _micros(moment: datetime, what: str) -> int:
    try:
        return to_micros(moment)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidQueryError(f"{what}({moment!r}): use a datetime with a time zone") from error
