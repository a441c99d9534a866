"""What a debugger stops at: places in history, the same ones in both directions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

import msgspec

from everwhen.expressions.expression import Expression
from everwhen.state.paths import Path, text_of
from everwhen.vocabulary.errors import InvalidQueryError
from everwhen.vocabulary.query import Query

OF_EVENTS: Final = frozenset({"event", "recorded", "before"})
"""The names in an expression that are about an event, not about a state."""


class EventTrigger(msgspec.Struct, frozen=True):
    """Events of any of the types, on any of the streams, for which a condition holds.

    What isn't given asks nothing; a ``position`` is that of the one event. The condition sees the
    event, and the states around it.
    """

    types: frozenset[str] = frozenset()
    streams: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    condition: Expression | None = None
    position: int | None = None

    def query(self, of: Query) -> Query | None:
        """Which events are to be looked at, of those that a query gives; None for none at all."""
        try:
            of = of.types(*self.types) if self.types else of
            of = of.stream(*self.streams) if self.streams else of
            return of.category(*self.categories) if self.categories else of
        except InvalidQueryError:
            return None

    def __str__(self) -> str:
        parts = [
            f"position {self.position}" if self.position is not None else "",
            ", ".join(sorted(self.types)),
            f"on {', '.join(sorted(self.streams))}" if self.streams else "",
            f"in {', '.join(sorted(self.categories))}" if self.categories else "",
            f"if {self.condition.text}" if self.condition is not None else "",
        ]
        return " ".join(part for part in parts if part) or "every event"


class StateTrigger(msgspec.Struct, frozen=True):
    """Where a condition on the state begins to hold; or ceases to, with ``holds=False``."""

    condition: Expression
    holds: bool = True

    def __str__(self) -> str:
        return f"{'if' if self.holds else 'unless'} {self.condition.text}"


class PathTrigger(msgspec.Struct, frozen=True):
    """Where a part of the state changes."""

    path: Path

    def __str__(self) -> str:
        return f"watch {text_of(self.path) or 'state'}"


class ValueTrigger(msgspec.Struct, frozen=True):
    """Where an expression over the state comes to another value."""

    expression: Expression

    def __str__(self) -> str:
        return f"watch {self.expression.text}"


Trigger: TypeAlias = EventTrigger | StateTrigger | PathTrigger | ValueTrigger


class Breakpoint(msgspec.Struct):
    """A trigger with a number. With a ``message`` it logs that and doesn't stop.

    ``message`` may have expressions in braces. ``hits`` counts how often it stopped.
    """

    number: int
    trigger: Trigger
    message: str | None = None
    is_enabled: bool = True
    hits: int = 0

    def __str__(self) -> str:
        return str(self.trigger)


class Breakpoints:
    """The breakpoints of a session, by number."""

    def __init__(self) -> None:
        self._by_number: dict[int, Breakpoint] = {}
        self._last = 0

    def __iter__(self) -> Iterator[Breakpoint]:
        return iter(list(self._by_number.values()))

    def __len__(self) -> int:
        return len(self._by_number)

    def __getitem__(self, number: int) -> Breakpoint:
        """Raises `InvalidQueryError` for a number that no breakpoint has."""
        found = self._by_number.get(number)
        if found is None:
            known = ", ".join(map(str, self._by_number)) or "none"
            raise InvalidQueryError(f"there is no breakpoint {number}; there is {known}")
        return found

    def add(self, trigger: Trigger, message: str | None = None) -> Breakpoint:
        """A new one, under the next number."""
        self._last += 1
        found = Breakpoint(self._last, trigger, message)
        self._by_number[found.number] = found
        return found

    def delete(self, number: int) -> Breakpoint:
        """Delete one. Raises `InvalidQueryError` for a number that no breakpoint has."""
        found = self[number]
        del self._by_number[number]
        return found

    def clear(self) -> None:
        """Forget them all."""
        self._by_number.clear()
