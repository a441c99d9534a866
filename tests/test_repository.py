"""A state by snapshot and the events after it is the state by full replay, whatever happens."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import immutables
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everwhen import Event, Fold, Query, Repository, Store, UnknownEvent, aio, open_store
from everwhen.errors import DeclarationError, InvalidQueryError, SnapshotError
from everwhen.state import (
    Adaptive,
    EveryEvents,
    EveryPeriod,
    NeverSnapshot,
    Retention,
    SnapshotStrategy,
    WhenReplayTakes,
)
from everwhen.testing import ManualClock


class Added(Event):
    tag_fields = ("key",)

    key: str
    amount: int


class Ledger(msgspec.Struct, frozen=True):
    total: int = 0
    keys: tuple[str, ...] = ()


def frozen(version: int = 1) -> Fold[Ledger]:
    fold = Fold("ledger", Ledger, version=version)

    @fold.on(Added)
    def _(state: Ledger, event: Added) -> Ledger:
        return Ledger(state.total + event.amount * version, (*state.keys, event.key))

    return fold


def mutable() -> Fold[dict[str, list[int]]]:
    fold: Fold[dict[str, list[int]]] = Fold("sums", dict, state=dict[str, list[int]])

    @fold.on(Added)
    def _(state: dict[str, list[int]], event: Added) -> dict[str, list[int]]:
        state.setdefault(event.key, []).append(event.amount)
        return state

    return fold


STRATEGIES: list[SnapshotStrategy] = [
    EveryEvents(1),
    EveryEvents(5),
    EveryPeriod(timedelta(seconds=3)),
    WhenReplayTakes(0.0),
    Adaptive(seconds=0.0, shortest=3, longest=6),
    NeverSnapshot(),
]
APPENDS = st.lists(
    st.tuples(
        st.sampled_from(["a-1", "a-2", "b-1"]),
        st.lists(
            st.builds(Added, st.sampled_from("xyz"), st.integers(-5, 5)), min_size=1, max_size=4
        ),
    ),
    min_size=1,
    max_size=25,
)
QUERIES: list[Query] = [
    Query().stream("a-1"),
    Query(),
    Query().category("a"),
    Query().tags("key:x"),
    Query().stream("a-1", "b-1").types(Added),
]


def harmed(store: Store, harm: int, subject: str) -> None:
    """Damage, move, age or delete a subject's newest snapshot."""
    found = store.snapshots(subject, limit=1)
    if not found or not found[0].state:  # none, or nothing left of it to harm
        return
    (newest,) = found
    replace = msgspec.structs.replace
    state = bytearray(newest.state)
    state[harm * 7 % len(state)] ^= 1 << harm % 8
    changes: list[dict[str, Any]] = [
        {"state": bytes(state)},
        {"state": newest.state[:-3]},
        {"state": b""},
        {"fold_version": newest.fold_version + 1},
        {"fold": "another"},
        {"position": max(1, newest.position - 1)},
        {"position": newest.position + 1_000},
    ]
    with store.transaction() as transaction:
        if harm % 8 == 7:
            transaction.delete_snapshots(subject)
        else:
            transaction.save_snapshot(replace(newest, **changes[harm % 8]))


@settings(max_examples=60)
@given(
    appends=APPENDS,
    strategy=st.sampled_from(STRATEGIES),
    query=st.sampled_from(QUERIES),
    make=st.sampled_from([frozen, mutable]),
    bounds=st.lists(st.integers(0, 60), max_size=4),
    harms=st.lists(st.none() | st.integers(0, 200), max_size=6),
)
def test_snapshot_and_tail_is_full_replay(
    appends: list[tuple[str, list[Added]]],
    strategy: SnapshotStrategy,
    query: Query,
    make: Callable[[], Fold[Any]],
    bounds: list[int],
    harms: list[int | None],
) -> None:
    clock = ManualClock()
    fold = make()
    with open_store("memory:", events=[Added], clock=clock) as store:
        repository = Repository(store, fold, strategy=strategy)
        for number, (stream, events) in enumerate(appends):
            clock.advance(number % 3)
            store.append(stream, events)
            loaded = repository.load(query)
            assert loaded.state == fold.state_of(store.read(query))
            matching = list(store.read(query))
            assert loaded.position == (matching[-1].position if matching else 0)
            assert loaded.version == (matching[-1].version if matching else 0)
            before = fold.copied(loaded.state)
            repository.snapshot_if_due(loaded)
            assert loaded.state == before
            harm = harms[number % len(harms)] if harms else None
            if harm is not None:
                for subject in {s.subject for s in _snapshots(store, fold, query)}:
                    harmed(store, harm, subject)
        for bound in bounds:
            cut = query.up_to(bound)
            assert repository.load(cut).state == fold.state_of(store.read(cut))
            if query == QUERIES[0]:
                cut = query.to_version(bound)
                assert repository.load(cut).state == fold.state_of(store.read(cut))
        repository.delete_snapshots(query)
        assert _snapshots(store, fold, query) == []
        assert repository.load(query).state == fold.state_of(store.read(query))


