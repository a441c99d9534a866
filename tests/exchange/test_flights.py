"""The table of flights: what each row becomes, by New York's wall clock."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from tests.exchange.stores import imported

from everwhen import open_store
from everwhen.exchange import Flights, ImportFormatError

ROW = {
    "year": "2013", "month": "1", "day": "1", "dep_time": "517", "sched_dep_time": "515",
    "dep_delay": "2", "arr_delay": "11", "carrier": "UA", "flight": "1545", "tailnum": "N14228",
    "origin": "EWR", "dest": "IAH", "air_time": "227", "distance": "1400",
}  # fmt: skip


def table(*changes: dict[str, str]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROW))
    writer.writeheader()
    writer.writerows({**ROW, **change} for change in changes)
    return text.getvalue().encode()


def told(*changes: dict[str, str], flights: Flights = Flights()) -> list[tuple[str, str, Any]]:  # noqa: B008
    with open_store("memory:") as store:
        imported(store, table(*changes), flights)
        return [(f"{e.occurred_at:%m-%d %H:%M}", e.type, e.data["status"]) for e in store.read()]


def test_a_flight_is_scheduled_departs_and_arrives() -> None:
    assert told({}) == [
        ("12-31 10:15", "FlightScheduled", "scheduled"),
        ("01-01 10:17", "FlightDeparted", "in the air"),
        ("01-01 14:19", "FlightArrived", "arrived"),
    ]


def test_one_that_never_left_was_cancelled_and_one_may_be_lost_sight_of() -> None:
    assert told({"dep_time": "NA", "dep_delay": "NA", "air_time": "NA"}) == [
        ("12-31 10:15", "FlightScheduled", "scheduled"),
        ("01-01 10:15", "FlightCancelled", "cancelled"),
    ]
    assert [status for _, _, status in told({"air_time": "NA"})] == ["scheduled", "in the air"]


def test_its_times_are_wall_clocks_also_on_the_day_that_summer_time_begins() -> None:
    day = {"month": "3", "day": "10", "sched_dep_time": "600", "dep_delay": "0"}
    assert told(day)[1] == ("03-10 10:00", "FlightDeparted", "in the air")


def test_some_of_them_are_taken_all_through_the_table() -> None:
    rows = [{"flight": str(number)} for number in range(10)]
    with open_store("memory:") as store:
        imported(store, table(*rows), Flights(every=4))
        streams = [stream.name for stream in store.streams()]
    assert streams == [f"flight-2013-01-01-UA-{number}-EWR" for number in (0, 4, 8)]


@pytest.mark.parametrize("change", [{"month": "13"}, {"distance": "far"}, {"dep_delay": ""}])
def test_what_is_no_flight_is_named_by_its_line(change: dict[str, str]) -> None:
    with open_store("memory:") as store:
        with pytest.raises(ImportFormatError, match="not a flight") as caught:
            imported(store, table({}, change), Flights())
        assert caught.value.line == 3
        assert store.head().position == 0
