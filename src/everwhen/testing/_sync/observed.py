# Generated from src/everwhen/_async_testing/observed.py by tools/unasync.py: edit that, then run `make sync`.
"""A backend that counts what it is asked."""

from __future__ import annotations

from everwhen._sync.backend import Backend, BackendWrapper
from everwhen.contract import Page
from everwhen.query import Query


class ObservedBackend(BackendWrapper):
    """A backend that does what the one below does, and counts the ``reads`` and ``waits``."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.reads = 0
        self.waits = 0

    def read(self, query: Query, events: int) -> Page:
        self.reads += 1
        return super().read(query, events)

    def wait(self, after: int, seconds: float) -> bool:
        self.waits += 1
        return super().wait(after, seconds)
