"""A debugger of history over HTTP: places, movements, breakpoints, values; and prints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from starlette.responses import Response

from everwhen import TimeMachine
from everwhen.debugging import LogLine, Session, Stop, Trigger, break_of, watch_of
from everwhen.debugging.command_parsing import condition_of
from everwhen.debugging.session import Which
from everwhen.errors import InvalidQueryError
from everwhen.exchange.cut_values import CutPart, cut_value
from everwhen.exchange.json_forms import EventForm, event_form
from everwhen.expressions import Expression
from everwhen.privacy.failure_texts import shown_failure
from everwhen.travel import Moment
from everwhen.web.answers import json_answer
from everwhen.web.api.selection import moment_asked
from everwhen.web.api.states import fold_and_query
from everwhen.web.debug_sessions import DebugSession
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.problems import INVALID, TOO_MANY

_MAX_TEXT: Final = 1_000

Move = Literal["step", "back", "goto", "continue", "reverse", "find", "next-write", "last-write"]


class GivenSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state that is debugged, and where to begin."""

    fold: str
    stream: str | None = None
    category: str | None = None
    at: str = "head"


class StopForm(msgspec.Struct, frozen=True):
    """Where a movement ended and why; ``hits`` are numbers of breakpoints.

    ``error`` is what the fold raised on the event there.
    """

    reason: str
    position: int
    event: EventForm | None
    hits: Sequence[int]
    error: str | None


class OpenedSession(msgspec.Struct, frozen=True):
    """A session, and where it stands."""

    id: str
    stop: StopForm


class GivenMove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A movement.

    ``events`` are for step and back, ``at`` is for goto, ``expression`` and ``which`` are for
    find, ``path`` is for the writes.
    """

    move: Move
    events: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1
    at: str | None = None
    expression: str | None = None
    which: Which = "next"
    path: str | None = None


class MovedForm(msgspec.Struct, frozen=True):
    """Where it stopped, null where there is no such place; and what breakpoints printed."""

    stop: StopForm | None
    output: Sequence[LogLine]


class GivenBreakpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to stop: a condition, a path or expression that changes, or events; one of the three.

    ``event`` is as in the terminal: ``BetPlaced on game-1 if event.amount > 5``. With a ``message``
    it prints that, with expressions in braces, and doesn't stop.
    """

    when: str | None = None
    path: str | None = None
    event: str | None = None
    message: Annotated[str, msgspec.Meta(max_length=_MAX_TEXT)] | None = None


