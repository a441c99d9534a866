"""A Merkle tree that grows: only its right edge is kept, as the rows of tiles that aren't full."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

from everwhen_verify.merkle import EMPTY_ROOT, HASH_SIZE, Frontier
from everwhen_verify.tiles import HEIGHT, WIDTH, NodeReader, ReadTile, tile_path, tile_width

Tiles = dict[str, bytes]

_TILE: Final = WIDTH * HASH_SIZE


class Tree:
    """A tree that takes leaf hashes, and gives tiles and roots.

    ``rows`` has the hashes of each tile level that no full tile holds yet.
    """

    def __init__(self) -> None:
        self.rows: list[list[bytes]] = [[]]
        self._tiles = Frontier()

    @property
    def size(self) -> int:
        """How many leaves there are."""
        return self._tiles.size * WIDTH + len(self.rows[0])

    def extend(self, leaves: Sequence[bytes]) -> Tiles:
        """Add leaves' hashes; the tiles that they fill."""
        row, filled, start = self.rows[0], Tiles(), 0
        while len(row) + len(leaves) - start >= WIDTH:
            stop = start + WIDTH - len(row)
            row += leaves[start:stop]
            start = stop
            filled[tile_path(0, self._tiles.size)] = b"".join(row)
            filled |= self.add_tile(levels_of(row)[-1][0])
            row.clear()
        row += leaves[start:]
        return filled

    def add_tile(self, tile: bytes) -> Tiles:
        """Add a full tile's leaves by its hash alone; the tiles above that this fills."""
        filled = Tiles()
        self._tiles.append(tile)
        above = 1
        while True:
            if above == len(self.rows):
                self.rows.append([])
            row = self.rows[above]
            row.append(tile)
            if len(row) < WIDTH:
                return filled
            index = (self._tiles.size >> HEIGHT * above) - 1
            filled[tile_path(above, index)] = b"".join(row)
            tile = levels_of(row)[-1][0]
            row.clear()
            above += 1

    def partial_tiles(self) -> Tiles:
        """The tiles at the right edge that aren't full."""
        return {
            tile_path(level, self.size >> HEIGHT * (level + 1), len(row)): b"".join(row)
            for level, row in enumerate(self.rows)
            if row
        }

    def root(self) -> bytes:
        """The root of the tree as it is."""
        return self.root_within(levels_of(self.rows[0]), len(self.rows[0]))

    def root_within(self, levels: Sequence[Sequence[bytes]], width: int) -> bytes:
        """The root with ``width`` of the last tile's leaves, whose `levels_of` are given."""
        peaks = [
            levels[bit][(width >> bit) - 1] for bit in range(width.bit_length()) if width >> bit & 1
        ]
        peaks += reversed(self._tiles.peaks)
        if not peaks:
            return EMPTY_ROOT
        found = peaks[0]
        for peak in peaks[1:]:
            found = sha256(b"\x01" + peak + found).digest()
        return found

    @classmethod
    def resumed(cls, tiles: int, size: int, read: ReadTile) -> Tree:
        """The tree of the first ``tiles`` full tiles, as the tiles of one of ``size`` leaves say.

        Raises `MalformedError` for a tile of another length than it should have.
        """
        reader = NodeReader(size, read)
        tree = cls()
        index, peaks = 0, []
        for bit in range(tiles.bit_length() - 1, -1, -1):
            if tiles >> bit & 1:
                peaks.append(reader.node(HEIGHT + bit, index >> bit))
                index += 1 << bit
        tree._tiles = Frontier(tiles, peaks)
        level, count = 1, tiles
        while count:
            index, width = divmod(count, WIDTH)
            row: list[bytes] = []
            if width:
                tile = read(level, index, tile_width(size, level, index))
                row = hashes_in(tile[: width * HASH_SIZE])
            tree.rows.append(row)
            level, count = level + 1, index
        return tree


def levels_of(leaves: Iterable[bytes]) -> list[list[bytes]]:
    """The hashes of all complete subtrees over these leaves, level by level."""
    row = list(leaves)
    levels = [row]
    while len(row) > 1:
        row = [
            sha256(b"\x01" + left + right).digest()
            for left, right in zip(row[::2], row[1::2], strict=False)
        ]
        levels.append(row)
    return levels


def hashes_in(tile: bytes) -> list[bytes]:
    """A tile's hashes."""
    return [tile[at : at + HASH_SIZE] for at in range(0, len(tile), HASH_SIZE)]
