# Generated from tests/_async/test_sharded_store.py by tools/unasync.py: edit that, then run `make sync`.
"""Several stores as one: what goes together stays together, and what doesn't is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.nats_cluster import NatsCluster

from everwhen import Commit, Condition, Query, UnknownEvent, Write, open_store
from everwhen.errors import (
    ConflictError,
    DeclarationError,
    InvalidCommitError,
    InvalidQueryError,
    NotAStoreError,
)
from everwhen.partitions import open_sharded_store

CATEGORIES = ("game", "player", "table", "audit", "payment", "stock")


def _event(number: int) -> UnknownEvent:
    return UnknownEvent("Counted", {"number": number})


@pytest.fixture(params=["files", "cluster"])
def locations(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    if request.param == "files":
        return [str(tmp_path / f"{number}.db") for number in range(3)]
    nats: NatsCluster = request.getfixturevalue("nats")
    return [nats.url(nats.new_name(), tmp_path / f"{number}.db") for number in range(3)]


def test_each_category_is_in_one_store(locations: list[str]) -> None:
    with open_sharded_store(locations) as stores:
        for number, category in enumerate(CATEGORIES):
            for stream in (f"{category}-1", f"{category}-2"):
                stores.append(stream, [_event(number)], expected=0)
        with pytest.raises(ConflictError):
            stores.append("game-1", [_event(0)], expected=0)
    with open_sharded_store(locations) as stores:
        heads = [(store.head()).position for store in stores.stores]
        assert sum(heads) == 2 * len(CATEGORIES)
        assert sum(head > 0 for head in heads) > 1
        for number, category in enumerate(CATEGORIES):
            found = [event.event for event in stores.read(Query().category(category))]
            assert found == [_event(number)] * 2
            store = stores.store_of(category)
            assert store is stores.store_of(f"{category}-1")
            assert store.version(f"{category}-2") == 1
            assert stores.version(f"{category}-2") == 1


def test_what_spans_several_stores_is_refused(locations: list[str]) -> None:
    with open_sharded_store(locations) as stores:
        first = CATEGORIES[0]
        apart = next(c for c in CATEGORIES if stores.store_of(c) is not stores.store_of(first))
        both = Commit([Write(f"{name}-1", [_event(1)]) for name in (first, apart)])
        with pytest.raises(InvalidCommitError, match="is about 2 of 3 stores"):
            stores.commit(both)
        stores.append(f"{first}-1", [_event(1)])
        own, other, anything = Query().category(first), Query().category(apart), Query()
        for query in (other, anything):
            with pytest.raises(InvalidCommitError, match="of 3 stores"):
                stores.append(f"{first}-1", [_event(2)], condition=Condition(query, 9))
        stores.append(f"{first}-1", [_event(2)], condition=Condition(own, 1))
        for query in (own | other, anything, Query().types("Counted")):
            with pytest.raises(InvalidQueryError, match="no order over several"):
                _ = [event for event in stores.read(query)]
        assert [event.position for event in stores.read(f"{first}-1")] == [1, 2]


def test_they_are_opened_as_they_were_made(locations: list[str]) -> None:
    with open_sharded_store(locations):
        pass
    for wrong in ([*reversed(locations)], locations[:2]):
        with pytest.raises(DeclarationError, match="give all locations, in the order"):
            open_sharded_store(wrong)
    with pytest.raises(DeclarationError, match="got none"):
        open_sharded_store([])


def test_a_store_that_has_events_becomes_none_of_them(tmp_path: Path) -> None:
    with open_store(tmp_path / "own.db") as store:
        store.append("game-1", [_event(1)])
    with pytest.raises(NotAStoreError, match="has events, and is none of several"):
        open_sharded_store([str(tmp_path / "own.db"), str(tmp_path / "new.db")])
