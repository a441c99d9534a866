"""Which events of a slice a query picks: the one place that knows, for every backend.

Backends only narrow down which slices can match, by whatever index they have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from everwhen.codec import Entry
from everwhen.contract import StoredSlice, to_micros
from everwhen.query import Query, Selector

_END: Final = (1 << 63) - 1


class Matcher:
    """A query, prepared for judging many slices."""

    __slots__ = (
        "_after",
        "_every_stream",
        "_first_version",
        "_last",
        "_last_version",
        "_occurred_until",
        "_reached",
        "_recorded_until",
        "_selectors",
        "_whole_slices",
    )

    def __init__(self, query: Query) -> None:
        self._selectors = query.selectors
        self._after = query.after_position
        self._last = _END if query.last_position is None else query.last_position
        self._first_version = query.min_version or 0
        self._last_version = _END if query.max_version is None else query.max_version
        self._recorded_until = _END if query.recorded_until is None else query.recorded_until
        self._occurred_until = query.occurred_until
        self._reached: dict[str, bool] = {}
        self._every_stream = any(not s.streams and not s.categories for s in query.selectors)
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
        one, other = slices[0], slices[-1]
        low, high = (one, other) if one.position <= other.position else (other, one)
        if low.position - low.count < self._after or high.position > self._last:
            return False
        if self._every_stream:
            return True
        return all(self._reaches_stream(name) for name in {s.stream for s in slices})

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
            reached = any(s.reaches(stream) for s in self._selectors)
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
        selectors = [s for s in self._selectors if s.reaches(stored.stream)]
        by_type_or_tag = all(s.types or s.tags for s in selectors)
        if not by_type_or_tag and self._occurred_until is None:
            whole = first == 0 and last == stored.count - 1
            return None if whole else list(range(first, last + 1))
        return [
            i
            for i in range(first, last + 1)
            if (not by_type_or_tag or any(_has(s, entries[i]) for s in selectors))
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


def _has(selector: Selector, entry: Entry) -> bool:
    return (not selector.types or entry.type in selector.types) and selector.tags.issubset(
        entry.tags
    )
