"""Events in the order in which they occurred, out of the order in which they were recorded.

Mostly these are one and the same. What is *late*, recorded after something that occurred later, is
set aside when it is first read, and put in its place when everything is read once more. So memory
holds what is late, and nothing else of history.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

from everwhen.codec.recorded_events import RecordedEvent, own_metadata, stored_slice
from everwhen.vocabulary.microseconds import to_micros

Events = Sequence[RecordedEvent[Any]]

_BEFORE_ALL_MICROS: Final = -(1 << 63)
"""Earlier than every time."""


class ValidOrder:
    """Sorts a query's events by ``occurred_at``; those of one time stay as they were recorded.

    Give `add` every page, in the query's order. If any event was late, give the same pages to
    `merged` then, one by one. ``last`` is the last event in valid time.
    """

    def __init__(self, *, reverse: bool) -> None:
        self.last: RecordedEvent[Any] | None = None
        self.count = 0
        self._sign = -1 if reverse else 1
        self._late: list[RecordedEvent[Any]] = []
        self._reached = self._again = _BEFORE_ALL_MICROS
        self._next = 0

    @property
    def has_late(self) -> bool:
        """Whether any event so far was recorded after one that occurred later."""
        return bool(self._late)

    def add(self, events: Events) -> None:
        """Read a page for the first time."""
        self.count += len(events)
        reached = self._reached
        for event in events:
            time = self._time(event)
            if time >= reached:
                reached, self.last = time, event
            else:
                self._late.append(event)
        self._reached = reached

    def merged(self, events: Events) -> list[RecordedEvent[Any]]:
        """A page read again: without what is late in it, with what belongs before its events."""
        late, found = self._late_in_order, []
        for event in events:
            time = self._time(event)
            if time < self._again:
                continue
            self._again = time
            key = self._key(event)
            while self._next < len(late) and self._key(late[self._next]) < key:
                found.append(late[self._next])
                self._next += 1
            found.append(event)
        return found

    @cached_property
    def _late_in_order(self) -> list[RecordedEvent[Any]]:
        return sorted(self._late, key=self._key)

    def _time(self, event: RecordedEvent[Any]) -> int:
        metadata, sign = own_metadata(event), self._sign
        if metadata is None or metadata.occurred_at is None:
            return sign * stored_slice(event).recorded_at
        return sign * to_micros(metadata.occurred_at)

    def _key(self, event: RecordedEvent[Any]) -> tuple[int, int]:
        return self._time(event), self._sign * event.position
