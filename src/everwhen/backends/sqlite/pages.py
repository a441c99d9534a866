"""One page of what a query asks for, as one connection sees the file."""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import compress
from typing import Any, Final, Generic, NamedTuple, TypeVar

import apsw

from everwhen.backends.engine import NotFetchedError
from everwhen.backends.index_terms import everything
from everwhen.backends.query_matching import Matcher
from everwhen.backends.sqlite.query_plan import (
    IN_SHARE,
    Row,
    Window,
    retired_version,
    rows_in,
    rows_to_judge,
)
from everwhen.backends.sqlite.segments import Segments
from everwhen.backends.sqlite.statements import statements
from everwhen.backends.sqlite.stored_rows import (
    check_rows,
    slice_of,
    stored_moment,
    stored_name,
)
from everwhen.backends.sqlite.value_sizes import limited
from everwhen.codec.frames import Frame, FrameBlock
from everwhen.system.sqlite_values import stored_count
from everwhen.vocabulary.contract import Page, StoredSlice
from everwhen.vocabulary.errors import RetiredError
from everwhen.vocabulary.microseconds import from_micros
from everwhen.vocabulary.query import Query, Share

T = TypeVar("T")

_SQL: Final = statements("reading")
_SEALED: Final = statements("sealed")
_RETIRED: Final = statements("retired")

_PAGE_BYTES: Final = 4 << 20
"""How much of events a page holds before it ends: a few make the most of a request, and many
readers' pages fit into memory."""

_MAX_ROWS_PER_PAGE: Final = 8_192
"""How many rows are looked at for a page, so that a rare match doesn't keep its reader waiting."""

_MAX_ROWS_AT_ONCE: Final = 256
"""How many rows are judged in one go: enough that the calls cost nothing, and few that are read in
vain where the first have what was asked for."""

_MAX_NAMES: Final = 100_000
"""How many streams' names are remembered: some 15 MB."""

_MAX_ID_GAP: Final = 8
"""Unknown names whose ids lie closer than that are read in one go: rows between cost less than a
statement."""


class StreamNames:
    """The names of streams by their ids, which never change once they are committed."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}
        self._shares: dict[Share, _InShare] = {}

    def many(self, connection: apsw.Connection, streams: set[int]) -> Mapping[int, str]:
        """Names by ids: those of these streams, and of others. It stays as it is, or grows.

        Those that aren't known, and began together, are read in one go.
        """
        known = self._known
        unknown = sorted(streams.difference(known))
        if len(known) + len(unknown) > _MAX_NAMES:
            self.clear()
            known, unknown = self._known, sorted(streams)
        while unknown:
            near = 1
            while near < len(unknown) and unknown[near] - unknown[near - 1] < _MAX_ID_GAP:
                near += 1
            rows = connection.execute(_SQL["stream_names"], (unknown[0], unknown[near - 1]))
            known.update([(stream, stored_name(name)) for stream, name in rows])
            for stream in unknown[:near]:
                if stream not in known:
                    raise _nameless(stream)
            del unknown[:near]
        return known

    def of_each(self, connection: apsw.Connection, streams: list[int]) -> list[str]:
        """The name of each of these streams."""
        known = self._known
        try:
            return [known[stream] for stream in streams]
        except KeyError:
            names = self.many(connection, set(streams))
            return [names[stream] for stream in streams]

    def clear(self) -> None:
        """Forget them: somebody may have changed the file past us."""
        self._known = {}  # others go on with the one that they hold
        self._shares.clear()

    def in_share(self, connection: apsw.Connection, share: Share) -> _InShare:
        """Whether a stream is in a share, by its id; looked up where it isn't known yet."""
        known = self._shares.get(share)
        if known is None or len(known) > _MAX_NAMES:
            known = self._shares[share] = _InShare(self, share)
        known.connection = connection
        return known


class _InShare(dict[int, bool]):
    """What SQL asks for each row: so a lookup has to cost next to nothing."""

    def __init__(self, names: StreamNames, share: Share) -> None:
        self._names = names
        self._share = share
        self.connection: apsw.Connection | None = None

    def __missing__(self, stream: int) -> bool:
        if self.connection is None:
            raise KeyError(stream)
        name = self._names.of_each(self.connection, [stream])[0]
        self[stream] = found = self._share.has(name)
        return found


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


