"""By what a store is partitioned, as values: which events are together in a file."""

from __future__ import annotations

from datetime import timedelta
from hashlib import blake2b
from typing import Final, TypeAlias

import msgspec

from everwhen.vocabulary.errors import DeclarationError
from everwhen.vocabulary.streams import category_of

MAX_PARTITIONS: Final = 64
"""Of those that are written side by side: each keeps some ten files open in each process."""

_MICROSECOND: Final = timedelta(microseconds=1)
_LEAST_INTERVAL: Final = timedelta(seconds=1)


class ByStream(msgspec.Struct, frozen=True, tag="stream", tag_field="by"):
    """Each stream in one of so many files, by a digest of its name.

    Several processes write side by side, each to another file. A commit can't touch streams of two
    partitions. Raises `DeclarationError` for a number that isn't between 1 and 64.
    """

    partitions: int

    def __post_init__(self) -> None:
        _check_partitions(self)

    def key(self, stream: str) -> str:
        """What is together: the stream."""
        return stream


class ByCategory(msgspec.Struct, frozen=True, tag="category", tag_field="by"):
    """The same, by a digest of the category: streams of one are always in the same file.

    A commit may touch all streams of a category. Raises `DeclarationError` for a number that isn't
    between 1 and 64.
    """

    partitions: int

    def __post_init__(self) -> None:
        _check_partitions(self)

    def key(self, stream: str) -> str:
        """What is together: all streams of the category."""
        return category_of(stream)


class ByTime(msgspec.Struct, frozen=True, tag="time", tag_field="by"):
    """What is recorded in one interval in one file: intervals follow on 1970-01-01, in UTC.

    Only the newest file is written. Raises `DeclarationError` for less than a second.
    """

    interval: timedelta

    def __post_init__(self) -> None:
        if not isinstance(self.interval, timedelta) or self.interval < _LEAST_INTERVAL:
            raise DeclarationError(
                f"ByTime({self.interval!r}): give a timedelta of a second or more, such as "
                f"timedelta(days=30)"
            )

    def interval_of(self, recorded_at: int) -> int:
        """The number of the interval that the time, in microseconds, is in."""
        return recorded_at // (self.interval // _MICROSECOND)


class BySize(msgspec.Struct, frozen=True, tag="size", tag_field="by"):
    """So many events in one file: it ends with the commit that reaches the number.

    Only the newest file is written. Raises `DeclarationError` for less than one event.
    """

    events: int

    def __post_init__(self) -> None:
        if not _is_whole(self.events) or self.events < 1:
            raise DeclarationError(
                f"BySize({self.events!r}): give a whole number of events, from 1"
            )


ByAggregate: TypeAlias = ByStream | ByCategory
"""Partitions that are written side by side."""
Successive: TypeAlias = ByTime | BySize
"""Partitions that follow on each other: only the newest is written."""
PartitionStrategy: TypeAlias = ByStream | ByCategory | ByTime | BySize


def partition_of(key: str, partitions: int) -> int:
    """The partition of so many that a key is in: the same on every machine, for ever."""
    digest = blake2b(key.encode(errors="surrogatepass"), digest_size=8).digest()  # any may be asked
    return int.from_bytes(digest, "big") % partitions


def _check_partitions(strategy: ByAggregate) -> None:
    number = strategy.partitions
    if not _is_whole(number) or not 1 <= number <= MAX_PARTITIONS:
        raise DeclarationError(
            f"{type(strategy).__name__}({number!r}): give a whole number of partitions, from 1 to "
            f"{MAX_PARTITIONS}"
        )


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)
