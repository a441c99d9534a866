"""Pages of events: which slices a query has to look at, and the slices.

The server only narrows down, by the index that leads to the fewest; what matches is for
`everwhen.backends.query_matching` to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from psycopg import Connection

from everwhen.backends.index_terms import BLOCK, CATEGORY, TAG, TYPE, block_of, everything
from everwhen.backends.postgres.statements import in_schema, statements
from everwhen.backends.postgres.terms import term_of
from everwhen.backends.query_matching import Matcher
from everwhen.vocabulary.contract import Page, StoredSlice
from everwhen.vocabulary.query import Query, Selector
from everwhen.vocabulary.streams import MAX_POSITION

PostgresSession: TypeAlias = Connection[tuple[Any, ...]]

_PAGE_BYTES: Final = 1 << 20
"""Of bodies: a page ends after the slice that reaches it."""
_MAX_ROWS: Final = 2_000
"""How many slices are asked for at once."""
_MOST_LOOKED_AT: Final = 20_000
"""How many slices a page looks at before it ends without having found many matches."""

_COLUMNS: Final = (
    "position, name, version, count, recorded_at, commit_id, first_index, metadata, body"
)
_RARE_MARKS: Final = 256
"""How far marks are counted to tell which term is the rarest."""


class PageRange(NamedTuple):
    """The slice positions a page may come from: after ``after``, up to ``last``."""

    after: int
    last: int
    reverse: bool

    @property
    def order(self) -> str:
        """The direction, in SQL."""
        return "DESC" if self.reverse else "ASC"

    def beyond(self, position: int) -> PageRange:
        """What is left of it after a slice of this position."""
        if self.reverse:
            return self._replace(last=position - 1)
        return self._replace(after=position)


class Candidates(NamedTuple):
    """A query for positions, in their order, and its parameters."""

    sql: str
    parameters: tuple[object, ...]


def read_page(session: PostgresSession, schema: str, query: Query, events: int) -> Page:
    """One page of about ``events`` events, of the moment that the session's transaction sees."""
    window = _window(session, schema, query)
    if window is None:
        return Page([], query.after_position, end=True)
    matcher = Matcher(query)
    judges = not everything(query) or query.share is not None
    slices: list[StoredSlice] = []
    newest: StoredSlice | None = None
    size = volume = looked_at = 0
    left: PageRange = window
    while size < events and volume < _PAGE_BYTES and looked_at < _MOST_LOOKED_AT:
        most = min(_MAX_ROWS, max(events - size, 16))
        found, is_all = _some(session, schema, query, left, most, _PAGE_BYTES - volume)
        if not found:
            return Page(slices, window.last, end=True)
        looked_at += len(found)
        newest = found[-1]
        left = left.beyond(newest.position)
        matching = matcher.reached(found) if judges else found
        for stored in matching:
            slices.append(stored)
            size += stored.count
            volume += len(stored.body)
            if size >= events:
                is_all = is_all and stored is newest
                newest = stored
                break
        if is_all:
            return Page(slices, window.last, end=True)
    if newest is None:
        return Page(slices, window.last, end=True)
    cursor = newest.position - newest.count + 1 if window.reverse else newest.position
    return Page(slices, cursor, end=False)


def newer_slices(
    session: PostgresSession, schema: str, query: Query, after: int
) -> Iterator[StoredSlice]:
    """Every slice after a position that may match, in order."""
    left = PageRange(after, MAX_POSITION, reverse=False)
    while True:
        found, is_all = _some(session, schema, query, left, _MAX_ROWS, _PAGE_BYTES)
        yield from found
        if is_all or not found:
            return
        left = left.beyond(found[-1].position)


def _window(session: PostgresSession, schema: str, query: Query) -> PageRange | None:
    sql = statements("reading", schema)
    head = session.execute(sql["head"]).fetchone()
    newest = 0 if head is None else int(head[0])
    last = newest if query.last_position is None else min(query.last_position, newest)
    if query.after_position >= last:
        return None
    if last < newest:
        found = session.execute(sql["end_of_slice"], (last,)).fetchone()
        last = newest if found is None else int(found[0])
    return PageRange(query.after_position, last, query.reverse)


def _some(
    session: PostgresSession, schema: str, query: Query, window: PageRange, most: int, volume: int
) -> tuple[list[StoredSlice], bool]:
    """The next slices that may match, about so many bytes of them; whether there are no more."""
    candidates = _candidates(session, schema, query, window, most)
    inner = (
        f"SELECT slices.* FROM ({candidates.sql}) AS found JOIN log.slices USING (position) "
        f"ORDER BY position {window.order} LIMIT %s"
        if candidates is not None
        else "SELECT * FROM log.slices WHERE position > %s AND position <= %s "
        f"ORDER BY position {window.order} LIMIT %s"
    )
    parameters = (window.after, window.last) if candidates is None else candidates.parameters
    sql = (
        f"SELECT {_COLUMNS} FROM (SELECT taken.*, sum(size) OVER (ORDER BY position "
        f"{window.order}) - size AS before FROM ({inner}) AS taken) AS bounded "
        f"JOIN log.streams ON streams.id = stream WHERE before < %s ORDER BY position "
        f"{window.order}"
    )
    rows = session.execute(in_schema(sql, schema), (*parameters, most + 1, volume)).fetchall()
    slices = [slice_of(row) for row in rows]
    is_bounded = sum(len(stored.body) for stored in slices) >= volume
    return slices[:most], len(slices) <= most and not is_bounded


