"""What signing a log computes: from a store's pages to tiles and the text of the next checkpoint.

A writer goes on where the newest checkpoint stands. What it needs for that it reads back: the
tiles, and from the store the commits of the last tile, so that it never signs on top of a history
that isn't the one it has signed before.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final, NamedTuple, Protocol

from everwhen.merkle.compact_range import Tree, hashes_in
from everwhen.merkle.leaf_hashes import Leaves
from everwhen.merkle.retired_leaves import Unrecorded, retired_part, unsigned_error
from everwhen.merkle.tile_stores import CHECKPOINT, CHECKPOINTS, POSITIONS, TileStore
from everwhen.store.retirement_records import RetirementRecord, retired_end
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.errors import RetiredError, TamperedError
from everwhen.vocabulary.paging import PAGE_EVENTS, ReadPage
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.streams import MAX_POSITION
from everwhen_verify.checkpoints import Checkpoint, parse_checkpoint
from everwhen_verify.entries import FIRST, leaf_of
from everwhen_verify.errors import MalformedError
from everwhen_verify.merkle import HASH_SIZE
from everwhen_verify.notes import Signature, parse_note
from everwhen_verify.tiles import WIDTH, NodeReader, tile_path, tile_width

PAGES_PER_CALL: Final = 25
"""50,000 events a call: they share its cost, and an async caller gets its turn in between."""
_POSITION: Final = Struct(">Q")


class Cosigner(Protocol):
    """A witness: it cosigns checkpoints, having seen that the tree only grows."""

    def cosign(
        self, note: bytes, consistency: Callable[[int, int], Sequence[bytes]]
    ) -> Sequence[Signature]:
        """Its signatures; ``consistency`` gives the proof from one size to another.

        Raises an `EverwhenError` where it refuses, or can't be reached.
        """
        ...


class Signed(NamedTuple):
    """A checkpoint and the note that it stands in."""

    checkpoint: Checkpoint
    note: bytes


def signed(note: bytes) -> Signed:
    """The note's checkpoint; nobody has checked its signatures. Raises `MalformedError`."""
    return Signed(parse_checkpoint(parse_note(note).text), note)


def newest(tiles: TileStore) -> Signed | None:
    """The newest checkpoint; None where nothing has been signed. Raises `MalformedError`."""
    note = tiles.read(CHECKPOINT)
    return None if note is None else signed(note)


def history(tiles: TileStore) -> list[Signed]:
    """Every checkpoint there has been, the oldest first.

    What a crash has left half written at the end is not one. Raises `MalformedError`.
    """
    parts = (tiles.read(CHECKPOINTS) or b"").split(b"\n\n")[:-1]
    if len(parts) % 2:  # the text of one whose signatures are missing
        parts.pop()
    return [
        signed(text + b"\n\n" + signatures + b"\n")
        for text, signatures in zip(parts[::2], parts[1::2], strict=True)
    ]


def _end_of_history(tiles: TileStore) -> int:
    """Where the history's last whole checkpoint ends."""
    whole = tiles.read(CHECKPOINTS) or b""
    parts = whole.split(b"\n\n")[:-1]
    return sum(len(part) + 2 for part in parts[: len(parts) & ~1])


def tile_of(tiles: TileStore, level: int, index: int, width: int) -> bytes:
    """A tile, also where only the full one is left. Raises `MalformedError` for none."""
    path = tile_path(level, index, width)
    tile = tiles.read(path)
    if tile is None and width < WIDTH:
        tile = (tiles.read(tile_path(level, index)) or b"")[: width * HASH_SIZE]
    if not tile:
        raise MalformedError(path, "it is missing")
    return tile


def nodes(tiles: TileStore, size: int) -> NodeReader:
    """The nodes of the tree of that size, from its tiles."""
    return NodeReader(size, lambda *tile: tile_of(tiles, *tile))


def position_after(tiles: TileStore, count: int) -> int:
    """The last position of the first ``count`` full tiles. Raises `MalformedError`."""
    if not count:
        return 0
    data = tiles.read(POSITIONS, (count - 1) * _POSITION.size, _POSITION.size) or b""
    try:
        (position,) = _POSITION.unpack(data)
    except struct.error:
        raise MalformedError(POSITIONS, f"it ends before tile {count - 1:,}") from None
    return min(int(position), MAX_POSITION)


