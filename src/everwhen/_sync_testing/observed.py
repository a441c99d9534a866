# Generated from src/everwhen/_async_testing/observed.py by tools/unasync.py: edit that, then run `make sync`.
"""A wrapper that counts what is asked of the backend below it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from everwhen._sync.backend import Backend, Transaction
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

    def append(self, commits: Sequence[EncodedCommit]) -> list[Outcome]:
        return self._inner.append(commits)

    def read(self, query: Query, events: int) -> Page:
        self.reads += 1
        return self._inner.read(query, events)

    def head(self) -> Head:
        return self._inner.head()

    def position_at(self, recorded_at: int) -> int:
        return self._inner.position_at(recorded_at)

    def stream(self, name: str) -> StreamInfo | None:
        return self._inner.stream(name)

    def streams(self, category: str | None, after: str, limit: int) -> list[StreamInfo]:
        return self._inner.streams(category, after, limit)

    def wait(self, after: int, seconds: float) -> None:
        self.waits += 1
        self._inner.wait(after, seconds)

    def checkpoint(self, name: str) -> Checkpoint | None:
        return self._inner.checkpoint(name)

    def checkpoints(self) -> list[Checkpoint]:
        return self._inner.checkpoints()

    def snapshots(self, subject: str, up_to: int | None, limit: int) -> list[Snapshot]:
        return self._inner.snapshots(subject, up_to, limit)

    def transaction(self) -> AbstractContextManager[Transaction]:
        return self._inner.transaction()

    def check(self) -> list[Problem]:
        return self._inner.check()

    def close(self) -> None:
        self._inner.close()
