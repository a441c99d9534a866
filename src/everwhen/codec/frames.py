"""Frames: a few dozen slices packed as columns, the unit in which cold history is compressed.

A frame is a MessagePack array (``_Packed``). Streams are numbers, which the store that has the
frame knows by name. Positions and times are differences, which are nearly constant; the ids of
commits are cut into 16 planes (all first bytes, then all second ones, and so on), of which those
that hold a UUIDv7's time compress well. The bodies' entries are one piece, as in a
`everwhen.codec.blocks.Block`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, chain, compress, pairwise
from operator import add, sub
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import msgspec

from everwhen.codec.blocks import Block
from everwhen.vocabulary.microseconds import FIRST_MICROS, LAST_MICROS

T = TypeVar("T")

SliceRow: TypeAlias = tuple[int, int, int, int, int, bytes, int, bytes | None, bytes]
"""A slice with its stream's number: position, stream, version, count, recorded_at, commit_id,
first_index, metadata, body."""

_ID_BYTES: Final = 16
_MAX: Final = 1 << 62
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=_MAX)]
_Distance: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=_MAX)]


_ONE_MORE: Final = (1).__add__
"""A body's length with the comma after it."""


class FrameError(ValueError):
    """Not a frame, or slices that can't be one."""


class _Packed(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A frame as stored. ``counts`` None: one event each; ``gaps`` None: no position is missing."""

    before: _Distance
    began: Annotated[int, msgspec.Meta(ge=FIRST_MICROS, le=LAST_MICROS)]
    streams: list[_Count]
    versions: list[_Count]
    counts: list[_Count] | None
    gaps: list[_Distance] | None
    times: list[_Distance]
    commit_ids: bytes
    first_indexes: list[_Distance] | None
    metadata: list[bytes | None] | None
    lengths: list[_Count]
    entries: bytes


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Packed).decode


def packed(rows: Sequence[SliceRow], before: int) -> bytes:
    """The slices, which follow on the position ``before``, as a frame.

    Whether it gives them back as they are is for the caller to see. Raises `FrameError` for a body
    that isn't in brackets, or an id of another length.
    """
    positions, streams, versions, counts, times, ids, indexes, metadata, bodies = zip(
        *rows, strict=True
    )
    if not all(body[:1] == b"[" and body[-1:] == b"]" and len(body) > 2 for body in bodies):
        raise FrameError("a body isn't in brackets")
    if any(len(commit_id) != _ID_BYTES for commit_id in ids):
        raise FrameError(f"a commit's id doesn't have {_ID_BYTES} bytes")
    befores = map(sub, positions, counts)
    gaps = [first - last for first, last in zip(befores, [before, *positions], strict=False)]
    joined = b"".join(ids)
    return _encode(
        _Packed(
            before,
            times[0],
            list(streams),
            list(versions),
            list(counts) if any(count != 1 for count in counts) else None,
            gaps if any(gaps) else None,
            [0, *[now - last for last, now in pairwise(times)]],
            b"".join([joined[plane::_ID_BYTES] for plane in range(_ID_BYTES)]),
            list(indexes) if any(indexes) else None,
            list(metadata) if any(one is not None for one in metadata) else None,
            [len(body) - 2 for body in bodies],
            b",".join([body[1:-1] for body in bodies]),
        )
    )


class Frame:
    """A frame's slices, in the order of their positions, as columns of equal length.

    The columns are those of `everwhen.codec.blocks.Block`, but that ``streams`` has numbers, and
    ``lengths`` are those of the bodies' entries. Those
    that one slice doesn't need are made when they are asked for. ``before`` is the position that
    the frame follows on. Raises `FrameError` for what isn't a frame. Safe to read from any thread.
    """

    def __init__(self, data: bytes) -> None:
        try:
            found = _decode(data)
        except msgspec.DecodeError as error:
            raise FrameError(str(error)) from error
        size = len(found.streams)
        zeros, nothing = [0] * size, [None] * size
        self.before = found.before
        self.streams: list[int] = found.streams
        self.versions: list[int] = found.versions
        self.counts: list[int] = [1] * size if found.counts is None else found.counts
        gaps = zeros if found.gaps is None else found.gaps
        self.first_indexes: list[int] = zeros
        if found.first_indexes is not None:
            self.first_indexes = found.first_indexes
        self.metadata: Sequence[bytes | None] = nothing
        if found.metadata is not None:
            self.metadata = found.metadata
        self.entries = found.entries
        self._began = found.began
        self._times: list[int] = found.times
        self._planes = found.commit_ids
        self.lengths: list[int] = found.lengths
        columns = self.versions, self.counts, gaps, self.first_indexes, self.metadata
        sizes = {size, *map(len, columns), len(found.times), len(found.lengths)}
        if not size or len(sizes) > 1:
            raise FrameError("its columns don't have the same length")
        if len(self._planes) != size * _ID_BYTES or sum(found.lengths) + size - 1 != len(
            found.entries
        ):
            raise FrameError("its bytes are too few or too many")
        if found.counts is None and found.gaps is None:
            self.positions = list(range(found.before + 1, found.before + size + 1))
        else:
            self.positions = list(accumulate(map(add, self.counts, gaps), initial=found.before))[1:]
        if found.began + sum(found.times) > LAST_MICROS or self.positions[-1] > _MAX:
            raise FrameError("a time or a position is out of range")

    def __len__(self) -> int:
        return len(self.positions)

    @cached_property
    def recorded_at(self) -> list[int]:
        """When each was recorded, in microseconds."""
        return list(accumulate(self._times, initial=self._began))[1:]

    @cached_property
    def ends(self) -> list[int]:
        """Where in ``entries`` each body ends."""
        return [end - 1 for end in accumulate([length + 1 for length in self.lengths])]

    @cached_property
    def commit_ids(self) -> bytes:
        """The ids of their commits, one after the other."""
        size = len(self)
        ids = bytearray(len(self._planes))
        for plane in range(_ID_BYTES):
            ids[plane::_ID_BYTES] = self._planes[plane * size : (plane + 1) * size]
        return bytes(ids)

    def rows(self) -> Iterator[SliceRow]:
        """All slices: what costs least where most of them are wanted."""
        ids, entries = self.commit_ids, self.entries
        starts = accumulate(map(_ONE_MORE, self.lengths), initial=0)
        return zip(
            self.positions,
            self.streams,
            self.versions,
            self.counts,
            self.recorded_at,
            [ids[at : at + _ID_BYTES] for at in range(0, len(ids), _ID_BYTES)],
            self.first_indexes,
            self.metadata,
            [
                b"[%b]" % entries[at : at + size]
                for at, size in zip(starts, self.lengths, strict=False)
            ],
            strict=True,
        )

    def row(self, index: int) -> SliceRow:
        """One slice."""
        start = sum(self.lengths[:index]) + index
        return (
            self.positions[index],
            self.streams[index],
            self.versions[index],
            self.counts[index],
            self._began + sum(self._times[: index + 1]),
            self._planes[index :: len(self.positions)],
            self.first_indexes[index],
            self.metadata[index],
            b"[%b]" % self.entries[start : start + self.lengths[index]],
        )


class FrameBlock(Block):
    """The slices of frames that follow on one another.

    ``names`` has those of their streams, by their numbers. With ``picks``, one for each slice, only
    some of them. What not everybody asks for, such as times and ids, is put together when somebody
    does.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        names: Mapping[int, str],
        picks: Sequence[bool] | None = None,
    ) -> None:
        self._frames = frames
        self._names = names
        self._picks = picks
        entries = b",".join([frame.entries for frame in frames])
        if picks is not None:
            self._bodies = [entries[s:e] for s, e in compress(_bounds(frames), picks)]
            entries = b",".join(self._bodies)
        super().__init__(
            self._column("positions"),
            (),
            (),
            self._column("counts"),
            (),
            b"",
            (),
            (),
            entries,
            (),
        )
        for name in _LATER:
            delattr(self, name)

    def _column(self, name: str) -> list[Any]:
        joined = chain.from_iterable([getattr(frame, name) for frame in self._frames])
        return list(joined if self._picks is None else compress(joined, self._picks))

    def __getattr__(self, name: str) -> Any:
        if name not in _LATER:
            raise AttributeError(name)
        found: Any
        match name:
            case "streams":
                found = list(map(self._names.__getitem__, self._column(name)))
            case "commit_ids":
                found = b"".join([frame.commit_ids for frame in self._frames])
                if self._picks is not None:
                    starts = compress(range(0, len(found), _ID_BYTES), self._picks)
                    found = b"".join([found[start : start + _ID_BYTES] for start in starts])
            case "ends" if self._picks is None:
                found = _joined_ends(self._frames)
            case "ends":
                found = [end - 1 for end in accumulate([len(body) + 1 for body in self._bodies])]
            case _:
                found = self._column(name)
        setattr(self, name, found)
        return found


_LATER: Final = (
    "streams",
    "versions",
    "recorded_at",
    "commit_ids",
    "first_indexes",
    "metadata",
    "ends",
)


def _bounds(frames: Sequence[Frame]) -> Iterator[tuple[int, int]]:
    """Where in the entries of all frames each body begins and ends."""
    lengths = [length for frame in frames for length in frame.lengths]
    starts = list(accumulate(map(_ONE_MORE, lengths), initial=0))
    return zip(starts, map(add, starts, lengths), strict=False)


def _joined_ends(frames: Sequence[Frame]) -> list[int]:
    """Where each body ends in the entries of all frames, with a comma between two frames."""
    ends: list[int] = []
    before = 0
    for frame in frames:
        ends += [before + end for end in frame.ends]
        before += len(frame.entries) + 1
    return ends
