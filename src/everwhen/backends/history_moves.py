"""The moves of history in one log, whatever database it is in: sealing, and to an archive and back.

A move to an archive first writes its object, reads it back and compares; then one transaction says
that the slices are there; and only then are they deleted here. An object is announced before it is
written, and its name is never used again, so that one that came to nothing is known, and deleted a
day later, without looking at what else is in the storage.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import Generic, Protocol, TypeAlias

from everwhen.backends.archive_objects import GroupRecord, ObjectReader, ObjectWriter
from everwhen.backends.archived_groups import ArchivedGroups, GroupPlace
from everwhen.backends.chunks import Chunk
from everwhen.backends.moving import C, C_contra, Mover, ReadsOnce, Turns, Work
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
    StoredSlice,
    Sweep,
)
from everwhen.vocabulary.errors import BusyError, CorruptStoreError, DeclarationError, StorageError

Writes: TypeAlias = Generator[Work[C], None, Segment | None]
"""What a move writes, one transaction after the other, and the segment that it has moved."""


class SegmentTables(Turns[C_contra], Protocol[C_contra]):
    """The tables of one log that say where its segments are, and how they are written.

    Segments, chunks and row groups are known by the positions of their last events. A method that
    begins with ``low`` and ``high`` is about what ends after the one, up to the other.
    """

    def sealed(self, read: ReadsOnce[C_contra], move: Seal) -> Writes[C_contra]:
        """The writes that seal one segment, after what was left over of another."""
        ...

    def retired(
        self, read: ReadsOnce[C_contra], move: Retire, now: Callable[[], int]
    ) -> Iterator[Work[C_contra]]:
        """The writes that retire segments."""
        ...

    def cleared(
        self, read: ReadsOnce[C_contra], now: Callable[[], int]
    ) -> Iterator[Work[C_contra]]:
        """The writes that delete what is left over of segments that were retired."""
        ...

    def segments(self, connection: C_contra) -> list[Segment]:
        """All segments, the oldest first."""
        ...

    def some_slices(self, connection: C_contra, low: int, high: int) -> list[StoredSlice]:
        """The slices of the next row group: those of whole chunks, so that it stands for them."""
        ...

    def ends_of_groups(self, connection: C_contra, low: int, high: int) -> list[int]:
        """Where the row groups of a range end, in order."""
        ...

    def is_cold(self, connection: C_contra, last: int) -> bool:
        """Whether there is a chunk that ends at a position."""
        ...

    def place_of(self, connection: C_contra, last: int) -> GroupPlace:
        """Where the row group is that ends at a position."""
        ...

    def chunks_of(
        self, connection: C_contra, slices: Sequence[StoredSlice], before: int
    ) -> list[Chunk]:
        """Archived slices that follow on a position, as chunks."""
        ...

    def unused_objects(self, connection: C_contra, before: int) -> list[tuple[str, str]]:
        """The URLs and names of objects that have been unused since a time, or before."""
        ...

    def announce(self, connection: C_contra, url: str, name: str, size: int, now: int) -> None:
        """An object is about to be stored: until it is used, it is unused."""
        ...

    def use(self, connection: C_contra, url: str, name: str) -> int | None:
        """From here on an object is used; its number, or None where it isn't known any more."""
        ...

    def save_groups(self, connection: C_contra, number: int, groups: Sequence[GroupRecord]) -> None:
        """Row groups are in the object of that number."""
        ...

    def move_groups(
        self, connection: C_contra, number: int, lasts: Sequence[int], now: int
    ) -> None:
        """Row groups are in that object, in place of others, which may be unused by that."""
        ...

    def save_chunks(self, connection: C_contra, chunks: Sequence[Chunk]) -> None:
        """Write chunks."""
        ...

    def drop_chunks(self, connection: C_contra, low: int, high: int) -> None:
        """Delete the chunks of a range."""
        ...

    def leave_archive(self, connection: C_contra, low: int, high: int, now: int) -> None:
        """From here on the slices of a segment are in the store alone."""
        ...

    def forget_object(self, connection: C_contra, url: str, name: str) -> None:
        """An object was deleted that had been unused."""
        ...


class Moving(Generic[C]):
    """One move of history. ``segment`` is the one that was moved, once it is done."""

    def __init__(
        self,
        tables: SegmentTables[C],
        read: ReadsOnce[C],
        write: Callable[[Work[C]], None],
        groups: ArchivedGroups,
        now: Callable[[], int],
        move: Move,
    ) -> None:
        self.segment: Segment | None = None
        self._write = write
        self._tables = tables
        self._work = _Moves(tables, read, groups, now).writes(move)

    def steps(self) -> Iterator[Callable[[], None]]:
        """The steps, each of them to be called with the engine's lock held.

        What is done between two of them needs no lock. A step raises `BusyError` where another
        mover has begun.
        """
        return (partial(self._write, work) for work in Mover(self._tables).steps(self._writes()))

    def _writes(self) -> Iterator[Work[C]]:
        self.segment = yield from self._work


