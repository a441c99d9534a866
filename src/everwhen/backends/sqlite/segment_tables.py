"""Where the segments of one file are: what moves of history read and write there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import apsw

from everwhen.backends.archive_objects import GROUP_BYTES, GROUP_EVENTS, GroupRecord
from everwhen.backends.archived_groups import GroupPlace
from everwhen.backends.chunks import Chunk
from everwhen.backends.moving import ReadsOnce, Work
from everwhen.backends.segment_packing import chunks_of
from everwhen.backends.sqlite import lookups
from everwhen.backends.sqlite.pages import StreamNames, slices_of
from everwhen.backends.sqlite.query_plan import Row
from everwhen.backends.sqlite.retiring import cleared, retired
from everwhen.backends.sqlite.sealing import SqliteWrites, newest_dictionary, sealed
from everwhen.backends.sqlite.segments import Segments, frames_in_file, place_of
from everwhen.backends.sqlite.statements import statements
from everwhen.vocabulary.contract import Retire, Seal, Segment, SegmentSize, StoredSlice

_SQL: Final = statements("archived")
_SEALED: Final = statements("sealed")


class SqliteTables:
    """The tables of a file. One that isn't ``is_whole`` is one of several."""

    def __init__(self, *, is_whole: bool = True) -> None:
        self._is_whole = is_whole

    def take_over(self, connection: apsw.Connection, token: bytes) -> None:
        connection.execute(_SEALED["take_over"], (token,))

    def turn(self, connection: apsw.Connection) -> bytes:
        found: bytes = connection.execute(_SEALED["mover"]).get
        return found

    def sealed(self, read: ReadsOnce[apsw.Connection], move: Seal) -> SqliteWrites:
        return sealed(read, move, is_whole=self._is_whole)

    def retired(
        self, read: ReadsOnce[apsw.Connection], move: Retire, now: Callable[[], int]
    ) -> Iterator[Work[apsw.Connection]]:
        return retired(read, move, now)

    def cleared(
        self, read: ReadsOnce[apsw.Connection], now: Callable[[], int]
    ) -> Iterator[Work[apsw.Connection]]:
        return cleared(read, now)

    def segments(self, connection: apsw.Connection) -> list[Segment]:
        return lookups.segments(connection)

    def some_slices(self, connection: apsw.Connection, low: int, high: int) -> list[StoredSlice]:
        ends = {last for last, *_ in connection.execute(_SQL["ends_of_chunks"], (low, high))}
        rows: list[Row] = []
        events = volume = 0
        for frame in Segments().frames(connection, low, high, reverse=False):
            rows += frame.rows()
            events += sum(frame.counts)
            volume += len(frame.entries)
            is_full = events >= GROUP_EVENTS or volume >= GROUP_BYTES
            if is_full and frame.positions[-1] in ends:
                break
        return slices_of(connection, rows, StreamNames())

    def ends_of_groups(self, connection: apsw.Connection, low: int, high: int) -> list[int]:
        return [last for (last,) in connection.execute(_SQL["ends_of_groups"], (low, high))]

    def is_cold(self, connection: apsw.Connection, last: int) -> bool:
        return connection.execute(_SQL["chunk"], (last,)).get is not None

    def place_of(self, connection: apsw.Connection, last: int) -> GroupPlace:
        return place_of(connection, last)

    def chunks_of(
        self, connection: apsw.Connection, slices: Sequence[StoredSlice], before: int
    ) -> list[Chunk]:
        rows = [row for frame in frames_in_file(connection, slices) for row in frame.rows()]
        return chunks_of(rows, before, newest_dictionary(connection), SegmentSize())

    def unused_objects(self, connection: apsw.Connection, before: int) -> list[tuple[str, str]]:
        return list(connection.execute(_SQL["unused_objects"], (before,)))

    def announce(
        self, connection: apsw.Connection, url: str, name: str, size: int, now: int
    ) -> None:
        connection.execute(_SQL["announce_object"], (url, name, size, now))

    def use(self, connection: apsw.Connection, url: str, name: str) -> int | None:
        found: int | None = connection.execute(_SQL["use_object"], (url, name)).get
        return found

    def save_groups(
        self, connection: apsw.Connection, number: int, groups: Sequence[GroupRecord]
    ) -> None:
        connection.executemany(
            _SQL["save_group"],
            [(one.last, one.first_time, number, at, one.sha256) for at, one in enumerate(groups)],
        )

    def move_groups(
        self, connection: apsw.Connection, number: int, lasts: Sequence[int], now: int
    ) -> None:
        moved = [(number, at, last) for at, last in enumerate(lasts)]
        connection.executemany(_SQL["move_group"], moved)
        connection.execute(_SQL["disuse_objects"], (now,))

    def save_chunks(self, connection: apsw.Connection, chunks: Sequence[Chunk]) -> None:
        connection.executemany(_SEALED["save_chunk"], chunks)

    def drop_chunks(self, connection: apsw.Connection, low: int, high: int) -> None:
        connection.execute(_SQL["drop_chunks"], (low, high))

    def leave_archive(self, connection: apsw.Connection, low: int, high: int, now: int) -> None:
        connection.execute(_SQL["drop_groups"], (low, high))
        connection.execute(_SQL["measure_segment"], (low, high, high))
        connection.execute(_SQL["disuse_objects"], (now,))

    def forget_object(self, connection: apsw.Connection, url: str, name: str) -> None:
        connection.execute(_SQL["forget_object"], (url, name))
