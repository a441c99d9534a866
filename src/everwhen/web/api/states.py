"""States at any moment, by the folds that the server was started with."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.responses import Response

from everwhen import Query, TimeMachine
from everwhen.errors import InvalidQueryError
from everwhen.exchange.json_forms import utc_text
from everwhen.state import plain
from everwhen.web.answers import json_answer
from everwhen.web.api.selection import moment_asked
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.problems import UNKNOWN, ProblemError


class StateSelected(NoParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose state: of one stream, of a category, or of everything."""

    stream: str | None = None
    category: str | None = None


class StateAsked(StateSelected, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A state at a moment, as people write it: ``head``, ``12``, ``2h ago`` or ``v3``."""

    at: str = "head"


class StateForm(msgspec.Struct, frozen=True):
    """A state, and the last event in it: its position (0 before any), version and time."""

    state: Any
    position: int
    version: int
    recorded_at: str | None
    until: int


def machine_of(call: ApiCall[Any]) -> TimeMachine[Any]:
    """A time machine for the state that the call is about, to be used in a thread.

    Raises `ProblemError` for a fold or a stream that there isn't. It writes nothing.
    """
    name = call.segment("fold")
    fold = call.hosting.folds.get(name)
    if fold is None:
        known = ", ".join(sorted(call.hosting.folds))
        raise ProblemError(
            UNKNOWN, f"there is no fold {name!r} here; there are: {known}", fold=name
        )
    asked: StateSelected = call.asked
    if asked.stream is not None and asked.category is not None:
        raise InvalidQueryError("a stream and a category are named; name only one of them")
    query = Query()
    if asked.stream is not None:
        if call.on.blocking.stream(asked.stream) is None:
            raise ProblemError(UNKNOWN, f"there is no stream {asked.stream!r}", stream=asked.stream)
        query = query.stream(asked.stream)
    if asked.category is not None:
        query = query.category(asked.category)
    return TimeMachine(call.on.blocking, fold, query, keep=False)


async def read_state(call: ApiCall[StateAsked]) -> Response:
    """The state at a moment."""
    moment = moment_asked(call, call.asked.at)

    def found() -> StateForm:
        at = machine_of(call).travel_to(moment)
        recorded = None if at.recorded_at is None else utc_text(at.recorded_at)
        return StateForm(plain(at.state), at.position, at.version, recorded, at.until)

    return json_answer(await call.hosting.compute(found))


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/states/{fold}",
        handle=read_state,
        scope="read",
        parameters=StateAsked,
        answers={200: StateForm},
    ),
)
