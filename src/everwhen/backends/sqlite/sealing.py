"""Sealing: old slices are packed into a segment, and their rows deleted, in small steps.

What is packed never changes, so no lock is held while that is done. Then chunks and postings are
written, in transactions of about a megabyte, where nobody looks yet; one row moves the border; and
only then are the rows deleted that it has made worthless. Cut off at any moment, the next run takes
what is left over. Two of them don't get into each other's way: whoever begins stops the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import apsw
import msgspec

from everwhen.backends.commit_times import is_natural
from everwhen.backends.index_terms import BLOCK, CATEGORY, TAG, TYPE, Named, block_of, named_in_each
from everwhen.backends.moving import ReadsOnce, Work
from everwhen.backends.segment_packing import (
    STEP_ROWS,
    ChunkDictionary,
    PackedSegment,
    packed_segment,
    rows_to_seal,
    steps_of_chunks,
)
from everwhen.backends.sqlite.pages import StreamNames
from everwhen.backends.sqlite.query_plan import Row
from everwhen.backends.sqlite.segments import Segments, places_of, prefix_of
from everwhen.backends.sqlite.statements import each, statements
from everwhen.backends.sqlite.stored_rows import check_rows
from everwhen.backends.sqlite.value_sizes import limited
from everwhen.codec.frames import FrameError
from everwhen.system.compression import DecompressionError
from everwhen.vocabulary.contract import Seal, Segment, SegmentSize
from everwhen.vocabulary.errors import BusyError
from everwhen.vocabulary.streams import category_of

_SQL: Final = statements("sealed")
_READING: Final = statements("reading")
_VIEW: Final = statements("sealed_events")

SqliteWrites: TypeAlias = Generator[Work[apsw.Connection], None, Segment | None]
"""What a move writes, one transaction after the other, and the segment that it has moved."""

_COLUMNS_OF_SEGMENT: Final = 7


def sealed(read: ReadsOnce[apsw.Connection], move: Seal, *, is_whole: bool) -> SqliteWrites:
    """The writes that seal one segment of a file, and delete the rows of what is sealed.

    The segment that was made; None where there are too few slices for one. A file that isn't
    ``is_whole`` is one of several.
    """
    yield from _cleared(read, is_whole=is_whole)
    made = read(partial(_pack, up_to=move.up_to, size=move.size))
    if made is None:
        return None
    yield from made.writes()
    yield made.switch
    yield from _cleared(read, is_whole=is_whole)
    return made.packed.segment


def _cleared(
    read: ReadsOnce[apsw.Connection], *, is_whole: bool
) -> Iterator[Work[apsw.Connection]]:
    """Delete what is left over: of a segment that wasn't finished, and rows that are sealed.

    A segment's marks go before its rows: as long as there are rows, there may be marks.
    """
    border = read(partial(_sound_border, is_whole=is_whole))
    while read(partial(_unfinished, border=border)):
        yield partial(_drop_unfinished, border=border)
    while True:
        segment = read(partial(_to_clear, border=border))
        if segment is None:
            return
        after: int | None = 0
        while after is not None:
            terms: list[int] = read(partial(_terms, segment=segment, after=after))
            after = terms[-1] if terms else None
            if terms:
                yield partial(each, _SQL["delete_marks"], [(term, segment) for term in terms])
        end: int | None = 0
        while end is not None:
            end = read(partial(_end_of_deletion, segment=segment))
            yield partial(each, _SQL["delete_slices"], [(segment if end is None else end,)])


class _Packed(msgspec.Struct):
    """A segment that is ready to be written, and the border that it follows on."""

    border: int
    packed: PackedSegment
    postings: list[tuple[int, int, int, bytes]]
    streams: list[tuple[int, int, int, int]]
    commits: list[tuple[int, int]]

    def writes(self) -> Iterator[Work[apsw.Connection]]:
        """Everything but the border, in transactions that don't keep a writer waiting for long."""
        if self.packed.dictionary is not None:
            yield partial(each, _SQL["save_dictionary"], [self.packed.dictionary])
        for some in steps_of_chunks(self.packed.chunks):
            yield partial(each, _SQL["save_chunk"], some)
        kinds: tuple[tuple[str, Sequence[tuple[Any, ...]]], ...] = (
            ("save_posting", self.postings),
            ("save_stream", self.streams),
            ("save_commit", self.commits),
        )
        for name, rows in kinds:
            for start in range(0, len(rows), STEP_ROWS):
                yield partial(each, _SQL[name], rows[start : start + STEP_ROWS])

    def switch(self, connection: apsw.Connection) -> None:
        """Move the border: from here on the slices are where they were packed."""
        segment, bounds = self.packed.segment, (self.border, self.packed.segment.last)
        found = connection.execute(_SQL["chunks_between"], bounds).get
        if (Segments.border(connection), found) != (self.border, len(self.packed.chunks)):
            raise BusyError("another process has moved history meanwhile; begin again")
        row = msgspec.structs.astuple(segment)[:_COLUMNS_OF_SEGMENT]
        connection.execute(_SQL["save_segment"], row)
        if connection.execute(_VIEW["exists"]).get is None:
            connection.execute(_VIEW["drop"])
            connection.execute(_VIEW["create"])


def _sound_border(connection: apsw.Connection, *, is_whole: bool) -> int:
    """The border. Raises ``apsw.CorruptError`` where it is wrong: by it rows and chunks go.

    Only in a file that is one of several may there be a hole after it.
    """
    border = Segments.border(connection)
    ((is_there, has_more, begins),) = connection.execute(_SQL["at_border"], {"border": border})
    is_next = begins in {None, border} or (not is_whole and begins > border)
    if (border and not is_there) or (begins is None and has_more) or not is_next:
        raise apsw.CorruptError(f"sealed history doesn't end at position {border}; see check()")
    return border


