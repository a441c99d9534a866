"""Which slices a query has to look at: the cheapest index for each part of it.

A plan yields ranges of slice positions, disjoint and in the query's direction, lazily. It may take
in too much, never too little; `everwhen.backends.query_matching` has the last word.
"""

from __future__ import annotations

import heapq
import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Final, TypeAlias, TypeVar

import apsw

from everwhen.backends.index_terms import BLOCK, CATEGORY, TAG, TYPE, block_of
from everwhen.backends.sqlite.segments import Segments
from everwhen.backends.sqlite.statements import statements
from everwhen.codec.frames import SliceRow
from everwhen.system.sqlite_values import stored_int
from everwhen.vocabulary.query import Query, Selector, Share

T = TypeVar("T")

_SQL: Final = statements("reading")
_SEALED: Final = statements("sealed")

MAX_INTEGER: Final = (1 << 63) - 1
"""SQLite's largest."""

_COLUMNS: Final = (
    "position, stream, version, count, recorded_at, commit_id, first_index, metadata, body"
)

IN_SHARE: Final = "in_share"
"""The SQL function that says whether a stream is in the query's share."""

_MAX_MERGED: Final = 64
"""How many ranges are walked side by side, each with a statement of its own."""

_SHORT_SCAN: Final = 512
"""How many positions are looked at one by one sooner than an index is asked."""

_EXACT_GAIN: Final = 64
"""An index that leads to the very slices is worth that many times as many lookups."""

_LONG_RANGE: Final = 16 * BLOCK
"""How many positions a range takes in at most when it is joined with others, or looked up at first:
a page seldom needs more."""

_MAX_LISTED: Final = 1_000_000
"""How many positions are listed in memory at most, some 40 MB."""

_MAX_JOINED: Final = 4
"""How many terms SQLite joins: what more there are, narrow little."""

_RARE_MARKS: Final = 256
"""How far marks are counted to tell which term is the rarest."""

Row: TypeAlias = SliceRow
Range: TypeAlias = tuple[int, int]
"""The slices after the first position, up to the second."""
Ranges: TypeAlias = Iterator[Range]


def searchable(name: str) -> str:
    """The name, or where it isn't valid Unicode one that no stored name can be."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "\x00"
    return name


class Window:
    """The slice positions a page may come from: after ``after``, up to ``last``.

    Up to ``border`` they are in ``segments``, after it in rows. Both are true of one moment, so
    what is read of a window is read in one transaction. ``lacks`` says that what was asked for
    before that was retired.
    """

    __slots__ = ("after", "border", "lacks", "last", "reverse", "segments")

    def __init__(
        self,
        after: int,
        last: int,
        border: int,
        segments: Segments,
        *,
        reverse: bool,
        lacks: bool = False,
    ) -> None:
        self.lacks = lacks
        self.after = after
        self.last = last
        self.border = border
        self.segments = segments
        self.reverse = reverse

    @property
    def is_long(self) -> bool:
        """Whether it has more than a few slices."""
        return self.last - self.after > BLOCK

    @property
    def hot(self) -> Range:
        """The part of it that is in rows; it may be empty."""
        return max(self.after, self.border), self.last

    @property
    def cold(self) -> Range | None:
        """The part of it that is sealed."""
        return (self.after, min(self.last, self.border)) if self.after < self.border else None

    def both(self, cold: Iterator[T], hot: Iterator[T]) -> Iterator[T]:
        """What is sealed and what isn't, in its direction."""
        return chain(hot, cold) if self.reverse else chain(cold, hot)

    @property
    def order(self) -> str:
        """The direction, in SQL."""
        return "DESC" if self.reverse else "ASC"


def rows_in(connection: apsw.Connection, window: Window) -> Iterator[Row]:
    """Every slice in the window, in its direction."""
    return _rows_in(connection, [(window.after, window.last)], window)


