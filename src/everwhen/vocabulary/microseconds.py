"""Times as a store keeps them: microseconds since 1970-01-01 UTC, as integers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from everwhen.vocabulary.errors import CorruptStoreError

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
FIRST_MICROS: Final = (datetime.min.replace(tzinfo=UTC) - EPOCH) // _MICROSECOND
LAST_MICROS: Final = (datetime.max.replace(tzinfo=UTC) - EPOCH) // _MICROSECOND
"""The years 1 to 9999: no other time can be given back."""


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC. Raises ``ValueError`` for a moment without a zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; add one, such as +00:00")
    return (moment - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The moment, in UTC. Raises `CorruptStoreError` for anything else, as only damage makes."""
    try:
        return EPOCH + timedelta(microseconds=micros)
    except (TypeError, OverflowError) as error:
        raise CorruptStoreError(
            f"a stored time is damaged ({error}); run check(), and restore the store from a backup"
        ) from error
