"""The times of foreign events: RFC 3339 in full, what of it is lost, and events without any."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo
from typing import Final

from everwhen.exchange.moments import micros_of
from everwhen.exchange.notices import Notices
from everwhen.vocabulary.errors import DeclarationError
from everwhen.vocabulary.microseconds import EPOCH, from_micros, to_micros

FINER: Final = "times finer than a microsecond, cut to microseconds"
LEAP: Final = "leap seconds, read as the second after them"
NOW: Final = "events without a time, recorded now"
BORROWED: Final = (
    "events without a time, given the time of the event before, or the first time in the file"
)
AT_GIVEN_TIME: Final = "events without a time, given the time of --time"

_TO_THE_MICROSECOND: Final = len("2026-01-01T00:00:00.123456")
_FINER: Final = re.compile(r"[.,]\d{6}0*[1-9]")
_LEAP: Final = re.compile(r"(.{10}[T ]\d\d:\d\d):60(.*)", re.DOTALL)
_LAST_MINUTE: Final = timedelta(hours=23, minutes=59)
_SECOND_MICROSECONDS: Final = 1_000_000


def time_of(text: str, zone: tzinfo | None = None) -> tuple[int, str | None]:
    """The moment that a text means, in microseconds since 1970 UTC, and a notice or None.

    ``zone`` is for texts that don't say theirs. Raises ``ValueError``.
    """
    notice: str | None = None
    try:
        micros = micros_of(text, zone)
    except ValueError as error:
        upper = text.upper()
        leap = _LEAP.fullmatch(upper)
        try:
            if leap is None:
                micros = micros_of(upper, zone)
            else:
                second_before = micros_of(f"{leap[1]}:59{leap[2]}", zone)
        except ValueError:
            raise error from error.__cause__
        if leap is not None:
            micros, notice = _after_leap_second(text, second_before), LEAP
    if len(text) > _TO_THE_MICROSECOND and _FINER.search(text):
        notice = FINER
    return micros, notice


def _after_leap_second(text: str, second_before: int) -> int:
    moment = from_micros(second_before)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if moment - midnight < _LAST_MINUTE:
        raise ValueError(f"{text!r} has 60 seconds, and no leap second: those are at 23:59:60 UTC")
    micros = second_before + _SECOND_MICROSECONDS
    if micros > to_micros(datetime.max.replace(tzinfo=EPOCH.tzinfo)):
        raise ValueError(f"{text!r} is out of range")
    return micros


def checked(time: datetime | None) -> datetime | None:
    """The time that a format is given for events without one. Raises `DeclarationError`."""
    if time is not None:
        try:
            to_micros(time)
        except (ValueError, TypeError, AttributeError) as error:
            raise DeclarationError(f"time={time!r}: use a datetime with a time zone") from error
    return time


class Untimed:
    """Gives events without a time one: the one asked for, or that of the event before.

    Where no event of the file has a time, they have none either: they are recorded as of now.
    """

    def __init__(self, given: datetime | None) -> None:
        self._given = None if given is None else to_micros(given)
        self._has_times = False
        self._first_line = self._count = 0

    @property
    def is_given(self) -> bool:
        """Whether one was asked for."""
        return self._given is not None

    def seen(self) -> None:
        """An event had a time."""
        self._has_times = True

    def time_after(self, before: int, line: int) -> int:
        """The time for an event without one, that of the event before it being ``before``."""
        self._first_line = self._first_line or line
        self._count += 1
        return before if self._given is None else self._given

    def tell(self, notices: Notices) -> None:
        """Add what became of them, at the end of the file."""
        if self._count:
            what = AT_GIVEN_TIME if self._given is not None else BORROWED
            if self._given is None and not self._has_times:
                what = NOW
            notices.add(what, self._first_line, self._count)