def slice_of(row: Sequence[Any]) -> StoredSlice:
    """The slice of a row of its columns, with its stream's name."""
    position, stream, version, count, recorded_at, commit_id, first_index, metadata, body = row
    return StoredSlice(
        position,
        stream,
        version,
        count,
        recorded_at,
        commit_id.bytes,
        first_index,
        metadata,
        body,
    )


def _candidates(
    session: PostgresSession, schema: str, query: Query, window: PageRange, most: int
) -> Candidates | None:
    """Where matches may be; None where they may be anywhere."""
    parts: list[Candidates] = []
    streams: set[str] = set()
    by_term: dict[int, set[str]] = {TAG: set(), TYPE: set(), CATEGORY: set()}
    for selector in query.selectors:
        if selector.streams:
            streams |= selector.streams
        elif selector.tags:
            by_term[TAG].add(_rarest(session, schema, selector, window))
        elif selector.types:
            by_term[TYPE] |= selector.types
        elif selector.categories:
            by_term[CATEGORY] |= selector.categories
        else:
            return None
    if streams:
        parts.append(_of_streams(streams, query, window, most))
    tags = [term_of(TAG, tag) for tag in by_term.pop(TAG)]
    if tags:
        parts.append(_tagged(tags, window, most))
    blocks = [term_of(kind, name) for kind, names in by_term.items() for name in names]
    if blocks:
        parts.append(_in_blocks(blocks, window, most))
    if not parts:
        return Candidates("SELECT 0::bigint AS position WHERE false", ())
    together = " UNION ".join(f"({part.sql})" for part in parts)
    return Candidates(together, tuple(one for part in parts for one in part.parameters))


def _of_streams(names: set[str], query: Query, window: PageRange, most: int) -> Candidates:
    """The slices of streams; positions rise with versions, so that a stream is read in its order.

    Where there are many, each is walked as far as the page may come from it.
    """
    known = [name for name in names if _is_text(name)]
    versions = "version >= log.first_version(id, %s) AND version >= %s"
    sql = (
        "SELECT of_stream.position FROM log.streams CROSS JOIN LATERAL ("
        f"SELECT position FROM log.slices WHERE stream = id AND {versions} AND position <= %s "
        f"ORDER BY version {window.order} LIMIT %s) AS of_stream WHERE name = ANY(%s) "
        f"ORDER BY position {window.order} LIMIT %s"
    )
    if window.reverse:  # what is after the last position is skipped by version, too
        sql = sql.replace("position <= %s", "version < log.first_version(id, %s)")
    least = query.min_version or 0
    return Candidates(sql, (window.after, least, window.last, most + 1, known, most + 1))


def _tagged(terms: list[int], window: PageRange, most: int) -> Candidates:
    marks, parameters = _marked(terms, window, window.last, most + 1)
    return Candidates(marks, parameters)


def _in_blocks(terms: list[int], window: PageRange, most: int) -> Candidates:
    """The slices of blocks that are marked: each has one at least, but the first and the last."""
    marks, parameters = _marked(terms, window, block_of(window.last), most + 3)
    sql = (
        f"SELECT slices.position FROM ({marks}) AS blocks JOIN log.slices "
        f"ON slices.position > blocks.position - {BLOCK} AND slices.position <= blocks.position "
        "WHERE slices.position > %s AND slices.position <= %s "
        f"ORDER BY slices.position {window.order} LIMIT %s"
    )
    return Candidates(sql, (*parameters, window.after, window.last, most + 1))


def _marked(
    terms: list[int], window: PageRange, last: int, most: int
) -> tuple[str, tuple[object, ...]]:
    """The first so many marks of any of the terms: each term's are walked no further than that."""
    sql = (
        "SELECT DISTINCT of_term.position FROM unnest(%s::bigint[]) AS asked (term) "
        "CROSS JOIN LATERAL (SELECT position FROM log.marks WHERE marks.term = asked.term "
        f"AND position > %s AND position <= %s ORDER BY position {window.order} LIMIT %s) "
        f"AS of_term ORDER BY of_term.position {window.order} LIMIT %s"
    )
    return sql, (terms, window.after, last, most, most)


def _rarest(session: PostgresSession, schema: str, selector: Selector, window: PageRange) -> str:
    """The tag with the fewest marks, of those that an event must have all of."""
    tags = sorted(selector.tags)
    if len(tags) == 1:
        return tags[0]
    sql = in_schema(
        "SELECT count(*) FROM (SELECT FROM log.marks WHERE term = %s AND position > %s "
        f"AND position <= %s LIMIT {_RARE_MARKS}) AS counted",
        schema,
    )

    def marks(tag: str) -> int:
        found = session.execute(sql, (term_of(TAG, tag), window.after, window.last)).fetchone()
        return 0 if found is None else int(found[0])

    return min(tags, key=marks)


def _is_text(name: str) -> bool:
    """Whether PostgreSQL can store it: text without NUL, and valid Unicode."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name


def findable(name: str) -> str:
    """The name, or where none can be stored so, one that no name is."""
    return name if _is_text(name) else "\x7f"
