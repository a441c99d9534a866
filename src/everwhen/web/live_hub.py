"""Who follows a branch: one look at the store for all of them.

A follower catches up by pages of its own. It joins the hub once it has come at least as far as the
hub has handed out, without waiting in between, and takes from the hub what comes after its own
position: no event is left out at the change, and none comes twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import msgspec

from everwhen.aio import Store
from everwhen.codec.json_encoding import encode_json
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.errors import BeyondEndError, EverwhenError, StoreClosedError
from everwhen.exchange.json_forms import utc_text
from everwhen.store.page_decoding import events_of_page
from everwhen.system.limits import NEWS_SECONDS
from everwhen.vocabulary import Query
from everwhen.vocabulary.paging import PAGE_EVENTS
from everwhen.web.event_texts import event_text
from everwhen.web.problems import problem_content, problem_of
from everwhen.web.server_end import is_server_ending

COMMENT: Final = b": still here\n\n"
COMMENT_SECONDS: Final = 15.0
"""Silence after which a comment is sent: proxies close what is silent for half a minute or more."""

_QUEUE_BYTES: Final = 1 << 20
"""What may wait for one follower. Whoever is slower is sent away, and resumes by the last id."""
_HEAD_SECONDS: Final = 1.0
_TICK_SECONDS: Final = 0.25
_LOG: Final = logging.getLogger("everwhen.web")


class LiveFilter(msgspec.Struct, frozen=True):
    """Which events a follower gets; equal ones are asked once for all who have them."""

    query: Query
    where: str | None
    holds: Callable[[RecordedEvent[Any]], bool] | None

    @property
    def key(self) -> tuple[Query, str | None]:
        """What tells it from others."""
        return self.query.after(0), self.where

    def takes(self, event: RecordedEvent[Any]) -> bool:
        """Whether the event is one of them."""
        return self.query.selects(event.stream, event.type, event.tags) and (
            self.holds is None or self.holds(event)
        )


class LiveFollower:
    """What waits to be sent to one follower, which has everything up to ``after``."""

    def __init__(self, wanted: LiveFilter, after: int) -> None:
        self.wanted = wanted
        self.after = after
        self.given_at = 0.0
        self._blocks: deque[bytes] = deque()
        self._size = 0
        self._is_ended = False
        self._waiter: asyncio.Future[None] | None = None

    def give(self, block: bytes, now: float) -> None:
        """Have it sent; or, where too much waits already, end once the last was taken."""
        if self._is_ended:
            return
        self._size += len(block)
        self.given_at = now
        if self._blocks and self._size > _QUEUE_BYTES:
            self._blocks.clear()
            self._is_ended = True
        else:
            self._blocks.append(block)
        self._wake()

    def end(self) -> None:
        """Nothing more comes after what waits."""
        self._is_ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def blocks(self) -> AsyncIterator[bytes]:
        """What is to be sent, as it comes."""
        while True:
            while self._blocks:
                block = b"".join(self._blocks)
                self._blocks.clear()
                self._size = 0
                yield block
            if self._is_ended:
                return
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter


class LiveHub:
    """Hands what is new on a branch to all who follow it.

    ``position`` is how far it has handed out; None while nobody follows. ``end_all`` ends the live
    answers of the whole application, once its server is about to end.
    """

    def __init__(self, store: Store, end_all: Callable[[], None]) -> None:
        self.position: int | None = None
        self._store = store
        self._end_all = end_all
        self._followers: dict[tuple[Query, str | None], set[LiveFollower]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._head = b""

    def join(self, follower: LiveFollower, came: int) -> None:
        """Give it what comes after what it has.

        ``came`` is how far it has read the store: at least as far as this has handed out.
        """
        follower.given_at = asyncio.get_running_loop().time()
        self._followers.setdefault(follower.wanted.key, set()).add(follower)
        if self.position is None:
            self.position = came
            self._head = b""
            self._tasks = [asyncio.ensure_future(work) for work in (self._follow(), self._tick())]

    def leave(self, follower: LiveFollower) -> None:
        """Give it nothing more. Without followers, nothing is looked at."""
        key = follower.wanted.key
        alike = self._followers.get(key, set())
        alike.discard(follower)
        if not alike:
            self._followers.pop(key, None)
        if not self._followers:
            self.close()

    def close(self) -> None:
        """End all."""
        for follower in self._all():
            follower.end()
        self._followers.clear()
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        self.position = None

    def _all(self) -> list[LiveFollower]:
        return [follower for alike in self._followers.values() for follower in alike]

    async def _follow(self) -> None:
        kernel = self._store.kernel
        position = self.position or 0
        try:
            while True:
                query = Query().after(position)
                page, asked, wanted = await kernel.one_page(query, PAGE_EVENTS)
                self._hand_out(events_of_page(page, asked, wanted, kernel.codec))
                self.position = position = page.cursor
                if page.end and not page.slices:
                    while await kernel.backend.wait(position, NEWS_SECONDS) is False:
                        pass
        except StoreClosedError:
            self.close()
        except BeyondEndError as error:  # to ask again would lead here again
            _LOG.error("live answers end: %s", error)
            block, now = problem_block(error), asyncio.get_running_loop().time()
            for follower in self._all():
                follower.give(block, now)
            self.close()
        except EverwhenError as error:
            _LOG.warning("live answers end, to be asked for again: %s", error)
            self.close()

    def _hand_out(self, events: Sequence[RecordedEvent[Any]]) -> None:
        if not events:
            return
        now = asyncio.get_running_loop().time()
        texts: dict[int, bytes] = {}
        for alike in [*self._followers.values()]:
            wanted = next(iter(alike)).wanted
            chosen = [event for event in events if wanted.takes(event)]
            blocks, failure = live_blocks(chosen, texts)
            shared = b"".join(blocks)
            for follower in [*alike]:
                block = shared
                if follower.after >= events[0].position:
                    zipped = zip(chosen, blocks, strict=False)
                    block = b"".join(b for e, b in zipped if e.position > follower.after)
                if block:
                    follower.give(block, now)
                if failure:
                    follower.give(failure, now)
                    follower.end()
        last = events[-1]
        head = {"position": last.position, "recorded_at": utc_text(last.recorded_at)}
        self._head = named_block("head", head, last.position)

    async def _tick(self) -> None:
        """Tell of a new head at most once a second, and break a long silence."""
        loop = asyncio.get_running_loop()
        told_at = 0.0
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            if is_server_ending():
                self._end_all()
            now = loop.time()
            if self._head and now - told_at >= _HEAD_SECONDS:
                told_at = now
                head, self._head = self._head, b""
                for follower in self._all():
                    if self.position is not None and follower.after <= self.position:
                        follower.give(head, now)
            for follower in self._all():
                if now - follower.given_at >= COMMENT_SECONDS:
                    follower.give(COMMENT, now)


def named_block(name: str, data: dict[str, Any], position: int) -> bytes:
    """A server-sent event that is none of the store's; all up to the position has been sent."""
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (position, name.encode(), encode_json(data))


def problem_block(error: EverwhenError) -> bytes:
    """A server-sent event that tells of an error; nothing comes after it."""
    return b"event: problem\ndata: %b\n\n" % encode_json(problem_content(problem_of(error)))


def live_blocks(
    events: Sequence[RecordedEvent[Any]], known: dict[int, bytes] | None = None
) -> tuple[list[bytes], bytes]:
    """Events as server-sent ones; and, where one can't be shown, what is sent in its place.

    Of events at one position only the last has the id, or resuming would skip those after it.
    ``known`` remembers the texts of events, for others who get the same.
    """
    texts = {} if known is None else known
    blocks: list[bytes] = []
    for at, event in enumerate(events):
        try:
            text = texts.get(id(event)) or texts.setdefault(id(event), event_text(event))
        except EverwhenError as error:
            return blocks, problem_block(error)
        is_last = at + 1 == len(events) or events[at + 1].position != event.position
        name = b"id: %d\n" % event.position if is_last else b""
        blocks.append(b"%bdata: %b\n\n" % (name, text))
    return blocks, b""
