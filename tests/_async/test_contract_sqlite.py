"""The contract suite on the SQLite backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from everwhen.backends._async.embedded import EmbeddedBackend
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.testing.aio import ContractTest, contract_tests
from everwhen.vocabulary.clock import Clock


@pytest.mark.parametrize("test", contract_tests(SqliteEngine.capabilities), ids=repr)
async def test_contract(test: ContractTest, tmp_path: Path) -> None:
    async def opening(clock: Clock) -> EmbeddedBackend:
        return EmbeddedBackend(SqliteEngine(tmp_path / "store.db", clock=clock))

    await test.run(opening)
