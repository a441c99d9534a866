"""When history moves, and where it is: what a policy asks for, a plan, what moved, and a status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import msgspec

from everwhen.codec.audit_marks import AUDIT_CATEGORY
from everwhen.tiers.retirement_records import Retirement
from everwhen.vocabulary.contract import ArchiveObject, Segment, SegmentSize
from everwhen.vocabulary.errors import DeclarationError
from everwhen.vocabulary.streams import category_of
from everwhen.vocabulary.validation import check_text

Duration: TypeAlias = Literal["archive_after", "delete_after"]

_NONE: Final[Mapping[str, HistoryPolicy]] = MappingProxyType({})
_OF_CATEGORIES: Final = ("hot_duration", "compression_after", "archive_after", "delete_after")
_DURATIONS: Final = (*_OF_CATEGORIES, "warm_duration", "unused_duration")


class HistoryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When history moves, by how long ago it was recorded. What has no duration doesn't move.

    After ``hot_duration``, or ``compression_after`` where that is shorter, events are sealed:
    compressed, in segments in the store's own file. A segment is made once there are enough slices
    for a full one, unless ``small_segments`` is True: small ones take more room for their index,
    and more time to search.

    After ``archive_after`` a segment is archived. It stays in the file as well for
    ``warm_duration`` more, where one is given, so that it is read from there. After
    ``delete_after`` segments are retired, the oldest first: given up and deleted, which the store
    records. Objects of the archive that are no longer used are deleted after ``unused_duration``:
    let that be longer than a backup of the store is kept, for it needs the objects of its time.

    ``per_category`` has, by the name of a category, policies whose durations replace these for its
    events. History is sealed in the order of positions, so the first event that its category keeps
    holds back all that comes after it; a plan shows which. A segment has events of all categories:
    it is archived, and retired, when the last of them may be. Audit entries are never retired
    unless the category ``audit`` is given a ``delete_after``.

    Raises `DeclarationError` for a duration below zero, and for policies of categories that can't
    be had.
    """

    hot_duration: timedelta | None = None
    compression_after: timedelta | None = None
    warm_duration: timedelta | None = None
    archive_after: timedelta | None = None
    delete_after: timedelta | None = None
    unused_duration: timedelta = timedelta(days=1)
    small_segments: bool = False
    per_category: Mapping[str, HistoryPolicy] = _NONE

    def __post_init__(self) -> None:
        for name in _DURATIONS:
            duration = getattr(self, name)
            if duration is not None and duration < timedelta():
                raise DeclarationError(f"{name} is {duration}; give zero or more")
        own = dict(self.per_category)  # what the caller does with theirs is nothing to us
        msgspec.structs.force_setattr(self, "per_category", own)
        for category, policy in own.items():
            self._check_override(category, policy)

    def _check_override(self, category: object, policy: object) -> None:
        where = f"per_category[{category!r}]"
        if category_of(check_text(category, where, DeclarationError)) != category:
            raise DeclarationError(
                f"{where}: no category has a '-'; give the part of streams' names before the first"
            )
        if not isinstance(policy, HistoryPolicy):
            raise DeclarationError(f"{where}: expected a HistoryPolicy, got {policy!r}")
        own = {name: getattr(policy, name) for name in _OF_CATEGORIES}
        if policy != HistoryPolicy(**own):
            raise DeclarationError(
                f"{where}: a category's policy may have {', '.join(_OF_CATEGORIES)}; all else is "
                f"for all of a store"
            )
        for name, duration in own.items():
            if duration is not None and self._kept(name) is None:
                raise DeclarationError(
                    f"{where} has {name}, and the policy itself has none; give it one, too, for "
                    f"all other categories"
                )

    def of_category(self, category: str) -> HistoryPolicy:
        """The policy for a category's events: the durations of this one where it has no own."""
        policy = self.per_category.get(category)
        if policy is None:
            return self
        own = {name: getattr(policy, name) for name in _OF_CATEGORIES}
        given = {name: duration for name, duration in own.items() if duration is not None}
        if given.keys() & {"hot_duration", "compression_after"}:
            given = {"hot_duration": None, "compression_after": None} | given
        return msgspec.structs.replace(self, **given)

    @property
    def segment_size(self) -> SegmentSize:
        """How much is sealed together."""
        size = SegmentSize()
        return size if self.small_segments else SegmentSize(least=size.slices)

    @property
    def sealed_after(self) -> timedelta | None:
        """How old events are when they are sealed: the shorter of both durations."""
        given = [one for one in (self.hot_duration, self.compression_after) if one is not None]
        return min(given, default=None)

    @property
    def moves_nothing(self) -> bool:
        """Whether no duration asks for anything."""
        return self == HistoryPolicy(
            warm_duration=self.warm_duration,
            unused_duration=self.unused_duration,
            small_segments=self.small_segments,
        )

    def kept_longer(self, duration: Duration) -> tuple[tuple[str, timedelta | None], ...]:
        """The categories that are kept for longer than others, and for how long: None for ever."""
        rest = self._kept(duration)
        found: dict[str, timedelta | None] = {}
        if duration == "delete_after" and rest is not None:
            found[AUDIT_CATEGORY] = None
        for category, policy in self.per_category.items():
            own = policy._kept(duration)
            found.pop(category, None)
            if rest is not None and own is not None and own > rest:
                found[category] = own
            elif category == AUDIT_CATEGORY and duration == "delete_after" and own is None:
                found[category] = None
        return tuple(found.items())

    def _kept(self, duration: str) -> timedelta | None:
        is_sealing = duration in {"hot_duration", "compression_after"}
        return self.sealed_after if is_sealing else getattr(self, duration)


