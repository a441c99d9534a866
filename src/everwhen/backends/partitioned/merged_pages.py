"""Pages of several partitions as one, in the order of positions."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Final

import msgspec

from everwhen.backends.engine import EngineLog, NotFetchedError
from everwhen.vocabulary.contract import Page, StoredSlice
from everwhen.vocabulary.paging import PAGE_EVENTS, next_page
from everwhen.vocabulary.query import Query

ReadPart = Callable[[int, Query, int], Page]
"""Reads a page of one partition, given its number."""

_LEAST_EVENTS: Final = 16
"""How many events are asked of each partition at least, so that few are asked for twice."""


def merged_page(
    parts: Sequence[int], read: ReadPart, query: Query, events: int, settled: int
) -> Page:
    """One page out of partitions that were written side by side.

    Each is asked for its share. What lies beyond the nearest end of their pages is left to the
    next one, so that nothing is passed over.
    """
    last = settled if query.last_position is None else min(query.last_position, settled)
    if query.after_position >= last or not parts:
        return Page([], max(query.after_position, last), end=True)
    asked = msgspec.structs.replace(query, last_position=last)
    share = events if len(parts) == 1 else max(events // len(parts), min(events, _LEAST_EVENTS))
    pages = [_within(read(part, asked, share), asked) for part in parts]
    if query.reverse:
        return _descending(pages, events, last)
    return _ascending(pages, events, last)


def following_page(
    parts: Sequence[tuple[int, int, int | None]],
    read: ReadPart,
    query: Query,
    events: int,
    settled: int,
) -> Page:
    """One page out of partitions that follow on each other.

    Of each its number, its first position, and its last one if another follows.
    """
    last = settled if query.last_position is None else min(query.last_position, settled)
    if query.after_position >= last:
        return Page([], query.after_position, end=True)
    reached = [
        (number, start, last if end is None else min(end, last))
        for number, start, end in parts
        if start <= last and (end is None or end > query.after_position)
    ]
    slices: Sequence[StoredSlice] = []
    for number, start, end in reversed(reached) if query.reverse else reached:
        asked = msgspec.structs.replace(query, last_position=end)
        page = _within(read(number, asked, events), asked)
        slices = [*slices, *page.slices] if slices and page.slices else slices or page.slices
        events -= sum([stored.count for stored in page.slices])
        if not page.end:
            return Page(slices, page.cursor, end=False)
        if events <= 0:
            cursor = start if query.reverse else end
            is_end = start - 1 <= query.after_position if query.reverse else end >= last
            return Page(slices, cursor, end=is_end)
    return Page(slices, last, end=True)


def slices_of(log: EngineLog, query: Query) -> Iterator[StoredSlice]:
    """Every slice that the query may match, page by page."""
    while True:
        try:
            page = log.read(query, PAGE_EVENTS)
        except NotFetchedError as missing:
            missing.fetch()
            continue
        yield from page.slices
        if page.end:
            return
        query = next_page(query, page)


def _within(page: Page, asked: Query) -> Page:
    """Without slices of which nothing is asked for: after a hole one may be the nearest."""
    last = asked.last_position or 0
    slices = page.slices
    if slices:
        newest = slices[0] if asked.reverse else slices[-1]
        if newest.position - newest.count >= last:
            kept = [s for s in slices if s.position - s.count < last]
            return msgspec.structs.replace(page, slices=kept)
    return page


def _ascending(pages: Sequence[Page], events: int, last: int) -> Page:
    frontier = min((page.cursor for page in pages if not page.end), default=None)
    found = [page.slices for page in pages if page.slices]
    if len(found) == 1 and (frontier is None or found[0][-1].position <= frontier):
        slices = found[0]
        return Page(slices, last if frontier is None else frontier, end=frontier is None)
    merged: list[StoredSlice] = []
    for stored in heapq.merge(*found, key=attrgetter("position")):
        if frontier is not None and stored.position > frontier:
            break
        if events <= 0:
            return Page(merged, merged[-1].position, end=False)
        merged.append(stored)
        events -= stored.count
    return Page(merged, last if frontier is None else frontier, end=frontier is None)


def _descending(pages: Sequence[Page], events: int, last: int) -> Page:
    frontier = max((page.cursor for page in pages if not page.end), default=None)
    found = [page.slices for page in pages if page.slices]
    merged: list[StoredSlice] = []
    for stored in heapq.merge(*found, key=attrgetter("position"), reverse=True):
        if frontier is not None and stored.position < frontier:
            break
        if events <= 0:
            oldest = merged[-1]
            return Page(merged, oldest.position - oldest.count + 1, end=False)
        merged.append(stored)
        events -= stored.count
    return Page(merged, last if frontier is None else frontier, end=frontier is None)
