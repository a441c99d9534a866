"""The contract suite on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.postgres_server import PostgresServer, postgres_server

from everwhen.backends._async.embedded import EmbeddedBackend
from everwhen.backends.postgres.engine import PostgresEngine
from everwhen.testing.aio import ContractTest, contract_tests
from everwhen.vocabulary.clock import Clock


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        yield running


@pytest.mark.parametrize("test", contract_tests(PostgresEngine.capabilities), ids=repr)
async def test_contract(test: ContractTest, server: PostgresServer) -> None:
    with server.schema() as url:

        async def opening(clock: Clock) -> EmbeddedBackend:
            return EmbeddedBackend(PostgresEngine(url, clock=clock))

        await test.run(opening)
