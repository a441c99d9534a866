"""When history moves, and where it is: what a policy asks for, a plan and a status."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from everwhen.vocabulary.contract import Segment, SegmentSize
from everwhen.vocabulary.errors import DeclarationError


class HistoryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When history moves. Nothing moves that no duration asks for.

    What was recorded longer than ``hot_duration`` ago is sealed: compressed, in segments in the
    store's own file. A segment is made once there are enough slices for a full one, unless
    ``small_segments`` is True: small ones take more room for their index, and more time to search.
    Raises `DeclarationError` for a duration below zero.
    """

    hot_duration: timedelta | None = None
    small_segments: bool = False

    def __post_init__(self) -> None:
        if self.hot_duration is not None and self.hot_duration < timedelta():
            raise DeclarationError(f"hot_duration is {self.hot_duration}; give zero or more")

    @property
    def segment_size(self) -> SegmentSize:
        """How much is sealed together."""
        size = SegmentSize()
        return size if self.small_segments else SegmentSize(least=size.slices)

    @property
    def moves_nothing(self) -> bool:
        """Whether no duration asks for anything."""
        return self.hot_duration is None

    def sealed_before(self, now: datetime) -> datetime | None:
        """What was recorded up to this moment may be sealed; None where nothing may."""
        try:
            return None if self.hot_duration is None else now - self.hot_duration
        except OverflowError:  # before the year 1
            return None


class HistoryPlan(msgspec.Struct, frozen=True):
    """What `HistoryManager.age` would do now: seal these positions, both included.

    Where there are fewer slices than a segment has, it leaves them until there are more. None for
    nothing.
    """

    seal: tuple[int, int] | None

    @property
    def events(self) -> int:
        """How many positions move."""
        return 0 if self.seal is None else self.seal[1] - self.seal[0] + 1


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
        """The bytes of the segments' compressed slices, without their index."""
        return sum(segment.size for segment in self.segments)

    @property
    def sealed_slices(self) -> int:
        """How many slices are sealed."""
        return sum(segment.slices for segment in self.segments)
