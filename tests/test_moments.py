from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everwhen.errors import InvalidQueryError
from everwhen.vocabulary.written_moments import PointInTime, age_of, moment_of, place_of

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2024, 5, 31, 12, 30, 15, tzinfo=UTC)


def understood(text: str, now: datetime = NOW, zone: tzinfo = UTC) -> datetime:
    return moment_of(text, now=now, zone=zone).time


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2013-05-01T14:00:05.25+02:00", "2013-05-01T12:00:05.25+00:00"),
        ("2013-05-01T14:00Z", "2013-05-01T14:00:00+00:00"),
        ("2013-05-01t14:00z", "2013-05-01T14:00:00+00:00"),
        ("2013-05-01 14:00 UTC", "2013-05-01T14:00:00+00:00"),
        ("2013-05-01 14:00 -0330", "2013-05-01T17:30:00+00:00"),
        ("2013-05-01 14:00:05,5", "2013-05-01T14:00:05.5+00:00"),
        ("2013-05-01", "2013-05-01T00:00:00+00:00"),
        ("2013-05", "2013-05-01T00:00:00+00:00"),
        ("2024-W01-1", "2024-01-01T00:00:00+00:00"),
        ("@1367416800", "2013-05-01T14:00:00+00:00"),
        ("@0.5", "1970-01-01T00:00:00.5+00:00"),
        ("now", "2024-05-31T12:30:15+00:00"),
        ("  NOW ", "2024-05-31T12:30:15+00:00"),
        ("today", "2024-05-31T00:00:00+00:00"),
        ("yesterday", "2024-05-30T00:00:00+00:00"),
        ("yesterday 9:05", "2024-05-30T09:05:00+00:00"),
        ("yesterday at 14:00:30", "2024-05-30T14:00:30+00:00"),
        ("14:00", "2024-05-31T14:00:00+00:00"),
        ("9:05:07", "2024-05-31T09:05:07+00:00"),
        ("90s ago", "2024-05-31T12:28:45+00:00"),
        ("2h ago", "2024-05-31T10:30:15+00:00"),
        ("1.5 hours ago", "2024-05-31T11:00:15+00:00"),
        ("an hour ago", "2024-05-31T11:30:15+00:00"),
        ("3 days ago", "2024-05-28T12:30:15+00:00"),
        ("1 day 2 hours ago", "2024-05-30T10:30:15+00:00"),
        ("1 day, 2 hours and 5 minutes ago", "2024-05-30T10:25:15+00:00"),
        ("1d2h ago", "2024-05-30T10:30:15+00:00"),
        ("2 weeks ago", "2024-05-17T12:30:15+00:00"),
        ("3 months ago", "2024-02-29T12:30:15+00:00"),
        ("a year ago", "2023-05-31T12:30:15+00:00"),
    ],
)
def test_what_is_understood(text: str, expected: str) -> None:
    assert understood(text) == datetime.fromisoformat(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "2013-13-01",
        "2013-02-30",
        "2013-05-01T25:00",
        "2013-05-01x14:00",
        "01.05.2013",
        "3 ago",
        " ago",
        "days ago",
        "3 moons ago",
        "3 days 2 days ago",
        "1.5 months ago",
        "-3 days ago",
        "5000 years ago",
        "999999999 days ago",
        "999999999 hours ago",
        "@999999999999",
        "yesterday 25:00",
        "yesterday 9",
        "24:30",
        "0001-01-01T00:00+14:00",
        "٢٠١٣-05-01",
    ],
)
def test_what_is_not_understood_says_so(text: str) -> None:
    with pytest.raises(InvalidQueryError, match="time "):
        understood(text)


def test_a_plain_number_is_a_position() -> None:
    assert place_of(" 20130501 ", now=NOW, zone=UTC) == 20130501
    assert place_of("0", now=NOW, zone=UTC) == 0
    with pytest.raises(InvalidQueryError, match="position, not a time"):
        understood("20130501")
    with pytest.raises(InvalidQueryError, match="larger than any"):
        place_of("9" * 30, now=NOW, zone=UTC)
    assert isinstance(place_of("2013-05-01", now=NOW, zone=UTC), PointInTime)


