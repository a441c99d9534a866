"""Events and rows of the caller's own, in one transaction of PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest
from psycopg import AsyncConnection, IsolationLevel
from psycopg.rows import dict_row
from tests.faults.faults_ledger import Entry, entries
from tests.postgres_server import PostgresServer

from everwhen.aio import NO_STREAM, Commit, Condition, Query, Store, Write, open_store
from everwhen.backends._async.embedded import EmbeddedBackend
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


@asynccontextmanager
async def opened(
    postgres: PostgresServer, **given: Any
) -> AsyncIterator[tuple[Store, AsyncConnection[Any], str]]:
    """A store, a connection to its database, and a table of orders there."""
    with postgres.schema() as url:
        database, _, parameters = url.partition("?")
        orders = f"{parameters.removeprefix('schema=')}.orders"
        async with (
            open_store(url, events=[Entry]) as store,
            await AsyncConnection.connect(database, **given) as connection,
        ):
            await connection.execute(f"CREATE TABLE {orders} (id int)")
            await connection.commit()
            yield store, connection, orders


async def numbers(connection: AsyncConnection[Any], orders: str) -> list[int]:
    cursor = await connection.execute(f"SELECT id FROM {orders} ORDER BY id")
    return [
        next(iter(row.values())) if isinstance(row, dict) else row[0]
        for row in await cursor.fetchall()
    ]


async def test_rows_and_events_are_one_transaction(postgres: PostgresServer) -> None:
    async with opened(postgres) as (store, connection, orders):
        async with connection.transaction():
            await connection.execute(f"INSERT INTO {orders} VALUES (1)")
            receipt = await store.append(
                "a", entries("k1", 2), expected=NO_STREAM, connection=connection
            )
            assert (receipt.position, receipt.versions) == (2, {"a": 2})
            again = await store.append("a", entries("k2", 1), expected=2, connection=connection)
            assert again.position == 3
            assert (await store.head()).position == 0
        await connection.commit()
        assert (await store.head()).position == 3
        await connection.execute(f"INSERT INTO {orders} VALUES (2)")
        await store.append("a", entries("k3", 1), connection=connection)
        await connection.rollback()
        assert await numbers(connection, orders) == [1]
        assert (await store.append("a", entries("k4", 1))).position == 4
        assert await store.check() == []


async def test_what_is_refused_leaves_the_transaction_as_it_was(postgres: PostgresServer) -> None:
    """And others can append meanwhile: the log isn't locked for it."""
    async with opened(postgres) as (store, connection, orders):
        await store.append("a", entries("k1", 2))
        await connection.execute(f"INSERT INTO {orders} VALUES (1)")
        with pytest.raises(ConflictError):
            await store.append("a", entries("k2", 1), expected=1, connection=connection)
        condition = Condition(Query().stream("a"), 1)
        with pytest.raises(ConditionError):
            await store.append("b", entries("k2", 1), condition=condition, connection=connection)
        assert (await store.append("b", entries("k3", 1))).position == 3
        commit = Commit([Write("c", entries("k4", 1))], id=UUID(int=4))
        refused = Commit([Write("a", entries("k5", 1), NO_STREAM)])
        with pytest.raises(BatchError) as raised:
            await store.commit_batch([commit, refused, commit], connection=connection)
        first, second, third = raised.value.outcomes
        assert isinstance(second, ConflictError)
        assert isinstance(first, Receipt)
        assert (first, third) == (first, msgspec.structs.replace(first, repeated=True))
        await connection.commit()
        assert await numbers(connection, orders) == [1]
        assert (await store.commit(commit)).repeated
        async with connection.transaction():
            assert (await store.commit(commit, connection=connection)).repeated


async def test_an_id_that_lied_about_being_new_is_a_repeat(postgres: PostgresServer) -> None:
    async with opened(postgres) as (store, connection, orders):
        commit = store.kernel.encoded(Commit([Write("a", entries("k1", 1))]))
        assert commit.is_fresh
        await store.kernel.write([commit])
        await connection.execute(f"INSERT INTO {orders} VALUES (1)")
        (again,) = await store.kernel.write([commit], connection)
        assert isinstance(again, Receipt)
        assert again.repeated
        await connection.commit()
        assert await numbers(connection, orders) == [1]


async def test_settings_and_rows_of_the_connection_stay_as_they_were(
    postgres: PostgresServer,
) -> None:
    async with opened(postgres, row_factory=dict_row) as (store, connection, orders):
        heard: list[str | None] = []
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        await connection.execute("SET search_path = pg_catalog; SET lock_timeout = '7s'")
        await store.append("a", entries("k1", 1), connection=connection)
        await connection.execute("DO $$ BEGIN RAISE NOTICE 'still heard'; END $$")
        cursor = await connection.execute("SELECT current_setting('search_path') AS path")
        assert await cursor.fetchall() == [{"path": "pg_catalog"}]
        cursor = await connection.execute("SELECT current_setting('lock_timeout') AS lock")
        assert await cursor.fetchall() == [{"lock": "7s"}]
        assert heard == ["still heard"]
        for number in range(20):  # and statements that are prepared by now don't get mixed up
            await connection.execute(f"INSERT INTO {orders} VALUES (%s)", (number,))
            await store.append("a", entries(f"l{number}", 1), connection=connection)
        await connection.commit()
        assert await numbers(connection, orders) == list(range(20))
        assert (await store.head()).position == 21


