"""What events, streams and changes are in JSON, wherever people or programs are told of them.

The command line's ``--json`` and the HTTP API say the same.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from everwhen.codec.recorded_events import (
    RecordedEvent,
    index_in_slice,
    own_metadata,
    stored_slice,
)
from everwhen.codec.slice_bodies import text_of_id
from everwhen.vocabulary.contract import StreamInfo
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
