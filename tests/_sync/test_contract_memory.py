# Generated from tests/_async/test_contract_memory.py by tools/unasync.py: edit that, then run `make sync`.
"""The contract suite on the memory backend."""

from __future__ import annotations

import pytest

from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.memory import MemoryEngine
from everwhen.testing import ContractTest, contract_tests
from everwhen.vocabulary.clock import Clock


def _open(clock: Clock) -> EmbeddedBackend:
    return EmbeddedBackend(MemoryEngine(clock))


@pytest.mark.parametrize("test", contract_tests(MemoryEngine.capabilities), ids=repr)
def test_contract(test: ContractTest) -> None:
    test.run(_open)
