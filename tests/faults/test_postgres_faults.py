"""PostgreSQL that is killed, warns, or was left behind; and what is said of how one gets in."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from tests.faults.faults_ledger import Entry, entries
from tests.postgres_server import PostgresServer, postgres_server

from everwhen import Commit, Write, open_store
from everwhen.backends.postgres.address import Address
from everwhen.backends.postgres.engine import PostgresEngine
from everwhen.errors import (
    DeclarationError,
    NewerStoreError,
    NotAStoreError,
    ReadOnlyError,
    StatementError,
    StorageError,
)
from everwhen.vocabulary import Checkpoint, Snapshot


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server(fsync="on", full_page_writes="on") as running:
        yield running


@pytest.fixture
def url(server: PostgresServer) -> Iterator[str]:
    with server.schema() as found:
        yield found


def commit(number: int) -> Commit:
    return Commit([Write(f"a-{number % 7}", entries(f"k{number}", 2))], id=UUID(int=number + 1))


def test_what_was_acknowledged_outlives_the_server(server: PostgresServer, url: str) -> None:
    """It is killed while several write; each repeats what it wasn't told of, and it is there once."""
    acknowledged: list[int] = []
    stopping = threading.Event()

    def write(first: int) -> None:
        with open_store(url, events=[Entry]) as store:
            for number in range(first, first + 100_000, 4):
                while not stopping.is_set():
                    try:
                        store.commit(commit(number))
                    except StorageError:
                        continue
                    acknowledged.append(number)
                    break
                else:
                    return

    with open_store(url, events=[Entry]):
        writers = [threading.Thread(target=write, args=(first,)) for first in range(4)]
        for writer in writers:
            writer.start()
        for turn in range(3):
            while len(acknowledged) < 60 * (turn + 1):
                stopping.wait(0.01)
            server.kill()
            server.start()
        while len(acknowledged) < 240:
            stopping.wait(0.01)
        stopping.set()
        for writer in writers:
            writer.join()
    with open_store(url, events=[Entry]) as store:
        assert store.check() == []
        found = [event.event.commit for event in store.read() if event.event.index == 0]
        assert len(found) == len(set(found))
        assert set(found) >= {f"k{number}" for number in acknowledged}
        assert all(store.commit(commit(number)).repeated for number in acknowledged)


def test_a_warning_leaves_the_outcome_open(url: str) -> None:
    """As where the server stops waiting for a standby, and tells that as a success."""
    with open_store(url, events=[Entry]) as store:
        with psycopg.connect(url.partition("?")[0], autocommit=True) as session:
            schema = url.rpartition("=")[2]
            session.execute(f"""
                CREATE FUNCTION {schema}.warn() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE WARNING 'canceling wait for synchronous replication'; RETURN NULL; END $$;
                CREATE TRIGGER warning AFTER INSERT ON {schema}.slices
                FOR EACH STATEMENT EXECUTE FUNCTION {schema}.warn()
            """)
        with pytest.raises(StorageError, match="the server warns"):
            store.commit(commit(1))
        assert store.commit(commit(1)).repeated


def test_a_primary_of_an_older_timeline_is_refused(url: str) -> None:
    """Somebody promoted a standby, and the old primary still runs."""
    engine = PostgresEngine(url)
    engine._sessions._timeline = "00000007"
    with pytest.raises(StorageError, match="timeline 00000001, and the store was on 00000007"):
        engine.write([])
    engine.close()


def test_a_lost_session_is_replaced(server: PostgresServer, url: str) -> None:
    with open_store(url, events=[Entry]) as store:
        store.append("a", entries("k", 1))
        with psycopg.connect(server.url("postgres"), autocommit=True) as session:
            session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'everwhen'"
            )
        assert store.head().position == 1
        with pytest.raises(StorageError, match="isn't known: append it again"):
            store.append("a", entries("l", 1))
        assert store.append("a", entries("l", 1)).position == 2


def test_a_store_does_not_survive_a_fork(url: str) -> None:
    with open_store(url, events=[Entry]) as store:
        store.append("a", entries("k", 1))
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                store.head()
            except StorageError as error:
                os.write(writing, str(error).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as said:
            assert b"doesn't survive a fork" in said.read()
        os.waitpid(child, 0)
        assert store.append("a", entries("l", 1)).position == 2


# Addresses


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:se%63ret@127.0.0.1:1/db",
        "postgresql://127.0.0.1:1/db?user=me&password=secret",
    ],
)
def test_no_password_is_shown(url: str) -> None:
    with pytest.raises(StorageError, match="can't be reached") as raised:
        open_store(url)
    assert "secret" not in f"{raised.value} {raised.value.__cause__} {Address.parsed(url)!r}"


@pytest.mark.parametrize(
    "wrong",
    [
        "postgresql://me:secret@host/db?nothing=secret",
        "postgresql://me:secret@host/db?schema=pg_log",
        "postgresql://me:secret@host/db?schema=Capital",
        "postgresql://me:secret@host/db?schema=",
    ],
)
def test_what_is_no_address_is_refused_without_being_quoted(wrong: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        open_store(wrong)
    assert "secret" not in str(raised.value)


def test_other_schemas_are_left_alone(server: PostgresServer, url: str) -> None:
    schema = url.rpartition("=")[2]
    with psycopg.connect(server.url("postgres"), autocommit=True) as session:
        session.execute(f"CREATE SCHEMA {schema} CREATE TABLE slices (n int)")
        with pytest.raises(NotAStoreError, match="other tables than a log's"):
            open_store(url)
        session.execute(f"DROP TABLE {schema}.slices")
        with pytest.raises(StorageError, match="there is no such log"):
            open_store(url, read_only=True)
        open_store(url).close()
        session.execute(f"UPDATE {schema}.meta SET version = 99")
        with pytest.raises(NewerStoreError, match="format 99"):
            open_store(url)


def test_the_roles_of_the_guide(server: PostgresServer) -> None:
    """They may what they are for, and no more."""
    guide = Path(__file__).parents[2] / "docs" / "how-to" / "postgresql.md"
    script = guide.read_text("utf-8").split("```sql\n")[1].split("```")[0]
    owner = server.url("postgres", schema="orders")
    with open_store(owner, events=[Entry]) as store:
        store.append("a", entries("k", 1))
    with psycopg.connect(server.url("postgres"), autocommit=True) as session:
        session.execute(script.encode())
        with open_store(owner.replace("postgres@", "orders_reader@"), events=[Entry]) as store:
            assert store.head().position == 1
            with pytest.raises(ReadOnlyError, match="a role that may write"):
                store.append("a", entries("l", 1))
        with open_store(owner.replace("postgres@", "orders_writer@"), events=[Entry]) as store:
            assert store.append("b", entries("l", 1)).position == 2
            with store.transaction() as transaction:
                transaction.save_checkpoint(Checkpoint("c", 2))
                transaction.save_snapshot(Snapshot("b", 2, "fold", 1, b""))
                transaction.delete_snapshots("b")
                with pytest.raises(StatementError, match="permission denied"):
                    transaction.execute("UPDATE slices SET body = ''")
            assert store.check() == []
        session.execute("DROP SCHEMA orders CASCADE")
        session.execute("DROP ROLE orders_writer, orders_reader")
