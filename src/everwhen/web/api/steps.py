"""What one event did to a state, and what differs between two moments."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any, Final

import msgspec
from starlette.responses import Response

from everwhen.exchange.json_forms import EventForm, event_form
from everwhen.exchange.travel_forms import ChangeForm, change_form, short
from everwhen.state import Change, diff
from everwhen.travel import StateAt
from everwhen.web.answers import json_answer
from everwhen.web.api.selection import PlaceForm, moment_asked
from everwhen.web.api.states import StateSelected, machine_of, recorded_text
from everwhen.web.endpoints import ApiCall, Endpoint

ChangeCount = Annotated[int, msgspec.Meta(ge=0, le=10_000)]


class StepAsked(StateSelected, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last step up to a moment; at most ``limit`` of its changes."""

    at: str = "head"
    limit: ChangeCount = 200


class StepForm(msgspec.Struct, frozen=True):
    """An event and what it changed; null, and position 0, before the first.

    ``previous`` and ``next`` are the positions of this state's events beside it.
    """

    position: int
    event: EventForm | None
    changes: Sequence[ChangeForm]
    more_changes: int
    previous: int | None
    next: int | None


async def read_step(call: ApiCall[StepAsked]) -> Response:
    """What the last event up to a moment did to the state."""
    asked = call.asked
    moment = moment_asked(call, asked.at)

    def found() -> Response:
        machine = machine_of(call)
        position = machine.travel_to(moment).position
        following = machine.moved(position, 1)
        step = machine.step_at(position) if position else None
        changes, more = shown_changes(() if step is None else step.changes, asked.limit)
        return json_answer(
            StepForm(
                position,
                None if step is None else event_form(step.event),
                changes,
                more,
                (machine.moved(position, -1) or None) if position else None,
                following if following != position else None,
            )
        )

    return await call.hosting.compute(found)


class DiffAsked(StateSelected, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two moments; the second is one of another branch, if that is named."""

    start: str = msgspec.field(name="from", default="start")
    end: str = msgspec.field(name="to", default="head")
    other_branch: str | None = None
    limit: ChangeCount = 1_000


class DiffForm(msgspec.Struct, frozen=True):
    """What differs between two states."""

    before: PlaceForm
    after: PlaceForm
    changes: Sequence[ChangeForm]
    more_changes: int


async def read_diff(call: ApiCall[DiffAsked]) -> Response:
    """What differs between the states at two moments; a relative ``to`` counts from ``from``."""
    asked = call.asked
    start, end = moment_asked(call, asked.start), moment_asked(call, asked.end)
    other = call.on if asked.other_branch is None else await call.hosting.at(asked.other_branch)

    def found() -> Response:
        before = machine_of(call).travel_to(start)
        after = machine_of(call, other).travel_to(end, here=before.until)
        changes, more = shown_changes(diff(before.state, after.state), asked.limit)
        return json_answer(DiffForm(_place(before), _place(after), changes, more))

    return await call.hosting.compute(found)


def shown_changes(changes: Sequence[Change], limit: int) -> tuple[list[ChangeForm], int]:
    """The first changes, with large values cut, and how many more there are."""
    shown = [change_form(change, short) for change in islice(changes, limit)]
    return shown, len(changes) - len(shown)


def _place(at: StateAt[Any]) -> PlaceForm:
    return PlaceForm(at.position, recorded_text(at))


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/states/{fold}/step",
        handle=read_step,
        scope="read",
        parameters=StepAsked,
        answers={200: StepForm},
    ),
    Endpoint(
        method="GET",
        path="/states/{fold}/diff",
        handle=read_diff,
        scope="read",
        parameters=DiffAsked,
        answers={200: DiffForm},
    ),
)
