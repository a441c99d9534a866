"""Where the segments of one log are: what moves of history read and write there.

Rows stay where they are, with all that they are found by. What they say is packed into chunks, in
transactions where nobody looks yet; one row moves the border; and only then are the rows emptied.
Cut off at any moment, the next run takes what is left over.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, TypeAlias

import msgspec
from psycopg.errors import DataCorrupted

from everwhen.backends.archive_objects import GROUP_BYTES, GROUP_EVENTS, GroupRecord
from everwhen.backends.archived_groups import GroupPlace
from everwhen.backends.chunks import Chunk
from everwhen.backends.commit_times import is_natural
from everwhen.backends.moving import ReadsOnce, Work
from everwhen.backends.postgres.lookups import segments
from everwhen.backends.postgres.sealed_bodies import SealedBodies, place_of, retired_end
from everwhen.backends.postgres.slice_ranges import rows_between, slices_between
from everwhen.backends.postgres.statements import PostgresSession, statements
from everwhen.backends.segment_packing import (
    STEP_ROWS,
    ChunkDictionary,
    PackedSegment,
    chunks_of,
    frames_of,
    packed_segment,
    rows_to_seal,
    steps_of_chunks,
)
from everwhen.codec.frames import FrameError
from everwhen.system.compression import DecompressionError
from everwhen.vocabulary.contract import Retire, Seal, Segment, SegmentSize, StoredSlice
from everwhen.vocabulary.errors import BusyError
from everwhen.vocabulary.streams import MAX_POSITION

PostgresWork: TypeAlias = Work[PostgresSession]
PostgresReads: TypeAlias = ReadsOnce[PostgresSession]

_COLUMNS_OF_SEGMENT: Final = 7
_STEP_CHUNKS: Final = 64
"""How many chunks or row groups one transaction deletes."""


class PostgresTables:
    """The tables of the log in a schema."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._sql = statements("tiers", schema)

    def _rows(self, session: PostgresSession, name: str, *bounds: object) -> list[tuple[Any, ...]]:
        return session.execute(self._sql[name], bounds, binary=True).fetchall()

    def _run(self, session: PostgresSession, name: str, *bounds: object) -> None:
        session.execute(self._sql[name], bounds)

    def _each(
        self, session: PostgresSession, name: str, rows: Sequence[tuple[object, ...]]
    ) -> None:
        with session.cursor() as cursor:
            cursor.executemany(self._sql[name], rows)

    # Whose turn it is

    def take_over(self, connection: PostgresSession, token: bytes) -> None:
        self._run(connection, "take_over", token)

    def turn(self, connection: PostgresSession) -> bytes:
        ((token,),) = self._rows(connection, "turn")
        return bytes(token)

    # Sealing

    def sealed(
        self, read: PostgresReads, move: Seal
    ) -> Generator[PostgresWork, None, Segment | None]:
        yield from self._finished(read)
        border, made = read(partial(self._pack, up_to=move.up_to, size=move.size))
        if made is None:
            return None
        if made.dictionary is not None:
            yield partial(self._each, name="save_dictionary", rows=[made.dictionary])
        for chunks in steps_of_chunks(made.chunks):
            yield partial(self._each, name="save_chunk", rows=chunks)
        yield partial(self._switch, border=border, made=made)
        yield from self._finished(read)
        return made.segment

    def _finished(self, read: PostgresReads) -> Iterator[PostgresWork]:
        """Delete the chunks of a segment that wasn't finished; empty the rows of what is sealed."""
        border = read(self._border)
        if read(lambda session: self._rows(session, "is_chunk_after", border)[0][0]):
            yield partial(self._drop_unfinished, border=border)
        ((emptied, _, _),) = read(lambda session: self._rows(session, "progress"))
        while emptied < border:
            end = read(partial(self._end_of_step, after=emptied, last=border))
            yield partial(self._empty, after=emptied, last=end)
            emptied = end

    def _border(self, session: PostgresSession) -> int:
        ((border,),) = self._rows(session, "border")
        return int(border)

    def _drop_unfinished(self, session: PostgresSession, border: int) -> None:
        self._run(session, "drop_chunks", border, MAX_POSITION)

    def _end_of_step(self, session: PostgresSession, after: int, last: int) -> int:
        """How far one transaction goes that changes rows."""
        rows = self._rows(session, "end_of_step", after, last, STEP_ROWS)
        return int(rows[0][0]) if rows else last

    def _empty(self, session: PostgresSession, after: int, last: int) -> None:
        self._run(session, "empty_rows", after, last)
        self._run(session, "note_emptied", last)

    def _pack(
        self, session: PostgresSession, up_to: int, size: SegmentSize
    ) -> tuple[int, PackedSegment | None]:
        """The border, and the next segment, packed; None where nothing is to seal."""
        border = self._border(session)

        def first_index_after(position: int) -> int | None:
            rows = self._rows(session, "first_index_after", position)
            return int(rows[0][0]) if rows else None

        rows = rows_to_seal(
            lambda most: islice(rows_between(session, self._schema, border, up_to), most),
            first_index_after,
            size,
        )
        if not rows:
            return border, None
        ids = list({row[1] for row in rows})
        names = dict(self._rows(session, "stream_names", ids))
        try:
            return border, packed_segment(rows, border, names, self._dictionary(session), size)
        except (FrameError, DecompressionError) as error:
            raise DataCorrupted(str(error)) from error

    def _dictionary(self, session: PostgresSession) -> ChunkDictionary | None:
        rows = self._rows(session, "newest_dictionary")
        return ChunkDictionary(*rows[0]) if rows else None

    def _switch(self, session: PostgresSession, border: int, made: PackedSegment) -> None:
        """Move the border: from here on the slices are where they were packed."""
        segment = made.segment
        ((found,),) = self._rows(session, "chunks_between", border, segment.last)
        if (self._border(session), found) != (border, len(made.chunks)):
            raise BusyError("another process has moved history meanwhile; begin again")
        self._run(session, "save_segment", *msgspec.structs.astuple(segment)[:_COLUMNS_OF_SEGMENT])

    # Archives

    def segments(self, connection: PostgresSession) -> list[Segment]:
        return segments(connection, self._schema)

    def some_slices(self, connection: PostgresSession, low: int, high: int) -> list[StoredSlice]:
        found: list[StoredSlice] = []
        after, events, volume = low, 0, 0
        for (last,) in self._rows(connection, "ends_of_chunks", low, high):
            some = [*slices_between(connection, self._schema, after, last, SealedBodies())]
            found += some
            events += sum(stored.count for stored in some)
            volume += sum(len(stored.body) for stored in some)
            after = last
            if events >= GROUP_EVENTS or volume >= GROUP_BYTES:
                break
        return found

    def ends_of_groups(self, connection: PostgresSession, low: int, high: int) -> list[int]:
        return [int(last) for (last,) in self._rows(connection, "ends_of_groups", low, high)]

    def is_cold(self, connection: PostgresSession, last: int) -> bool:
        return bool(self._rows(connection, "chunk", last))

    def place_of(self, connection: PostgresSession, last: int) -> GroupPlace:
        return place_of(connection, self._schema, last)

    def chunks_of(
        self, connection: PostgresSession, slices: Sequence[StoredSlice], before: int
    ) -> list[Chunk]:
        names = list({stored.stream for stored in slices})
        numbers = dict(self._rows(connection, "stream_ids", names))
        if len(numbers) < len(names):
            raise DataCorrupted("archived slices are of streams that aren't known")
        try:
            rows = [row for frame in frames_of(slices, numbers) for row in frame.rows()]
            return chunks_of(rows, before, self._dictionary(connection), SegmentSize())
        except (FrameError, DecompressionError) as error:
            raise DataCorrupted(str(error)) from error

    def unused_objects(self, connection: PostgresSession, before: int) -> list[tuple[str, str]]:
        return [(url, name) for url, name in self._rows(connection, "unused_objects", before)]

    def announce(
        self, connection: PostgresSession, url: str, name: str, size: int, now: int
    ) -> None:
        self._run(connection, "announce_object", url, name, size, now)

    def use(self, connection: PostgresSession, url: str, name: str) -> int | None:
        rows = self._rows(connection, "use_object", url, name)
        return int(rows[0][0]) if rows else None

    def save_groups(
        self, connection: PostgresSession, number: int, groups: Sequence[GroupRecord]
    ) -> None:
        rows = [(one.last, one.first_time, number, at, one.sha256) for at, one in enumerate(groups)]
        self._each(connection, "save_group", rows)

    def move_groups(
        self, connection: PostgresSession, number: int, lasts: Sequence[int], now: int
    ) -> None:
        self._each(connection, "move_group", [(number, at, one) for at, one in enumerate(lasts)])
        self._run(connection, "disuse_objects", now)

    def save_chunks(self, connection: PostgresSession, chunks: Sequence[Chunk]) -> None:
        self._each(connection, "save_chunk", chunks)

    def drop_chunks(self, connection: PostgresSession, low: int, high: int) -> None:
        self._run(connection, "drop_chunks", low, high)

    def leave_archive(self, connection: PostgresSession, low: int, high: int, now: int) -> None:
        self._run(connection, "drop_groups", low, high)
        self._run(connection, "measure_segment", low, high, high)
        self._run(connection, "disuse_objects", now)

    def forget_object(self, connection: PostgresSession, url: str, name: str) -> None:
        self._run(connection, "forget_object", url, name)

    # Retirement

    def retired(
        self, read: PostgresReads, move: Retire, now: Callable[[], int]
    ) -> Iterator[PostgresWork]:
        """One row gives up all segments up to a position; then they are deleted.

        Each stream's newest row stays, and the ids of commits: so positions and versions go on, and
        nothing is written twice.
        """
        yield partial(self._give_up, move=move, now=now())
        yield from self.cleared(read, now)

    def _give_up(self, session: PostgresSession, move: Retire, now: int) -> None:
        self._run(session, "retire", move.recorded, now, move.last)

    def cleared(self, read: PostgresReads, now: Callable[[], int]) -> Iterator[PostgresWork]:
        end = read(partial(retired_end, schema=self._schema))
        while (last := read(partial(self._last, name="last_chunk", end=end))) is not None:
            yield partial(self._run_with, name="drop_chunks", bounds=(0, last))
        while (last := read(partial(self._last, name="last_group", end=end))) is not None:
            yield partial(self._leave_objects, last=last, now=now())
        ((_, deleted, unmarked),) = read(lambda session: self._rows(session, "progress"))
        while deleted < end:
            last = read(partial(self._end_of_step, after=deleted, last=end))
            yield partial(self._delete_rows, after=deleted, last=last)
            deleted = last
        if unmarked < end:
            after: int | None = -(1 << 63)
            while after is not None:
                terms: list[int] = read(partial(self._terms, after=after))
                after = terms[-1] if terms else None
                if terms:
                    yield partial(self._run_with, name="drop_marks", bounds=(terms, end))
            yield partial(self._run_with, name="note_unmarked", bounds=(end,))

    def _last(self, session: PostgresSession, name: str, end: int) -> int | None:
        ((last,),) = self._rows(session, name, end, _STEP_CHUNKS)
        return None if last is None else int(last)

    def _run_with(self, session: PostgresSession, name: str, bounds: tuple[object, ...]) -> None:
        self._run(session, name, *bounds)

    def _leave_objects(self, session: PostgresSession, last: int, now: int) -> None:
        self._run(session, "drop_groups", 0, last)
        self._run(session, "disuse_objects", now)

    def _delete_rows(self, session: PostgresSession, after: int, last: int) -> None:
        ids = self._rows(session, "retired_ids", after, last)
        kept = [(one,) for one, recorded_at in ids if not is_natural(one.bytes, recorded_at)]
        self._each(session, "keep_commit", kept)
        self._run(session, "delete_rows", after, last)
        self._run(session, "note_deleted", last)

    def _terms(self, session: PostgresSession, after: int) -> list[int]:
        bounds = {"after": after, "most": STEP_ROWS}
        rows = session.execute(self._sql["terms"], bounds).fetchall()
        return [int(term) for (term,) in rows]
