"""One page of what a query asks for, as one connection sees the file."""

from __future__ import annotations

from typing import Final

import apsw

from everwhen.backends.query_matching import Matcher
from everwhen.backends.sqlite.query_plan import Row, Window, everything, rows_in, rows_to_judge
from everwhen.backends.sqlite.statements import statements
from everwhen.backends.sqlite.stored_rows import check_rows, slice_of, stored_name
from everwhen.backends.sqlite.value_sizes import limited
from everwhen.vocabulary.contract import Page, StoredSlice
from everwhen.vocabulary.query import Query

_SQL: Final = statements("reading")

_PAGE_BYTES: Final = 4 << 20
"""How much of events a page holds before it ends: a few make the most of a request, and many
readers' pages fit into memory."""

_MAX_ROWS_PER_PAGE: Final = 8_192
"""How many rows are looked at for a page, so that a rare match doesn't keep its reader waiting."""

_MAX_NAMES: Final = 100_000
"""How many streams' names are remembered: some 15 MB."""

_MAX_ID_GAP: Final = 8
"""Unknown names whose ids lie closer than that are read in one go: rows between cost less than a
statement."""


class StreamNames:
    """The names of streams by their ids, which never change once they are committed."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def one(self, connection: apsw.Connection, stream: int) -> str:
        """The name of a stream. Raises ``apsw.CorruptError`` where it has none."""
        name = self._known.get(stream)
        if name is None:
            if len(self._known) >= _MAX_NAMES:
                self._known.clear()
            self._known[stream] = name = name_of_stream(connection, stream)
        return name

    def many(self, connection: apsw.Connection, streams: set[int]) -> dict[int, str]:
        """The names of these streams. Those that aren't known, and began together, in one go."""
        names = self._known
        known = {stream: name for stream in streams if (name := names.get(stream)) is not None}
        unknown = sorted(streams - known.keys())
        if len(names) + len(unknown) > _MAX_NAMES:
            names.clear()
        while unknown:
            near = 1
            while near < len(unknown) and unknown[near] - unknown[near - 1] < _MAX_ID_GAP:
                near += 1
            rows = connection.execute(_SQL["stream_names"], (unknown[0], unknown[near - 1]))
            found = [(stream, stored_name(name)) for stream, name in rows]
            known.update(found)
            names.update(found)
            for stream in unknown[:near]:
                if stream not in known:
                    raise _nameless(stream)
            del unknown[:near]
        return known

    def clear(self) -> None:
        """Forget them: somebody may have changed the file past us."""
        self._known.clear()


def name_of_stream(connection: apsw.Connection, stream: int) -> str:
    """The name of a stream, looked up. Raises ``apsw.CorruptError`` where it has none."""
    name = connection.execute(_SQL["stream_name"], (stream,)).get
    if name is None:
        raise _nameless(stream)
    return stored_name(name)


def _nameless(stream: int) -> apsw.CorruptError:
    return apsw.CorruptError(f"stream {stream!r} has no name")


def slice_with_name(connection: apsw.Connection, row: Row) -> StoredSlice:
    """A row's slice, with the name of its stream looked up."""
    return slice_of(row, name_of_stream(connection, row[1]))


def read_page(connection: apsw.Connection, query: Query, events: int, names: StreamNames) -> Page:
    """One page of about so many events.

    Inside a transaction ``names`` are its own: the streams that it makes may be rolled back.
    """
    window = _window(connection, query)
    if window is None:
        return Page([], query.after_position, end=True)
    with limited(connection):
        if everything(query):
            return _page_of_all(connection, window, events, names)
        return _page_of_matches(connection, query, window, events, names)


def _window(connection: apsw.Connection, query: Query) -> Window | None:
    newest = connection.execute(_SQL["newest_position"]).get
    if newest is None:
        return None
    last = newest if query.last_position is None else min(query.last_position, newest)
    if query.after_position >= last:
        return None
    if last < newest:
        last = connection.execute(_SQL["end_of_slice"], (last,)).get
    return Window(query.after_position, last, reverse=query.reverse)


def _page_of_matches(
    connection: apsw.Connection, query: Query, window: Window, events: int, names: StreamNames
) -> Page:
    reaches = Matcher(query).reaches
    name_of = names.one
    rows: list[Row] = []
    slices: list[StoredSlice] = []
    size = volume = 0
    for looked_at, row in enumerate(rows_to_judge(connection, query, window), 1):
        position, stream, version, count, moment, commit_id, index, metadata, body = row
        if position > window.last:
            continue  # a stream's rows are found by version, and it has grown since we looked
        if position <= window.after:
            raise apsw.CorruptError(f"the row at position {position} is out of order")
        name = name_of(connection, stream)
        stored = StoredSlice(
            position, name, version, count, moment, commit_id, index, metadata, body
        )
        if reaches(stored):
            rows.append(row)
            slices.append(stored)
            size += count
            volume += len(body)
        if size >= events or volume >= _PAGE_BYTES or looked_at >= _MAX_ROWS_PER_PAGE:
            check_rows(rows, window)
            return Page(slices, position - count + 1 if window.reverse else position, end=False)
    check_rows(rows, window)
    return Page(slices, window.last, end=True)


def _page_of_all(
    connection: apsw.Connection, window: Window, events: int, names: StreamNames
) -> Page:
    """A page of a query that every slice matches: the least that a row can cost."""
    rows: list[Row] = []
    size = volume = 0
    for row in rows_in(connection, window):
        rows.append(row)
        size += row[3]
        volume += len(row[8])
        if size >= events or volume >= _PAGE_BYTES:
            break
    check_rows(rows, window)
    known = names.many(connection, {row[1] for row in rows})
    slices = [
        StoredSlice(position, known[stream], version, count, moment, commit_id, index, own, body)
        for position, stream, version, count, moment, commit_id, index, own, body in rows
    ]
    if size >= events or volume >= _PAGE_BYTES:
        last = slices[-1]
        cursor = last.position - last.count + 1 if window.reverse else last.position
        return Page(slices, cursor, end=False)
    return Page(slices, window.last, end=True)
