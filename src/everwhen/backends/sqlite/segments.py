"""Sealed history: slices that are read out of compressed chunks, and found by postings.

A chunk is a few frames (`everwhen.codec.frames`), each compressed by itself, so that one slice is
read without unpacking all of them. What a position's neighbours were unpacked for is remembered.
"""

from __future__ import annotations

import heapq
import json
import sys
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import cached_property, partial
from itertools import groupby, islice, pairwise
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

import apsw

from everwhen.backends.archived_groups import (
    MAX_URL_BYTES,
    ArchivedGroups,
    GroupPlace,
    is_archive_url,
)
from everwhen.backends.chunks import COUNT, PART, Part, opened_frame, parts_of
from everwhen.backends.remembering import remember
from everwhen.backends.segment_packing import frames_of
from everwhen.backends.sqlite.statements import statements
from everwhen.backends.sqlite.value_sizes import MAX_CHUNK_BYTES, limited
from everwhen.codec.frames import Frame, FrameError, SliceRow
from everwhen.system.compression import Compressor
from everwhen.system.sqlite_values import stored_bytes, stored_count, stored_int, stored_text
from everwhen.vocabulary.contract import StoredSlice

_SQL: Final = statements("sealed")
_ARCHIVED: Final = statements("archived")
_READING: Final = statements("reading")

_FRAMES_REMEMBERED: Final = 128
"""Some 3 MB: the neighbours of what was read last."""
_CHUNKS_REMEMBERED: Final = 4_096
"""Where the frames of a chunk are: some 2 MB."""
_FEW: Final = 4
"""Up to so many slices of a frame are read one by one."""
_NARROW: Final = 64
"""A range of up to so many positions is read by the frame, a longer one by the chunk."""

ChunkLayout: TypeAlias = tuple[list[Part], list[int]]
"""A chunk's frames, and the positions of their last events."""
KnownChunk: TypeAlias = tuple[int, int, bytes]
"""A chunk: the position of its last event, its size, and its head, which says where its frames are.

Without the head it might be another one: what is restored, or merged, can be cut up anew.
"""


def places_of(numbers: Sequence[int]) -> bytes:
    """Numbers that are not negative, as a posting has them: as wide as the largest needs."""
    found = array("H" if numbers[-1] < 1 << 16 else "Q", numbers)
    if sys.byteorder == "big":
        found.byteswap()
    return bytes([found.itemsize]) + found.tobytes()


def numbers_in(places: bytes) -> array[int]:
    """The numbers of a posting. Raises ``apsw.CorruptError`` for what isn't one."""
    try:
        found = array({2: "H", 8: "Q"}[places[0]], places[1:])
    except (IndexError, KeyError, ValueError):
        raise apsw.CorruptError("a posting has no numbers") from None
    if sys.byteorder == "big":
        found.byteswap()
    if not found or any(one >= other for one, other in pairwise(found)):
        raise apsw.CorruptError("a posting's numbers are out of order")
    return found


def prefix_of(commit_id: bytes) -> int:
    """What a commit is listed by: the id's first 8 bytes, as a number."""
    return int.from_bytes(commit_id[:8], signed=True)


class Piece(NamedTuple):
    """A run of sealed slices that is read as a whole: a chunk, or a row group of an object.

    ``ends`` are the positions at which its frames end, the last one being the piece's key;
    ``frame`` gives one of them by its number.
    """

    ends: Sequence[int]
    frame: Callable[[int], Frame]