def rows_to_judge(connection: apsw.Connection, query: Query, window: Window) -> Iterator[Row]:
    """Every slice in the window that may hold a match, in the query's direction.

    Of sealed ones none is looked at that its index doesn't lead to: it may be in an archive.
    """
    exact = all(selector.streams or selector.tags for selector in query.selectors)
    is_long = window.last - window.after > _SHORT_SCAN // (_EXACT_GAIN if exact else 1)
    if is_long or window.cold is not None:
        if len(query.selectors) == 1 and len(query.selectors[0].streams) == 1:
            (name,) = query.selectors[0].streams
            return _rows_of_stream(connection, name, query, window)
        ranges = _ranges(connection, query, window)
        if ranges is not None:
            return _rows_in(connection, _joined(ranges, window), window, query.share)
    return _rows_in(connection, [(window.after, window.last)], window, query.share)


def _rows_in(
    connection: apsw.Connection,
    ranges: Iterator[Range] | Sequence[Range],
    window: Window,
    share: Share | None = None,
) -> Iterator[Row]:
    shared = "" if share is None else f"AND {IN_SHARE}(stream) "
    sql = (
        f"SELECT {_COLUMNS} FROM slices WHERE position > ? AND position <= ? {shared}"
        f"ORDER BY position {window.order}"
    )
    return chain.from_iterable(
        _rows_between(connection, sql, low, high, window) for low, high in ranges
    )


def _rows_between(
    connection: apsw.Connection, sql: str, low: int, high: int, window: Window
) -> Iterator[Row]:
    """The slices of a range that are in rows, and those that are sealed, in direction."""
    border = window.border
    hot = connection.execute(sql, (max(low, border), high)) if high > border else iter(())
    if low >= border:
        return hot
    last = min(high, border)
    cold = window.segments.rows(connection, low, last, reverse=window.reverse)
    return window.both(cold, hot)


def _rows_of_stream(
    connection: apsw.Connection, name: str, query: Query, window: Window
) -> Iterator[Row]:
    stream = _id_of_stream(connection, name)
    if stream is None:
        return iter(())
    hot = _stream_rows(connection, _COLUMNS, stream, query, window)
    if window.cold is None:
        return hot
    sealed = _sealed_of_stream(connection, stream, query, window)
    return window.both((_row_of(connection, stream, one, window) for one in sealed), hot)


def _row_of(connection: apsw.Connection, stream: int, position: int, window: Window) -> Row:
    row = window.segments.row_at(connection, position)
    if row[:2] != (position, stream):
        raise apsw.CorruptError(f"the index leads to another stream at position {position}")
    return row


def _ranges(connection: apsw.Connection, query: Query, window: Window) -> Ranges | None:
    """Where matches may be; None where they may be anywhere."""
    if len(query.selectors) > _MAX_MERGED:
        return _ranges_of_many(connection, query, window)
    plans: list[Ranges] = []
    for selector in query.selectors:
        plan = _selector_ranges(connection, selector, query, window)
        if plan is None:
            return None
        plans.append(plan)
    return _merged(plans, window)


def _selector_ranges(
    connection: apsw.Connection, selector: Selector, query: Query, window: Window
) -> Ranges | None:
    if selector.streams and len(selector.streams) <= _MAX_MERGED:
        ids = [_id_of_stream(connection, name) for name in sorted(selector.streams)]
        streams = [_stream_ranges(connection, i, query, window) for i in ids if i is not None]
        return _merged(streams, window)
    if selector.tags:
        return _tagged(connection, selector.tags, window)
    if selector.types:
        return _in_blocks(connection, TYPE, selector.types, window)
    if selector.categories:
        return _in_blocks(connection, CATEGORY, selector.categories, window)
    return None


def _merged(plans: list[Ranges], window: Window) -> Ranges:
    if len(plans) == 1:
        return plans[0]
    if window.reverse:
        return heapq.merge(*plans, key=itemgetter(1), reverse=True)
    return heapq.merge(*plans, key=itemgetter(0))


