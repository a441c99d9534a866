"""What the plan of an undo is in JSON: on the command line, in the debugger and over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from everwhen.codec.event_types import EventTypes
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.exchange.json_forms import new_event_form
from everwhen.undo.undo_plan import UndoPlan
from everwhen.vocabulary.errors import DecodeError
from everwhen.vocabulary.events import NewEvent


class UndoEventForm(msgspec.Struct, frozen=True):
    """An event that a plan speaks of; ``data`` is null where it can't be read."""

    position: int
    stream: str
    version: int
    type: str
    event_id: str
    user_id: str | None
    data: Any


class UncompensatedForm(UndoEventForm, frozen=True):
    """An event that can't be undone, and why."""

    reason: str


class DependentForm(UndoEventForm, frozen=True):
    """An event that may rest on what is undone, and why."""

    why: str


class AppendedEventForm(msgspec.Struct, frozen=True):
    """An event that the undo appends."""

    type: str
    data: Any
    tags: Sequence[str]


class AppendedForm(msgspec.Struct, frozen=True):
    """What is appended to a stream, and the version that it is expected at."""

    stream: str
    expected: Any
    events: Sequence[AppendedEventForm]


class UndoPlanForm(msgspec.Struct, frozen=True, kw_only=True):
    """What an undo or redo would do, as things stood at ``position``."""

    what: str
    position: int
    commit_id: str
    is_complete: bool
    undone: Sequence[UndoEventForm]
    redone: Sequence[UndoEventForm]
    appended: Sequence[AppendedForm]
    uncompensated: Sequence[UncompensatedForm]
    already: Sequence[UndoEventForm]
    audit_entries: Sequence[UndoEventForm]
    dependents: Sequence[DependentForm]
    dependent_count: int


def undo_plan_form(plan: UndoPlan, types: EventTypes) -> UndoPlanForm:
    """The plan's form."""

    def new(event: NewEvent[Any]) -> AppendedEventForm:
        form = new_event_form(event, types)
        return AppendedEventForm(form.type, form.data, event.tags)

    return UndoPlanForm(
        what=plan.what,
        position=plan.position,
        commit_id=str(plan.commit_id),
        is_complete=plan.is_complete,
        undone=_forms(plan.undone),
        redone=_forms(plan.redone),
        appended=[
            AppendedForm(write.stream, write.expected, [new(event) for event in write.events])
            for write in plan.appended
        ],
        uncompensated=[
            UncompensatedForm(**_known(one.event), reason=one.reason) for one in plan.uncompensated
        ],
        already=_forms(plan.already),
        audit_entries=_forms(plan.audit_entries),
        dependents=[DependentForm(**_known(one.event), why=one.why) for one in plan.dependents],
        dependent_count=plan.dependent_count,
    )


def readable_data(event: RecordedEvent[Any]) -> msgspec.Raw | None:
    """Its data; that it has none to show is no reason to show nothing of the plan."""
    try:
        return msgspec.Raw(event.json)
    except DecodeError:
        return None


def _forms(events: Sequence[RecordedEvent[Any]]) -> list[UndoEventForm]:
    return [UndoEventForm(**_known(event)) for event in events]


def _known(event: RecordedEvent[Any]) -> dict[str, Any]:
    return {
        "position": event.position,
        "stream": event.stream,
        "version": event.version,
        "type": event.type,
        "event_id": event.event_id,
        "user_id": event.metadata.user_id,
        "data": readable_data(event),
    }