def _unfinished(connection: apsw.Connection, border: int) -> bool:
    found = [
        connection.execute(_SQL["chunk_after"], (border,)).get,
        connection.execute(_SQL["unfinished_postings"], (border, 1)).get,
    ]
    return found != [None, None]


def _drop_unfinished(connection: apsw.Connection, border: int) -> None:
    connection.execute(_SQL["drop_unfinished_chunks"], (border,))
    found = connection.execute(_SQL["unfinished_postings"], (border, STEP_ROWS)).fetchall()
    connection.executemany(_SQL["drop_posting"], found)


def _to_clear(connection: apsw.Connection, border: int) -> int | None:
    """The first segment that still has rows."""
    oldest = connection.execute(_SQL["oldest_row"]).get
    if oldest is None or oldest > border:
        return None
    found: int = connection.execute(_SQL["segment"], (oldest,)).get
    return found


def _terms(connection: apsw.Connection, segment: int, after: int) -> list[int]:
    rows = connection.execute(_SQL["terms_to_clear"], (segment, after, STEP_ROWS))
    return [term for (term,) in rows]


def _end_of_deletion(connection: apsw.Connection, segment: int) -> int | None:
    found: int | None = connection.execute(_SQL["end_of_deletion"], (segment, STEP_ROWS)).get
    return found


def _pack(connection: apsw.Connection, up_to: int, size: SegmentSize) -> _Packed | None:
    """The next segment, packed and shown to come back as it is; None where nothing is to seal."""
    border = Segments.border(connection)
    with limited(connection):
        rows = rows_to_seal(
            lambda most: connection.execute(_SQL["rows_to_seal"], (border, up_to, most)),
            lambda position: connection.execute(_SQL["first_index_after"], (position,)).get,
            size,
        )
    if not rows:
        return None
    check_rows(rows)
    names = StreamNames().many(connection, {row[1] for row in rows})
    try:
        made = packed_segment(rows, border, names, newest_dictionary(connection), size)
    except (FrameError, DecompressionError) as error:
        raise apsw.CorruptError(str(error)) from error
    postings, streams = postings_of(connection, rows, made.segment.first, names, {})
    return _Packed(
        border,
        made,
        [(made.segment.last, *posting) for posting in postings],
        streams,
        listed_commits(rows),
    )


def newest_dictionary(connection: apsw.Connection) -> ChunkDictionary | None:
    """What chunks are compressed with; None where none was needed as yet."""
    found = connection.execute(_SQL["newest_dictionary"]).fetchone()
    return None if found is None else ChunkDictionary(*found)


def postings_of(
    connection: apsw.Connection,
    rows: Sequence[Row],
    first: int,
    names: Mapping[int, str],
    terms: dict[tuple[int, str], int],
) -> tuple[list[tuple[int, int, bytes]], list[tuple[int, int, int, int]]]:
    """The postings of a segment that begins at ``first``, and where its streams stand then.

    ``terms`` has the terms that are known already, and is given those that are looked up.
    """
    index = _Index(connection, first, terms)
    newest: dict[int, Row] = {}
    for row, named in zip(rows, named_in_each([row[8] for row in rows]), strict=True):
        newest[row[1]] = row
        index.add(row, names[row[1]], named)
    postings = [
        (key, newest[-key][2] if key < 0 else 0, places_of(places))
        for key, places in sorted(index.places.items())
    ]
    return postings, [(stream, row[2], row[0], row[4]) for stream, row in sorted(newest.items())]


class _Index:
    """``places`` are, by term, where a segment has it: those of a stream by its negated number.

    Streams and tags are at slices, which are counted as positions; types and categories in blocks.
    """

    def __init__(
        self, connection: apsw.Connection, first: int, terms: dict[tuple[int, str], int]
    ) -> None:
        self.places: defaultdict[int, list[int]] = defaultdict(list)
        self._connection = connection
        self._first = first
        self._terms = terms
        self._categories: dict[int, int] = {}
        self._block = -1
        self._in_block: set[int] = set()

    def add(self, row: Row, stream_name: str, named: Iterable[Named]) -> None:
        """Take in the next slice, and what its events are named by."""
        position, stream = row[0], row[1]
        block = block_of(position)
        if block != self._block:
            self._block = block
            self._in_block.clear()
        place, all_places, terms = position - self._first, self.places, self._terms
        all_places[-stream].append(place)
        category = self._categories.get(stream)
        if category is None:
            category = self._categories[stream] = self._term(CATEGORY, category_of(stream_name))
        self._in_this_block(category)
        for event in named:
            self._in_this_block(terms.get((TYPE, event.type)) or self._term(TYPE, event.type))
            for tag in event.tags:
                places = all_places[terms.get((TAG, tag)) or self._term(TAG, tag)]
                if not places or places[-1] != place:
                    places.append(place)

    def _in_this_block(self, term: int) -> None:
        if term not in self._in_block:
            self._in_block.add(term)
            self.places[term].append((self._block - block_of(self._first)) // BLOCK)

    def _term(self, kind: int, name: str) -> int:
        found = self._terms.get((kind, name))
        if found is None:
            found = self._connection.execute(_READING["term_id"], (kind, name)).get
            if found is None:
                raise apsw.CorruptError(f"the index has no term {name!r}")
            self._terms[kind, name] = found
        return found


def listed_commits(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """The commits whose ids don't lead to them, by prefix and position."""
    return sorted(
        (prefix_of(row[5]), row[0]) for row in rows if not row[6] and not is_natural(row[5], row[4])
    )
