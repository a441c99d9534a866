"""A folder with everything Everwhen ever writes, and hands that damage one file of it."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from everwhen import (
    CommandBus,
    Decisions,
    Event,
    Fold,
    KeyFile,
    Personal,
    ProjectionRunner,
    RecordedEvent,
    Repository,
    StateOf,
    TableProjection,
    Tables,
    Vault,
    open_store,
)
from everwhen.cli import main
from everwhen.undo import Compensations

ORIGIN: Final = "example.org/shop"
STORE: Final = "shop.db"
VAULT: Final = "vault.db"


class Joined(Event):
    tag_fields = ("person",)
    data_subject = "person"

    person: str
    name: Personal[str]
    size: int


class Paid(Event):
    person: str
    amount: int
    note: str


class Pay(Event):
    person: str
    amount: int


totals: Fold[dict[str, int]] = Fold("totals", dict, state=dict[str, int])
paid = TableProjection("paid", ["CREATE TABLE {paid} (person TEXT PRIMARY KEY, amount INT)"])
decisions = Decisions()
compensations = Compensations()


@totals.on(Paid)
def _(state: dict[str, int], event: Paid) -> dict[str, int]:
    state[event.person] = state.get(event.person, 0) + event.amount
    return state


@compensations.on(Paid)
def _(event: Paid) -> Paid:
    return Paid(event.person, -event.amount, "taken back")


@paid.on(Paid)
def _(tables: Tables, recorded: RecordedEvent[Paid]) -> None:
    tables.execute(
        "INSERT INTO {paid} VALUES (?, ?) ON CONFLICT DO UPDATE SET amount = amount + ?",
        (recorded.event.person, recorded.event.amount, recorded.event.amount),
    )


@decisions.on(Pay, StateOf(totals, lambda pay: f"pay-{pay.person}"))
def _(pay: Pay, state: dict[str, int]) -> list[Paid]:
    return [Paid(pay.person, pay.amount, "by command")]


def furnish(folder: Path) -> None:
    """Make the store, its vault, keys, branches, read models, signed log, policy and proof."""
    store_file = folder / STORE
    keys = KeyFile.create(folder / f"{VAULT}.key")
    with (
        Vault(folder / VAULT, keys) as vault,
        open_store(store_file, events=[Joined, Paid], vault=vault) as store,
    ):
        for number in range(40):
            person = f"p{number % 5}"
            store.append(
                f"pay-{person}",
                [Joined(person, f"Name {number}", number), Paid(person, number, "x" * 300)],
            )
        bus = CommandBus(store, decisions)
        for number in range(3):
            bus.send(Pay("p1", number))
        with ProjectionRunner(store, [paid]) as runner:
            runner.catch_up()
        repository = Repository(store, totals)
        repository.snapshot(repository.load("pay-p1"))
        with store.create_branch("what-if", 40) as branch:
            branch.append("pay-p9", [Paid("p9", 9, "on the branch")])
        vault.newest("p-never")
    for arguments in (
        ("sign", store_file, "--new-key", ORIGIN),
        ("append", store_file, "pay-p1", "Paid", '{"person": "p1", "amount": 1, "note": ""}'),
        ("sign", store_file),
        ("prove", store_file, "3", "-o", folder / "proof"),
        ("audit", "log", store_file, "Login", "accounts/7", "--user", "ann"),
        ("bookmark", store_file, "start-of-it", "10"),
        ("export", store_file, folder / "all.jsonl"),
    ):
        code = main(_with_vault(folder, arguments))
        assert code == 0, arguments
    log = folder / f"{STORE}-log"
    shutil.copy(log / "checkpoint", folder / "remembered")
    (folder / "policy").write_text(f"log {(log / 'vkey').read_text().strip()}\nquorum none\n")


def _with_vault(folder: Path, arguments: Sequence[object]) -> list[str]:
    return ["--vault", str(folder / VAULT), *map(str, arguments)]


def commands(folder: Path) -> list[list[str]]:
    """Many different commands on the folder's store."""
    store = folder / STORE
    own = ("--events", "tests.cli.damaging:EVENTS")
    fold = (*own, "--fold", "tests.cli.damaging:totals")
    undo = (*own, "--compensations", "tests.cli.damaging:compensations")
    every: list[tuple[object, ...]] = [
        ("read", store),
        ("read", store, "--json", "--tag", "person:p1"),
        ("read", store, "--type", "Paid", *own),
        ("read", store, "--branch", "what-if"),
        ("streams", store),
        ("info", store),
        ("info", store, "--json"),
        ("check", store),
        ("at", store, "20"),
        ("at", store, "head", "pay-p1", *fold),
        ("diff", store, "10", "30"),
        ("history", store, '["pay-p1"].data.amount'),
        ("blame", store),
        ("replay", store, "--limit", "5"),
        ("when", store, 'state["pay-p1"].data.amount > 5'),
        ("bookmark", store),
        ("bookmark", store, "here"),
        ("projections", store),
        ("projections", store, "--parked", "paid"),
        ("append", store, "pay-p1", "Paid", '{"person": "p1", "amount": 1, "note": ""}'),
        ("append", store, "new-1", "Noted", "{}", "--tag", "t", "--id", f"{1:032x}"),
        ("undo", store, "2", *undo),
        ("undo", store, "4", "--apply", *undo),
        ("merge", store, "what-if"),
        ("merge", store, "what-if", "--apply"),
        ("branch", "list", store),
        ("branch", "create", store, "other"),
        ("branch", "diff", store, "what-if"),
        ("branch", "diff", store, "what-if", "--state"),
        ("branch", "delete", store, "what-if"),
        ("sign", store),
        ("sign", store, "--roll-to", folder / "next-signer"),
        ("prove", store, "3"),
        ("prove", store, "80"),
        ("verify", store),
        ("verify", store, "--remembered", folder / "remembered"),
        ("verify", store, "--since", folder / "remembered"),
        ("audit", "query", store, "--json"),
        ("audit", "log", store, "Logout", "accounts/7"),
        ("audit", "export", store, folder / "audit.json"),
        ("export", store, folder / "out.jsonl", "--plaintext"),
        ("export", store, folder / "out.csv"),
        ("export", store, folder / "out.xes", "--category", "pay"),
        ("import", folder / "fresh.db", folder / "all.jsonl"),
        ("forget", store, "p2"),
        ("forget", store, "p3", "--apply"),
        ("keys", "list"),
        ("keys", "rotate"),
        ("keys", "rotate", "p1"),
        ("debug", store, "-c", "back 3", "-c", "print state", "-c", "step", "-c", "diff"),
        ("tail", store, "--limit", "3"),
    ]  # fmt: skip
    return [_with_vault(folder, arguments) for arguments in every]


