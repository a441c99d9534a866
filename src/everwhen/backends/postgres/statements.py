"""The SQL by name, from the files in ``queries/``, for the schema of one log."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Final, Literal

from psycopg.sql import Composable, Identifier

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_LOG: Final = re.compile(r"\blog\.")


@lru_cache(64)
def statements(file: Literal["reading", "schema", "writing"], schema: str) -> Mapping[str, str]:
    """The statements of a file for the tables of a schema."""
    sql = (resources.files("everwhen.backends.postgres") / "queries" / f"{file}.sql").read_text(
        "utf-8"
    )
    _, *parts = _NAME.split(sql)
    return MappingProxyType(
        {
            name: in_schema(text, schema).strip()
            for name, text in zip(parts[::2], parts[1::2], strict=True)
        }
    )


def in_schema(sql: str, schema: str) -> str:
    """The statement for a schema: ``log.`` stands for it."""
    return _LOG.sub(f"{quoted(schema)}.", sql)


def quoted(name: str) -> str:
    """A name as SQL has it, whatever is in it."""
    found: Composable = Identifier(name)
    return found.as_string(None)
