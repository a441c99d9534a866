# Generated from src/everwhen/tiers/_async/hot_border.py by tools/unasync.py: edit that, then run `make sync`.
"""Up to where all categories agree that history may be sealed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from everwhen.backends._sync.backend import Backend
from everwhen.store._sync.store import Store
from everwhen.tiers.history_policy import HeldBack, HistoryPolicy
from everwhen.vocabulary.paging import next_page
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.streams import category_of

_PAGE_EVENTS: Final = 256
"""One block of marks: what a category is looked for by."""


def hot_border(
    store: Store, policy: HistoryPolicy, sealed: int
) -> tuple[int, HeldBack | None] | None:
    """The last position that the policy lets be sealed, and what keeps it from being a later one.

    None where the policy seals nothing. ``sealed`` is the position up to which all is sealed:
    nothing is looked for before it. For each category that keeps its events for longer than others,
    its first event is asked for, of those that it keeps.
    """
    default = _position_before(store, policy)
    if default is None:
        return None
    named = {
        category: _position_before(store, policy.of_category(category)) or 0
        for category in policy.per_category
    }
    backend = store.kernel.backend
    border, held_back = max([default, *named.values()]), None
    for category, position in sorted(named.items(), key=lambda item: item[1]):
        begins = max(position, sealed)
        query = Query().category(category).after(begins).up_to(max(begins, border))
        found = _first(backend, query, category.__eq__)
        if found is not None:
            border, held_back = found.position - 1, found
    if border > max(default, sealed):
        query = Query().after(max(default, sealed)).up_to(border)
        found = _first(backend, query, lambda category: category not in named)
        if found is not None:
            border, held_back = found.position - 1, found
    return border, held_back


def _position_before(store: Store, policy: HistoryPolicy) -> int | None:
    """The last position that is old enough by the policy's own duration; None where none is."""
    try:
        age = policy.sealed_after
        return None if age is None else store.position_at(store.clock() - age)
    except OverflowError:  # before the year 1
        return None


def _first(backend: Backend, query: Query, is_one: Callable[[str], bool]) -> HeldBack | None:
    """The first event of a query whose category is one of those that are looked for."""
    while True:
        page = backend.read(query, _PAGE_EVENTS)
        for stored in page.slices:
            category = category_of(stored.stream)
            if is_one(category):
                return HeldBack("seal", category, stored.position - stored.count + 1)
        if page.end:
            return None
        query = next_page(query, page)
