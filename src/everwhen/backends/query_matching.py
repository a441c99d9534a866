"""Which events of a slice a query picks: the one place that knows, for every backend.

What one selector asks of an event, `Selector.matches` says; here many are asked at once. Backends
only narrow down which slices can match, by whatever index they have.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Final

from everwhen.codec.blocks import Block
from everwhen.codec.slice_bodies import Entry
from everwhen.system.limits import MAX_REMEMBERED
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.microseconds import to_micros
from everwhen.vocabulary.query import Query, Selector, Share
from everwhen.vocabulary.streams import category_of

_END: Final = (1 << 63) - 1
"""No position, version or time in microseconds is later: the largest that SQLite stores."""
_FEW_SELECTORS: Final = 8
"""Up to this many selectors are gone through faster than they are looked up."""


class Matcher:
    """A query, prepared for judging many slices."""

    __slots__ = (
        "_after",
        "_alternatives",
        "_asks_for_all",
        "_every_stream",
        "_first_version",
        "_last",
        "_last_version",
        "_occurred_until",
        "_reached",
        "_recorded_until",
        "_share",
        "_whole_slices",
    )

    def __init__(self, query: Query) -> None:
        self._alternatives = alternatives_of(query.selectors)
        self._after = query.after_position
        self._last = _END if query.last_position is None else query.last_position
        self._first_version = query.min_version or 0
        self._last_version = _END if query.max_version is None else query.max_version
        self._recorded_until = _END if query.recorded_until is None else query.recorded_until
        self._occurred_until = query.occurred_until
        self._reached: dict[str, bool] = {}
        self._share = None if query.share is None else _membership(query.share)
        self._asks_for_all = any(not s.streams and not s.categories for s in query.selectors)
        self._every_stream = query.share is None and self._asks_for_all
        self._whole_slices = (
            query.occurred_until is None
            and query.min_version is None
            and query.max_version is None
            and query.recorded_until is None
            and not any(s.types or s.tags for s in query.selectors)
        )

    def takes_whole(self, slices: Sequence[StoredSlice]) -> bool:
        """Whether every event of these slices, which are in order, matches."""
        if not self._whole_slices or not slices:
            return False
        if isinstance(slices, Block):  # its slices would have to be made
            before, last = slices.positions[0] - slices.counts[0], slices.positions[-1]
        else:
            one, other = slices[0], slices[-1]
            low, high = (one, other) if one.position <= other.position else (other, one)
            before, last = low.position - low.count, high.position
        if before < self._after or last > self._last:
            return False
        if self._every_stream:
            return True
        names = slices.streams if isinstance(slices, Block) else [s.stream for s in slices]
        if self._share is not None and self._asks_for_all:
            return self._share.has_all(set(names))
        return all(self._reaches_stream(name) for name in set(names))

    def reached(self, slices: list[StoredSlice]) -> list[StoredSlice]:
        """Those of the slices, which are in order, that can hold a match."""
        if self.takes_whole(slices):
            return slices
        return [stored for stored in slices if self.reaches(stored)]

    def reaches(self, stored: StoredSlice) -> bool:
        """Whether the slice can hold a match, judged without looking into its body."""
        position, count = stored.position, stored.count
        if position <= self._after or position - count >= self._last:
            return False
        if not self._reaches_stream(stored.stream):
            return False
        return self._whole_slices or (
            stored.version >= self._first_version
            and stored.version - count < self._last_version
            and stored.recorded_at <= self._recorded_until
        )

    def _reaches_stream(self, stream: str) -> bool:
        reached = self._reached.get(stream)
        if reached is None:
            reached = self._share is None or self._share.has(stream)
            reached = reached and (self._asks_for_all or self._alternatives.reach(stream))
            self._reached[stream] = reached
        return reached

    def picked(self, stored: StoredSlice, entries: Sequence[Entry]) -> list[int] | None:
        """The indexes of the matching events in the slice, ascending; None for all of them."""
        if not self.reaches(stored):
            return []
        if (
            self._whole_slices
            and self._after <= stored.position - stored.count
            and stored.position <= self._last
        ):
            return None
        first, last = self._bounds(stored)
        contents = self._alternatives.contents(stored.stream)
        if contents is None and self._occurred_until is None:
            whole = first == 0 and last == stored.count - 1
            return None if whole else list(range(first, last + 1))
        return [
            i
            for i in range(first, last + 1)
            if (contents is None or contents.match(entries[i].type, entries[i].tags))
            and self._occurred_in_time(stored, entries[i])
        ]

    def _bounds(self, stored: StoredSlice) -> tuple[int, int]:
        """The first and last index that the query's positions and versions leave."""
        before, base = stored.position - stored.count, stored.version - stored.count
        first = max(0, self._after - before, self._first_version - base - 1)
        last = min(stored.count, self._last - before, self._last_version - base) - 1
        return first, last

    def _occurred_in_time(self, stored: StoredSlice, entry: Entry) -> bool:
        until = self._occurred_until
        if until is None:
            return True
        metadata = entry.metadata
        if metadata is None or metadata.occurred_at is None:
            return stored.recorded_at <= until
        return to_micros(metadata.occurred_at) <= until


