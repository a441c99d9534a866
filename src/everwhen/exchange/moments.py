"""Times as texts, and as microseconds since 1970 UTC."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from everwhen.vocabulary.microseconds import (
    EPOCH,
    FIRST_MICROS,
    LAST_MICROS,
    from_micros,
    to_micros,
)

_OFFSET: Final = re.compile(r"([+-])(\d\d):?(\d\d)")
_WITH_YEAR: Final = re.compile(r"%-?[YyGCcxs]")
"""Directives that say the year, alone or with all else."""


class ZoneMissingError(ValueError):
    """A time that doesn't say its zone, where none is assumed."""


def text_of(micros: int) -> str:
    """The moment in ISO 8601, in UTC."""
    return from_micros(micros).isoformat().replace("+00:00", "Z")


def micros_of(text: str, zone: tzinfo | None = None) -> int:
    """The moment that an ISO 8601 text means; ``zone`` is for texts that don't say theirs.

    Raises ``ValueError``.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text[:60]!r} is not an ISO 8601 time") from error
    return _micros(moment, text, zone)


def zone_named(name: str) -> tzinfo:
    """``UTC``, an offset such as ``+02:00``, or a name of the time zone database.

    Raises ``ValueError``.
    """
    if name in {"UTC", "Z"}:
        return UTC
    if match := _OFFSET.fullmatch(name):
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        return timezone(-offset if match[1] == "-" else offset)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(
            f"there is no time zone {name!r}; use UTC, an offset such as +02:00, or a name such as "
            f"Europe/Berlin"
        ) from error


def reader_of(time_format: str, zone: tzinfo | None) -> Callable[[str], int]:
    """How to read times written as ``iso``, ``s`` or ``ms`` since 1970, or as strptime says.

    Raises ``ValueError`` for a format that strptime doesn't understand, or that has no year.
    """
    if time_format == "iso":
        return lru_cache(4_096)(lambda text: micros_of(text, zone))
    if time_format in {"s", "ms"}:
        scale = 1_000_000 if time_format == "s" else 1_000
        return lambda text: _since_1970(text, scale)
    if not _WITH_YEAR.search(time_format):
        raise ValueError(
            f"the time format {time_format!r} has no year; use iso, s, ms or directives of "
            f"Python's strptime, with %Y"
        )
    try:
        datetime.strptime(EPOCH.strftime(time_format), time_format)  # noqa: DTZ007 (only tried)
    except (ValueError, re.error) as error:
        raise ValueError(
            f"the time format {time_format!r} isn't understood ({error}); use iso, s, ms or "
            f"directives of Python's strptime"
        ) from error
    return lambda text: _micros(datetime.strptime(text, time_format), text, zone)  # noqa: DTZ007 (the zone is added)


def _since_1970(text: str, scale: int) -> int:
    try:
        whole = int(text) * scale
    except ValueError:
        try:
            whole = round(float(text) * scale)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{text[:60]!r} is not a number of seconds or milliseconds") from error
    if not FIRST_MICROS <= whole <= LAST_MICROS:
        raise ValueError(f"{text[:60]!r} is not a time between the years 1 and 9999")
    return whole


def _micros(moment: datetime, text: str, zone: tzinfo | None) -> int:
    if moment.tzinfo is None:
        if zone is None:
            raise ZoneMissingError(f"{text!r} has no time zone; say which one is meant")
        moment = moment.replace(tzinfo=zone)
    try:
        micros = to_micros(moment)
    except OverflowError as error:
        raise ValueError(f"{text!r} is out of range") from error
    if not FIRST_MICROS <= micros <= LAST_MICROS:
        raise ValueError(f"{text!r} is out of range")
    return micros


__all__ = ["EPOCH", "ZoneMissingError", "micros_of", "reader_of", "text_of", "zone_named"]
