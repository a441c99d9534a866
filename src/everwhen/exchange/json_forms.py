"""What events, streams and changes are in JSON, wherever people or programs are told of them.

The command line's ``--json`` and the HTTP API say the same.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from everwhen.backends.branch_records import BranchInfo
from everwhen.codec.event_types import EventTypes
from everwhen.codec.recorded_events import (
    RecordedEvent,
    index_in_slice,
    own_metadata,
    stored_slice,
)
from everwhen.codec.slice_bodies import text_of_id
from everwhen.state.paths import plain
from everwhen.vocabulary.contract import Receipt, StreamInfo
from everwhen.vocabulary.events import UnknownEvent, typed_of
from everwhen.vocabulary.microseconds import from_micros


def utc_text(moment: datetime) -> str:
    """ISO 8601 in UTC with microseconds: the same length for every time."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def micros_text(micros: int) -> str:
    """`utc_text` of a time in microseconds since 1970 UTC, in a third of its time."""
    seconds, rest = divmod(micros, 1_000_000)
    return f"{_second_text(seconds)}.{rest:06d}Z"


@lru_cache(maxsize=4_096)
def _second_text(seconds: int) -> str:
    return from_micros(seconds * 1_000_000).isoformat()[:19]


class EventForm(msgspec.Struct, frozen=True, gc=False):
    """Everything that is known of a recorded event. Times are ISO 8601; ``data`` is an object."""

    position: int
    stream: str
    version: int
    type: str
    schema_version: int
    recorded_at: str
    occurred_at: str | None
    event_id: str
    commit_id: str
    causation_id: str | None
    correlation_id: str
    user_id: str | None
    source: str | None
    tags: tuple[str, ...]
    extras: dict[str, Any]
    data: msgspec.Raw


def event_form(event: RecordedEvent[Any]) -> EventForm:
    """The event's form. Raises `DecodeError` where it can't be upcast."""
    stored = stored_slice(event)
    if stored.metadata is None and own_metadata(event) is None and not event.part:
        commit_id = text_of_id(stored.commit_id)
        return EventForm(
            event.position,
            stored.stream,
            event.version,
            event.type,
            event.schema_version,
            micros_text(stored.recorded_at),
            None,
            f"{commit_id}/{stored.first_index + index_in_slice(event)}",
            commit_id,
            None,
            commit_id,
            None,
            None,
            event.tags,
            {},
            msgspec.Raw(event.json),
        )
    metadata = event.metadata
    occurred_at = metadata.occurred_at
    return EventForm(
        event.position,
        event.stream,
        event.version,
        event.type,
        metadata.schema_version,
        utc_text(event.recorded_at),
        None if occurred_at is None else occurred_at.isoformat(),
        metadata.event_id,
        str(metadata.commit_id),
        metadata.causation_id,
        metadata.correlation_id,
        metadata.user_id,
        metadata.source,
        tuple(event.tags),
        metadata.extras,
        msgspec.Raw(event.json),
    )


class StreamForm(msgspec.Struct, frozen=True, gc=False):
    """A stream and where it stands; ``position`` is that of its last event."""

    stream: str
    category: str
    version: int
    position: int
    recorded_at: str


def stream_form(info: StreamInfo) -> StreamForm:
    """The stream's form."""
    return StreamForm(
        info.name, info.category, info.version, info.position, utc_text(info.recorded_at)
    )


class BranchForm(msgspec.Struct, frozen=True):
    """A branch. ``fork_position`` is the last position that it shares with its parent."""

    name: str
    parent: str
    fork_position: int
    head: int
    created_at: str
    id: str


def branch_form(info: BranchInfo) -> BranchForm:
    """The branch's form."""
    return BranchForm(
        info.name, info.parent, info.position, info.head, utc_text(info.created_at), info.id
    )


class NewEventForm(msgspec.Struct, frozen=True):
    """An event that is to be written, or just was."""

    type: str
    data: Any


def new_event_form(new: Any, types: EventTypes) -> NewEventForm:
    """The form of an event, with or without its `NewEvent`."""
    event = typed_of(new)
    data = event.data if isinstance(event, UnknownEvent) else plain(event)
    return NewEventForm(type_name(event, types), data)


def type_name(new: Any, types: EventTypes) -> str:
    """What a store calls the type of an event, with or without its `NewEvent`."""
    event = typed_of(new)
    if isinstance(event, UnknownEvent):
        return event.type
    declared = types.current().get(type(event))
    return type(event).__name__ if declared is None else declared.name


class ReceiptForm(msgspec.Struct, frozen=True):
    """What an append did; ``repeated`` where the commit was known, and nothing was written."""

    commit_id: str
    position: int
    recorded_at: str
    versions: dict[str, int]
    repeated: bool


def receipt_form(receipt: Receipt) -> ReceiptForm:
    """The receipt's form."""
    return ReceiptForm(
        str(receipt.commit_id),
        receipt.position,
        utc_text(receipt.recorded_at),
        receipt.versions,
        receipt.repeated,
    )
