"""Replaying in parts gives what one process gives: for every fold, query, moment and cut."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import replayed_elsewhere as elsewhere

from everwhen import Fold, Query, Store, open_store
from everwhen.errors import DeclarationError, InvalidQueryError
from everwhen.state.fold import document, documents
from everwhen.travel import AsOf
from everwhen.vocabulary.query import Share


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Store]]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield {
            kind: stack.enter_context(elsewhere.opened(kind, tmp_path_factory.mktemp(kind)))
            for kind in elsewhere.KINDS
        }


def queries() -> st.SearchStrategy[Query]:
    plain = st.sampled_from(
        [
            Query(),
            Query().category("a"),
            Query().category("a", "c"),
            Query().stream("a-1"),
            Query().stream("a-1", "b-2"),
            Query().types("Paid"),
            Query().types("Moved", "Joined"),
            Query().tags("by:x"),
            Query().category("b").types("Paid") | Query().tags("by:y"),
        ]
    )
    moments = st.integers(0, 60).map(lambda hours: elsewhere.START + timedelta(hours=hours))
    bounds: st.SearchStrategy[Any] = st.one_of(
        st.just(lambda query: query),
        st.integers(0, 80).map(lambda n: lambda query: query.after(n)),
        st.integers(0, 90).map(lambda n: lambda query: query.up_to(n)),
        st.tuples(st.integers(0, 50), st.integers(0, 90)).map(
            lambda two: lambda query: query.after(two[0]).up_to(two[1])
        ),
        moments.map(lambda at: lambda query: query.as_at(at)),
        moments.map(lambda at: lambda query: query.as_of(at)),
        st.integers(1, 5).map(lambda n: lambda query: query.from_version(n)),
        st.integers(1, 9).map(lambda n: lambda query: query.to_version(n)),
        st.integers(0, 30).map(lambda n: lambda query: query.limit(n)),
    )
    turns = st.booleans().map(lambda back: (lambda q: q.backwards()) if back else (lambda q: q))
    return st.tuples(plain, bounds, bounds, turns).map(lambda q: q[3](q[2](q[1](q[0]))))


def grouped(store: Store, fold: Fold[Any], query: Query, by: str) -> dict[str, Any]:
    """What `by` stands for, said in another way."""
    groups = defaultdict(list)
    for event in store.read(query):
        groups[event.stream if by == "stream" else event.stream.split("-")[0]].append(event)
    for events in groups.values():
        if query.occurred_until is not None:
            events.sort(key=lambda e: (e.occurred_at, e.position), reverse=query.reverse)
    return {name: fold.state_of(events) for name, events in sorted(groups.items())}


@pytest.mark.parametrize("kind", elsewhere.KINDS)
@settings(max_examples=30)
@given(
    query=queries(),
    fold=st.sampled_from(elsewhere.FOLDS),
    by=st.sampled_from([None, "stream", "category"]),
    workers=st.integers(1, 5),
)
def test_states_are_what_one_process_gives(
    stores: dict[str, Store], kind: str, query: Query, fold: Fold[Any], by: Any, workers: int
) -> None:
    store = stores[kind]
    if by is None and not fold.has_merge and workers > 1:
        with pytest.raises(DeclarationError, match="doesn't say how the states"):
            store.replay(fold, query, workers=elsewhere.Here(workers))
        return
    alone = store.fold(fold, query) if by is None else grouped(store, fold, query, by)
    found = store.replay(fold, query, workers=elsewhere.Here(workers), by=by)
    assert found == alone
    if by is not None:
        assert list(found) == sorted(found)


@pytest.mark.parametrize("kind", elsewhere.KINDS)
def test_the_folds_without_code_merge(stores: dict[str, Store], kind: str) -> None:
    store = stores[kind]
    runner = elsewhere.Here(3)
    assert store.replay(documents, workers=runner) == store.fold(documents)
    assert runner.tasks == 12
    found = store.replay(document, workers=runner, by="stream")
    assert found == grouped(store, document, Query(), "stream")


@pytest.mark.parametrize("kind", elsewhere.KINDS)
def test_moments_are_those_of_a_fold(stores: dict[str, Store], kind: str) -> None:
    store, fold = stores[kind], elsewhere.account
    early = elsewhere.START + timedelta(hours=20)
    for moment in (0, 7, 31, early, AsOf(early)):
        one = store.fold(fold, at=moment)
        assert store.replay(fold, at=moment, workers=elsewhere.Here(2)) == one
    with pytest.raises(InvalidQueryError, match="newest"):
        store.replay(fold, at=100_000)


def test_each_worker_gets_its_part_and_no_more(stores: dict[str, Store]) -> None:
    runner = elsewhere.Here(3)
    stores["rows"].replay(elsewhere.account, by="stream", workers=runner)
    assert runner.tasks == 12  # pieces of positions, since it has a merge
    stores["rows"].replay(elsewhere.steps, by="stream", workers=runner)
    assert runner.tasks == 3  # shares of streams
    stores["rows"].replay(elsewhere.account, Query().up_to(2), workers=runner)
    assert runner.tasks == 2


@pytest.mark.parametrize("kind", elsewhere.KINDS)
@pytest.mark.parametrize("by", ["stream", "category"])
@pytest.mark.parametrize("back", [False, True])
def test_shares_are_all_of_history_and_nothing_twice(
    stores: dict[str, Store], kind: str, by: Any, back: bool
) -> None:
    import msgspec

    store = stores[kind]
    for query in (Query(), Query().category("a", "b"), Query().types("Paid"), Query().after(5)):
        asked = query.backwards() if back else query
        every = [(e.position, e.part, e.data) for e in store.read(asked)]
        shares = [
            list(store.read(msgspec.structs.replace(asked, share=Share(by, index, 3))))
            for index in range(3)
        ]
        for index, events in enumerate(shares):
            assert all(Share(by, index, 3).has(event.stream) for event in events)
            of_share = [event.position for event in events]
            assert of_share == sorted(of_share, reverse=back)
        joined = [(e.position, e.part, e.data) for events in shares for e in events]
        joined.sort(key=lambda one: (one[0] * (-1 if back else 1), one[1] * (-1 if back else 1)))
        assert joined == sorted(
            every, key=lambda one: (one[0] * (-1 if back else 1), one[1] * (-1 if back else 1))
        )


def test_a_share_that_can_not_be_is_refused(stores: dict[str, Store]) -> None:
    wrong: list[Any] = [Share("stream", 2, 2), Share("stream", 0, 0), Share("tag", 0, 1), "half"]  # type: ignore[arg-type]
    for share in wrong:
        with pytest.raises(InvalidQueryError):
            list(stores["rows"].read(Query(share=share)))


def failing(store: Store, *at: int) -> int:
    """Pays too much, so that folds fail there; the position of the first."""
    first = 0
    for number in at:
        receipt = store.append(f"a-{number}", [elsewhere.Paid("x", 2_000_000)])
        first = first or receipt.position
        store.append("b-1", [elsewhere.Paid("x", 1)])
    return first


@pytest.mark.parametrize("by", [None, "stream", "category"])
@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_what_a_fold_raises_is_the_first_that_one_process_meets(
    tmp_path: Path, by: Any, workers: int
) -> None:
    with elsewhere.opened("rows", tmp_path) as store:
        first = failing(store, 1, 3, 2, 7)
        folds: list[Fold[Any]] = (
            [elsewhere.account] if by is None else [elsewhere.account, elsewhere.steps]
        )
        for fold in folds:
            with pytest.raises(ValueError, match="that is too much") as raised:
                store.replay(fold, workers=elsewhere.Here(workers), by=by)
            (note,) = raised.value.__notes__
            assert f"in fold '{fold.name}', at position {first}, a-1@" in note


def test_errors_that_can_not_be_sent_say_what_they_were(tmp_path: Path) -> None:
    from everwhen.errors import WorkerError

    with open_store(tmp_path / "own.db", events=[elsewhere.Paid]) as store:
        store.append("a", [elsewhere.Paid("x", 3)])
        store.append("a", [elsewhere.Paid("x", 1)])
        with pytest.raises(WorkerError, match=r"another process: OwnError\('code 5'\)") as raised:
            store.replay(elsewhere.strange, Query().after(1), workers=elsewhere.Here(2))
        assert "at position 2, a@2, Paid" in raised.value.__notes__[0]
        assert "raise OwnError(code=5)" in str(raised.value.__cause__)
        with pytest.raises(WorkerError, match=r"Fold.'strange'.* can't come back"):
            store.replay(
                elsewhere.strange, Query().up_to(1), by="stream", workers=elsewhere.Here(2)
            )


def test_one_process_says_why(
    stores: dict[str, Store], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def why(store: Store, fold: Fold[Any], query: Query | str = "a-1", **given: Any) -> str:
        caplog.clear()
        with caplog.at_level(logging.INFO, "everwhen"):
            store.replay(fold, query, **given)
        (record,) = caplog.records
        return record.getMessage()

    store = stores["rows"]
    assert "fold 'steps' doesn't say how" in why(store, elsewhere.steps)
    assert "takes longer than" in why(store, elsewhere.account)
    assert "one worker was asked for" in why(store, elsewhere.account, workers=1)
    assert "a limit" in why(store, elsewhere.account, Query().limit(3), workers=2)
    as_of = Query().as_of(elsewhere.START)
    assert "in the order in which they occurred" in why(store, elsewhere.account, as_of, workers=2)
    with open_store("memory:", events=[elsewhere.Paid]) as memory:
        assert "in memory" in why(memory, elsewhere.account, workers=2)
    with store.scratch_branch() as scratch:
        assert "in memory" in why(scratch, elsewhere.account, workers=2)


def test_what_other_processes_can_not_find_is_refused(
    stores: dict[str, Store], tmp_path: Path
) -> None:
    local = Fold("local", int)
    local.on(elsewhere.Paid)(lambda state, event: state + event.amount)
    local.merge(lambda earlier, later: earlier + later)
    with pytest.raises(DeclarationError, match=r"'local' has no name in a module.*top of a module"):
        stores["rows"].replay(local, workers=2)

    class Secret:
        def encode(self, type_name: str, version: int, event_id: str, data: bytes) -> bytes:
            return data

        decode = encode

    with open_store(tmp_path / "steps.db", events=[elsewhere.Paid], steps=[Secret()]) as store:
        with pytest.raises(DeclarationError, match="the store's steps can't go"):
            store.replay(elsewhere.account, workers=2)
    for wrong in (0, -1, True, 2.5, "two"):
        with pytest.raises(DeclarationError, match="give how many processes"):
            stores["rows"].replay(elsewhere.account, workers=wrong)  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="use 'stream' or 'category'"):
        stores["rows"].replay(elsewhere.account, by="type")  # type: ignore[call-overload]
    with pytest.raises(DeclarationError, match="expected a Fold"):
        stores["rows"].replay(3)  # type: ignore[call-overload]


def test_a_merge_is_declared_once_and_returns_a_state() -> None:
    fold = Fold("once", int)
    with pytest.raises(DeclarationError, match="has no merge"):
        fold.merged(1, 2)
    forgetful: Any = lambda earlier, later: None  # noqa: E731
    fold.merge(forgetful)
    with pytest.raises(DeclarationError, match="two functions that merge"):
        fold.merge(forgetful)
    with pytest.raises(DeclarationError, match="returned None") as raised:
        fold.merged(1, 2)
    assert raised.value.__notes__ == ["in fold 'once', merging the states of two pieces of history"]
