# Generated from tests/_async/test_contract_blocks.py by tools/unasync.py: edit that, then run `make sync`.
"""The contract suite where pages come as blocks, as those of cold history will."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import msgspec
import pytest

from everwhen.backends._sync.backend import BackendWrapper
from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.engine import EngineView
from everwhen.backends.memory import MemoryEngine
from everwhen.codec.blocks import Block
from everwhen.testing import ContractTest, contract_tests
from everwhen.vocabulary.clock import Clock
from everwhen.vocabulary.contract import Page
from everwhen.vocabulary.query import Query

T = TypeVar("T")


def blocked(page: Page) -> Page:
    """The page with its slices as a block, wherever they can be one."""
    made = Block.of(page.slices) if page.slices else None
    return page if made is None else msgspec.structs.replace(page, slices=made)


class Blocks(BackendWrapper):
    """Gives every page as a block, inside transactions and looks as well."""

    def read(self, query: Query, events: int) -> Page:
        return blocked(super().read(query, events))

    def read_here(self, query: Query, events: int) -> Page:
        return blocked(super().read_here(query, events))

    def view(self, look: Callable[[EngineView], T]) -> T:
        return super().view(lambda view: look(cast("EngineView", _View(view))))


class _View:
    def __init__(self, view: EngineView) -> None:
        self._view = view

    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    def read(self, query: Query, events: int) -> Page:
        return blocked(self._view.read(query, events))


def _open(clock: Clock) -> Blocks:
    return Blocks(EmbeddedBackend(MemoryEngine(clock)))


@pytest.mark.parametrize("test", contract_tests(MemoryEngine.capabilities), ids=repr)
def test_contract(test: ContractTest) -> None:
    test.run(_open)
