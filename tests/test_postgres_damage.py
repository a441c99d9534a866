"""Damage in the files of a PostgreSQL server, as `check` names it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from tests.postgres_server import PostgresServer, postgres_server

from everwhen import Event, open_store
from everwhen.errors import EverwhenError

SCHEMA = "orders"


class Noted(Event):
    tag_fields = ("name",)

    name: str


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """One that has a log, but no checksums: all that is read is believed."""
    with postgres_server() as running:
        running.stop()
        running.run("pg_checksums", "--disable", "-D", running.data)
        running.start()
        fill(running, "first")
        yield running


def url(server: PostgresServer) -> str:
    return server.url("postgres", schema=SCHEMA)


def fill(server: PostgresServer, word: str) -> None:
    with open_store(url(server), events=[Noted]) as store:
        for number in range(20):
            store.append(f"{word}-{number}", [Noted(name=f"{word}{number}")])


@contextmanager
def stopped(server: PostgresServer, relation: str) -> Iterator[Path]:
    """The file of a table or an index, while no server runs."""
    server.execute("CHECKPOINT")
    ((path,),) = server.execute(f"SELECT pg_relation_filepath('{SCHEMA}.{relation}')")
    server.stop()
    yield server.data / path
    server.start()


def problems(server: PostgresServer, role: str = "postgres") -> list[str]:
    with open_store(url(server).replace("postgres@", f"{role}@"), events=[Noted]) as store:
        return [f"{one.where}: {one.what}" for one in store.check()]


def outdate(server: PostgresServer, index: str) -> None:
    """Put an index back to what it was before more was written: nothing in it is wrong by itself."""
    kept = server.folder / "kept"
    with stopped(server, index) as file:
        shutil.copy(file, kept)
    fill(server, "second")
    with stopped(server, index) as file:
        file.write_bytes(kept.read_bytes())


def test_an_index_that_lost_its_newest_is_named(server: PostgresServer) -> None:
    server.execute("CREATE EXTENSION amcheck")
    assert problems(server) == []
    outdate(server, "streams_name_key")
    found = problems(server)
    assert any(
        "index streams_name_key: heap tuple" in one and "lacks matching index tuple" in one
        for one in found
    ), found


def test_a_row_from_the_future_is_named(server: PostgresServer) -> None:
    server.execute("CREATE EXTENSION amcheck")
    with stopped(server, "slices") as file:
        page = bytearray(file.read_bytes())
        offset = int.from_bytes(page[24:28], "little") & 0x7FFF
        page[offset : offset + 4] = (2_000_000_000).to_bytes(4, "little")
        file.write_bytes(page)
    found = problems(server)
    assert any("table slices: block 0: xmin 2000000000" in one for one in found), found
    assert any("position" in one for one in found), "what that hides is named as well"


@pytest.mark.parametrize("installed", [True, False])
def test_pages_whose_checksums_are_wrong_are_named(installed: bool) -> None:
    with postgres_server() as server:
        fill(server, "first")
        if server.execute("SHOW data_checksums") == [("off",)]:
            server.stop()
            server.run("pg_checksums", "--enable", "-D", server.data)
            server.start()
        if installed:
            server.execute("CREATE EXTENSION amcheck")
        with stopped(server, "slices") as file:
            page = bytearray(file.read_bytes())
            page[-20] ^= 0xFF
            file.write_bytes(page)
        found = problems(server)
        assert any("invalid page in block 0" in one for one in found), found
        with open_store(url(server), events=[Noted]) as store, pytest.raises(EverwhenError):
            list(store.read())


def test_who_may_not_call_it_checks_the_rest(server: PostgresServer) -> None:
    server.execute("CREATE EXTENSION amcheck")
    server.execute(
        f"CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA {SCHEMA} TO reader; "
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {SCHEMA} TO reader"
    )
    assert problems(server, "reader") == []
    with psycopg.connect(server.url("postgres"), autocommit=True) as session:
        session.execute(f"DELETE FROM {SCHEMA}.marks WHERE position = 3")
    assert problems(server, "reader") == ["position 3: the index doesn't lead to all that is in it"]
