"""The contract suite on partitioned stores: by stream, category, time and size."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from tests.thinning import thinned

from everwhen.backends._async.embedded import EmbeddedBackend
from everwhen.backends.partitioned.engine import PartitionedEngine
from everwhen.backends.partitioned.strategies import (
    ByCategory,
    BySize,
    ByStream,
    ByTime,
    PartitionStrategy,
)
from everwhen.testing.aio import ContractTest, contract_tests
from everwhen.vocabulary.clock import Clock

STRATEGIES: list[PartitionStrategy] = [
    ByStream(1),
    ByStream(4),
    ByCategory(3),
    ByTime(timedelta(seconds=1)),
    BySize(3),
]

MOST_COMMITS: Final = 54
"""Of a test by size: about each is a file of its own there, and opens those before it."""


def cases() -> list[Any]:
    """Every test on each strategy, but for those of what its commits can't touch together."""
    found = []
    for strategy in STRATEGIES:
        are_joint = strategy not in {ByStream(4), ByCategory(3)}
        capabilities = msgspec.structs.replace(
            PartitionedEngine.capabilities, joint_commits=are_joint
        )
        tests = contract_tests(capabilities)
        found += [pytest.param(test, strategy, id=f"{test!r}-{strategy}") for test in tests]
    return found


@pytest.mark.parametrize(("test", "strategy"), thinned(cases(), __name__))
async def test_contract(test: ContractTest, strategy: PartitionStrategy, tmp_path: Path) -> None:
    async def opening(clock: Clock) -> EmbeddedBackend:
        return EmbeddedBackend(PartitionedEngine(tmp_path / "store", strategy, clock=clock))

    most_commits = MOST_COMMITS if isinstance(strategy, BySize) else None
    await test.run(opening, most_commits=most_commits)
