"""A zoned datetime keeps its moment and its offset from UTC in every hour of every year."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from everwhen import Decisions, Event, EventTypes, NewEvent, Query, open_store
from everwhen.errors import InvalidCommandError, InvalidEventError
from everwhen.vocabulary import EventType

NEW_YORK = ZoneInfo("America/New_York")
ZONES = st.sampled_from(
    [
        NEW_YORK,
        ZoneInfo("Europe/Berlin"),
        ZoneInfo("Europe/Dublin"),  # its winter time is the one that is saved
        ZoneInfo("Australia/Lord_Howe"),  # moves its clocks by half an hour
        ZoneInfo("Africa/Monrovia"),  # offsets with seconds until 1972
        ZoneInfo("Pacific/Apia"),  # skipped a day
        ZoneInfo("Asia/Kathmandu"),
        ZoneInfo("UTC"),
    ]
)
ANY_TIME = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2500, 1, 1), timezones=ZONES)
MOMENTS = ANY_TIME | st.builds(  # around changes of the clocks
    lambda day, minutes, fold, zone: (day + dt.timedelta(minutes=minutes)).replace(
        tzinfo=zone, fold=fold
    ),
    st.sampled_from(
        [
            dt.datetime(2026, 3, 8, 1),
            dt.datetime(2026, 11, 1, 0),
            dt.datetime(2026, 3, 29, 1),
            dt.datetime(2026, 10, 25, 1),
            dt.datetime(2026, 4, 5, 1),
            dt.datetime(2026, 10, 4, 1),
            dt.datetime(2011, 12, 30, 0),
            dt.datetime(1972, 1, 7, 0),
        ]
    ),
    st.integers(0, 240),
    st.sampled_from([0, 1]),
    ZONES,
)
CHANGES = [
    dt.datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK),
    dt.datetime(2026, 11, 1, 1, 30, fold=1, tzinfo=NEW_YORK),
    dt.datetime(2026, 3, 8, 2, 30, tzinfo=NEW_YORK),
    dt.datetime(2026, 3, 8, 2, 30, fold=1, tzinfo=NEW_YORK),
]
TODAY = dt.datetime(2026, 7, 1, tzinfo=dt.UTC)


class Inner(msgspec.Struct, frozen=True):
    at: dt.datetime


@dataclasses.dataclass(frozen=True)
class Classic:
    at: dt.datetime


@attrs.frozen
class Attractive:
    at: dt.datetime


class Shift(Event):
    at: dt.datetime
    inner: Inner
    breaks: tuple[dt.datetime, ...] = ()
    who: dict[str, dt.datetime] = {}  # noqa: RUF012 (msgspec copies it)
    planned: dict[dt.datetime, str] = {}  # noqa: RUF012 (msgspec copies it)
    off: frozenset[dt.datetime] = frozenset()


class Opened(Event):
    at: dt.time


TYPES = EventTypes(Shift, Opened, EventType(Classic), EventType(Attractive))


def shift(at: dt.datetime) -> Shift:
    return Shift(at, Inner(at), (at, at), {"ann": at}, {at: "x"}, frozenset({at, TODAY}))


def told(moment: dt.datetime) -> tuple[Any, ...]:
    """What a datetime says: time of day, offset, moment."""
    return moment.replace(tzinfo=None, fold=0), moment.utcoffset(), moment.astimezone(dt.UTC)


def can_be_said(moment: dt.datetime) -> bool:
    offset = moment.utcoffset()
    assert offset is not None
    return not offset % dt.timedelta(minutes=1)


def every_time(event: Shift) -> list[dt.datetime]:
    off = sorted(event.off, key=lambda moment: moment.astimezone(dt.UTC))
    return [event.at, event.inner.at, *event.breaks, *event.who.values(), *event.planned, *off]


@pytest.mark.slow
@settings(max_examples=200)
@given(at=MOMENTS)
@example(at=CHANGES[0])
@example(at=CHANGES[1])
@example(at=CHANGES[2])
@example(at=CHANGES[3])
def test_events_say_the_same_time_again_all_year(at: dt.datetime) -> None:
    given_events = [shift(at), Classic(at), Attractive(at)]
    with open_store("memory:", events=TYPES) as store:
        if not can_be_said(at):
            for event in given_events:
                with pytest.raises(InvalidEventError, match="offset from UTC with seconds"):
                    store.append("s", [event])
            return
        for event in given_events:
            store.append("alone", [event])
        store.append("together", given_events)
        alone, together = list(store.read("alone")), list(store.read("together"))
        assert [e.json for e in alone] == [e.json for e in together]
        for back, *others in ([e.event for e in alone], [e.event for e in together]):
            assert list(map(told, every_time(back))) == list(map(told, every_time(shift(at))))
            assert [told(other.at) for other in others] == [told(at), told(at)]


@settings(max_examples=100)
@given(at=MOMENTS)
@example(at=CHANGES[0])
@example(at=CHANGES[1])
@example(at=CHANGES[2])
def test_occurred_at_and_the_bounds_of_queries_mean_the_moment(at: dt.datetime) -> None:
    second = dt.timedelta(seconds=1)
    with open_store("memory:", events=TYPES) as store:
        event = NewEvent(event=Classic(TODAY), occurred_at=at)
        if not can_be_said(at):
            with pytest.raises(InvalidEventError, match=r"occurred_at.*with seconds"):
                store.append("s", [event])
            event = NewEvent(event=Classic(TODAY), occurred_at=at.astimezone(dt.UTC))
        store.append("s", [event])
        (back,) = store.read()
        assert event.occurred_at is not None
        assert told(back.occurred_at) == told(event.occurred_at)
        assert len(list(store.read(Query().as_of(at)))) == 1
        assert not list(store.read(Query().as_of(at.astimezone(dt.UTC) - second)))
        recorded = back.recorded_at.astimezone(at.tzinfo)
        assert len(list(store.read(Query().as_at(recorded)))) == 1


@pytest.mark.parametrize("at", CHANGES)
def test_commands_too(at: dt.datetime) -> None:
    decisions = Decisions()
    decisions.on(Shift)(lambda _: [])
    decisions.on(Opened)(lambda _: [])
    back = decisions.restored(decisions.recorded(shift(at)))
    assert list(map(told, every_time(back))) == list(map(told, every_time(shift(at))))
    with pytest.raises(InvalidCommandError, match="with seconds"):
        decisions.recorded(shift(dt.datetime(1870, 1, 1, tzinfo=NEW_YORK)))
    with pytest.raises(InvalidCommandError, match="keep the zone's name in a field of its own"):
        decisions.recorded(Opened(dt.time(9, tzinfo=NEW_YORK)))


@pytest.mark.parametrize("many", [1, 2])
def test_a_time_of_day_with_a_zone_is_refused_for_the_zone_would_be_lost(many: int) -> None:
    with open_store("memory:", events=TYPES) as store:
        with pytest.raises(InvalidEventError, match=r"09:00:00 has the zone America/New_York"):
            store.append("s", [Opened(dt.time(9, tzinfo=NEW_YORK))] * many)
        offset = Opened(dt.time(9, tzinfo=dt.timezone(dt.timedelta(hours=2))))
        store.append("s", [offset] * many)
        assert [e.event for e in store.read()] == [offset] * many


@pytest.mark.parametrize("many", [1, 2])
def test_so_is_one_whose_fold_would_be_lost(many: int) -> None:
    with open_store("memory:", events=TYPES) as store:
        with pytest.raises(InvalidEventError, match=r"fold=1\) has fold=1, .*replace\(fold=0\)"):
            store.append("s", [Opened(dt.time(1, 30, fold=1))] * many)
        store.append("s", [Opened(dt.time(1, 30))] * many)
    decisions = Decisions()
    decisions.on(Opened)(lambda _: [])
    with pytest.raises(InvalidCommandError, match="has fold=1"):
        decisions.recorded(Opened(dt.time(1, 30, fold=1)))


@pytest.mark.parametrize(
    "at",
    [
        dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=5))),
        dt.datetime(9999, 12, 31, 23, tzinfo=dt.timezone(dt.timedelta(hours=-5))),
    ],
)
def test_an_occurred_at_outside_the_calendar_is_refused(at: dt.datetime) -> None:
    with (
        open_store("memory:", events=TYPES) as store,
        pytest.raises(InvalidEventError, match="outside the years 1 to 9999"),
    ):
        store.append("s", [NewEvent(event=Classic(TODAY), occurred_at=at)])


def test_what_really_changes_beside_such_a_time_is_still_refused() -> None:
    class Loose(Event):
        at: dt.datetime
        value: Any

    with open_store("memory:", events=[Loose]) as store:
        with pytest.raises(InvalidEventError, match=r"value: \(1,\) \(tuple\) becomes \[1\]"):
            store.append("s", [Loose(CHANGES[1], (1,))])
        store.append("s", [Loose(CHANGES[1], [1])])
