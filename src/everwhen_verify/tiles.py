"""A Merkle tree cut into files, as in C2SP tlog-tiles.

A tile is 256 hashes, or fewer at the right edge; those of level 0 are the leaves', and each hash
of a level above stands for a full tile of the level below. What lies between is worked out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import Final, Literal, TypeAlias

from everwhen_verify.errors import MalformedError
from everwhen_verify.merkle import HASH_SIZE, complete_root

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
MAX_ENTRY: Final = 0xFFFF
"""How many bytes an entry of a bundle can have."""

ReadTile: TypeAlias = Callable[[int, int, int], bytes]
"""Gives the tile of a level at an index, as wide as it is in the tree that is looked at."""

_LENGTH: Final = Struct(">H")
_PATH: Final = re.compile(
    r"tile/(?P<level>entries|0|[1-9][0-9]?)"
    r"/(?P<index>(?:x[0-9]{3}/){0,6}[0-9]{3})"
    r"(?:\.p/(?P<width>[1-9][0-9]{0,2}))?",
    re.ASCII,
)
_MAX_LEVEL: Final = 63
_CACHED: Final = 64


@dataclass(frozen=True, slots=True)
class Tile:
    """Which tile: its level (or that it is a bundle of entries), its index, and its width."""

    level: int | Literal["entries"]
    index: int
    width: int = WIDTH


def tile_path(level: int | Literal["entries"], index: int, width: int = WIDTH) -> str:
    """Where a tile lies below the log's folder or address: ``tile/0/x001/234.p/7``."""
    digits = f"{index % 1000:03}"
    while index := index // 1000:
        digits = f"x{index % 1000:03}/{digits}"
    return f"tile/{level}/{digits}" + ("" if width == WIDTH else f".p/{width}")


def parse_tile_path(path: str) -> Tile:
    """The tile of a path. Raises `MalformedError` for any other than `tile_path` writes."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise MalformedError("tile path", f"{path[:80]!r} is not one, such as tile/0/x001/234.p/7")
    level = match["level"]
    width = int(match["width"] or WIDTH)
    index = int(match["index"].replace("/", "").replace("x", ""))
    tile = Tile("entries" if level == "entries" else int(level), index, width)
    too_high = tile.level != "entries" and tile.level > _MAX_LEVEL
    if too_high or tile_path(tile.level, index, width) != path:
        raise MalformedError("tile path", f"{path[:80]!r} is out of bounds")
    return tile


def tile_width(size: int, level: int, index: int) -> int:
    """How wide a tile is in a tree of ``size`` leaves; 0 where the tree doesn't reach it."""
    return max(0, min(WIDTH, (size >> (HEIGHT * level)) - index * WIDTH))


class NodeReader:
    """Finds the nodes of a tree of ``size`` leaves in its tiles; each tile is read once or so.

    What comes out is only as right as the tiles are: compare the root with a signed one.
    """

    def __init__(self, size: int, read_tile: ReadTile) -> None:
        self.size = size
        self._read = read_tile
        self._tile = lru_cache(maxsize=_CACHED)(self._whole_tile)

    def node(self, level: int, index: int) -> bytes:
        """The hash of the complete subtree of ``2**level`` leaves at ``index``.

        Raises `ValueError` where the tree has none, and `MalformedError` for a tile of another
        length than it should have.
        """
        if level < 0 or index < 0 or (index + 1) << level > self.size:
            raise ValueError(f"a tree of {self.size} leaves has no node {index} at level {level}")
        tile_level, height = divmod(level, HEIGHT)
        tile_index, place = divmod(index << height, WIDTH)
        tile = self._tile(tile_level, tile_index)
        first, count = place * HASH_SIZE, HASH_SIZE << height
        return complete_root(tile[first : first + count])

    def _whole_tile(self, level: int, index: int) -> bytes:
        width = tile_width(self.size, level, index)
        tile = self._read(level, index, width)
        if len(tile) != width * HASH_SIZE:
            raise MalformedError(
                tile_path(level, index, width),
                f"it has {len(tile)} bytes, but {width} hashes have {width * HASH_SIZE}",
            )
        return tile


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """The entries of a tile of level 0, each after its length.

    Raises `ValueError` for an entry that is longer than `MAX_ENTRY`.
    """
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise ValueError(
                f"an entry has {len(entry):,} bytes, more than the maximum of {MAX_ENTRY:,}"
            )
        parts += _LENGTH.pack(len(entry)), entry
    return b"".join(parts)


def decode_bundle(bundle: bytes, width: int) -> list[bytes]:
    """The ``width`` entries of a bundle. Raises `MalformedError` where it isn't exactly those."""
    entries: list[bytes] = []
    at = 0
    while at < len(bundle):
        if len(entries) == width or at + 2 > len(bundle):
            break
        (length,) = _LENGTH.unpack_from(bundle, at)
        entries.append(bundle[at + 2 : at + 2 + length])
        at += 2 + length
    if at != len(bundle) or len(entries) != width:
        raise MalformedError("entry bundle", f"it does not have {width} complete entries")
    return entries
