"""Waypoints: the states that a journey leaves for later ones to start from."""

from __future__ import annotations

import hashlib
from bisect import bisect_right, insort
from typing import Final, Generic, TypeVar

from everwhen.state.paths import MISSING
from everwhen.state.snapshots import Loaded
from everwhen.travel.window import MAX_BYTES, bytes_apart
from everwhen.vocabulary.contract import MAX_NAME_BYTES
from everwhen.vocabulary.streams import MAX_POSITION

S = TypeVar("S")

_MAX_WAYPOINTS: Final = 256
"""Of a million events, some 4,000 to 16,000 lie between two then."""


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
        insort(self._places, position)
        self._loaded[position] = loaded
        self._bytes[position] = new
        while len(self._places) > 1 and (
            len(self._places) > self._limit or sum(self._bytes.values()) > self._most_bytes
        ):
            self._thin(position)

    def _thin(self, kept: int) -> None:
        """Give up the one without which the least has to be folded again, but never ``kept``.

        So the longest way between two stays in proportion to the whole, however long it grows.
        """
        places = [0, *self._places, MAX_POSITION]
        gone = min(
            (after - before, place)
            for before, place, after in zip(places, places[1:], places[2:], strict=False)
            if place != kept
        )[1]
        index = self._places.index(gone)
        del self._places[index], self._loaded[gone], self._bytes[gone]
        if index < len(self._places):  # what it shared with the one that is gone
            after = self._places[index]
            before = self._loaded[self._places[index - 1]].state if index else MISSING
            self._bytes[after] = bytes_apart(self._loaded[after].state, before)

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
