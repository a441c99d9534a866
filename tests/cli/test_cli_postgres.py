"""The command line with a URL in the place of a file: what it shows, and what it doesn't."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cli.conftest import BetPlaced
from tests.cli.everwhen_shell import Shell
from tests.postgres_server import PostgresServer

from everwhen import open_store

SECRET = "s3cret"  # noqa: S105


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    with postgres.schema() as found, open_store(found, events=[BetPlaced]) as store:
        store.append("game-1", [BetPlaced(player=7, amount=5)] * 3)
        yield found.replace("postgres@", f"postgres:{SECRET}@")


def test_info_shows_the_size_of_tables(shell: Shell, url: str) -> None:
    (shown,) = shell("info", url, "--json").records
    tables = {table["name"]: table for table in shown["tables"]}
    assert {"slices", "streams", "marks", "checkpoints", "snapshots", "meta"} <= set(tables)
    assert shown["bytes"] == sum(table["bytes"] for table in tables.values())
    assert set(tables["slices"]) == {"name", "bytes", "rows", "dead_rows"}
    assert "slices" in shell.terminal("info", url, columns=100).out


def test_sizes_count_rows_and_dead_ones(postgres: PostgresServer, url: str) -> None:
    with open_store(url) as store:
        with store.transaction() as transaction:
            transaction.execute("CREATE TABLE rows AS SELECT generate_series(1, 100) AS n")
        with store.transaction() as transaction:
            transaction.execute("DELETE FROM rows WHERE n <= 40")
        schema = url.rpartition("=")[2]
        postgres.until(f"SELECT pg_stat_get_dead_tuples('{schema}.rows'::regclass)")
        (rows,) = [table for table in store.table_sizes() if table.name == "rows"]
        assert (rows.rows, rows.dead_rows) == (60, 40)
        assert rows.bytes >= 8_192


def test_a_store_in_a_file_has_no_tables_of_a_server(shell: Shell, shop: object) -> None:
    (shown,) = shell("info", shop, "--json").records
    assert shown["tables"] == []


@pytest.mark.parametrize(
    "words",
    [
        ["info"],
        ["info", "--json"],
        ["check"],
        ["check", "--deep"],
        ["read"],
        ["tiers", "status"],
        ["tiers", "age", "--hot-duration", "1d"],
        ["tiers", "compact"],
        ["sign"],
        ["verify"],
        ["audit", "list"],
        ["backup", "kept.db"],
        ["export"],
        ["debug", "--commands", "."],
        ["projections"],
    ],
)
def test_no_command_shows_a_password(shell: Shell, url: str, words: list[str]) -> None:
    command, *rest = words
    if command in {"tiers", "audit"}:
        command, rest = f"{command} {rest[0]}", rest[1:]
    for run in (shell, shell.terminal):
        done = run(*command.split(), url, *rest)
        assert SECRET not in done.out + done.err, done


@pytest.mark.parametrize(
    "words", ["demo --keep {url}", "backup {shop} {url}", "restore {url} a.db"]
)
def test_what_needs_a_file_does_not_quote_a_url(
    shell: Shell, shop: object, url: str, words: str
) -> None:
    done = shell(*words.format(shop=shop, url=url).split())
    assert done.code
    assert "this is no file" in done.err
    assert SECRET not in done.out + done.err


@pytest.mark.parametrize("scheme", ["postgress", "mysql"])
def test_a_url_that_nothing_opens_is_not_quoted(shell: Shell, scheme: str) -> None:
    done = shell("info", f"{scheme}://me:{SECRET}@host/db")
    assert done.code
    assert scheme in done.err
    assert SECRET not in done.out + done.err


@pytest.mark.parametrize("schema", ["Wrong", "nowhere"])
def test_a_log_that_is_not_there_is_named_without_it(shell: Shell, url: str, schema: str) -> None:
    done = shell("info", f"{url.partition('?')[0]}?schema={schema}")
    assert done.code
    assert SECRET not in done.out + done.err
