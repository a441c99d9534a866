"""The SQL that is kept in files: every statement can be run, is used, and is answered by an index."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from everwhen.backends import sqlite
from everwhen.backends.sqlite.connection import open_connection
from everwhen.backends.sqlite.schema import migrate, migrations
from everwhen.backends.sqlite.statements import statements

PACKAGE = Path(sqlite.__path__[0])
FILES = sorted(file.stem for file in (PACKAGE / "queries").iterdir())
NAMES = [(file, name) for file in FILES for name in statements(file)]
LARGE = ("slices", "streams", "terms", "marks", "snapshots", "chunks", "postings")


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apsw.Connection]:
    path = tmp_path_factory.mktemp("statements") / "store.db"
    opened = open_connection(path, read_only=False, busy_timeout=1)
    migrate(opened, migrations())
    yield opened
    opened.close()


def test_the_files_are_those_that_are_known() -> None:
    assert FILES == [
        "archived",
        "checking",
        "reading",
        "retired",
        "sealed",
        "sealed_events",
        "writing",
    ]


@pytest.mark.parametrize(("file", "name"), NAMES)
def test_a_statement_can_be_run_and_is_used(
    connection: apsw.Connection, file: str, name: str
) -> None:
    sql = statements(file)[name]
    connection.execute("BEGIN")
    if file == "sealed_events" and name == "create":
        connection.execute(statements(file)["drop"])
    named = dict.fromkeys(re.findall(r":([a-z]\w*)", sql))
    bounds = named or (None,) * sql.count("?")
    assert connection.execute(f"EXPLAIN {sql}", bounds).fetchall()
    connection.execute("ROLLBACK")
    used = re.compile(rf'(\["{name}"\]|_run\("{name}",|\("{name}", self)')
    assert any(used.search(module.read_text()) for module in PACKAGE.glob("*.py"))


@pytest.mark.parametrize("name", sorted(statements("reading")))
def test_no_question_goes_through_a_whole_table(connection: apsw.Connection, name: str) -> None:
    sql = statements("reading")[name]
    plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", (None,) * sql.count("?")).fetchall()
    steps = [str(step) for *_, step in plan]
    if sql.endswith("ORDER BY position DESC LIMIT 1") and "WHERE" not in sql:
        assert "SCAN slices" in steps  # backwards, and no further than its first row
        return
    for step in steps:
        assert not any(step.startswith(f"SCAN {table}") for table in LARGE), step
        assert "TEMP B-TREE" not in step or name in {"streams", "streams_of_category"}, step
