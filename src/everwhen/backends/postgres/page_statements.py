"""The statements that pages are read by: one each, so that a page is of one moment.

What comes is bounded by the sizes of bodies before any of them is touched, as they may be large.
A statement ends one slice after what was asked for: so it is known whether there are more.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from psycopg.types.numeric import Int8

from everwhen.backends.index_terms import BLOCK, CATEGORY, TAG, TYPE
from everwhen.backends.postgres.statements import in_schema
from everwhen.backends.postgres.stored_rows import COLUMNS
from everwhen.backends.postgres.terms import term_of
from everwhen.vocabulary.query import Query, Selector
from everwhen.vocabulary.streams import MAX_POSITION

MAX_ROWS: Final = 2_000
"""How many slices are asked for at once."""
_FEW_ROWS: Final = 16
_KEPT: Final = 1_024
"""Of statements: a log has a few, and a branch is a log."""
_BEYOND: Final = 1 << 62
"""No position nor version is so late, and a little more than it is still a number to the server."""
_RARE_MARKS: Final = 256
"""How far marks are counted to tell which term is the rarest."""

_HEAD: Final = "SELECT position FROM log.slices ORDER BY position DESC LIMIT 1"
_LAST: Final = f"""
WITH window_end AS MATERIALIZED (
    SELECT coalesce(
        (SELECT position FROM log.slices WHERE position >= %(last)s ORDER BY position LIMIT 1),
        ({_HEAD}), 0
    ) AS last
)
"""
"""Where the window ends: a slice that the last position is in is looked at as a whole."""
_END: Final = "(SELECT last FROM window_end)"
_ENDS: Final = """
SELECT {end}, NULL::bigint, (SELECT max(last) FROM log.retired), 'log.slices'::regclass::bigint,
    NULL::bigint, NULL::bytea, NULL::bigint, NULL::bytea, NULL::bytea
