"""Which row groups of an archive's objects make one history, by what their footers say.

What an archive was merged from may lie beside what it was merged into, and history that was
archived twice may be cut otherwise: positions are in several objects then. Each is taken from one,
and the others have to say the same of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import msgspec

from everwhen.backends.archive_objects import GroupRecord
from everwhen.vocabulary.streams import MAX_POSITION

_SHA256_BYTES: Final = 32
_KEEP_ONE: Final = "they are of two histories, or one is damaged: keep the one that is right"


class RangesError(ValueError):
    """The row groups make no history; says which, and why."""


class ArchivedGroup(msgspec.Struct, frozen=True):
    """A row group, the number that it has in its object, and the object's name."""

    object: str
    number: int
    record: GroupRecord

    @property
    def first(self) -> int:
        """The position of its first event."""
        return self.record.first

    @property
    def last(self) -> int:
        """The position of its last event."""
        return self.record.last

    @property
    def range(self) -> str:
        """Its positions, in words."""
        return positions_between(self.first, self.last)


class ArchivedRanges(msgspec.Struct, frozen=True):
    """``groups`` have each position once, in order; ``others`` the same ones, cut otherwise."""

    groups: list[ArchivedGroup]
    others: list[ArchivedGroup]

    @property
    def first(self) -> int:
        """The first position."""
        return self.groups[0].first

    @property
    def last(self) -> int:
        """The last position."""
        return self.groups[-1].last

    def between(self, first: int, last: int) -> list[ArchivedGroup]:
        """Those of ``groups`` that have any of these positions."""
        return [one for one in self.groups if one.first <= last and one.last >= first]


def positions_between(first: int, last: int) -> str:
    """A range of positions, in words."""
    return f"position {first:,}" if first == last else f"positions {first:,} to {last:,}"


def ranges_of(found: Iterable[ArchivedGroup]) -> ArchivedRanges:
    """The history that the row groups make, of which there is one at least.

    Raises `RangesError` where positions are missing, and where groups contradict one another.
    """
    by_range: dict[tuple[int, int], ArchivedGroup] = {}
    for one in found:
        _check(one)
        known = by_range.setdefault((one.first, one.last), one)
        if known.record != one.record:
            raise contradiction(known, one)
    different = sorted(by_range.values(), key=lambda one: (one.first, -one.last))
    _check_gaps(different)
    groups = _path(different)
    if groups[-1].last != max(one.last for one in different):
        raise _misaligned(different, groups[-1].last)
    taken = {(one.first, one.last) for one in groups}
    return ArchivedRanges(groups, [one for one in different if (one.first, one.last) not in taken])


def contradiction(one: ArchivedGroup, other: ArchivedGroup) -> RangesError:
    """Two objects say different things of the same positions."""
    return RangesError(
        f"{one.object} and {other.object} have different events at {other.range}; {_KEEP_ONE}"
    )


def _check(one: ArchivedGroup) -> None:
    record = one.record
    is_sound = 0 < record.first <= record.last <= MAX_POSITION
    has_slices = 0 < record.slices <= record.last - record.first + 1
    if not is_sound or not has_slices or len(record.sha256) != _SHA256_BYTES:
        raise RangesError(
            f"{one.object} is damaged: its footer says nothing possible of row group {one.number}"
        )


def _check_gaps(groups: list[ArchivedGroup]) -> None:
    """Raises `RangesError` for the first positions that no group has."""
    end = groups[0]
    for one in groups:
        if one.first > end.last + 1:
            missing = positions_between(end.last + 1, one.first - 1)
            raise RangesError(
                f"{missing} are missing: {end.object} ends before them, and {one.object} begins "
                f"after them; put the object that has them beside these"
            )
        end = max(end, one, key=lambda group: group.last)


def _path(groups: list[ArchivedGroup]) -> list[ArchivedGroup]:
    """Those that follow on one another from the first position on, as far as any do."""
    starting: defaultdict[int, list[ArchivedGroup]] = defaultdict(list)
    for one in groups:
        starting[one.first].append(one)
    best: dict[int, tuple[int, ArchivedGroup]] = {}
    for first in sorted(starting, reverse=True):
        reached = [
            (best[one.last + 1][0] if one.last + 1 in best else one.last, one.last, one)
            for one in starting[first]
        ]
        reach, _, one = max(reached, key=lambda entry: entry[:2])
        best[first] = reach, one
    path: list[ArchivedGroup] = []
    at = groups[0].first
    while at in best:
        path.append(best[at][1])
        at = path[-1].last + 1
    return path


def _misaligned(groups: list[ArchivedGroup], end: int) -> RangesError:
    """Nothing goes on where the best path ends, though there are no gaps."""
    across = next(one for one in groups if one.first <= end + 1 <= one.last)
    inside = next(one for one in groups if one.last == end)
    return RangesError(
        f"{inside.object} has {inside.range} and {across.object} {across.range}: nothing goes on "
        f"after position {end:,}; {_KEEP_ONE}"
    )
