"""The nearest place at which something triggers, before or after a position.

What is about events is asked of the store, which has indexes for types and streams. What is about
the state goes by the parts of it that are looked at: near places are looked through event by event,
and for those farther away the histories of these parts are made, and remembered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, assert_never

from everwhen.codec.recorded_events import RecordedEvent
from everwhen.debugging.breakpoints import (
    OF_EVENTS,
    EventTrigger,
    PathTrigger,
    StateTrigger,
    Trigger,
    ValueTrigger,
)
from everwhen.expressions.expression import Expression, Variables
from everwhen.state.paths import MISSING, Path
from everwhen.state.read_sets import Predicate
from everwhen.travel._sync.time_machine import TimeMachine
from everwhen.vocabulary.errors import DecodeError, EverwhenError, ExpressionError
from everwhen.vocabulary.query import Query

_NEAR_EVENTS: Final = 8_192
"""Events that are searched one by one; further away, only those that change what is read."""

_FIRST_CHUNK_EVENTS: Final = 4_096
"""Read first by a search backwards: most places that are looked for are near."""

_MAX_CHUNK_EVENTS: Final = 65_536
"""Chunks double up to this: each is searched to its end, though only its last place counts."""


class InterruptedSearchError(EverwhenError):
    """Somebody wanted the search to end."""


class Searcher:
    """Finds places in a time machine's history.

    ``tell`` is called often, with the position that was reached; what it raises ends the search.
    """

    def __init__(self, machine: TimeMachine[Any], tell: Callable[[int], None]) -> None:
        self._machine = machine
        self._tell = tell

    def after(self, trigger: Trigger, position: int, last: int) -> int | None:
        """The first place in ``(position, last]`` that triggers."""
        match trigger:
            case EventTrigger():
                return self._event(trigger, position, last, backwards=False)
            case StateTrigger():
                condition = self.condition(trigger.condition, holds=trigger.holds)
                return next(self._turns(condition, position, last), None)
            case PathTrigger(path):
                return self._next_write(path, position, last)
            case ValueTrigger(expression):
                condition = self._value(expression, position, same=False)
                return next(self._turns(condition, position, last), None)
            case _:
                assert_never(trigger)

    def before(self, trigger: Trigger, position: int, first: int = 0) -> int | None:
        """The last place in ``(first, position)`` that triggers."""
        last = position - 1
        if last <= first:
            return None
        match trigger:
            case EventTrigger():
                return self._event(trigger, first, last, backwards=True)
            case StateTrigger():
                condition = self.condition(trigger.condition, holds=trigger.holds)
                return self._last_turn(condition, first, last)
            case PathTrigger(path):
                return self._last_write(path, first, last)
            case ValueTrigger(expression):
                return self._last_turn(self._value(expression, last, same=True), first, last)
            case _:
                assert_never(trigger)

    def condition(self, expression: Expression, *, holds: bool = True) -> Predicate:
        """A condition on states. What can't be evaluated doesn't hold."""
        tell, ask = self._tell, expression.asked_of_states()

        def condition(state: Any) -> bool:
            tell(0)
            try:
                return ask(state) is holds
            except (ExpressionError, LookupError):
                return False

        return condition

    def fits(self, condition: Expression, event: RecordedEvent[Any]) -> bool:
        """Whether a condition holds for an event, and the states around it."""
        try:
            if condition.names <= {"event", "recorded"}:
                return condition.condition(Variables(None, event=event))
            step = self._machine.step_at(event.position)
            return condition.condition(Variables(step.after, event=event, before=step.before))
        except (ExpressionError, DecodeError):
            return False

    def _event(
        self, trigger: EventTrigger, first: int, last: int, *, backwards: bool
    ) -> int | None:
        if trigger.position is not None:
            first, last = max(first, trigger.position - 1), min(last, trigger.position)
        query = trigger.query(self._machine.of)
        if query is None or first >= last:
            return None
        query = query.after(first).up_to(last)
        query = query.backwards() if backwards else query
        condition = trigger.condition
        for event in self._read(query if condition is not None else query.limit(1)):
            if condition is None or self.fits(condition, event):
                return event.position
        return None

    def _read(self, query: Query) -> Iterator[RecordedEvent[Any]]:
        for event in self._machine.store.read(query):
            self._tell(event.position)
            yield event

    def _turns(
        self, condition: Predicate, first: int, last: int, *, tracked: bool = True
    ) -> Iterator[int]:
        """Where the condition begins to hold in ``(first, last]``."""
        turns = self._machine.transitions(
            condition, tracked=tracked, start=first, end=last, progress=self._told
        )
        next(turns, None)
        for turn in turns:
            if turn.holds:
                yield turn.at.position

    def _last_turn(self, condition: Predicate, first: int, last: int) -> int | None:
        looked_through, size = 0, _FIRST_CHUNK_EVENTS
        while last > first:
            start = max(first, last - size)
            tracked = looked_through >= _NEAR_EVENTS
            turns = deque(self._turns(condition, start, last, tracked=tracked), maxlen=1)
            if turns:
                return turns[0]
            looked_through += last - start
            last, size = start, min(size * 2, _MAX_CHUNK_EVENTS)
        return None

    def _value(self, expression: Expression, position: int, *, same: bool) -> Predicate:
        """The condition that an expression has the same value as at a position, or another."""
        known = _value(expression, self._machine.travel_to(position).state)

        def condition(state: Any) -> bool:
            self._tell(0)
            value = _value(expression, state)
            return same is (value is known or (type(value) is type(known) and bool(value == known)))

        return condition

    def _next_write(self, path: Path, position: int, last: int) -> int | None:
        if position >= last:
            return None
        step = self._machine.next_write(path, position, end=last, progress=self._told)
        return None if step is None else step.position

    def _last_write(self, path: Path, first: int, last: int) -> int | None:
        if first >= last:
            return None
        step = self._machine.last_write(path, last, start=first, progress=self._told)
        return None if step is None else step.position

    def _told(self, position: int, _: int) -> None:
        self._tell(position)


def is_about_events(expression: Expression) -> bool:
    """Whether an expression is about events, not about states alone."""
    return not OF_EVENTS.isdisjoint(expression.names)


def _value(expression: Expression, state: Any) -> Any:
    try:
        return expression(Variables(state))
    except ExpressionError:
        return MISSING
