"""Folds: *the* way state is derived from events.

A fold is an initial state and one function per event type::

    balance = Fold("balance", lambda: 0)

    @balance.on(Deposited)
    def _(state: int, event: Deposited) -> int:
        return state + event.amount

    balance.state_of(store.read("account-7"))

Events without a function leave the state as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

import msgspec

from everwhen.errors import DeclarationError
from everwhen.recorded import RecordedEvent

S = TypeVar("S")
E = TypeVar("E")


class Fold(Generic[S]):
    """A named, versioned way from events to a state.

    ``initial`` makes the state before any event. Raise ``version`` whenever a function changes
    what it does, so that state stored by older code is never mistaken for this one's.
    """

    def __init__(self, name: str, initial: Callable[[], S], *, version: int = 1) -> None:
        if not callable(initial):
            raise DeclarationError(
                f"fold {name!r}: {initial!r} can't be called; give a function that makes the "
                f"initial state, such as {type(initial).__name__} or lambda: …"
            )
        self.name = name
        self.version = version
        self.initial = initial
        self._by_class: dict[type[Any], Callable[[S, Any], S]] = {}
        self._otherwise: Callable[[S, RecordedEvent[Any]], S] | None = None

    def on(self, event_type: type[E]) -> Callable[[Callable[[S, E], S]], Callable[[S, E], S]]:
        """Declare what an event of this class does to the state."""

        def declare(function: Callable[[S, E], S]) -> Callable[[S, E], S]:
            if event_type in self._by_class:
                raise DeclarationError(
                    f"fold {self.name!r} has two functions for {event_type.__name__}; keep one"
                )
            self._by_class[event_type] = function
            return function

        return declare

    def otherwise(
        self, function: Callable[[S, RecordedEvent[Any]], S]
    ) -> Callable[[S, RecordedEvent[Any]], S]:
        """Declare what every other event does, given as recorded."""
        self._otherwise = function
        return function

    @property
    def needs_records(self) -> bool:
        """Whether some function wants events as recorded, not only the typed events."""
        return self._otherwise is not None

    def apply(self, state: S, events: Iterable[Any]) -> S:
        """The state after typed events that need not come from a store.

        Functions for everything else (``otherwise``) are not asked.
        """
        function_for = self._by_class.get
        for event in events:
            function = function_for(type(event))
            if function is not None:
                state = function(state, event)
        return state

    def evolve(self, state: S, recorded: RecordedEvent[Any]) -> S:
        """The state after one more event."""
        return self.state_of((recorded,), state)

    def state_of(self, events: Iterable[RecordedEvent[Any]], *start: S) -> S:
        """The state after the events, from the initial state or a given one."""
        state = start[0] if start else self.initial()
        function_for = self._by_class.get
        otherwise = self._otherwise
        for recorded in events:
            event = recorded.event
            function = function_for(type(event))
            if function is not None:
                state = function(state, event)
            elif otherwise is not None:
                state = otherwise(state, recorded)
        return state

    def __repr__(self) -> str:
        return f"Fold({self.name!r}, version={self.version})"


class Document(msgspec.Struct, frozen=True):
    """What a stream's events say together, without knowing their classes.

    ``data`` has the newest value of each field; ``type``, ``version``, ``position`` and
    ``recorded_at`` are the last event's.
    """

    data: dict[str, Any]
    type: str
    version: int
    position: int
    recorded_at: datetime


documents: Final[Fold[dict[str, Document]]] = Fold("documents", dict)
"""The fold that needs no code: each stream's data, merged event by event, by stream name."""


@documents.otherwise
def _merge(state: dict[str, Document], recorded: RecordedEvent[Any]) -> dict[str, Document]:
    before = state.get(recorded.stream)
    state[recorded.stream] = Document(
        recorded.data if before is None else {**before.data, **recorded.data},
        recorded.type,
        recorded.version,
        recorded.position,
        recorded.recorded_at,
    )
    return state
