"""The moves of history in one file: sealing, and to an archive and back.

A move to an archive first writes its object, reads it back and compares; then one transaction says
that the slices are there; and only then are they deleted here. An object is announced before it is
written, and its name is never used again, so that one that came to nothing is known, and deleted a
day later, without looking at what else is in the storage.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Final, TypeAlias

import apsw

from everwhen.backends.archive_objects import (
    GROUP_BYTES,
    GROUP_EVENTS,
    GroupRecord,
    ObjectReader,
    ObjectWriter,
)
from everwhen.backends.sqlite import lookups
from everwhen.backends.sqlite.archived_groups import ArchivedGroups, frames_of, place_of
from everwhen.backends.sqlite.moving import Mover, ReadsOnce, Work, each
from everwhen.backends.sqlite.pages import StreamNames, slices_of
from everwhen.backends.sqlite.query_plan import Row
from everwhen.backends.sqlite.retiring import cleared, retired
from everwhen.backends.sqlite.sealing import Chunk, chunks_of, sealed
from everwhen.backends.sqlite.segments import Segments
from everwhen.backends.sqlite.statements import statements
from everwhen.codec.blocks import fields_of
from everwhen.codec.frames import FrameError
from everwhen.codec.slice_digest import SliceDigest
from everwhen.system.object_storage import ObjectStorage, object_url
from everwhen.vocabulary.contract import (
    Archive,
    Evict,
    Merge,
    Move,
    Restore,
    Retire,
    Seal,
    Segment,
    SegmentSize,
    StoredSlice,
    Sweep,
)
from everwhen.vocabulary.errors import BusyError, CorruptStoreError, DeclarationError, StorageError

_SQL: Final = statements("archived")
_SEALED: Final = statements("sealed")

Writes: TypeAlias = Generator[Work, None, Segment | None]
"""What a move writes, one transaction after the other, and the segment that it has moved."""


class Moving:
    """One move of history. ``segment`` is the one that was moved, once it is done."""

    def __init__(
        self,
        read: ReadsOnce,
        write: Callable[[Work], None],
        groups: ArchivedGroups,
        now: Callable[[], int],
        move: Move,
        *,
        is_whole: bool = True,
    ) -> None:
        self.segment: Segment | None = None
        self._write = write
        self._work = _Moves(read, groups, now, is_whole=is_whole).writes(move)

    def steps(self) -> Iterator[Callable[[], None]]:
        """The steps, each of them to be called with the engine's lock held.

        What is done between two of them needs no lock. A step raises `BusyError` where another
        mover has begun.
        """
        return (partial(self._write, work) for work in Mover().steps(self._writes()))

    def _writes(self) -> Iterator[Work]:
        self.segment = yield from self._work


class _Moves:
    def __init__(
        self, read: ReadsOnce, groups: ArchivedGroups, now: Callable[[], int], *, is_whole: bool
    ) -> None:
        self._is_whole = is_whole
        self._read = read
        self._groups = groups
        self._now = now

    def writes(self, move: Move) -> Writes:
        """What a move writes."""
        match move:
            case Seal():
                return sealed(self._read, move, is_whole=self._is_whole)
            case Archive():
                return self._archived(move)
            case Evict():
                return self._evicted(move)
            case Restore():
                return self._restored(move)
            case Merge():
                return self._merged(move)
            case Sweep():
                return self._swept(move)
            case Retire():
                return self._retired(move)

    def _archived(self, move: Archive) -> Writes:
        segment, end = self._segment(move.last)
        if not segment.is_cold or segment.object is not None:
            return None
        writer, digest = ObjectWriter(), SliceDigest()
        while end < segment.last:
            slices = self._read(partial(_some_slices, low=end, high=segment.last))
            end = slices[-1].position
            digest.update(fields_of(slices))
            _add(writer, slices)
        if digest.digest() != segment.sha256:
            raise CorruptStoreError(
                f"the segment of positions {segment.first} to {segment.last} has other slices than "
                f"were sealed; run check(), and restore the store from a backup"
            )
        url = object_url(move.url)
        name = yield from self._stored(writer, url, reads_back=move.reads_back)
        yield partial(_use, url, name, writer.groups)
        return self._segment(move.last)[0]

    def _stored(
        self, writer: ObjectWriter, url: str, *, reads_back: bool
    ) -> Generator[Work, None, str]:
        """Announce an object, and store it; its name."""
        data, groups = writer.finish(), writer.groups
        name = f"{groups[0].first:015}-{groups[-1].last:015}-{secrets.token_hex(8)}.parquet"
        _compare(ObjectReader.held(name, data), groups)
        storage = self._groups.storage(url)
        storage.make()
        yield partial(each, _SQL["announce_object"], [(url, name, len(data), self._now())])
        storage.put(name, data)
        if reads_back:
            _compare(ObjectReader.stored(storage, name, len(data)), groups)
        else:
            _check_size(storage, name, len(data))
        return name

    def _evicted(self, move: Evict) -> Writes:
        segment, before = self._segment(move.last)
        if segment.object is None:
            return None
        for last in self._read(partial(_ends_of_groups, low=before, high=segment.last)):
            if self._read(partial(_is_cold, last=last)):
                self._groups.read(self._read(partial(place_of, last=last)))  # or it raises
                yield partial(each, _SQL["drop_chunks"], [(before, last)])
            before = last
        return self._segment(move.last)[0]

    def _restored(self, move: Restore) -> Writes:
        segment, before = self._segment(move.last)
        if segment.object is None:
            return None
        start = before
        for last in self._read(partial(_ends_of_groups, low=before, high=segment.last)):
            if not self._read(partial(_is_cold, last=last)):
                slices = self._groups.read(self._read(partial(place_of, last=last)))
                chunks = self._read(partial(_chunks_of, slices=slices, before=start))
                yield partial(each, _SEALED["save_chunk"], chunks)
            start = last
        yield partial(_leave_archive, before=before, last=segment.last, now=self._now())
        return self._segment(move.last)[0]

    def _merged(self, move: Merge) -> Writes:
        writer, lasts = ObjectWriter(), []
        for last in sorted(move.lasts):
            segment, before = self._segment(last)
            if segment.object is None:
                raise DeclarationError(f"the segment up to position {last} isn't archived")
            for end in self._read(partial(_ends_of_groups, low=before, high=last)):
                _add(writer, self._groups.read(self._read(partial(place_of, last=end))))
                lasts.append(end)
        if not lasts:
            return None
        url = object_url(move.url)
        name = yield from self._stored(writer, url, reads_back=move.reads_back)
        yield partial(_use_instead, url, name, lasts, self._now())
        return self._segment(max(move.lasts))[0]

    def _swept(self, move: Sweep) -> Writes:
        yield from cleared(self._read, self._now)
        failure: StorageError | None = None
        for url, name in self._read(partial(_unused, before=move.before)):
            try:
                self._groups.storage(url).delete(name)
            except StorageError as error:
                failure = failure or error  # other storages may answer
            else:
                yield partial(each, _SQL["forget_object"], [(url, name)])
        if failure is not None:
            raise failure
        return None

    def _retired(self, move: Retire) -> Writes:
        self._segment(move.last)
        yield from retired(self._read, move, self._now)
        return self._segment(move.last)[0]

    def _segment(self, last: int) -> tuple[Segment, int]:
        """The segment that ends at a position, and where the one before it ends."""
        before = 0
        for segment in self._read(lookups.segments):
            if segment.last == last:
                return segment, before
            before = segment.last
        raise DeclarationError(f"no segment ends at position {last}; see segments()")


def _add(writer: ObjectWriter, slices: Sequence[StoredSlice]) -> None:
    try:
        writer.add(slices)
    except FrameError as error:
        raise CorruptStoreError(
            f"the slices at positions {slices[0].position} to {slices[-1].position} can't be "
            f"archived: {error}; run check(), and restore the store from a backup"
        ) from error


def _compare(reader: ObjectReader, groups: Sequence[GroupRecord]) -> None:
    """Raises `CorruptStoreError` unless an object gives back what was put into it."""
    for number, group in enumerate(groups):
        reader.slices(number, group.sha256)


def _check_size(storage: ObjectStorage, name: str, size: int) -> None:
    found = storage.size(name)
    if found != size:
        raise StorageError(
            f"{storage.url}: {name} has {found:,} bytes there, and was written with {size:,}; it "
            f"isn't used, see that the storage is in order and try again"
        )


def _some_slices(connection: apsw.Connection, low: int, high: int) -> list[StoredSlice]:
    """The slices of the next row group: those of whole chunks, so that it stands for them."""
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


def _ends_of_groups(connection: apsw.Connection, low: int, high: int) -> list[int]:
    return [last for (last,) in connection.execute(_SQL["ends_of_groups"], (low, high))]


def _is_cold(connection: apsw.Connection, last: int) -> bool:
    return connection.execute(_SQL["chunk"], (last,)).get is not None


def _chunks_of(
    connection: apsw.Connection, slices: Sequence[StoredSlice], before: int
) -> list[Chunk]:
    rows = [row for frame in frames_of(connection, slices) for row in frame.rows()]
    return chunks_of(connection, rows, before, SegmentSize())


def _use(url: str, name: str, groups: Sequence[GroupRecord], connection: apsw.Connection) -> None:
    """From here on the slices are in the object."""
    used = _used(connection, url, name)
    connection.executemany(
        _SQL["save_group"],
        [(one.last, one.first_time, used, at, one.sha256) for at, one in enumerate(groups)],
    )


def _use_instead(
    url: str, name: str, lasts: Sequence[int], now: int, connection: apsw.Connection
) -> None:
    """From here on the row groups are in this object, in place of others."""
    used = _used(connection, url, name)
    moved = [(used, number, last) for number, last in enumerate(lasts)]
    connection.executemany(_SQL["move_group"], moved)
    connection.execute(_SQL["disuse_objects"], (now,))


def _used(connection: apsw.Connection, url: str, name: str) -> int:
    found = connection.execute(_SQL["use_object"], (url, name)).get
    if found is None:
        raise BusyError(f"{name} was deleted as unused meanwhile; begin again")
    return int(found)


def _leave_archive(connection: apsw.Connection, before: int, last: int, now: int) -> None:
    """From here on the slices of a segment are in the store alone."""
    connection.execute(_SQL["drop_groups"], (before, last))
    connection.execute(_SQL["measure_segment"], (before, last, last))
    connection.execute(_SQL["disuse_objects"], (now,))


def _unused(connection: apsw.Connection, before: int) -> list[tuple[str, str]]:
    return list(connection.execute(_SQL["unused_objects"], (before,)))
