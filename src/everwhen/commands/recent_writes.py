"""The newest end of the log, as far as one writer knows it by heart: what it wrote itself.

Each commit's receipt says where its events stand. As long as they follow one another without a
gap, nobody else has written, and a state that stands at one of these places can be brought up to
the last one without asking the store. After a gap the tail begins anew.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from everwhen.codec.commits import Write
from everwhen.codec.event_types import EventTypes
from everwhen.vocabulary.contract import Receipt
from everwhen.vocabulary.events import NewEvent, UnknownEvent
from everwhen.vocabulary.query import Query

_MAX_EVENTS: Final = 20_000  # some 10 MB; a state further back is read from the store


class Known(NamedTuple):
    """An event that was written: the typed one, and what queries ask of it."""

    position: int
    event: Any
    stream: str
    type: str
    tags: tuple[str, ...]

    def matches(self, query: Query) -> bool:
        """Whether the query, which has no bounds, asks for it."""
        return query.selects(self.stream, self.type, self.tags)


class RecentWrites:
    """The last events written, by tag. Safe from any thread.

    ``end`` is the position that it reaches to, and ``recorded_at`` that event's time.
    """

    def __init__(self, types: EventTypes, *, size: int = _MAX_EVENTS) -> None:
        self.end = 0
        self.recorded_at = 0
        self._types = types
        self._size = size
        self._start = 0
        self._lock = threading.Lock()
        self._events: deque[Known] = deque()
        self._by_tag: dict[str, deque[Known]] = {}

    def written(self, writes: Sequence[Write], receipt: Receipt) -> list[Known] | None:
        """The events of a commit; None where they are not all of classes that are declared."""
        events = [(write.stream, event) for write in writes for event in write.events]
        first = receipt.position - len(events) + 1
        known: list[Known] = []
        for position, (stream, event) in enumerate(events, first):
            inner, more = (event.event, event.tags) if isinstance(event, NewEvent) else (event, ())
            if isinstance(inner, UnknownEvent):
                return None
            declared = self._types.of(inner)
            own = declared.tags(inner) if declared.tags is not None else ()
            known.append(Known(position, inner, stream, declared.name, (*own, *more)))
        return known

    def add(self, events: Sequence[Known], recorded_at: int) -> None:
        """Go on with a whole commit's events. One that comes late is left out."""
        first, last = events[0].position, events[-1].position
        with self._lock:
            if last <= self.end:
                return
            if first != self.end + 1:
                self._start = first - 1
                self._events.clear()
                self._by_tag.clear()
            self.end = -1  # an interrupt from here on leaves nothing that is believed
            for known in events:
                self._events.append(known)
                for tag in dict.fromkeys(known.tags):
                    self._by_tag.setdefault(tag, deque()).append(known)
            while len(self._events) > self._size:
                self._drop_oldest()
            self.recorded_at = recorded_at
            self.end = last

    def _drop_oldest(self) -> None:
        oldest = self._events.popleft()
        self._start = oldest.position
        for tag in dict.fromkeys(oldest.tags):
            events = self._by_tag[tag]
            events.popleft()
            if not events:
                del self._by_tag[tag]

    def since(self, query: Query, after: int) -> tuple[list[Any], int, int] | None:
        """The query's typed events after a position, up to where, and when that was recorded.

        None where it can't be known without the store: a place before the tail, a query with
        bounds, or one that asks for no tag.
        """
        selectors = query.selectors
        if query != Query(selectors) or not all(s.tags for s in selectors):
            return None
        with self._lock:
            if not self._start <= after <= self.end:
                return None
            found: dict[int, Known] = {}
            for selector in selectors:
                for known in self._newer(selector.tags, after):
                    if known.matches(query):
                        found[known.position] = known
            end, recorded_at = self.end, self.recorded_at
        return [found[position].event for position in sorted(found)], end, recorded_at

    def _newer(self, tags: frozenset[str], after: int) -> Iterator[Known]:
        """The events after the position that carry the rarest of the tags."""
        rarest = min((self._by_tag.get(tag, ()) for tag in tags), key=len)
        for known in reversed(rarest):
            if known.position <= after:
                return
            yield known
