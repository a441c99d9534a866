"""A backend that counts what it is asked."""

from __future__ import annotations

from everwhen.backends._async.backend import Backend, BackendWrapper
from everwhen.vocabulary.contract import Page
from everwhen.vocabulary.query import Query


class ObservedBackend(BackendWrapper):
    """A backend that does what the one below does, and counts the ``reads`` and ``waits``."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.reads = 0
        self.waits = 0

    async def read(self, query: Query, events: int) -> Page:
        self.reads += 1
        return await super().read(query, events)

    async def wait(self, after: int, seconds: float) -> bool:
        self.waits += 1
        return await super().wait(after, seconds)
