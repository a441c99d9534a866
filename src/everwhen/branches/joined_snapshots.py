"""A branch's snapshots: its own, and the parent's of what they share.

The parent's stay where they are when they are deleted on the branch: a snapshot of the branch's own
says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from everwhen.vocabulary.contract import Snapshot, SnapshotInfo

DELETED: Final = "everwhen:deleted"
"""The fold of a record that hides a snapshot of the parent's, which stays where it is."""
EVERY: Final = (1 << 63) - 1
"""The position of a record that hides every snapshot of the parent's."""


def joined(mine: Sequence[Snapshot], theirs: Sequence[Snapshot], count: int) -> list[Snapshot]:
    """Newest first, the branch's and the parent's snapshots as far down as both are known.

    Of each at most ``count`` were asked for. Where both have one, the branch's counts.
    """
    known_from = max((s[-1].position for s in (mine, theirs) if len(s) >= count), default=0)
    both = {s.position: s for s in theirs} | {s.position: s for s in mine}
    return [
        both[position]
        for position in sorted(both, reverse=True)
        if position >= known_from and both[position].fold != DELETED
    ]


def deleted(subject: str, positions: Sequence[int] | None, fork: int) -> list[Snapshot]:
    """Records that hide the parent's snapshots, at these positions or all, from the branch."""
    gone = [EVERY] if positions is None else [p for p in positions if 0 <= p <= fork]
    return [Snapshot(subject, position, DELETED, 0, b"") for position in gone if fork]


def listed(
    mine: Sequence[SnapshotInfo], theirs: Sequence[SnapshotInfo], limit: int, fork: int
) -> tuple[list[SnapshotInfo], tuple[str, int] | None]:
    """A branch's snapshots, out of the next so many own and the parent's; and how far that goes.

    It goes to a subject and position, or to the end. Those of the parent's that are deleted on the
    branch may be among them.
    """
    full = [part[-1] for part in (mine, theirs) if len(part) == limit]
    end = min(((info.subject, info.position) for info in full), default=None)
    both = {(i.subject, i.position): i for i in theirs if i.position <= fork}
    both |= {(i.subject, i.position): i for i in mine}
    found = [both[at] for at in sorted(both) if end is None or at <= end]
    return [info for info in found if info.fold != DELETED], end
