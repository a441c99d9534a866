"""What events are found by in every database, and how closely their places are marked."""

from __future__ import annotations

from typing import Final

from everwhen.vocabulary.query import Query, Selector

TAG: Final = 1
TYPE: Final = 2
CATEGORY: Final = 3
"""The kinds of terms, as they are stored."""

BLOCK: Final = 256
"""How many positions share a mark of their types and categories. Fewer would cost more to write,
and more would have a rare type's reader go through more that isn't meant. It is part of the format:
a store's marks were made with it."""

_ANYTHING: Final = (Selector(),)


def block_of(position: int) -> int:
    """The last position of the block that the position is in."""
    return position | (BLOCK - 1)


def everything(query: Query) -> bool:
    """Whether every slice in the query's window matches that is in its share."""
    return (
        query.selectors == _ANYTHING
        and query.min_version is None
        and query.max_version is None
        and query.recorded_until is None
    )
