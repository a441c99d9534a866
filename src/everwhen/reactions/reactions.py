"""Reactions: from events to commands, now or at a later time (a policy, or a process manager).

    refunds = Reaction("refunds")

    @refunds.on(BetPlaced)
    def _(placed: RecordedEvent[BetPlaced]) -> list[Any]:
        bet = placed.event.bet
        return [Timer(f"bet-{bet}", RefundBet(bet), after=timedelta(hours=1))]

    @refunds.on(BetSettled)
    def _(settled: RecordedEvent[BetSettled]) -> list[Any]:
        return [Cancel(f"bet-{settled.event.bet}")]

What a function returns must follow from the event, and from the states that it is given: after a
crash it is called again. The ids of the commands are derived from the event, so that a command
that was sent before does nothing the second time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar, overload
from uuid import UUID, uuid5

import msgspec

from everwhen.codec.recorded_events import RecordedEvent, index_in_slice
from everwhen.commands.decisions import StateOf
from everwhen.projections.projections import HALT, OnError, check_endless, check_name
from everwhen.vocabulary.errors import DeclarationError
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.validation import check_plain

E = TypeVar("E")
S1 = TypeVar("S1")
S2 = TypeVar("S2")

_NAMESPACE: Final = UUID("6f1c1d8e-0c5b-5a63-9b0e-3a0a5e8f2c11")


class Reacting(msgspec.Struct, frozen=True):
    """How one type of event is reacted to."""

    states: tuple[StateOf[Any, Any], ...]
    react: Callable[..., Any]


class Reaction:
    """A function for each event type that is reacted to, under a name that its position goes by.

    ``from_now`` leaves out what happened before it is run for the first time. ``on_error`` says
    what becomes of an event whose function or command fails; a refusal is no failure, it is the
    answer that the command got.
    """

    def __init__(
        self,
        name: str,
        *,
        of: Query | None = None,
        on_error: OnError = HALT,
        from_now: bool = False,
    ) -> None:
        self.name = check_name(name, "reaction")
        self.of = check_endless(of, f"reaction {name!r}")
        self.on_error = on_error
        self.from_now = from_now
        self._by_class: dict[type[Any], Reacting] = {}

    @overload
    def on(
        self, event_type: type[E], /
    ) -> Callable[[Callable[[RecordedEvent[E]], Any]], Callable[[RecordedEvent[E]], Any]]: ...
    @overload
    def on(
        self, event_type: type[E], first: StateOf[RecordedEvent[E], S1], /
    ) -> Callable[
        [Callable[[RecordedEvent[E], S1], Any]], Callable[[RecordedEvent[E], S1], Any]
    ]: ...
    @overload
    def on(
        self,
        event_type: type[E],
        first: StateOf[RecordedEvent[E], S1],
        second: StateOf[RecordedEvent[E], S2],
        /,
    ) -> Callable[
        [Callable[[RecordedEvent[E], S1, S2], Any]], Callable[[RecordedEvent[E], S1, S2], Any]
    ]: ...

    def on(
        self, event_type: type[Any], /, *states: StateOf[Any, Any]
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare what follows from an event of this class: commands, and timers set or cancelled.

        The function is given the event as recorded, and the states as they were right after it.
        """
        for state in states:
            if not isinstance(state, StateOf):
                raise DeclarationError(f"reaction {self.name!r}: {state!r}; give a StateOf")

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            if event_type in self._by_class:
                raise DeclarationError(
                    f"reaction {self.name!r} has two functions for {event_type.__name__}; keep one"
                )
            check_plain(function, f"reaction {self.name!r}")
            self._by_class[event_type] = Reacting(states, function)
            return function

        return declare

    def to(self, event: Any) -> Reacting | None:
        """How an event is reacted to; None where it isn't."""
        return self._by_class.get(type(event))

    def answers(self, answered: Any, event: RecordedEvent[Any]) -> list[Any]:
        """What a function has answered, as a list. Raises `DeclarationError` for anything else."""
        if answered is None:
            return []
        if isinstance(answered, Iterable) and not isinstance(answered, str | bytes | Mapping):
            return list(answered)
        raise DeclarationError(
            f"reaction {self.name!r}: its function for {event.type} returned {answered!r:.80}; let "
            f"it return a list: [{type(answered).__name__}(…)]"
        )

    def command_id(self, event: RecordedEvent[Any], index: int) -> UUID:
        """The id of the command at that place among an event's (RFC 9562 version 5)."""
        place = f"{self.name}/{event.commit_id}/{index_in_slice(event)}.{event.part}/{index}"
        return uuid5(_NAMESPACE, place)

    def __repr__(self) -> str:
        return f"Reaction({self.name!r})"
