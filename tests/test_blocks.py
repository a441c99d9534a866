"""A block holds what its slices held; what is read, folded and hashed of it is the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everwhen import Commit, Event, Fold, NewEvent, Query, RecordedEvent, Write, open_store
from everwhen.codec.blocks import Block
from everwhen.codec.recorded_events import held_bytes
from everwhen.merkle.leaf_hashes import Leaves
from everwhen.store.page_decoding import events_of_page, foldable_page, folded_page
from everwhen.vocabulary import CommitMetadata
from everwhen.vocabulary.contract import Page, StoredSlice


class Paid(Event):
    amount: int


class Note(Event):
    text: str


TOTAL: Fold[int] = Fold("total", int)
SEEN: Fold[list[tuple[Any, ...]]] = Fold("seen", list)


@TOTAL.on(Paid)
def _(state: int, event: Paid) -> int:
    return state + event.amount


@SEEN.otherwise
def _(state: list[Any], recorded: RecordedEvent[Any]) -> list[Any]:
    return [*state, everything_of(recorded)]


EVENTS = st.builds(
    lambda event, tags, days: NewEvent(
        event=event,
        tags=tags,
        occurred_at=None if days is None else datetime(2024, 1, 1 + days, tzinfo=UTC),
    ),
    st.builds(Paid, st.integers(0, 9)) | st.builds(Note, st.text(max_size=3)),
    st.sampled_from([(), ("red",), ("red", "blue")]),
    st.none() | st.integers(0, 20),
)
COMMITS = st.builds(
    lambda writes, user: Commit(writes, metadata=user and CommitMetadata(user_id=user)),
    st.lists(
        st.builds(Write, st.sampled_from(["a-1", "a-2", "b"]), st.lists(EVENTS, min_size=1)),
        min_size=1,
        max_size=3,
        unique_by=lambda write: write.stream,
    ),
    st.sampled_from([None, "ann"]),
)
QUERIES = st.builds(
    lambda base, after, last, reverse: _bounded(base, after, last, reverse=reverse),
    st.sampled_from(
        [
            Query(),
            Query().stream("a-1"),
            Query().category("a"),
            Query().types("Paid"),
            Query().tags("red"),
            Query().stream("a-1").from_version(2),
        ]
    ),
    st.integers(0, 4),
    st.none() | st.integers(3, 9),
    st.booleans(),
)


def _bounded(query: Query, after: int, last: int | None, *, reverse: bool) -> Query:
    query = query.after(after) if after else query
    query = query if last is None else query.up_to(last)
    return query.backwards() if reverse else query


def everything_of(event: RecordedEvent[Any]) -> tuple[Any, ...]:
    return (
        *(event.position, event.version, event.type, event.stream, event.tags, event.recorded_at),
        *(event.occurred_at, event.event_id, event.commit_id, event.metadata, event.event),
        *(event.data, event.json, hash(event), repr(event), event._slice, event._index),
    )


def in_order(slices: list[StoredSlice]) -> Block:
    block = Block.of(slices)
    assert block is not None
    return block


@pytest.mark.slow
@given(st.lists(COMMITS, min_size=1, max_size=6), st.lists(QUERIES, min_size=1, max_size=6))
def test_whatever_is_asked_of_a_block(commits: list[Commit], queries: list[Query]) -> None:
    with open_store("memory:", events=[Paid, Note]) as store:
        store.commit_batch(commits)
        slices = list(store.kernel.backend.read_here(Query(), 10_000).slices)
        codec, block = store.kernel.codec, in_order(slices)
    assert list(block) == slices
    assert [block[row] for row in range(-len(slices), len(slices))] == slices * 2
    assert block.events == sum(one.count for one in slices)
    for query in queries:
        found = Page(slices[:: -1 if query.reverse else 1], 0, end=True)
        page = Page(block[::-1] if query.reverse else block, 0, end=True)
        for typed in (False, True):
            events = events_of_page(page, query, query, codec, typed=typed)
            wanted = events_of_page(found, query, query, codec, typed=typed)
            assert events == wanted
            assert [*map(everything_of, events)] == [*map(everything_of, wanted)]
        assert folded_page(page, query, query, codec, TOTAL, 0) == folded_page(
            found, query, query, codec, TOTAL, 0
        )
        assert folded_page(page, query, query, codec, SEEN, []) == folded_page(
            found, query, query, codec, SEEN, []
        )
        if not query.reverse:
            events, places = foldable_page(page, query, query, codec, TOTAL)
            wanted, theirs = foldable_page(found, query, query, codec, TOTAL)
            assert events == wanted
            for index in range(len(events)):
                assert places(index) == theirs(index)
                assert places.words(index)(0) == theirs.words(index)(0)
    mine: list[int] = []
    theirs_: list[int] = []
    assert Leaves().take(block, mine, end=True) == Leaves().take(slices, theirs_, end=True)
    assert mine == theirs_


@given(st.lists(COMMITS, min_size=1, max_size=6), st.data())
def test_a_part_of_a_block_is_one(commits: list[Commit], data: st.DataObject) -> None:
    with open_store("memory:", events=[Paid, Note]) as store:
        store.commit_batch(commits)
        slices = list(store.kernel.backend.read_here(Query(), 10_000).slices)
    index = data.draw(st.slices(len(slices)))
    part = in_order(slices)[index]
    assert list(part) == slices[index]
    if index.step in (None, 1) and part:
        assert type(part) is Block
        assert list(part[1:]) == slices[index][1:]
    with pytest.raises(IndexError):
        in_order(slices)[len(slices)]


SLICE = StoredSlice(1, "a", 1, 1, 5, b"i" * 16, 0, None, b'[["Paid",1,{"amount":1}]]')


@pytest.mark.parametrize(
    "slices",
    [
        [SLICE, SLICE],
        [msgspec.structs.replace(SLICE, body=b"{}")],
        [msgspec.structs.replace(SLICE, body=b"[]")],
        [msgspec.structs.replace(SLICE, commit_id=b"short")],
    ],
    ids=["twice", "no list", "empty", "id"],
)
def test_what_is_no_block(slices: list[StoredSlice]) -> None:
    assert Block.of(slices) is None


@pytest.mark.parametrize("body", [b'[["Paid",1,{"amount":1}],["Paid",1,{}]]', b"[7]", b"[{]"])
def test_what_a_block_can_t_hold_is_told_of_as_of_a_slice(body: bytes) -> None:
    with open_store("memory:", events=[Paid, Note]) as store:
        codec = store.kernel.codec
    damaged = msgspec.structs.replace(SLICE, position=2, body=body)
    told = []
    for slices in ([SLICE, damaged], in_order([SLICE, damaged])):
        with pytest.raises(Exception, match="position 2") as failure:
            events_of_page(Page(slices, 2, end=True), Query(), Query(), codec)
        told.append((type(failure.value), str(failure.value)))
    assert told[0] == told[1]


def test_the_text_that_events_of_a_block_share_is_counted_once() -> None:
    with open_store("memory:", events=[Paid, Note]) as store:
        store.commit_batch([Commit([Write("a", [Paid(n)])]) for n in range(50)])
        slices = list(store.kernel.backend.read_here(Query(), 100).slices)
        events = events_of_page(
            Page(in_order(slices), 50, end=True), Query(), Query(), store.kernel.codec
        )
    assert held_bytes(events) == len(in_order(slices).entries)
