# Generated from tests/_async/test_retiring.py by tools/unasync.py: edit that, then run `make sync`.
"""What is retired is gone, and is never taken for what never was."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from everwhen import Commit, Query, Store, UnknownEvent, Write, open_store
from everwhen.errors import ConditionError, ConflictError, RetiredError, StatementError
from everwhen.system.object_storage import object_url
from everwhen.testing import ManualClock
from everwhen.vocabulary import Condition
from everwhen.vocabulary.contract import Archive, Evict, Retire, Seal, SegmentSize, Sweep

SIZE = SegmentSize(slices=10, frame=4, frames=2)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def note(number: int) -> UnknownEvent:
    return UnknownEvent("Noted", {"n": number})


def filled(path: Path | str, clock: ManualClock) -> Store:
    """A store of 40 events: streams a to d in turn, and e with one event at the end."""
    store = open_store(path, clock=clock)
    for number in range(39):
        store.append("abcd"[number % 4], [note(number)])
        clock.advance(1)
    store.append("e", [note(39)])
    return store


def retired(location: str, clock: ManualClock, *, archive: Path | None = None) -> Store:
    """The same, of which 30 are sealed, some of them archived, and the first 20 retired."""
    store = filled(location, clock)
    backend = store.kernel.backend
    while backend.move(Seal(30, SIZE)) is not None:
        pass
    if archive is not None:
        for segment in backend.segments():
            backend.move(Archive(segment.last, object_url(archive)))
            backend.move(Evict(segment.last))
    backend.move(Retire(20, recorded=40))
    return store


def positions(store: Store, query: Query) -> list[int]:
    return [event.position for event in store.read(query)]


@pytest.mark.parametrize("archives", [False, True])
def test_reading_says_what_was_retired(
    location: str, tmp_path: Path, clock: ManualClock, archives: bool
) -> None:
    archive = tmp_path / "archive" if archives else None
    with retired(location, clock, archive=archive) as store:
        lacking = [
            Query(),
            Query().after(19),
            Query().up_to(20),
            Query().backwards(),
            Query().stream("a"),
            Query().stream("a").from_version(5),
            Query().stream("a", "e"),
            Query().category("e"),
            Query().types("Noted").backwards(),
        ]
        for query in lacking:
            with pytest.raises(RetiredError, match="up to position 20 were retired") as caught:
                positions(store, query)
            assert caught.value.last == 20
        left = list(range(21, 41))
        assert positions(store, Query().after(20)) == left
        assert positions(store, Query().skipping_retired()) == left
        assert positions(store, Query().backwards().limit(20)) == left[::-1]
        assert positions(store, Query().backwards().skipping_retired()) == left[::-1]
        assert positions(store, Query().up_to(20).skipping_retired()) == []
        assert positions(store, Query().stream("e")) == [40]
        assert positions(store, Query().stream("a").from_version(6)) == list(range(21, 40, 4))
        assert positions(store, Query().stream("nobody")) == []
        assert store.check() == []


def test_sql_says_what_was_retired(tmp_path: Path, clock: ManualClock) -> None:
    with retired(str(tmp_path / "s.db"), clock) as store:
        with store.sql_connection() as connection:
            with pytest.raises(StatementError, match="up to position 20 were retired"):
                connection.execute("SELECT count(*) FROM events").fetchall()


def test_the_store_goes_on_where_it_was(location: str, clock: ManualClock) -> None:
    with retired(location, clock) as store:
        assert [(info.name, info.version) for info in store.streams()] == [
            ("a", 10), ("b", 10), ("c", 10), ("d", 9), ("e", 1)
        ]  # fmt: skip
        assert (store.head()).position == 40
        receipt = store.append("a", [note(40)], expected=10)
        assert (receipt.position, receipt.versions) == (41, {"a": 11})
        with pytest.raises(ConflictError):
            store.append("a", [note(41)], expected=5)
        everything = Query().types("Noted")
        with pytest.raises(RetiredError):
            store.append("a", [note(41)], condition=Condition(everything, 3))
        with pytest.raises(ConditionError):
            store.append("a", [note(41)], condition=Condition(everything, 40))
        assert store.check() == []


def test_what_was_retired_is_not_written_twice(location: str, clock: ManualClock) -> None:
    natural, other = Commit((Write("a", [note(0)]),)), UUID(int=5)
    with open_store(location, clock=clock) as store:
        first = store.commit(natural)
        store.commit(Commit((Write("a", [note(1)]),), id=other))
        clock.advance(3_600)
        store.append("a", [note(2)])
        backend = store.kernel.backend
        backend.move(Seal(2, SIZE))
        backend.move(Retire(2, recorded=3))
        for known in (first.commit_id, other):
            with pytest.raises(RetiredError):
                store.receipt(known)
            with pytest.raises(RetiredError):
                store.commit(Commit((Write("a", [note(1)]),), id=known))
        assert store.receipt(UUID(int=6 << 64)) is None
        assert (store.head()).position == 3


def test_moments_before_are_retired_too(location: str, clock: ManualClock) -> None:
    with retired(location, clock) as store:
        times = {event.position: event.recorded_at for event in store.read(Query().after(20))}
        for position, moment in times.items():
            assert store.position_at(moment) == position
        before = times[21] - timedelta(seconds=1)
        assert store.position_at(before) == 20
        for earlier in (before - timedelta(microseconds=1), before - timedelta(days=1)):
            with pytest.raises(RetiredError):
                store.position_at(earlier)


def test_nothing_is_left_of_it(location: str, tmp_path: Path, clock: ManualClock) -> None:
    archive = tmp_path / "archive"
    with retired(location, clock, archive=archive) as store:
        assert len(list(archive.iterdir())) == 3
        assert store.kernel.backend.move(Sweep(0)) is None
        assert len(list(archive.iterdir())) == 3
        store.kernel.backend.move(Sweep(1 << 60))
        (left,) = archive.iterdir()
        assert left.name.startswith("000000000000021-000000000000030-")
        first, second, third = store.kernel.backend.segments()
        assert first.retired_at is not None
        assert (first.is_cold, first.object, third.retired_at) == (False, None, None)
        assert second.object is None
        assert store.check() == []


def test_everything_can_be_retired(location: str, clock: ManualClock) -> None:
    with filled(location, clock) as store:
        backend = store.kernel.backend
        while backend.move(Seal(40, SIZE)) is not None:
            pass
        backend.move(Retire(40, recorded=40))
        assert (store.head()).position == 40
        assert positions(store, Query().skipping_retired()) == []
        with pytest.raises(RetiredError):
            positions(store, Query().backwards())
        assert (store.append("a", [note(0)])).versions == {"a": 11}
        assert positions(store, Query().backwards().limit(1)) == [41]
        assert store.check() == []
        assert backend.move(Seal(41, SIZE)) is not None
        assert store.check() == []
