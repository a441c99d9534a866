"""Sealed slices: their rows are in the log, and what they say is in chunks, or in an archive."""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property, wraps
from typing import Any, Final, ParamSpec, TypeVar

from psycopg.errors import DataCorrupted
from psycopg.pq import TransactionStatus

from everwhen.backends.archived_groups import ArchivedGroups, GroupPlace, is_archive_url
from everwhen.backends.chunks import Part, opened_frame, parts_of
from everwhen.backends.engine import NotFetchedError
from everwhen.backends.postgres.statements import PostgresSession, statements
from everwhen.backends.segment_packing import frames_of
from everwhen.codec.frames import Frame, FrameError, SliceRow
from everwhen.system.compression import Compressor
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.errors import RetiredError
from everwhen.vocabulary.microseconds import from_micros

P = ParamSpec("P")
T = TypeVar("T")

_FRAMES_REMEMBERED: Final = 128
"""Some 3 MB: the neighbours of what was read last."""
_PIECES_AT_ONCE: Final = 8
"""How many chunks one statement reads: some 4,000 slices."""
_NEAR: Final = 64
"""Positions that are no farther from each other are mostly in one chunk."""
_FEW: Final = 4
"""Up to so many slices of a frame are read one by one."""


class MissingBodyError(DataCorrupted):
    """A sealed slice is missing: damage, or it was moved since its row was read."""


class NotOfOneMomentError(Exception):
    """What was sealed takes more statements to read, and they have to be of one moment."""


