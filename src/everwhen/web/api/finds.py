"""Moments at which a condition holds: searches that go on after the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

import msgspec
from starlette.responses import Response, StreamingResponse

from everwhen import TimeMachine
from everwhen.codec.json_encoding import encode_json
from everwhen.debugging.breakpoints import OF_EVENTS
from everwhen.errors import ExpressionError
from everwhen.expressions import Expression
from everwhen.web.answers import json_answer
from everwhen.web.api.selection import moment_asked
from everwhen.web.api.states import fold_and_query
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.finds import Find, FindForm, Search, WhichFind
from everwhen.web.problems import INVALID, OF_ERRORS, TOO_MANY

_LOOK_SECONDS: Final = 0.2
"""Between two looks at a search: often enough for a bar that moves."""
_COMMENT_SECONDS: Final = 15
"""A connection on which nothing comes for longer is cut by many a proxy."""


class GivenFind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A condition on a state, in CEL, and where to look for it.

    ``which``: the first or last moment at which it holds, all of them (one for each event), or
    the transitions: the start, and each moment at which it begins or ceases to hold. Of these two
    there are at most ``limit``.
    """

    fold: str
    expression: str
    stream: str | None = None
    category: str | None = None
    which: WhichFind = "first"
    start: str = msgspec.field(name="from", default="start")
    end: str = msgspec.field(name="to", default="head")
    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 200


def state_condition(text: str) -> Expression:
    """A condition on states alone. Raises `ExpressionError`."""
    expression = Expression(text)
    if of_events := OF_EVENTS & expression.names:
        raise ExpressionError(
            f"a condition on states has no {', '.join(sorted(of_events))}; use fields of the state",
            text,
        )
    return expression


async def start_find(call: ApiCall[NoParameters]) -> Response:
    """Begin a search. It goes on by itself: ask for it by its id, or follow it.

    A caller has one at a time. The last 64 of all callers are kept.
    """
    given: GivenFind = await call.json()
    search = Search(
        state_condition(given.expression),
        given.which,
        moment_asked(call, given.start),
        moment_asked(call, given.end),
        given.limit,
    )

    def started() -> FindForm:
        fold, query = fold_and_query(call, given.fold, given.stream, given.category, call.on)
        machine = TimeMachine(call.on.blocking, fold, query, keep=False)
        machine.between(search.start, search.end)
        make = lambda: Find(call.by.name, machine, search)  # noqa: E731
        return call.hosting.finds.start(call.by.name, make).form

    form = await call.hosting.compute(started)
    return json_answer(form, 202, {"Location": f"/v1/finds/{form.id}"})


def _find_of(call: ApiCall[Any]) -> Find:
    return call.hosting.finds.get(call.by.name, call.segment("id"))


async def read_find(call: ApiCall[NoParameters]) -> Response:
    """How far a search has come, and what it found."""
    return json_answer(_find_of(call).form)


async def cancel_find(call: ApiCall[NoParameters]) -> Response:
    """End a search; what it found until then is the answer."""
    found = _find_of(call)
    found.cancel()
    return json_answer(found.form)


async def follow_find(call: ApiCall[NoParameters]) -> Response:
    """A search as it goes on, as server-sent events, until it is over."""
    return StreamingResponse(
        _followed(_find_of(call)),
        headers={"Cache-Control": "no-store"},
        media_type="text/event-stream",
    )


async def _followed(find: Find) -> AsyncIterator[bytes]:
    mark: tuple[object, ...] | None = None
    said = time.monotonic()
    while True:
        is_running = find.is_running
        if find.mark != mark:
            mark = find.mark
            yield b"data: %b\n\n" % encode_json(find.form)
            said = time.monotonic()
        elif time.monotonic() - said > _COMMENT_SECONDS:
            yield b":\n\n"
            said = time.monotonic()
        if not is_running:
            return
        await asyncio.sleep(_LOOK_SECONDS)


_EXPRESSION: Final = next(kind for error, kind in OF_ERRORS if error is ExpressionError)

ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/finds",
        handle=start_find,
        scope="read",
        body=GivenFind,
        answers={202: FindForm},
        problems=(_EXPRESSION, INVALID, TOO_MANY),
    ),
    Endpoint(
        method="GET", path="/finds/{id}", handle=read_find, scope="read", answers={200: FindForm}
    ),
    Endpoint(
        method="DELETE",
        path="/finds/{id}",
        handle=cancel_find,
        scope="read",
        answers={200: FindForm},
    ),
    Endpoint(
        method="GET",
        path="/finds/{id}/live",
        handle=follow_find,
        scope="read",
        answers={200: "text/event-stream"},
    ),
)
