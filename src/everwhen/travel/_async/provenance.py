"""How a state came about: who wrote each part of it last, and what led to an event."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Any, Final
from uuid import UUID

import msgspec

from everwhen.codec.json_encoding import encode_json
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.state.differences import Change
from everwhen.state.paths import MISSING, Path, keys_of, part_of, value_at
from everwhen.store._async.store import EVERYTHING, Store
from everwhen.store.page_decoding import events_of_page
from everwhen.travel._async.timeline import Timeline
from everwhen.travel.destinations import Blame, Cause, Explanation
from everwhen.travel.window import HistoryWindow
from everwhen.vocabulary.paging import PAGE_EVENTS, next_page

_MAX_RELATED: Final = 1_000
"""Causes, and events of a correlation: more than anybody reads."""


async def blamed(
    timeline: Timeline[Any], position: int, path: Path, limit: int | None = None
) -> Blame:
    """The event that last wrote each leaf of a part, or of the first; None for what none wrote."""
    state = (await timeline.state_at(position)).state
    found: dict[Path, RecordedEvent[Any] | None] = dict.fromkeys(
        islice(leaves_of(value_at(state, path), path), limit)
    )
    unexplained = set(found)
    while unexplained and position > 0:
        window = await timeline.window_at(position)
        if not _is_untouched(window, unexplained, position):
            for stop in reversed(window.stops[: window.stops_at(position)]):
                step = window.step(stop)
                for change in step.changes:
                    for leaf in _written(change, unexplained):
                        found[leaf] = step.event
                        unexplained.discard(leaf)
                if not unexplained:
                    break
        position = window.start
    return Blame(found, state)


def leaves_of(value: Any, path: Path = ()) -> Iterator[Path]:
    """The paths of all that has no parts in a value; of the value itself, if it has none.

    Without recursion: a state may be nested as deep as it likes.
    """
    left: list[Iterator[tuple[Any, Path]]] = [iter([(value, path)])]
    while left:
        found = next(left[-1], None)
        if found is None:
            left.pop()
            continue
        part, place = found
        if keys := [] if part is MISSING else keys_of(part):
            left.append(_parts(part, keys, place))
        else:
            yield place


def _parts(value: Any, keys: Iterable[Any], path: Path) -> Iterator[tuple[Any, Path]]:
    return ((part_of(value, key), (*path, key)) for key in keys)


def _is_untouched(window: HistoryWindow[Any], leaves: Iterable[Path], position: int) -> bool:
    """Whether the leaves' records are the same objects all along, so that nothing wrote them."""
    before, after = window.state(0), window.state(window.count_at(position))
    records = {leaf[:-1] for leaf in leaves}
    return all(value_at(before, path) is value_at(after, path) for path in records)


def _written(change: Change, leaves: set[Path]) -> list[Path]:
    """Which of the leaves a change has written."""
    path = change.path
    found = [path[:n] for n in range(len(path) + 1) if path[:n] in leaves]
    return found or [leaf for leaf in leaves_of(change.after, path) if leaf in leaves]


async def explained(store: Store, event: RecordedEvent[Any]) -> Explanation:
    """The chain of causes of an event, and all that belongs to the same correlation."""
    causes: list[Cause] = []
    seen = {event.event_id}
    cause_id = event.metadata.causation_id
    while cause_id is not None and cause_id not in seen and len(causes) < _MAX_RELATED:
        seen.add(cause_id)
        cause = await event_of_id(store, cause_id)
        causes.append(Cause(cause_id, cause))
        cause_id = None if cause is None else cause.metadata.causation_id
    known = [event, *(cause.event for cause in causes if cause.event is not None)]
    first = min(one.position for one in known)
    related: list[RecordedEvent[Any]] = []
    async for one in correlated(store, event.metadata.correlation_id, after=first - 1):
        if len(related) == _MAX_RELATED:
            return Explanation(event, causes, related, is_whole=False)
        related.append(one)
    return Explanation(event, causes, related, is_whole=True)


async def event_of_id(store: Store, event_id: str) -> RecordedEvent[Any] | None:
    """The event of an id that a commit gave it, or the first of a commit's; None for others."""
    name, _, index = event_id.partition("/")
    try:
        commit_id = UUID(name)
        number = int(index.partition(".")[0] or 0)
    except ValueError:
        return None
    events = await store.commit_events(commit_id)
    matching = [one for one in events if one.event_id == event_id]
    if matching or index:
        return matching[0] if matching else None
    return events[number] if events else None


async def correlated(
    store: Store, correlation_id: str, *, after: int = 0
) -> AsyncIterator[RecordedEvent[Any]]:
    """The events of a conversation, in order.

    Metadata has no index: every slice after the position is looked at, but only those that may
    belong to it are decoded.
    """
    needle = encode_json(correlation_id)[1:-1]
    try:
        commit_id = UUID(correlation_id).bytes
    except ValueError:
        commit_id = b""
    query = EVERYTHING.after(after)
    while True:
        page, asked, wanted = await store.kernel.one_page(query, PAGE_EVENTS)
        likely = [
            stored
            for stored in page.slices
            if stored.commit_id == commit_id or (stored.metadata and needle in stored.metadata)
        ]
        part = msgspec.structs.replace(page, slices=likely)
        for event in events_of_page(part, asked, wanted, store.kernel.codec):
            if event.metadata.correlation_id == correlation_id:
                yield event
        if page.end:
            return
        query = next_page(query, page)
