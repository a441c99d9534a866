"""What is different in a history that never happened."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from everwhen.codec.commits import Write
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.state.differences import Diff, diff
from everwhen.vocabulary.errors import InvalidQueryError
from everwhen.vocabulary.query import Selector

if TYPE_CHECKING:
    from everwhen.vocabulary.notebook_html import TableRow

S = TypeVar("S")


class EventFilter(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Which events are meant: those that fit in every way that is given.

    ``users`` and ``correlations`` are those of the metadata; an event fits ``tags`` if it carries
    all of them, and any other way if it is one of those that are named.
    """

    types: AbstractSet[str] = frozenset()
    streams: AbstractSet[str] = frozenset()
    categories: AbstractSet[str] = frozenset()
    tags: AbstractSet[str] = frozenset()
    users: AbstractSet[str] = frozenset()
    correlations: AbstractSet[str] = frozenset()
    positions: AbstractSet[int] = frozenset()
    predicate: Callable[[RecordedEvent[Any]], Any] | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__[:-1]:
            given = getattr(self, name)
            if isinstance(given, str | bytes) or not isinstance(given, Collection):
                raise InvalidQueryError(f"EventFilter: {name}={given!r}; give a set of them")
            msgspec.structs.force_setattr(self, name, frozenset(given))
        if self.predicate is None and not any(getattr(self, n) for n in self.__struct_fields__):
            raise InvalidQueryError("Where(): say which events are meant, in one way at least")

    @cached_property
    def _selector(self) -> Selector:
        return Selector(
            streams=frozenset(self.streams),
            categories=frozenset(self.categories),
            types=frozenset(self.types),
            tags=frozenset(self.tags),
        )

    def fits(self, event: RecordedEvent[Any]) -> bool:
        """Whether the event is meant."""
        if not self._selector.matches(event.stream, event.type, event.tags):
            return False
        if self.positions and event.position not in self.positions:
            return False
        if self.users or self.correlations:
            metadata = event.metadata
            if self.users and metadata.user_id not in self.users:
                return False
            if self.correlations and metadata.correlation_id not in self.correlations:
                return False
        return self.predicate is None or bool(self.predicate(event))


class Alteration(msgspec.Struct, frozen=True, kw_only=True):
    """What is different in a history that never happened.

    ``only`` and ``without`` filter its events. ``edited`` has what stands at a position instead of
    its event, ``inserted`` what follows the event at a position: writes to streams, whose beliefs
    about versions don't matter.
    """

    only: EventFilter | None = None
    without: EventFilter | None = None
    edited: Mapping[int, Sequence[Any]] = msgspec.field(default_factory=dict)
    inserted: Mapping[int, Sequence[Write]] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.only or self.without or self.edited or self.inserted):
            raise InvalidQueryError(
                "nothing is altered; give only=, without=, edited= or inserted="
            )

    @property
    def begins(self) -> int:
        """The last position up to which everything is as it was."""
        if self.only is not None:
            return 0
        places = [position - 1 for position in (*self.edited, *self.inserted)]
        if self.without is not None:
            places.append(min(self.without.positions, default=1) - 1)
        return max(0, min(places))

    def keeps(self, event: RecordedEvent[Any]) -> bool:
        """Whether the event is in it, edited or not."""
        if self.only is not None and not self.only.fits(event):
            return False
        return self.without is None or not self.without.fits(event)


class WhatIf(msgspec.Struct, Generic[S], frozen=True):
    """A state that never was: what a filtered or altered history would have led to.

    ``left_out`` counts the events that were left out of it by their type; ``edited`` and
    ``inserted`` count the others. It holds up to the position ``until``.
    """

    state: S
    until: int
    left_out: Mapping[str, int]
    edited: int
    inserted: int

    def _repr_html_(self) -> str | None:
        from everwhen.state.value_html import in_notebook
        from everwhen.travel.notebook_cards import state_card

        title = f"up to position {self.until:,}"
        counts = {f"{name} left out": count for name, count in self.left_out.items()}
        counts |= {"edited": self.edited, "inserted": self.inserted}
        facts = [f"{count:,} {name}" for name, count in counts.items() if count]
        return in_notebook(lambda: state_card("What if", title, self.state, *facts))


class WhatIfStep(msgspec.Struct, Generic[S], frozen=True):
    """One event of a history that never happened, and the states before and after it.

    ``left_out`` is how many events were left out on the way there.
    """

    events: Sequence[RecordedEvent[Any]]
    before: S
    after: S
    left_out: int

    @property
    def event(self) -> RecordedEvent[Any]:
        """What is supposed to have happened."""
        return self.events[0]

    @property
    def position(self) -> int:
        """The event's position; of one that was inserted that of the event before it."""
        return self.event.position

    @property
    def changes(self) -> Diff:
        """What the event would have changed."""
        return diff(self.before, self.after)

    def _html_row_(self) -> TableRow:
        from everwhen.travel.notebook_cards import step_row

        return step_row(self.event, self.changes)

    def _repr_html_(self) -> str | None:
        from everwhen.state.value_html import in_notebook
        from everwhen.travel.notebook_cards import step_card
        from everwhen.vocabulary.notebook_html import counted

        note = f"{counted(self.left_out, 'event')} left out before it" if self.left_out else ""
        return in_notebook(lambda: step_card("What if", self.events, self.changes, note))
