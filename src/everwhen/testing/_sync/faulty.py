# Generated from src/everwhen/testing/_async/faulty.py by tools/unasync.py: edit that, then run `make sync`.
"""A store that fails on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from everwhen.backends._sync.backend import Backend, BackendWrapper
from everwhen.backends.engine import EngineTransaction
from everwhen.store._sync.store import Store
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

    def append(self, commits: Sequence[EncodedCommit], connection: object = None) -> list[Outcome]:
        self._faults.strike("append")
        outcomes = super().append(commits, connection)
        if any(isinstance(outcome, Receipt) for outcome in outcomes):
            self._faults.strike("acknowledge")
        return outcomes

    def read(self, query: Query, events: int) -> Page:
        self._faults.strike("read")
        return super().read(query, events)

    def stored_commit(self, commit_id: bytes) -> list[StoredSlice]:
        self._faults.strike("read")
        return super().stored_commit(commit_id)

    def transact(self, work: Callable[[EngineTransaction], T]) -> T:
        self._faults.strike("transact")
        return super().transact(work)
