"""Moments as people write them: ``2013-05-01 14:00``, ``yesterday``, ``2h ago``.

Pure: what "now" is and where "here" is are arguments. What is understood:

    2013-05-01T14:00:05.25+02:00    ISO 8601, with or without a zone, the T or a space
    2013-05-01, 2013-05             the first moment of that day or month
    14:00                           today at that time
    now, today, yesterday           and ``yesterday 14:00``; a day alone is its first moment
    90s ago, 2h ago, 3 days ago     and ``1 day 2 hours ago``
    @1367416800                     seconds since 1970-01-01 UTC

Days, weeks, months and years go by the calendar, so ``3 days ago`` is the same time of day
even if the clocks changed since; hours, minutes and seconds are exact.
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Final

import msgspec

from everwhen.vocabulary.errors import InvalidQueryError
from everwhen.vocabulary.streams import MAX_POSITION

_EXACT: Final = {
    "seconds": ("s", "sec", "secs", "second", "seconds"),
    "minutes": ("m", "min", "mins", "minute", "minutes"),
    "hours": ("h", "hr", "hrs", "hour", "hours"),
}
_CALENDAR: Final = {
    "days": ("d", "day", "days"),
    "weeks": ("w", "week", "weeks"),
    "months": ("mo", "month", "months"),
    "years": ("y", "yr", "yrs", "year", "years"),
}
_UNITS: Final = {name: unit for unit, names in (_EXACT | _CALENDAR).items() for name in names}
_DAYS: Final = {"today": 0, "yesterday": 1}

_AMOUNT: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?|an?\b)\s*([a-z]+)(?:\s*,\s*|\s+and\s+|\s*)")
_DAY: Final = re.compile(r"(today|yesterday)(?:\s+(?:at\s+)?(\d.*))?")
_CLOCK: Final = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?")
_EPOCH: Final = re.compile(r"@(-?\d{1,12}(?:\.\d{1,6})?)")
_ISO: Final = re.compile(
    r"(\d{4}-\d{2}|\d{4}-\d{2}-\d{2}|\d{4}-W\d{2}(?:-\d)?)"
    r"(?:[T ](\d{2}(?::?\d{2}(?::?\d{2}(?:[.,]\d{1,9})?)?)?)"
    r" ?(Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?)?"
)
_MAX_DIGITS: Final = len(str(MAX_POSITION))
_POSITION: Final = re.compile(r"\d+|\d{1,3}(?:,\d{3})+")


class PointInTime(msgspec.Struct, frozen=True):
    """A point in time, with a zone. ``zone_assumed`` says that the writer named none."""

    time: datetime
    zone_assumed: bool = False


def moment_of(text: str, *, now: datetime, zone: tzinfo) -> PointInTime:
    """The moment that the text means, seen from ``now`` in ``zone``.

    Raises `InvalidQueryError` for what isn't understood, or lies outside the years 1 to 9999.
    """
    try:
        found = _understood(" ".join(text.split()), now.astimezone(zone), zone)
        if found is not None:
            found.time.astimezone(UTC)  # proves that it is within range
            return found
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidQueryError(f"time {text!r}: {error}") from error
    fix = "write it as 2013-05-01, '2013-05-01 14:00', 2013-05-01T14:00Z, '2h ago' or yesterday"
    if _POSITION.fullmatch(text.strip()):
        fix = f"a plain number is a position, not a time; {fix}"
    raise InvalidQueryError(f"time {text!r} isn't understood; {fix}")


def place_of(text: str, *, now: datetime, zone: tzinfo) -> PointInTime | int:
    """A position where the text is a number, 5877 or 5,877, else the moment it means.

    Raises `InvalidQueryError` as `moment_of` does.
    """
    if _POSITION.fullmatch(text.strip()) and text.isascii():
        digits = text.strip().replace(",", "").lstrip("0")
        if len(digits) > _MAX_DIGITS or int(digits or "0") > MAX_POSITION:
            raise InvalidQueryError(f"position {text[:40]} is larger than any store's")
        return int(digits or "0")
    return moment_of(text, now=now, zone=zone)


def age_of(time: datetime, now: datetime) -> str:
    """How long ago, in one unit rounded down: ``5 min ago``. `moment_of` reads it back."""
    seconds = (now - time).total_seconds()
    if abs(seconds) < 1:
        return "just now"
    size, unit = _in_one_unit(abs(seconds))
    plural = "s" if size != 1 and unit in {"day", "week", "month", "year"} else ""
    return f"{size} {unit}{plural} ago" if seconds > 0 else f"in {size} {unit}{plural}"


def _in_one_unit(seconds: float) -> tuple[int, str]:
    for limit, unit_seconds, unit in (
        (60, 1, "s"),
        (3_600, 60, "min"),
        (48 * 3_600, 3_600, "h"),
        (14 * 86_400, 86_400, "day"),
        (60 * 86_400, 7 * 86_400, "week"),
        (2 * 365 * 86_400, 30.436875 * 86_400, "month"),
    ):
        if seconds < limit:
            return int(seconds // unit_seconds), unit
    return int(seconds // (365.2425 * 86_400)), "year"


def _understood(text: str, here: datetime, zone: tzinfo) -> PointInTime | None:
    lower = text.lower()
    if lower == "now":
        return PointInTime(here)
    if match := _EPOCH.fullmatch(lower):
        return PointInTime(datetime.fromtimestamp(0, UTC) + timedelta(seconds=float(match[1])))
    if match := _DAY.fullmatch(lower):
        day = here.date() - timedelta(days=_DAYS[match[1]])
        return PointInTime(datetime.combine(day, _clock(match[2] or "00:00"), zone))
    if _CLOCK.fullmatch(lower):
        return PointInTime(datetime.combine(here.date(), _clock(lower), zone))
    if lower.endswith(" ago"):
        return PointInTime(_before(here, _amounts(lower[:-4]), zone))
    return _iso(text.upper(), zone)


def _iso(text: str, zone: tzinfo) -> PointInTime | None:
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    day, clock, offset = match.groups()
    day = f"{day}-01" if len(day) == len("2013-05") else day
    offset = "+00:00" if offset in {"UTC", "GMT"} else offset or ""
    found = datetime.fromisoformat(f"{day}T{clock}{offset}" if clock else day)
    if found.tzinfo is not None:
        return PointInTime(found)
    return PointInTime(found.replace(tzinfo=zone), zone_assumed=True)


def _clock(text: str) -> time:
    if _CLOCK.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not a time of day; write it as 14:00 or 14:00:05")
    return time.fromisoformat(text.zfill(5) if text.count(":") == 1 else text.rjust(8, "0"))


def _amounts(text: str) -> dict[str, float]:
    """The amounts in ``1 day 2 hours``, by unit."""
    found: dict[str, float] = {}
    place = 0
    while place < len(text):
        match = _AMOUNT.match(text, place)
        unit = _UNITS.get(match[2]) if match is not None else None
        if match is None or unit is None:
            raise ValueError(
                f"{text[place:]!r} is not a length of time; write it as 2h or '3 days'"
            )
        if unit in found:
            raise ValueError(f"it counts {unit} twice")
        found[unit] = 1.0 if match[1].startswith("a") else float(match[1])
        if unit in _CALENDAR and not found[unit].is_integer():
            raise ValueError(f"use whole {unit}, or smaller units")
        place = match.end()
    if not found:
        raise ValueError("it doesn't say how long ago")
    return found


def _before(here: datetime, amounts: dict[str, float], zone: tzinfo) -> datetime:
    days = int(amounts.get("days", 0) + 7 * amounts.get("weeks", 0))
    months = int(amounts.get("months", 0) + 12 * amounts.get("years", 0))
    moment = here
    if days or months:
        wall = _months_before(here.replace(tzinfo=None), months) - timedelta(days=days)
        moment = wall.replace(tzinfo=zone)
    exact = timedelta(**{unit: amounts[unit] for unit in _EXACT if unit in amounts})
    return (moment.astimezone(UTC) - exact).astimezone(zone) if exact else moment


def _months_before(wall: datetime, months: int) -> datetime:
    """The same day ``months`` earlier, or that month's last day where it is shorter."""
    year, month = divmod(wall.year * 12 + wall.month - 1 - months, 12)
    if year < 1:
        raise ValueError("that is before the year 1")
    last = calendar.monthrange(year, month + 1)[1]
    return wall.replace(year=year, month=month + 1, day=min(wall.day, last))
