"""From a backend's page to recorded events, and on to the next page."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from everwhen.codec import Codec
from everwhen.contract import Page
from everwhen.matching import picked
from everwhen.query import Query
from everwhen.recorded import RecordedEvent, entries_of, recorded_events

PAGE_EVENTS: Final = 2_000


def events_of_page(
    page: Page, asked: Query, wanted: Query, codec: Codec
) -> list[RecordedEvent[Any]]:
    """The page's matching events in the query's direction.

    ``asked`` is the query in terms of stored types, ``wanted`` in terms of current ones.
    """
    found: list[RecordedEvent[Any]] = []
    for stored in page.slices:
        entries = entries_of(stored)
        events = recorded_events(stored, entries, picked(asked, stored, entries), codec)
        if asked.reverse:
            events.reverse()
        found += events
    if codec.types.has_upcasts and asked.selectors != wanted.selectors:
        return [event for event in found if _still_wanted(event, wanted)]
    return found


def _still_wanted(event: RecordedEvent[Any], wanted: Query) -> bool:
    """Whether an event, once upcast, is of a type that was asked for."""
    return any(
        (not s.types or event.type in s.types)
        and s.tags.issubset(event.tags)
        and s.reaches(event.stream)
        for s in wanted.selectors
    )


def next_page(asked: Query, page: Page) -> Query:
    """The same query from where the page ended."""
    if asked.reverse:
        return msgspec.structs.replace(asked, last_position=page.cursor - 1)
    return msgspec.structs.replace(asked, after_position=page.cursor)
