"""What has to hold after every commit that a merge takes over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from everwhen.codec.commits import Write
from everwhen.state.fold import Fold
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.errors import DeclarationError
from everwhen.vocabulary.events import typed_of
from everwhen.vocabulary.query import Query

S = TypeVar("S")


class Invariant(Generic[S]):
    """What has to hold after every commit that a merge takes over: a condition on a fold's state.

    The fold needs to do with typed events; ``of`` are the events that it is given.
    """

    def __init__(
        self, name: str, fold: Fold[S], holds: Callable[[S], Any], of: Query | None = None
    ) -> None:
        if fold.needs_records:
            raise DeclarationError(
                f"invariant {name!r}: fold {fold.name!r} wants events as recorded, which those of "
                f"a merge aren't yet; give a fold with functions by event type only"
            )
        self.name = name
        self.fold = fold
        self.holds = holds
        self.of = Query() if of is None else of

    def __repr__(self) -> str:
        return f"Invariant({self.name!r})"


class InvariantStates:
    """Invariants, and the states that they are asked of, as they are now."""

    def __init__(self, states: Sequence[tuple[Invariant[Any], Any]]) -> None:
        self._states = states

    def broken_by(self, writes: Sequence[Write]) -> str:
        """Which one the writes would break; empty where none, and then they are taken in."""
        typed = [(write.stream, typed_of(event)) for write in writes for event in write.events]
        after: list[tuple[Invariant[Any], Any]] = []
        for invariant, state in self._states:
            mine = [e for name, e in typed if any(s.reaches(name) for s in invariant.of.selectors)]
            try:
                new = invariant.fold.apply(state, mine)
                is_kept = invariant.holds(new)
            except Exception as error:
                if is_interrupt(error):
                    raise
                return f"whether {invariant.name} holds is unknown: {error!r}"
            if not is_kept:
                return f"{invariant.name} would no longer hold"
            after.append((invariant, new))
        self._states = after
        return ""
