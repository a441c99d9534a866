"""Decisions, specified by example: given these events, when this command comes, then those.

    casino = Scenario(decisions, events=[Placed, Settled])
    casino.given("bet-1", Placed(1)).when(Settle(1)).then(Settled(1))
    casino.given("bet-1", Placed(1), Settled(1)).when(Settle(1)).refused(IsSettled)

Each example runs through the real command bus into a store in memory of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from everwhen.codec.event_types import EventTypes, declared
from everwhen.commands._sync.command_bus import CommandBus
from everwhen.commands.decisions import Decisions
from everwhen.state.fold import Fold
from everwhen.store._sync.store import Store, open_store
from everwhen.testing.checks import equal
from everwhen.testing.clock import ManualClock
from everwhen.vocabulary.clock import Clock
from everwhen.vocabulary.errors import RefusedError
from everwhen.vocabulary.events import EventType, NewEvent
from everwhen.vocabulary.query import Query

S = TypeVar("S")
R = TypeVar("R", bound=RefusedError)


class Scenario:
    """What has happened before, as an immutable value: each ``given`` makes another one."""

    def __init__(
        self,
        decisions: Decisions,
        *,
        events: EventTypes | Iterable[type[Any] | EventType[Any]],
        clock: Clock | None = None,
    ) -> None:
        self._decisions = decisions
        self._types = declared(events)
        self._clock = clock or ManualClock()
        self._given: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def given(self, stream: str, *events: Any) -> Scenario:
        """The same, and after that these events on a stream."""
        more = Scenario(self._decisions, events=self._types, clock=self._clock)
        more._given = (*self._given, (stream, events))
        return more

    def when(self, command: Any) -> Verdict:
        """What becomes of the command. Errors that are no refusals come through."""
        store = open_store("memory:", events=self._types, clock=self._clock)
        for stream, events in self._given:
            store.append(stream, events)
        try:
            decided = CommandBus(store, self._decisions).send(command).events
        except RefusedError as refusal:
            return Verdict(store, command, (), refusal)
        return Verdict(store, command, decided, None)


class Verdict:
    """What was decided: hold it against what should have been.

    Each check raises ``AssertionError`` where it was otherwise, and returns the verdict.
    """

    def __init__(
        self, store: Store, command: Any, events: tuple[Any, ...], refusal: RefusedError | None
    ) -> None:
        self._store = store
        self._command = command
        self.events = events
        self.refusal = refusal

    def then(self, *events: Any) -> Verdict:
        """Exactly these events were written, in this order; none of them means nothing was."""
        if self.refusal is not None:
            raise AssertionError(
                f"{self._command!r} was refused: {self.refusal!r}"
            ) from self.refusal
        wanted = tuple(e.event if isinstance(e, NewEvent) else e for e in events)
        equal(self.events, wanted, f"the events that {self._command!r} leads to")
        return self

    def refused(self, kind: type[R], **facts: Any) -> R:
        """It was refused, for this reason, with these facts as attributes. Returns the refusal."""
        if not isinstance(self.refusal, kind):
            got = self.refusal if self.refusal is not None else self.events
            raise AssertionError(  # noqa: TRY004 (a check that failed)
                f"{self._command!r} should be refused by {kind.__name__}\n   got: {got!r}"
            ) from self.refusal
        for name, wanted in facts.items():
            equal(getattr(self.refusal, name), wanted, f"{kind.__name__}.{name}")
        return self.refusal

    def state(self, fold: Fold[S], of: Query | str) -> S:
        """The state after it, of a stream or a query."""
        return self._store.fold(fold, of)
