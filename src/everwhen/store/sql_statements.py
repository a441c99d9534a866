"""Which SQL statements may be asked, and what is said of those that can't be run.

DuckDB's own settings keep a statement from files and the network. They don't keep it from functions
that change how DuckDB runs, and some of those have let a file be written all the same. So a
statement is parsed first, and may only name the functions that make rows out of its own arguments.

Needs the library duckdb.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import duckdb
import msgspec

from everwhen.codec.arrow_columns import SCHEMA
from everwhen.vocabulary.errors import StatementError

_ROWS_FROM: Final = frozenset(
    {
        "generate_series",
        "histogram",
        "histogram_values",
        "json_each",
        "json_tree",
        "range",
        "repeat",
        "repeat_row",
        "summary",
        "unnest",
    }
)
"""The functions after FROM that a statement may call."""
_MAKES_MUCH: Final = frozenset(
    {
        "array_resize",
        "bitstring",
        "format",
        "generate_series",
        "list_resize",
        "lpad",
        "printf",
        "range",
        "repeat",
        "rpad",
    }
)
"""Functions that make one value as large as a number says. DuckDB doesn't count the memory that
they take, and can't be interrupted in the middle of one."""
_QUERIES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_LONGEST: Final = 200
_COLUMNS: Final = f"the columns of events are {', '.join(SCHEMA.names)}"
_ONLY: Final = "only a SELECT can be asked"
_TABLES: Final = "there is one table, events"


def check_statement(connection: Any, statement: str) -> None:
    """Raises `StatementError` for anything but one SELECT that reads nothing but ``events``."""
    if not isinstance(statement, str):
        raise StatementError(f"expected an SQL statement as text, got {statement!r:.80}")
    try:
        (text,) = connection.execute("SELECT json_serialize_sql(?)", [statement]).fetchone()
        parsed = msgspec.json.decode(text)
    except duckdb.Error as error:
        raise explained(error, statement) from error
    except (RecursionError, UnicodeError) as error:
        raise StatementError(f"this statement can't be parsed: {_quoted(statement)}") from error
    if parsed.get("error"):
        why = str(parsed.get("error_message"))
        if parsed.get("error_type") == "not implemented":
            why = _ONLY if "SELECT" in why else why
        raise StatementError(f"{why}: {_quoted(statement)}")
    if len(parsed["statements"]) != 1:
        raise StatementError(f"give one SELECT, and nothing after it: {_quoted(statement)}")
    for objection in filter(None, map(_objection, _nodes(parsed))):
        raise StatementError(f"{objection}: {_quoted(statement)}")


def _objection(node: dict[str, Any]) -> str | None:
    """What is wrong with a part of a statement; None where it is allowed."""
    kind = str(node.get("type"))
    if kind.endswith("_NODE") and kind not in _QUERIES:
        return _ONLY
    if kind == "TABLE_FUNCTION":
        name = str(node["function"]["function_name"])
        if name.lower() not in _ROWS_FROM:
            return f"{name}() can't be read from here; {_TABLES}"
    elif kind == "FUNCTION":
        name = str(node["function_name"])
        if name.lower() in _MAKES_MUCH:
            return f"{name}() can make values of any size, and isn't allowed except after FROM"
    return None


def _nodes(parsed: Any) -> Iterator[dict[str, Any]]:
    """Every object of the parsed statement; of a call after FROM only what is in it."""
    left = [parsed]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            yield part
            is_call = part.get("type") == "TABLE_FUNCTION"
            left += part["function"].values() if is_call else part.values()
        elif isinstance(part, list):
            left += part


def explained(error: Exception, statement: str) -> StatementError:
    """DuckDB's failure as ours, with what helps."""
    said = str(error).partition("\n\nLINE ")[0].strip()
    hint = ""
    if isinstance(error, duckdb.BinderException) and "eferenced column" in said:
        hint = f"; {_COLUMNS}"
    elif isinstance(error, duckdb.CatalogException) and said.startswith("Catalog Error: Table"):
        hint = f"; {_TABLES}"
    return StatementError(f"{' '.join(said.split())}{hint}: {_quoted(statement)}")


def _quoted(statement: str) -> str:
    line = " ".join(statement.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
