"""Streams: their names, where each stands, and its events."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from starlette.responses import Response

from everwhen.exchange.json_forms import StreamForm, stream_form
from everwhen.web.answers import json_answer
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.problems import UNKNOWN, ProblemError


class StreamsAsked(NoParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Streams whose names contain a text, of one category, after a name."""

    category: str | None = None
    contains: str = ""
    after: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 100


class StreamPage(msgspec.Struct, frozen=True):
    """Streams in the order of their names; ``more`` says whether there are others after them."""

    streams: list[StreamForm]
    more: bool


async def read_streams(call: ApiCall[StreamsAsked]) -> Response:
    """Streams, by name."""
    asked = call.asked
    found: list[StreamForm] = []
    async for info in call.on.store.streams(asked.category):
        if info.name > asked.after and asked.contains in info.name:
            if len(found) == asked.limit:
                return json_answer(StreamPage(found, more=True))
            found.append(stream_form(info))
    return json_answer(StreamPage(found, more=False))


async def read_stream(call: ApiCall[NoParameters]) -> Response:
    """Where a stream stands. Its entity tag is its version."""
    name = call.segment("stream")
    info = await call.on.store.stream(name)
    if info is None:
        raise ProblemError(UNKNOWN, f"there is no stream {name!r}", stream=name)
    return json_answer(stream_form(info), headers={"ETag": f'"{info.version}"'})


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/streams",
        handle=read_streams,
        scope="read",
        parameters=StreamsAsked,
        answers={200: StreamPage},
    ),
    Endpoint(
        method="GET",
        path="/streams/{stream}",
        handle=read_stream,
        scope="read",
        answers={200: StreamForm},
    ),
)
