"""Partitions by aggregate: written side by side, each stream in one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from everwhen.backends.partitioned.layout import Layout
from everwhen.backends.partitioned.merged_pages import merged_page
from everwhen.backends.partitioned.partition_files import PartitionFiles
from everwhen.backends.partitioned.strategies import ByAggregate, ByCategory, partition_of
from everwhen.vocabulary.contract import EncodedCommit, Page
from everwhen.vocabulary.errors import InvalidCommitError
from everwhen.vocabulary.query import Query, Selector

_REMEMBERED: Final = 100_000
"""How many streams' places are remembered, where they have to be looked up: some 15 MB."""


class ParallelPartitions:
    """Where streams are, and what is asked of which partition. Of one layout."""

    def __init__(self, files: PartitionFiles, layout: Layout, strategy: ByAggregate) -> None:
        self.layout = layout
        self.numbers: Sequence[int] = range(layout.partitions)
        self._files = files
        self._strategy = strategy
        self._places: dict[str, int] = {}

    @property
    def newest(self) -> Sequence[int]:
        """Those that are written: all of them."""
        return self.numbers

    def candidates(self, stream: str) -> Sequence[int]:
        """Where the stream may be, the newest first: there is one place for each."""
        return (self.place_of(stream),)

    def place_of(self, stream: str) -> int:
        """Where the stream is, or will be: where an older number of partitions put it, it stays.

        That it is not there is final as well: nobody writes by an older layout any more.
        """
        key = self._strategy.key(stream)
        *older, newest = self.layout.placements
        place = partition_of(key, newest)
        if not older:
            return place
        known = self._places.get(key)
        if known is None:
            olds = (partition_of(key, count) for count in older)
            known = next((old for old in olds if old != place and self._has(old, key)), place)
            if len(self._places) > _REMEMBERED:
                self._places = {}
            self._places[key] = known
        return known

    def _has(self, number: int, key: str) -> bool:
        engine = self._files.engine(number)
        if isinstance(self._strategy, ByCategory):
            return bool(engine.streams(key, "", 1))
        return engine.stream(key) is not None

    def place(self, commit: EncodedCommit) -> int:
        """The partition that a commit is written to.

        Raises `InvalidCommitError` where its streams are in several.
        """
        first = commit.slices[0].stream
        place = self.place_of(first)
        for part in commit.slices[1:]:
            if part.stream != first and self.place_of(part.stream) != place:
                raise InvalidCommitError(
                    f"streams {first!r} and {part.stream!r} are in two partitions, and a commit "
                    f"touches one only; commit them one by one, or partition the store by a "
                    f"category that both have"
                )
        return place

    def rests_elsewhere(self, commit: EncodedCommit, place: int) -> bool:
        """Whether what other partitions have may speak against the commit."""
        if any(self.place_of(stream) != place for stream, _ in commit.expected):
            return True
        return commit.condition is not None and bool(self.judging(commit, place))

    def judging(self, commit: EncodedCommit, place: int) -> list[int]:
        """The other partitions that the commit's condition is about."""
        if commit.condition is None:
            return []
        return [number for number in self.reached(commit.condition.query) if number != place]

    def reached(self, query: Query) -> Sequence[int]:
        """The partitions that a query's matches may be in."""
        if len(self.numbers) == 1:
            return self.numbers
        found: set[int] = set()
        for selector in query.selectors:
            names = self._named(selector)
            if not names:
                return self.numbers
            found.update(map(self.place_of, names))
        return sorted(found)

    def _named(self, selector: Selector) -> frozenset[str]:
        """Streams, or categories, that stand for all of a selector's partitions."""
        if selector.streams or not isinstance(self._strategy, ByCategory):
            return selector.streams
        return selector.categories

    def version_before(self, number: int, stream: str) -> int:
        """A stream's version, asked for in a partition where it has no events."""
        place = self.place_of(stream)
        info = None if place == number else self._files.engine(place).stream(stream)
        return 0 if info is None else info.version

    def check_due(self, newest: int, recorded_at: int, now: int) -> None:
        """No other partition is due: all are written for ever."""

    def fitting(self, commits: Sequence[EncodedCommit]) -> int:
        """How many of the commits may go into one transaction."""
        return len(commits)

    def read(self, query: Query, events: int, settled: int) -> Page:
        """One page, of what is settled."""
        return merged_page(self.reached(query), self._read, query, events, settled)

    def _read(self, number: int, query: Query, events: int) -> Page:
        return self._files.engine(number).read(query, events)
