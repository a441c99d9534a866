"""Events as they come, by server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from starlette.responses import Response, StreamingResponse

from everwhen.errors import InvalidQueryError
from everwhen.vocabulary import Query
from everwhen.web.api.event_pages import find_events
from everwhen.web.api.events import position_of
from everwhen.web.api.selection import Count, EventsSelected
from everwhen.web.endpoints import EVENT_STREAM, ApiCall, Endpoint
from everwhen.web.live_hub import (
    COMMENT,
    COMMENT_SECONDS,
    LiveFilter,
    LiveFollower,
    live_blocks,
    named_block,
)
from everwhen.web.problems import BEYOND_END, EXPRESSION, TOO_MANY

_PAGE_EVENTS: Final = 500
_NO_EVENT: Final = LiveFilter(Query(), "false", lambda _: False)
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class LiveAsked(EventsSelected, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events are followed, and after which position: now, unless one is given.

    With ``heads`` no event is sent, but where the store stands: now, and as that changes.
    """

    after: Count | None = None
    heads: bool = False


async def follow_events(call: ApiCall[LiveAsked]) -> Response:
    """Events as they come, as server-sent events (``text/event-stream``).

    First those that there are after the position, then ``caught-up`` with the position, then what
    comes. ``head`` tells where the store stands, at most once a second. The ``id`` of each is a
    position, after which ``Last-Event-ID`` goes on: nothing is left out, and nothing comes twice.
    Whoever reads too slowly is sent away, and resumes. ``problem`` is the last one: an event that
    can't be shown, or a store that now ends before what was sent.
    """
    given = call.request.headers.get("last-event-id")
    after = call.asked.after
    if given is not None:
        after = 0 if given == "0" else position_of(given)
    query = call.asked.query()
    if query.recorded_until is not None or query.occurred_until is not None:
        raise InvalidQueryError("what is followed has no end: leave out as_at and as_of")
    wanted = LiveFilter(query, call.asked.where, call.asked.condition())
    if call.asked.heads:
        wanted, after = _NO_EVENT, None
    if after is not None:
        await call.on.store.kernel.backend.wait(after, 0)
    if call.request.method == "HEAD":
        return Response(None, headers=_HEADERS, media_type=EVENT_STREAM)
    if after is None:
        after = (await call.on.store.head()).position
    return StreamingResponse(_live(call, wanted, after), headers=_HEADERS, media_type=EVENT_STREAM)


async def _live(call: ApiCall[LiveAsked], wanted: LiveFilter, after: int) -> AsyncIterator[bytes]:
    hub = call.on.hub
    loop = asyncio.get_running_loop()
    sent_at = loop.time()
    is_there = False
    while not is_there:
        query = wanted.query.after(after)
        found = await find_events(call.hosting, call.on, query, _PAGE_EVENTS, wanted.holds)
        blocks, failure = live_blocks(found.events)
        block = b"".join(blocks) + failure
        if not block and loop.time() - sent_at > COMMENT_SECONDS:
            block = COMMENT
        if block:
            yield block
            sent_at = loop.time()
        if failure:
            return
        after = max(after, found.end)
        is_there = found.is_last and found.end >= (hub.position or 0)
    follower = LiveFollower(wanted, after)
    hub.join(follower, found.end)
    try:
        yield named_block("caught-up", {"position": after}, after)
        async for block in follower.blocks():
            yield block
    finally:
        hub.leave(follower)


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/events/live",
        handle=follow_events,
        scope="read",
        parameters=LiveAsked,
        headers={"Last-Event-ID": "The position after which to go on."},
        answers={200: EVENT_STREAM},
        problems=(BEYOND_END, EXPRESSION, TOO_MANY),
    ),
)