@pytest.mark.slow
@pytest.mark.parametrize("make", [frozen, mutable])
@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_snapshot_and_tail_is_full_replay_while_others_write(  # noqa: C901 (three roles)
    tmp_path: Path, strategy: SnapshotStrategy, make: Callable[[], Fold[Any]]
) -> None:
    fold = make()
    failures: list[Exception] = []
    with open_store(tmp_path / "states.db", events=[Added], durable=False) as store:

        def write(number: int) -> None:
            for turn in range(40):
                stream = ("a-1", "a-2", "b-1")[(number + turn) % 3]
                store.append(stream, [Added("xyz"[turn % 3], number), Added("x", turn)])

        def load(query: Query) -> None:
            repository = Repository(store, fold, strategy=strategy)
            seen = 0
            for _ in range(12):
                loaded = repository.load(query)
                same = query.up_to(loaded.read_until)
                assert loaded.state == fold.state_of(store.read(same))
                assert loaded.read_until >= seen
                seen = loaded.read_until
                repository.snapshot_if_due(loaded)

        def guarded(work: Callable[..., None], *given: Any) -> Callable[[], None]:
            def run() -> None:
                try:
                    work(*given)
                except Exception as failure:  # noqa: BLE001 (shown by the test's own thread)
                    failures.append(failure)

            return run

        work = [guarded(write, n) for n in range(3)] + [guarded(load, q) for q in QUERIES]
        threads = [threading.Thread(target=run) for run in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        for query in QUERIES:
            expected = fold.state_of(store.read(query))
            repository = Repository(store, fold, strategy=strategy)
            assert repository.load(query).state == expected
            if isinstance(strategy, NeverSnapshot):
                assert _snapshots(store, fold, query) == []
            repository.delete_snapshots(query)
            assert repository.load(query).state == expected


def _snapshots(store: Store, fold: Fold[Any], query: Query) -> list[Any]:
    from everwhen.state.snapshots import subject_of

    return store.snapshots(subject_of(fold, query), limit=1_000)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "states.db", events=[Added])


def test_a_load_reads_only_what_came_after_the_snapshot(store: Store) -> None:
    repository = Repository(store, frozen(), strategy=EveryEvents(10))
    store.append("a-1", [Added("x", 1)] * 25)
    first = repository.load("a-1")
    assert first.since.events == 25
    assert repository.snapshot_if_due(first)
    store.append("a-1", [Added("x", 1)] * 3)
    second = repository.load("a-1")
    assert (second.since.events, second.state.total, second.version) == (3, 28, 28)
    assert not repository.snapshot_if_due(second)
    as_it_was = repository.load(Query().stream("a-1").up_to(7))
    assert (as_it_was.state.total, as_it_was.version) == (7, 7)


