"""The SQL by name, from the files in ``queries/``, for the schema of one log."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from psycopg import Connection
from psycopg.sql import Composable, Identifier

from everwhen.backends.named_statements import named_statements

PostgresSession: TypeAlias = Connection[tuple[Any, ...]]
StatementFile: TypeAlias = Literal["reading", "schema", "schema_2", "tiers", "writing"]

_LOG: Final = re.compile(r"\blog\.")


@lru_cache(1_024)
def statements(file: StatementFile, schema: str) -> Mapping[str, str]:
    """The statements of a file for the tables of a schema."""
    found = named_statements("everwhen.backends.postgres", file)
    return MappingProxyType({name: in_schema(sql, schema).strip() for name, sql in found.items()})


def in_schema(sql: str, schema: str) -> str:
    """The statement for a schema: ``log.`` stands for it."""
    return _LOG.sub(f"{quoted(schema)}.", sql)


def quoted(name: str) -> str:
    """A name as SQL has it, whatever is in it."""
    found: Composable = Identifier(name)
    return found.as_string(None)
