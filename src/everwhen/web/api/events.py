"""Events: pages of them, and one by its position."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal
from urllib.parse import urlencode

import msgspec
from starlette.responses import Response

from everwhen.codec.recorded_events import stored_slice
from everwhen.exchange.json_forms import EventForm
from everwhen.vocabulary import Query
from everwhen.web.answers import (
    IMMUTABLE,
    REVALIDATED,
    accepted,
    content_tag,
    is_known,
    tagged_answer,
)
from everwhen.web.api.event_pages import (
    EVENT_BATCH,
    JSON_LINES,
    EventPage,
    EventsFound,
    cloud_events,
    find_events,
    is_first,
    json_page,
)
from everwhen.web.api.selection import Count, EventsSifted, of_streams
from everwhen.web.endpoints import JSON, ApiCall, Endpoint, NoParameters
from everwhen.web.event_texts import event_text
from everwhen.web.problems import (
    BAD_REQUEST,
    EXPRESSION,
    NOT_ACCEPTABLE,
    RETIRED,
    SEALED,
    UNKNOWN,
    ProblemError,
)
from everwhen.web.recent_pages import KeptPage

MOST_EVENTS: Final = 1_000
MEDIA: Final = (JSON, JSON_LINES, EVENT_BATCH)


class PageAsked(EventsSifted, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of events: after or before a position, in the order asked for."""

    after: Count | None = None
    before: Count | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_EVENTS)] = 100
    order: Literal["forwards", "backwards"] = "forwards"

    @property
    def goes_on(self) -> bool:
        """Whether new events may come at its end."""
        bounds = (self.before, self.as_at, self.as_of)
        return self.order == "forwards" and all(bound is None for bound in bounds)

    @property
    def is_settled(self) -> bool:
        """Whether a page that is full is always the same, as long as its events are there."""
        bounds = (self.as_at, self.as_of, self.where)
        return self.order == "forwards" and all(bound is None for bound in bounds)

    def page_query(self) -> Query:
        """What to ask the store. Raises `InvalidQueryError`."""
        query = self.query().after(self.after or 0)
        if self.before is not None:
            query = query.up_to(max(0, self.before - 1))
        return query.backwards() if self.order == "backwards" else query


class EventsAsked(PageAsked, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A page of any streams' events: of those that are named, and of categories, any will do."""

    stream: tuple[str, ...] = ()
    category: tuple[str, ...] = ()

    def query(self) -> Query:
        """What to ask the store. Raises `InvalidQueryError`."""
        return of_streams(super().query(), self.stream, self.category)


async def read_events(call: ApiCall[EventsAsked]) -> Response:
    """Events by position: those that match, a page at a time, in JSON, JSON Lines or CloudEvents.

    Pages go by position, so they never shift. ``next`` is the URL of the next page, which is a
    ``Link`` for the other media types. A request reads a bounded part of history, so a page with a
    ``next`` may have fewer events than its limit, or none. A page that is full never changes but by
    erasure, retirement and upcasting, and neither does its entity tag; that of the last one is
    the head.
    """
    return await page_answer(call, call.asked.page_query())


async def page_answer(call: ApiCall[Any], query: Query) -> Response:
    """A page of the query's events, which has the bounds of the call's `PageAsked`."""
    asked: PageAsked = call.asked
    media = accepted(call.request, MEDIA)
    of_head = f"{MEDIA.index(media)}-{call.hosting.fingerprint}-head-"
    if asked.goes_on and of_head in call.request.headers.get("if-none-match", ""):
        head = (await call.on.store.head()).position
        if is_known(call.request, f"{of_head}{head}"):
            return tagged_answer(call.request, b"", f"{of_head}{head}")
    pages, key = call.on.pages, (media, call.request.scope["path"], call.query_string)
    kept = pages.get(key)
    if kept is not None and await is_first(call.on, query, kept.first):
        return _page_answer(call, media, kept.content, kept.tag, kept.following)
    pages.forget(key)
    found = await find_events(call.hosting, call.on, query, asked.limit, asked.condition())
    content = _content(found, media)
    following = None if found.is_last else _next_page(call, found.end)
    body = json_page(content, following, found.end) if media == JSON else content[0]
    tag = f"{of_head}{found.end}" if asked.goes_on and found.is_last else content_tag(body)
    if asked.is_settled and found.events and not found.is_last and call.on.store.vault is None:
        pages.keep(key, KeptPage(stored_slice(found.events[0]), body, tag, following))
    return _page_answer(call, media, body, tag, following)


def _page_answer(
    call: ApiCall[Any], media: str, content: bytes, tag: str, following: str | None
) -> Response:
    headers = {"Vary": "Accept"}
    if following is not None and media != JSON:
        headers["Link"] = f'<{following}>; rel="next"'
    return tagged_answer(call.request, content, tag, media=media, headers=headers)


def _content(found: EventsFound, media: str) -> list[bytes]:
    """The events' texts; of other media than JSON only one, of all of them."""
    texts = found.texts()
    if media == JSON:
        return texts
    if media == JSON_LINES:
        return [b"".join(text + b"\n" for text in texts)]
    return [cloud_events(found.events)]


def _next_page(call: ApiCall[Any], position: int) -> str:
    bound = "before" if call.asked.order == "backwards" else "after"
    kept = [item for item in call.request.query_params.multi_items() if item[0] != bound]
    kept.append((bound, str(position)))
    return f"{call.request.scope['path']}?{urlencode(kept)}"


async def read_event(call: ApiCall[NoParameters]) -> Response:
    """One event, by its position.

    It never changes, and may be kept for ever; where the store has a vault or upcasts it has to be
    asked for again.
    """
    position = position_of(call.segment("position"))
    query = Query().after(position - 1).up_to(position)
    found = [event async for event in call.on.store.read(query)]
    if not found:
        raise ProblemError(UNKNOWN, f"there is no event at position {position}", position=position)
    text = event_text(found[0])
    store = call.on.store
    may_change = store.vault is not None or store.event_types.has_upcasts
    cached = REVALIDATED if may_change else IMMUTABLE
    return tagged_answer(call.request, text, content_tag(text), cached=cached)


def position_of(text: str) -> int:
    """A position, which is 1 or more. Raises `ProblemError`."""
    if not text.isascii() or not text.isdigit() or not 0 < len(text) < 20 or int(text) < 1:
        raise ProblemError(BAD_REQUEST, f"{text[:40]!r} is no position; they are 1, 2, 3 …")
    return int(text)


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/events",
        handle=read_events,
        scope="read",
        parameters=EventsAsked,
        headers={"If-None-Match": "Entity tags of pages that the caller has."},
        answers={200: EventPage, 304: None},
        media=MEDIA,
        problems=(NOT_ACCEPTABLE, EXPRESSION, RETIRED, SEALED),
    ),
    Endpoint(
        method="GET",
        path="/events/{position}",
        handle=read_event,
        scope="read",
        answers={200: EventForm, 304: None},
        problems=(RETIRED, SEALED),
    ),
)
