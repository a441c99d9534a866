"""Blocks: many slices held as columns, which is how a page of cold history arrives.

A reader that can works on the columns; for everyone else a block is a sequence of slices, each of
them made when it is asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, chain, pairwise, repeat
from typing import Final, TypeAlias, overload

from msgspec.structs import astuple

from everwhen.vocabulary.contract import StoredSlice

SliceFields: TypeAlias = tuple[int, str, int, int, int, bytes, int, bytes | None, bytes]
"""A `StoredSlice`'s fields, in their order."""

_ID_BYTES: Final = 16


def fields_of(slices: Iterable[StoredSlice]) -> Iterator[SliceFields]:
    """Each slice as a tuple of its fields."""
    return slices.rows() if isinstance(slices, Block) else map(astuple, slices)


class Block(Sequence[StoredSlice]):
    """Slices in the order of their positions, as columns of equal length.

    ``positions``, ``streams``, ``versions``, ``counts``, ``recorded_at``, ``first_indexes`` and
    ``metadata`` have what `StoredSlice` has under these names; ``commit_ids`` are 16 bytes each,
    one after the other. ``entries`` are the bodies' entries in one piece: each body without its
    brackets, with a comma between one and the next; ``ends`` say where in it each body ends.
    The maker of a block answers for its content, as by a checksum: what is read out of the middle
    of ``entries`` isn't looked at body by body. Safe to read from any thread.
    """

    def __init__(
        self,
        positions: Sequence[int],
        streams: Sequence[str],
        versions: Sequence[int],
        counts: Sequence[int],
        recorded_at: Sequence[int],
        commit_ids: bytes,
        first_indexes: Sequence[int],
        metadata: Sequence[bytes | None],
        entries: bytes,
        ends: Sequence[int],
    ) -> None:
        self.positions = positions
        self.streams = streams
        self.versions = versions
        self.counts = counts
        self.recorded_at = recorded_at
        self.commit_ids = commit_ids
        self.first_indexes = first_indexes
        self.metadata = metadata
        self.entries = entries
        self.ends = ends
        self._last: tuple[int, StoredSlice] | None = None

    @classmethod
    def of(cls, slices: Sequence[StoredSlice]) -> Block | None:
        """The slices as a block; None where they can't be one.

        They must be in the order of their positions, and each body in brackets.
        """
        bodies = [stored.body for stored in slices]
        if not all(body[:1] == b"[" and body[-1:] == b"]" and len(body) > 2 for body in bodies):
            return None
        if any(len(stored.commit_id) != _ID_BYTES for stored in slices):
            return None
        positions = [stored.position for stored in slices]
        if any(one >= other for one, other in pairwise(positions)):
            return None
        lengths = [len(body) - 1 for body in bodies]  # without brackets, with a comma
        return cls(
            positions,
            [stored.stream for stored in slices],
            [stored.version for stored in slices],
            [stored.count for stored in slices],
            [stored.recorded_at for stored in slices],
            b"".join([stored.commit_id for stored in slices]),
            [stored.first_index for stored in slices],
            [stored.metadata for stored in slices],
            b",".join([body[1:-1] for body in bodies]),
            [end - 1 for end in accumulate(lengths)],
        )

    @cached_property
    def events(self) -> int:
        """How many events the slices have."""
        return sum(self.counts)

    @cached_property
    def event_positions(self) -> Sequence[int]:
        """Each event's position."""
        return self._by_event(self.positions)

    @cached_property
    def event_versions(self) -> Sequence[int]:
        """Each event's version."""
        return self._by_event(self.versions)

    @cached_property
    def event_streams(self) -> Sequence[str]:
        """Each event's stream."""
        if self.events == len(self):
            return self.streams
        pairs = zip(self.streams, self.counts, strict=True)
        return list(chain.from_iterable(repeat(stream, count) for stream, count in pairs))

    @cached_property
    def _event_ends(self) -> list[int]:
        return list(accumulate(self.counts))

    def _by_event(self, lasts: Sequence[int]) -> Sequence[int]:
        if self.events == len(self):
            return lasts
        pairs = zip(lasts, self.counts, strict=True)
        return list(chain.from_iterable(range(last - n + 1, last + 1) for last, n in pairs))

    def place_of(self, event: int) -> tuple[int, int]:
        """Which slice an event is in, and its index there; ``event`` counts the block's events."""
        if self.events == len(self):
            return event, 0
        row = bisect_right(self._event_ends, event)
        return row, event - self._event_ends[row] + self.counts[row]

    def commit_id(self, row: int) -> bytes:
        """The id of the commit that a slice is of."""
        return self.commit_ids[row * _ID_BYTES : (row + 1) * _ID_BYTES]

    def rows(self) -> Iterator[SliceFields]:
        """All slices, each as a tuple of its fields: what costs least where all are wanted."""
        ids, entries, ends = self.commit_ids, self.entries, self.ends
        starts = chain((0,), [end + 1 for end in ends])
        return zip(
            self.positions,
            self.streams,
            self.versions,
            self.counts,
            self.recorded_at,
            [ids[at : at + _ID_BYTES] for at in range(0, len(ids), _ID_BYTES)],
            self.first_indexes,
            self.metadata,
            [b"[%b]" % entries[start:end] for start, end in zip(starts, ends, strict=False)],
            strict=True,
        )

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, index: int) -> StoredSlice: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[StoredSlice]: ...
    def __getitem__(self, index: int | slice) -> StoredSlice | Sequence[StoredSlice]:
        """One slice, or those of a range: a block again where they are in order, without gaps."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1 and start < stop:
                return self._between(start, stop)
            return [self._made(row) for row in range(start, stop, step)]
        row = index + len(self) if index < 0 else index
        if not 0 <= row < len(self):
            raise IndexError(index)
        last = self._last  # events of one slice ask for it in turn
        if last is None or last[0] != row:
            self._last = last = row, self._made(row)
        return last[1]

    def __iter__(self) -> Iterator[StoredSlice]:
        return (StoredSlice(*row) for row in self.rows())

    def _start(self, row: int) -> int:
        return self.ends[row - 1] + 1 if row else 0

    def _made(self, row: int) -> StoredSlice:
        return StoredSlice(
            self.positions[row],
            self.streams[row],
            self.versions[row],
            self.counts[row],
            self.recorded_at[row],
            self.commit_id(row),
            self.first_indexes[row],
            self.metadata[row],
            b"[%b]" % self.entries[self._start(row) : self.ends[row]],
        )

    def _between(self, start: int, stop: int) -> Block:
        if (start, stop) == (0, len(self)):
            return self
        begins, these = self._start(start), slice(start, stop)
        return Block(
            self.positions[these],
            self.streams[these],
            self.versions[these],
            self.counts[these],
            self.recorded_at[these],
            self.commit_ids[start * _ID_BYTES : stop * _ID_BYTES],
            self.first_indexes[these],
            self.metadata[these],
            self.entries[begins : self.ends[stop - 1]],
            [end - begins for end in self.ends[these]],
        )