class _Moves(Generic[C]):
    def __init__(
        self,
        tables: SegmentTables[C],
        read: ReadsOnce[C],
        groups: ArchivedGroups,
        now: Callable[[], int],
    ) -> None:
        self._tables = tables
        self._read = read
        self._groups = groups
        self._now = now

    def writes(self, move: Move) -> Writes[C]:
        """What a move writes."""
        match move:
            case Seal():
                return self._tables.sealed(self._read, move)
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

    def _archived(self, move: Archive) -> Writes[C]:
        segment, end = self._segment(move.last)
        if not segment.is_cold or segment.object is not None:
            return None
        writer, digest = ObjectWriter(), SliceDigest()
        while end < segment.last:
            slices = self._read(partial(self._tables.some_slices, low=end, high=segment.last))
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
        yield partial(self._use, url, name, writer.groups)
        return self._segment(move.last)[0]

    def _stored(
        self, writer: ObjectWriter, url: str, *, reads_back: bool
    ) -> Generator[Work[C], None, str]:
        """Announce an object, and store it; its name."""
        data, groups = writer.finish(), writer.groups
        name = f"{groups[0].first:015}-{groups[-1].last:015}-{secrets.token_hex(8)}.parquet"
        _compare(ObjectReader.held(name, data), groups)
        storage = self._groups.storage(url)
        storage.make()
        yield partial(self._tables.announce, url=url, name=name, size=len(data), now=self._now())
        storage.put(name, data)
        if reads_back:
            _compare(ObjectReader.stored(storage, name, len(data)), groups)
        else:
            _check_size(storage, name, len(data))
        return name

    def _evicted(self, move: Evict) -> Writes[C]:
        segment, before = self._segment(move.last)
        if segment.object is None:
            return None
        for last in self._read(partial(self._tables.ends_of_groups, low=before, high=segment.last)):
            if self._read(partial(self._tables.is_cold, last=last)):
                self._groups.read(
                    self._read(partial(self._tables.place_of, last=last))
                )  # or it raises
                yield partial(self._tables.drop_chunks, low=before, high=last)
            before = last
        return self._segment(move.last)[0]

    def _restored(self, move: Restore) -> Writes[C]:
        segment, before = self._segment(move.last)
        if segment.object is None:
            return None
        start = before
        for last in self._read(partial(self._tables.ends_of_groups, low=before, high=segment.last)):
            if not self._read(partial(self._tables.is_cold, last=last)):
                slices = self._groups.read(self._read(partial(self._tables.place_of, last=last)))
                chunks = self._read(partial(self._tables.chunks_of, slices=slices, before=start))
                yield partial(self._tables.save_chunks, chunks=chunks)
            start = last
        yield partial(self._tables.leave_archive, low=before, high=segment.last, now=self._now())
        return self._segment(move.last)[0]

    def _merged(self, move: Merge) -> Writes[C]:
        writer, lasts = ObjectWriter(), []
        for last in sorted(move.lasts):
            segment, before = self._segment(last)
            if segment.object is None:
                raise DeclarationError(f"the segment up to position {last} isn't archived")
            for end in self._read(partial(self._tables.ends_of_groups, low=before, high=last)):
                _add(
                    writer, self._groups.read(self._read(partial(self._tables.place_of, last=end)))
                )
                lasts.append(end)
        if not lasts:
            return None
        url = object_url(move.url)
        name = yield from self._stored(writer, url, reads_back=move.reads_back)
        yield partial(self._use_instead, url, name, lasts, self._now())
        return self._segment(max(move.lasts))[0]

    def _swept(self, move: Sweep) -> Writes[C]:
        yield from self._tables.cleared(self._read, self._now)
        failure: StorageError | None = None
        for url, name in self._read(partial(self._tables.unused_objects, before=move.before)):
            try:
                self._groups.storage(url).delete(name)
            except StorageError as error:
                failure = failure or error  # other storages may answer
            else:
                yield partial(self._tables.forget_object, url=url, name=name)
        if failure is not None:
            raise failure
        return None

    def _retired(self, move: Retire) -> Writes[C]:
        self._segment(move.last)
        yield from self._tables.retired(self._read, move, self._now)
        return self._segment(move.last)[0]

    def _use(self, url: str, name: str, groups: Sequence[GroupRecord], connection: C) -> None:
        """From here on the slices are in the object."""
        self._tables.save_groups(connection, self._used(connection, url, name), groups)

    def _use_instead(
        self, url: str, name: str, lasts: Sequence[int], now: int, connection: C
    ) -> None:
        """From here on the row groups are in this object, in place of others."""
        self._tables.move_groups(connection, self._used(connection, url, name), lasts, now)

    def _used(self, connection: C, url: str, name: str) -> int:
        found = self._tables.use(connection, url, name)
        if found is None:
            raise BusyError(f"{name} was deleted as unused meanwhile; begin again")
        return found

    def _segment(self, last: int) -> tuple[Segment, int]:
        """The segment that ends at a position, and where the one before it ends."""
        before = 0
        for segment in self._read(self._tables.segments):
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
