"""The contract suite where nearly all of history is sealed, in segments of a few slices."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from everwhen.backends._async.backend import BackendWrapper
from everwhen.backends._async.embedded import EmbeddedBackend
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.testing.aio import ContractTest, contract_tests
from everwhen.vocabulary.clock import Clock
from everwhen.vocabulary.contract import EncodedCommit, Outcome, SegmentSize
from everwhen.vocabulary.errors import BusyError

SMALL = SegmentSize(slices=6, frame=2, frames=2)


class Sealed(BackendWrapper):
    """Seals what there is after each append, but for the newest events."""

    def __init__(self, inner: EmbeddedBackend, kept: int) -> None:
        super().__init__(inner)
        self._kept = kept

    async def append(self, commits: Sequence[EncodedCommit]) -> list[Outcome]:
        outcomes = await super().append(commits)
        with contextlib.suppress(BusyError):  # another writer's seals
            up_to = (await self.head()).position - self._kept
            while up_to > 0 and await self.seal(up_to, SMALL) is not None:
                pass
        return outcomes


@pytest.mark.parametrize("kept", [0, 3])
@pytest.mark.parametrize("test", contract_tests(SqliteEngine.capabilities), ids=repr)
async def test_contract(test: ContractTest, kept: int, tmp_path: Path) -> None:
    async def opening(clock: Clock) -> Sealed:
        return Sealed(EmbeddedBackend(SqliteEngine(tmp_path / "store.db", clock=clock)), kept)

    await test.run(opening)
