# Generated from tests/_async/test_checking.py by tools/unasync.py: edit that, then run `make sync`.
"""A deep check: what is derived from the events is what they give again, or it is told apart."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from everwhen import (
    Event,
    Fold,
    Projection,
    ProjectionRunner,
    Query,
    RecordedEvent,
    Repository,
    Store,
    TableProjection,
    Tables,
    TimeMachine,
    UnknownEvent,
    documents,
    open_store,
)
from everwhen.errors import DeclarationError
from everwhen.projections import OnError, check_deep
from everwhen.testing._sync.concurrency import together
from everwhen.vocabulary import Checkpoint, CheckProgress, Problem, Snapshot


class Sold(Event):
    item: str
    pieces: int


def sales(
    *, version: int = 1, on_error: OnError | None = None, bad: tuple[str, ...] = ()
) -> TableProjection:
    projection = TableProjection(
        "sales",
        [
            "CREATE TABLE {sales} (item TEXT PRIMARY KEY, pieces INTEGER NOT NULL)",
            "CREATE INDEX {sales}_by_pieces ON {sales} (pieces)",
        ],
        version=version,
        on_error=on_error or OnError(),
    )

    @projection.on(Sold)
    def _(tables: Tables, sold: RecordedEvent[Sold]) -> None:
        tables.execute(
            "INSERT INTO {sales} VALUES (?, ?)"
            " ON CONFLICT (item) DO UPDATE SET pieces = {sales}.pieces + excluded.pieces",
            (sold.event.item, sold.event.pieces),
        )
        if sold.event.item in bad:
            raise LookupError(sold.event.item)

    return projection


def pieces(*, version: int = 1, factor: int = 1) -> Fold[dict[str, int]]:
    """A state that is changed in place."""
    fold: Fold[dict[str, int]] = Fold("pieces", dict, version=version, state=dict[str, int])

    @fold.on(Sold)
    def _(state: dict[str, int], event: Sold) -> dict[str, int]:
        state[event.item] = state.get(event.item, 0) + event.pieces * factor
        return state

    return fold


def store_at(location: str) -> Any:
    return open_store(location, events=[Sold], durable=False)


def sell(store: Store, stream: str, *items: str) -> None:
    store.append(stream, [Sold(item, 1) for item in items])


def take_snapshots(store: Store, fold: Fold[Any], *of: Query | str) -> None:
    repository = Repository(store, fold)
    for query in of:
        repository.snapshot(repository.load(query))


def altered(store: Store, subject: str, replacement: bytes, by: bytes) -> None:
    """Change a snapshot's content, without its digest."""
    (snapshot,) = store.snapshots(subject, limit=1)
    state = snapshot.state.replace(replacement, by)
    assert state != snapshot.state
    with store.transaction() as transaction:
        transaction.save_snapshot(msgspec.structs.replace(snapshot, state=state))


def told(problems: list[Problem], *, faults: bool = True) -> list[str]:
    return [f"{p.where}: {p.what}" for p in problems if p.is_fault is faults]


def test_what_is_sound_is_found_sound(location: str) -> None:
    fold, table = pieces(), sales()
    following = Projection(fold, name="lamps", of=Query().category("till", "shop"))
    with store_at(location) as store:
        for stream in ("till-1", "till-2", "shop", "x" * 400):
            sell(store, stream, "lamp", "chair")
        streams = Query(), "till-1", "x" * 400, Query().category("till"), following.of
        take_snapshots(store, fold, *streams)
        sell(store, "till-1", "desk")
        take_snapshots(store, fold, *streams)
        take_snapshots(store, documents, Query(), "till-1")
        TimeMachine(store, fold).prepare()
        with ProjectionRunner(store, [table]) as runner:
            runner.catch_up()
        progress: list[CheckProgress] = []
        assert store.check() == []
        assert check_deep(store, of=[following, table], progress=progress.append) == []
        assert {p.stage for p in progress} == {"events", "snapshots", "sales"}
        assert all(0 < p.done <= (p.total or p.done) for p in progress)


