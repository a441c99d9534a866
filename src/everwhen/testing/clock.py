"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

DAWN: Final = datetime(2024, 1, 1, tzinfo=UTC)


class ManualClock:
    """A clock for ``open_store(clock=…)`` and for backends: the test owns the time.

    It starts at 2024-01-01 00:00 UTC by default, and moves only by `advance` and
    `set`. It may be moved backwards, as a machine's clock sometimes is.
    """

    def __init__(self, now: datetime = DAWN) -> None:
        self._now = _zoned(now)

    def __call__(self) -> datetime:
        """The time it is now."""
        return self._now

    def advance(self, seconds: float) -> datetime:
        """Move on by that many seconds, or back where they are negative. Returns the new time."""
        self._now += timedelta(seconds=seconds)
        return self._now

    def set(self, moment: datetime) -> None:
        """Jump to a moment. Raises ``ValueError`` for one without a time zone."""
        self._now = _zoned(moment)

    def __repr__(self) -> str:
        return f"ManualClock({self._now.isoformat()})"


def _zoned(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; add one, such as tzinfo=UTC")
    return moment
