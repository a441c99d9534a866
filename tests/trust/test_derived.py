"""An attacker at what is derived from the events: each way to falsify it is found by ``check``."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
from tests.trust.attacks import sql

from everwhen import (
    Event,
    Fold,
    ProjectionRunner,
    Query,
    RecordedEvent,
    Repository,
    TableProjection,
    Tables,
    open_store,
)
from everwhen.privacy.snapshot_keys import SnapshotKey
from everwhen.projections import OnError, check_deep
from everwhen.state.snapshots import _digest, _Sealed, sealed
from everwhen.state.state_encoding import encode
from everwhen.vocabulary import Problem

Attack: TypeAlias = Callable[[sqlite3.Connection], Any]


class Paid(Event):
    amount: int


balance: Fold[int] = Fold("balance", lambda: 0)
balance.on(Paid)(lambda state, event: state + event.amount)

accounts = TableProjection(
    "accounts",
    [
        "CREATE TABLE {accounts} (name TEXT PRIMARY KEY, balance INTEGER NOT NULL)",
        "CREATE INDEX {accounts}_by_balance ON {accounts} (balance)",
    ],
    on_error=OnError("park", retries=0),
)


@accounts.on(Paid)
def book(tables: Tables, paid: RecordedEvent[Paid]) -> None:
    if paid.event.amount == 13:
        raise ValueError("no 13")
    tables.execute(
        "INSERT INTO {accounts} VALUES (?, ?)"
        " ON CONFLICT (name) DO UPDATE SET balance = balance + excluded.balance",
        (paid.stream, paid.event.amount),
    )


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("derived") / "store.db"
    with open_store(path, events=[Paid]) as store:
        for number in range(40):
            store.append(f"account-{number % 4}", [Paid(number % 10 + 1)] * 3)
        store.append("account-9", [Paid(13), Paid(1)])
        repository = Repository(store, balance)
        for stream in ("account-0", "account-1"):
            repository.snapshot(repository.load(stream))
        repository.snapshot(repository.load("account-0"))
        loaded = repository.load(Query())
        key = store.kernel.snapshot_keys.newest()
        waypoint = sealed(balance, "travel/balance", loaded.state, loaded.place, {Paid}, key)
        with store.transaction() as transaction:
            transaction.save_snapshot(waypoint)
        with ProjectionRunner(store, [accounts]) as runner:
            runner.catch_up()
    assert checked(path, deep=True) == []
    return path


def checked(path: Path, *, deep: bool) -> list[Problem]:
    with open_store(path, events=[Paid], read_only=True) as store:
        return check_deep(store, of=[balance, accounts]) if deep else store.check()


THEIRS = SnapshotKey(b"their key", bytes(32))


def forge_snapshot(c: sqlite3.Connection) -> None:
    """As whoever has a key of their own, and may write the file."""
    where = "WHERE subject = 'balance/account-0'"
    position, state = c.execute(f"SELECT position, state FROM snapshots {where}").fetchone()
    seal = msgspec.msgpack.decode(state, type=_Sealed)
    content = msgspec.msgpack.decode(seal.content)
    content[3] = 100_000
    forged = encode(content)
    digest = _digest(balance, "balance/account-0", position, forged, {Paid}, THEIRS)
    seal = msgspec.structs.replace(seal, digests=[(THEIRS.id, digest)], content=forged)
    c.execute(f"UPDATE snapshots SET state = ? {where}", (encode(seal),))


def damage_snapshot(c: sqlite3.Connection) -> None:
    c.execute("UPDATE snapshots SET state = CAST(state || x'00' AS BLOB)")


def snapshot_of_another_stream(c: sqlite3.Connection) -> None:
    c.execute("DELETE FROM snapshots WHERE subject = 'balance/account-0'")
    c.execute("UPDATE snapshots SET subject = 'balance/account-0'")


def statement(*statements: str) -> Attack:
    def attack(c: sqlite3.Connection) -> None:
        for one in statements:
            c.execute(one)

    attack.__name__ = statements[0]
    return attack


def in_record(before: str, after: str) -> Attack:
    return statement(
        f"UPDATE checkpoints SET data = CAST(replace(CAST(data AS TEXT), '{before}', '{after}')"
        f" AS BLOB) WHERE name LIKE 'projection/%'"
    )


PARKED = "WHERE name LIKE 'parked/%'"
BY_ITSELF: list[tuple[Attack, str]] = [
    (
        statement("UPDATE checkpoints SET position = 900 WHERE name LIKE 'projection/%'"),
        "it has come to position 900, and the newest event is at 122",
    ),
    (
        statement("UPDATE checkpoints SET position = 60 WHERE name LIKE 'projection/%'"),
        "the event at 121 is parked, which it hasn't come to",
    ),
    (in_record("true", "7"), "is damaged"),
    (in_record("accounts", "others"), "its table 'others__1_1' is missing"),
    (statement("DROP TABLE accounts__1_1"), "its table 'accounts__1_1' is missing"),
    (statement("DROP VIEW accounts"), "the view 'accounts' that shows its rows is missing"),
    (
        statement(
            "DROP VIEW accounts",
            "CREATE TABLE accounts__9_9 AS SELECT name, 7 AS balance FROM accounts__1_1",
            'CREATE VIEW "accounts" AS SELECT * FROM accounts__9_9',
        ),
        "the view 'accounts' shows something else than its rows",
    ),
    (
        statement(f"UPDATE checkpoints SET data = CAST('{{}}' AS BLOB) {PARKED}"),
        "is damaged",
    ),
    (
        statement(
            "UPDATE checkpoints SET data = CAST(replace(CAST(data AS TEXT), 'account-9',"
            f" 'account-8') AS BLOB) {PARKED}"
        ),
        "is parked, which isn't in stream 'account-8'",
    ),
    (
        statement(f"UPDATE checkpoints SET name = replace(name, '@1', '@7') {PARKED}"),
        "is a parked event of a projection that isn't there",
    ),
    (
        statement("UPDATE checkpoints SET name = 'projection/x' WHERE name LIKE 'projection/%'"),
        "is of no projection or reaction",
    ),
    (
        statement("UPDATE snapshots SET position = position + 900"),
        "the newest event is at 122",
    ),
]

BY_REPLAY: list[tuple[Attack, str]] = [
    (forge_snapshot, "it isn't the state that a replay of its events gives"),
    (damage_snapshot, "it can't be read"),
    (snapshot_of_another_stream, "the event that it ends with isn't the one at its position"),
    (
        statement("UPDATE snapshots SET state = x'00' WHERE subject LIKE 'travel/%'"),
        "it can't be read",
    ),
    (
        statement("UPDATE accounts__1_1 SET balance = balance + 1 WHERE name = 'account-2'"),
        "a row is ('account-2', ",
    ),
    (statement("DELETE FROM accounts__1_1 WHERE name = 'account-3'"), "it has 3 rows, and"),
    (statement("INSERT INTO accounts__1_1 VALUES ('eve', 100000)"), "it has 5 rows, and"),
    (statement("DROP INDEX accounts__1_1_by_balance"), "by_balance' is missing"),
    (
        statement(
            "CREATE TRIGGER accounts__1_1_more AFTER UPDATE ON accounts__1_1 BEGIN"
            " UPDATE accounts__1_1 SET balance = balance + 1 WHERE name = 'eve'; END"
        ),
        "the trigger 'accounts__1_1_more' is not one that it declares",
    ),
    (
        statement(
            f"DELETE FROM checkpoints {PARKED}",
            "UPDATE checkpoints SET position = 60 WHERE name LIKE 'projection/%'",
        ),
        "a row is ('account-0', ",
    ),
    (statement(f"DELETE FROM checkpoints {PARKED}"), "it has 4 rows, and the events give 5"),
    (
        statement(
            "UPDATE slices SET body = CAST(replace(CAST(body AS TEXT), '\"amount\":1}',"
            " '\"amount\":9}') AS BLOB) WHERE position = 3"
        ),
        "a row is ('account-0', ",
    ),
]


def named(attack: object) -> str:
    return getattr(attack, "__name__", "")[:60]


@pytest.fixture
def victim(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(original, tmp_path / "store.db"))


def harm(path: Path, attack: Attack) -> None:
    connection = sql(path)
    attack(connection)
    connection.close()


@pytest.mark.attack(
    "a read model's position is set ahead, or its tables or views are taken away",
    about="history",
    answer="check compares them with its record and the newest event",
)
@pytest.mark.parametrize(("attack", "what"), BY_ITSELF, ids=named)
def test_found_without_the_code(victim: Path, attack: Attack, what: str) -> None:
    harm(victim, attack)
    found = checked(victim, deep=False)
    assert any(what in problem.what for problem in found), found
    assert all(problem.is_fault for problem in found)


@pytest.mark.attack(
    "snapshots, or rows of a read model, are changed, or its position is set back",
    about="history",
    answer="a replay, and a rebuild, give others",
    needs="check_deep with the folds and projections",
)
@pytest.mark.parametrize(("attack", "what"), BY_REPLAY, ids=named)
def test_found_by_deriving_it_again(victim: Path, attack: Attack, what: str) -> None:
    harm(victim, attack)
    assert checked(victim, deep=False) == [], "which takes the code"
    found = [problem for problem in checked(victim, deep=True) if problem.is_fault]
    assert any(what in problem.what for problem in found), found