async def test_what_runs_inline_runs_in_it_too(postgres: PostgresServer) -> None:
    async with opened(postgres) as (store, connection, orders):
        table = orders.replace("orders", "seen")
        await connection.execute(f"CREATE TABLE {table} (position bigint)")
        await connection.commit()

        def count(transaction: EngineTransaction) -> None:
            if transaction.read(Query().tags("commit:bad"), 1).slices:
                raise InlineError("inline", 1, "no")
            transaction.execute("INSERT INTO seen SELECT max(position) FROM slices")

        await store.kernel.backend.attach(count)
        await store.append("a", entries("k1", 1), connection=connection)
        await store.append("a", entries("k2", 1), connection=connection)
        await connection.commit()
        batch = [Commit([Write("a", entries(key, 1))]) for key in ("k3", "bad", "k4")]
        with pytest.raises(BatchError):
            await store.commit_batch(batch, connection=connection)
        await connection.rollback()
        cursor = await connection.execute(f"SELECT position FROM {table}")
        assert await cursor.fetchall() == [(1,), (2,)]


async def test_who_waits_for_it_is_told(postgres: PostgresServer) -> None:
    """Nobody else appends before the end of the transaction; followers hear of it then."""
    async with opened(postgres) as (store, connection, _):
        async with store.subscribe() as following:
            await store.append("a", entries("k1", 1), connection=connection)
            engine = store.kernel.backend._engine  # type: ignore[attr-defined]
            impatient = PostgresEngine(engine.location, busy_timeout=0.2)
            with pytest.raises(BusyError, match="pg_stat_activity"):
                impatient.write([store.kernel.encoded(Commit([Write("b", entries("k2", 1))]))])
            impatient.close()
            await connection.commit()
            assert (await anext(following)).position == 1
            await store.append("a", entries("k3", 1), connection=connection)
            commit = store.kernel.encoded(Commit([Write("b", entries("k4", 1))]))
            backend = EmbeddedBackend(PostgresEngine(engine.location, busy_timeout=0.2))
            async with await AsyncConnection.connect(connection.info.dsn) as other:
                with pytest.raises(BusyError):
                    await backend.append([commit], other)
            await backend.close()
            await connection.commit()
            assert (await anext(following)).position == 2


async def test_connections_that_cannot_are_refused(postgres: PostgresServer) -> None:
    async with opened(postgres, autocommit=True) as (store, connection, _):
        with pytest.raises(UnsupportedError, match="begin one"):
            await store.append("a", entries("k", 1), connection=connection)
        with pytest.raises(DeclarationError, match="driver_connection"):
            await store.append("a", entries("k", 1), connection="postgresql://")
        await connection.set_autocommit(False)
        await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        with pytest.raises(UnsupportedError, match="at REPEATABLE READ"):
            await store.append("a", entries("k", 1), connection=connection)
        await connection.rollback()
        await connection.set_isolation_level(None)
        with pytest.raises(psycopg.Error):
            await connection.execute("SELECT nothing")
        with pytest.raises(UnsupportedError, match="roll the failed one back"):
            await store.append("a", entries("k", 1), connection=connection)
        await connection.rollback()
        async with connection.pipeline():
            await connection.execute("SELECT 1")
            with pytest.raises(UnsupportedError, match="leave that first"):
                await store.append("a", entries("k", 1), connection=connection)
        await connection.rollback()
        await connection.execute("SET client_encoding = 'LATIN1'")
        with pytest.raises(UnsupportedError, match="isn't UTF8"):
            await store.append("a", entries("k", 1), connection=connection)
        await connection.rollback()
        async with await AsyncConnection.connect(postgres.url("template1")) as elsewhere:
            with pytest.raises(DeclarationError, match="another database"):
                await store.append("a", entries("k", 1), connection=elsewhere)
            assert (await elsewhere.execute("SELECT 1")).rowcount == 1
        assert (await store.head()).position == 0
        assert (await store.append("a", entries("k", 1), connection=connection)).position == 1


async def test_branches_join_it_too(postgres: PostgresServer) -> None:
    async with opened(postgres) as (store, connection, orders):
        await store.append("a", entries("k1", 1))
        async with await store.create_branch("what-if") as branch:
            await connection.execute(f"INSERT INTO {orders} VALUES (1)")
            await branch.append("a", entries("k2", 1), expected=1, connection=connection)
            await connection.rollback()
            assert await branch.version("a") == 1
            await branch.append("a", entries("k3", 1), expected=1, connection=connection)
            await connection.commit()
            assert await branch.version("a") == 2
            assert await store.version("a") == 1


async def test_other_databases_say_that_they_do_not() -> None:
    async with open_store("memory:", events=[Entry]) as store:
        with pytest.raises(UnsupportedError, match="PostgreSQL does"):
            await store.append("a", entries("k", 1), connection=object())
