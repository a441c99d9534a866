# Generated from tests/_async/test_contract_sqlite.py by tools/unasync.py: edit that, then run `make sync`.
"""The contract suite on the SQLite backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from everwhen._sync.embedded import EmbeddedBackend
from everwhen.backends.sqlite import SqliteEngine
from everwhen.clock import Clock
from everwhen.testing import ContractTest, contract_tests


@pytest.mark.parametrize("test", contract_tests(SqliteEngine.capabilities), ids=repr)
def test_contract(test: ContractTest, tmp_path: Path) -> None:
    def opening(clock: Clock) -> EmbeddedBackend:
        return EmbeddedBackend(SqliteEngine(tmp_path / "store.db", clock=clock))

    test.run(opening)
