"""The contract suite on the memory backend."""

from __future__ import annotations

import pytest

from everwhen.backends._async.embedded import EmbeddedBackend
from everwhen.backends.memory import MemoryEngine
from everwhen.testing.aio import ContractTest, contract_tests
from everwhen.vocabulary.clock import Clock


async def _open(clock: Clock) -> EmbeddedBackend:
    return EmbeddedBackend(MemoryEngine(clock))


@pytest.mark.parametrize("test", contract_tests(MemoryEngine.capabilities), ids=repr)
async def test_contract(test: ContractTest) -> None:
    await test.run(_open)
