"""Which events are undone at present, by what the log itself says.

Each event that an undo appends is tagged ``undoes:<commit id>/<index>`` with the event that it
undoes, and what a redo appends ``redoes:…``; of those that name an event, the newest counts. All
of them are tagged ``undo``, so that looking for them costs what there is of them, however long
the log is.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from typing import Any, Final
from uuid import UUID

import msgspec

from everwhen.codec.recorded_events import RecordedEvent, index_in_slice, stored_slice
from everwhen.vocabulary.query import Query, Selector

UNDO_TAG: Final = "undo"
_NAMES: Final = re.compile(r"(undoes|redoes):([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/\d{1,9})")


def ref_of(event: RecordedEvent[Any]) -> str:
    """An event's name for good, by its commit: ``<commit id>/<index in the commit>``."""
    return f"{event.commit_id}/{stored_slice(event).first_index + index_in_slice(event)}"


def place_in(ref: str) -> tuple[UUID, int]:
    """The commit and the index that a name stands for."""
    commit_id, _, index = ref.partition("/")
    return UUID(commit_id), int(index)


def naming_tag(ref: str, *, redo: bool) -> str:
    """The tag of what undoes the event of that name, or does it again."""
    return f"{'redoes' if redo else 'undoes'}:{ref}"


def naming(refs: Iterable[str]) -> Query:
    """The query for all that undoes one of the events of these names, or does it again."""
    tags = (naming_tag(ref, redo=redo) for ref in refs for redo in (False, True))
    return Query(tuple(Selector(tags=frozenset((tag,))) for tag in tags))


def named_in(tags: Iterable[str]) -> list[tuple[bool, str]]:
    """Whether an event with these tags does again (or undoes), and the name of each event."""
    given = tuple(tags)
    if UNDO_TAG not in given:
        return []
    matches = filter(None, map(_NAMES.fullmatch, given))
    return [(match[1] == "redoes", match[2]) for match in matches]


def own_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags without those of an undo or a redo."""
    return tuple(t for t in tags if t != UNDO_TAG and not _NAMES.fullmatch(t))


class UndoStatus(msgspec.Struct):
    """What the newest undo or redo says of an event, and how many there were.

    ``events`` are those that did it again, where they are wanted.
    """

    in_effect: bool
    times: int
    commit_id: UUID
    position: int
    events: list[RecordedEvent[Any]]


class UndoStatuses:
    """How every event stands that was ever undone, from the undos and redos in their order."""

    def __init__(self, wanted: Container[str]) -> None:
        self._wanted = wanted
        self._by_ref: dict[str, UndoStatus] = {}

    def take(self, event: RecordedEvent[Any]) -> None:
        """Take in the next event with the tag ``undo``."""
        for is_redo, ref in named_in(event.tags):
            known = self._by_ref.get(ref)
            if known is None or known.commit_id != event.commit_id:
                times = 1 if known is None else known.times + 1
                known = UndoStatus(is_redo, times, event.commit_id, event.position, [])
                self._by_ref[ref] = known
            if is_redo and ref in self._wanted:
                known.events.append(event)

    def of(self, ref: str) -> UndoStatus | None:
        """How the event stands; None where it was never undone."""
        return self._by_ref.get(ref)

    def counts(self, event: RecordedEvent[Any]) -> bool:
        """Whether the event has an effect of its own: not undone, no undo, no superseded redo."""
        named = named_in(event.tags)
        if not named:
            return ref_of(event) not in self._by_ref
        statuses = [self._by_ref.get(ref) for is_redo, ref in named if is_redo]
        return any(s is not None and s.commit_id == event.commit_id for s in statuses)
