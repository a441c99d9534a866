"""What has happened since, and may rest on what is to be undone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final
from uuid import UUID

import msgspec

from everwhen.codec.audit_marks import is_entry
from everwhen.codec.recorded_events import RecordedEvent, commit_metadata, stored_slice
from everwhen.undo.undo_status import UndoStatuses
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.metadata import CommitMetadata

_MAX_CAUSES: Final = 100_000
"""Held in memory, some 20 MB of ids; what later events cause isn't followed."""


class Dependent(msgspec.Struct, frozen=True):
    """An event that came later, and why it may depend on one that is to be undone."""

    event: RecordedEvent[Any]
    why: str


class Dependents:
    """Gathers them from a store's events, in order. The first ``listed`` are kept, all counted.

    What follows from an event by causation is followed through up to 100,000 causes.
    """

    def __init__(
        self,
        events: Collection[RecordedEvent[Any]],
        left_out: Collection[int],
        statuses: UndoStatuses,
        listed: int,
    ) -> None:
        self._left_out = left_out
        self._statuses = statuses
        self._listed = listed
        self._streams: dict[str, int] = {}
        self._correlations: dict[str, int] = {}
        self._causes: dict[str, int] = {}
        for event in events:
            position, stored = event.position, stored_slice(event)
            self._causes[event.event_id] = position
            for first, name in (
                (self._streams, event.stream),
                (self._correlations, _correlation(stored, commit_metadata(stored))),
            ):
                first[name] = min(position, first.get(name, position))
        self.found: list[Dependent] = []
        self.count = 0

    def take(self, events: Iterable[RecordedEvent[Any]]) -> None:
        """Take in the next events of the store."""
        seen: StoredSlice | None = None
        cause: int | None = None
        correlation = ""
        for event in events:
            if stored_slice(event) is not seen:
                seen = stored_slice(event)
                metadata = commit_metadata(seen)
                cause = self._causes.get(metadata.causation_id or "")
                correlation = _correlation(seen, metadata)
            why = self._why(event, cause, correlation)
            if why is None or event.position in self._left_out:
                continue
            if is_entry(event) or not self._statuses.counts(event):
                continue
            if cause is not None and len(self._causes) < _MAX_CAUSES:
                self._causes.setdefault(event.event_id, event.position)
            self.count += 1
            if len(self.found) < self._listed:
                self.found.append(Dependent(event, why))

    def _why(self, event: RecordedEvent[Any], cause: int | None, correlation: str) -> str | None:
        if cause is not None:
            return f"caused by position {cause}"
        for first, name, why in (
            (self._streams, event.stream, "later in the same stream"),
            (self._correlations, correlation, "later in the same correlation"),
        ):
            if _is_later(first, name, event.position):
                return why
        return None


def _is_later(first: Mapping[str, int], name: str, position: int) -> bool:
    return position > first.get(name, position)


def _correlation(stored: StoredSlice, metadata: CommitMetadata) -> str:
    if metadata.correlation_id is not None:
        return metadata.correlation_id
    return str(UUID(bytes=stored.commit_id))
