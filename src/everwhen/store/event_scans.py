"""All events up to one moment as Arrow batches, each made when it is asked for.

They come from the store's pages, hot and cold alike, or where history is archived from its Parquet
files. Blocking, and safe from any thread.

Needs the library pyarrow.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from itertools import chain
from operator import and_, or_
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.dataset as ds

from everwhen.backends.query_matching import Matcher
from everwhen.codec.arrow_columns import SCHEMA, arrow_batch
from everwhen.codec.frames import FrameError
from everwhen.codec.recorded_events import entries_of
from everwhen.store.filter_bounds import FilterBounds
from everwhen.system.object_storage import local_file
from everwhen.vocabulary.contract import Page, Segment, StoredSlice
from everwhen.vocabulary.errors import CorruptStoreError
from everwhen.vocabulary.microseconds import FIRST_MICROS, LAST_MICROS, from_micros
from everwhen.vocabulary.paging import PAGE_EVENTS, ReadPage
from everwhen.vocabulary.query import Query, Selector

_GLOB: Final = frozenset("*?[")
"""What DuckDB takes for a pattern of names in a path."""
_FILE_ROWS: Final = 16_384
"""Of an archived file at a time: a few megabytes, and many enough that a batch costs nothing."""


class ArchivedFile(msgspec.Struct, frozen=True):
    """A Parquet file of ``ARCHIVE_SCHEMA`` that has all events from one position to another.

    Unless ``is_whole`` it may have more, which are then elsewhere as well.
    """

    first: int
    last: int
    path: str
    is_whole: bool = True


def archived_files(segments: Iterable[Segment]) -> list[ArchivedFile]:
    """The files that have archived segments, as far as they are files on this machine.

    What is archived elsewhere is read through the store. Raises `CorruptStoreError` for a file that
    is missing, or isn't what was archived.
    """
    found: list[ArchivedFile] = []
    for segment in segments:
        kept = segment.object
        path = None if kept is None else local_file(kept.url, kept.name)
        if kept is None or path is None or _GLOB & set(str(path)):
            continue
        if not path.is_file() or path.stat().st_size != kept.size:
            raise CorruptStoreError(
                f"the archive's object {path} is missing, or hasn't the {kept.size:,} bytes that "
                f"were archived; put it back from a copy"
            )
        first = segment.first
        if found and found[-1].path == str(path):
            first = found.pop().first
        is_whole = path.name.startswith(f"{first:015}-{segment.last:015}-")  # by its maker's name
        found.append(ArchivedFile(first, segment.last, str(path), is_whole))
    return found


class EventScan:
    """What a query finds, as columns.

    ``query`` ends at a position: what is committed later isn't part of it. ``archived`` are files
    in the order of their positions. Events that they have are read from there, where the query
    finds nothing faster by an index.
    """

    def __init__(self, read: ReadPage, query: Query, archived: Sequence[ArchivedFile] = ()) -> None:
        self._read = read
        self.query = query
        self.archived = [
            file
            for file in archived
            if file.last > query.after_position and file.first <= (query.last_position or 0)
        ]

    def batches(self, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The query's events with these columns of ``SCHEMA``, in the query's order.

        Raises `CorruptStoreError`.
        """
        left = self.query.max_events
        for batch in chain.from_iterable(self._parts(names)):
            if left is not None:
                batch = batch.slice(0, left)  # noqa: PLW2901 (the same, as far as it is wanted)
                left -= batch.num_rows
            if batch.num_rows:
                yield batch
            if left == 0:
                return

    def _parts(self, names: Sequence[str]) -> Iterator[Iterator[pa.RecordBatch]]:
        query = self.query
        if not query.max_events and query.max_events is not None:
            return
        expression = _as_expression(query)
        if query.reverse or expression is None:
            yield self._paged(names, query, query)
            return
        for first, last, file in self._ranges(query.after_position + 1, query.last_position or 0):
            if file is None:
                within = query.after(first - 1).up_to(last)
                yield self._paged(names, within, within)
            else:
                position = ds.field("position")
                part = expression & (position >= first) & (position <= last)
                yield _of_file(file, names, part)

    def paged(
        self, names: Sequence[str], filter_: Any, check: Callable[[], None]
    ) -> Iterator[pa.RecordBatch]:
        """What a filter lets through, without what is in archived files. Raises as `batches`.

        ``check`` is called after each page, and may raise.
        """
        bounds = FilterBounds(filter_)
        read = list(dict.fromkeys([*names, *bounds.columns]))
        for first, last, file in self._ranges(*self._within(bounds)):
            if file is not None:
                continue
            exactly = self.query.after(first - 1).up_to(last)
            for batch in self._paged(read, _narrowed(exactly, bounds), exactly, bounds):
                check()
                found = batch if filter_ is None else batch.filter(filter_)
                if found.num_rows:
                    yield found.select(names)

    def _within(self, bounds: FilterBounds) -> tuple[int, int]:
        """The first and the last position of what a filter can let through."""
        first, last = bounds.between(
            "position", self.query.after_position + 1, self.query.last_position or 0
        )
        if "recorded_at" not in bounds.columns or first > last:
            return first, last
        begin, end = bounds.between("recorded_at", FIRST_MICROS, LAST_MICROS)
        positions = range(first, last + 1)
        first += bisect.bisect_left(positions, begin, key=self._recorded_at)
        return first, bisect.bisect_right(positions, end, key=self._recorded_at) + positions[0] - 1

    def _recorded_at(self, position: int) -> int:
        """When the event at a position was recorded, or the first one after it that is kept."""
        after = Query().after(position - 1).skipping_retired()
        for page in self._pages(after, FilterBounds(), events=1):
            if page.slices:
                return page.slices[0].recorded_at
        return LAST_MICROS

    def _ranges(self, first: int, last: int) -> Iterator[tuple[int, int, ArchivedFile | None]]:
        """The positions from one to another in parts, each with the file that has it, if any."""
        for file in self.archived:
            if file.last < first:
                continue
            if file.first > last:
                break
            if first < file.first:
                yield first, file.first - 1, None
            yield max(first, file.first), min(last, file.last), file
            first = file.last + 1
        if first <= last:
            yield first, last, None

    def _paged(
        self,
        names: Sequence[str],
        asked: Query,
        exactly: Query,
        bounds: FilterBounds | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The events of the store's pages that ``exactly`` picks."""
        matcher = Matcher(exactly)
        for page in self._pages(asked, FilterBounds() if bounds is None else bounds):
            if page.slices:
                yield _batch(page.slices, names, matcher, reverse=asked.reverse)

    def _pages(
        self, asked: Query, bounds: FilterBounds, events: int = PAGE_EVENTS
    ) -> Iterator[Page]:
        """The pages of a query, without those of which a filter lets nothing through."""
        size = min(asked.max_events or events, events)
        while True:
            page = self._read(asked, size)
            yield page
            if page.end:
                return
            if asked.reverse:
                asked = msgspec.structs.replace(asked, last_position=page.cursor - 1)
                continue
            after, last = page.cursor, asked.last_position
            if last is not None and not bounds.allows("position", after + 1, after + events):
                if not bounds.allows("position", after + 1, last):
                    return
                after = bounds.first("position", after + 1, last) - 1
            asked = msgspec.structs.replace(asked, after_position=after)


def _batch(
    slices: Sequence[StoredSlice], names: Sequence[str], matcher: Matcher, *, reverse: bool
) -> pa.RecordBatch:
    """Those events of a page's slices that match."""
    picked: list[Sequence[int] | None] | None = None
    if not matcher.takes_whole(slices):
        picked = [matcher.picked(stored, entries_of(stored)) for stored in slices]
    if reverse:
        every = [None] * len(slices) if picked is None else picked
        picked = [
            range(stored.count)[::-1] if indexes is None else indexes[::-1]
            for stored, indexes in zip(slices, every, strict=True)
        ]
    try:
        return arrow_batch(slices, names, picked)
    except FrameError as error:
        raise CorruptStoreError(
            f"{error}; run check(), and restore the file from a backup"
        ) from error


def _narrowed(query: Query, bounds: FilterBounds) -> Query:
    """The query, of those streams or categories only that a filter lets through."""
    if names := bounds.names("stream"):
        return query.stream(*names)
    if names := bounds.names("category"):
        return query.category(*names)
    return query


def _of_file(file: ArchivedFile, names: Sequence[str], expression: Any) -> Iterator[pa.RecordBatch]:
    """The events of an archived file that an expression picks."""
    dataset = ds.dataset(file.path, schema=SCHEMA, format="parquet")
    scanner = dataset.scanner(
        columns=list(names),
        filter=expression,
        batch_size=_FILE_ROWS,
        batch_readahead=1,
        fragment_readahead=1,
    )
    return iter(scanner.to_batches())


def _as_expression(query: Query) -> Any:
    """What a query asks as an Arrow expression; None where an index of the store knows better."""
    selectors = query.selectors
    if not selectors or any(selector.streams or selector.tags for selector in selectors):
        return None
    position, version = ds.field("position"), ds.field("version")
    asked = [position > query.after_position, position <= (query.last_position or 0)]
    if query.min_version is not None:
        asked.append(version >= query.min_version)
    if query.max_version is not None:
        asked.append(version <= query.max_version)
    if query.occurred_until is not None:
        occurred = ds.field("occurred_at")
        until = from_micros(query.occurred_until)
        asked.append(
            (occurred.is_valid() & (occurred <= until))
            | (occurred.is_null() & (ds.field("recorded_at") <= until))
        )
    if all(selector.categories or selector.types for selector in selectors):
        asked.append(reduce(or_, map(_selected, selectors)))
    return reduce(and_, asked)


def _selected(selector: Selector) -> Any:
    parts = (("category", selector.categories), ("type", selector.types))
    return reduce(and_, [ds.field(name).isin(sorted(of)) for name, of in parts if of])
