# Generated from src/everwhen/partitions/_async/sharded_store.py by tools/unasync.py: edit that, then run `make sync`.
"""One name for several stores, each with the streams of its categories: for what one can't take.

A log has one order, and all writes of it pass one point. Several logs have an order each, and none
over all of them: that is the price, and it is paid in the open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final
from uuid import UUID

import msgspec

from everwhen.backends._sync.concurrency import opens
from everwhen.codec.commits import Commit, Write
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.store._sync.store import Store, open_store
from everwhen.vocabulary.contract import Checkpoint, Condition, Receipt
from everwhen.vocabulary.errors import (
    DeclarationError,
    InvalidCommitError,
    InvalidQueryError,
    NotAStoreError,
)
from everwhen.vocabulary.metadata import CommitMetadata
from everwhen.vocabulary.query import Query, Share, query_of
from everwhen.vocabulary.streams import ANY, ExpectedVersion

_PLACE: Final = "everwhen-shard"
"""The checkpoint by which each store says which one of how many it is."""


class _Place(msgspec.Struct, frozen=True):
    index: int
    count: int


class ShardedStore:
    """Several stores, in each of which whole categories are: a stream's category says in which.

    Within one of them all is as in any store: order, conditions, versions, idempotence. Between
    them there is no order and no joint commit; a position is one of its store's. What spans them,
    such as a projection, follows each of ``stores``.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        self.stores = tuple(stores)
        """All of them, in the order in which they were opened."""

    def __repr__(self) -> str:
        return f"ShardedStore({list(self.stores)!r})"

    def store_of(self, stream: str) -> Store:
        """The store that has a stream, or, given a category's name, all of its streams."""
        return self.stores[self._number_of(stream)]

    def _number_of(self, stream: str) -> int:
        count = len(self.stores)
        shares = (Share("category", index, count) for index in range(count))
        return next(share.index for share in shares if share.has(stream))

    def append(
        self,
        stream: str,
        events: Sequence[Any],
        *,
        expected: ExpectedVersion = ANY,
        condition: Condition | None = None,
        commit_id: UUID | None = None,
        metadata: CommitMetadata | None = None,
    ) -> Receipt:
        """Append events to one stream, as one commit; see `commit`."""
        return self.commit(
            Commit((Write(stream, events, expected),), condition, commit_id, metadata)
        )

    def commit(self, commit: Commit) -> Receipt:
        """Write a commit into the store of its streams, as `Store.commit` does.

        Its condition is about that store. Raises `InvalidCommitError` where its streams, or those
        that the condition names, are in several stores, or where the condition names none.
        """
        numbers = {self._number_of(write.stream) for write in commit.writes}
        if commit.condition is not None:
            numbers |= self._numbers_of(commit.condition.query)
        if len(numbers) != 1:
            raise InvalidCommitError(
                f"the commit is about {len(numbers)} of {len(self.stores)} stores, and can be "
                f"about one: write streams of categories that are together (store_of), and name "
                f"streams or categories in its condition"
            )
        return self.stores[numbers.pop()].commit(commit)

    def read(self, query: Query | str) -> Iterator[RecordedEvent[Any]]:
        """The query's events, in the order of the store that has them.

        Raises `InvalidQueryError` where several stores may have some: they have no common order.
        """
        wanted = query_of(query)
        numbers = self._numbers_of(wanted)
        if len(numbers) != 1:
            raise InvalidQueryError(
                f"{len(numbers)} of {len(self.stores)} stores may have such events, and there is "
                f"no order over several; name streams or categories of one, or read each of .stores"
            )
        for event in self.stores[numbers.pop()].read(wanted):
            yield event

    def _numbers_of(self, query: Query) -> set[int]:
        """The stores that may have events of the query."""
        numbers: set[int] = set()
        for selector in query.selectors:
            names = selector.streams or selector.categories
            numbers |= set(map(self._number_of, names)) if names else set(range(len(self.stores)))
        return numbers

    def version(self, stream: str) -> int:
        """The stream's version; 0 where it has no events."""
        return self.store_of(stream).version(stream)

    def close(self) -> None:
        """Close all of the stores."""
        with ExitStack() as closing:
            for store in self.stores:
                closing.callback(store.close)

    def __enter__(self) -> ShardedStore:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


@opens
def open_sharded_store(locations: Iterable[str], **options: Any) -> ShardedStore:
    """Open several stores as one, by category; where they are new, they are made.

    ``locations`` are those of `open_store`, such as those of logs on a cluster, always all of them
    and in the same order; ``options`` are the same for each. How many there are is settled when
    they are made: a category stays in its store. Raises `DeclarationError` where one of them is
    another one of them, or of so many, and `NotAStoreError` for one that has events of its own.
    """
    wanted = list(locations)
    if not wanted:
        raise DeclarationError("open_sharded_store() opens one location or more, and got none")
    with ExitStack() as opened:
        stores = []
        for index, location in enumerate(wanted):
            store = open_store(location, **options)
            opened.callback(store.close)
            stores.append(store)
            _check_place(store, _Place(index, len(wanted)))
        opened.pop_all()
    return ShardedStore(stores)


def _check_place(store: Store, place: _Place) -> None:
    found = store.checkpoint(_PLACE)
    if found is None:
        if (store.head()).position:
            raise NotAStoreError(
                f"{store!r}: has events, and is none of several stores; give other locations, or "
                f"copy its events into them"
            )
        with store.transaction() as transaction:
            if transaction.checkpoint(_PLACE) is None:
                kept = Checkpoint(_PLACE, 0, msgspec.json.encode(place))
                transaction.save_checkpoint(kept)
        found = store.checkpoint(_PLACE)
    known = None if found is None else msgspec.json.decode(found.data, type=_Place)
    if known != place:
        is_ = "none" if known is None else f"number {known.index + 1} of {known.count}"
        raise DeclarationError(
            f"{store!r}: is {is_}, and was opened as number {place.index + 1} of {place.count}; "
            f"give all locations, in the order in which they were made"
        )
