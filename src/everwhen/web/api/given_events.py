"""What writers send: events, what they believe, and what is recorded with a commit."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec

from everwhen.vocabulary import (
    ANY,
    EXISTS,
    NO_STREAM,
    CommitMetadata,
    ExpectedVersion,
    NewEvent,
    Query,
    UnknownEvent,
)
from everwhen.vocabulary.contract import Condition
from everwhen.vocabulary.query import Selector
from everwhen.web.api.selection import Count
from everwhen.web.endpoints import ApiCall
from everwhen.web.problems import BAD_REQUEST, ProblemError


class GivenEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event to append. ``data`` is an object; ``schema_version`` that of its type.

    ``occurred_at`` is when it happened, with a zone. ``event_id`` is its id where it has one
    already, and ``extras`` is an object of your own.
    """

    type: str
    data: dict[str, Any]
    tags: list[str] = []
    schema_version: Annotated[int, msgspec.Meta(ge=1, lt=1 << 31)] = 1
    occurred_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    event_id: str | None = None
    extras: dict[str, Any] = {}

    def new_event(self) -> NewEvent[UnknownEvent]:
        """The event, for a store."""
        return NewEvent(
            event=UnknownEvent(self.type, self.data, self.schema_version),
            tags=tuple(self.tags),
            occurred_at=self.occurred_at,
            event_id=self.event_id,
            extras=self.extras,
        )


class GivenMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is recorded with a commit. The name of a caller's token goes before ``user_id``."""

    correlation_id: str | None = None
    causation_id: str | None = None
    user_id: str | None = None
    source: str | None = None
    extras: dict[str, Any] = {}


class GivenEvents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events for one stream, in order, all or none."""

    events: list[GivenEvent]
    metadata: GivenMetadata | None = None


class GivenWrite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events for one stream of a commit, and where the writer believes it to be.

    ``expected`` is a version, ``none`` where there must be no such stream, ``exists`` where there
    must be one. Without events it only guards.
    """

    stream: str
    events: list[GivenEvent] = []
    expected: Count | Literal["any", "none", "exists"] = "any"

    @property
    def belief(self) -> ExpectedVersion:
        """What is believed of the stream's version."""
        if isinstance(self.expected, int):
            return self.expected
        return {"any": ANY, "none": NO_STREAM, "exists": EXISTS}[self.expected]


class GivenSelector(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Any of the streams, categories and types, and all of the tags; an empty one asks nothing."""

    streams: list[str] = []
    categories: list[str] = []
    types: list[str] = []
    tags: list[str] = []

    def selector(self) -> Selector:
        """The same, for a query."""
        parts = (self.streams, self.categories, self.types, self.tags)
        return Selector(*map(frozenset, parts))


class GivenCondition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing that the query selects was written after a position.

    Of several queries, what any of them selects counts.
    """

    query: GivenSelector | Annotated[list[GivenSelector], msgspec.Meta(min_length=1)]
    after: Count

    def condition(self) -> Condition:
        """The same, for a commit."""
        given = self.query if isinstance(self.query, list) else [self.query]
        return Condition(Query(tuple(one.selector() for one in given)), self.after)


def metadata_for(call: ApiCall[Any], given: GivenMetadata | None) -> CommitMetadata | None:
    """What is recorded with the caller's commit: the name of its token is the user."""
    if given is None:
        return None if call.by.name is None else CommitMetadata(user_id=call.by.name)
    return CommitMetadata(
        causation_id=given.causation_id,
        correlation_id=given.correlation_id,
        user_id=given.user_id if call.by.name is None else call.by.name,
        source=given.source,
        extras=given.extras,
    )


def key_of(call: ApiCall[Any]) -> UUID | None:
    """The call's ``Idempotency-Key``. Raises `ProblemError` for anything but a UUID."""
    text = call.request.headers.get("idempotency-key")
    return None if text is None else uuid_of(text.strip().strip('"'), "Idempotency-Key")


def uuid_of(text: str, what: str) -> UUID:
    """The commit id that a text is. Raises `ProblemError`."""
    try:
        return UUID(text)
    except ValueError as error:
        raise ProblemError(
            BAD_REQUEST, f"{what}: {text[:60]!r} is no UUID; a commit's id is a new one for each"
        ) from error
