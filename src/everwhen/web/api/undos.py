"""Undo and redo: planned, looked at, and then done as planned."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

import msgspec
from starlette.responses import Response

from everwhen import Undo
from everwhen.exchange.json_forms import ReceiptForm, receipt_form
from everwhen.exchange.undo_forms import UndoPlanForm, undo_plan_form
from everwhen.undo import Correlation, Positions, UndoTarget
from everwhen.vocabulary import CommitMetadata, Receipt
from everwhen.web.answers import json_answer
from everwhen.web.api.plans import check_named, check_same, plan_id
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.governance import missing
from everwhen.web.problems import (
    INVALID,
    PLAN_CHANGED,
    UNDO_REFUSED,
    UNSUPPORTED,
    ProblemError,
)

_Position = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]


class EventRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The events from one position to another, both included; to the end, unless ``last`` is given.

    With ``user`` only what that user did.
    """

    first: _Position
    last: _Position | None = None
    user: str | None = None


class UndoAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to undo: one of ``events``, ``event`` (an event's id), ``commit`` or ``correlation``.

    ``redo`` does it again instead. ``allow_partial`` leaves out what can't be undone. At most
    ``dependents`` events are listed that may rest on it.
    """

    events: EventRange | None = None
    event: str | None = None
    commit: UUID | None = None
    correlation: str | None = None
    redo: bool = False
    allow_partial: bool = False
    dry_run: bool = False
    plan: str | None = None
    dependents: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 10

    def target(self) -> UndoTarget:
        """What is meant. Raises `ProblemError` where it isn't one thing."""
        correlation = None if self.correlation is None else Correlation(self.correlation)
        given = [
            one for one in (self.events, self.event, self.commit, correlation) if one is not None
        ]
        if len(given) != 1:
            raise ProblemError(INVALID, "give one of events, event, commit and correlation")
        (target,) = given
        if isinstance(target, EventRange):
            return Positions(target.first, target.last, target.user)
        return target


class PlannedUndo(UndoPlanForm, frozen=True, kw_only=True):
    """The plan, and the ``id`` that it is known by."""

    id: str


async def undo(call: ApiCall[NoParameters]) -> Response:
    """Undo events by appending what compensates them, in one commit; or do them again.

    Ask with ``dry_run`` first, look at the plan, and name its ``id`` as ``plan`` to have it done:
    where it would come out otherwise by then, the answer is 409, and nothing is written.
    """
    asked: UndoAsked = await call.json()
    target = asked.target()
    compensations = call.hosting.governance.compensations
    if compensations is None:
        raise missing("compensations", "compensations")
    undoing = Undo(call.on.blocking, compensations)

    def worked_out() -> PlannedUndo | Receipt:
        make = undoing.plan_redo if asked.redo else undoing.plan
        plan = make(target, dependents=asked.dependents if asked.dry_run else 0)
        form = undo_plan_form(plan, undoing.store.event_types)
        now = plan_id(
            asked.redo, form.commit_id, form.undone, form.redone, form.appended, form.uncompensated
        )
        if asked.dry_run:
            return PlannedUndo(**msgspec.structs.asdict(form), id=now)
        check_same(check_named(asked.plan), now)
        return undoing.undo(
            plan,
            allow_partial=asked.allow_partial,
            metadata=CommitMetadata(user_id=call.by.name),
        )

    found = await call.hosting.compute(worked_out)
    if isinstance(found, PlannedUndo):
        return json_answer(found)
    return json_answer(receipt_form(found), 200 if found.repeated else 201)


ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/undos",
        handle=undo,
        scope="operate",
        body=UndoAsked,
        answers={200: PlannedUndo | ReceiptForm, 201: ReceiptForm},
        problems=(PLAN_CHANGED, UNDO_REFUSED, INVALID, UNSUPPORTED),
    ),
)