def test_what_can_not_be_compared_is_named(location: str) -> None:
    with store_at(location) as store:
        sell(store, "till-1", "lamp")
        sell(store, "till-2", "lamp")
        tills = Query().stream("till-1", "till-2")
        take_snapshots(store, pieces(), "till-1", "till-2", tills)
        with ProjectionRunner(store, [sales()]) as runner:
            runner.catch_up()
        assert store.check() == []
        found = check_deep(store)
        assert not told(found)
        assert told(found, faults=False) == [
            "projection 'sales' version 1, build 1: not compared: its code was not given",
            "snapshots of fold 'pieces': not compared: that fold was not given (3)",
        ]
        found = check_deep(store, of=[pieces(version=2), sales(version=2)])
        why = "they are of its version 1, and version 2 was given"
        assert told(found, faults=False) == [
            "projection 'sales' version 1, build 1: not compared: the code given is of version 2",
            f"snapshots of fold 'pieces': not compared: {why} (3)",
        ]
        other = TableProjection("others", "CREATE TABLE {others} (n INTEGER)")
        found = check_deep(store, of=[pieces(), sales(), other])
        why = "their name doesn't say of which events; give a Projection(fold, of=…) that does"
        assert told(found, faults=False) == [
            "projection 'others': not compared: nothing is kept of it here",
            f"snapshots of fold 'pieces': not compared: {why}",
        ]
        assert check_deep(store, of=[Projection(pieces(), of=tills), sales()]) == []
        with pytest.raises(DeclarationError, match="give Folds"):
            check_deep(store, of=["sales"])  # type: ignore[list-item]
    with open_store(location) as untyped:
        found = check_deep(untyped, of=[Projection(pieces(), of=tills), sales()])
        assert not told(found)
        why = "not compared: the store was opened without the event types Sold"
        assert told(found, faults=False) == [
            f"projection 'sales' version 1, build 1: {why}",
            f"snapshots of fold 'pieces': {why} (3)",
        ]


def test_in_memory_too() -> None:
    with open_store("memory:", events=[Sold]) as store:
        sell(store, "till-1", "lamp", "lamp")
        take_snapshots(store, pieces(), "till-1")
        assert check_deep(store, of=[pieces()]) == []
        (problem,) = told(check_deep(store, of=[pieces(factor=2)]))
        assert problem.startswith("snapshot 'pieces/till-1' at position 2: it isn't the state that")
        assert " at lamp: " in problem
        altered(store, "pieces/till-1", b"lamp", b"lump")
        (problem,) = told(check_deep(store, of=[pieces()]))
        assert "it isn't the state that" in problem
        with store.transaction() as transaction:
            transaction.save_snapshot(Snapshot("pieces/till-1", 9, "pieces", 1, b""))
            transaction.save_snapshot(Snapshot("pieces/till-2", 1, "pieces", 1, b""))
        beyond = "snapshot 'pieces/till-1' at position 9: the newest event is at 2; delete it"
        (problem,) = told(store.check())
        assert problem.startswith(beyond)
        assert any("'pieces/till-2'" in p for p in told(check_deep(store, of=[pieces()])))


def test_a_fold_that_fails_now(location: str) -> None:
    failing: Fold[dict[str, int]] = Fold("pieces", dict, state=dict[str, int])

    @failing.on(Sold)
    def _(state: dict[str, int], event: Sold) -> dict[str, int]:
        raise LookupError(event.item)

    with store_at(location) as store:
        sell(store, "till-1", "lamp")
        take_snapshots(store, pieces(), "till-1")
        with ProjectionRunner(store, [sales()]) as runner:
            runner.catch_up()
        found = told(check_deep(store, of=[failing, sales(bad=("lamp",))]))
        assert found[0].startswith("snapshot 'pieces/till-1' at position 1: a replay fails")
        assert found[1].startswith(
            "projection 'sales' version 1, build 1: its functions fail at position 1, so its rows "
            "can't be compared: LookupError"
        )


def test_an_event_that_does_not_fit_its_class(location: str) -> None:
    with open_store(location) as untyped:
        untyped.append("till-1", [UnknownEvent("Sold", {"item": "lamp", "pieces": "two"})])
        assert check_deep(untyped) == []
    with store_at(location) as store:
        assert store.check() == []
        (problem,) = told(check_deep(store))
        assert problem.startswith("position 1: DecodeError")


