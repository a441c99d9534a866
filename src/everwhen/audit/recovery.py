"""Entries from the fallback whose commit id the log knows with other content. Pure.

A user may have been forgotten between two attempts to record one entry: then the log has the bare
fact, and the fallback the encrypted entry, or the other way round. That is the same entry. Anything
else is an entry of its own, under an id that follows from what the fallback holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID, uuid5

from everwhen.audit.entries import AuditEntry, impersonal
from everwhen.audit.fallback import payload_of
from everwhen.codec.codec import Codec
from everwhen.codec.recorded_events import entries_of, recorded_events
from everwhen.vocabulary.contract import EncodedCommit, StoredSlice

_NAMESAKES: Final = UUID("5e1f6f0a-4f7c-5f0b-8f1e-2b0d8c9a7e31")


def entry_in(commit: EncodedCommit, codec: Codec) -> AuditEntry:
    """The entry that a commit from the fallback holds. Raises `DecodeError`."""
    (part,) = commit.slices
    as_stored = StoredSlice(
        part.count, part.stream, part.count, part.count, 0, commit.id, 0, None, part.body
    )
    (entry,) = audit_entries([as_stored], codec)
    return entry


def audit_entries(stored: Iterable[StoredSlice], codec: Codec) -> list[AuditEntry]:
    """The audit entries among a stored commit's events. Raises `DecodeError`."""
    events = [
        recorded.event
        for part in stored
        for recorded in recorded_events(part, entries_of(part), None, codec)
    ]
    return [event for event in events if isinstance(event, AuditEntry)]


def is_among(entry: AuditEntry, known: Sequence[AuditEntry]) -> bool:
    """Whether the log has an entry, be it as the bare fact that is kept of a forgotten user."""
    return any(
        entry == other or impersonal(entry) == other or entry == impersonal(other)
        for other in known
    )


def id_of_its_own(commit: EncodedCommit) -> UUID:
    """The id under which an entry is written whose own id another commit has."""
    return uuid5(_NAMESAKES, payload_of(commit).decode())
