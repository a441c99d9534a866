"""States as of a time: what had happened by then, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everwhen import (
    Event,
    EventTypes,
    Fold,
    NewEvent,
    Query,
    Repository,
    Store,
    TimeMachine,
    UnknownEvent,
    documents,
    open_store,
)
from everwhen.codec import Upcast
from everwhen.testing import ManualClock
from everwhen.travel import AsOf
from everwhen.vocabulary.paging import PAGE_EVENTS

START = datetime(2026, 1, 1, tzinfo=UTC)


class Moved(Event):
    address: str


address = Fold("address", lambda: "")
address.on(Moved)(lambda _, event: event.address)

seen: Fold[tuple[int, ...]] = Fold("seen", tuple)
seen.otherwise(lambda state, recorded: (*state, recorded.position))


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def written(days: Sequence[float | None], clock: ManualClock | None = None) -> Store:
    """One event per day given, None for one that occurred when it was recorded."""
    clock = clock or ManualClock(START)
    store = open_store("memory:", events=[Moved], clock=clock)
    store.append(
        "ann",
        [
            NewEvent(event=Moved(str(n)), occurred_at=None if at is None else day(at))
            for n, at in enumerate(days, 1)
        ],
    )
    return store


@settings(max_examples=60)
@given(
    days=st.lists(st.none() | st.integers(-3, 3), min_size=1, max_size=12),
    until=st.integers(-4, 4),
    backwards=st.booleans(),
    limit=st.none() | st.integers(0, 8),
)
def test_a_fold_as_of_a_time_is_one_over_what_was_read_sorted_by_valid_time(
    days: list[int | None], until: int, backwards: bool, limit: int | None
) -> None:
    query = Query().as_of(day(until))
    query = query.backwards() if backwards else query
    query = query if limit is None else query.limit(limit)
    with written(days) as store:
        given_events = list(store.read(query))
        expected = sorted(
            given_events, key=lambda e: (e.occurred_at, e.position), reverse=backwards
        )
        assert store.fold(seen, query) == tuple(e.position for e in expected)


def test_what_is_told_late_overrides_nothing_that_happened_later() -> None:
    with written([20, 10]) as store:
        machine = TimeMachine(store, address, "ann")
        fifteenth, later = machine.travel_to(AsOf(day(15))), machine.travel_to(AsOf(day(25)))
        assert (fifteenth.state, fifteenth.position, fifteenth.version) == ("2", 2, 2)
        assert (later.state, later.position, later.version) == ("1", 1, 1)
        assert later.until == 2
        assert machine.travel_to(2).state == "2"  # as recorded
        assert store.fold(documents, Query().as_of(day(25)))["ann"].data == {"address": "1"}
        assert address.state_of(store.read(Query().as_of(day(25)))) == "2"  # as it was read
        diff = machine.diff(AsOf(day(15)), AsOf(day(25)))
        assert str(diff) == "state: 2 → 1"


def test_over_many_pages_wherever_the_late_ones_stand() -> None:
    count = 2 * PAGE_EVENTS + 10
    days: list[float | None] = [float(n) for n in range(1, count + 1)]
    late = {5: 0.5, PAGE_EVENTS: 2.5, PAGE_EVENTS + 1: 2.25, count - 3: 0.25, count: 7.5}
    for position, at in late.items():
        days[position - 1] = at
    with written(days) as store:
        expected = sorted(range(1, count + 1), key=lambda p: (days[p - 1], p))
        assert store.fold(seen, Query().as_of(day(count + 1))) == tuple(expected)


def test_a_loaded_state_as_of_a_time_takes_in_what_is_told_late() -> None:
    with written([20]) as store:
        repository = Repository(store, seen)
        query = Query().stream("ann").as_of(day(25))
        loaded = repository.load(query)
        for at, expected in ((10, (2, 1)), (15, (2, 3, 1)), (30, (2, 3, 1))):
            store.append("ann", [NewEvent(event=Moved("late"), occurred_at=day(at))])
            loaded = repository.advance(loaded, query)
            assert loaded.state == expected
            assert (loaded.position, loaded.read_until) == (1, store.head().position)


def test_the_parts_of_an_event_stay_together_in_their_order() -> None:
    def split(data: dict[str, str]) -> list[UnknownEvent]:
        return [UnknownEvent("One", data), UnknownEvent("Two", data)]

    types = EventTypes(upcasts=[Upcast("Both", 1, split, into=("One", "Two"))])
    told: Fold[tuple[str, ...]] = Fold("told", tuple)
    told.otherwise(lambda state, recorded: (*state, f"{recorded.type} {recorded.data['n']}"))
    with open_store("memory:", events=types) as store:
        for n in (2, 1):
            event = NewEvent(event=UnknownEvent("Both", {"n": n}), occurred_at=day(n))
            store.append("a", [event])
        query = Query().as_of(day(3))
        assert store.fold(told, query) == ("One 1", "Two 1", "One 2", "Two 2")
        backwards = ("Two 2", "One 2", "Two 1", "One 1")
        assert store.fold(told, query.backwards()) == backwards


@pytest.mark.parametrize("known", [1, 2])
def test_what_was_known_at_a_time_of_what_had_happened_by_another(known: int) -> None:
    clock = ManualClock(START)
    with open_store("memory:", events=[Moved], clock=clock) as store:
        for n, at in ((1, -20), (2, -30)):
            clock.advance(60)
            store.append("ann", [NewEvent(event=Moved(str(n)), occurred_at=day(at))])
        moment = START + timedelta(seconds=60 * known)
        query = Query().as_of(START).as_at(moment)
        assert store.fold(seen, query) == {1: (1,), 2: (2, 1)}[known]