def tile_at(tiles: TileStore, size: int, position: int) -> int:
    """Which tile has the commit of a position, in a tree of that size.

    Commits are of a like size for the most part, so it is looked for where it lies if they all
    are: first there, and then in the half that is left, in turn.
    """
    low, high = 0, size // WIDTH
    after, through = 0, position_after(tiles, high)
    guesses = itertools.cycle((True, False))
    while low < high:
        middle = (low + high) // 2
        if next(guesses) and after < position <= through:
            middle = min(low + (position - after - 1) * (high - low) // (through - after), high - 1)
        end = position_after(tiles, middle + 1)
        if end < position:
            low, after = middle + 1, end
        elif position_after(tiles, middle) < position:
            return middle
        else:
            high, through = middle, end
    return low


def place_of(tiles: TileStore, size: int, commit: Sequence[StoredSlice]) -> int | None:
    """The number of a commit in a tree of that size, by its hash; None where it isn't in it.

    Raises `MalformedError` where the tiles can't be read.
    """
    first, node = tile_at(tiles, size, commit[-1].position) * WIDTH, nodes(tiles, size).node
    for index in range(first, min(first + WIDTH, size)):
        try:
            leaf = leaf_of(index, node(0, index - 1) if index else FIRST, commit)
        except (struct.error, UnicodeEncodeError, OverflowError):
            return None
        if leaf == node(0, index):
            return index
    return None


def slices_after(
    read: ReadPage, position: int, commits: int, size: int | None = None
) -> list[StoredSlice]:
    """The slices of that many commits after a position, or of all that there are.

    With ``size``, no further page is read once the bodies have that many bytes, but for the first
    commit, which is whole.
    """
    found: list[StoredSlice] = []
    query, seen = Query(after_position=position), 0
    while True:
        page = read(query, min(PAGE_EVENTS, 2 * commits + 1))
        for stored in page.slices:
            seen += not stored.first_index
            if seen > commits:
                return found
            found.append(stored)
        if page.end or (size is not None and seen > 1 and _bytes_of(found) >= size):
            return found
        query = query.after(page.cursor)


def _bytes_of(slices: Sequence[StoredSlice]) -> int:
    return sum(len(stored.body) for stored in slices)


class LogWriter:
    """Takes in what a store has, from the newest checkpoint on. One at a time holds the lock."""

    def __init__(self, tiles: TileStore) -> None:
        self._tiles = tiles
        self._at: Signed | None = None
        self._tree = Tree()
        self._leaves = Leaves()
        self._cursor = 0
        self._end_of_history = 0
        self._is_resumed = False

    @property
    def size(self) -> int:
        """How many commits have been taken in."""
        return self._leaves.size

    @property
    def position(self) -> int:
        """The last position of the commits that have been taken in."""
        return self._leaves.position

    def resume(self, read: ReadPage, elsewhere: RetirementRecord | None = None) -> Signed | None:
        """Go on after the newest checkpoint, by whichever key; returns it.

        ``elsewhere`` is the newest record of a retirement in a branch's parent. Raises
        `TamperedError` where the store doesn't have what was signed, or its tiles not, and
        `MerkleLogError` where what isn't signed yet was retired.
        """
        note = self._tiles.read(CHECKPOINT)
        if self._is_resumed and note == (None if self._at is None else self._at.note):
            return self._at
        self._is_resumed = False
        try:
            self._at = None if note is None else signed(note)
            size = 0 if self._at is None else self._at.checkpoint.size
            self._resume(read, size, elsewhere)
        except MalformedError as error:
            raise TamperedError(f"the log's folder is damaged ({error})") from error
        self._end_of_history = _end_of_history(self._tiles)
        self._is_resumed = True
        return self._at

    def _resume(self, read: ReadPage, size: int, elsewhere: RetirementRecord | None) -> None:
        tiles = max(size - 1, 0) // WIDTH
        self._tree = Tree.resumed(tiles, size, lambda *tile: tile_of(self._tiles, *tile))
        last = FIRST
        if tiles:
            last = tile_of(self._tiles, 0, tiles - 1, WIDTH)[-HASH_SIZE:]
        position = position_after(self._tiles, tiles)
        self._leaves = Leaves(tiles * WIDTH, last, position)
        width = tile_width(size, 0, tiles)
        expected = hashes_in(tile_of(self._tiles, 0, tiles, width)) if width else []
        if (end := retired_end(read)) > position:
            self._begin_after(read, end, expected, elsewhere)
        if width:
            known = self._leaves.size - tiles * WIDTH
            slices = slices_after(read, self._leaves.position, width - known)
            found = self._leaves.take(slices, end=True)
            if found != expected[known:]:
                raise TamperedError(
                    f"the store's commits from number {tiles * WIDTH + known:,} on are not those "
                    f"that were signed"
                )
            self._tree.extend(found)
        self._cursor = self._leaves.position
        if self._at is not None and self._tree.root() != self._at.checkpoint.root:
            raise TamperedError("the log's tiles are not those that were signed")

    def _begin_after(
        self, read: ReadPage, end: int, leaves: list[bytes], elsewhere: RetirementRecord | None
    ) -> None:
        """Begin after what was retired up to a position; ``leaves`` are the last tile's."""
        first = self._leaves.size
        if not leaves:
            raise unsigned_error(end, 0)
        part = retired_part(read, end, elsewhere)
        if isinstance(part, Unrecorded):
            raise TamperedError(part.what)
        if part.commits > first + len(leaves):
            raise unsigned_error(end, first + len(leaves))
        known = leaves[: max(0, part.commits - first)]
        if known[-1:] != [part.leaf]:
            raise TamperedError(
                f"what was retired up to position {end:,} is not what was signed, by its record"
            )
        self._leaves = Leaves(part.commits, part.leaf, end)
        self._tree.extend(known)

    def take_in(self, read: ReadPage) -> bool:
        """Take in some pages, and write the tiles that they fill; whether there may be more.

        Raises `MerkleLogError` where what isn't signed yet was retired.
        """
        files: dict[str, bytes] = {}
        known = self._leaves.size // WIDTH
        added = bytearray()
        try:
            for _ in range(PAGES_PER_CALL):
                page = read(Query(after_position=self._cursor), PAGE_EVENTS)
                ends: list[int] = []
                before = self._leaves.size
                found = self._leaves.take(page.slices, ends, end=page.end)
                files |= self._tree.extend(found)
                for full in range(before // WIDTH + 1, self._leaves.size // WIDTH + 1):
                    added += _POSITION.pack(ends[full * WIDTH - before - 1])
                self._cursor = page.cursor
                if page.end:
                    break
            if files:
                self._tiles.write(files)
                self._tiles.write_at(POSITIONS, known * _POSITION.size, bytes(added))
        except RetiredError as error:
            self._is_resumed = False
            raise unsigned_error(error.last, self._leaves.size) from error
        except BaseException:
            self._is_resumed = False
            raise
        return not page.end

    def unsigned(self, origin: str) -> Checkpoint | None:
        """The next checkpoint, to be signed; None where the newest one says it all.

        The tiles at the right edge are written for it.
        """
        if self._at is not None and self._at.checkpoint.size == self._leaves.size:
            return None
        partial = self._tree.partial_tiles()
        if partial:
            self._tiles.write(partial)
        return Checkpoint(origin, self._leaves.size, self._tree.root())

    def signed_before(self) -> Signed:
        """The newest checkpoint, where it says all that there is. Raises `TamperedError`."""
        if self._at is None:
            raise TamperedError("the newest checkpoint is gone")
        return self._at

    def publish(self, note: bytes) -> Signed:
        """Make a signed note of it the newest checkpoint, durably."""
        before = 0 if self._at is None else self._at.checkpoint.size
        self._tiles.write_at(CHECKPOINTS, self._end_of_history, note + b"\n")
        self._end_of_history += len(note) + 1
        self._tiles.replace(CHECKPOINT, note)
        self._at = signed(note)
        gone = _outgrown(before, self._at.checkpoint.size)
        if gone:
            self._tiles.remove(gone)
        return self._at


def _outgrown(before: int, size: int) -> list[str]:
    """The folders of partial tiles whose full tiles have come since."""
    found: list[str] = []
    level = 0
    while before >> 8 * level:
        index, width = divmod(before >> 8 * level, WIDTH)
        if width and size >> 8 * level >= (index + 1) * WIDTH:
            found.append(f"{tile_path(level, index)}.p")
        level += 1
    return found