EVENTS: Final = [Joined, Paid]

Damage: TypeAlias = Callable[[Path, random.Random], str]


def _rewrite(change: Callable[[bytearray, random.Random], None]) -> Damage:
    def damage(file: Path, chance: random.Random) -> str:
        content = bytearray(file.read_bytes())
        change(content, chance)
        file.write_bytes(content)
        return change.__name__.strip("_")

    return damage


def _flip(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 4, 40))):
        if content:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def _cut(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(len(content) + 1) :]


def _zero(content: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(content) + 1)
    stop = min(len(content), start + chance.choice((1, 50, 4096, 20_000)))
    content[start:stop] = bytes(stop - start)


def _swap_pages(content: bytearray, chance: random.Random) -> None:
    pages = len(content) // 4096
    if pages < 2:
        return _cut(content, chance)
    one, other = (4096 * chance.randrange(pages) for _ in range(2))
    content[one : one + 4096], content[other : other + 4096] = (
        content[other : other + 4096],
        content[one : one + 4096],
    )
    return None


def _insert(content: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(content) + 1)
    content[start:start] = chance.choice((b"\xff\xfe", b"\x00", b"\n\n", b"{[", b"9" * 40, b"\xed"))


def _repeat(content: bytearray, chance: random.Random) -> None:
    content += content[chance.randrange(len(content) + 1) :]


def _scramble(content: bytearray, chance: random.Random) -> None:
    content[:] = chance.randbytes(len(content))


_VALUES: Final = (
    "NULL", "'text'", "x'ff00'", "-1", "0", "9223372036854775807", "-9223372036854775808",
    "1.5", "CAST(x'ff' AS TEXT)", "''", "x''", "'a' || char(0)", "'[' || '[' || '['",
    "CAST('[[\"T\",1,{\"a\":1}]]' AS BLOB)", "CAST('{}' AS BLOB)", "CAST('[[]]' AS BLOB)",
    "x'5b5b2254222c312c22ff225d5d'", "1e400", "CAST('[[\"T\",1,{},[7]]]' AS BLOB)",
    "CAST('{\"position\": \"x\"}' AS BLOB)", "'2026-01-01'",
)  # fmt: skip


def _by_sql(file: Path, chance: random.Random) -> str:
    """Something else where a value belongs, as another program would write it."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.text_factory = bytes
        tables = [
            name.decode()
            for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type='table'")
        ]
        table = chance.choice(tables)
        connection.execute("PRAGMA writable_schema = ON")
        schema = connection.execute("SELECT sql FROM sqlite_schema WHERE name=?", (table,))
        ((declared,),) = schema.fetchall()
        connection.execute(
            "UPDATE sqlite_schema SET sql=? WHERE name=?",
            (_loosened(declared.decode()), table),
        )
        version = connection.execute("PRAGMA schema_version").fetchone()[0]
        connection.execute(f"PRAGMA schema_version = {version + 1}")
        connection.execute("PRAGMA writable_schema = OFF")
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
        column, value = chance.choice(columns), chance.choice(_VALUES)
        rows = chance.choice(("(SELECT {0} FROM {1} ORDER BY random() LIMIT 1)", "ALL"))
        where = "" if rows == "ALL" else f"WHERE {column} = {rows.format(column, table)}"
        statement = f'UPDATE OR IGNORE "{table}" SET {column} = {value} {where}'
        if chance.random() < 0.1:
            statement = f'DELETE FROM "{table}" {where}'
        with contextlib.suppress(sqlite3.Error):
            connection.execute(statement)
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_schema SET sql=? WHERE name=?", (declared.decode(), table)
        )
        connection.execute(f"PRAGMA schema_version = {version + 2}")
    return statement


def _loosened(sql: str) -> str:
    """The same table, taking anything; the row id stays what it is."""
    loose = sql.replace("STRICT, ", "").replace("STRICT", "").replace("NOT NULL", "")
    return loose.replace("INTEGER ", "ANY ").replace("ANY PRIMARY", "INTEGER PRIMARY")


_ANYHOW: Final = tuple(
    _rewrite(change)
    for change in (_flip, _flip, _cut, _zero, _swap_pages, _insert, _repeat, _scramble)
)


def damage(folder: Path, chance: random.Random) -> str:
    """Damage one of the folder's files in one way; says how."""
    files = sorted(
        file for file in folder.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")
    )
    of_most = [file for file in files if file.suffix == ".db" and file.stat().st_size]
    file = chance.choice(of_most if chance.random() < 0.6 else files)
    kinds: Sequence[Damage] = _ANYHOW
    if file in of_most and chance.random() < 0.6:
        kinds = (_by_sql,)
    how = chance.choice(kinds)(file, chance)
    return f"{file.relative_to(folder)}: {how}"
