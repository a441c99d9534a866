"""Histories that never happened: without some events, with others; kept as a branch if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from starlette.responses import Response

from everwhen import Query, Write
from everwhen.errors import InvalidQueryError
from everwhen.exchange.cut_values import CutPart, cut_value
from everwhen.exchange.travel_forms import ChangeForm
from everwhen.state import diff
from everwhen.travel import EventFilter
from everwhen.vocabulary import NewEvent, UnknownEvent
from everwhen.vocabulary.streams import MAX_POSITION
from everwhen.web.answers import json_answer
from everwhen.web.api.selection import Count, moment_asked
from everwhen.web.api.states import machine_for
from everwhen.web.api.steps import shown_changes
from everwhen.web.auditing import audited_answer
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.problems import FORBIDDEN, INVALID, ProblemError
from everwhen.web.what_if_branches import keep_as_branch

_MAX_NAMED: Final = 1_000
_MAX_CHANGES: Final = 1_000

Names = Annotated[tuple[str, ...], msgspec.Meta(max_length=_MAX_NAMED)]
Position = Annotated[int, msgspec.Meta(ge=1, le=MAX_POSITION)]
Positions = Annotated[tuple[Position, ...], msgspec.Meta(max_length=_MAX_NAMED)]


class GivenFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which events are left out: those that fit in every way that is given."""

    positions: Positions = ()
    types: Names = ()
    streams: Names = ()
    categories: Names = ()
    tags: Names = ()
    users: Names = ()
    correlations: Names = ()

    def filter(self) -> EventFilter | None:
        """The filter; None where nothing is given."""
        given: dict[str, Any] = {n: frozenset(getattr(self, n)) for n in self.__struct_fields__}
        return EventFilter(**given) if any(given.values()) else None


class SupposedEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event that never was, in place of another one."""

    type: str
    data: dict[str, Any]
    tags: tuple[str, ...] = ()
    schema_version: int = 1


class InsertedEvent(SupposedEvent, frozen=True, forbid_unknown_fields=True):
    """One after another: ``stream`` is that one's unless given."""

    stream: str | None = None


_At: Final = msgspec.Meta(max_length=_MAX_NAMED)
_Few: Final = msgspec.Meta(max_length=100)


class GivenWhatIf(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is different: events left out, others in their place, others after a position.

    ``keep_as`` makes a branch of that name on which it is so.
    """

    fold: str
    stream: str | None = None
    category: str | None = None
    at: str = "head"
    without: GivenFilter = GivenFilter()
    edited: Annotated[dict[Position, Annotated[list[SupposedEvent], _Few]], _At] = {}
    inserted: Annotated[dict[Count, Annotated[list[InsertedEvent], _Few]], _At] = {}
    keep_as: str | None = None


class WhatIfForm(msgspec.Struct, frozen=True):
    """The state as it is and as it would be at a position, and how the two differ.

    ``left_out`` counts the events by type. ``cut`` are the parts of either state that aren't whole.
    """

    position: int
    real: Any
    altered: Any
    changes: Sequence[ChangeForm]
    more_changes: int
    left_out: dict[str, int]
    edited: int
    inserted: int
    cut: list[CutPart]
    branch: str | None


async def suppose(call: ApiCall[NoParameters]) -> Response:
    """The state at a moment, had history been another one.

    Nothing is written without ``keep_as``, which needs the scope ``operate``.
    """
    given: GivenWhatIf = await call.json()
    if given.keep_as is not None and "operate" not in call.by.scopes:
        raise ProblemError(FORBIDDEN, "keep_as needs the scope 'operate'", scope="operate")
    audit = call.hosting.audit
    if given.keep_as is None or audit is None:
        return await _supposed(call, given)

    async def kept() -> Response:
        return await _supposed(call, given)

    return await audited_answer(audit, call.endpoint, call.request, call.by, kept)


async def _supposed(call: ApiCall[NoParameters], given: GivenWhatIf) -> Response:
    moment = moment_asked(call, given.at)

    def found() -> Response:
        machine = machine_for(call, given.fold, given.stream, given.category, call.on)
        altered = machine.altered(
            without=given.without.filter(),
            edited={p: [_event(e) for e in events] for p, events in given.edited.items()},
            inserted={p: _writes(call, p, events) for p, events in given.inserted.items()},
        )
        supposed = altered.travel_to(moment)
        real = machine.travel_to(supposed.until)
        changes, more = shown_changes(diff(real.state, supposed.state), _MAX_CHANGES)
        if given.keep_as is not None:
            keep_as_branch(call.on.blocking, given.keep_as, altered.alteration, supposed.until)
        shown, cut = cut_value(real.state)
        shown_altered, also = cut_value(supposed.state)
        return json_answer(
            WhatIfForm(
                supposed.until,
                shown,
                shown_altered,
                changes,
                more,
                dict(supposed.left_out),
                supposed.edited,
                supposed.inserted,
                [*cut, *(one for one in also if one not in cut)],
                given.keep_as,
            )
        )

    return await call.hosting.compute(found)


def _event(given: SupposedEvent) -> NewEvent[UnknownEvent]:
    return NewEvent(
        event=UnknownEvent(given.type, given.data, given.schema_version), tags=given.tags
    )


def _writes(call: ApiCall[Any], position: int, given: list[InsertedEvent]) -> list[Write]:
    """The events as writes; those that name no stream go to that of the event at the position."""
    beside = "" if all(event.stream for event in given) else _stream_at(call, position)
    return [Write(event.stream or beside, [_event(event)]) for event in given]


def _stream_at(call: ApiCall[Any], position: int) -> str:
    if position > 0:
        for event in call.on.blocking.read(Query().after(position - 1).up_to(position)):
            return event.stream
    raise InvalidQueryError(
        f"inserted: there is no event at position {position}; name the stream of what is inserted"
    )


ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/what-ifs",
        handle=suppose,
        scope="read",
        body=GivenWhatIf,
        answers={200: WhatIfForm},
        problems=(INVALID,),
    ),
)