def read_page(
    connection: apsw.Connection, query: Query, events: int, names: StreamNames, segments: Segments
) -> Page:
    """One page of about ``events`` events.

    Inside a transaction ``names`` are its own: the streams that it makes may be rolled back.
    """
    with one_moment(connection), limited(connection):
        window = _window(connection, query, segments)
        if window is None:
            return Page([], query.after_position, end=True)
        share = query.share
        is_sealed = window.cold is not None and window.is_long and not window.reverse
        if is_sealed and everything(query):
            page = _page_of_sealed(connection, window, events, names, share)
        elif share is not None or not everything(query):
            if share is not None:
                _know_share(connection, share, names)
            page = _page_of_matches(connection, query, window, events, names)
        else:
            page = _page_of_all(connection, window, events, names)
        if window.lacks and page.end:  # whoever wants what is before that asks for it, and is told
            return Page(page.slices, window.after + 1, end=False)
        return page


@contextmanager
def one_moment(connection: apsw.Connection) -> Iterator[None]:
    """All that is read is of one moment: history that is sealed meanwhile stays where it is."""
    is_outermost = not connection.in_transaction
    if is_outermost:
        connection.execute("BEGIN")
    try:
        yield
    finally:
        with contextlib.suppress(apsw.ConnectionClosedError):  # by an interrupt
            if is_outermost and connection.in_transaction:
                connection.execute("COMMIT")


class Ends(NamedTuple):
    """The last position, and those up to which slices are sealed, and retired; 0 where none are."""

    last: int
    sealed: int
    retired: int


def ends(connection: apsw.Connection) -> Ends:
    """Where history ends, and its tiers."""
    ((newest, border, retired),) = connection.execute(_SQL["ends"])
    sealed = stored_count(border or 0)
    return Ends(max(stored_count(newest or 0), sealed), sealed, stored_count(retired or 0))


def retired_error(connection: apsw.Connection, last: int) -> RetiredError:
    """The error for whoever asks for what was retired up to a position."""
    moment = connection.execute(_RETIRED["retired_at"], (last,)).get
    return RetiredError(last, from_micros(stored_moment(moment)))


def newest_slice(connection: apsw.Connection) -> tuple[int, int] | None:
    """The position and time of the newest slice; None where there is none.

    Rows are looked at first: what is sealed meanwhile is found in the newest segment.
    """
    row = connection.execute(_SQL["newest_slice"]).fetchone()
    if row is None or (row[2] is not None and stored_count(row[2]) > stored_count(row[0])):
        row = connection.execute(_SEALED["newest_segment"]).fetchone()
    return None if row is None else (stored_count(row[0]), stored_moment(row[1]))


def _window(connection: apsw.Connection, query: Query, segments: Segments) -> Window | None:
    newest, border, retired = ends(connection)
    last = newest if query.last_position is None else min(query.last_position, newest)
    after, lacks = query.after_position, False
    if after < retired:
        lacks = not query.skips_retired and _asks_for_retired(connection, query, retired, segments)
        if lacks and after < last and (last <= retired or not query.reverse):
            raise retired_error(connection, retired)
        after = retired
    if after >= last:
        return None
    if last < border:  # at the border a slice ends
        last = segments.row_at(connection, last)[0]
    elif border < last < newest:
        last = connection.execute(_SQL["end_of_slice"], (last,)).get
    return Window(after, last, border, segments, reverse=query.reverse, lacks=lacks)


def _asks_for_retired(
    connection: apsw.Connection, query: Query, retired: int, segments: Segments
) -> bool:
    """Whether what was retired may have matched: only of one stream that is known exactly."""
    if len(query.selectors) != 1 or len(query.selectors[0].streams) != 1:
        return True
    (name,) = query.selectors[0].streams
    return retired_version(connection, name, retired, segments) >= max(1, query.min_version or 0)


class _Here(Generic[T]):
    """What can be read without waiting for an archive: it ends before what has to be fetched.

    That is then ``missing``, and the page ends there. Where it is the first, it is raised.
    """

    def __init__(self, found: Iterable[T]) -> None:
        self.missing: NotFetchedError | None = None
        self._found = found

    def __iter__(self) -> Iterator[T]:
        is_first = True
        try:
            for one in self._found:
                is_first = False
                yield one
        except NotFetchedError as error:
            if is_first:
                raise
            self.missing = error