def test_another_version_of_the_fold_is_not_fooled(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.append("a-1", [Added("x", 1)] * 4)
    old = Repository(store, frozen(1))
    old.snapshot(old.load("a-1"))
    new = Repository(store, frozen(2))
    with caplog.at_level(logging.WARNING, logger="everwhen"):
        assert new.load("a-1").state.total == 8
    assert "version 1" in caplog.text
    assert old.load("a-1").since.events == 0


def test_a_snapshot_of_another_history_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "s.db"
    with open_store(path, events=[Added]) as one:
        one.append("a-1", [Added("x", 1)] * 4)
        repository = Repository(one, frozen())
        repository.snapshot(repository.load("a-1"))
        (snapshot,) = _snapshots(one, frozen(), Query().stream("a-1"))
    path.unlink()
    with open_store(path, events=[Added]) as two:
        two.append("a-1", [Added("y", 7)] * 5)
        with two.transaction() as transaction:
            transaction.save_snapshot(snapshot)
        assert Repository(two, frozen()).load("a-1").state.total == 35
    assert "another history" in caplog.text


def test_a_snapshot_that_would_come_back_changed_is_refused(store: Store) -> None:
    fold: Fold[dict[str, Any]] = Fold("words", dict)

    @fold.on(Added)
    def _(state: dict[str, Any], event: Added) -> dict[str, Any]:
        state.setdefault("words", Counter())[event.key] += 1
        return state

    store.append("a-1", [Added("x", 1)])
    repository = Repository(store, fold)
    with pytest.raises(SnapshotError, match="exact type"):
        repository.snapshot(repository.load("a-1"))
    store.append("a-1", [Added("y", 1)])
    assert repository.load("a-1").state == {"words": Counter(x=1, y=1)}


def test_a_snapshot_by_a_program_that_knows_fewer_events_is_not_believed(tmp_path: Path) -> None:
    class Removed(Event):
        amount: int

    fold = Fold("rest", int)
    fold.on(Added)(lambda state, event: state + event.amount)
    fold.on(Removed)(lambda state, event: state - event.amount)
    path = tmp_path / "s.db"
    with open_store(path, events=[Added, Removed]) as store:
        store.append("a", [Added("x", 10), Removed(3)])
    with open_store(path, events=[Added]) as store:
        repository = Repository(store, fold)
        repository.snapshot(repository.load("a"))
    with open_store(path, events=[Added, Removed]) as store:
        assert Repository(store, fold).load("a").state == store.fold(fold, "a") == 7


def test_old_snapshots_are_thinned(store: Store) -> None:
    repository = Repository(
        store, frozen(), strategy=EveryEvents(1), retention=Retention(snapshots=3)
    )
    for _ in range(8):
        store.append("a-1", [Added("x", 1)])
        assert repository.snapshot_if_due(repository.load("a-1"))
    kept = _snapshots(store, frozen(), Query().stream("a-1"))
    assert [s.position for s in kept] == [8, 7, 6]
    tight = Repository(store, frozen(), retention=Retention(size=len(kept[0].state)))
    tight.snapshot(tight.load("a-1"))
    assert [s.position for s in _snapshots(store, frozen(), Query().stream("a-1"))] == [8]


def test_what_can_not_be_a_snapshot_says_so(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.append("a-1", [Added("x", 1)])
    opaque: Fold[Any] = Fold("opaque", lambda: {"o": object()}, copy=dict)
    loose: Fold[Any] = Fold("loose", lambda: Ledger, copy=lambda s: s)
    loose.on(Added)(lambda _, event: {event.key: Ledger(1)})
    for fold in (opaque, loose):
        repository = Repository(store, fold, strategy=EveryEvents(1))
        with pytest.raises(SnapshotError, match="Fold"):
            repository.snapshot(repository.load("a-1"))
        assert not repository.snapshot_if_due(repository.load("a-1"))
    assert "no snapshot of opaque/a-1" in caplog.text
    repository = Repository(store, frozen())
    for query in (
        Query().stream("a-1").as_of(store.read("a-1").__next__().recorded_at),
        Query().stream("nothing"),
    ):
        with pytest.raises(SnapshotError, match="place in history"):
            repository.snapshot(repository.load(query))
    for query in (Query().after(1), Query().limit(1), Query().backwards(), Query().from_version(2)):
        with pytest.raises(InvalidQueryError, match="whole history"):
            repository.load(query)


@pytest.mark.parametrize(
    "make",
    [
        lambda: EveryEvents(0),
        lambda: EveryEvents("ten"),  # type: ignore[arg-type]
        lambda: EveryPeriod(timedelta()),
        lambda: EveryPeriod(5),  # type: ignore[arg-type]
        lambda: WhenReplayTakes(-0.1),
        lambda: WhenReplayTakes(float("nan")),
        lambda: Adaptive(seconds=timedelta(seconds=1)),  # type: ignore[arg-type]
        lambda: Adaptive(shortest=100, longest=10),
        lambda: Retention(snapshots=-1),
        lambda: Retention(size=1e9),  # type: ignore[arg-type]
    ],
)
def test_strategies_that_make_no_sense(make: Callable[[], Any]) -> None:
    with pytest.raises(DeclarationError, match="use"):
        make()


@pytest.mark.slow
def test_loading_while_others_write(store: Store) -> None:
    fold = frozen()
    writing = threading.Event()
    failures: list[str] = []

    def read() -> None:
        repository = Repository(store, fold, strategy=EveryEvents(7), retention=Retention(2))
        while not writing.is_set():
            loaded = repository.load("a-1")
            if loaded.state.total != loaded.version:
                failures.append(f"{loaded.state.total} at {loaded.version}")
            repository.snapshot_if_due(loaded)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(80):
        store.append("a-1", [Added("x", 1)] * (number % 3 + 1))
        store.append("a-2", [Added("x", 5)])
    writing.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert Repository(store, fold).load("a-1").version == store.version("a-1")


async def test_the_async_flavour(tmp_path: Path) -> None:
    async with aio.open_store(tmp_path / "s.db", events=[Added]) as store:
        repository = aio.Repository(store, mutable(), strategy=EveryEvents(2))
        for n in range(5):
            await store.append("a-1", [Added("x", n), Added("y", 0)])
            await repository.snapshot_if_due(await repository.load("a-1"))
        loaded = await repository.load("a-1")
        assert (loaded.state["x"], loaded.since.events) == ([0, 1, 2, 3, 4], 0)
        assert (await repository.load(Query().up_to(2))).state["x"] == [0]


def test_a_state_that_was_given_out_never_changes(store: Store) -> None:
    fold = mutable()
    store.append("a-1", [Added("x", 1)])
    repository = Repository(store, fold)
    first = repository.load("a-1").state
    again = fold.state_of(store.read("a-1"), first)
    assert (first, again) == ({"x": [1]}, {"x": [1, 1]})
    assert fold.apply(first, [Added("x", 9)]) == {"x": [1, 9]}
    assert first == {"x": [1]}
    shared: dict[str, list[int]] = {}
    leaky: Fold[dict[str, list[int]]] = Fold("leaky", lambda: shared)
    leaky.on(Added)(lambda state, event: (state.setdefault(event.key, []) and state) or state)
    leaky.apply(leaky.initial(), [Added("x", 1)])
    assert shared == {}


def test_unknown_events_may_be_refused(store: Store) -> None:
    from everwhen.errors import FoldError

    strict: Fold[int] = Fold("strict", int, unknown="refuse")
    strict.on(Added)(lambda state, event: state + event.amount)
    store.append("a-1", [Added("x", 2)])
    assert store.fold(strict) == 2
    store.append("a-1", [UnknownEvent("Odd", {})])
    with pytest.raises(FoldError, match="'Odd' at position 2") as caught:
        store.fold(strict)
    assert (caught.value.event_type, caught.value.position) == ("Odd", 2)


def test_a_store_that_is_read_only_gets_no_snapshots(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_store(tmp_path / "s.db", events=[Added]) as store:
        store.append("a", [Added("k", 1)])
    with open_store(tmp_path / "s.db", events=[Added], read_only=True) as store:
        repository = Repository(store, frozen(), strategy=EveryEvents(1))
        loaded = repository.load("a")
        assert loaded.state.total == 1
        assert not repository.snapshot_if_due(loaded)
    assert "no snapshot of ledger/a" in caplog.text


class Line(msgspec.Struct, frozen=True):
    amounts: immutables.Map[int, int] = immutables.Map()


class Book(msgspec.Struct, frozen=True):
    lines: immutables.Map[str, Line] = immutables.Map()


@pytest.mark.parametrize("exact", [True, False])
def test_persistent_maps(tmp_path: Path, exact: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Nested in a struct or alone, they come back as they are; if their type is known."""
    books = Fold("books", Book)
    maps: Fold[immutables.Map[str, int]] = Fold(
        "maps", immutables.Map, state=immutables.Map[str, int] if exact else None
    )

    @books.on(Added)
    def book(state: Book, event: Added) -> Book:
        line = state.lines.get(event.key, Line())
        amounts = line.amounts.set(len(line.amounts), event.amount)
        return Book(state.lines.set(event.key, Line(amounts)))

    @maps.on(Added)
    def add(state: immutables.Map[str, int], event: Added) -> immutables.Map[str, int]:
        return state.set(event.key, state.get(event.key, 0) + event.amount)

    with open_store(tmp_path / "s.db", events=[Added]) as store:
        store.append("a", [Added(key, n) for n, key in enumerate("abcab")])
        for fold in (books, maps):
            repository = Repository[Any](store, fold, strategy=EveryEvents(2))
            loaded = repository.load("a")
            assert repository.snapshot_if_due(loaded)
            again = repository.load("a")
            assert (again.state, type(again.state)) == (loaded.state, type(loaded.state))
            assert again.since.events == 0
    assert caplog.text == ""
