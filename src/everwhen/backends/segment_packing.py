"""Packing slices into a segment: which of them, in which frames and chunks, with what dictionary.

What is packed is shown to come back as it is, before anything is deleted for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from everwhen.backends.chunks import MAX_FRAME_BYTES, Chunk, chunk_of
from everwhen.codec.frames import Frame, FrameError, SliceRow, packed
from everwhen.codec.slice_digest import SliceDigest
from everwhen.system.compression import Compressor, trained
from everwhen.vocabulary.contract import Segment, SegmentSize, StoredSlice

STEP_BYTES: Final = 256 << 10
"""How much of chunks one transaction writes: writers wait for it."""
STEP_ROWS: Final = 500
"""How many small rows one transaction writes or deletes: each may be on a page of its own."""

_SEGMENT_BYTES: Final = 64 << 20
"""Where a segment ends before it has all of its slices: what is packed is in memory, twice."""
_SAMPLES: Final = 1_500
"""Of frames, to train a dictionary with: more take longer and gain nothing."""
_FRAME: Final = 64
"""How many slices make a frame of those that come from an archive."""


class ChunkDictionary(NamedTuple):
    """What chunks are compressed with; number 0 is none."""

    number: int
    data: bytes


NO_DICTIONARY: Final = ChunkDictionary(0, b"")


def rows_to_seal(
    some: Callable[[int], Iterable[SliceRow]],
    first_index_after: Callable[[int], int | None],
    size: SegmentSize,
) -> list[SliceRow]:
    """The slices of the next segment: whole commits, and none where there are too few as yet.

    ``some`` gives so many that may be sealed, the oldest first; ``first_index_after`` that of the
    slice after a position.
    """
    most, volume = size.slices, _SEGMENT_BYTES
    is_full = False
    while True:
        rows: list[SliceRow] = []
        left = volume
        for row in some(most):
            rows.append(row)
            left -= len(row[8])
            if left <= 0:
                break
        has_more = len(rows) == most or left <= 0
        is_full = is_full or has_more
        if rows and first_index_after(rows[-1][0]):
            rows = [row for row in rows if row[5] != rows[-1][5]]
        if rows or not has_more:
            return rows if is_full or len(rows) >= size.least else []
        most, volume = 2 * most, 2 * volume  # one commit has more


class PackedSegment(NamedTuple):
    """A segment that is ready to be written; ``dictionary`` is one that isn't stored yet."""

    segment: Segment
    dictionary: ChunkDictionary | None
    chunks: list[Chunk]


def packed_segment(
    rows: Sequence[SliceRow],
    before: int,
    names: Mapping[int, str],
    newest: ChunkDictionary | None,
    size: SegmentSize,
) -> PackedSegment:
    """A segment of these slices, which follow on the position ``before``.

    ``newest`` is the dictionary to compress with: where there is none as yet, one is trained.
    Raises `FrameError` for slices that wouldn't come back as they are.
    """
    packs = _packs(rows, before, size)
    dictionary = newest or _trained([data for _, data in packs])
    chunks = _compressed(packs, dictionary, size)
    first, last = rows[0], rows[-1]
    segment = Segment(
        last[0],
        first[0] - first[3] + 1,
        len(rows),
        first[4],
        last[4],
        sum([len(chunk) for *_, chunk in chunks]),
        digest_of_rows(rows, names),
    )
    is_new = newest is None and dictionary is not NO_DICTIONARY
    return PackedSegment(segment, dictionary if is_new else None, chunks)


def chunks_of(
    rows: Sequence[SliceRow], before: int, newest: ChunkDictionary | None, size: SegmentSize
) -> list[Chunk]:
    """Slices that follow on a position as chunks. Raises `FrameError` as `packed_segment` does."""
    return _compressed(_packs(rows, before, size), newest or NO_DICTIONARY, size)


def steps_of_chunks(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """The chunks that one transaction writes, so that no writer waits for long."""
    some: list[Chunk] = []
    size = 0
    for chunk in chunks:
        some.append(chunk)
        size += len(chunk[3])
        if size >= STEP_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def frames_of(slices: Sequence[StoredSlice], numbers: Mapping[str, int]) -> list[Frame]:
    """Archived slices as frames, their streams by number. Raises `FrameError`."""
    frames: list[Frame] = []
    before = slices[0].position - slices[0].count
    for start in range(0, len(slices), _FRAME):
        rows = [
            (
                stored.position,
                numbers[stored.stream],
                stored.version,
                stored.count,
                stored.recorded_at,
                stored.commit_id,
                stored.first_index,
                stored.metadata,
                stored.body,
            )
            for stored in slices[start : start + _FRAME]
        ]
        frames.append(Frame(packed(rows, before)))
        before = rows[-1][0]
    return frames


def digest_of_rows(rows: Sequence[SliceRow], names: Mapping[int, str]) -> bytes:
    """The digest of the slices of these rows."""
    digest = SliceDigest()
    digest.update((row[0], names[row[1]], *row[2:]) for row in rows)
    return digest.digest()


def _packs(
    rows: Sequence[SliceRow], before: int, size: SegmentSize
) -> list[tuple[Sequence[SliceRow], bytes]]:
    """The slices of each frame, and the frame."""
    found: list[tuple[Sequence[SliceRow], bytes]] = []
    for group in _groups(rows, size):
        found.append((group, packed(group, before)))
        before = group[-1][0]
    return found


def _compressed(
    packs: Sequence[tuple[Sequence[SliceRow], bytes]],
    dictionary: ChunkDictionary,
    size: SegmentSize,
) -> list[Chunk]:
    """Frames as chunks, shown to come back as they are."""
    compressor = Compressor(dictionary.data)
    frames: list[tuple[int, bytes]] = []
    for group, data in packs:
        compressed = compressor.compress(data)
        if [*Frame(compressor.decompress(compressed, MAX_FRAME_BYTES)).rows()] != group:
            raise FrameError(
                f"the slices at positions {group[0][0]} to {group[-1][0]} can't be packed: they "
                f"wouldn't come back as they are"
            )
        frames.append((group[-1][0], compressed))
    return [
        (
            frames[stop - 1][0],
            packs[start][0][0][4],
            dictionary.number,
            chunk_of(frames[start:stop]),
        )
        for start, stop in _chunks([data for _, data in packs], size)
    ]


def _groups(rows: Sequence[SliceRow], size: SegmentSize) -> Iterator[list[SliceRow]]:
    """The slices of each frame."""
    group: list[SliceRow] = []
    volume = 0
    for row in rows:
        group.append(row)
        volume += len(row[8])
        if len(group) >= size.frame or volume >= size.frame_bytes:
            yield group
            group, volume = [], 0
    if group:
        yield group


def _chunks(packs: Sequence[bytes], size: SegmentSize) -> Iterator[tuple[int, int]]:
    """The frames of each chunk: from one number to another."""
    start = volume = 0
    for stop, data in enumerate(packs, 1):
        volume += len(data)
        if stop - start >= size.frames or volume >= size.frame_bytes or stop == len(packs):
            yield start, stop
            start, volume = stop, 0


def _trained(packs: Sequence[bytes]) -> ChunkDictionary:
    """The first dictionary; none where there is too little for one."""
    made = trained(packs[:: len(packs) // _SAMPLES + 1])
    return ChunkDictionary(1, made) if made else NO_DICTIONARY