class _Membership:
    """Which streams are in a share, remembered."""

    __slots__ = ("_known", "_share")

    def __init__(self, share: Share) -> None:
        self._share = share
        self._known: dict[str, bool] = {}

    def has(self, stream: str) -> bool:
        """Whether the stream is."""
        return self.has_all((stream,))

    def has_all(self, streams: Collection[str]) -> bool:
        """Whether all of these streams are."""
        try:
            return all(map(self._known.__getitem__, streams))
        except KeyError:
            if len(self._known) > MAX_REMEMBERED:
                self._known = {}
            found = {stream: self._share.has(stream) for stream in streams}
            self._known.update(found)
            return all(found.values())


_KEPT_SHARES: Final = 16
"""Of how many shares it is remembered: a worker has one."""
_membership: Final = lru_cache(_KEPT_SHARES)(_Membership)


class Alternatives:
    """A query's selectors, by what they ask: many of them cost an event no more than few."""

    __slots__ = ("_by_category", "_by_stream", "_contents", "_everywhere", "_selectors")

    def __init__(self, selectors: tuple[Selector, ...]) -> None:
        self._selectors = selectors
        self._contents: dict[tuple[str | None, str | None], Contents | None] = {}
        self._everywhere: list[Selector] = []
        self._by_stream: dict[str, list[Selector]] | None = None
        self._by_category: dict[str, list[Selector]] = {}
        if len(selectors) > _FEW_SELECTORS:
            self._by_stream = defaultdict(list)
            self._by_category = defaultdict(list)
            for selector in selectors:
                for name in selector.streams:
                    self._by_stream[name].append(selector)
                for name in () if selector.streams else selector.categories:
                    self._by_category[name].append(selector)
                if not selector.streams and not selector.categories:
                    self._everywhere.append(selector)

    def _reaching(self, stream: str) -> Iterator[Selector]:
        """The selectors that events of this stream can match."""
        if self._by_stream is None:
            return (s for s in self._selectors if s.reaches(stream))
        named = (s for s in self._by_stream.get(stream, ()) if s.reaches(stream))
        return chain(named, self._by_category.get(category_of(stream), ()), self._everywhere)

    def reach(self, stream: str) -> bool:
        """Whether events of this stream can match."""
        return next(self._reaching(stream), None) is not None

    def contents(self, stream: str) -> Contents | None:
        """What events of this stream must hold to match; None where all of them do."""
        if self._by_stream is None:
            return Contents.of(list(self._reaching(stream)))
        category = category_of(stream)
        key = (
            stream if stream in self._by_stream else None,
            category if category in self._by_category else None,
        )
        if key not in self._contents:
            self._contents[key] = Contents.of(list(self._reaching(stream)))
        return self._contents[key]

    def match(self, stream: str, type_name: str, tags: Sequence[str]) -> bool:
        """Whether an event of this stream, type and tags is one that a selector asks for."""
        contents = self.contents(stream)
        if contents is None:
            return True
        return contents.match(type_name, tags)


def alternatives_of(selectors: tuple[Selector, ...]) -> Alternatives:
    """The selectors' `Alternatives`; those of many are kept, as each page asks for them again."""
    return (
        _kept_alternatives(selectors)
        if len(selectors) > _FEW_SELECTORS
        else Alternatives(selectors)
    )


_KEPT_QUERIES: Final = 4
"""Of how many large queries the index is kept: those that are read page by page at one time."""
_kept_alternatives: Final = lru_cache(_KEPT_QUERIES)(Alternatives)


class Contents:
    """Which types and tags some selectors ask for: any of the types and all of the tags."""

    __slots__ = ("_by_tag", "_selectors", "_types")

    @classmethod
    def of(cls, selectors: Sequence[Selector]) -> Contents | None:
        """Those of the selectors; None where one of them asks for neither."""
        return cls(selectors) if all(s.types or s.tags for s in selectors) else None

    def __init__(self, selectors: Sequence[Selector]) -> None:
        self._selectors = selectors
        self._types: set[str] = set()
        self._by_tag: dict[str, list[Selector]] | None = None
        if len(selectors) > _FEW_SELECTORS:
            self._by_tag = defaultdict(list)
            usual = Counter(chain.from_iterable(s.tags for s in selectors))
            for selector in selectors:
                if selector.tags:
                    self._by_tag[min(selector.tags, key=usual.__getitem__)].append(selector)
                else:
                    self._types |= selector.types

    def match(self, type_name: str, tags: Sequence[str]) -> bool:
        """Whether an event of this type, with these tags, is one that a selector asks for."""
        if self._by_tag is None:
            return any(s.takes(type_name, tags) for s in self._selectors)
        by_tag = self._by_tag
        return type_name in self._types or any(
            s.takes(type_name, tags) for tag in tags for s in by_tag.get(tag, ())
        )
