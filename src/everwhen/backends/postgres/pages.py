"""Pages of events: which slices a query has to look at, and the slices.

The server only narrows down, by the index that leads to the fewest; what matches is for
`everwhen.backends.query_matching` to say.

A page is mostly one statement, which sees one moment. Where few of its slices match, more follow:
what is at a position never changes and nothing comes before what was seen, so together they are as
of the last one's moment.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, Final, NamedTuple, TypeAlias

from psycopg import Connection

from everwhen.backends.index_terms import everything
from everwhen.backends.postgres.page_statements import MAX_ROWS, PageRange, Wanted, page_statement
from everwhen.backends.postgres.stored_rows import (
    BYTES,
    COUNT,
    POSITION,
    KnownStreams,
    SliceRow,
    slices_of,
)
from everwhen.backends.query_matching import Matcher
from everwhen.vocabulary.contract import Page, StoredSlice
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.streams import MAX_POSITION

PostgresSession: TypeAlias = Connection[tuple[Any, ...]]

_PAGE_BYTES: Final = 1 << 20
"""Of bodies: a page ends after the slice that reaches it."""
_MOST_LOOKED_AT: Final = 20_000
"""How many slices a page looks at before it ends without having found many matches."""


class _Found(NamedTuple):
    """The next slices that may match, and how many bytes they have.

    Whether there are no more of them, and where the window ends.
    """

    slices: list[StoredSlice]
    volume: int
    is_all: bool
    last: int


def read_page(
    session: PostgresSession,
    schema: str,
    query: Query,
    events: int,
    streams: KnownStreams | None = None,
) -> Page:
    """One page of about ``events`` events, of one moment."""
    last = MAX_POSITION if query.last_position is None else query.last_position
    left = PageRange(query.after_position, last, query.reverse)
    known = streams or KnownStreams()
    matcher = Matcher(query)
    judges = not everything(query) or query.share is not None
    slices: list[StoredSlice] = []
    size = volume = looked_at = 0
    while not left.is_empty:
        wanted = Wanted.at_most(events - size, _PAGE_BYTES - volume)
        found = _some(session, schema, query, left, wanted, known)
        looked_at += len(found.slices)
        volume += found.volume
        matching = some = found.slices
        if judges:
            matching = matcher.reached(matching)
            some = _enough(matching, wanted.events)
        slices += some
        size += sum([stored.count for stored in some])
        if found.is_all and len(some) == len(matching):
            return Page(slices, max(found.last, left.after), end=True)
        newest = some[-1] if len(some) < len(matching) else found.slices[-1]
        if size >= events or volume >= _PAGE_BYTES or looked_at >= _MOST_LOOKED_AT:
            cursor = newest.position - newest.count + 1 if query.reverse else newest.position
            return Page(slices, cursor, end=False)
        left = left.beyond(newest.position, newest.count)
    return Page(slices, left.after, end=True)


def newer_slices(
    session: PostgresSession, schema: str, query: Query, after: int
) -> Iterator[StoredSlice]:
    """Every slice after a position that may match, in order."""
    left = PageRange(after, MAX_POSITION, reverse=False)
    wanted, known = Wanted.at_most(MAX_ROWS, _PAGE_BYTES), KnownStreams()
    while True:
        found = _some(session, schema, query, left, wanted, known)
        yield from found.slices
        if found.is_all:
            return
        left = left._replace(after=found.slices[-1].position)


def _enough(slices: list[StoredSlice], events: int) -> list[StoredSlice]:
    """The first slices that have so many events."""
    reached = bisect_left(list(accumulate([stored.count for stored in slices])), events)
    return slices[: reached + 1]


def _some(
    session: PostgresSession,
    schema: str,
    query: Query,
    window: PageRange,
    wanted: Wanted,
    known: KnownStreams,
) -> _Found:
    """The next slices that may match."""
    statement = page_statement(schema, query, window, wanted)
    cursor = session.cursor(binary=True)
    cursor.execute(statement.sql, statement.parameters, prepare=True)
    rows: list[SliceRow] = cursor.fetchall()
    told = rows.pop(0)[POSITION] if statement.tells_end else None
    volume = sum([row[BYTES] for row in rows])
    some = rows[: wanted.slices]
    if statement.is_by_events:
        reached = bisect_left(list(accumulate([row[COUNT] for row in rows])), wanted.events)
        some = rows[: reached + 1]
    slices = slices_of(some, known.of_each(session, schema, some))
    is_all = volume < wanted.volume and len(some) == len(rows)
    if not slices:
        return _Found(slices, volume, is_all, told or 0)
    newest = slices[-1]
    inside = window if told is None else window._replace(last=min(window.last, told))
    is_all = is_all or inside.beyond(newest.position, newest.count).is_empty
    return _Found(slices, volume, is_all, newest.position if told is None else told)
