"""Waypoints: the states that a journey leaves for later ones to start from."""

from __future__ import annotations

import hashlib
from bisect import bisect_right, insort
from typing import Final, Generic, TypeVar

from everwhen.state.paths import MISSING
from everwhen.state.snapshots import Loaded
from everwhen.travel.window import MAX_BYTES, bytes_apart
from everwhen.vocabulary.contract import MAX_NAME_BYTES

S = TypeVar("S")

_MAX_WAYPOINTS: Final = 256
"""More are thinned to half: in a million events, 4,000 to 8,000 lie between two."""


class Waypoints(Generic[S]):
    """States at places in history, in memory: thinned when they become too many, or too large.

    ``limit`` is how many there may be. What they share with one another counts once.
    """

    def __init__(self, limit: int = _MAX_WAYPOINTS, *, most_bytes: int = MAX_BYTES) -> None:
        self._limit = limit
        self._most_bytes = most_bytes
        self._places: list[int] = []
        self._loaded: dict[int, Loaded[S]] = {}
        self._bytes: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, loaded: Loaded[S]) -> None:
        """Remember a state; nobody may change it any more."""
        position = loaded.read_until
        if position in self._loaded:
            return
        nearest = self.newest(position)
        new = bytes_apart(loaded.state, MISSING if nearest is None else nearest.state)
        while self._places and (
            len(self._places) >= self._limit or sum(self._bytes.values()) + new > self._most_bytes
        ):
            for gone in self._places[::2]:
                del self._loaded[gone], self._bytes[gone]
            self._places = self._places[1::2]
        insort(self._places, position)
        self._loaded[position] = loaded
        self._bytes[position] = new

    def newest(self, up_to: int) -> Loaded[S] | None:
        """The last state that has nothing after the position."""
        index = bisect_right(self._places, up_to)
        return self._loaded[self._places[index - 1]] if index else None


def travel_subject(subject: str) -> str:
    """The name that waypoints are kept under, apart from the snapshots of the same state."""
    name = f"travel/{subject}"
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    return f"travel#{hashlib.sha256(subject.encode()).hexdigest()}"
