"""The SQL of the engine by name, from the files in ``queries/``.

A statement stands under a line ``-- name: NAME``. What is put together for each query, as the plan
of a page is, stays in Python, beside what it depends on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Final, Literal

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@lru_cache
def statements(
    file: Literal[
        "archived", "checking", "reading", "retired", "sealed", "sealed_events", "writing"
    ],
) -> Mapping[str, str]:
    """The statements of a file, each in one line and without its comments."""
    sql = (resources.files("everwhen.backends.sqlite") / "queries" / f"{file}.sql").read_text(
        "utf-8"
    )
    _, *parts = _NAME.split(sql)
    return MappingProxyType(dict(zip(parts[::2], map(_in_one_line, parts[1::2]), strict=True)))


def _in_one_line(sql: str) -> str:
    return " ".join(line.strip() for line in sql.splitlines() if not line.startswith("--")).strip()
