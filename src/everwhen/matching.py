"""Which events of a slice a query picks: the one place that knows, for every backend.

Backends only narrow down which slices can match, by whatever index they have.
"""

from __future__ import annotations

from collections.abc import Sequence

from everwhen.codec import Entry
from everwhen.contract import StoredSlice, to_micros
from everwhen.query import Query, Selector


def reaches(query: Query, stored: StoredSlice) -> bool:
    """Whether the slice can hold a match, judged without looking into its body."""
    first_position = stored.position - stored.count + 1
    first_version = stored.version - stored.count + 1
    return (
        stored.position > query.after_position
        and (query.last_position is None or first_position <= query.last_position)
        and (query.recorded_until is None or stored.recorded_at <= query.recorded_until)
        and (query.min_version is None or stored.version >= query.min_version)
        and (query.max_version is None or first_version <= query.max_version)
        and any(s.reaches(stored.stream) for s in query.selectors)
    )


def picked(query: Query, stored: StoredSlice, entries: Sequence[Entry]) -> list[int] | None:
    """The indexes of the matching events in the slice, ascending; None for all of them."""
    if not reaches(query, stored):
        return []
    selectors = [s for s in query.selectors if s.reaches(stored.stream)]
    by_type_or_tag = all(s.types or s.tags for s in selectors)
    first, last = _bounds(query, stored)
    if not by_type_or_tag and query.occurred_until is None:
        whole = first == 0 and last == stored.count - 1
        return None if whole else list(range(first, last + 1))
    return [
        i
        for i in range(first, last + 1)
        if (not by_type_or_tag or any(_has(s, entries[i]) for s in selectors))
        and _occurred_in_time(query.occurred_until, stored, entries[i])
    ]


def _bounds(query: Query, stored: StoredSlice) -> tuple[int, int]:
    """The first and last index that the query's positions and versions leave."""
    first_position = stored.position - stored.count + 1
    first_version = stored.version - stored.count + 1
    first, last = max(0, query.after_position + 1 - first_position), stored.count - 1
    if query.min_version is not None:
        first = max(first, query.min_version - first_version)
    if query.last_position is not None:
        last = min(last, query.last_position - first_position)
    if query.max_version is not None:
        last = min(last, query.max_version - first_version)
    return first, last


def _has(selector: Selector, entry: Entry) -> bool:
    return (not selector.types or entry.type in selector.types) and selector.tags.issubset(
        entry.tags
    )


def _occurred_in_time(until: int | None, stored: StoredSlice, entry: Entry) -> bool:
    if until is None:
        return True
    metadata = entry.metadata
    if metadata is None or metadata.occurred_at is None:
        return stored.recorded_at <= until
    return to_micros(metadata.occurred_at) <= until
