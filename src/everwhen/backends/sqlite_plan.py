"""Which slices a query has to look at: the cheapest index for each part of it.

A plan gives ascending (or descending) slice positions lazily. It may give too many, never too
few; `everwhen.matching` has the last word.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final, TypeAlias

import apsw

from everwhen.query import Query, Selector

TAG: Final = 1
TYPE: Final = 2
CATEGORY: Final = 3
BLOCK: Final = 256

_MERGED_STREAMS: Final = 64
_SHORT_SCAN: Final = 512

Positions: TypeAlias = Iterator[int]


def block_of(position: int) -> int:
    """The last position of the block that the position is in."""
    return position | (BLOCK - 1)


class Window:
    """The slice positions a page may come from: behind ``after``, up to ``last``."""

    __slots__ = ("after", "last", "reverse")

    def __init__(self, after: int, last: int, *, reverse: bool) -> None:
        self.after = after
        self.last = last
        self.reverse = reverse

    @property
    def order(self) -> str:
        """The direction, in SQL."""
        return "DESC" if self.reverse else "ASC"


def candidates(connection: apsw.Connection, query: Query, window: Window) -> Positions | None:
    """Positions of slices that may match; None where every slice has to be looked at."""
    if window.last - window.after <= _SHORT_SCAN:
        return None
    plans: list[Positions] = []
    for selector in query.selectors:
        plan = _selector_candidates(connection, selector, query, window)
        if plan is None:
            return None
        plans.append(plan)
    if len(plans) == 1:
        return plans[0]
    return _distinct(heapq.merge(*plans, reverse=window.reverse))


def _selector_candidates(
    connection: apsw.Connection, selector: Selector, query: Query, window: Window
) -> Positions | None:
    if selector.streams and len(selector.streams) <= _MERGED_STREAMS:
        ids = [_id_of_stream(connection, name) for name in sorted(selector.streams)]
        streams = [stream_positions(connection, i, query, window) for i in ids if i is not None]
        return heapq.merge(*streams, reverse=window.reverse)
    if selector.tags:
        return _tagged(connection, selector.tags, window)
    if selector.types:
        return _in_blocks(connection, TYPE, selector.types, window)
    if selector.categories:
        return _in_blocks(connection, CATEGORY, selector.categories, window)
    return None


def _distinct(positions: Positions) -> Positions:
    before = None
    for position in positions:
        if position != before:
            yield position
        before = position


def _id_of_stream(connection: apsw.Connection, name: str) -> int | None:
    found = connection.execute("SELECT id FROM streams WHERE name = ?", (name,)).get
    return None if found is None else int(found)


def stream_positions(
    connection: apsw.Connection, stream: int, query: Query, window: Window
) -> Positions:
    """One stream's slices; positions rise with versions, so both bounds become versions."""
    least = max(query.min_version or 0, first_version_after(connection, stream, window.after))
    if window.reverse:
        most = first_version_after(connection, stream, window.last - 1)
        sql = (
            "SELECT position FROM slices WHERE stream = ? AND version >= ? AND version <= ? "
            "ORDER BY version DESC"
        )
        rows = connection.execute(sql, (stream, least, most or _END))
    else:
        sql = "SELECT position FROM slices WHERE stream = ? AND version >= ? ORDER BY version"
        rows = connection.execute(sql, (stream, least))
    for (position,) in rows:
        if position <= window.last:
            yield position
        elif not window.reverse:
            return


_END: Final = (1 << 63) - 1


def first_version_after(connection: apsw.Connection, stream: int, position: int) -> int:
    """The version of a stream's first slice behind the position, by bisection.

    0 where the stream begins behind it, and past the last version where nothing follows.
    """
    if position <= 0:
        return 0
    newest = connection.execute(
        "SELECT version, position FROM slices WHERE stream = ? ORDER BY version DESC LIMIT 1",
        (stream,),
    ).get
    if newest is None:
        return 0
    low, high = 1, newest[0] + 1
    if newest[1] <= position:
        return int(high)
    while low < high:
        middle = (low + high) // 2
        version, found = connection.execute(
            "SELECT version, position FROM slices WHERE stream = ? AND version >= ? "
            "ORDER BY version LIMIT 1",
            (stream, middle),
        ).get
        if found <= position:
            low = version + 1
        else:
            high = middle
    return low


def _tagged(connection: apsw.Connection, tags: frozenset[str], window: Window) -> Positions:
    terms = _term_ids(connection, TAG, tags)
    if len(terms) < len(tags):
        return
    joins = "".join(
        f" JOIN marks AS m{i} ON m{i}.term = ? AND m{i}.position = m0.position"
        for i in range(1, len(terms))
    )
    sql = (
        f"SELECT m0.position FROM marks AS m0{joins} WHERE m0.term = ? AND m0.position > ? "
        f"AND m0.position <= ? ORDER BY m0.position {window.order}"
    )
    rows = connection.execute(sql, (*terms[1:], terms[0], window.after, window.last))
    for (position,) in rows:
        yield position


def _in_blocks(
    connection: apsw.Connection, kind: int, names: frozenset[str], window: Window
) -> Positions:
    marks = [_blocks_of(connection, term, window) for term in _term_ids(connection, kind, names)]
    sql = (
        f"SELECT position FROM slices WHERE position > ? AND position <= ? "
        f"ORDER BY position {window.order}"
    )
    for block in _distinct(heapq.merge(*marks, reverse=window.reverse)):
        bounds = (max(block - BLOCK, window.after), min(block, window.last))
        for (position,) in connection.execute(sql, bounds):
            yield position


def _blocks_of(connection: apsw.Connection, term: int, window: Window) -> Positions:
    rows = connection.execute(
        f"SELECT position FROM marks WHERE term = ? AND position > ? AND position <= ? "
        f"ORDER BY position {window.order}",
        (term, window.after, block_of(window.last)),
    )
    for (position,) in rows:
        yield position


def _term_ids(connection: apsw.Connection, kind: int, names: frozenset[str]) -> list[int]:
    found = [
        connection.execute("SELECT id FROM terms WHERE kind = ? AND name = ?", (kind, name)).get
        for name in sorted(names)
    ]
    return [int(term) for term in found if term is not None]
