"""The contract suite on PostgreSQL."""

from __future__ import annotations

import pytest
from tests.postgres_server import PostgresServer

from everwhen.backends._async.embedded import EmbeddedBackend
from everwhen.backends.postgres.engine import PostgresEngine
from everwhen.testing.aio import ContractTest, contract_tests
from everwhen.vocabulary.clock import Clock


@pytest.mark.parametrize("test", contract_tests(PostgresEngine.capabilities), ids=repr)
async def test_contract(test: ContractTest, postgres: PostgresServer) -> None:
    with postgres.schema() as url:

        async def opening(clock: Clock) -> EmbeddedBackend:
            return EmbeddedBackend(PostgresEngine(url, clock=clock))

        await test.run(opening)
