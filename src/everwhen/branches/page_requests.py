"""What a branch asks its two logs for, apart from how it is got.

What takes several pages is a generator: it yields a `PageRequest` for what it needs, is sent the
pages, and returns what it comes to. `answered` drives one by calls that block, as inside a
transaction; `ParentLog` by awaiting.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, TypeAlias, TypeVar

from everwhen.vocabulary.contract import Page
from everwhen.vocabulary.paging import ReadPage
from everwhen.vocabulary.query import Query

T = TypeVar("T")


class PageRequest(NamedTuple):
    """For each query a page of about ``events`` events is needed.

    It is one of the parent, or with ``of_own`` of the branch's own log, in that log's terms.
    """

    queries: tuple[Query, ...]
    events: int
    of_own: bool = False


Steps: TypeAlias = Generator[PageRequest, list[Page], T]


def answered(steps: Steps[T], parent: ReadPage, own: ReadPage) -> T:
    """What the steps return, given the pages that they ask for."""
    pages: Any = None
    while True:
        try:
            asked = steps.send(pages)
        except StopIteration as done:
            result: T = done.value
            return result
        read = own if asked.of_own else parent
        pages = [read(query, asked.events) for query in asked.queries]
