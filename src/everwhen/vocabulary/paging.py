"""How many events a page has, and where the next page begins."""

from __future__ import annotations

from typing import Final

import msgspec

from everwhen.vocabulary.contract import Page
from everwhen.vocabulary.query import Query

PAGE_EVENTS: Final = 2_000


def next_page(asked: Query, page: Page) -> Query:
    """The same query from where the page ended."""
    if asked.reverse:
        return msgspec.structs.replace(asked, last_position=page.cursor - 1)
    return msgspec.structs.replace(asked, after_position=page.cursor)
