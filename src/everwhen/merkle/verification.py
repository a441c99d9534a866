"""Verifying a store against its Merkle log: everything is computed again, the first fault named.

The leaves are compared with the tiles', a tile at a time, and the roots that they make with every
signed one at hand: the newest checkpoint's, those of the log's history, and those that the caller
remembers from elsewhere.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from everwhen.merkle.compact_range import Tree, hashes_in, levels_of
from everwhen.merkle.leaf_hashes import Leaves
from everwhen.merkle.log_writer import (
    PAGES_PER_CALL,
    Signed,
    history,
    newest,
    nodes,
    place_of,
    position_after,
    slices_after,
    tile_of,
)
from everwhen.merkle.retired_leaves import (
    RetiredHistory,
    RetiredPart,
    Unrecorded,
    retired_part,
)
from everwhen.merkle.tamper_diagnosis import Difference, Fault, FaultKind, named
from everwhen.merkle.tile_stores import CHECKPOINT, TileStore
from everwhen.merkle.timestamps import Timestamp
from everwhen.store.retirement_records import RetirementRecord, retired_end
from everwhen.vocabulary.contract import Page, Problem, StoredSlice
from everwhen.vocabulary.errors import CorruptStoreError, RetiredError
from everwhen.vocabulary.microseconds import from_micros
from everwhen.vocabulary.paging import PAGE_EVENTS, ReadPage
from everwhen.vocabulary.query import Query
from everwhen_verify.entries import FIRST
from everwhen_verify.errors import MalformedError, SignatureError
from everwhen_verify.memory import Remembered
from everwhen_verify.merkle import HASH_SIZE
from everwhen_verify.rollover import LogKey, Rollover, open_checkpoint
from everwhen_verify.tiles import HEIGHT, WIDTH, tile_path, tile_width


class LogReport(msgspec.Struct, frozen=True):
    """What verifying a log has found.

    ``size`` commits are under the checkpoint, ``verified`` of them were computed again this time;
    ``unsigned`` ones came after it. Of those that were ``retired`` there are only the hashes, which
    are what was signed. ``signed_by`` are the keys whose signatures were checked,
    ``timestamps`` those of the checkpoints that were checked, and ``rollovers`` say where the log
    was handed over to another key, the oldest first.

    ``key_from`` says whose word the key is: that of who asked (``given``), of the memory
    (``remembered``), or nobody's but the log's own (``log``), which proves nothing against who
    can replace the log. ``remembered`` is what the memory holds now; where it couldn't keep it,
    ``not_remembered`` says why.
    """

    fault: Fault | None
    size: int
    verified: int
    unsigned: int
    signed_by: tuple[str, ...]
    checkpoint: bytes
    timestamps: tuple[Timestamp, ...] = ()
    rollovers: tuple[Rollover, ...] = ()
    key_from: Literal["given", "remembered", "log"] = "log"
    remembered: Remembered | None = None
    not_remembered: str | None = None
    retired: RetiredHistory | None = None

    @property
    def is_sound(self) -> bool:
        """Whether no fault was found."""
        return self.fault is None


class Proven(NamedTuple):
    """Up to which position reads are proven, and what was found on the way there."""

    position: int
    report: LogReport


class _Mark(NamedTuple):
    """A size at which somebody has signed a root."""

    size: int
    rank: int
    signed: Signed


_CHECKPOINT, _HISTORY, _REMEMBERED = 0, 1, 2
_RANKS: Final = {_CHECKPOINT, _HISTORY, _REMEMBERED}

_TILES_PER_PAGE: Final = 8
"""Of retired commits, as many as a page has events."""


class Verification:
    """One run over a store. ``go_on`` until it says that there is no more, then ``report``.

    ``keys`` are the log's, the newest ones included, and what each of them signs. ``remembered``
    are notes of checkpoints kept elsewhere. With ``since``, one that was verified before, only
    what came after it is computed again. ``taken`` is given all slices of signed commits that are
    looked at, page by page: whether they are what was signed, only the report says. ``elsewhere``
    is the newest record of a retirement in a branch's parent. ``size`` is how many commits have
    been looked at.
    """

    def __init__(
        self,
        tiles: TileStore,
        keys: Iterable[LogKey],
        *,
        remembered: Sequence[Signed] = (),
        since: Signed | None = None,
        taken: Callable[[Sequence[StoredSlice]], None] | None = None,
        elsewhere: RetirementRecord | None = None,
    ) -> None:
        self._tiles = tiles
        self._elsewhere = elsewhere
        self._part: RetiredPart | None = None
        self._unrecorded: Fault | None = None
        self._from_tiles = 0
        self._is_begun = False
        self._taken = taken
        self._last_signed: int | None = None
        self._keys = tuple(keys)
        self._fault: Fault | None = None
        self._signed_by: tuple[str, ...] = ()
        self._newest: Signed | None = None
        self._marks: list[_Mark] = []
        self._tree = Tree()
        self._leaves = Leaves()
        self._row: list[bytes] = []
        self._ends: list[int] = []
        self._agreeing: list[_Mark] = []
        self._before = self._after = 0
        self._disagreed: tuple[_Mark, bytes] | None = None
        self._set_back: Fault | None = None
        self._cursor = self._start = 0
        try:
            self._open(remembered, since)
        except MalformedError as error:
            kind = FaultKind.DAMAGED
            if (tiles.read(CHECKPOINT) or b"").endswith(b"\n\n"):
                kind = FaultKind.STRIPPED
            self._fault = Fault(kind, f"the log's folder can't be read: {error}")

    @property
    def size(self) -> int:
        """How many commits have been looked at, or are taken for verified."""
        return self._leaves.size

    @property
    def goal(self) -> int:
        """How many commits are signed."""
        return 0 if self._newest is None else self._newest.checkpoint.size

    @property
    def after(self) -> int:
        """The position up to which the store is taken for verified."""
        return self._after

    @property
    def is_sound(self) -> bool:
        """Whether no fault was found so far."""
        return self._fault is None

    def judge(self, hidden: Sequence[Problem]) -> None:
        """Take in by what queries may not find the commits, which are sound themselves."""
        if hidden:
            more = f", and {len(hidden) - 1:,} more" if len(hidden) > 1 else ""
            self._fault = Fault(
                FaultKind.HIDDEN,
                f"the commits are those that were signed, but what queries find them by is not "
                f"what they make: {hidden[0].where}: {hidden[0].what}{more}",
            )

    def damaged(self, error: CorruptStoreError) -> None:
        """Take in that the store can't be read."""
        self._fault = self._fault or Fault(FaultKind.DAMAGED, f"the store can't be read: {error}")

    def report(self) -> LogReport:
        """What was found."""
        return LogReport(
            self._fault,
            self.goal,
            max(0, min(self.size, self.goal) - self._start - self._from_tiles),
            max(0, self.size - self.goal),
            self._signed_by,
            b"" if self._newest is None else self._newest.note,
            retired=self._retired(),
        )

    def _retired(self) -> RetiredHistory | None:
        """What was retired, where no fault is known of that."""
        part = self._part
        if part is None or part.record is None:
            return None
        stored, last = part.record.stored, self._last_signed
        return RetiredHistory(
            part.last,
            part.commits,
            stored.position if part.own else None,
            from_micros(stored.recorded_at),
            part.own and last is not None and stored.position <= last,
        )

    # What was signed

    def _open(self, remembered: Sequence[Signed], since: Signed | None) -> None:
        self._newest = newest(self._tiles)
        if self._newest is None:
            self._fault = Fault(
                FaultKind.NOT_SIGNED, "nothing was ever signed here, or all of it was taken away"
            )
            return
        self._fault = self._wrong_signature(self._newest)
        if self._fault is not None:
            return
        signers = open_checkpoint(self._newest.note, self._keys).signers
        self._signed_by = tuple(verifier.vkey for verifier in signers)
        size = self._newest.checkpoint.size
        marks = {_Mark(size, _CHECKPOINT, self._newest)}
        marks |= {_Mark(one.checkpoint.size, _HISTORY, one) for one in history(self._tiles)}
        if since is not None:
            remembered = (*remembered, since)
            self._begin_at(min(remembered, key=lambda one: one.checkpoint.size), size)
        marks |= {_Mark(one.checkpoint.size, _REMEMBERED, one) for one in remembered}
        ahead = [mark for mark in marks if mark.size >= self._start]
        self._marks = sorted(ahead, key=lambda m: (m.size, m.rank), reverse=True)

    def _wrong_signature(self, one: Signed) -> Fault | None:
        what = f"the checkpoint of {one.checkpoint.size:,} commits"
        origins = {key.verifier.name for key in self._keys}
        if one.checkpoint.origin not in origins:
            return Fault(
                FaultKind.FOREIGN,
                f"{what} is another log's",
                expected=" or ".join(sorted(origins)),
                found=one.checkpoint.origin,
            )
        try:
            open_checkpoint(one.note, self._keys)
        except SignatureError as error:
            names = set(error.strangers)
            if error.key is not None:
                return Fault(FaultKind.BAD_SIGNATURE, f"{what}: {error}", expected=error.key)
            kind = FaultKind.FOREIGN if names & origins or not names else FaultKind.STRIPPED
            mine = [key.verifier for key in self._keys if key.signs(one.checkpoint.size)]
            return Fault(
                kind,
                f"{what} is not signed by the log's key: {error}",
                expected=" or ".join(verifier.vkey for verifier in mine),
                found=", ".join(error.strangers),
            )
        return None

    def _begin_at(self, since: Signed, size: int) -> None:
        """Take for verified what lies before the last tile of an earlier checkpoint."""
        if since.checkpoint.size > size:
            return
        tiles = max(since.checkpoint.size - 1, 0) // WIDTH
        last = tile_of(self._tiles, 0, tiles - 1, WIDTH)[-HASH_SIZE:] if tiles else FIRST
        self._cursor = position_after(self._tiles, tiles)
        self._tree = Tree.resumed(tiles, size, lambda *tile: tile_of(self._tiles, *tile))
        self._leaves = Leaves(tiles * WIDTH, last, self._cursor)
        self._start = tiles * WIDTH
        self._before = self._after = self._cursor

    # The pass over the store

    def go_on(self, read: ReadPage) -> bool:
        """Look at some pages more; whether there may be others."""
        if not self._is_begun and self._fault is None:
            self._is_begun = True
            if end := retired_end(read):
                self._begin_after(read, end)
        for _ in range(PAGES_PER_CALL):
            if self._fault is not None:
                return False
            if self._part is not None and self.size < self._part.commits:
                self._take_retired(read, self._part)
                continue
            try:
                page = read(Query(after_position=self._cursor), PAGE_EVENTS)
            except RetiredError as error:
                self._begin_after(read, error.last)
                continue
            except CorruptStoreError as error:
                self._look_closely(read, error)
                return False
            before, ends = copy.copy(self._leaves), list[int]()
            try:
                found = self._leaves.take(page.slices, ends, end=page.end)
            except CorruptStoreError as error:
                self._leaves, ends = before, []
                found, damage = _before_damage(before, page.slices, ends, error)
                self._take(read, found, ends)
                self._close_row(read)
                self._fault = self._fault or damage
                return False
            self._hand_on(page.slices, before.size, ends)
            self._take(read, found, ends)
            self._look_for_record(page)
            self._cursor = page.cursor
            if page.end:
                self._finish(read)
                return False
        return True

    # What was retired

    def _begin_after(self, read: ReadPage, last: int) -> None:
        """Go on after what was retired up to a position, by its record, or without one.

        Without one it is a fault: but what else is wrong says more.
        """
        try:
            found = retired_part(read, last, self._elsewhere)
            if not isinstance(found, Unrecorded):
                part: RetiredPart | None = found
            elif found.is_missing:
                self._unrecorded = Fault(FaultKind.REMOVED, found.what, position=last)
                part = self._part_by_tiles(read, last)
            else:
                self._unrecorded = Fault(FaultKind.FALSE_RETIREMENT, found.what, position=last)
                part = None
            if part is None:
                self._fault = self._unrecorded
                return
            self._fault = self._wrong_part(part)
        except CorruptStoreError as error:
            self._fault = Fault(FaultKind.DAMAGED, f"the store can't be read: {error}")
        except MalformedError as error:
            self._fault = _torn(str(error), None)
        if self._fault is None:
            self._part = part
            self._cursor = max(self._cursor, last)

    def _part_by_tiles(self, read: ReadPage, last: int) -> RetiredPart | None:
        """What is gone up to a position, by the place of the first commit that is left."""
        commit = slices_after(read, last, 1)
        place = place_of(self._tiles, self.goal, commit) if commit else None
        if not place:
            return None
        leaf = nodes(self._tiles, self.goal).node(0, place - 1)
        return RetiredPart(last, place, leaf, None)

    def _wrong_part(self, part: RetiredPart) -> Fault | None:
        """Why a record of a retirement doesn't fit the log; None where it does."""
        if part.commits > self.goal:
            return self._unsigned_part(part)
        leaf = nodes(self._tiles, self.goal).node(0, part.commits - 1)
        is_before = self._cursor < part.last  # what is gone has to be the same by both
        if leaf != part.leaf or is_before is not (self.size < part.commits):
            return Fault(
                FaultKind.FALSE_RETIREMENT,
                f"what was retired up to position {part.last:,} isn't what was signed: by its "
                f"record, it ended with commit number {part.commits - 1:,} and this hash",
                index=part.commits - 1,
                position=part.last,
                expected=leaf.hex(),
                found=part.leaf.hex(),
            )
        if not part.own or part.record is None or part.record.stored.position > self._cursor:
            return None  # it is met later, if it is there
        if place_of(self._tiles, self.goal, [part.record.stored]) is not None:
            return None
        position = part.record.stored.position
        what = f"the record of a retirement at position {position:,} is not what was signed there"
        return Fault(FaultKind.FALSE_RETIREMENT, what, position=position)

    def _unsigned_part(self, part: RetiredPart) -> Fault:
        ahead = max((mark.size for mark in self._marks), default=0)
        if ahead > self.goal:
            return Fault(
                FaultKind.SET_BACK,
                f"the log's newest checkpoint is of {self.goal:,} commits, and one of {ahead:,} is "
                f"remembered; {part.commits:,} commits were retired since: the log's folder was "
                f"set back",
                index=self.goal,
                expected=f"{ahead} commits",
                found=f"{self.goal} commits",
            )
        return Fault(
            FaultKind.RETIRED_UNSIGNED,
            f"{part.commits:,} commits were retired, and only {self.goal:,} were signed here: what "
            f"is left can't be verified by this log",
            index=self.goal,
            position=part.last,
        )

    def _take_retired(self, read: ReadPage, part: RetiredPart) -> None:
        """Take in some of the retired leaves, of which there are only the tiles."""
        for _ in range(_TILES_PER_PAGE):
            size = self.size
            index, start = divmod(size, WIDTH)
            stop = min(WIDTH, part.commits - index * WIDTH)
            try:
                tile = tile_of(self._tiles, 0, index, tile_width(self.goal, 0, index))
            except MalformedError as error:
                self._fault = _torn(str(error), size)
                return
            leaves = hashes_in(tile[start * HASH_SIZE : stop * HASH_SIZE])
            if len(leaves) != stop - start or len(leaves[-1]) != HASH_SIZE:
                self._fault = _torn(f"{tile_path(0, index)} is too short", size)
                return
            self._leaves = Leaves(size + len(leaves), leaves[-1], part.last)
            self._from_tiles += len(leaves)
            self._take(read, leaves, [part.last] * len(leaves))
            if self._fault is not None or self.size == part.commits:
                break
        if part.commits == self.goal == self.size:
            self._last_signed = part.last

    def _judge_retired_tile(self, index: int, root: bytes) -> None:
        """Compare a full tile of retired leaves with the hash of it in the tile above."""
        try:
            above = nodes(self._tiles, self.goal).node(HEIGHT, index)
        except MalformedError as error:
            self._fault = _torn(str(error), index * WIDTH)
            return
        if above != root:
            path = tile_path(0, index)
            what = f"{path}, of commits that were retired, isn't what the tile above it says"
            self._fault = Fault(FaultKind.TREE, what, index * WIDTH, None, None, above.hex())

    def _look_for_record(self, page: Page) -> None:
        """See that the record of the retirement is one of the commits that are verified."""
        if self._part is None or self._part.record is None or not self._part.own:
            return
        record = self._part.record.stored
        if not self._cursor < record.position <= page.cursor or self._fault is not None:
            return
        if record not in page.slices:
            self._fault = Fault(
                FaultKind.FALSE_RETIREMENT,
                f"the record of a retirement that is found at position {record.position:,} is none "
                f"of the commits",
                position=record.position,
            )

    def _look_closely(self, read: ReadPage, error: CorruptStoreError) -> None:
        """Go on, slice by slice, up to the one that can't be read."""
        try:
            while True:
                page = read(Query(after_position=self._cursor), 1)
                ends: list[int] = []
                self._take(read, self._leaves.take(page.slices, ends), ends)
                self._cursor = page.cursor
                if self._fault is not None or page.end:
                    return
        except CorruptStoreError as found:
            error = found
        self._close_row(read)
        self._fault = self._fault or Fault(
            FaultKind.DAMAGED,
            f"after position {self._cursor:,} the store can't be read: {error}",
            position=self._cursor + 1,
        )

    def _hand_on(self, slices: Sequence[StoredSlice], before: int, ends: Sequence[int]) -> None:
        """Give on those of signed commits; ``before`` commits ended before those of ``ends``."""
        if before < self.goal <= before + len(ends):
            self._last_signed = ends[self.goal - before - 1]
        if self._taken is None:
            return
        last = self._last_signed
        if last is not None:
            slices = [stored for stored in slices if stored.position <= last]
        if slices and self.goal:
            self._taken(slices)

    def _take(self, read: ReadPage, leaves: Sequence[bytes], ends: Sequence[int]) -> None:
        """Compare leaves with the tiles, and roots with those that were signed."""
        start = 0
        while start < len(leaves) and self._fault is None:
            stop = start + WIDTH - len(self._row)
            self._row += leaves[start:stop]
            self._ends += ends[start:stop]
            start = stop
            if len(self._row) == WIDTH:
                self._close_row(read)

    def _close_row(self, read: ReadPage) -> None:
        """Judge a tile's leaves, of which there may be fewer at the end."""
        row, first = self._row, self._tree.size
        self._judge_row(read, first // WIDTH)
        levels = levels_of(row)
        last = first + min(len(row), WIDTH - 1)
        while self._fault is None and self._marks and self._marks[-1].size <= last:
            mark = self._marks.pop()
            self._judge_mark(mark, self._tree.root_within(levels, mark.size - first))
        if len(row) == WIDTH and self._fault is None:
            if self._part is not None and first + WIDTH <= self._part.commits:
                self._judge_retired_tile(first // WIDTH, levels[-1][0])
            for name, tile in self._tree.add_tile(levels[-1][0]).items():
                if first + WIDTH <= self.goal and self._tiles.read(name) != tile:
                    torn = _torn(f"{name} is not what the commits make", first)
                    self._fault = self._fault or torn
            self._before, self._row, self._ends = self._ends[-1], [], []

    def _judge_row(self, read: ReadPage, index: int) -> None:
        row = self._row
        width = tile_width(self.goal, 0, index)
        if not width or not row or self._newest is None:
            return
        try:
            tile = tile_of(self._tiles, 0, index, width)
        except MalformedError as error:
            self._fault = _torn(str(error), index * WIDTH)
            return
        mine = b"".join(row[:width])
        if tile[: len(mine)] == mine and len(tile) == width * HASH_SIZE:
            return
        theirs = hashes_in(tile)
        at = next((i for i in range(min(len(row), width)) if theirs[i : i + 1] != [row[i]]), None)
        if at is None:
            self._fault = _torn(f"{tile_path(0, index, width)} is too long", index * WIDTH)
            return
        before = self._ends[at - 1] if at else self._before
        difference = Difference(index * WIDTH + at, row[at], before)
        self._fault = named(read, self._tiles, self._newest.checkpoint, difference)

    def _judge_mark(self, mark: _Mark, root: bytes) -> None:
        one = mark.signed
        if root == one.checkpoint.root:
            self._agreeing.append(mark)
            if mark.rank == _REMEMBERED and mark.size > self.goal:
                self._set_back = Fault(
                    FaultKind.SET_BACK,
                    f"the log's newest checkpoint is of {self.goal:,} commits, and one of "
                    f"{mark.size:,} is remembered, which the store has as well: the log's folder "
                    f"was set back, or its last checkpoint never got there",
                    index=self.goal,
                    expected=f"{mark.size} commits",
                    found=f"{self.goal} commits",
                )
            if mark.rank == _CHECKPOINT:
                self._judge_upper_tiles(mark.size)
                if self._fault is None and self._disagreed is not None:
                    self._fault = self._contradicted(*self._disagreed)
            return
        if mark.rank == _HISTORY and (wrong := self._wrong_signature(one)) is not None:
            self._fault = wrong
            return
        self._disagreed = self._disagreed or (mark, root)
        if mark.rank == _CHECKPOINT:
            which, found = self._disagreed
            first = self._agreed_below(which, _RANKS)
            if self._part is not None and first < self._part.commits:
                self._fault = Fault(
                    FaultKind.TREE,
                    f"the tiles from commit number {first:,} on, which was retired, are not those "
                    f"that were signed, or they and later commits aren't",
                    first,
                    expected=which.signed.checkpoint.root.hex(),
                    found=found.hex(),
                )
                return
            self._fault = Fault(
                FaultKind.CHANGED,
                f"the commits from number {first:,} up to {which.size - 1:,} are not those "
                f"that were signed, and neither are the tiles, so it is unknown which differs",
                index=first,
                expected=which.signed.checkpoint.root.hex(),
                found=found.hex(),
            )
        elif mark.size >= self.goal:
            self._fault = self._contradicted(mark, root)

    def _agreed_below(self, mark: _Mark, ranks: Collection[int]) -> int:
        """The size of the largest checkpoint of these ranks, below a mark, that the store has."""
        sizes = (one.size for one in self._agreeing if one.size < mark.size and one.rank in ranks)
        return max(sizes, default=self._start)

    def _contradicted(self, mark: _Mark, root: bytes) -> Fault:
        """The store agrees with its newest checkpoint, but not with another signed one.

        What the key has signed since says nothing about the history that is remembered.
        """
        kind, whose = FaultKind.REWRITTEN, "a checkpoint that is remembered elsewhere"
        ranks = {_REMEMBERED}
        if mark.rank == _HISTORY:
            kind, whose, ranks = FaultKind.FORK, "one that the log's key has signed as well", _RANKS
        first = self._agreed_below(mark, ranks)
        return Fault(
            kind,
            f"the first {mark.size:,} commits are not those of {whose}: two histories were shown, "
            f"and the last one that agrees is of {first:,} commits",
            index=first,
            expected=mark.signed.checkpoint.root.hex(),
            found=root.hex(),
        )

    def _judge_upper_tiles(self, size: int) -> None:
        for level, row in enumerate(self._tree.rows):
            if level and row:
                path = tile_path(level, size >> 8 * (level + 1), len(row))
                try:
                    tile = tile_of(self._tiles, level, size >> 8 * (level + 1), len(row))
                except MalformedError as error:
                    self._fault = _torn(str(error), None)
                    return
                if tile != b"".join(row):
                    self._fault = _torn(f"{path} is not what the commits make", None)
                    return

    def _finish(self, read: ReadPage) -> None:
        if self._fault is None:
            self._close_row(read)
        left = [mark for mark in self._marks if mark.size > self.size]
        if self._fault is not None or not left:
            self._fault = self._fault or self._unrecorded or self._set_back
            return
        farthest = max(left, key=lambda mark: (mark.size, -mark.rank))
        for mark in left:
            if mark.rank == _HISTORY and (wrong := self._wrong_signature(mark.signed)) is not None:
                self._fault = wrong
                return
        self._fault = Fault(
            FaultKind.CUT_TAIL,
            f"the store ends after {self.size:,} commits; {farthest.size:,} were signed",
            index=self.size,
            position=self._leaves.position,
            expected=f"{farthest.size} commits",
            found=f"{self.size} commits",
        )


def _before_damage(
    leaves: Leaves, slices: Sequence[StoredSlice], ends: list[int], error: CorruptStoreError
) -> tuple[list[bytes], Fault]:
    """The leaves before a slice that no store writes, and the fault that this slice is."""
    found: list[bytes] = []
    for stored in slices:
        before = copy.copy(leaves)
        try:
            found += leaves.take([stored], ends)
        except CorruptStoreError:
            found += before.take((), ends, end=True)  # judged first, and whole unless it differs
            index = before.size
            return found, Fault(
                FaultKind.CHANGED,
                f"the commit at position {stored.position:,} is not one that a store "
                f"writes: {error}",
                index=index,
                position=stored.position,
            )
    return found, Fault(FaultKind.DAMAGED, str(error))


def _torn(what: str, index: int | None) -> Fault:
    return Fault(FaultKind.TREE, f"the store's chain is right, the tree is not: {what}", index)
