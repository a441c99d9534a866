"""A wrapper that counts what is asked of the backend below it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from everwhen._async.backend import Backend, Transaction
from everwhen.contract import (
    Capabilities,
    Checkpoint,
    EncodedCommit,
    Head,
    Outcome,
    Page,
    Problem,
    Snapshot,
    StreamInfo,
)
from everwhen.query import Query


class ObservedBackend:
    """A backend that does what the one below does, and counts the ``reads`` and ``waits``."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.reads = 0
        self.waits = 0

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    async def append(self, commits: Sequence[EncodedCommit]) -> list[Outcome]:
        return await self._inner.append(commits)

    async def read(self, query: Query, events: int) -> Page:
        self.reads += 1
        return await self._inner.read(query, events)

    async def head(self) -> Head:
        return await self._inner.head()

    async def position_at(self, recorded_at: int) -> int:
        return await self._inner.position_at(recorded_at)

    async def stream(self, name: str) -> StreamInfo | None:
        return await self._inner.stream(name)

    async def streams(self, category: str | None, after: str, limit: int) -> list[StreamInfo]:
        return await self._inner.streams(category, after, limit)

    async def wait(self, after: int, seconds: float) -> None:
        self.waits += 1
        await self._inner.wait(after, seconds)

    async def checkpoint(self, name: str) -> Checkpoint | None:
        return await self._inner.checkpoint(name)

    async def checkpoints(self) -> list[Checkpoint]:
        return await self._inner.checkpoints()

    async def snapshots(self, subject: str, up_to: int | None, limit: int) -> list[Snapshot]:
        return await self._inner.snapshots(subject, up_to, limit)

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return self._inner.transaction()

    async def check(self) -> list[Problem]:
        return await self._inner.check()

    async def close(self) -> None:
        await self._inner.close()
