# Generated from tests/_async/test_caller_transactions.py by tools/unasync.py: edit that, then run `make sync`.
"""Events and rows of the caller's own, in one transaction of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest
from psycopg import Connection, IsolationLevel
from psycopg.rows import dict_row
from tests.faults.faults_ledger import Entry, entries
from tests.postgres_server import PostgresServer

from everwhen import NO_STREAM, Commit, Condition, Query, Store, Write, open_store
from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.engine import EngineTransaction
from everwhen.backends.postgres.engine import PostgresEngine
from everwhen.errors import (
    BatchError,
    BusyError,
    ConditionError,
    ConflictError,
    DeclarationError,
    InlineError,
    UnsupportedError,
)
from everwhen.vocabulary import Receipt


@contextmanager
def opened(postgres: PostgresServer, **given: Any) -> Iterator[tuple[Store, Connection[Any], str]]:
    """A store, a connection to its database, and a table of orders there."""
    with postgres.schema() as url:
        database, _, parameters = url.partition("?")
        orders = f"{parameters.removeprefix('schema=')}.orders"
        with (
            open_store(url, events=[Entry]) as store,
            Connection.connect(database, **given) as connection,
        ):
            connection.execute(f"CREATE TABLE {orders} (id int)")
            connection.commit()
            yield store, connection, orders


def numbers(connection: Connection[Any], orders: str) -> list[int]:
    cursor = connection.execute(f"SELECT id FROM {orders} ORDER BY id")
    return [
        next(iter(row.values())) if isinstance(row, dict) else row[0] for row in cursor.fetchall()
    ]


def test_rows_and_events_are_one_transaction(postgres: PostgresServer) -> None:
    with opened(postgres) as (store, connection, orders):
        with connection.transaction():
            connection.execute(f"INSERT INTO {orders} VALUES (1)")
            receipt = store.append("a", entries("k1", 2), expected=NO_STREAM, connection=connection)
            assert (receipt.position, receipt.versions) == (2, {"a": 2})
            again = store.append("a", entries("k2", 1), expected=2, connection=connection)
            assert again.position == 3
            assert (store.head()).position == 0
        connection.commit()
        assert (store.head()).position == 3
        connection.execute(f"INSERT INTO {orders} VALUES (2)")
        store.append("a", entries("k3", 1), connection=connection)
        connection.rollback()
        assert numbers(connection, orders) == [1]
        assert (store.append("a", entries("k4", 1))).position == 4
        assert store.check() == []


def test_what_is_refused_leaves_the_transaction_as_it_was(postgres: PostgresServer) -> None:
    """And others can append meanwhile: the log isn't locked for it."""
    with opened(postgres) as (store, connection, orders):
        store.append("a", entries("k1", 2))
        connection.execute(f"INSERT INTO {orders} VALUES (1)")
        with pytest.raises(ConflictError):
            store.append("a", entries("k2", 1), expected=1, connection=connection)
        condition = Condition(Query().stream("a"), 1)
        with pytest.raises(ConditionError):
            store.append("b", entries("k2", 1), condition=condition, connection=connection)
        assert (store.append("b", entries("k3", 1))).position == 3
        commit = Commit([Write("c", entries("k4", 1))], id=UUID(int=4))
        refused = Commit([Write("a", entries("k5", 1), NO_STREAM)])
        with pytest.raises(BatchError) as raised:
            store.commit_batch([commit, refused, commit], connection=connection)
        first, second, third = raised.value.outcomes
        assert isinstance(second, ConflictError)
        assert isinstance(first, Receipt)
        assert (first, third) == (first, msgspec.structs.replace(first, repeated=True))
        connection.commit()
        assert numbers(connection, orders) == [1]
        assert (store.commit(commit)).repeated
        with connection.transaction():
            assert (store.commit(commit, connection=connection)).repeated


def test_an_id_that_lied_about_being_new_is_a_repeat(postgres: PostgresServer) -> None:
    with opened(postgres) as (store, connection, orders):
        commit = store.kernel.encoded(Commit([Write("a", entries("k1", 1))]))
        assert commit.is_fresh
        store.kernel.write([commit])
        connection.execute(f"INSERT INTO {orders} VALUES (1)")
        (again,) = store.kernel.write([commit], connection)
        assert isinstance(again, Receipt)
        assert again.repeated
        connection.commit()
        assert numbers(connection, orders) == [1]


def test_settings_and_rows_of_the_connection_stay_as_they_were(
    postgres: PostgresServer,
) -> None:
    with opened(postgres, row_factory=dict_row) as (store, connection, orders):
        heard: list[str | None] = []
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        connection.execute("SET search_path = pg_catalog; SET lock_timeout = '7s'")
        store.append("a", entries("k1", 1), connection=connection)
        connection.execute("DO $$ BEGIN RAISE NOTICE 'still heard'; END $$")
        cursor = connection.execute("SELECT current_setting('search_path') AS path")
        assert cursor.fetchall() == [{"path": "pg_catalog"}]
        cursor = connection.execute("SELECT current_setting('lock_timeout') AS lock")
        assert cursor.fetchall() == [{"lock": "7s"}]
        assert heard == ["still heard"]
        for number in range(20):  # and statements that are prepared by now don't get mixed up
            connection.execute(f"INSERT INTO {orders} VALUES (%s)", (number,))
            store.append("a", entries(f"l{number}", 1), connection=connection)
        connection.commit()
        assert numbers(connection, orders) == list(range(20))
        assert (store.head()).position == 21