def _joined(ranges: Ranges, window: Window) -> Ranges:
    """The same positions in fewer ranges: those that overlap or touch become one."""
    current: Range | None = None
    for low, high in ranges:
        if current is None:
            current = (low, high)
        elif window.reverse and high >= current[0] and current[1] - current[0] < _LONG_RANGE:
            current = (min(low, current[0]), current[1])
        elif not window.reverse and low <= current[1] and current[1] - current[0] < _LONG_RANGE:
            current = (current[0], max(high, current[1]))
        else:
            yield current
            current = (
                (low, min(high, current[0])) if window.reverse else (max(low, current[1]), high)
            )
            if current[0] >= current[1]:
                current = None
    if current is not None:
        yield current


def _id_of_stream(connection: apsw.Connection, name: str) -> int | None:
    found = connection.execute(_SQL["stream_id"], (searchable(name),)).get
    return None if found is None else int(found)


def _stream_rows(
    connection: apsw.Connection, columns: str, stream: int, query: Query, window: Window
) -> Iterator[Any]:
    """One stream's slices in rows; positions rise with versions, so both bounds become versions."""
    after = window.hot[0]
    least = max(query.min_version or 0, first_version_after(connection, stream, after))
    most = MAX_INTEGER
    if window.last < _newest_of(connection, stream)[1]:
        most = first_version_after(connection, stream, window.last) - 1
    return connection.execute(
        f"SELECT {columns} FROM slices WHERE stream = ? AND version >= ? AND version <= ? "
        f"ORDER BY version {window.order}",
        (stream, least, most),
    )


def _stream_ranges(
    connection: apsw.Connection, stream: int, query: Query, window: Window
) -> Ranges:
    rows = _stream_rows(connection, "position", stream, query, window)
    positions: Iterator[int] = (position for (position,) in rows)
    if window.cold is not None:
        positions = window.both(_sealed_of_stream(connection, stream, query, window), positions)
    for position in positions:
        yield position - 1, position


def _sealed_of_stream(
    connection: apsw.Connection, stream: int, query: Query, window: Window
) -> Iterator[int]:
    """The positions of one stream's sealed slices in the window, and within the query's versions.

    In a segment the slice with a version is found by bisection, as its position is.
    """

    def version(position: int) -> int:
        return segments.row_at(connection, position)[2]

    segments, (low, high) = window.segments, window.cold or (0, 0)
    least, most = query.min_version or 0, query.max_version or MAX_INTEGER
    found = segments.places(connection, -stream, low, high, reverse=window.reverse)
    for first, newest, numbers in found:
        if newest < least:
            if window.reverse:
                return
            continue
        positions = [first + number for number in numbers]
        start, stop = bisect_right(positions, low), bisect_right(positions, high)
        if start < stop and least > 1:
            start = bisect_left(positions, least, start, stop, key=version)
        if start < stop and newest > most:
            stop = min(stop, bisect_left(positions, most, start, stop, key=version) + 1)
        yield from _directed(positions[start:stop], window)
        if newest >= most and not window.reverse:
            return


def _sealed_positions(
    connection: apsw.Connection, tags: Sequence[int], window: Window
) -> Iterator[int]:
    """The positions of sealed slices in the window that have all of the tags."""
    if window.cold is None:
        return
    (low, high), places = window.cold, window.segments.places
    for first, _, numbers in places(connection, tags[0], low, high, reverse=window.reverse):
        common = set(numbers)
        for tag in tags[1:]:
            of_tag = next(places(connection, tag, first - 1, first, reverse=False), None)
            common &= set(() if of_tag is None else of_tag[2])
        positions = [first + number for number in sorted(common)]
        start, stop = bisect_right(positions, low), bisect_right(positions, high)
        yield from _directed(positions[start:stop], window)


def _directed(positions: list[int], window: Window) -> list[int]:
    return positions[::-1] if window.reverse else positions


def _newest_of(connection: apsw.Connection, stream: int) -> tuple[int, int]:
    """The version and position of the stream's last slice."""
    found = connection.execute(_SQL["stream_end"], (stream,)).get
    return (0, 0) if found is None else (int(found[0]), int(found[1]))


