"""What is recorded of history that was retired, and what has to be known before it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from everwhen.codec.audit_marks import AUDIT_CATEGORY
from everwhen.codec.blocks import fields_of
from everwhen.codec.codec import Codec
from everwhen.codec.commits import Commit, Write, encoded, new_commit_id
from everwhen.codec.event_types import EventTypes
from everwhen.codec.slice_digest import SliceDigest
from everwhen.merkle.leaf_hashes import Leaves
from everwhen.store.retirement_records import RETIREMENTS, HistoryRetired
from everwhen.vocabulary.contract import EncodedCommit, SnapshotInfo, StoredSlice
from everwhen.vocabulary.erasures import ERASURES
from everwhen.vocabulary.errors import EverwhenError
from everwhen.vocabulary.streams import category_of
from everwhen_verify.entries import FIRST

_NAMED: Final = 3
"""How many streams an error names."""


class LossError(EverwhenError):
    """Retiring would lose the state of streams: no snapshot holds what the events came to.

    ``streams`` are their names, ``last`` is the position up to which history would be retired.
    """

    def __init__(self, last: int, streams: Sequence[str]) -> None:
        self.last = last
        self.streams = tuple(streams)
        more = len(streams) - _NAMED
        named = ", ".join(map(repr, streams[:_NAMED])) + (f" and {more:,} more" if more > 0 else "")
        super().__init__(
            f"nothing was retired: up to position {last}, {len(streams):,} streams have events "
            f"that no snapshot holds the result of: {named}; take a snapshot of each, or say "
            f"allow_loss=True"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.last, self.streams)


class Retirement(msgspec.Struct, frozen=True):
    """History that is old enough to be given up: the positions ``first`` to ``last``.

    ``lost`` are the streams that have events there of which no snapshot holds the result.
    """

    first: int
    last: int
    events: int
    lost: tuple[str, ...]


class Survey:
    """What is found in history that is to be retired, slice by slice in order.

    It goes on from what the retirement before has recorded.
    """

    def __init__(self, before: HistoryRetired | None) -> None:
        self.newest: dict[str, int] = {}
        """Each stream's last position."""
        self.events = 0
        leaf = FIRST if before is None else bytes.fromhex(before.leaf)
        commits, last = (0, 0) if before is None else (before.commits, before.last)
        self._first = last + 1
        self._leaves = Leaves(commits, leaf, last)
        self._digest = SliceDigest()

    @property
    def commits(self) -> int:
        """How many commits of the store have been taken in, and were retired before."""
        return self._leaves.size

    def take(self, slices: Sequence[StoredSlice], *, end: bool) -> None:
        """Take in some more slices; ``end`` says that they are the last."""
        self._leaves.take(slices, end=end)
        self._digest.update(fields_of(slices))
        for stored in slices:
            self.events += stored.count
            self.newest[stored.stream] = stored.position

    def retirement(self, last: int, snapshots: Iterable[SnapshotInfo]) -> Retirement:
        """What would be retired, and lost with it."""
        held: dict[str, int] = {}
        for info in snapshots:
            _, found, stream = info.subject.partition(f"{info.fold}/")
            if found:
                held[stream] = max(info.position, held.get(stream, 0))
        lost = [
            stream
            for stream, position in self.newest.items()
            if held.get(stream, 0) < position and not _is_record(stream)
        ]
        return Retirement(self._first, last, self.events, tuple(sorted(lost)))

    def record(self, retirement: Retirement) -> EncodedCommit:
        """The commit that says that this was retired."""
        event = self._event(retirement)
        return encoded(Commit((Write(RETIREMENTS, [event]),)), _CODEC, new_commit_id)

    def is_recorded_by(self, record: HistoryRetired, retirement: Retirement) -> bool:
        """Whether a record says this, whatever was known of snapshots then."""
        return msgspec.structs.replace(record, lost=len(retirement.lost)) == self._event(retirement)

    def _event(self, retirement: Retirement) -> HistoryRetired:
        return HistoryRetired(
            retirement.first,
            retirement.last,
            retirement.events,
            self._leaves.size,
            self._leaves.last.hex(),
            self._digest.digest().hex(),
            len(retirement.lost),
        )


_CODEC: Final = Codec(EventTypes(HistoryRetired))


def _is_record(stream: str) -> bool:
    """Whether a stream has records of Everwhen's own, of which there is no state."""
    return stream in {RETIREMENTS, ERASURES} or category_of(stream) == AUDIT_CATEGORY
