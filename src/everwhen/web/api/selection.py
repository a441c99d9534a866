"""Which events are meant: the parameters that every list of events takes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from everwhen.travel import Moment, moment_from
from everwhen.vocabulary import Query
from everwhen.vocabulary.written_moments import moment_of
from everwhen.web.endpoints import ApiCall, NoParameters

Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class EventsSelected(NoParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Events that fit every kind of parameter given.

    Of streams, categories and types any one will do; of tags all are needed.
    """

    stream: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    type: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    as_at: str | None = None
    as_of: str | None = None

    def query(self) -> Query:
        """What to ask the store. Raises `InvalidQueryError`."""
        query = Query()
        if self.stream:
            query = query.stream(*self.stream)
        if self.category:
            query = query.category(*self.category)
        if self.type:
            query = query.types(*self.type)
        if self.tag:
            query = query.tags(*self.tag)
        if self.as_at is not None:
            query = query.as_at(time_from(self.as_at))
        if self.as_of is not None:
            query = query.as_of(time_from(self.as_of))
        return query


def time_from(text: str) -> datetime:
    """A time as people write it, in UTC where no zone is named. Raises `InvalidQueryError`."""
    return moment_of(text, now=datetime.now(UTC), zone=UTC).time


def moment_asked(call: ApiCall[Any], text: str) -> Moment:
    """A moment as people write it, seen from the store's clock. Raises `InvalidQueryError`."""
    return moment_from(text, now=call.on.store.clock(), zone=UTC)
