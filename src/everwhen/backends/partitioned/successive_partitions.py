"""Partitions by time or size: they follow on each other, and only the newest is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from everwhen.backends.commit_checks import LONG_AGO
from everwhen.backends.partitioned.layout import Layout
from everwhen.backends.partitioned.merged_pages import following_page
from everwhen.backends.partitioned.partition_files import PartitionFiles
from everwhen.backends.partitioned.strategies import ByTime, Successive
from everwhen.vocabulary.contract import EncodedCommit, Page
from everwhen.vocabulary.errors import EverwhenError
from everwhen.vocabulary.query import Query


class FullError(EverwhenError):
    """The newest partition is to be followed by another. Stays inside."""


class SuccessivePartitions:
    """What is in which partition. Of one layout."""

    def __init__(
        self,
        files: PartitionFiles,
        layout: Layout,
        strategy: Successive,
        now: Callable[[], int],
    ) -> None:
        self.layout = layout
        self.numbers: Sequence[int] = range(layout.partitions)
        self._files = files
        self._strategy = strategy
        self._now = now
        self._last = layout.partitions - 1
        ends = [start - 1 for start in layout.starts[1:]]
        self._bounds = [*zip(self.numbers, layout.starts, [*ends, None], strict=True)]

    @property
    def newest(self) -> Sequence[int]:
        """Those that are written: the last one."""
        return (self._last,)

    def candidates(self, stream: str) -> Sequence[int]:
        """Where the stream may be, the newest first."""
        del stream
        return self.numbers[::-1]

    def place(self, commit: EncodedCommit) -> int:
        """The partition that a commit is written to."""
        del commit
        return self._last

    def rests_elsewhere(self, commit: EncodedCommit, place: int) -> bool:
        """Nothing that isn't final: older partitions never change."""
        del commit, place
        return False

    def judging(self, commit: EncodedCommit, place: int) -> list[int]:
        """The older partitions that the commit's condition is about."""
        if commit.condition is None:
            return []
        after = commit.condition.after
        return [n for n, _, end in self._bounds if n != place and end is not None and end > after]

    def reached(self, query: Query) -> Sequence[int]:
        """The partitions that a query's matches may be in."""
        last = query.last_position
        return [
            number
            for number, start, end in self._bounds
            if (last is None or start <= last) and (end is None or end > query.after_position)
        ]

    def version_before(self, number: int, stream: str) -> int:
        """The version that a stream had come to in the partitions before this one."""
        for older in range(number - 1, -1, -1):
            info = self._files.engine(older).stream(stream)
            if info is not None:
                return info.version
        return 0

    def check_due(self, newest: int, recorded_at: int, now: int) -> None:
        """Raises `FullError` where what is recorded now belongs in the next partition.

        ``newest`` and ``recorded_at`` are the newest event's position and time.
        """
        start = self.layout.starts[-1]
        if newest < start:
            return  # it is empty
        if isinstance(self._strategy, ByTime):
            interval = self._strategy.interval_of
            is_full = recorded_at != LONG_AGO and interval(now) > interval(recorded_at)
        else:
            is_full = newest - start + 1 >= self._strategy.events
        if is_full:
            raise FullError

    def fitting(self, commits: Sequence[EncodedCommit]) -> int:
        """How many of the commits may go into one transaction: those of one partition.

        Of one that is about to be full, they may be some more.
        """
        strategy, first = self._strategy, commits[0]
        if isinstance(strategy, ByTime):
            now = self._now() if any(commit.recorded_at is None for commit in commits) else 0
            latest = first.recorded_at if first.recorded_at is not None else now
            interval = strategy.interval_of(latest)
            for index, commit in enumerate(commits):
                moment = now if commit.recorded_at is None else commit.recorded_at
                if moment > latest and strategy.interval_of(moment) != interval:
                    return index
                latest = max(latest, moment)
            return len(commits)
        left = strategy.events - self._events()
        for index, commit in enumerate(commits):
            if left <= 0 and index:
                return index
            left -= sum(part.count for part in commit.slices)
        return len(commits)

    def _events(self) -> int:
        """How many events the newest partition has, as far as is known."""
        newest = self._files.engine(self._last).head().position
        return max(0, newest - self.layout.starts[-1] + 1)

    def read(self, query: Query, events: int, settled: int) -> Page:
        """One page, of what is settled."""
        return following_page(self._bounds, self._read, query, events, settled)

    def _read(self, number: int, query: Query, events: int) -> Page:
        return self._files.engine(number).read(query, events)
