# Generated from src/everwhen/testing/_async/bench.py by tools/unasync.py: edit that, then run `make sync`.
"""The bench that a contract test works on: one place for events, and stores over it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from everwhen.backends._sync.backend import Backend
from everwhen.codec.event_types import EventTypes
from everwhen.codec.pipeline import CodecStep
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.store._sync.store import Store
from everwhen.testing._sync.counting_backend import ObservedBackend
from everwhen.testing.clock import ManualClock
from everwhen.testing.specimens import TYPES
from everwhen.vocabulary.clock import Clock
from everwhen.vocabulary.contract import Capabilities
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.upcasting import Upcast


class OpenBackend(Protocol):
    """Opens the backend under test, at one place that is empty at first.

    Called again, it opens the same place again: where the backend is durable, after the first
    was closed; where processes share it, also beside the first.
    """

    def __call__(self, clock: Clock) -> Backend:
        """The open backend, asking ``clock`` for ``recorded_at``."""
        ...


class Bench:
    """Opens what a contract test asks for, and closes all of it in the end."""

    def __init__(self, opening: OpenBackend, most_commits: int | None = None) -> None:
        self.clock = ManualClock()
        self._opening = opening
        self._most_commits = most_commits
        self._backends: list[ObservedBackend] = []

    def backend(self) -> ObservedBackend:
        """The backend under test, opened once, with its calls counted."""
        return self._backends[0] if self._backends else self.another_backend()

    def another_backend(self) -> ObservedBackend:
        """One more, on the same place, as another process would have it."""
        backend = ObservedBackend(self._opening(self.clock))
        self._backends.append(backend)
        return backend

    def store(
        self,
        types: Iterable[Any] = TYPES,
        *,
        upcasts: Iterable[Upcast] = (),
        steps: Sequence[CodecStep] = (),
        backend: Backend | None = None,
    ) -> Store:
        """A store that knows these event types, over the backend under test."""
        return Store(
            backend or self.backend(),
            events=EventTypes(*types, upcasts=upcasts),
            steps=steps,
        )

    def reopened(self) -> Store:
        """A store over the same place, closed and opened again."""
        self.close()
        return self.store()

    def capabilities(self) -> Capabilities:
        """Those of the backend under test."""
        return (self.backend()).capabilities

    def commits(self, wanted: int) -> int:
        """How many commits to make of what would best be so many."""
        return wanted if self._most_commits is None else min(wanted, self._most_commits)

    def close(self) -> None:
        """Close every backend that was opened."""
        while self._backends:
            self._backends.pop().close()


def events_of(store: Store, query: Query | str | None = None) -> list[RecordedEvent[Any]]:
    """Everything that the query gives, as a list."""
    return [event for event in store.read(Query() if query is None else query)]


def typed(store: Store, query: Query | str | None = None) -> list[Any]:
    """The typed events that the query gives."""
    return [recorded.event for recorded in events_of(store, query)]
