"""How a state came about: who wrote its parts, when, and what led to an event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Annotated, Any, Final

import msgspec
from starlette.responses import Response

from everwhen.exchange.json_forms import EventForm, event_form
from everwhen.exchange.travel_forms import (
    BlameEntry,
    BlameForm,
    WrittenForm,
    blame_form,
    short,
    written_form,
)
from everwhen.expressions.unknown_parts import without_state
from everwhen.state.paths import MISSING, path_of, value_at
from everwhen.travel import Step, Written
from everwhen.travel._sync.provenance import explained, leaves_of
from everwhen.travel.destinations import Explanation
from everwhen.vocabulary import Query
from everwhen.web.answers import json_answer
from everwhen.web.api.events import position_of
from everwhen.web.api.selection import moment_asked
from everwhen.web.api.states import StateSelected, existing_part, machine_of
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.machines import AnyMachine
from everwhen.web.problems import UNKNOWN, ProblemError

_MAX_COUNTED: Final = 10_000
"""Leaves beyond those that are shown: whether there are more of them tells nobody anything."""
_MAX_RELATED: Final = 200


class BlameAsked(StateSelected, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the state at a moment."""

    at: str = "head"
    path: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 200


class BlameList(msgspec.Struct, frozen=True):
    """Leaves with who wrote them, and how many more there are, counted up to 10,000."""

    entries: list[BlameForm]
    more: int


async def read_blame(call: ApiCall[BlameAsked]) -> Response:
    """For each leaf in a part of the state, the event that last wrote it."""
    asked = call.asked
    moment = moment_asked(call, asked.at)

    def found() -> Response:
        machine = machine_of(call)
        at = machine.travel_to(moment)
        path = existing_part(at.state, asked.path)
        blamed = machine.blame(path, at.until, limit=asked.limit)
        leaves = islice(leaves_of(value_at(at.state, path), path), len(blamed), _MAX_COUNTED)
        entries = [
            blame_form(BlameEntry(leaf, value_at(at.state, leaf), event), short)
            for leaf, event in blamed.items()
        ]
        return json_answer(BlameList(entries, sum(1 for _ in leaves)))

    return await call.hosting.compute(found)