UNION ALL
"""
"""The first row of each statement, with the end of the window in place of a position, where that is
known, the end of what was retired in place of a version, and the table's number in place of a
count."""
_ROWS_AND_END: Final = _ENDS.format(end=_END)
_BEFORE: Final = "sum(size::int) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) - size AS before"


class PageRange(NamedTuple):
    """The slice positions a page may come from: after ``after``, up to ``last``."""

    after: int
    last: int
    reverse: bool

    @property
    def is_empty(self) -> bool:
        """Whether no slice can be in it."""
        return self.after >= self.last

    def from_after(self, position: int) -> PageRange:
        """The part of it after a position."""
        return self._replace(after=position)

    def up_to(self, position: int) -> PageRange:
        """The part of it up to a position."""
        return self._replace(last=min(self.last, position))

    def beyond(self, position: int, count: int) -> PageRange:
        """What is left of it after a slice of so many events."""
        if self.reverse:
            return self._replace(last=position - count)
        return self._replace(after=position)


class Wanted(NamedTuple):
    """About how much is asked for: events, bytes of bodies, slices."""

    events: int
    volume: int
    slices: int

    @classmethod
    def at_most(cls, events: int, volume: int) -> Wanted:
        """As many slices as such events may take; of few more, as not all may match."""
        return cls(events, volume, min(MAX_ROWS, max(events, _FEW_ROWS)))


class PageStatement(NamedTuple):
    """One statement; ``is_by_events`` says that it ends with the events.

    ``stream`` is whose all that it gives is, where it asks for one stream.
    """

    sql: str
    parameters: Mapping[str, object]
    is_by_events: bool
    stream: str | None = None


class _Asked(NamedTuple):
    """Which ways lead to what is asked for, and whether one of several tags is to be chosen."""

    streams: bool
    tags: bool
    chooses: bool
    blocks: bool


def page_statement(schema: str, query: Query, window: PageRange, wanted: Wanted) -> PageStatement:
    """What gives the next slices that may match, and one more where there is one."""
    parameters: dict[str, object] = {
        "after": Int8(min(window.after, _BEYOND)),
        "last": Int8(min(window.last, _BEYOND)),
        "events": Int8(wanted.events),
        "volume": Int8(wanted.volume),
        "most": Int8(wanted.slices + 1),
        "least": Int8(min(query.min_version or 1, _BEYOND)),
    }
    if any(_asks_for_all(selector) for selector in query.selectors):
        upto = min(window.after + wanted.events, window.last)
        parameters["upto"] = Int8(min(upto, _BEYOND))
        sql = _everything(schema, reverse=window.reverse, is_bounded=upto == window.last)
        return PageStatement(sql, parameters, is_by_events=True)
    name = _only_stream(query)
    if name is not None and not window.reverse:
        parameters["name"] = name
        sql = _of_stream(schema, is_after=window.after > 0)
        return PageStatement(sql, parameters, is_by_events=True, stream=name)
    streams, tags, groups, blocks = _asked_for(query)
    parameters |= {"streams": streams, "terms": tags, "groups": groups, "blocks": blocks}
    asked = _Asked(bool(streams), bool(tags), len(tags) > len(set(groups)), bool(blocks))
    sql = _candidates(schema, asked, reverse=window.reverse)
    return PageStatement(sql, parameters, is_by_events=False)


def _asks_for_all(selector: Selector) -> bool:
    return not (selector.streams or selector.categories or selector.types or selector.tags)


def _only_stream(query: Query) -> str | None:
    """The one stream that the query is about."""
    if len(query.selectors) == 1 and len(query.selectors[0].streams) == 1:
        (name,) = query.selectors[0].streams
        return findable(name)
    return None


def _asked_for(query: Query) -> tuple[list[str], list[int], list[int], list[int]]:
    """Streams; terms of tags, and which selector each is of; terms that mark blocks."""
    streams: set[str] = set()
    tags: list[int] = []
    groups: list[int] = []
    blocks: set[int] = set()
    for number, selector in enumerate(query.selectors):
        if selector.streams:
            streams |= {name for name in selector.streams if is_text(name)}
        elif selector.tags:
            tags += [term_of(TAG, tag) for tag in sorted(selector.tags)]
            groups += [number] * len(selector.tags)
        elif selector.types:
            blocks |= {term_of(TYPE, name) for name in selector.types}
        else:
            blocks |= {term_of(CATEGORY, name) for name in selector.categories}
    return sorted(streams), tags, groups, sorted(blocks)


@lru_cache(_KEPT)
def _everything(schema: str, *, reverse: bool, is_bounded: bool) -> str:
    """Every slice, by position.

    The sizes are added up first: where they stay below the bound, which they mostly do, the rows
    are read as they are.
    """
    if reverse:
        order, farthest, bound = "position DESC", "min", "position >="
        bounds = f"""
        {_LAST}, page AS MATERIALIZED (SELECT last AS high, greatest(%(after)s + 1, coalesce((
            SELECT position FROM log.slices WHERE position <= last - %(events)s
            ORDER BY position DESC LIMIT 1
        ), 0)) AS far FROM window_end)
        """
        begun = f"position <= {_END}"
    else:
        order, farthest, bound = "position", "max", "position <="
        far = "SELECT position FROM log.slices WHERE position >= %(upto)s ORDER BY position LIMIT 1"
        if not is_bounded:
            far = f"""
            SELECT position FROM log.slices WHERE position > ({far}) ORDER BY position LIMIT 1
            """
        bounds = f"WITH page AS MATERIALIZED (SELECT coalesce(({far}), {MAX_POSITION}) AS far)"
        begun = "position > %(after)s"
    inside = f"{begun} AND {bound} (SELECT far FROM page)"
    sql = f"""
    {bounds} {_ENDS.format(end="NULL::bigint")} (
    SELECT {COLUMNS} FROM log.slices WHERE {begun} AND {bound} (
        SELECT CASE
            WHEN (SELECT sum(size::int) FROM log.slices WHERE {inside}) <= %(volume)s THEN far
            ELSE (
                SELECT {farthest}(position) FROM (
                    SELECT position, {_BEFORE.format(order=order)} FROM log.slices WHERE {inside}
                ) AS sizes WHERE before < %(volume)s
            )
        END FROM page
    ) ORDER BY {order})
    """
    return in_schema(sql, schema)


@lru_cache(_KEPT)
def _of_stream(schema: str, *, is_after: bool) -> str:
    """One stream's slices, by version: positions rise with them."""
    first = "%(least)s"
    if is_after:
        first = f"greatest({first}, log.first_version(id, %(after)s))"
    sql = f"""
    {_LAST}, stream AS MATERIALIZED (
        SELECT id, {first} AS first FROM log.streams WHERE name = %(name)s
    ), page AS MATERIALIZED (
        SELECT coalesce((
            SELECT version FROM log.slices WHERE stream = id AND version > (
                SELECT version FROM log.slices
                WHERE stream = id AND version >= first + %(events)s - 1 ORDER BY version LIMIT 1
            ) ORDER BY version LIMIT 1
        ), {MAX_POSITION}) AS far FROM stream
    )
    {_ROWS_AND_END} (
        SELECT {COLUMNS} FROM (
            SELECT *, {_BEFORE.format(order="version")} FROM log.slices
            WHERE stream = (SELECT id FROM stream) AND version >= (SELECT first FROM stream)
            AND version <= (SELECT far FROM page) AND position <= {_END}
        ) AS sizes WHERE before < %(volume)s ORDER BY version
    )
    """
    return in_schema(sql, schema)


