"""Which fault it is: what a commit that isn't the signed one reveals about what was done to it.

Of a signed commit there is only its hash. So what may have been done is tried out: a hash that
fits is proof, and says what the commit was before.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import sha256
from itertools import chain, islice, product
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from everwhen.merkle.log_writer import nodes, slices_after
from everwhen.merkle.tile_stores import TileStore
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.errors import CorruptStoreError, TamperedError
from everwhen.vocabulary.microseconds import from_micros
from everwhen.vocabulary.paging import ReadPage
from everwhen.vocabulary.query import Query
from everwhen_verify.checkpoints import Checkpoint
from everwhen_verify.entries import FIRST, PREFIX, entry_of, leaf_of
from everwhen_verify.errors import MalformedError, ProofError
from everwhen_verify.merkle import HASH_SIZE, Node, check_inclusion, inclusion_path

CommitSlices = list[StoredSlice]

_MAX_COMMITS: Final = 512
"""Looked at, to find where one that was moved or removed belongs: a bound on the work."""
_NEAR_COMMITS: Final = 16
"""For commits this near, every shift of positions is tried; for others only none."""
_SPAN_MICROS: Final = 300_000
"""Tried for a back-dated commit: 0.3 s after its id was made, a hash for each microsecond."""
_TRIED_BYTES: Final = 256 << 20
"""How much is hashed to try out an explanation: with large commits, fewer are tried."""
_VERSION_7: Final = 0x70
"""The four bits of a UUID that say its version."""
_TIME_OFFSET: Final = 1 + len(PREFIX) + 8 + HASH_SIZE
"""In a leaf: after the prefixes, the number and the previous hash."""


class FaultKind(enum.StrEnum):
    """What is wrong with a history, or with what was signed of it."""

    CHANGED = "changed"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    BACK_DATED = "back-dated"
    CUT_TAIL = "cut tail"
    SET_BACK = "log set back"
    FORK = "fork"
    REWRITTEN = "rewritten"
    TREE = "tree and chain disagree"
    STRIPPED = "stripped signature"
    FOREIGN = "foreign signature"
    BAD_SIGNATURE = "bad signature"
    TIMESTAMP = "bad timestamp"
    NOT_SIGNED = "no checkpoint"
    DAMAGED = "damaged"
    HIDDEN = "hidden from queries"
    FALSE_RETIREMENT = "false record of a retirement"
    RETIRED_UNSIGNED = "retired before it was signed"


class Fault(msgspec.Struct, frozen=True):
    """The first fault that was found: which commit it is at, what was expected, what is there.

    ``index`` counts commits from 0, ``position`` is that of the commit's last event; None where
    there is no such commit, or where the fault isn't the store's.
    """

    kind: FaultKind
    what: str
    index: int | None = None
    position: int | None = None
    commit_id: UUID | None = None
    expected: str | None = None
    found: str | None = None


class Difference(NamedTuple):
    """Where a store and its tiles differ first: which leaf, and the position before its commit."""

    place: int
    found: bytes
    after: int


def named(read: ReadPage, tiles: TileStore, signed: Checkpoint, where: Difference) -> Fault:
    """The fault at the first leaf that differs from the tiles'."""
    index = where.place
    node = nodes(tiles, signed.size).node
    try:
        path = inclusion_path(index, signed.size, node)
        expected = node(0, index)
        if not _leads(expected, index, signed, path):
            if _leads(where.found, index, signed, path):
                return Fault(
                    FaultKind.TREE,
                    f"the commit at number {index:,} is the signed one, but its tile isn't",
                    index,
                    expected=where.found.hex(),
                    found=expected.hex(),
                )
            return Fault(
                FaultKind.CHANGED,
                f"the commit at number {index:,} is not the signed one, and its tile neither",
                index,
                expected=signed.root.hex(),
                found=where.found.hex(),
            )
    except MalformedError as error:
        return Fault(FaultKind.TREE, f"the tree can't be read: {error}", index)
    try:
        commits = _commits(slices_after(read, where.after, _MAX_COMMITS, _TRIED_BYTES // 4))
        earlier = Query(last_position=where.after, reverse=True, skips_retired=True)
        before = read(earlier, 1).slices
    except CorruptStoreError as error:
        return Fault(FaultKind.DAMAGED, f"the store can't be read: {error}", index)
    earliest = before[0].recorded_at if where.after and before else None
    return _Trial(index, signed.size, node, commits, where, earliest).fault()


def _leads(leaf: bytes, index: int, signed: Checkpoint, path: Sequence[bytes]) -> bool:
    try:
        check_inclusion(leaf, index, signed.size, path, signed.root)
    except ProofError:
        return False
    return True


def _commits(slices: Sequence[StoredSlice]) -> list[CommitSlices]:
    commits: list[CommitSlices] = []
    for stored in slices:
        if stored.first_index and commits:
            commits[-1].append(stored)
        else:
            commits.append([stored])
    return commits


class _Trial:
    """Tries out what was done to the commits from a place on."""

    def __init__(
        self,
        index: int,
        size: int,
        node: Node,
        commits: list[CommitSlices],
        where: Difference,
        earliest: int | None,
    ) -> None:
        self._index = index
        self._size = size
        self._node = node
        self._commits = commits
        self._where = where
        self._earliest = earliest
        self._left = _TRIED_BYTES

    def fault(self) -> Fault:
        """The first explanation that fits."""
        for explanation in (
            partial(self._reordered, both=True),
            self._removed,
            self._inserted,
            partial(self._reordered, both=False),
            self._back_dated,
        ):
            self._left = _TRIED_BYTES
            found = explanation()
            if found is not None:
                return found
        return self._fault(FaultKind.CHANGED, "is not the signed one", self._commits[0])

    def _fits(self, commit: CommitSlices, index: int) -> bool:
        """Whether a commit is the one that was signed at a place."""
        self._left -= sum(len(stored.body) for stored in commit)
        if self._left < 0:
            return False
        previous = self._node(0, index - 1) if index else FIRST
        try:
            return leaf_of(index, previous, commit) == self._node(0, index)
        except (struct.error, UnicodeEncodeError, OverflowError):
            return False

    def _fault(
        self,
        kind: FaultKind,
        what: str,
        commit: CommitSlices,
        *,
        expected: str | None = None,
        found: str | None = None,
    ) -> Fault:
        return Fault(
            kind,
            f"the commit at number {self._index:,} {what}",
            self._index,
            commit[-1].position,
            _id_of(commit),
            expected or self._node(0, self._index).hex(),
            found or self._where.found.hex(),
        )

    def _reordered(self, *, both: bool) -> Fault | None:
        """One of the next commits is the signed one, and this one that in the other's place."""
        here = self._commits[0]
        for distance, other in enumerate(self._commits[1:], 1):
            for was in _exchanged(here, other, self._where.after):
                if self._fits(was, self._index) and (
                    not both or self._was_signed(other, here, distance)
                ):
                    return self._fault(
                        FaultKind.REORDERED,
                        f"should be the one that now ends at position {other[-1].position:,}",
                        here,
                        expected=f"commit {_id_of(was)}",
                        found=f"commit {_id_of(here)}",
                    )
        return None

    def _was_signed(self, there: CommitSlices, here: CommitSlices, distance: int) -> bool:
        """Whether this commit was signed in the place of another that follows."""
        index = self._index + distance
        return index < self._size and any(
            self._fits(was, index) for was in _exchanged(there, here, self._where.after)
        )

    def _removed(self) -> Fault | None:
        """This commit was signed at a later place."""
        here = self._commits[0]
        for index in range(self._index + 1, min(self._size, self._index + _MAX_COMMITS)):
            shifts = _NEAR_COMMITS if index - self._index <= _NEAR_COMMITS else 1
            for was in _shifted(here, range(shifts)):
                if self._fits(was, index):
                    count = index - self._index
                    return Fault(
                        FaultKind.REMOVED,
                        f"{count:,} commit{'s' * (count > 1)} from number {self._index:,} on "
                        f"{'are' if count > 1 else 'is'} missing before position "
                        f"{here[-1].position:,}",
                        self._index,
                        here[-1].position,
                        None,
                        self._node(0, self._index).hex(),
                        f"commit {_id_of(here)}, which was signed as number {index}",
                    )
        return None

    def _inserted(self) -> Fault | None:
        """A later commit was signed in this one's place."""
        events = 0
        for count, other in enumerate(self._commits):
            if count and any(self._fits(was, self._index) for was in _shifted(other, (0, -events))):
                more = f" and {count - 1} more" if count > 1 else ""
                return self._fault(
                    FaultKind.INSERTED,
                    f"{more} was never signed: in its place belongs that of position "
                    f"{other[-1].position:,}".strip(),
                    self._commits[0],
                    expected=f"commit {_id_of(other)}",
                    found=f"commit {_id_of(self._commits[0])}",
                )
            events += sum(stored.count for stored in other)
        return None

    def _moments(self, here: CommitSlices) -> Iterator[int]:
        """Other times to try: from when the id was made on, and between the neighbours'."""
        made = _id_time(here[0].commit_id)
        ends: list[tuple[int, int]] = []
        if made is not None:
            ends.append((made, made + _SPAN_MICROS))
        if self._earliest is not None:
            latest = self._earliest + _SPAN_MICROS
            if len(self._commits) > 1:
                latest = min(latest, self._commits[1][0].recorded_at)
            ends.append((self._earliest, latest))
        moments = chain.from_iterable(range(low, high + 1) for low, high in ends)
        return (moment for moment in moments if moment != here[0].recorded_at)

    def _back_dated(self) -> Fault | None:
        """With another time, this commit would be the signed one."""
        here = self._commits[0]
        now = here[0].recorded_at
        expected = self._node(0, self._index)
        previous = self._node(0, self._index - 1) if self._index else FIRST
        try:
            entry = b"\x00" + entry_of(self._index, previous, here)
        except (struct.error, UnicodeEncodeError, OverflowError):
            return None
        head, tail = entry[:_TIME_OFFSET], entry[_TIME_OFFSET + 8 :]
        for moment in islice(self._moments(here), 4 * _TRIED_BYTES // len(tail)):
            if sha256(head + moment.to_bytes(8, "big", signed=True) + tail).digest() == expected:
                return self._fault(
                    FaultKind.BACK_DATED,
                    "has another time than it was signed with",
                    here,
                    expected=_time(moment),
                    found=_time(now),
                )
        follower = self._commits[1] if len(self._commits) > 1 else None
        if follower is not None and follower[0].recorded_at < now:
            return self._fault(
                FaultKind.BACK_DATED,
                "has a time later than the next one's",
                here,
                found=_time(now),
            )
        return None


def _id_time(commit_id: bytes) -> int | None:
    """The time in an id of version 7, in microseconds."""
    is_dated = len(commit_id) == 16 and commit_id[6] & 0xF0 == _VERSION_7
    return int.from_bytes(commit_id[:6], "big") * 1_000 if is_dated else None


def _exchanged(here: CommitSlices, other: CommitSlices, after: int) -> Iterator[CommitSlices]:
    """What the commit here may have been, if it has exchanged its id or content with another."""
    if len(here) > 1 or len(other) > 1:
        return
    mine, theirs = here[0], other[0]
    positions = {mine.position, after + theirs.count}
    for position, (time, version, id_, content) in product(
        positions, product((mine, theirs), repeat=4)
    ):
        if id_ is content is mine:
            continue
        yield [
            StoredSlice(
                position,
                content.stream,
                version.version,
                content.count,
                time.recorded_at,
                id_.commit_id,
                0,
                content.metadata,
                content.body,
            )
        ]


def _shifted(commit: CommitSlices, shifts: Sequence[int]) -> Iterator[CommitSlices]:
    """The commit with other positions, and versions that went with them or did not."""
    replace = msgspec.structs.replace
    for shift in shifts:
        for version in {0, shift}:
            yield [
                replace(s, position=s.position + shift, version=s.version + version) for s in commit
            ]


def _id_of(commit: CommitSlices) -> UUID | None:
    id_ = commit[0].commit_id
    return UUID(bytes=id_) if len(id_) == 16 else None


def _time(micros: int) -> str:
    try:
        return from_micros(micros).isoformat()
    except CorruptStoreError:
        return f"{micros} microseconds"


class UnprovenError(TamperedError):
    """What was read can't be proven by what was signed: ``fault`` is the first thing wrong."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(f"{fault.kind}: {fault.what}")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.fault,)
