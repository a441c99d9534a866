"""Chunks: a few frames (`everwhen.codec.frames`), each compressed by itself, and where they are.

So one slice is read without unpacking all of them. Whoever keeps chunks says what damage means
there: here it is a `FrameError`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, TypeAlias

from everwhen.codec.frames import Frame, FrameError
from everwhen.system.compression import Compressor, DecompressionError
from everwhen.vocabulary.contract import MAX_FRAMES, MAX_STORED_BYTES

MAX_FRAME_BYTES: Final = MAX_STORED_BYTES + (1 << 20)
"""A frame has one slice at least, however large, and what else it has is little."""

COUNT: Final = struct.Struct("<H")
PART: Final = struct.Struct("<IQ")
"""A frame's size in the chunk, and the position of its last event."""

Part: TypeAlias = tuple[int, int, int]
"""A frame in its chunk: where it begins and ends, and the position of its last event."""
Chunk: TypeAlias = tuple[int, int, int, bytes]
"""A row of ``chunks``: the position of its last event, its first time, its dictionary, itself."""


def chunk_of(frames: Sequence[tuple[int, bytes]]) -> bytes:
    """A chunk: frames, compressed, each with the position of its last event."""
    head = [PART.pack(len(data), last) for last, data in frames]
    return b"".join([COUNT.pack(len(frames)), *head, *(data for _, data in frames)])


def parts_of(head: bytes, last: int, size: int | None = None) -> list[Part]:
    """Where the frames of a chunk are. Raises `FrameError` where it doesn't have them."""
    size = len(head) if size is None else size
    count = COUNT.unpack_from(head)[0] if len(head) >= COUNT.size else 0
    at = COUNT.size + count * PART.size
    if not 1 <= count <= MAX_FRAMES or len(head) < at:
        raise FrameError(f"the chunk up to position {last!r} doesn't say what it has")
    parts: list[Part] = []
    for length, end in PART.iter_unpack(head[COUNT.size : at]):
        parts.append((at, at + length, end))
        at += length
    ends = [end for _, _, end in parts]
    if at != size or ends[-1] != last or any(one >= other for one, other in pairwise(ends)):
        raise FrameError(f"the chunk up to position {last!r} isn't what its head says")
    return parts


def opened_frame(compressor: Compressor, data: bytes | memoryview, last: int) -> Frame:
    """The frame that ends at a position, decompressed. Raises `FrameError` for another."""
    try:
        frame = Frame(compressor.decompress(data, MAX_FRAME_BYTES))
    except (DecompressionError, FrameError) as error:
        raise FrameError(f"the frame up to position {last}: {error}") from error
    if frame.positions[-1] != last:
        raise FrameError(f"the frame up to position {last} ends elsewhere")
    return frame