@lru_cache(_KEPT)
def _candidates(schema: str, asked: _Asked, *, reverse: bool) -> str:
    """The slices that the indexes lead to, by position."""
    order = "DESC" if reverse else "ASC"
    rare = _RAREST if asked.chooses else ""
    terms = "SELECT term FROM rarest" if asked.chooses else "SELECT unnest(%(terms)s::bigint[])"
    parts = []
    if asked.streams:
        parts.append(_of_streams(order))
    if asked.tags:
        parts.append(_marked(terms, _END, "%(most)s", order))
    if asked.blocks:
        parts.append(_in_blocks(order))
    found = " UNION ".join(f"({part})" for part in parts) or "SELECT 0::bigint AS position LIMIT 0"
    sql = f"""
    {_LAST} {rare} {_ROWS_AND_END} (
        SELECT {COLUMNS} FROM (
            SELECT taken.*, {_BEFORE.format(order=f"position {order}")} FROM (
                SELECT slices.* FROM ({found}) AS found
                JOIN log.slices USING (position) ORDER BY position {order} LIMIT %(most)s
            ) AS taken
        ) AS sizes WHERE before < %(volume)s ORDER BY position {order}
    )
    """
    return in_schema(sql, schema)


_RAREST: Final = f"""
, rarest AS MATERIALIZED (
    SELECT DISTINCT ON (asked.selector) asked.term
    FROM unnest(%(groups)s::bigint[], %(terms)s::bigint[]) AS asked (selector, term)
    CROSS JOIN LATERAL (SELECT count(*) AS marks FROM (
        SELECT FROM log.marks WHERE marks.term = asked.term AND position > %(after)s
        AND position <= {_END} LIMIT {_RARE_MARKS}
    ) AS first_ones) AS counted
    ORDER BY asked.selector, counted.marks
)
"""
"""Of the tags that an event must have all of, that with the fewest marks."""


def _of_streams(order: str) -> str:
    """Where there are many streams, each is walked as far as the page may come from it."""
    inside = f"""
    version >= %(least)s AND version >= log.first_version(id, %(after)s) AND position <= {_END}
    """
    if order == "DESC":  # what is after the last position is skipped by version, too
        inside += f" AND version < log.first_version(id, {_END})"
    return f"""
    SELECT of_stream.position FROM log.streams CROSS JOIN LATERAL (
        SELECT position FROM log.slices WHERE stream = id AND {inside}
        ORDER BY version {order} LIMIT %(most)s
    ) AS of_stream WHERE name = ANY(%(streams)s) ORDER BY position {order} LIMIT %(most)s
    """


def _in_blocks(order: str) -> str:
    """The slices of blocks that are marked: each has one at least, but the first and the last."""
    blocks = _marked(
        "SELECT unnest(%(blocks)s::bigint[])", f"({_END} | {BLOCK - 1})", "(%(most)s + 2)", order
    )
    return f"""
    SELECT slices.position FROM ({blocks}) AS blocks JOIN log.slices
    ON slices.position > blocks.position - {BLOCK} AND slices.position <= blocks.position
    WHERE slices.position > %(after)s AND slices.position <= {_END}
    ORDER BY slices.position {order} LIMIT %(most)s
    """


def _marked(terms: str, last: str, most: str, order: str) -> str:
    """The first so many marks of any of the terms: each term's are walked no further than that."""
    return f"""
    SELECT DISTINCT of_term.position FROM ({terms}) AS asked (term) CROSS JOIN LATERAL (
        SELECT position FROM log.marks WHERE marks.term = asked.term AND position > %(after)s
        AND position <= {last} ORDER BY position {order} LIMIT {most}
    ) AS of_term ORDER BY of_term.position {order} LIMIT {most}
    """


def is_text(name: str) -> bool:
    """Whether PostgreSQL can store it: text without NUL, and valid Unicode."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name


def findable(name: str) -> str:
    """The name, or where none can be stored so, one that no name is."""
    return name if is_text(name) else "\x7f"
