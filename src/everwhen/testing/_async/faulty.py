"""A store that fails on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from everwhen.backends._async.backend import Backend, BackendWrapper
from everwhen.backends.engine import EngineTransaction
from everwhen.store._async.store import Store
from everwhen.testing.faults import Faults
from everwhen.vocabulary.contract import EncodedCommit, Outcome, Page, Receipt, StoredSlice
from everwhen.vocabulary.query import Query

T = TypeVar("T")


def faulty(store: Store, faults: Faults) -> Store:
    """The same store, as it is when things go wrong: the failures that ``faults`` asks for.

    Closing it closes the store.
    """
    kernel = store.kernel
    return Store.of(kernel.beside(_FaultyBackend(kernel.backend, faults), kernel.branch))


class _FaultyBackend(BackendWrapper):
    def __init__(self, inner: Backend, faults: Faults) -> None:
        super().__init__(inner)
        self._faults = faults

    async def append(
        self, commits: Sequence[EncodedCommit], connection: object = None
    ) -> list[Outcome]:
        self._faults.strike("append")
        outcomes = await super().append(commits, connection)
        if any(isinstance(outcome, Receipt) for outcome in outcomes):
            self._faults.strike("acknowledge")
        return outcomes

    async def read(self, query: Query, events: int) -> Page:
        self._faults.strike("read")
        return await super().read(query, events)

    async def stored_commit(self, commit_id: bytes) -> list[StoredSlice]:
        self._faults.strike("read")
        return await super().stored_commit(commit_id)

    async def transact(self, work: Callable[[EngineTransaction], T]) -> T:
        self._faults.strike("transact")
        return await super().transact(work)
