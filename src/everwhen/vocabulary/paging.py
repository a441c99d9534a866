"""How many events a page has, and where the next page begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from everwhen.vocabulary.contract import Page
from everwhen.vocabulary.query import Query

PAGE_EVENTS: Final = 2_000
"""Enough that a page's fixed costs don't matter, few enough that one is a moment's work."""

ReadPage: TypeAlias = Callable[[Query, int], Page]
"""Reads one page of about that many events."""


def next_page(asked: Query, page: Page) -> Query:
    """The same query from where the page ended."""
    if asked.reverse:
        return msgspec.structs.replace(asked, last_position=page.cursor - 1)
    return msgspec.structs.replace(asked, after_position=page.cursor)
