"""States at any moment, by the folds that the server was started with."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from starlette.responses import Response

from everwhen import Fold, Query, TimeMachine
from everwhen.errors import InvalidQueryError
from everwhen.exchange.cut_values import MOST_ENTRIES, CutPart, cut_value
from everwhen.exchange.json_forms import utc_text
from everwhen.expressions.unknown_parts import without_state
from everwhen.state.paths import Path, existing_path, path_of, value_at
from everwhen.travel import StateAt
from everwhen.web.answers import json_answer
from everwhen.web.api.selection import moment_asked
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.hosting import HostedStore
from everwhen.web.machines import AnyMachine
from everwhen.web.problems import UNKNOWN, ProblemError

_WORDS: Final = {
    "document": "the newest value of each field of one stream's events",
    "documents": "the newest value of each field of every stream's events, by stream",
}


class StateSelected(NoParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose state: of one stream, of a category, or of everything."""

    stream: str | None = None
    category: str | None = None


class StateAsked(StateSelected, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A state at a moment, as people write it: ``head``, ``12``, ``2h ago`` or ``v3``.

    ``path`` gives only that part. Containers of more than ``max_entries`` entries are cut.
    """

    at: str = "head"
    path: str = ""
    max_entries: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = MOST_ENTRIES


class StateForm(msgspec.Struct, frozen=True):
    """A state, and the last event in it: its position (0 before any), version and time.

    ``cut`` are the containers and long texts that aren't whole: a path leads into each.
    """

    state: Any
    position: int
    version: int
    recorded_at: str | None
    until: int
    cut: list[CutPart]


class FoldForm(msgspec.Struct, frozen=True):
    """A fold by the name that it is asked for, and what it makes."""

    name: str
    words: str


class FoldList(msgspec.Struct, frozen=True):
    """The folds that there are."""

    folds: list[FoldForm]


def machine_of(call: ApiCall[Any], on: HostedStore | None = None) -> AnyMachine:
    """A time machine for the state that the call is about, to be used in a thread.

    Raises `ProblemError` for a fold, a stream or a category that there isn't. It writes nothing.
    """
    asked: StateSelected = call.asked
    return machine_for(call, call.segment("fold"), asked.stream, asked.category, on or call.on)


def machine_for(
    call: ApiCall[Any], name: str, stream: str | None, category: str | None, on: HostedStore
) -> AnyMachine:
    """A time machine for a fold over a stream, a category or everything; see `machine_of`."""
    fold, query = fold_and_query(call, name, stream, category, on)
    return call.hosting.machines.get(
        (on, name, query), lambda: TimeMachine(on.blocking, fold, query, keep=False)
    )


def fold_and_query(
    call: ApiCall[Any], name: str, stream: str | None, category: str | None, on: HostedStore
) -> tuple[Fold[Any], Query]:
    """What a time machine is made for; to be used in a thread. Raises `ProblemError`."""
    fold = call.hosting.folds.get(name)
    if fold is None:
        known = ", ".join(sorted(call.hosting.folds))
        raise ProblemError(
            UNKNOWN, f"there is no fold {name!r} here; there are: {known}", fold=name
        )
    return fold, _query_of(on, stream, category)


def _query_of(on: HostedStore, stream: str | None, category: str | None) -> Query:
    if stream is not None and category is not None:
        raise InvalidQueryError("a stream and a category are named; name only one of them")
    if stream is not None:
        if on.blocking.stream(stream) is None:
            raise ProblemError(UNKNOWN, f"there is no stream {stream!r}", stream=stream)
        return Query().stream(stream)
    if category is not None:
        query = Query().category(category)
        if next(iter(on.blocking.read(query.skipping_retired().limit(1))), None) is None:
            raise ProblemError(UNKNOWN, f"there is no category {category!r}", category=category)
        return query
    return Query()


def existing_part(state: Any, written: str) -> Path:
    """The path of a part that is there. Raises `InvalidPathError`, which says what is."""
    return existing_path(state, without_state(path_of(written), state))


def recorded_text(at: StateAt[Any]) -> str | None:
    """When the last event of a state was recorded; None before any."""
    return None if at.recorded_at is None else utc_text(at.recorded_at)


async def read_folds(call: ApiCall[NoParameters]) -> Response:
    """The folds that states can be asked for by."""
    return json_answer(
        FoldList(
            [
                FoldForm(name, _WORDS.get(name) or f"fold {fold.name}, version {fold.version}")
                for name, fold in sorted(call.hosting.folds.items())
            ]
        )
    )


async def read_state(call: ApiCall[StateAsked]) -> Response:
    """The state at a moment, or a part of it."""
    asked = call.asked
    moment = moment_asked(call, asked.at)

    def found() -> Response:
        at = machine_of(call).travel_to(moment)
        path = existing_part(at.state, asked.path)
        state, cut = cut_value(value_at(at.state, path), path, max_entries=asked.max_entries)
        form = StateForm(state, at.position, at.version, recorded_text(at), at.until, cut)
        return json_answer(form)

    return await call.hosting.compute(found)


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/folds",
        handle=read_folds,
        scope="read",
        answers={200: FoldList},
        of_branch=False,
    ),
    Endpoint(
        method="GET",
        path="/states/{fold}",
        handle=read_state,
        scope="read",
        parameters=StateAsked,
        answers={200: StateForm},
    ),
)