@pytest.mark.parametrize(
    ("text", "assumed"),
    [
        ("2013-05-01", True),
        ("2013-05-01 14:00", True),
        ("2013-05-01 14:00Z", False),
        ("2h ago", False),
        ("yesterday", False),
        ("@5", False),
    ],
)
def test_a_missing_zone_is_told(text: str, assumed: bool) -> None:
    assert moment_of(text, now=NOW, zone=BERLIN).zone_assumed is assumed


def test_local_times_follow_the_rules_of_their_own_date() -> None:
    winter = understood("2024-01-15 12:00", zone=BERLIN)
    summer = understood("2024-07-15 12:00", zone=BERLIN)
    assert winter == datetime(2024, 1, 15, 11, tzinfo=UTC)
    assert summer == datetime(2024, 7, 15, 10, tzinfo=UTC)


def test_days_go_by_the_calendar_and_hours_by_the_clock() -> None:
    after_change = datetime(2024, 3, 31, 12, tzinfo=BERLIN)  # the clocks went on at 2:00
    day = understood("1 day ago", after_change, BERLIN)
    hours = understood("24 hours ago", after_change, BERLIN)
    assert day.isoformat() == "2024-03-30T12:00:00+01:00"
    assert hours.isoformat() == "2024-03-30T11:00:00+01:00"


def test_today_is_the_day_of_the_zone() -> None:
    late = datetime(2024, 5, 31, 23, 30, tzinfo=UTC)  # already June in Berlin
    assert understood("today", late, BERLIN).isoformat() == "2024-06-01T00:00:00+02:00"


moments = st.datetimes(
    min_value=datetime(2, 1, 1),
    max_value=datetime(9998, 12, 31),
    timezones=st.builds(
        timezone, st.integers(-14 * 60, 14 * 60).map(lambda m: timedelta(minutes=m))
    ),
)


@given(moments, st.sampled_from(["T", " "]))
def test_every_iso_time_is_understood_exactly(moment: datetime, separator: str) -> None:
    assert understood(moment.isoformat(separator)) == moment


@given(moments, st.integers(0, 10**6), st.sampled_from([("s", 1), ("min", 60), ("hours", 3600)]))
def test_exact_units_are_exact(now: datetime, amount: int, unit: tuple[str, int]) -> None:
    name, seconds = unit
    try:
        found = understood(f"{amount} {name} ago", now)
    except InvalidQueryError:
        assert now.year < 200
    else:
        assert now - found == timedelta(seconds=amount * seconds)


@given(st.text(max_size=30) | st.from_regex(r"[0-9 @:TZ+-]{1,24}( ago)?", fullmatch=True))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    try:
        found = moment_of(text, now=NOW, zone=BERLIN)
    except InvalidQueryError:
        return
    assert found.time.tzinfo is not None
    found.time.astimezone(UTC)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=700_000)))
def test_an_age_reads_back_as_about_that_time(past: timedelta) -> None:
    age = age_of(NOW - past, NOW)
    if age == "just now":
        assert past < timedelta(seconds=1)
    else:
        again = NOW - understood(age)
        assert abs(past - again) <= max(timedelta(days=1), 0.51 * past)
        assert again <= past + timedelta(days=4)


@pytest.mark.parametrize(
    ("seconds", "age"),
    [
        (0.4, "just now"),
        (1, "1 s ago"),
        (119, "1 min ago"),
        (3 * 3600, "3 h ago"),
        (47 * 3600, "47 h ago"),
        (48 * 3600, "2 days ago"),
        (15 * 86400, "2 weeks ago"),
        (100 * 86400, "3 months ago"),
        (13.2 * 365.2425 * 86400, "13 years ago"),
        (-90, "in 1 min"),
    ],
)
def test_ages(seconds: float, age: str) -> None:
    assert age_of(NOW - timedelta(seconds=seconds), NOW) == age
