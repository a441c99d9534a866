"""Streams: their names, where each stands, and its events."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlencode

import msgspec
from starlette.responses import Response

from everwhen.exchange.json_forms import StreamForm, stream_form
from everwhen.vocabulary import StreamInfo
from everwhen.web.answers import json_answer, tagged_answer
from everwhen.web.api.event_pages import EventPage
from everwhen.web.api.events import MEDIA, PageAsked, page_answer
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.problems import EXPRESSION, NOT_ACCEPTABLE, RETIRED, SEALED, UNKNOWN, ProblemError

_LOOKED_AT: Final = 50_000
"""Names that a request looks at: a tenth of a second's work."""
_NAMES_AT_ONCE: Final = 1_000


class StreamsAsked(NoParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Streams whose names contain a text, of one category, after a name."""

    category: str | None = None
    contains: str = ""
    after: str = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 100


class StreamPage(msgspec.Struct, frozen=True):
    """Streams in the order of their names, and where the next page is: null where none is.

    ``more`` says whether there is one.
    """

    streams: list[StreamForm]
    more: bool
    next: str | None


async def read_streams(call: ApiCall[StreamsAsked]) -> Response:
    """Streams, by name.

    A request looks at a bounded number of names, so a page with a ``next`` may have fewer streams
    than its limit, or none.
    """
    asked = call.asked
    size = _NAMES_AT_ONCE if asked.contains else asked.limit + 1
    found: list[StreamInfo] = []
    after, looked_at, is_end = asked.after, 0, False
    while not is_end and len(found) <= asked.limit and looked_at < _LOOKED_AT:
        page = await call.on.store.kernel.backend.streams(asked.category, after, size)
        found += [info for info in page if asked.contains in info.name]
        is_end = len(page) < size
        looked_at += size
        after = page[-1].name if page else after
    if len(found) > asked.limit:
        del found[asked.limit :]
        after, is_end = found[-1].name, False
    following = None if is_end else _next_page(call, after)
    forms = [stream_form(info) for info in found]
    return json_answer(StreamPage(forms, following is not None, following))


def _next_page(call: ApiCall[StreamsAsked], after: str) -> str:
    kept = [item for item in call.request.query_params.multi_items() if item[0] != "after"]
    return f"{call.request.scope['path']}?{urlencode([*kept, ('after', after)])}"


async def read_stream(call: ApiCall[NoParameters]) -> Response:
    """Where a stream stands. Its entity tag is its version."""
    name = call.segment("stream")
    info = await call.on.store.stream(name)
    if info is None:
        raise ProblemError(UNKNOWN, f"there is no stream {name!r}", stream=name)
    return tagged_answer(call.request, stream_form(info), str(info.version))


async def read_stream_events(call: ApiCall[PageAsked]) -> Response:
    """A stream's events, a page at a time, as those of the whole store."""
    name = call.segment("stream")
    if await call.on.store.stream(name) is None:
        raise ProblemError(UNKNOWN, f"there is no stream {name!r}", stream=name)
    return await page_answer(call, call.asked.page_query().stream(name))


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
        headers={"If-None-Match": "The version that the caller knows."},
        answers={200: StreamForm, 304: None},
    ),
    Endpoint(
        method="GET",
        path="/streams/{stream}/events",
        handle=read_stream_events,
        scope="read",
        parameters=PageAsked,
        headers={"If-None-Match": "Entity tags of pages that the caller has."},
        answers={200: EventPage, 304: None},
        media=MEDIA,
        problems=(NOT_ACCEPTABLE, EXPRESSION, RETIRED, SEALED),
    ),
)
