"""What a log of what was signed must offer, so that reads can be checked against it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from everwhen.vocabulary.contract import Page
from everwhen.vocabulary.query import Query


class SignedReading(Protocol):
    """One query's pages, taken in their order, checked against what was signed."""

    def left_out(self, page: Page) -> list[int]:
        """The signed slices that may match and aren't in the page; `judge` looks at them.

        Raises `UnprovenError` for a slice of the page that isn't signed there.
        """
        ...

    def judge(self, read: Callable[[Query, int], Page], ordinals: Collection[int]) -> None:
        """Look at each of these in the store. Raises `UnprovenError` where one does match."""
        ...


class SignedIndex(Protocol):
    """What was signed, up to a position."""

    @property
    def position(self) -> int:
        """The last position that is signed; 0 where nothing is."""
        ...

    def bounded(self, query: Query) -> Query:
        """The query up to what is signed, with its recorded time as the position it means."""
        ...

    def reading(self, query: Query) -> SignedReading:
        """What the pages of a query, which is `bounded`, are checked against."""
        ...
