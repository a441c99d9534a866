"""Statements that users write: in a view or a transaction.

Parameters are written as on SQLite, by place (``?``) or by name (``:name``), so that a read model's
code runs on both. PostgreSQL's operators with a question mark are written with two of them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache
from typing import Any, Final

import psycopg

from everwhen.backends.postgres.error_translation import statement_error
from everwhen.backends.postgres.statements import PostgresSession
from everwhen.vocabulary.errors import StatementError

_TOKEN: Final = re.compile(
    r"""
    (?P<kept>
        (?P<comment>--[^\n]* | /\*.*?\*/)
        | [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" | ::
        | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
    )
    | (?P<operator>\?\?)
    | (?P<place>\?)
    | (?<!\w):(?P<name>[A-Za-z_]\w*)
    | (?P<percent>%)
    | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)
_CONTROL: Final = re.compile(
    r"\s*(COMMIT|END|ABORT|BEGIN|START|PREPARE\s+TRANSACTION|ROLLBACK(?!\s+TO)|RESET|DISCARD"
    r"|SET(?!\s+(LOCAL|CONSTRAINTS)))\b",
    re.IGNORECASE,
)
_SAVEPOINT: Final = re.compile(r"\s*(SAVEPOINT|RELEASE|ROLLBACK\s+TO)\b", re.IGNORECASE)
"""Statements that one savepoint more would undo."""
_ROWS_AT_ONCE: Final = 1_000
_cursors = itertools.count()


def executed(
    session: PostgresSession, sql: str, parameters: Sequence[Any] | Mapping[str, Any], place: str
) -> list[tuple[Any, ...]]:
    """A statement's rows, all at once. What fails takes nothing else of the transaction with it."""
    if any(map(_CONTROL.match, _single_statements(sql))):
        raise StatementError(
            f"the transaction is the store's, and its settings too (SET LOCAL is yours): {sql}"
        )
    try:
        with nullcontext() if _SAVEPOINT.match(sql) else session.transaction():
            # not prepared: a table that is altered would break the plans that others have of it
            cursor = session.execute(translated_parameters(sql), _bound(parameters), prepare=False)
            return cursor.fetchall() if cursor.description else []
    except (psycopg.Error, TypeError, ValueError, OverflowError, LookupError) as error:
        raise statement_error(error, sql, place) from error


def streamed(
    session: PostgresSession, sql: str, place: str, *, hold: bool = False
) -> Iterator[tuple[Any, ...]]:
    """A statement's rows, some at a time; ``hold`` them where no transaction is around it."""
    try:
        name = f"everwhen_{next(_cursors)}"
        with session.cursor(name=name, withhold=hold) as cursor:
            cursor.itersize = _ROWS_AT_ONCE
            cursor.execute(sql)
            yield from cursor
    except psycopg.Error as error:
        raise statement_error(error, sql, place) from error


@lru_cache(512)
def translated_parameters(sql: str) -> str:
    """The statement with its parameters as psycopg has them.

    Raises `StatementError` where some go by place and some by name.
    """
    found = {match.lastgroup for match in _TOKEN.finditer(sql)}
    if {"place", "name"} <= found:
        raise StatementError(f"give parameters by place (?) or by name (:name), not both: {sql}")

    def replaced(match: re.Match[str]) -> str:
        if match["operator"]:
            return "?"
        if match["place"]:
            return "%s"
        if match["name"]:
            return f"%({match['name']})s"
        return match[0].replace("%", "%%")

    return _TOKEN.sub(replaced, sql)


@lru_cache(512)
def _single_statements(sql: str) -> tuple[str, ...]:
    """The statements in it, each without comments."""

    def replaced(match: re.Match[str]) -> str:
        return " " if match["comment"] else "\0" if match["end"] else match[0]

    return tuple(_TOKEN.sub(replaced, sql).split("\0"))


def _bound(parameters: Sequence[Any] | Mapping[str, Any]) -> Any:
    return dict(parameters) if isinstance(parameters, Mapping) else tuple(parameters)
