"""Partitioned stores against the memory model: the same calls, outcomes and positions."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from tests.test_model import Closed, Opened, StoreMachine

from everwhen import Commit, Condition, Store, Write
from everwhen.backends.partitioned.strategies import (
    MAX_PARTITIONS,
    ByCategory,
    BySize,
    ByStream,
    ByTime,
    PartitionStrategy,
)
from everwhen.partitions import add_partitions, open_partitioned_store
from everwhen.vocabulary.contract import Merge, Move

pytestmark = pytest.mark.slow


class PartitionedMachine(StoreMachine):
    """Where the strategy asks for it, each commit writes one stream, and only believes of others."""

    strategy: PartitionStrategy

    @initialize()
    def begin(self) -> None:
        self.now: PartitionStrategy = self.strategy
        super().begin()

    def opened(self) -> Store:
        return open_partitioned_store(
            self.path, self.now, events=[Opened, Closed], clock=self.clock, durable=False
        )

    @property
    def is_by_aggregate(self) -> bool:
        return isinstance(self.strategy, ByStream | ByCategory)

    def commit_of(
        self, writes: list[Write], condition: Condition | None, id_: UUID | None
    ) -> Commit:
        if self.is_by_aggregate:
            first, *others = sorted(writes, key=lambda write: not write.events)
            writes = [first, *(Write(write.stream, [], write.expected) for write in others)]
        return super().commit_of(writes, condition, id_)

    def some_move(self, which: int, kind: type[Move], pick: int) -> Move | None:
        """Files that are written side by side are only sealed; none is merged with another."""
        if self.is_by_aggregate or kind is Merge:
            return None
        return super().some_move(which, kind, pick)

    @precondition(lambda self: self.is_by_aggregate)
    @rule(more=st.integers(1, 3))
    def add_some(self, more: int) -> None:
        assert isinstance(self.now, ByStream | ByCategory)
        if self.now.partitions + more <= min(12, MAX_PARTITIONS):
            self.now = type(self.now)(self.now.partitions + more)
            add_partitions(self.path, self.now.partitions)


@pytest.mark.parametrize(
    "strategy", [ByStream(3), ByCategory(2), ByTime(timedelta(seconds=15)), BySize(7)], ids=repr
)
def test_partitions_are_the_model(strategy: PartitionStrategy) -> None:
    class Machine(PartitionedMachine):
        pass

    Machine.strategy = strategy
    Machine.TestCase.settings = settings(
        max_examples=25, stateful_step_count=30, deadline=None, print_blob=True
    )
    Machine.TestCase("runTest").debug()
