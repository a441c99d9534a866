"""What a writer may believe about a stream, and what a stream's name says."""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

MAX_POSITION: Final = (1 << 63) - 1
"""No position or version is larger: what a signed integer of 64 bits holds."""


class Expected(enum.Enum):
    """A writer's belief about a stream, where it is not a version."""

    ANY = "any"
    NO_STREAM = "no stream"
    EXISTS = "exists"

    def __repr__(self) -> str:
        return self.name


ANY: Final = Expected.ANY
NO_STREAM: Final = Expected.NO_STREAM
EXISTS: Final = Expected.EXISTS
ExpectedVersion: TypeAlias = int | Expected


def holds(expected: ExpectedVersion, actual: int) -> bool:
    """Whether a stream at version ``actual`` is where the writer believes it to be."""
    if expected is Expected.ANY:
        return True
    if expected is Expected.NO_STREAM:
        return actual == 0
    if expected is Expected.EXISTS:
        return actual > 0
    return expected == actual


def category_of(stream: str) -> str:
    """The part of a stream's name before its first ``-``, or the whole name."""
    return stream.partition("-")[0]
