"""When commits were made, by their ids: what leads to most of them without a list."""

from __future__ import annotations

from typing import Final

NATURAL_MICROS: Final = 1_000_000
"""An id that was made within a second of its commit's recording leads to it by its own time."""

_UUID7: Final = 7
_VARIANT: Final = 0b10


def made_at_by(commit_id: bytes) -> int | None:
    """When a UUIDv7 was made (RFC 9562), in microseconds since 1970; None for any other id."""
    if commit_id[6] >> 4 != _UUID7 or commit_id[8] >> 6 != _VARIANT:
        return None
    return int.from_bytes(commit_id[:6]) * 1_000


def is_natural(commit_id: bytes, recorded_at: int) -> bool:
    """Whether a commit's id leads to it."""
    made_at = made_at_by(commit_id)
    return made_at is not None and abs(recorded_at - made_at) <= NATURAL_MICROS
