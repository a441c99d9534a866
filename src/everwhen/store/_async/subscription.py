"""Following a query: what is there, then what comes, with no seam between."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from everwhen.backends._async.backend import Log
from everwhen.codec.codec import Codec
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.store.page_decoding import events_of_page
from everwhen.system.limits import NEWS_SECONDS
from everwhen.vocabulary.errors import InvalidQueryError, StoreClosedError
from everwhen.vocabulary.paging import PAGE_EVENTS
from everwhen.vocabulary.query import Query

_NEWEST: Final = Query().backwards()


class Subscription:
    """An endless iterator over a query's events, each once, in order.

    It pulls a page at a time, so a slow reader costs the writers and the memory nothing.
    ``position`` is how far it has come: every event at or before it that matches was delivered.
    ``from_now`` begins after the newest event that there is when it is made.
    Iteration ends when it or the store is closed; leave it with ``close`` or as a context manager.
    It raises `BeyondEndError` where the store ends before the position that it has come to, or was
    told to begin after: the store was restored to an earlier moment, say.
    """

    def __init__(
        self, backend: Log, codec: Codec, wanted: Query, asked: Query, *, from_now: bool
    ) -> None:
        ends = (
            wanted.last_position,
            wanted.recorded_until,
            wanted.max_version,
            wanted.max_events,
            wanted.occurred_until,
        )
        if wanted.reverse or any(end is not None for end in ends):
            raise InvalidQueryError(
                "a subscription has no end: leave out backwards, limit, up_to, to_version, as_at "
                "and as_of, or read() the query instead"
            )
        begin = wanted.after_position
        if from_now:  # at this moment, and so without awaiting anything
            newest = backend.read_here(_NEWEST, 1).slices
            begin = max(begin, newest[0].position if newest else 0)
        self._backend = backend
        self._codec = codec
        self._wanted = wanted
        self._asked = asked
        self._page: list[RecordedEvent[Any]] = []
        self._next = 0
        self._read_until = begin
        self._closed = False
        self.position = begin

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> RecordedEvent[Any]:
        while not self._closed:
            if self._next < len(self._page):
                return self._deliver()
            self.position = max(self.position, self._read_until)
            try:
                await self._pull()
            except StoreClosedError:
                break
        raise StopAsyncIteration

    def _deliver(self) -> RecordedEvent[Any]:
        event = self._page[self._next]
        self._next += 1
        more = self._page[self._next] if self._next < len(self._page) else None
        split = more is not None and more.position == event.position
        self.position = event.position - 1 if split else event.position
        return event

    async def _pull(self) -> None:
        """The next page; or, at the end, a while of waiting for news."""
        self._asked = msgspec.structs.replace(self._asked, after_position=self._read_until)
        page = await self._backend.read(self._asked, PAGE_EVENTS)
        self._page = events_of_page(page, self._asked, self._wanted, self._codec)
        self._next = 0
        self._read_until = page.cursor
        if page.end and not page.slices:
            while not self._closed and await self._backend.wait(page.cursor, NEWS_SECONDS) is False:
                pass

    async def close(self) -> None:
        """End the iteration, also one that is waiting in another thread or task."""
        self._closed = True

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()