class Segments:
    """The sealed slices of one file, up to a border. Safe from any thread.

    Those in objects elsewhere are waited for, unless it is ``deferring``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._compressors: dict[int, Compressor] = {}
        self._layouts: OrderedDict[KnownChunk, ChunkLayout] = OrderedDict()
        self._frames: OrderedDict[tuple[KnownChunk, int], Frame] = OrderedDict()
        self.groups = ArchivedGroups()
        self._waits = True

    @cached_property
    def deferring(self) -> Segments:
        """The same: but what has to be fetched raises `NotFetchedError`, to be fetched first."""
        same = copy(self)
        same._waits = False
        return same

    def clear(self) -> None:
        """Forget all: somebody may have changed the file past us."""
        with self._lock:
            self._compressors.clear()
            self._layouts.clear()
            self._frames.clear()
        self.groups.clear()

    @staticmethod
    def border(connection: apsw.Connection) -> int:
        """The position up to which slices are sealed."""
        return stored_count(connection.execute(_SQL["border"]).get or 0)

    def rows(
        self, connection: apsw.Connection, low: int, high: int, *, reverse: bool
    ) -> Iterator[SliceRow]:
        """The slices whose last events are after ``low`` and up to ``high``, all of them sealed."""
        for frame in self.frames(connection, low, high, reverse=reverse):
            start = bisect_left(frame.positions, low + 1)
            stop = bisect_left(frame.positions, high + 1)
            if stop - start < _FEW:
                rows = [frame.row(index) for index in range(start, stop)]
            else:
                rows = [*islice(frame.rows(), start, stop)]
            yield from reversed(rows) if reverse else rows

    def row_at(self, connection: apsw.Connection, position: int) -> SliceRow:
        """The slice that holds the event at a sealed position, or the next one after a hole."""
        piece = self._piece(connection, position)
        frame = piece.frame(bisect_left(piece.ends, position))
        if frame.before >= position:
            raise _missing(position - 1, frame.before)
        return frame.row(bisect_left(frame.positions, position))

    def position_at(
        self, connection: apsw.Connection, recorded_at: int, between: tuple[int, int]
    ) -> int:
        """The last sealed position recorded at or before the moment: by bisection over pieces.

        The first of the two positions is taken for earlier, and is what is given if none is.
        """
        (low, border), end = between, 0
        high = border
        while low < high:
            middle = (low + high) // 2 + 1
            found_piece = connection.execute(_SQL["piece_at"], (middle, middle)).fetchone()
            if found_piece is None:
                raise _missing(middle - 1, border)
            last, moment = found_piece
            if stored_int(moment) <= recorded_at:
                low = end = min(stored_count(last), border)
            else:
                high = middle - 1
        if not end:
            if low < border:
                self._check_later(connection, low + 1, recorded_at)
            return low
        piece = self._piece(connection, end)
        for number in reversed(range(len(piece.ends))):
            frame = piece.frame(number)
            found = bisect_right(frame.recorded_at, recorded_at)
            if found:
                position: int = frame.positions[found - 1]
                if position == end < border:
                    self._check_later(connection, position + 1, recorded_at)
                return position
        raise _at_another_time(piece.ends[-1])

    def _check_later(self, connection: apsw.Connection, position: int, recorded_at: int) -> None:
        """Raises ``apsw.CorruptError`` unless the slice there is later than the moment."""
        row = self.row_at(connection, position)
        if row[4] <= recorded_at:
            raise _at_another_time(row[0])

    def frames(
        self, connection: apsw.Connection, low: int, high: int, *, reverse: bool
    ) -> Iterator[Frame]:
        """The frames with slices after ``low`` and up to ``high``, in direction."""
        look = self._near if high - low <= _NARROW else self._far
        due = None
        for frame in look(connection, low, high, reverse=reverse):
            if reverse:
                last = frame.positions[-1]
                is_next = last == due if due is not None else last >= high
                due = frame.before
            else:
                is_next = frame.before == due if due is not None else frame.before <= low
                due = frame.positions[-1]
            if not is_next:
                raise _missing(low, high)
            yield frame
        if due is None or (due > low if reverse else due < high):
            raise _missing(low, high)

    def _near(
        self, connection: apsw.Connection, low: int, high: int, *, reverse: bool
    ) -> Iterator[Frame]:
        """Those of a short range: frames are read one by one."""
        position = high if reverse else low + 1
        while low < position <= high:
            piece = self._piece(connection, position)
            number = bisect_left(piece.ends, position)
            for one in range(number, -1, -1) if reverse else range(number, len(piece.ends)):
                frame = piece.frame(one)
                yield frame
                position = min(position - 1, frame.before) if reverse else piece.ends[one] + 1
                if not low < position <= high:
                    break

    def _far(
        self, connection: apsw.Connection, low: int, high: int, *, reverse: bool
    ) -> Iterator[Frame]:
        """The same of a long range: chunks are read one after the other."""
        top = connection.execute(_SQL["piece_of"], (high, high)).fetchone()
        if top is None:
            raise _missing(low, high)
        bounds = low, stored_count(top[0])
        chunks = self._chunks(connection, bounds, reverse=reverse)
        groups = self._groups(connection, bounds, reverse=reverse)
        for _, opened in heapq.merge(chunks, groups, key=itemgetter(0), reverse=reverse):
            ends, frame = opened()
            for number in range(len(ends) - 1, -1, -1) if reverse else range(len(ends)):
                if ends[number] <= low or (number and ends[number - 1] >= high):
                    continue
                yield frame(number)

    def _chunks(
        self, connection: apsw.Connection, bounds: tuple[int, int], *, reverse: bool
    ) -> Iterator[tuple[int, Callable[[], Piece]]]:
        order = "DESC" if reverse else "ASC"
        sql = (
            "SELECT last, dictionary, data FROM chunks WHERE last > ? AND last <= ? "
            f"ORDER BY last {order}"
        )
        with limited(connection, MAX_CHUNK_BYTES):
            chunks = connection.execute(sql, bounds)
        while True:
            with limited(connection, MAX_CHUNK_BYTES):
                chunk = next(chunks, None)
            if chunk is None:
                return
            last, dictionary, data = chunk
            yield last, partial(self._unpacked, connection, last, dictionary, data)

    def _unpacked(
        self, connection: apsw.Connection, last: int, dictionary: int, data: bytes
    ) -> Piece:
        compressor = self._compressor(connection, dictionary)
        with _corrupt():
            parts = parts_of(data, last)
        view = memoryview(data)

        def frame(number: int) -> Frame:
            begins, ends, end = parts[number]
            return _opened(compressor, view[begins:ends], end)

        return Piece([part[2] for part in parts], frame)

    def _groups(
        self, connection: apsw.Connection, bounds: tuple[int, int], *, reverse: bool
    ) -> Iterator[tuple[int, Callable[[], Piece]]]:
        """The row groups of a range that are in no chunks."""
        sql = (
            "SELECT last FROM archived WHERE last > ? AND last <= ? "
            "AND NOT EXISTS (SELECT 1 FROM chunks WHERE chunks.last = archived.last) "
            f"ORDER BY last {'DESC' if reverse else 'ASC'}"
        )
        for (last,) in connection.execute(sql, bounds):
            yield last, partial(self._fetched, connection, last)

    def _fetched(self, connection: apsw.Connection, last: int) -> Piece:
        frames = self.groups.frames(
            place_of(connection, last), partial(frames_in_file, connection), waits=self._waits
        )
        return Piece([frame.positions[-1] for frame in frames], frames.__getitem__)

    def _piece(self, connection: apsw.Connection, position: int) -> Piece:
        """The chunk, or the row group, with a position."""
        row = connection.execute(_SQL["piece_of"], (position, position)).fetchone()
        if row is None:
            raise _missing(position - 1, position)
        last, dictionary, size = row
        if dictionary is None:
            return self._fetched(connection, last)
        compressor = self._compressor(connection, dictionary)
        with connection.blob_open("main", "chunks", "data", last, False) as blob:
            head = blob.read(COUNT.size)
            count = COUNT.unpack(head)[0] if len(head) == COUNT.size else 0
            head += blob.read(count * PART.size)
            chunk = last, size, head
            parts, frame_ends = self._layout(chunk)
            wanted = bisect_left(frame_ends, position)
            if (chunk, wanted) not in self._frames:
                self._remember(chunk, wanted, _read(blob, compressor, parts[wanted]))

        def frame(number: int) -> Frame:
            known = self._frames.get((chunk, number))
            if known is not None:
                return known
            with connection.blob_open("main", "chunks", "data", last, False) as blob:
                read = _read(blob, compressor, parts[number])
            self._remember(chunk, number, read)
            return read

        return Piece(frame_ends, frame)

    def _layout(self, chunk: KnownChunk) -> ChunkLayout:
        found = self._layouts.get(chunk)
        if found is None:
            last, size, head = chunk
            with _corrupt():
                parts = parts_of(head, last, size)
            found = parts, [end for _, _, end in parts]
            with self._lock:
                remember(self._layouts, chunk, found, _CHUNKS_REMEMBERED)
        return found

    def _remember(self, chunk: KnownChunk, number: int, frame: Frame) -> None:
        with self._lock:
            remember(self._frames, (chunk, number), frame, _FRAMES_REMEMBERED)

    def _compressor(self, connection: apsw.Connection, dictionary: int) -> Compressor:
        found = self._compressors.get(dictionary)
        if found is None:
            data = connection.execute(_SQL["dictionary"], (dictionary,)).get if dictionary else b""
            if data is None:
                raise apsw.CorruptError(f"dictionary {dictionary!r} is missing")
            found = self._compressors[dictionary] = Compressor(stored_bytes(data))
        return found

    # What is found by terms

    def places(
        self, connection: apsw.Connection, term: int, low: int, high: int, *, reverse: bool
    ) -> Iterator[tuple[int, int, array[int]]]:
        """A term's postings between ``low`` and ``high``, one for each segment.

        With the segment's first position, and the stream's version at its end.
        """
        sql = (
            "SELECT segments.first, postings.version, postings.places FROM segments "
            "CROSS JOIN postings ON postings.segment = segments.last AND postings.term = ? "
            "WHERE segments.last > ? AND segments.last <= "
            "(SELECT min(last) FROM segments WHERE last >= ?) "
            f"ORDER BY segments.last {'DESC' if reverse else 'ASC'}"
        )
        for first, version, places in connection.execute(sql, (term, low, high)):
            yield stored_count(first), stored_int(version), numbers_in(stored_bytes(places))

    def places_of_many(
        self,
        connection: apsw.Connection,
        terms: Sequence[int],
        low: int,
        high: int,
        *,
        reverse: bool,
    ) -> Iterator[tuple[int, list[int]]]:
        """For each segment, its first position and the numbers of all of these terms, in order."""
        sql = (
            "SELECT segments.first, postings.places FROM segments "
            "CROSS JOIN postings ON postings.segment = segments.last "
            "AND postings.term IN (SELECT value FROM json_each(?)) "
            "WHERE segments.last > ? AND segments.last <= "
            "(SELECT min(last) FROM segments WHERE last >= ?) "
            f"ORDER BY segments.last {'DESC' if reverse else 'ASC'}"
        )
        rows = connection.execute(sql, (json.dumps(list(terms)), low, high))
        for first, of_segment in groupby(rows, key=itemgetter(0)):
            numbers: set[int] = set()
            for _, places in of_segment:
                numbers.update(numbers_in(stored_bytes(places)))
            yield stored_count(first), sorted(numbers)


def _read(blob: apsw.Blob, compressor: Compressor, part: Part) -> Frame:
    begins, ends, last = part
    blob.seek(begins)
    return _opened(compressor, blob.read(ends - begins), last)


@contextmanager
def _corrupt() -> Iterator[None]:
    """Raises ``apsw.CorruptError`` for chunks that are damaged."""
    try:
        yield
    except FrameError as error:
        raise apsw.CorruptError(str(error)) from error


def _opened(compressor: Compressor, data: bytes | memoryview, last: int) -> Frame:
    with _corrupt():
        return opened_frame(compressor, data, last)


def place_of(connection: apsw.Connection, last: int) -> GroupPlace:
    """Where the row group is that ends at this position. Raises ``apsw.CorruptError``."""
    row = connection.execute(_ARCHIVED["place"], (last,)).fetchone()
    if row is None:
        raise apsw.CorruptError(f"the object with position {last} isn't known")
    number, digest, url, name, size = row
    if not is_archive_url(stored_text(url, MAX_URL_BYTES)):
        raise apsw.CorruptError(f"{url!r} is no archive's URL")
    return GroupPlace(
        last,
        stored_count(number),
        stored_bytes(digest),
        url,
        stored_text(name, MAX_URL_BYTES),
        stored_count(size),
    )


def frames_in_file(connection: apsw.Connection, slices: Sequence[StoredSlice]) -> list[Frame]:
    """Archived slices as frames, by the numbers that their streams have in this file."""
    numbers: dict[str, int] = {}
    for name in {stored.stream for stored in slices}:
        number = connection.execute(_READING["stream_id"], (name,)).get
        if number is None:
            raise apsw.CorruptError(f"an archived slice is of stream {name!r}, which isn't known")
        numbers[name] = number
    with _corrupt():
        return frames_of(slices, numbers)


def _at_another_time(last: int) -> apsw.CorruptError:
    return apsw.CorruptError(f"the chunk with position {last} begins at another time")


def _missing(low: int, high: int) -> apsw.CorruptError:
    return apsw.CorruptError(f"sealed events between positions {low + 1} and {high} are missing")
