"""The traces of a merge: its record in its commit, and in each event where it comes from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final
from uuid import UUID, uuid5

import msgspec

from everwhen.codec.commits import Write
from everwhen.codec.recorded_events import (
    RecordedEvent,
    codec_of,
    commit_metadata,
    own_metadata,
    stored_slice,
)
from everwhen.commands.decisions import moved_command
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.events import NewEvent, UnknownEvent
from everwhen.vocabulary.metadata import CommitMetadata

MERGED_EXTRA: Final = "merged_from"
"""The key under which a merge's commit keeps its record, and each event where it comes from."""
NEEDLE: Final = b'"merged_from"'
"""What stored bytes have in them that may say so: most are passed over without decoding them."""
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAMESPACE: Final = UUID("5b6b1a4e-6f0e-5c0b-9b57-4f2b3c8d7a11")  # the same for ever


class MergeRecord(msgspec.Struct, frozen=True):
    """What a merge's commit says of itself, in its metadata's extras."""

    branch: str
    id: str
    up_to: int
    commits: int


def merge_id(record: MergeRecord, target: str, chosen: Sequence[UUID]) -> UUID:
    """The id of a merge's commit: the same merge again has the same."""
    picked = ",".join(map(str, chosen))
    return uuid5(_NAMESPACE, f"{record.id}:{record.up_to}:{target}:{picked}")


def record_in(stored: StoredSlice) -> MergeRecord | None:
    """The record of the merge that wrote a slice; None for other commits."""
    if not stored.metadata or NEEDLE not in stored.metadata:
        return None
    kept = commit_metadata(stored).extras.get(MERGED_EXTRA)
    try:
        return None if kept is None else msgspec.convert(kept, MergeRecord)
    except msgspec.ValidationError:
        return None


def taken_over(event: RecordedEvent[Any]) -> NewEvent[Any]:
    """An event of a branch, as it is written to another one."""
    own = own_metadata(event)
    typed = event.event
    if isinstance(typed, UnknownEvent):
        typed = UnknownEvent(event.type, event.data, event.schema_version)
    return NewEvent(
        event=typed,
        tags=event.tags,
        occurred_at=event.occurred_at,
        extras={
            **((own.extras if own is not None else None) or {}),
            MERGED_EXTRA: origin_of(event),
        },
    )


def origin_of(event: RecordedEvent[Any]) -> dict[str, Any]:
    """Where an event comes from at first: who did it there, and in which commit."""
    metadata = event.metadata
    if came_from(event) is not None:
        return dict(metadata.extras[MERGED_EXTRA])
    origin = {
        "commit": str(metadata.commit_id),
        "user": metadata.user_id,
        "source": metadata.source,
    }
    return {name: value for name, value in origin.items() if value is not None}


def came_from(event: RecordedEvent[Any]) -> str | None:
    """The id of the commit that an event was taken over from; None where it wasn't."""
    origin = event.metadata.extras.get(MERGED_EXTRA)
    commit = origin.get("commit") if isinstance(origin, dict) else None
    return commit if isinstance(commit, str) and _UUID.fullmatch(commit) else None


def original_writes(events: Sequence[RecordedEvent[Any]]) -> tuple[Write, ...]:
    """A commit's events, to be written as they were."""
    streams = groupby(events, key=attrgetter("stream"))
    return tuple(Write(stream, [taken_over(event) for event in found]) for stream, found in streams)


def metadata_again(event: RecordedEvent[Any], commit_id: UUID) -> CommitMetadata:
    """A commit's metadata, to be written again with another id."""
    metadata, encryption = commit_metadata(stored_slice(event)), codec_of(event).encryption
    if encryption is None:
        return metadata
    extras = moved_command(metadata.extras, event.commit_id, commit_id, encryption)
    return msgspec.structs.replace(metadata, extras=extras)


def decided_anew(writes: Sequence[Write], like: RecordedEvent[Any]) -> tuple[Write, ...]:
    """What was decided again, each event with where its command comes from."""
    origin = origin_of(like)

    def marked(event: Any) -> NewEvent[Any]:
        new = event if isinstance(event, NewEvent) else NewEvent(event=event)
        return msgspec.structs.replace(new, extras={**new.extras, MERGED_EXTRA: origin})

    return tuple(Write(w.stream, [*map(marked, w.events)]) for w in writes if w.events)
