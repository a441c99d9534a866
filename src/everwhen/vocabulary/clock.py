"""The clock a store asks for ``recorded_at``; a parameter everywhere, so tests own the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

from everwhen.vocabulary.errors import DeclarationError
from everwhen.vocabulary.microseconds import to_micros

Clock: TypeAlias = Callable[[], datetime]
"""Gives the present moment, with a time zone."""


def micros_by(clock: Clock) -> Callable[[], int]:
    """The clock in microseconds since 1970-01-01 UTC; the system's without detours.

    What it returns raises `DeclarationError` for a clock that gives anything but zoned moments.
    """
    if clock is system_clock:
        return lambda: time.time_ns() // 1_000

    def micros() -> int:
        moment = clock()
        try:
            return to_micros(moment)
        except (ValueError, TypeError, AttributeError) as error:
            raise DeclarationError(
                f"the clock gave {moment!r}; it must give a datetime with a time zone"
            ) from error

    return micros


def clock_from(moment: datetime | None, clock: Clock) -> Clock:
    """The clock, which stands still at the moment as long as it would be earlier."""
    if moment is None:
        return clock

    def later() -> datetime:
        now = clock()
        is_earlier = isinstance(now, datetime) and now.tzinfo is not None and now < moment
        return moment if is_earlier else now

    return later


def system_clock() -> datetime:
    """The machine's clock, in UTC."""
    return datetime.now(UTC)