def again_where_moved(call: Callable[P, T]) -> Callable[P, T]:
    """Reads rows and what was sealed of them once more, where that was moved in between.

    In a transaction that writes, each statement is of a moment of its own. What was retired in
    between is told by the rows of the second time.
    """

    @wraps(call)
    def twice(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except (MissingBodyError, RetiredError):
            return call(*args, **kwargs)

    return twice


class SealedBodies:
    """What the sealed slices of one log say. Safe from any thread.

    What is in objects elsewhere is waited for, unless it is ``deferring``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._compressors: dict[int, Compressor] = {}
        self._frames: OrderedDict[int, Frame] = OrderedDict()
        self._ends: list[int] = []
        self.groups = ArchivedGroups()
        self._waits = True

    @cached_property
    def deferring(self) -> SealedBodies:
        """The same: but what has to be fetched raises `NotFetchedError`, to be fetched first."""
        same = copy(self)
        same._waits = False
        return same

    def clear(self) -> None:
        """Forget all: somebody may have changed the tables past us."""
        with self._lock:
            self._compressors.clear()
            self._frames.clear()
            self._ends.clear()
        self.groups.clear()

    def with_bodies(
        self,
        session: PostgresSession,
        schema: str,
        slices: Sequence[StoredSlice],
        volume: int | None = None,
    ) -> list[StoredSlice]:
        """The slices of rows, which are in order, with what was sealed of them.

        With a ``volume``, there may be fewer: the first of them, with about so many bytes. Raises
        ``DataCorrupted`` where it is missing or damaged, `RetiredError` where it was retired
        meanwhile, and `NotOfOneMomentError` for sealed slices outside of a transaction.
        """
        if all(stored.body for stored in slices):
            return list(slices)
        if session.info.transaction_status is TransactionStatus.IDLE:
            raise NotOfOneMomentError
        filled: list[StoredSlice] = []
        left = volume
        try:
            for stored in self._filled(session, schema, slices):
                filled.append(stored)
                if left is not None:
                    left -= len(stored.body)
                    if left <= 0:
                        break
        except NotFetchedError:
            if volume is None or not filled:
                raise
        return filled

    def _filled(
        self, session: PostgresSession, schema: str, slices: Sequence[StoredSlice]
    ) -> Iterator[StoredSlice]:
        frame: Frame | None = None
        rows: Mapping[int, SliceRow] = {}
        pieces = _Pieces(self, session, schema)
        for number, stored in enumerate(slices):
            position = stored.position
            if stored.body:
                yield stored
                continue
            if frame is None or not frame.before < position <= frame.positions[-1]:
                frame = self._known(position)
                if frame is None:
                    rest = [one.position for one in slices[number:] if not one.body]
                    frame = pieces.frame(position, rest)
                    self._remember(frame)
                rows = _rows_of(frame, slices[number : number + _FEW])
            row = rows.get(position) or _row_at(frame, position)
            yield StoredSlice(
                position,
                stored.stream,
                stored.version,
                stored.count,
                stored.recorded_at,
                stored.commit_id,
                stored.first_index,
                row[7],
                row[8],
            )

    def _known(self, position: int) -> Frame | None:
        with self._lock:
            at = bisect_left(self._ends, position)
            if at == len(self._ends):
                return None
            frame = self._frames[self._ends[at]]
            if frame.before >= position:
                return None
            self._frames.move_to_end(self._ends[at])
            return frame

    def _remember(self, frame: Frame) -> None:
        last = frame.positions[-1]
        with self._lock:
            if last not in self._frames:
                insort(self._ends, last)
            self._frames[last] = frame
            while len(self._frames) > _FRAMES_REMEMBERED:
                end, _ = self._frames.popitem(last=False)
                del self._ends[bisect_left(self._ends, end)]

    def compressor(self, session: PostgresSession, schema: str, number: int) -> Compressor:
        """What decompresses the chunks of a dictionary."""
        found = self._compressors.get(number)
        if found is None:
            data = b""
            if number:
                sql = statements("tiers", schema)["dictionary"]
                row = session.execute(sql, (number,)).fetchone()
                if row is None:
                    raise DataCorrupted(f"dictionary {number} is missing")
                data = row[0]
            found = self._compressors[number] = Compressor(data)
        return found

    def frames_of_group(self, session: PostgresSession, schema: str, last: int) -> list[Frame]:
        """The slices of the row group that ends at a position."""
        return self.groups.frames(place_of(session, schema, last), _numbered, waits=self._waits)


class _Pieces:
    """The chunks and row groups that one page is read from."""

    def __init__(self, bodies: SealedBodies, session: PostgresSession, schema: str) -> None:
        self._bodies = bodies
        self._session = session
        self._schema = schema
        self._found: dict[int, tuple[Compressor, bytes, list[Part]] | None] = {}
        self._ends: list[int] = []

    def frame(self, position: int, rest: Sequence[int]) -> Frame:
        """The frame with a position; ``rest`` are those of which more will be asked."""
        frame = self._frame(position)
        if frame is None:
            self._look(rest)
            frame = self._frame(position)
        if frame is None:
            retired = retired_end(self._session, self._schema)
            if position <= retired:  # since these rows were read
                raise retired_error(self._session, self._schema)
            raise MissingBodyError(f"what was sealed of position {position} is missing")
        return frame

    def _frame(self, position: int) -> Frame | None:
        at = bisect_left(self._ends, position)
        if at == len(self._ends):
            return None
        last = self._ends[at]
        piece = self._found[last]
        if piece is None:
            frames = self._bodies.frames_of_group(self._session, self._schema, last)
            at = bisect_left(frames, position, key=_end_of)
            return frames[at] if frames[at].before < position else None
        compressor, data, parts = piece
        begins, ends, end = parts[bisect_left(parts, position, key=_end_of_part)]
        try:
            frame = opened_frame(compressor, memoryview(data)[begins:ends], end)
        except FrameError as error:
            raise DataCorrupted(str(error)) from error
        return frame if frame.before < position else None

    def _look(self, rest: Sequence[int]) -> None:
        asked: list[int] = []
        for position in rest:
            if not asked or abs(position - asked[-1]) > _NEAR:
                asked.append(position)
            if len(asked) == _PIECES_AT_ONCE:
                break
        rows = self._session.execute(
            statements("tiers", self._schema)["pieces"], (asked,), binary=True
        ).fetchall()
        self._found.clear()
        for last, is_cold, dictionary, data in rows:
            self._found[last] = None
            if is_cold:
                try:
                    parts = parts_of(data, last)
                except FrameError as error:
                    raise DataCorrupted(str(error)) from error
                compressor = self._bodies.compressor(self._session, self._schema, dictionary)
                self._found[last] = compressor, data, parts
        self._ends = sorted(self._found)


def _rows_of(frame: Frame, following: Sequence[StoredSlice]) -> Mapping[int, SliceRow]:
    """All of a frame's slices by position, where most of them will be asked for."""
    if len(following) < _FEW or not frame.before < following[-1].position <= frame.positions[-1]:
        return {}
    return {row[0]: row for row in frame.rows()}


def _row_at(frame: Frame, position: int) -> SliceRow:
    at = bisect_left(frame.positions, position)
    if frame.positions[at] != position:
        raise DataCorrupted(f"what was sealed of position {position} is missing")
    return frame.row(at)


def _end_of(frame: Frame) -> int:
    return frame.positions[-1]


def _end_of_part(part: Part) -> int:
    return part[2]


def _numbered(slices: list[StoredSlice]) -> list[Frame]:
    """Archived slices as frames; their streams are known by their rows."""
    names = dict.fromkeys(stored.stream for stored in slices)
    try:
        return frames_of(slices, {name: number for number, name in enumerate(names, 1)})
    except FrameError as error:
        raise DataCorrupted(f"archived slices: {error}") from error


def place_of(session: PostgresSession, schema: str, last: int) -> GroupPlace:
    """Where the row group is that ends at this position.

    Raises ``DataCorrupted``, of which `MissingBodyError` where there is none.
    """
    row: Any = session.execute(statements("tiers", schema)["place"], (last,)).fetchone()
    if row is None:
        raise MissingBodyError(f"the object with position {last} isn't known")
    number, digest, url, name, size = row
    if not is_archive_url(url):
        raise DataCorrupted(f"{url!r} is no archive's URL")
    return GroupPlace(last, number, digest, url, name, size)


def retired_end(session: PostgresSession, schema: str) -> int:
    """The position up to which history is retired; 0 where none is."""
    row = session.execute(statements("tiers", schema)["retired"]).fetchone()
    return 0 if row is None else int(row[0])


def retired_error(session: PostgresSession, schema: str) -> RetiredError:
    """The error for whoever asks for what was retired."""
    last, moment = session.execute(statements("tiers", schema)["retired"]).fetchall()[0]
    return RetiredError(last, from_micros(moment))