def test_what_runs_inline_runs_in_it_too(postgres: PostgresServer) -> None:
    with opened(postgres) as (store, connection, orders):
        table = orders.replace("orders", "seen")
        connection.execute(f"CREATE TABLE {table} (position bigint)")
        connection.commit()

        def count(transaction: EngineTransaction) -> None:
            if transaction.read(Query().tags("commit:bad"), 1).slices:
                raise InlineError("inline", 1, "no")
            transaction.execute("INSERT INTO seen SELECT max(position) FROM slices")

        store.kernel.backend.attach(count)
        store.append("a", entries("k1", 1), connection=connection)
        store.append("a", entries("k2", 1), connection=connection)
        connection.commit()
        batch = [Commit([Write("a", entries(key, 1))]) for key in ("k3", "bad", "k4")]
        with pytest.raises(BatchError):
            store.commit_batch(batch, connection=connection)
        connection.rollback()
        cursor = connection.execute(f"SELECT position FROM {table}")
        assert cursor.fetchall() == [(1,), (2,)]


def test_who_waits_for_it_is_told(postgres: PostgresServer) -> None:
    """Nobody else appends before the end of the transaction; followers hear of it then."""
    with opened(postgres) as (store, connection, _):
        with store.subscribe() as following:
            store.append("a", entries("k1", 1), connection=connection)
            engine = store.kernel.backend._engine  # type: ignore[attr-defined]
            impatient = PostgresEngine(engine.location, busy_timeout=0.2)
            with pytest.raises(BusyError, match="pg_stat_activity"):
                impatient.write([store.kernel.encoded(Commit([Write("b", entries("k2", 1))]))])
            impatient.close()
            connection.commit()
            assert (next(following)).position == 1
            store.append("a", entries("k3", 1), connection=connection)
            commit = store.kernel.encoded(Commit([Write("b", entries("k4", 1))]))
            backend = EmbeddedBackend(PostgresEngine(engine.location, busy_timeout=0.2))
            with Connection.connect(connection.info.dsn) as other:
                with pytest.raises(BusyError):
                    backend.append([commit], other)
            backend.close()
            connection.commit()
            assert (next(following)).position == 2


def test_connections_that_cannot_are_refused(postgres: PostgresServer) -> None:
    with opened(postgres, autocommit=True) as (store, connection, _):
        with pytest.raises(UnsupportedError, match="begin one"):
            store.append("a", entries("k", 1), connection=connection)
        with pytest.raises(DeclarationError, match="driver_connection"):
            store.append("a", entries("k", 1), connection="postgresql://")
        connection.set_autocommit(False)
        connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        with pytest.raises(UnsupportedError, match="at REPEATABLE READ"):
            store.append("a", entries("k", 1), connection=connection)
        connection.rollback()
        connection.set_isolation_level(None)
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT nothing")
        with pytest.raises(UnsupportedError, match="roll the failed one back"):
            store.append("a", entries("k", 1), connection=connection)
        connection.rollback()
        with connection.pipeline():
            connection.execute("SELECT 1")
            with pytest.raises(UnsupportedError, match="leave that first"):
                store.append("a", entries("k", 1), connection=connection)
        connection.rollback()
        connection.execute("SET client_encoding = 'LATIN1'")
        with pytest.raises(UnsupportedError, match="isn't UTF8"):
            store.append("a", entries("k", 1), connection=connection)
        connection.rollback()
        with Connection.connect(postgres.url("template1")) as elsewhere:
            with pytest.raises(DeclarationError, match="another database"):
                store.append("a", entries("k", 1), connection=elsewhere)
            assert (elsewhere.execute("SELECT 1")).rowcount == 1
        assert (store.head()).position == 0
        assert (store.append("a", entries("k", 1), connection=connection)).position == 1


def test_branches_join_it_too(postgres: PostgresServer) -> None:
    with opened(postgres) as (store, connection, orders):
        store.append("a", entries("k1", 1))
        with store.create_branch("what-if") as branch:
            connection.execute(f"INSERT INTO {orders} VALUES (1)")
            branch.append("a", entries("k2", 1), expected=1, connection=connection)
            connection.rollback()
            assert branch.version("a") == 1
            branch.append("a", entries("k3", 1), expected=1, connection=connection)
            connection.commit()
            assert branch.version("a") == 2
            assert store.version("a") == 1


def test_other_databases_say_that_they_do_not() -> None:
    with open_store("memory:", events=[Entry]) as store:
        with pytest.raises(UnsupportedError, match="PostgreSQL does"):
            store.append("a", entries("k", 1), connection=object())
