# Generated from tests/_async/test_contract_sqlite.py by tools/unasync.py: edit that, then run `make sync`.
"""The contract suite on the SQLite backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.testing import ContractTest, contract_tests
from everwhen.vocabulary.clock import Clock


@pytest.mark.parametrize("test", contract_tests(SqliteEngine.capabilities), ids=repr)
def test_contract(test: ContractTest, tmp_path: Path) -> None:
    def opening(clock: Clock) -> EmbeddedBackend:
        return EmbeddedBackend(SqliteEngine(tmp_path / "store.db", clock=clock))

    test.run(opening)