class GivenBreakpoints(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All breakpoints: they replace those that there were."""

    breakpoints: Annotated[list[GivenBreakpoint], msgspec.Meta(max_length=50)]


class BreakpointForm(msgspec.Struct, frozen=True):
    """A breakpoint under its number."""

    number: int
    text: str
    message: str | None


class BreakpointList(msgspec.Struct, frozen=True):
    """The breakpoints of a session."""

    breakpoints: list[BreakpointForm]


class GivenExpression(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A path or an expression."""

    expression: str


class Evaluated(msgspec.Struct, frozen=True):
    """A value, and what was cut from it."""

    value: Any
    cut: list[CutPart]


async def open_session(call: ApiCall[NoParameters]) -> Response:
    """Begin to debug. A session ends when it is deleted, or idle for 10 minutes."""
    given: GivenSession = await call.json()
    moment = moment_asked(call, given.at)

    def opened() -> Response:
        fold, query = fold_and_query(call, given.fold, given.stream, given.category, call.on)
        machine = TimeMachine(call.on.blocking, fold, query, keep=False)
        machine.position_of(moment)
        found = call.hosting.debug_sessions.open(call.by.name, machine)
        with found.used() as session:
            return json_answer(OpenedSession(found.id, _stop_form(session, session.start(moment))))

    return await call.hosting.compute(opened)


async def move_session(call: ApiCall[NoParameters]) -> Response:
    """Move through history, for at most 30 s."""
    given: GivenMove = await call.json()
    found = _session_of(call)
    moment = moment_asked(call, _needed(given.at, "at") if given.move == "goto" else "head")

    def moved() -> Response:
        with found.used() as session:
            stop = _moved(session, given, moment)
            if stop is None:
                return json_answer(MovedForm(None, ()))
            return json_answer(MovedForm(_stop_form(session, stop), stop.logs))

    return await call.hosting.compute(moved)


def _moved(session: Session, given: GivenMove, moment: Moment) -> Stop | None:
    movements: dict[Move, Callable[[], Stop | None]] = {
        "step": lambda: session.step(given.events),
        "back": lambda: session.back(given.events),
        "goto": lambda: session.goto(moment),
        "continue": session.resume,
        "reverse": session.reverse,
        "find": lambda: session.find(
            Expression(_needed(given.expression, "expression")), given.which
        ),
        "next-write": lambda: session.next_write(_needed(given.path, "path")),
        "last-write": lambda: session.last_write(_needed(given.path, "path")),
    }
    return movements[given.move]()


def _needed(given: str | None, name: str) -> str:
    if given is None:
        raise InvalidQueryError(f"that movement needs {name!r}; give it")
    return given


async def set_breakpoints(call: ApiCall[NoParameters]) -> Response:
    """Replace the breakpoints of a session."""
    given: GivenBreakpoints = await call.json()
    found = _session_of(call)

    def done() -> Response:
        with found.used() as session:
            triggers = [(_trigger(session, one), one.message) for one in given.breakpoints]
            session.breakpoints.clear()
            made = [session.breakpoints.add(*one) for one in triggers]
            forms = [BreakpointForm(one.number, str(one), one.message) for one in made]
            return json_answer(BreakpointList(forms))

    return await call.hosting.compute(done)


def _trigger(session: Session, given: GivenBreakpoint) -> Trigger:
    match given.when, given.path, given.event:
        case str(when), None, None:
            return condition_of(Expression(when), session.machine)
        case None, str(path), None:
            return watch_of(path)
        case None, None, str(event):
            return break_of(event, session.machine)
    raise InvalidQueryError("a breakpoint has one of when, path and event; give one")


async def evaluate(call: ApiCall[NoParameters]) -> Response:
    """The value of a path or an expression where a session stands."""
    given: GivenExpression = await call.json()
    found = _session_of(call)

    def done() -> Response:
        with found.used() as session:
            return json_answer(Evaluated(*cut_value(session.evaluate(given.expression))))

    return await call.hosting.compute(done)


async def close_session(call: ApiCall[NoParameters]) -> Response:
    """End a session, also while it moves."""
    call.hosting.debug_sessions.delete(call.by.name, call.segment("id"))
    return Response(None, 204)


def _session_of(call: ApiCall[Any]) -> DebugSession:
    return call.hosting.debug_sessions.get(call.by.name, call.segment("id"))


def _stop_form(session: Session, stop: Stop) -> StopForm:
    event = session.event
    return StopForm(
        stop.reason,
        stop.position,
        None if event is None else event_form(event),
        [one.number for one in stop.hits],
        None if stop.error is None else shown_failure(stop.error, session.store.vault),
    )


_SESSION: Final = "/debug-sessions/{id}"

ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/debug-sessions",
        handle=open_session,
        scope="read",
        body=GivenSession,
        answers={200: OpenedSession},
        problems=(INVALID, TOO_MANY),
    ),
    Endpoint(
        method="POST",
        path=f"{_SESSION}/moves",
        handle=move_session,
        scope="read",
        body=GivenMove,
        answers={200: MovedForm},
        problems=(INVALID, TOO_MANY),
    ),
    Endpoint(
        method="POST",
        path=f"{_SESSION}/breakpoints",
        handle=set_breakpoints,
        scope="read",
        body=GivenBreakpoints,
        answers={200: BreakpointList},
        problems=(INVALID, TOO_MANY),
    ),
    Endpoint(
        method="POST",
        path=f"{_SESSION}/evaluations",
        handle=evaluate,
        scope="read",
        body=GivenExpression,
        answers={200: Evaluated},
        problems=(INVALID, TOO_MANY),
    ),
    Endpoint(
        method="DELETE", path=_SESSION, handle=close_session, scope="read", answers={204: None}
    ),
)
