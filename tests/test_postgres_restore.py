"""A log in PostgreSQL after pg_dump and pg_restore: it goes on, and a return to the past shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from tests.patience import PATIENCE_SECONDS
from tests.postgres_server import PostgresServer, give_to_server
from tests.web.serving import served_store

from everwhen import (
    Commit,
    Event,
    Fold,
    Projection,
    ProjectionRunner,
    Query,
    RecordedEvent,
    TableProjection,
    Tables,
    UnknownEvent,
    Write,
    open_store,
)
from everwhen.errors import BeyondEndError
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


def lose(url: str, after: int) -> None:
    """Take back what was written after a position, as the loss of a primary without a standby does.

    The programs that use the log go on meanwhile.
    """
    database, _, schema = url.partition("?schema=")
    with psycopg.connect(database) as session:
        for table in ("slices", "marks"):
            where = f'"{schema}".{table} WHERE position > {after}'
            session.execute(f"DELETE FROM {where}".encode())


def test_a_subscription_that_waits_meanwhile_is_told(postgres: PostgresServer) -> None:
    with postgres.schema() as url, open_store(url, events=[Noted]) as store:
        store.append("a", [Noted(name="x")] * 3)
        store.append("a", [Noted(name="x")] * 3)
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(next, store.subscribe(Query().after(6)))
            lose(url, after=3)
            with pytest.raises(BeyondEndError) as told:
                waiting.result(PATIENCE_SECONDS)
        assert (told.value.position, told.value.end) == (6, 3)


def test_a_runner_at_work_halts_what_is_beyond(postgres: PostgresServer) -> None:
    """What is in memory answers no more; a table goes on from where the store has it."""
    total: Fold[int] = Fold("total", int)
    total.on(Noted)(lambda state, event: state + 1)
    state, table = Projection(total), TableProjection("t", ["CREATE TABLE {t} (position INTEGER)"])

    @table.on(Noted)
    def _(tables: Tables, event: RecordedEvent[Noted]) -> None:
        tables.execute("INSERT INTO {t} VALUES (?)", (event.position,))

    with postgres.schema() as url, open_store(url, events=[Noted]) as store:
        store.append("a", [Noted(name="x")] * 3)
        with ProjectionRunner(store, [state, table], lease=0.5) as runner:
            runner.catch_up()
            (then,) = store.checkpoints()
            store.append("a", [Noted(name="x")] * 3)
            runner.catch_up()
            assert runner.ask(state, lambda count: count) == (6, 6)
            with store.transaction() as transaction:  # as it was, with its rows
                transaction.execute("DELETE FROM t WHERE position > 3")
                transaction.save_checkpoint(then, local=True)
                transaction.execute("DELETE FROM slices WHERE position > 3")
            until = time.monotonic() + PATIENCE_SECONDS
            while {one.name: one.state for one in runner.status()} != {
                "t": "live",
                "total": "beyond",
            }:
                assert time.monotonic() < until
                time.sleep(0.01)
            with pytest.raises(BeyondEndError):
                runner.ask(state, lambda count: count)
            store.append("b", [Noted(name="x")])
            while runner.status()[0].position != 4:
                assert time.monotonic() < until
                time.sleep(0.01)
            with store.transaction() as transaction:
                found = transaction.execute("SELECT position FROM t ORDER BY 1")
            assert found == [(1,), (2,), (3,), (4,)]


def test_who_follows_over_http_is_told(postgres: PostgresServer) -> None:
    with postgres.schema() as url, open_store(url) as store:
        store.append("a", [UnknownEvent("T", {})] * 6)
        with served_store(url) as client:
            live = {"url": "/v1/events/live", "params": {"after": 5}}
            with client.stream("GET", **live) as answer:  # type: ignore[arg-type]
                pieces = answer.iter_raw()
                text = b""
                while b"caught-up" not in text:
                    text += next(pieces)
                lose(url, after=0)
                store.append("b", [UnknownEvent("T", {})] * 3)
                text += b"".join(pieces)
            said = text.rpartition(b"event: problem\ndata: ")[2]
            assert b"problems.md#beyond-end" in said
            assert b"position 6 is after the end of the log" in said
            again = client.get("/v1/events/live", headers={"Last-Event-ID": "6"})
            assert (again.status_code, again.json()["position"]) == (409, 6)
            assert again.json()["type"].endswith("#beyond-end")
            assert client.get("/v1/events", params={"after": 6}).json()["events"] == []


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
        with pytest.raises(BeyondEndError, match="restored to an earlier moment"):
            next(store.subscribe(Query().after(kept)))
        fault = MerkleLog(store, tiles, signer).verify().fault
        assert fault is not None
        assert fault.kind is FaultKind.CUT_TAIL
        store.append("a", [Noted(name="other")] * 3)
        fault = MerkleLog(store, tiles, signer).verify().fault
        assert fault is not None
        assert fault.kind is FaultKind.CHANGED
