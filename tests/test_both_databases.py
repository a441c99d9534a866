"""What is built on a store, on SQLite and on PostgreSQL: the same code gives the same answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.postgres_server import PostgresServer

from everwhen import (
    CommandBus,
    Decisions,
    Event,
    Fold,
    ProjectionRunner,
    Query,
    RecordedEvent,
    StateOf,
    Store,
    TableProjection,
    Tables,
    TimeMachine,
    open_store,
)
from everwhen.errors import InlineError, StatementError
from everwhen.merging import Merging
from everwhen.merkle import MerkleLog, TileFolder
from everwhen_verify.notes import Signer


class Sold(Event):
    tag_fields = ("item",)

    item: str
    pieces: int


class Sell(msgspec.Struct, frozen=True):
    stream: str
    item: str
    pieces: int


sold = Fold("sold", int)
sold.on(Sold)(lambda state, event: state + event.pieces)
decisions = Decisions()


@decisions.on(Sell, StateOf(sold, lambda command: command.stream))
def _sell(command: Sell, _: int) -> list[Event]:
    return [Sold(command.item, command.pieces)]


def table(name: str, check: str = "", version: int = 1) -> TableProjection:
    projection = TableProjection(
        name,
        f"CREATE TABLE {{{name}}} (item TEXT PRIMARY KEY, pieces INTEGER NOT NULL {check})",
        version=version,
    )

    @projection.on(Sold)
    def _(tables: Tables, recorded: RecordedEvent[Sold]) -> None:
        tables.execute(
            f"INSERT INTO {{{name}}} VALUES (:item, :pieces) ON CONFLICT (item) "
            f"DO UPDATE SET pieces = {{{name}}}.pieces + excluded.pieces",
            {"item": recorded.event.item, "pieces": recorded.event.pieces * version},
        )

    return projection


@pytest.fixture(params=["sqlite", "postgresql"])
def location(
    request: pytest.FixtureRequest, postgres: PostgresServer, tmp_path: Path
) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "store.db")
    else:
        with postgres.schema() as url:
            yield url


@pytest.fixture
def store(location: str) -> Iterator[Store]:
    with open_store(location, events=[Sold]) as opened:
        opened.append("till-1", [Sold("lamp", 2), Sold("chair", 4), Sold("lamp", 1)])
        yield opened


def rows(store: Store, name: str) -> list[tuple[Any, ...]]:
    with store.transaction() as transaction:
        return transaction.execute(f"SELECT item, pieces FROM {name} ORDER BY item")


def test_tables_that_follow_and_are_rebuilt(location: str, store: Store) -> None:
    projection = table("sales")
    with ProjectionRunner(store, [projection]) as runner:
        runner.catch_up()
        assert rows(store, "sales") == [("chair", 4), ("lamp", 3)]
    store.append("till-2", [Sold("sofa", 1)])
    with open_store(location, events=[Sold]) as other:
        again = table("sales", version=2)
        with ProjectionRunner(other, [again]) as runner:
            runner.rebuild(again)
            runner.catch_up()
        assert rows(store, "sales") == [("chair", 8), ("lamp", 6), ("sofa", 2)]


def test_tables_inline(store: Store) -> None:
    projection = table("stock", "CHECK (pieces < 10)")
    with ProjectionRunner(store, [], inline=[projection]) as runner:
        runner.catch_up()
        receipts = store.append("till-2", [Sold("lamp", 5)])
        assert rows(store, "stock") == [("chair", 4), ("lamp", 8)]
        with pytest.raises(InlineError):
            store.append("till-2", [Sold("lamp", 5)])
        assert store.head().position == receipts.position
        assert rows(store, "stock") == [("chair", 4), ("lamp", 8)]
        store.append("till-2", [Sold("chair", 1)])
        assert rows(store, "stock") == [("chair", 5), ("lamp", 8)]


def test_a_statement_that_fails_takes_nothing_else_with_it(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.execute("CREATE TABLE noted (n INTEGER PRIMARY KEY, said TEXT)")
        transaction.execute("INSERT INTO noted VALUES (?, ?)", (1, "100 % ? :no 'quoted'"))
        for wrong in ("INSERT INTO noted VALUES (1, 'twice')", "SELECT nothing", "NO SQL"):
            with pytest.raises(StatementError, match="fix it"):
                transaction.execute(wrong)
        found = transaction.execute(
            "SELECT said FROM noted WHERE n = :n AND '%:x?' <> ''", {"n": 1}
        )
        assert found == [("100 % ? :no 'quoted'",)]


def test_travel_branches_and_merge(store: Store) -> None:
    machine = TimeMachine(store, sold, "till-1")
    assert [machine.travel_to(position).state for position in (1, 2, 3)] == [2, 6, 7]
    with store.create_branch("trial") as trial:
        bus = CommandBus(trial, decisions)
        bus.send(Sell("till-1", "sofa", 10))
        assert trial.fold(sold, "till-1") == 17
        assert store.fold(sold, "till-1") == 7
        store.append("till-1", [Sold("bed", 100)])
        with trial.create_branch("twig") as twig:
            twig.append("till-1", [Sold("sofa", 1)])
            assert twig.fold(sold, "till-1") == 18
        assert Merging(store, decisions).merge(trial) is not None
    assert store.fold(sold, "till-1") == 117
    assert [branch.name for branch in store.branches()] == ["trial", "twig"]
    store.delete_branch("trial", with_children=True)
    assert store.check() == []


def test_proofs(store: Store, tmp_path: Path) -> None:
    log = MerkleLog(store, TileFolder(tmp_path / "log"), Signer.generate("example.org/log"))
    log.sign()
    store.append("till-2", [Sold("sofa", 1)])
    log.sign()
    report = log.verify()
    assert (report.is_sound, report.verified) == (True, 2)
    assert [event.position for event in store.read(Query().tags("item:sofa"))] == [4]
