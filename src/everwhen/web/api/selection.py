"""Which events are meant: the parameters that every list of events takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from everwhen.codec.recorded_events import RecordedEvent
from everwhen.errors import DecodeError, ExpressionError
from everwhen.expressions import Expression
from everwhen.expressions.expression import Variables
from everwhen.travel import Moment, moment_from
from everwhen.vocabulary import Query
from everwhen.vocabulary.written_moments import moment_of
from everwhen.web.endpoints import ApiCall, NoParameters

Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_STEPS: Final = 100_000
"""What an evaluation for one event may cost: some milliseconds."""


class PlaceForm(msgspec.Struct, frozen=True):
    """A position, 0 before the first event, and when its event was recorded."""

    position: int
    recorded_at: str | None


class EventsSifted(NoParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Events that fit every kind of parameter given: of types any one will do, of tags all.

    ``where`` is a condition in CEL over ``event``, its data, and ``recorded``, what was recorded
    with it.
    """

    type: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    as_at: str | None = None
    as_of: str | None = None
    where: str | None = None

    def query(self) -> Query:
        """What to ask the store. Raises `InvalidQueryError`."""
        query = Query()
        if self.type:
            query = query.types(*self.type)
        if self.tag:
            query = query.tags(*self.tag)
        if self.as_at is not None:
            query = query.as_at(time_from(self.as_at))
        if self.as_of is not None:
            query = query.as_of(time_from(self.as_of))
        return query

    def condition(self) -> Callable[[RecordedEvent[Any]], bool] | None:
        """What ``where`` asks of an event. Raises `ExpressionError` where it can't be read."""
        return None if self.where is None else condition_from(self.where)


class EventsSelected(EventsSifted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Events of any streams: of those that are named, and of categories, any one will do."""

    stream: tuple[str, ...] = ()
    category: tuple[str, ...] = ()

    def query(self) -> Query:
        """What to ask the store. Raises `InvalidQueryError`."""
        return of_streams(super().query(), self.stream, self.category)


def of_streams(query: Query, streams: Sequence[str], categories: Sequence[str]) -> Query:
    """The query, only of these streams and categories, where any are named."""
    if streams:
        query = query.stream(*streams)
    return query.category(*categories) if categories else query


def condition_from(text: str) -> Callable[[RecordedEvent[Any]], bool]:
    """A condition in CEL over an event. It doesn't hold where it has no value.

    Raises `ExpressionError` where it can't be read, or asks for anything but the event.
    """
    condition = Expression(text, steps=_STEPS)
    others = ", ".join(sorted(condition.names - {"event", "recorded"}))
    if others:
        raise ExpressionError(f"there is no {others} here; there are event and recorded", text)

    def holds(event: RecordedEvent[Any]) -> bool:
        try:
            return condition.condition(Variables(None, event=event))
        except (ExpressionError, DecodeError):
            return False

    return holds


def time_from(text: str) -> datetime:
    """A time as people write it, in UTC where no zone is named. Raises `InvalidQueryError`."""
    return moment_of(text, now=datetime.now(UTC), zone=UTC).time


def moment_asked(call: ApiCall[Any], text: str) -> Moment:
    """A moment as people write it, seen from the store's clock. Raises `InvalidQueryError`."""
    return moment_from(text, now=call.on.store.clock(), zone=UTC)