class HistoryPlan(msgspec.Struct, frozen=True):
    """What `HistoryManager.age` would do now.

    ``seal`` are the positions of what is old enough to be sealed, as far as they fill segments;
    None for nothing. ``archive`` and ``evict`` are those of the segments that would be copied to
    the archive, and deleted here since they are there. ``retire`` is what would be given up.
    ``held`` says which categories keep something from being moved that is old enough otherwise.
    """

    seal: tuple[int, int] | None
    archive: tuple[tuple[int, int], ...] = ()
    evict: tuple[tuple[int, int], ...] = ()
    retire: Retirement | None = None
    held: tuple[HeldBack, ...] = ()

    @property
    def events(self) -> int:
        """How many positions would be sealed."""
        return 0 if self.seal is None else self.seal[1] - self.seal[0] + 1


class HeldBack(msgspec.Struct, frozen=True):
    """What isn't moved yet for the sake of a category: at ``position`` is its first such event."""

    move: Literal["seal", "archive", "retire"]
    category: str
    position: int


class MovedSegment(msgspec.Struct, frozen=True):
    """A segment that was moved, and how."""

    how: Literal["sealed", "archived", "evicted", "restored", "merged", "retired"]
    segment: Segment


class HistoryStatus(msgspec.Struct, frozen=True):
    """Where history is: up to the position ``sealed`` in ``segments``, then in rows to ``head``.

    ``last_run`` is when somebody, in whatever process, last moved what there was to move, or failed
    to; then ``last_error`` says why. Both are None before the first run.
    """

    sealed: int
    head: int
    segments: tuple[Segment, ...]
    last_run: datetime | None = None
    last_error: str | None = None

    @property
    def size(self) -> int:
        """The bytes of the compressed slices in the store's file, without their index."""
        return sum(segment.size for segment in self.segments if segment.is_cold)

    @property
    def sealed_slices(self) -> int:
        """How many slices are sealed, and not retired."""
        return sum(segment.slices for segment in self.segments if segment.retired_at is None)

    @property
    def archived(self) -> tuple[Segment, ...]:
        """Segments that are in the archive."""
        return tuple(segment for segment in self.segments if segment.object is not None)

    @property
    def archive_size(self) -> int:
        """The bytes of the archive's objects that are in use."""
        return sum(found.size for found in {one.object for one in self.segments} if found)

    @property
    def retired(self) -> int:
        """The position up to which history is retired; 0 where none is."""
        ends = [one.last for one in self.segments if one.retired_at is not None]
        return max(ends, default=0)


def mergeable(segments: Sequence[Segment], size: int) -> list[list[Segment]]:
    """The archived segments of neighbouring objects that fit into one of so many bytes.

    Each group is of two objects or more.
    """
    groups: list[list[Segment]] = []
    objects: list[ArchiveObject] = []
    for segment in segments:
        found = segment.object
        is_next = bool(groups) and bool(objects)
        if found is None:
            objects = []
        elif is_next and found == objects[-1]:
            groups[-1].append(segment)
        elif is_next and sum(one.size for one in objects) + found.size <= size:
            objects.append(found)
            groups[-1].append(segment)
        else:
            objects = [found]
            groups.append([segment])
    return [group for group in groups if len({one.object for one in group}) > 1]
