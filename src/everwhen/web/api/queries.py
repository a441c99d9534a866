"""Questions: SQL over all events, and expressions about a state."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

import msgspec
from starlette.responses import Response

from everwhen.codec.json_encoding import encode_json
from everwhen.errors import ExpressionError
from everwhen.exchange.row_values import row_value
from everwhen.expressions import Expression, Variables
from everwhen.state import plain
from everwhen.store import SqlResult
from everwhen.web.answers import json_answer
from everwhen.web.api.selection import moment_asked
from everwhen.web.api.states import machine_for
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.problems import EXPRESSION, INVALID, STATEMENT, STATEMENT_LIMIT, UNKNOWN

MOST_ROWS: Final = 10_000
"""More is for a file: the command line's ``everwhen sql --csv``."""
_ANSWER_BYTES: Final = 16 << 20
_SQL_SECONDS: Final = 30.0
_SQL_BYTES: Final = 512 << 20
_STEPS: Final = 1_000_000
"""Of an expression: about a second, in which nobody else's question is worked out."""


class SqlAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A SELECT from ``events``. Parameters go by place (``?``) or by name (``$name``)."""

    statement: str
    parameters: list[Any] | dict[str, Any] = []
    max_rows: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROWS)] = 1_000
    skip_retired: bool = False


class SqlColumn(msgspec.Struct, frozen=True):
    """A column's name and its type, as Arrow calls it."""

    name: str
    type: str


class SqlAnswer(msgspec.Struct, frozen=True):
    """Rows, each a list of values in the order of the columns.

    ``more`` where there are other rows than these: more than asked for, or than 16 MiB of them.
    """

    columns: list[SqlColumn]
    rows: list[list[Any]]
    more: bool
    seconds: float


async def query_sql(call: ApiCall[NoParameters]) -> Response:
    """Ask a question in SQL, run by DuckDB over the table ``events``.

    It can't write, and reads no files. It has 30 seconds and 512 MiB of memory.
    """
    asked: SqlAsked = await call.json()
    began = time.monotonic()

    def answered() -> SqlAnswer:
        with call.on.blocking.sql(
            asked.statement,
            asked.parameters,
            max_rows=None,
            timeout_seconds=_SQL_SECONDS,
            memory_bytes=_SQL_BYTES,
            skip_retired=asked.skip_retired,
        ) as result:
            rows, more = _rows(result, asked.max_rows)
            columns = [SqlColumn(field.name, str(field.type)) for field in result.schema]
        return SqlAnswer(columns, rows, more, round(time.monotonic() - began, 6))

    return json_answer(await call.hosting.compute(answered))


def _rows(result: SqlResult, most: int) -> tuple[list[Any], bool]:
    """The first rows, as JSON, and whether there are others."""
    found: list[Any] = []
    left = _ANSWER_BYTES
    names = result.columns
    for row in result:
        values = [row_value(name, value) for name, value in zip(names, row, strict=True)]
        encoded = msgspec.Raw(encode_json(values))
        left -= len(encoded)
        if len(found) == most or left < 0:
            return found, True
        found.append(encoded)
    return found, False


class CelAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An expression (CEL) about a fold's state at a moment, of a stream, a category or all."""

    expression: str
    fold: str = "documents"
    at: str = "head"
    stream: str | None = None
    category: str | None = None


class CelAnswer(msgspec.Struct, frozen=True):
    """The expression's value, and the position of the last event in the state."""

    value: Any
    position: int


async def query_cel(call: ApiCall[NoParameters]) -> Response:
    """Evaluate an expression about a state. Its work is bounded: a million steps."""
    asked: CelAsked = await call.json()
    moment = moment_asked(call, asked.at)
    expression = Expression(asked.expression, steps=_STEPS)

    def answered() -> bytes:
        machine = machine_for(call, asked.fold, asked.stream, asked.category, call.on)
        at = machine.travel_to(moment)
        value = expression(Variables(at.state))
        encoded = encode_json(CelAnswer(plain(value), at.position))
        if len(encoded) > _ANSWER_BYTES:
            raise ExpressionError("its value has more than 16 MiB; ask for less", asked.expression)
        return encoded

    return json_answer(msgspec.Raw(await call.hosting.compute(answered)))


ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path="/queries/sql",
        handle=query_sql,
        scope="sql",
        body=SqlAsked,
        answers={200: SqlAnswer},
        problems=(STATEMENT, STATEMENT_LIMIT, INVALID),
    ),
    Endpoint(
        method="POST",
        path="/queries/cel",
        handle=query_cel,
        scope="sql",
        body=CelAsked,
        answers={200: CelAnswer},
        problems=(EXPRESSION, UNKNOWN, INVALID),
    ),
)
