"""A page of events: how far a request reads, where the next one goes on, and what it looks like.

A request looks at a bounded number of events, however few match: ``next`` goes on where it
stopped. Events that an upcast made of one share its position, and are never on two pages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from everwhen.codec.json_encoding import encode_json
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.exchange.cloudevents import CloudEventsText
from everwhen.exchange.json_forms import EventForm
from everwhen.store.page_decoding import events_of_page
from everwhen.vocabulary import Query
from everwhen.vocabulary.contract import Page, StoredSlice
from everwhen.web.event_texts import event_text

if TYPE_CHECKING:
    from everwhen.web.hosting import HostedStore, Hosting

JSON_LINES: Final = "application/x-ndjson"
EVENT_BATCH: Final = "application/cloudevents-batch+json"

_LOOKED_AT: Final = 20_000
"""Events that a request looks at: a tenth of a second's work, with a condition some more."""
_PAGE_BYTES: Final = 16 << 20
"""Where a page ends before it has all the events that were asked for: one event may be as large."""


class EventPage(msgspec.Struct, frozen=True):
    """Events, and where the next page is: null where there is none for now.

    ``end`` is the position up to which, or, backwards, down to which, everything that matches is
    in this page or in those before it.
    """

    events: list[EventForm]
    next: str | None
    end: int


class EventsFound:
    """Takes a query's pages, as they are read, until one of a request's limits is reached.

    ``end`` is the position at which reading stopped, ``is_last`` says that there is nothing after.
    """

    def __init__(
        self, query: Query, limit: int, holds: Callable[[RecordedEvent[Any]], bool] | None
    ) -> None:
        is_sifted = holds is not None or query.occurred_until is not None
        self.query = query if is_sifted else query.limit(limit)
        self.events: list[RecordedEvent[Any]] = []
        self.end = 0
        self.is_last = False
        self._limit = limit
        self._holds = holds
        self._looked_at = 0

    def take(self, page: Page, events: Sequence[RecordedEvent[Any]]) -> bool:
        """Take a page, whose events these are. True where it was the last one needed."""
        holds, found = self._holds, self.events
        for event in events:
            if len(found) >= self._limit and event.position != found[-1].position:
                return self._full()
            if holds is None or holds(event):
                found.append(event)
        self.end, self.is_last = page.cursor, page.end
        if len(found) >= self._limit:
            return self._full()
        self._looked_at += max(len(page.slices), len(events))
        return page.end or self._looked_at >= _LOOKED_AT

    def _full(self) -> bool:
        self.end, self.is_last = self.events[-1].position, False
        return True

    def texts(self) -> list[bytes]:
        """The events in JSON, each on one line; fewer of them where they are very large."""
        texts: list[bytes] = []
        size = 0
        for at, event in enumerate(self.events):
            text = event_text(event)
            size += len(text)
            if size > _PAGE_BYTES and at and event.position != self.events[at - 1].position:
                del self.events[at:]
                self._full()
                break
            texts.append(text)
        return texts


async def find_events(
    hosting: Hosting,
    on: HostedStore,
    query: Query,
    limit: int,
    holds: Callable[[RecordedEvent[Any]], bool] | None,
) -> EventsFound:
    """The query's next events, at most ``limit`` of them; conditions are evaluated in a thread."""
    found = EventsFound(query, limit, holds)
    if holds is not None:
        await hosting.compute(_find_aside, on, found)
        return found
    kernel = on.store.kernel
    async for page, asked, wanted in kernel.pages(found.query):
        if found.take(page, events_of_page(page, asked, wanted, kernel.codec)):
            break
    return found


def _find_aside(on: HostedStore, found: EventsFound) -> None:
    kernel = on.blocking.kernel
    for page, asked, wanted in kernel.pages(found.query):
        if found.take(page, events_of_page(page, asked, wanted, kernel.codec)):
            break


async def is_first(on: HostedStore, query: Query, stored: StoredSlice) -> bool:
    """Whether the slice is still the query's first one. Raises what reading the query raises."""
    page, _, _ = await on.store.kernel.one_page(query.limit(1), 1)
    return bool(page.slices) and page.slices[0] == stored


def json_page(texts: Sequence[bytes], following: str | None, end: int) -> bytes:
    """An `EventPage`, of events that are JSON already."""
    return b'{"events":[%b],"next":%b,"end":%d}' % (b",".join(texts), encode_json(following), end)


def cloud_events(events: Sequence[RecordedEvent[Any]]) -> bytes:
    """The events as a batch of CloudEvents 1.0 in JSON."""
    writer = CloudEventsText("urn:everwhen", part=True)
    lines = (writer.of(events) + writer.rest()).splitlines()
    return b"[%b]" % b",".join(lines)