class PartAsked(StateSelected, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a state, by its path."""

    path: str


class PeriodOfPartAsked(PartAsked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a state, after one moment and up to another."""

    start: str = msgspec.field(name="from", default="start")
    end: str = msgspec.field(name="to", default="head")


class HistoryAsked(PeriodOfPartAsked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first values that a part of a state has had, in a period."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 100


class WriteList(msgspec.Struct, frozen=True):
    """The events that wrote a part, and whether there are more after them."""

    writes: list[WrittenForm]
    more: bool


async def read_history(call: ApiCall[HistoryAsked]) -> Response:
    """Each value that a part of the state has had, with the event that wrote it."""
    asked = call.asked
    start, end = moment_asked(call, asked.start), moment_asked(call, asked.end)

    def found() -> Response:
        machine = machine_of(call)
        written = machine.history(asked.path, start=start, end=end)
        writes = list(islice(written, asked.limit + 1))
        if not writes:
            refuse_unknown(machine, asked.path)
        path = path_of(asked.path)
        shown = [written_form(one, path, short) for one in writes[: asked.limit]]
        return json_answer(WriteList(shown, len(writes) > asked.limit))

    return await call.hosting.compute(found)


def refuse_unknown(machine: AnyMachine, path: str) -> None:
    """Raises `ProblemError` for a part that no state has ever had: it says what there was."""
    unknown = machine.unknown_parts(path)
    if unknown:
        raise ProblemError(UNKNOWN, "; ".join(map(str, unknown)), path=path)


class NextWriteAsked(PartAsked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a state, and the moment after which it is written."""

    after: str = "start"


class LastWriteAsked(PartAsked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a state, and the moment up to which it was written."""

    until: str = "head"


class OneWrite(msgspec.Struct, frozen=True):
    """The event that wrote a part; null where there is none."""

    write: WrittenForm | None


async def read_next_write(call: ApiCall[NextWriteAsked]) -> Response:
    """The next event after a moment that changes a part of the state."""
    asked = call.asked
    after = moment_asked(call, asked.after)

    def found() -> Response:
        machine = machine_of(call)
        return _one_write(machine, asked.path, machine.next_write(asked.path, after))

    return await call.hosting.compute(found)


async def read_last_write(call: ApiCall[LastWriteAsked]) -> Response:
    """The last event up to a moment that changed a part of the state."""
    asked = call.asked
    until = moment_asked(call, asked.until)

    def found() -> Response:
        machine = machine_of(call)
        return _one_write(machine, asked.path, machine.last_write(asked.path, until))

    return await call.hosting.compute(found)


def _one_write(machine: AnyMachine, written: str, step: Step[Any] | None) -> Response:
    if step is None:
        refuse_unknown(machine, written)
        return json_answer(OneWrite(None))
    path = path_of(written)
    if path[:1] == ("state",):
        path = without_state(path, step.after)
    values = value_at(step.before, path), value_at(step.after, path)
    return json_answer(OneWrite(written_form(Written(step.event, *values), path, short)))


class WatchAsked(PeriodOfPartAsked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a state in a period, at so many points at most."""

    points: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 200


class WatchedValues(msgspec.Struct, frozen=True):
    """Values of a part, each with the position that it has it from; null where it isn't there.

    The first one is that at the start.
    """

    positions: list[int]
    values: list[Any]


async def read_watch(call: ApiCall[WatchAsked]) -> Response:
    """The values of a part over time.

    Where it changed more often than there are ``points``, only the last change in each of as many
    equal pieces of the period.
    """
    asked = call.asked
    start, end = moment_asked(call, asked.start), moment_asked(call, asked.end)

    def found() -> Response:
        machine = machine_of(call)
        first, last = machine.between(start, end)
        values = machine.values(asked.path, start=first, end=last)
        points = list(_thinned(values, first, last, asked.points))
        if all(value is MISSING for _, value in points):
            refuse_unknown(machine, asked.path)
        path = path_of(asked.path)
        return json_answer(
            WatchedValues(
                [position for position, _ in points],
                [None if value is MISSING else short(value, path)[0] for _, value in points],
            )
        )

    return await call.hosting.compute(found)


def _thinned(
    values: Iterator[tuple[int, Any]], first: int, last: int, points: int
) -> Iterator[tuple[int, Any]]:
    begin = list(islice(values, points + 1))
    if len(begin) <= points:
        yield from begin
        return
    span = max(1, last - first)
    by_piece: dict[int, tuple[int, Any]] = {}
    for source in (begin, values):
        for position, value in source:
            by_piece[(position - first) * points // (span + 1)] = position, value
    yield from by_piece.values()


class CauseForm(msgspec.Struct, frozen=True):
    """What led to an event: the id that was recorded, and the event where it is in this store."""

    id: str
    event: EventForm | None


class ExplanationForm(msgspec.Struct, frozen=True):
    """How an event came about: its causes from its own back to the first, and its conversation.

    ``is_whole`` is false where there is more of either than is shown.
    """

    event: EventForm
    causes: Sequence[CauseForm]
    correlated: Sequence[EventForm]
    is_whole: bool


def explanation_form(found: Explanation, limit: int = _MAX_RELATED) -> ExplanationForm:
    """The explanation's form, with the first so many of the causes and of the conversation."""
    return ExplanationForm(
        event_form(found.event),
        [
            CauseForm(cause.id, None if cause.event is None else event_form(cause.event))
            for cause in islice(found.causes, limit)
        ],
        [event_form(event) for event in islice(found.correlated, limit)],
        found.is_whole and max(len(found.causes), len(found.correlated)) <= limit,
    )


async def read_explanation(call: ApiCall[NoParameters]) -> Response:
    """What led to an event, and what belongs to the same conversation."""
    position = position_of(call.segment("position"))

    def found() -> Response:
        store = call.on.blocking
        there = store.read(Query().after(position - 1).up_to(position))
        event = next(iter(there), None)
        if event is None:
            raise ProblemError(
                UNKNOWN, f"there is no event at position {position}", position=position
            )
        return json_answer(explanation_form(explained(store, event)))

    return await call.hosting.compute(found)


_STATE: Final = "/states/{fold}"

ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path=f"{_STATE}/blame",
        handle=read_blame,
        scope="read",
        parameters=BlameAsked,
        answers={200: BlameList},
    ),
    Endpoint(
        method="GET",
        path=f"{_STATE}/history",
        handle=read_history,
        scope="read",
        parameters=HistoryAsked,
        answers={200: WriteList},
    ),
    Endpoint(
        method="GET",
        path=f"{_STATE}/writes/next",
        handle=read_next_write,
        scope="read",
        parameters=NextWriteAsked,
        answers={200: OneWrite},
    ),
    Endpoint(
        method="GET",
        path=f"{_STATE}/writes/last",
        handle=read_last_write,
        scope="read",
        parameters=LastWriteAsked,
        answers={200: OneWrite},
    ),
    Endpoint(
        method="GET",
        path=f"{_STATE}/watch",
        handle=read_watch,
        scope="read",
        parameters=WatchAsked,
        answers={200: WatchedValues},
    ),
    Endpoint(
        method="GET",
        path="/events/{position}/explanation",
        handle=read_explanation,
        scope="read",
        answers={200: ExplanationForm},
    ),
)
