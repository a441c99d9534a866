"""The oldest PostgreSQL that is supported, where the machine has it: Debian's postgresql-15."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from tests.faults.faults_moving import moved
from tests.postgres_server import PostgresServer, postgres_server

from everwhen import Event, ProjectionRunner, RecordedEvent, TableProjection, Tables, open_store
from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.postgres.engine import PostgresEngine
from everwhen.backends.postgres.statements import statements
from everwhen.projections import check_deep
from everwhen.testing import ContractTest, contract_tests
from everwhen.vocabulary.clock import Clock
from everwhen.vocabulary.contract import Seal

PROGRAMS = Path("/usr/lib/postgresql/15/bin")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROGRAMS.is_dir(), reason="the package postgresql-15 isn't installed"),
]


class Sold(Event):
    item: str


@pytest.fixture(scope="module")
def old() -> Iterator[PostgresServer]:
    with postgres_server(programs=PROGRAMS) as running:
        yield running


@pytest.mark.parametrize("test", contract_tests(PostgresEngine.capabilities), ids=repr)
def test_contract(test: ContractTest, old: PostgresServer) -> None:
    with old.schema() as url:

        def opening(clock: Clock) -> EmbeddedBackend:
            return EmbeddedBackend(PostgresEngine(url, clock=clock))

        test.run(opening)


def test_read_models_are_checked(old: PostgresServer) -> None:
    sales = TableProjection("sales", "CREATE TABLE {sales} (item TEXT, pieces INT DEFAULT 1)")

    @sales.on(Sold)
    def _(tables: Tables, sold: RecordedEvent[Sold]) -> None:
        tables.execute("INSERT INTO {sales} (item) VALUES (?)", (sold.event.item,))

    with old.schema() as url, open_store(url, events=[Sold]) as store:
        store.append("till-1", [Sold("lamp")])
        with ProjectionRunner(store, [sales]) as runner:
            runner.catch_up()
        assert store.check() == [] == check_deep(store, of=[sales])
        with store.create_branch("what-if") as branch:
            branch.append("till-1", [Sold("chair")])
            assert branch.check() == []


def test_a_log_of_the_first_format_becomes_one_of_the_second(old: PostgresServer) -> None:
    with old.schema() as url, psycopg.connect(old.url("postgres"), autocommit=True) as session:
        schema = url.rpartition("=")[2]
        session.execute(f"CREATE SCHEMA {schema}")
        for statement in statements("schema", schema).values():
            session.execute(statement)
        body = b'[["Sold",1,{"item":"lamp"}]]'
        session.execute(f"INSERT INTO {schema}.streams (name) VALUES ('till-1')")
        session.execute(
            f"INSERT INTO {schema}.slices VALUES (1, 1, 1, 1, 1000, %s, 0, NULL, %s)",
            (uuid4(), body),
        )
        with open_store(url, events=[Sold]) as store:
            store.append("till-1", [Sold("chair")], expected=1)
            assert [one.event for one in store.read()] == [Sold("lamp"), Sold("chair")]
        assert session.execute(f"SELECT version FROM {schema}.meta").fetchall() == [(2,)]
        with closing(PostgresEngine(url)) as engine:
            assert moved(engine, Seal(2)) is not None
            assert list(engine.check()) == []
        with open_store(url, events=[Sold]) as store:
            assert [one.event for one in store.read()] == [Sold("lamp"), Sold("chair")]