def retired_version(
    connection: apsw.Connection, name: str, retired: int, segments: Segments
) -> int:
    """How many events of a stream were retired, up to a position."""
    stream = _id_of_stream(connection, name)
    sealed = None if stream is None else connection.execute(_SEALED["stream"], (stream,)).fetchone()
    if stream is None or sealed is None:
        return 0
    version, position, _ = sealed
    if stored_int(position) <= retired:
        return stored_int(version)
    for first, _, places in segments.places(
        connection, -stream, retired, stored_int(position), reverse=False
    ):
        row = segments.row_at(connection, first + places[0])
        return row[2] - row[3]
    raise apsw.CorruptError(f"sealed events of stream {name!r} aren't found by its index")


def first_version_after(connection: apsw.Connection, stream: int, position: int) -> int:
    """The least version from which on a stream's slices lie after the position, by bisection."""
    if position <= 0:
        return 0
    newest, its_position = _newest_of(connection, stream)
    if its_position <= position:
        return newest + 1
    low, high = 1, newest
    while low < high:
        middle = (low + high) // 2
        version, found = connection.execute(_SQL["stream_slice_at"], (stream, middle)).get
        if found <= position:
            low = version + 1
        else:
            high = middle
    return low


def _tagged(connection: apsw.Connection, tags: frozenset[str], window: Window) -> Ranges:
    terms = _term_ids(connection, TAG, tags)
    if len(terms) < len(tags):
        return
    if len(terms) > 1:
        terms = _rarest(connection, terms, window)
    joins = "".join(
        f" CROSS JOIN marks AS m{i} ON m{i}.term = ? AND m{i}.position = m0.position"
        for i in range(1, len(terms))
    )
    sql = (
        f"SELECT m0.position FROM marks AS m0{joins} WHERE m0.term = ? AND m0.position > ? "
        f"AND m0.position <= ? ORDER BY m0.position {window.order}"
    )
    rows = connection.execute(sql, (*terms[1:], terms[0], *window.hot))
    sealed = _sealed_positions(connection, terms, window)
    for position in window.both(sealed, (position for (position,) in rows)):
        yield position - 1, position


def _rarest(connection: apsw.Connection, terms: list[int], window: Window) -> list[int]:
    """A few of the terms, those with the fewest marks first: what more there are, narrow little.

    SQLite joins up to 64 tables, and plans for milliseconds where there are a dozen.
    """
    sql = (
        "SELECT count(*) FROM (SELECT 1 FROM marks WHERE term = ? AND position > ?"
        f" AND position <= ? LIMIT {_RARE_MARKS})"
    )

    def marks(term: int) -> int:
        return int(connection.execute(sql, (term, window.after, window.last)).get)

    return sorted(terms, key=marks)[:_MAX_JOINED]


def _in_blocks(
    connection: apsw.Connection, kind: int, names: frozenset[str], window: Window
) -> Ranges:
    terms = _term_ids(connection, kind, names)
    if len(terms) > _MAX_MERGED:
        return _many_blocks(connection, terms, window)
    return _merged([_blocks_of(connection, term, window) for term in terms], window)


def _blocks_of(connection: apsw.Connection, term: int, window: Window) -> Ranges:
    rows = connection.execute(
        f"SELECT position FROM marks WHERE term = ? AND position > ? AND position <= ? "
        f"ORDER BY position {window.order}",
        (term, window.hot[0], block_of(window.last)),
    )
    sealed = _sealed_of_many(connection, [term], window, in_blocks=True)
    for block in window.both(sealed, (block for (block,) in rows)):
        yield max(block - BLOCK, window.after), min(block, window.last)


def _many_blocks(connection: apsw.Connection, terms: Sequence[int], window: Window) -> Ranges:
    last = block_of(window.last)
    sealed = _sealed_of_many(connection, terms, window, in_blocks=True)
    for block in window.both(sealed, _many_marks(connection, terms, last, window)):
        yield max(block - BLOCK, window.after), min(block, window.last)


def _many_tagged(connection: apsw.Connection, tags: Sequence[int], window: Window) -> Ranges:
    sealed = _sealed_of_many(connection, tags, window)
    for position in window.both(sealed, _many_marks(connection, tags, window.last, window)):
        yield position - 1, position


