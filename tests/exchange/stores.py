"""Stores to export, and what it means that two of them are the same."""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from everwhen import Commit, Event, NewEvent, RecordedEvent, Store, UnknownEvent, Write, open_store
from everwhen.exchange import Format, ImportReport, export_events, import_events
from everwhen.testing import ManualClock
from everwhen.vocabulary import CommitMetadata


class Placed(Event):
    tag_fields = ("player",)

    player: int
    note: str = ""


NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=12)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), JSON)
MOMENTS = st.datetimes(datetime(1850, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
PLAIN = st.builds(UnknownEvent, NAMES, OBJECTS, st.integers(1, 3))
TYPED = st.builds(Placed, st.integers(0, 9), st.text(max_size=5))
EVENTS = st.builds(
    NewEvent,
    event=PLAIN | TYPED,
    tags=st.lists(NAMES, max_size=2, unique=True).map(tuple),
    occurred_at=st.none() | MOMENTS,
    event_id=st.none() | NAMES,
    extras=st.just({}) | OBJECTS,
)
STREAMS = st.sampled_from(["a-1", "a-2", "b", "ü-1"]) | NAMES
METADATA = st.none() | st.builds(
    CommitMetadata,
    causation_id=st.none() | NAMES,
    correlation_id=st.none() | NAMES,
    user_id=st.none() | NAMES,
    source=st.none() | NAMES,
    extras=st.just({}) | OBJECTS,
)
COMMITS = st.builds(
    Commit,
    st.lists(
        st.builds(Write, STREAMS, st.lists(EVENTS, min_size=1, max_size=4)),
        min_size=1,
        max_size=3,
    ),
    id=st.none() | st.uuids(version=4),
    metadata=METADATA,
)


def fill(store: Store, clock: ManualClock, commits: Iterable[Commit], steps: list[float]) -> None:
    """Write the commits, with time going on between them as the steps say."""
    seen: set[UUID] = set()
    for number, commit in enumerate(commits):
        clock.advance(steps[number % len(steps)])
        if commit.id is None or commit.id not in seen:
            store.commit(commit)
        if commit.id is not None:
            seen.add(commit.id)


def everything(store: Store) -> list[tuple[Any, ...]]:
    """All that the API tells of every event."""
    return [
        (
            e.position,
            e.stream,
            e.version,
            e.type,
            e.schema_version,
            e.json,
            e.tags,
            e.recorded_at,
            e.occurred_at,
            e.metadata,
        )
        for e in store.read()
    ]


def exported(store: Store, format_: Format, **options: Any) -> bytes:
    out = io.BytesIO()
    export_events(store, out, format_, **options)
    return out.getvalue()


def imported(store: Store, text: bytes, format_: Format, **options: Any) -> ImportReport:
    return import_events(store, io.BytesIO(text), format_, **options)


def shop() -> tuple[Store, ManualClock]:
    """A memory store with a little of everything."""
    clock = ManualClock()
    store = open_store("memory:", events=[Placed], clock=clock)
    for number in range(40):
        clock.advance(60)
        late = clock() - timedelta(days=number)
        store.commit(
            Commit(
                [
                    Write(f"order-{number % 7}", [Placed(number % 3), Placed(1, "ü\n\x00")]),
                    Write(
                        "log",
                        [
                            NewEvent(
                                event=UnknownEvent("Noted", {"n": number, "nested": {"x": [1.5]}}),
                                tags=("noted",),
                                occurred_at=late if number % 2 else None,
                            )
                        ],
                    ),
                ],
                metadata=CommitMetadata(user_id="ann") if number % 5 else None,
            )
        )
    return store, clock


def positions(events: Iterable[RecordedEvent[Any]]) -> list[int]:
    return [event.position for event in events]
