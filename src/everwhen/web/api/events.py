"""Events: pages of them, one by its position, and those to come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

import msgspec
from starlette.responses import Response, StreamingResponse

from everwhen.exchange.json_forms import EventForm, event_form
from everwhen.vocabulary import Query
from everwhen.web.answers import IMMUTABLE, json_answer, tagged_answer
from everwhen.web.api.selection import Count, EventsSelected
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.problems import BAD_REQUEST, UNKNOWN, ProblemError

MOST_EVENTS: Final = 1_000


class EventsAsked(EventsSelected, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of events: after or before a position, in the order asked for."""

    after: Count | None = None
    before: Count | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_EVENTS)] = 100
    order: Literal["forwards", "backwards"] = "forwards"


class EventPage(msgspec.Struct, frozen=True):
    """Events, and where the next page is: null where there is none for now.

    ``end`` is the position up to which, or, backwards, down to which, nothing more matches.
    """

    events: list[EventForm]
    next: str | None
    end: int


async def read_events(call: ApiCall[EventsAsked]) -> Response:
    """Events by position: those that match, a page at a time.

    Pages go by position, so they never shift. A page that is full never changes but by erasure,
    retirement and upcasting; its entity tag says so.
    """
    asked = call.asked
    head = (await call.on.store.head()).position
    query = asked.query().after(asked.after or 0)
    if asked.before is not None:
        query = query.up_to(max(0, asked.before - 1))
    backwards = asked.order == "backwards"
    if backwards:
        query = query.backwards()
    found = [event async for event in call.on.store.read(query.limit(asked.limit))]
    forms = [event_form(event) for event in found]
    is_full = len(found) == asked.limit
    end = found[-1].position if is_full else (asked.after or 0) if backwards else head
    following = _next_page(call, end) if is_full else None
    return json_answer(EventPage(forms, following, end))


def _next_page(call: ApiCall[EventsAsked], position: int) -> str:
    backwards = call.asked.order == "backwards"
    kept = [
        (name, value)
        for name, value in call.request.query_params.multi_items()
        if name != ("before" if backwards else "after")
    ]
    kept.append(("before" if backwards else "after", str(position)))
    return f"{call.request.scope['path']}?{urlencode(kept)}"


async def read_event(call: ApiCall[NoParameters]) -> Response:
    """One event, by its position."""
    position = position_of(call.segment("position"))
    query = Query().after(position - 1).up_to(position)
    found = [event async for event in call.on.store.read(query)]
    if not found:
        raise ProblemError(UNKNOWN, f"there is no event at position {position}", position=position)
    event = found[0]
    tag = f"{event.metadata.event_id}-{event.metadata.schema_version}"
    return tagged_answer(call.request, lambda: event_form(event), tag, cached=IMMUTABLE)


def position_of(text: str) -> int:
    """A position, which is 1 or more. Raises `ProblemError`."""
    if not text.isascii() or not text.isdigit() or not 0 < len(text) < 20 or int(text) < 1:
        raise ProblemError(BAD_REQUEST, f"{text[:40]!r} is no position; they are 1, 2, 3 …")
    return int(text)


class LiveAsked(EventsSelected, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events are followed, and after which position: now, unless one is given."""

    after: Count | None = None


async def follow_events(call: ApiCall[LiveAsked]) -> Response:
    """Events as they come, as server-sent events (``text/event-stream``).

    Each has its position as ``id``; ``Last-Event-ID`` goes on after it.
    """
    given = call.request.headers.get("last-event-id")
    after = call.asked.after if given is None else position_of(given) if given != "0" else 0
    query = call.asked.query()
    if after is None:
        after = (await call.on.store.head()).position
    return StreamingResponse(
        _live(call, query.after(after)),
        headers={"Cache-Control": "no-store"},
        media_type="text/event-stream",
    )


async def _live(call: ApiCall[Any], query: Query) -> AsyncIterator[bytes]:
    encode = msgspec.json.encode
    async with call.on.store.subscribe(query) as following:
        async for event in following:
            yield b"id: %d\ndata: %b\n\n" % (event.position, encode(event_form(event)))


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/events",
        handle=read_events,
        scope="read",
        parameters=EventsAsked,
        answers={200: EventPage},
    ),
    Endpoint(
        method="GET",
        path="/events/live",
        handle=follow_events,
        scope="read",
        parameters=LiveAsked,
        headers={"Last-Event-ID": "The position after which to go on."},
        answers={200: "text/event-stream"},
    ),
    Endpoint(
        method="GET",
        path="/events/{position}",
        handle=read_event,
        scope="read",
        answers={200: EventForm},
    ),
)