def _sealed_of_many(
    connection: apsw.Connection, terms: Sequence[int], window: Window, *, in_blocks: bool = False
) -> Iterator[int]:
    """Where any of many terms occurs in sealed slices of the window: positions, or blocks."""
    if window.cold is None:
        return
    low, high = window.cold
    last = block_of(high) if in_blocks else high
    found = window.segments.places_of_many(connection, terms, low, high, reverse=window.reverse)
    for first, numbers in found:
        if in_blocks:
            places = [block_of(first) + BLOCK * number for number in numbers]
        else:
            places = [first + number for number in numbers]
        yield from _directed([one for one in places if low < one <= last], window)


def _many_marks(
    connection: apsw.Connection, terms: Sequence[int], last: int, window: Window
) -> Iterator[int]:
    """Where any of many terms is marked after the border, up to ``last``: a stretch at a time."""
    sql = (
        "SELECT DISTINCT position FROM marks WHERE term IN (SELECT value FROM json_each(?)) "
        f"AND position > ? AND position <= ? ORDER BY position {window.order}"
    )
    ids = json.dumps(list(terms))
    low, high, width = window.hot[0], last, _LONG_RANGE
    while low < high:
        if window.reverse:
            bounds = max(low, high - width), high
            high = bounds[0]
        else:
            bounds = low, min(high, low + width)
            low = bounds[1]
        found: list[Any] = connection.execute(sql, (ids, *bounds)).fetchall()
        for (position,) in found:
            yield position
        if len(found) < _SHORT_SCAN:
            width *= 2


def _ranges_of_many(connection: apsw.Connection, query: Query, window: Window) -> Ranges | None:
    """Where any of many selectors may match: what they name is looked up together."""
    streams: set[str] = set()
    by_kind: dict[int, set[str]] = {TAG: set(), TYPE: set(), CATEGORY: set()}
    usual = Counter(tag for selector in query.selectors for tag in selector.tags)
    for selector in query.selectors:
        if selector.streams:
            streams |= selector.streams
        elif selector.tags:
            by_kind[TAG].add(min(selector.tags, key=lambda tag: (usual[tag], tag)))
        elif selector.types:
            by_kind[TYPE] |= selector.types
        elif selector.categories:
            by_kind[CATEGORY] |= selector.categories
        else:
            return None
    tags = _term_ids(connection, TAG, frozenset(by_kind.pop(TAG)))
    plans = [
        _in_blocks(connection, kind, frozenset(names), window) for kind, names in by_kind.items()
    ]
    plans.append(_many_tagged(connection, tags, window))
    if streams:
        found = _many_streams(connection, streams, window)
        if found is None:
            return None
        plans.append((position - 1, position) for position in found)
    return _merged(plans, window)


def _many_streams(
    connection: apsw.Connection, names: set[str], window: Window
) -> Iterator[int] | None:
    """The positions of many streams' slices; None where that is most of what there is."""
    found = (_id_of_stream(connection, name) for name in sorted(names))
    ids = [stream for stream in found if stream is not None]
    events = sum(_events_of(connection, stream) for stream in ids)
    if events > min((window.last - window.after) // 8, _MAX_LISTED):
        return None
    rows = connection.execute(
        "SELECT position FROM slices WHERE stream IN (SELECT value FROM json_each(?)) "
        f"AND position > ? AND position <= ? ORDER BY position {window.order}",
        (json.dumps(ids), *window.hot),
    )
    sealed = _sealed_of_many(connection, [-stream for stream in ids], window)
    return window.both(sealed, (position for (position,) in rows))


def _events_of(connection: apsw.Connection, stream: int) -> int:
    """How many events a stream has."""
    sealed = connection.execute(_SEALED["stream"], (stream,)).fetchone()
    return max(_newest_of(connection, stream)[0], 0 if sealed is None else stored_int(sealed[0]))


def _term_ids(connection: apsw.Connection, kind: int, names: frozenset[str]) -> list[int]:
    found = [
        connection.execute(_SQL["term_id"], (kind, name)).get
        for name in map(searchable, sorted(names))
    ]
    return [int(term) for term in found if term is not None]