def _page_of_matches(
    connection: apsw.Connection, query: Query, window: Window, events: int, names: StreamNames
) -> Page:
    matcher = Matcher(query)
    here = _Here(rows_to_judge(connection, query, window))
    candidates = iter(here)
    slices: list[StoredSlice] = []
    newest: Row | None = None
    size = volume = looked_at = 0
    while size < events and volume < _PAGE_BYTES and looked_at < _MAX_ROWS_PER_PAGE:
        rows = _some_rows(candidates, events - size, _PAGE_BYTES - volume, window)
        if not rows:
            if here.missing is None:
                return Page(slices, window.last, end=True)
            if newest is None:
                raise here.missing
            break
        if newest is not None and (rows[0][0] < newest[0]) is not window.reverse:
            raise apsw.CorruptError("rows of slices stand out of order")
        looked_at += len(rows)
        found = matcher.reached(slices_of(connection, rows, names))
        slices += found
        size += sum([stored.count for stored in found])
        volume += sum([len(stored.body) for stored in found])
        newest = rows[-1]
    position, count = (0, 0) if newest is None else (newest[0], newest[3])
    return Page(slices, position - count + 1 if window.reverse else position, end=False)


def _some_rows(rows: Iterator[Row], events: int, volume: int, window: Window) -> list[Row]:
    """The next rows of the window: about that many events and bytes, and few enough to judge.

    A stream's rows are found by version, and it may have grown since the window was opened.
    """
    some = []
    for row in rows:
        if row[0] > window.last:
            continue
        some.append(row)
        events -= row[3]
        volume -= len(row[8])
        if events <= 0 or volume <= 0 or len(some) >= _MAX_ROWS_AT_ONCE:
            break
    check_rows(some, window)
    return some


def slices_of(
    connection: apsw.Connection, rows: list[Row], names: StreamNames
) -> list[StoredSlice]:
    """The slices of these rows, with the names of their streams."""
    streams = names.of_each(connection, [row[1] for row in rows])
    return [
        StoredSlice(row[0], stream, *row[2:]) for row, stream in zip(rows, streams, strict=True)
    ]


def _know_share(connection: apsw.Connection, share: Share, names: StreamNames) -> None:
    """Let SQL tell which rows are a share's, so that nothing is made of the others."""
    is_in_share: Any = names.in_share(connection, share).__getitem__
    connection.create_scalar_function(IN_SHARE, is_in_share, 1)


def _page_of_sealed(
    connection: apsw.Connection,
    window: Window,
    events: int,
    names: StreamNames,
    share: Share | None,
) -> Page:
    """The sealed part of a query that every slice matches, as a block: its columns as they are.

    With a ``share`` that is every slice of its streams.
    """
    low, high = window.cold or (0, 0)
    frames: list[Frame] = []
    size = volume = reached = 0
    for frame in _Here(window.segments.frames(connection, low, high, reverse=False)):
        reached = frame.positions[bisect_right(frame.positions, high) - 1]
        frames.append(frame)
        size += sum(frame.counts)
        volume += len(frame.entries)
        if size >= events or volume >= _PAGE_BYTES:
            break
    streams = [stream for frame in frames for stream in frame.streams]
    picks = None
    if share is not None:
        picks = list(map(names.in_share(connection, share).__getitem__, streams))
        streams = list(compress(streams, picks))
    block = FrameBlock(frames, names.many(connection, set(streams)), picks)
    start = bisect_right(block.positions, low)
    stop = bisect_right(block.positions, high)
    return Page(block[start:stop], reached, end=window.last == reached)


def _page_of_all(
    connection: apsw.Connection, window: Window, events: int, names: StreamNames
) -> Page:
    """A page of a query that every slice matches: the least that a row can cost."""
    rows: list[Row] = []
    size = volume = 0
    here = _Here(rows_in(connection, window))
    for row in here:
        rows.append(row)
        size += row[3]
        volume += len(row[8])
        if size >= events or volume >= _PAGE_BYTES:
            break
    check_rows(rows, window)
    slices = slices_of(connection, rows, names)
    if size >= events or volume >= _PAGE_BYTES or here.missing is not None:
        last = slices[-1]
        cursor = last.position - last.count + 1 if window.reverse else last.position
        return Page(slices, cursor, end=False)
    return Page(slices, window.last, end=True)
