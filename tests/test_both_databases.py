"""Statements of one's own, on SQLite and on PostgreSQL: the same code gives the same answers."""

from __future__ import annotations

import pytest

from everwhen import open_store
from everwhen.errors import StatementError


def test_a_statement_that_fails_takes_nothing_else_with_it(location: str) -> None:
    with open_store(location) as store, store.transaction() as transaction:
        transaction.execute("CREATE TABLE noted (n INTEGER PRIMARY KEY, said TEXT)")
        transaction.execute("INSERT INTO noted VALUES (?, ?)", (1, "100 % ? :no 'quoted'"))
        for wrong in ("INSERT INTO noted VALUES (1, 'twice')", "SELECT nothing", "NO SQL"):
            with pytest.raises(StatementError, match="fix it"):
                transaction.execute(wrong)
        found = transaction.execute(
            "SELECT said FROM noted WHERE n = :n AND '%:x?' <> ''", {"n": 1}
        )
        assert found == [("100 % ? :no 'quoted'",)]
