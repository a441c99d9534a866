"""CloudEvents that others wrote: the least that one may be, every time, and binary data."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.exchange.stores import imported

from everwhen import Store, open_store
from everwhen.errors import DeclarationError
from everwhen.exchange import CloudEvents, ImportFormatError, Notice, Xes
from everwhen.testing import ManualClock


def lines_of(*events: dict[str, Any]) -> bytes:
    least = {"specversion": "1.0", "source": "/s", "type": "T"}
    numbered = [{**least, "id": str(n), **event} for n, event in enumerate(events, 1)]
    return "".join(json.dumps(event) + "\n" for event in numbered).encode()


def recorded(store: Store) -> list[tuple[str, str]]:
    return [(e.event_id, e.recorded_at.isoformat()) for e in store.read()]


def test_events_without_a_time_are_recorded_as_of_now_in_the_order_of_the_file() -> None:
    clock = ManualClock(datetime(2026, 5, 1, tzinfo=UTC))
    store = open_store("memory:", clock=clock)
    text = lines_of({}, {}, {})
    report = imported(store, text, CloudEvents())
    assert recorded(store) == [(n, "2026-05-01T00:00:00+00:00") for n in "123"]
    assert report.notices == (Notice("events without a time, recorded now", 1, 3),)
    clock.advance(60)
    assert imported(store, text, CloudEvents()).repeated == 3


def test_or_at_the_time_that_is_given_or_beside_the_one_before() -> None:
    text = lines_of({}, {"time": "2026-01-02T00:00:00Z"}, {}, {"time": "2026-01-01T00:00:00Z"})
    store = open_store("memory:")
    report = imported(store, text, CloudEvents(time=datetime(2025, 1, 1, tzinfo=UTC)))
    assert [(event_id, at[:10]) for event_id, at in recorded(store)] == [
        ("1", "2025-01-01"),
        ("3", "2025-01-01"),
        ("4", "2026-01-01"),
        ("2", "2026-01-02"),
    ]
    assert [(n.line, n.count) for n in report.notices] == [(1, 2)]
    store = open_store("memory:")
    imported(store, text, CloudEvents())
    assert [(event_id, at[:10]) for event_id, at in recorded(store)] == [
        ("1", "2026-01-01"),
        ("4", "2026-01-01"),
        ("2", "2026-01-02"),
        ("3", "2026-01-02"),
    ]
    for format_ in (CloudEvents, Xes):
        with pytest.raises(DeclarationError, match="with a time zone"):
            format_(time=datetime(2026, 1, 1))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00"),
        ("2020-01-01t00:00:00z", "2020-01-01T00:00:00"),
        ("2020-01-01 00:00:00z", "2020-01-01T00:00:00"),
        ("2020-01-01T01:00:00.5+01:00", "2020-01-01T00:00:00.500000"),
        ("2020-01-01T00:00:00-00:00", "2020-01-01T00:00:00"),
        ("1985-04-12T23:20:50.52Z", "1985-04-12T23:20:50.520000"),
        ("1937-01-01T12:00:27.87+00:20", "1937-01-01T11:40:27.870000"),
        ("2020-01-01T00:00:00.1234560000Z", "2020-01-01T00:00:00.123456"),
    ],
)
def test_every_time_of_rfc_3339_is_read(text: str, moment: str) -> None:
    store = open_store("memory:")
    assert not imported(store, lines_of({"time": text}), CloudEvents()).notices
    assert recorded(store) == [("1", f"{moment}+00:00")]


@pytest.mark.parametrize(
    ("text", "moment", "what"),
    [
        ("1990-12-31T23:59:60Z", "1991-01-01T00:00:00", "leap seconds, read as the second after"),
        ("1990-12-31t15:59:60.25-08:00", "1991-01-01T00:00:00.250000", "leap seconds"),
        ("2020-01-01T00:00:00.1234567Z", "2020-01-01T00:00:00.123456", "finer than a microsecond"),
        ("2020-01-01T00:00:00.000000001Z", "2020-01-01T00:00:00", "finer than a microsecond"),
    ],
)
def test_what_can_not_be_stored_of_a_time_is_told_and_kept(
    text: str, moment: str, what: str
) -> None:
    store = open_store("memory:")
    report = imported(store, lines_of({"time": text}, {"time": text}), CloudEvents())
    ((notice,)) = report.notices
    assert what in notice.what
    assert (notice.line, notice.count) == (1, 2)
    assert {at for _, at in recorded(store)} == {f"{moment}+00:00"}
    assert [e.metadata.extras["cloudevent"]["time"] for e in store.read()] == [text, text]


@pytest.mark.parametrize(
    "text",
    [
        "2020-01-01T12:00:60Z",
        "2020-01-01T23:59:61Z",
        "2020-01-01T23:59:60+05:00",
        "9999-12-31T23:59:60Z",
        "2020-13-01T00:00:00Z",
        "2020-01-01T00:00:00",
        "someday",
        "",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    store = open_store("memory:")
    with pytest.raises(ImportFormatError, match="line 2") as caught:
        imported(store, lines_of({}, {"time": text}), CloudEvents())
    assert repr(text) in caught.value.reason
    assert "fix or leave out the line" in caught.value.reason
    assert store.head().position == 0


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"data": {"a": 1}, "data_base64": "YQ=="}, "data and data_base64; keep one of them"),
        ({"data": None, "data_base64": "YQ=="}, "data and data_base64; keep one of them"),
        ({"data_base64": "not base64!"}, "data_base64 is not base64"),
        ({"data_base64": "YQ"}, "data_base64 is not base64"),
        ({"data_base64": "YR=="}, "data_base64 is not base64"),
        ({"data_base64": "YWE=YQ=="}, "data_base64 is not base64"),
        ({"time": "20200101T000000Z"}, "is not an RFC 3339 time"),
        ({"time": "2020-W01-1T00:00:00Z"}, "is not an RFC 3339 time"),
        ({"time": "2020-01-01T00:00:00.Z"}, "is not an RFC 3339 time"),
        ({"time": "2020-01-01T00:00:00,5Z"}, "is not an RFC 3339 time"),
        ({"time": "2020-01-01T00:00Z"}, "is not an RFC 3339 time"),
        ({"time": "2020-01-01T00:00:00+0100"}, "is not an RFC 3339 time"),
        ({"time": "2020-01-01"}, "is not an RFC 3339 time"),
        ({"time": "2020-01-01T00:00:00"}, "is not an RFC 3339 time with a zone"),
        ({"time": "2020-02-30T00:00:00Z"}, "2020-02-30"),
        ({"data_base64": "ü"}, "data_base64 is not base64"),
        ({"data_base64": 5}, "data_base64"),
    ],
)
def test_binary_data_that_is_none_is_refused(event: dict[str, Any], reason: str) -> None:
    store = open_store("memory:")
    with pytest.raises(ImportFormatError, match=reason) as caught:
        imported(store, lines_of({}, event), CloudEvents())
    assert caught.value.line == 2
    assert imported(store, lines_of({}, event), CloudEvents(), skip_invalid=True).invalid == 1


@settings(max_examples=50)
@given(days=st.lists(st.none() | st.integers(1, 5), min_size=1, max_size=8))
def test_events_without_a_time_stay_where_they_are(days: list[int | None]) -> None:
    events = [{} if day is None else {"time": f"2026-01-0{day}T00:00:00Z"} for day in days]
    store = open_store("memory:")
    imported(store, lines_of(*events), CloudEvents())
    order = [int(event.event_id) for event in store.read()]
    assert sorted(order) == list(range(1, len(days) + 1))
    for place, number in enumerate(order):
        if days[number - 1] is None and number > 1:
            assert order.index(number - 1) == place - 1