@pytest.mark.parametrize("then", ["skip", "park"])
def test_events_that_were_left_out(location: str, then: Any) -> None:
    table = sales(on_error=OnError(then, retries=0), bad=("desk",))
    with store_at(location) as store:
        for items in (("lamp", "desk"), ("lamp",), ("chair",)):
            sell(store, "till-1", *items)
        sell(store, "till-2", "chair")
        with ProjectionRunner(store, [table]) as runner:
            runner.catch_up()
            assert bool(runner.parked(table)) is (then == "park")
        assert check_deep(store, of=[table]) == []


def test_a_build_that_is_behind_and_one_that_halted(location: str) -> None:
    with store_at(location) as store:
        sell(store, "till-1", "lamp")
        runner = ProjectionRunner(store, [sales()])
        runner.catch_up()
        runner.close()
        sell(store, "till-1", "desk", "lamp")
        assert check_deep(store, of=[sales()]) == []
        broken = sales(on_error=OnError(retries=0), bad=("desk",))
        runner = ProjectionRunner(store, [broken])
        with pytest.raises(Exception, match="desk"):
            runner.catch_up()
        runner.close()
        assert not told(check_deep(store, of=[broken]))


def test_a_branch_has_read_models_and_snapshots_of_its_own(location: str) -> None:
    with store_at(location) as store:
        sell(store, "till-1", "lamp", "desk")
        sell(store, "till-2", "lamp", "desk")
        take_snapshots(store, pieces(), "till-1", "till-2")
        sell(store, "till-1", "lamp")
        take_snapshots(store, pieces(), "till-1")
        with store.create_branch("trial", 4) as trial:
            assert check_deep(trial, of=[pieces(), sales()]) == [
                Problem("projection 'sales'", "not compared: nothing is kept of it here", False)
            ]
            sell(trial, "till-2", "chair")
            take_snapshots(trial, pieces(), "till-2")
            Repository(trial, pieces()).delete_snapshots("till-1")
            with ProjectionRunner(trial, [sales()]) as runner:
                runner.catch_up()
            assert check_deep(trial, of=[pieces(), sales()]) == []
            found = told(check_deep(trial, of=[pieces(factor=3), sales()]))
            assert [problem.partition(" at position")[0] for problem in found] == [
                "snapshot 'pieces/till-2'",
                "snapshot 'pieces/till-2'",
            ]
            with trial.transaction() as transaction:
                transaction.execute("UPDATE sales__1_1 SET pieces = 7 WHERE item = 'desk'")
            (problem,) = told(check_deep(trial, of=[pieces(), sales()]))
            assert "('desk', 7) where the events give ('desk', 2)" in problem


def test_while_others_write_and_follow(location: str) -> None:
    table = sales()
    with store_at(location) as store, ProjectionRunner(store, [table]) as runner:
        sell(store, "till-1", *["lamp"] * 500)

        def write() -> None:
            for number in range(60):
                sell(store, f"till-{number % 3}", "lamp", "desk")
            runner.catch_up()

        def look() -> None:
            for _ in range(6):
                assert check_deep(store, of=[table]) == []

        done = together(write, look)
        assert done == [None, None]
        runner.rebuild(table)
        assert check_deep(store, of=[table]) == []


def test_what_progress_raises_ends_it(location: str) -> None:
    class Enough(Exception):  # noqa: N818 (no error)
        pass

    def enough(progress: CheckProgress) -> None:
        if progress.stage == "sales":
            raise Enough

    with store_at(location) as store:
        sell(store, "till-1", "lamp")
        with ProjectionRunner(store, [sales()]) as runner:
            runner.catch_up()
        with pytest.raises(Enough):
            check_deep(store, of=[sales()], progress=enough)
        assert check_deep(store, of=[sales()]) == []


def test_checkpoints_of_others_are_left_alone(location: str) -> None:
    with store_at(location) as store:
        with store.transaction() as transaction:
            transaction.save_checkpoint(Checkpoint("lines of a file", 4_000))
        assert check_deep(store) == []
