"""Read models in PostgreSQL: what others build on them, and a deep check that makes them again."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from tests.postgres_server import PostgresServer

from everwhen import (
    Event,
    ProjectionRunner,
    RecordedEvent,
    Store,
    TableProjection,
    Tables,
    open_store,
)
from everwhen.errors import StatementError, UnsupportedError
from everwhen.projections import check_deep


class Sold(Event):
    item: str
    pieces: int


def sales(version: int = 1, columns: str = "item TEXT PRIMARY KEY, pieces INT") -> TableProjection:
    projection = TableProjection(
        "sales", f"CREATE UNLOGGED TABLE {{sales}} ({columns})", version=version
    )

    @projection.on(Sold)
    def _(tables: Tables, sold: RecordedEvent[Sold]) -> None:
        tables.execute("INSERT INTO {sales} (item) VALUES (?)", (sold.event.item,))

    return projection


def followed(store: Store, projection: TableProjection) -> None:
    with ProjectionRunner(store, [projection]) as runner:
        runner.catch_up()


def run(store: Store, *statements: str) -> None:
    with store.transaction() as transaction:
        for statement in statements:
            transaction.execute(statement)


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    with postgres.schema() as url:
        yield url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url, events=[Sold]) as opened:
        opened.append("till-1", [Sold("lamp", 2)])
        followed(opened, sales())
        yield opened


def test_a_build_with_the_same_columns_leaves_the_view_to_those_who_use_it(store: Store) -> None:
    run(store, "CREATE VIEW mine AS SELECT item FROM sales", "GRANT SELECT ON sales TO PUBLIC")
    followed(store, sales(2, "item TEXT PRIMARY KEY, pieces INT, more INT"))
    with store.transaction() as transaction:
        assert transaction.execute("SELECT * FROM mine") == [("lamp",)]
        rights = "SELECT relacl::text LIKE '%=r/%' FROM pg_class WHERE oid = 'sales'::regclass"
        assert transaction.execute(rights) == [(True,)]
    with pytest.raises(StatementError, match="depend"):
        followed(store, sales(3, "item TEXT PRIMARY KEY"))
    run(store, "DROP VIEW mine")
    followed(store, sales(3, "item TEXT PRIMARY KEY"))
    assert store.check() == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("ALTER TABLE sales__1_1 ADD CHECK (pieces > 0)", "table 'sales__1_1' isn't as it is"),
        ("ALTER TABLE sales__1_1 ALTER pieces SET DEFAULT 7", "table 'sales__1_1' isn't as it is"),
        ("DROP VIEW sales; CREATE VIEW sales AS SELECT item FROM sales__1_1", "something else"),
        ("UPDATE sales__1_1 SET pieces = 5", "a row is ('lamp', 5) where the events give"),
        (
            "CREATE TRIGGER t AFTER UPDATE ON sales__1_1 EXECUTE FUNCTION unique_key_recheck()",
            "the trigger 't' is not one",
        ),
    ],
)
def test_a_deep_check_finds_what_was_changed(store: Store, change: str, told: str) -> None:
    assert store.check() == [] == check_deep(store, of=[sales()])
    run(store, change)
    assert told in str([*store.check(), *check_deep(store, of=[sales()])])


def test_what_is_tried_leaves_nothing(store: Store, url: str) -> None:
    scratch = store.kernel.backend.scratch()
    with scratch.transaction():
        scratch.execute("CREATE TABLE sales (n INTEGER)")
        with pytest.raises(StatementError), scratch.transaction():
            scratch.execute("INSERT INTO sales VALUES (1), (1 / 0)")
        scratch.execute("INSERT INTO sales VALUES (?)", (2,))
    assert list(scratch.rows("SELECT * FROM sales")) == [(2,)]
    scratch.interrupt()
    scratch.close()
    with open_store(url, read_only=True) as reader:
        again = reader.kernel.backend.scratch()
        assert again.dialect.objects(again, ("sales",)) == []
        again.execute("CREATE TABLE sales (n INTEGER)")
        again.close()


def test_a_role_that_may_make_no_temporary_tables(
    store: Store, url: str, postgres: PostgresServer
) -> None:
    del store
    schema = url.rpartition("=")[2]
    role = f"r{schema}"
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as session:
        session.execute(f"CREATE DATABASE {role}")
        session.execute(f"CREATE ROLE {role} LOGIN")
        session.execute(f"REVOKE TEMPORARY ON DATABASE {role} FROM PUBLIC")
        session.execute(f"GRANT CREATE ON DATABASE {role} TO {role}")
        there = postgres.url(role).replace("postgres@", f"{role}@")
        try:
            with open_store(there) as poor, pytest.raises(UnsupportedError, match="TEMPORARY"):
                poor.kernel.backend.scratch()
        finally:
            session.execute(f"DROP DATABASE {role} WITH (FORCE)")
            session.execute(f"DROP ROLE {role}")


@pytest.mark.parametrize(
    "statement",
    ["COMMIT", "/**/end", "SELECT 1; COMMIT", "SELECT ';' -- ;\n;rollback", "SELECT 1;SET x.y = 1"],
)
def test_no_statement_ends_the_transaction(store: Store, statement: str) -> None:
    with store.transaction() as transaction:
        with pytest.raises(StatementError, match="the transaction is the store's"):
            transaction.execute(statement)
        transaction.execute("SELECT 'COMMIT; END'; SELECT $$;END$$")
