"""Moments: the places in a history that a state can be asked for."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, TypeAlias

import msgspec

from everwhen.vocabulary.errors import InvalidQueryError
from everwhen.vocabulary.streams import MAX_POSITION

HEAD: Final = MAX_POSITION
"""The newest event's position, whichever it is."""


class AsOf(msgspec.Struct, frozen=True):
    """What had happened by a time, by ``occurred_at``, whenever it was recorded.

    Events are folded in the order in which they happened; of those of one moment, in the order in
    which they were recorded.
    """

    time: datetime


class Version(msgspec.Struct, frozen=True):
    """A version of a stream; of the one that is travelled, unless another is named."""

    number: int
    stream: str | None = None


class Bookmark(msgspec.Struct, frozen=True):
    """A position that was given a name."""

    name: str


class Back(msgspec.Struct, frozen=True):
    """That many events before here; after it, where the number is negative."""

    events: int


class Before(msgspec.Struct, frozen=True):
    """That long before here, by recorded time; after it, where the time is negative."""

    time: timedelta


Moment: TypeAlias = int | datetime | AsOf | Version | Bookmark | Back | Before
"""A position, a recorded time (with a zone), or one of the forms of this module."""


def given_moment(moment: object) -> Moment:
    """The moment, checked. Raises `InvalidQueryError` for anything else."""
    if isinstance(moment, bool) or not isinstance(
        moment, int | datetime | AsOf | Version | Bookmark | Back | Before
    ):
        raise InvalidQueryError(
            f"{moment!r} is not a moment; give a position, a datetime with a time zone, AsOf, "
            f"Version, Bookmark, Back or Before"
        )
    if isinstance(moment, int) and moment < 0:
        raise InvalidQueryError(f"position {moment} is before the first; positions are 1, 2, 3 …")
    return moment
