"""The SQL of the engine by name, from the files in ``queries/``.

What is put together for each query, as the plan
of a page is, stays in Python, beside what it depends on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal

import apsw

from everwhen.backends.named_statements import named_statements


@lru_cache
def statements(
    file: Literal[
        "archived", "checking", "reading", "retired", "sealed", "sealed_events", "writing"
    ],
) -> Mapping[str, str]:
    """The statements of a file, each in one line and without its comments."""
    found = named_statements("everwhen.backends.sqlite", file)
    return MappingProxyType({name: _in_one_line(sql) for name, sql in found.items()})


def _in_one_line(sql: str) -> str:
    return " ".join(line.strip() for line in sql.splitlines() if not line.startswith("--")).strip()


def each(sql: str, rows: Sequence[tuple[Any, ...]], connection: apsw.Connection) -> None:
    """Run a statement for each of these rows."""
    connection.executemany(sql, rows)
