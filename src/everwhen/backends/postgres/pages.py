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
from typing import Final, NamedTuple

from everwhen.backends.engine import NotFetchedError
from everwhen.backends.index_terms import everything
from everwhen.backends.postgres.page_statements import (
    MAX_ROWS,
    PageRange,
    Wanted,
    findable,
    page_statement,
)
from everwhen.backends.postgres.sealed_bodies import SealedBodies, again_where_moved, retired_error
from everwhen.backends.postgres.statements import PostgresSession, statements
from everwhen.backends.postgres.stored_rows import (
    BODY,
    COUNT,
    POSITION,
    VERSION,
    KnownStreams,
    slices_of,
)
from everwhen.backends.query_matching import Matcher
from everwhen.vocabulary.contract import Page, StoredSlice
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.streams import MAX_POSITION

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


class _InRetiredError(Exception):
    """The window begins before the end of what was retired, ``last``."""

    def __init__(self, last: int) -> None:
        super().__init__(last)
        self.last = last


class _Reading(NamedTuple):
    """What a page is read by."""

    session: PostgresSession
    schema: str
    query: Query
    bodies: SealedBodies
    streams: KnownStreams


def read_page(
    session: PostgresSession,
    schema: str,
    query: Query,
    events: int,
    bodies: SealedBodies,
    streams: KnownStreams | None = None,
) -> Page:
    """One page of about ``events`` events, of one moment.

    Raises `RetiredError` where what was retired may have been in it, and `NotFetchedError` where
    it begins in an archive's object that has to be fetched first, unless the bodies wait for that.
    """
    reading = _Reading(session, schema, query, bodies, streams or KnownStreams())
    last = MAX_POSITION if query.last_position is None else query.last_position
    window, lacks = PageRange(query.after_position, last, query.reverse), False
    while True:
        try:
            page = _page_of(reading, window, events)
        except _InRetiredError as retired:
            lacks = _lacks_retired(reading, window, retired.last)
            window = window.from_after(retired.last)
            continue
        if lacks and page.end:  # whoever wants what is before that asks for it, and is told
            return Page(page.slices, window.after + 1, end=False)
        return page


def _lacks_retired(reading: _Reading, window: PageRange, retired: int) -> bool:
    """Whether what was retired may have matched. Raises `RetiredError` where it came next."""
    query, session, schema = reading.query, reading.session, reading.schema
    if query.skips_retired:
        return False
    if len(query.selectors) == 1 and len(query.selectors[0].streams) == 1:
        (name,) = query.selectors[0].streams  # of one stream it is known
        bounds = {"name": findable(name), "last": retired}
        sql = statements("tiers", schema)["retired_version"]
        found = session.execute(sql, bounds).fetchone()
        if (0 if found is None else int(found[0])) < max(1, query.min_version or 0):
            return False
    if window.last <= retired or not query.reverse:
        raise retired_error(session, schema)
    return True


def _page_of(reading: _Reading, left: PageRange, events: int) -> Page:
    query = reading.query
    matcher = Matcher(query)
    judges = not everything(query) or query.share is not None
    slices: list[StoredSlice] = []
    newest: StoredSlice | None = None
    size = volume = looked_at = 0
    while not left.is_empty:
        wanted = Wanted.at_most(events - size, _PAGE_BYTES - volume)
        try:
            found = _some(reading, left, wanted)
        except NotFetchedError:
            if newest is None:
                raise
            return Page(slices, _cursor(newest, query), end=False)
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
            return Page(slices, _cursor(newest, query), end=False)
        left = left.beyond(newest.position, newest.count)
    return Page(slices, left.after, end=True)


def _cursor(newest: StoredSlice, query: Query) -> int:
    return newest.position - newest.count + 1 if query.reverse else newest.position


def newer_slices(
    session: PostgresSession, schema: str, query: Query, after: int, bodies: SealedBodies
) -> Iterator[StoredSlice]:
    """Every slice after a position that may match, in order.

    Raises `RetiredError` where some of them were retired.
    """
    left = PageRange(after, MAX_POSITION, reverse=False)
    wanted = Wanted.at_most(MAX_ROWS, _PAGE_BYTES)
    reading = _Reading(session, schema, query, bodies, KnownStreams())
    while True:
        try:
            found = _some(reading, left, wanted)
        except _InRetiredError:
            raise retired_error(session, schema) from None
        yield from found.slices
        if found.is_all:
            return
        left = left.from_after(found.slices[-1].position)


def _enough(slices: list[StoredSlice], events: int) -> list[StoredSlice]:
    """The first slices that have so many events."""
    reached = bisect_left(list(accumulate([stored.count for stored in slices])), events)
    return slices[: reached + 1]


@again_where_moved
def _some(reading: _Reading, window: PageRange, wanted: Wanted) -> _Found:
    """The next slices that may match. Raises `_InRetiredError`."""
    session, schema = reading.session, reading.schema
    statement = page_statement(schema, reading.query, window, wanted)
    cursor = session.cursor(binary=True)
    cursor.execute(statement.sql, statement.parameters, prepare=True)
    ends, *rows = cursor.fetchall()
    told, retired = ends[POSITION], ends[VERSION] or 0
    if window.after < retired:
        raise _InRetiredError(retired)
    is_all = sum([len(row[BODY]) for row in rows]) < wanted.volume
    some = rows[: wanted.slices]
    if statement.is_by_events:
        reached = bisect_left(list(accumulate([row[COUNT] for row in rows])), wanted.events)
        some = rows[: reached + 1]
    if statement.stream is not None:
        names = [statement.stream] * len(some)
    else:
        names = reading.streams.of_each(session, schema, ends[COUNT], some)
    named = slices_of(some, names)
    slices = reading.bodies.with_bodies(session, schema, named, wanted.volume)
    volume = sum([len(stored.body) for stored in slices])
    is_all = is_all and len(slices) == len(rows)
    if not slices:
        return _Found(slices, volume, is_all, told or 0)
    newest = slices[-1]
    inside = window if told is None else window.up_to(told)
    is_all = is_all or inside.beyond(newest.position, newest.count).is_empty
    return _Found(slices, volume, is_all, newest.position if told is None else told)
