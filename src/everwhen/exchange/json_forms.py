"""What events, streams and changes are in JSON, wherever people or programs are told of them.

The command line's ``--json`` and the HTTP API say the same.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from everwhen.codec.recorded_events import RecordedEvent
from everwhen.vocabulary.contract import StreamInfo


def utc_text(moment: datetime) -> str:
    """ISO 8601 in UTC with microseconds: the same length for every time."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


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
