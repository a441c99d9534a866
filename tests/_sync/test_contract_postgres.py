# Generated from tests/_async/test_contract_postgres.py by tools/unasync.py: edit that, then run `make sync`.
"""The contract suite on PostgreSQL."""

from __future__ import annotations

import pytest
from tests.postgres_server import PostgresServer

from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.postgres.engine import PostgresEngine
from everwhen.testing import ContractTest, contract_tests
from everwhen.vocabulary.clock import Clock


@pytest.mark.parametrize("test", contract_tests(PostgresEngine.capabilities), ids=repr)
def test_contract(test: ContractTest, postgres: PostgresServer) -> None:
    with postgres.schema() as url:

        def opening(clock: Clock) -> EmbeddedBackend:
            return EmbeddedBackend(PostgresEngine(url, clock=clock))

        test.run(opening)
