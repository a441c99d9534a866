"""A log in PostgreSQL after pg_dump and pg_restore: it goes on, and a return to the past shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgres_server import PostgresServer, give_to_server

from everwhen import Commit, Event, Query, Write, open_store
from everwhen.vocabulary import Checkpoint

SCHEMA = "orders"


class Noted(Event):
    tag_fields = ("name",)

    name: str


@pytest.fixture
def dumps(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for dumps; two databases are there, and gone in the end."""
    folder = postgres.folder / "dumps"
    folder.mkdir()
    give_to_server(folder)
    for name in ("first", "restored"):
        postgres.execute(f"CREATE DATABASE {name}")
    yield folder
    for name in ("first", "restored"):
        postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def dump(postgres: PostgresServer, folder: Path) -> None:
    database = postgres.url("first")
    postgres.run("pg_dump", "-Fc", "-n", SCHEMA, "-n", f'"{SCHEMA}."*',
        "-f", folder / "dump", "-d", database)  # fmt: skip


def restore(postgres: PostgresServer, folder: Path) -> str:
    postgres.run("pg_restore", "-d", postgres.url("restored"), "--exit-on-error", folder / "dump")
    return postgres.url("restored", schema=SCHEMA)


def test_a_restored_log_goes_on(postgres: PostgresServer, dumps: Path) -> None:
    with open_store(postgres.url("first", schema=SCHEMA), events=[Noted]) as store:
        receipts = [store.append(f"a-{number}", [Noted(name="x")] * 2) for number in range(5)]
        with store.transaction() as transaction:
            transaction.save_checkpoint(Checkpoint("c", 6))
        with store.create_branch("tried") as branch:
            branch.append("a-1", [Noted(name="y")])
        written = list(store.read())
        dump(postgres, dumps)
    with open_store(restore(postgres, dumps), events=[Noted]) as store:
        assert list(store.read()) == written
        assert store.checkpoint("c") == Checkpoint("c", 6)
        again = Commit([Write("a-0", [Noted(name="x")] * 2)], id=receipts[0].commit_id)
        assert store.commit(again).repeated
        assert store.append("a-1", [Noted(name="z"), Noted(name="x")]).position == 12
        assert store.append("new", [Noted(name="x")]).position == 13
        assert len(list(store.read(Query().tags("name:x")))) == 12
        assert store.check() == []
        with store.branch("tried") as branch:
            assert branch.head().position == 11
            branch.append("a-1", [Noted(name="y")])
            assert branch.check() == []


def test_what_was_kept_elsewhere_shows_that_the_log_is_of_the_past(
    postgres: PostgresServer, dumps: Path, tmp_path: Path
) -> None:
    """A signed log has events that the store hasn't, and a follower's position is beyond its head."""
    pytest.importorskip("cryptography", reason="signing needs the extra 'trust'")
    from everwhen.merkle import FaultKind, MerkleLog
    from everwhen_verify.notes import Signer

    tiles, signer = tmp_path / "log", Signer.generate("example.org/shop")
    with open_store(postgres.url("first", schema=SCHEMA), events=[Noted]) as store:
        store.append("a", [Noted(name="x")] * 3)
        dump(postgres, dumps)
        kept = store.append("a", [Noted(name="y")] * 3).position
        log = MerkleLog(store, tiles, signer)
        log.sign()
        assert log.verify().fault is None
    with open_store(restore(postgres, dumps), events=[Noted]) as store:
        assert store.head().position == 3 < kept
        assert store.check() == []
        fault = MerkleLog(store, tiles, signer).verify().fault
        assert fault is not None
        assert fault.kind is FaultKind.CUT_TAIL
        store.append("a", [Noted(name="other")] * 3)
        fault = MerkleLog(store, tiles, signer).verify().fault
        assert fault is not None
        assert fault.kind is FaultKind.CHANGED
