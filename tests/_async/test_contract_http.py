"""The contract suite on a client of a server, which has SQLite behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.web.serving import Stores, served

from everwhen.backends._async.embedded import EmbeddedBackend
from everwhen.backends.remote.engine import HttpEngine, capabilities_of
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.testing.aio import ContractTest, OpenBackend, contract_tests
from everwhen.vocabulary.clock import Clock

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stores() -> Stores:
    return Stores()


@pytest.fixture(scope="module")
def server(stores: Stores) -> Iterator[str]:
    with served(stores) as url:
        yield url


CAPABILITIES = capabilities_of(SqliteEngine.capabilities)


@pytest.mark.parametrize("test", contract_tests(CAPABILITIES), ids=repr)
async def test_contract(test: ContractTest, server: str, stores: Stores, tmp_path: Path) -> None:
    await test.run(_opening(server, stores, tmp_path / "store.db"))
    stores.unmount(tmp_path / "store.db")


def _opening(server: str, stores: Stores, path: Path) -> OpenBackend:
    async def opening(clock: Clock) -> EmbeddedBackend:
        return EmbeddedBackend(HttpEngine(server + stores.mounted(path, clock)))

    return opening
