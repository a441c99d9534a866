"""The command ``sql``: a SELECT over all of history."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from everwhen.cli.exit_codes import NO, USAGE, CommandStop
from everwhen.cli.options import BranchOption, JsonOption, StoreArgument
from everwhen.cli.output import Column, Output, json_text, make_way
from everwhen.cli.store_opening import existing
from everwhen.errors import StatementError, StatementLimitError
from everwhen.exchange.row_values import encodable, json_in, row_value
from everwhen.store import SqlResult

if TYPE_CHECKING:
    from rich.text import Text

_MEGABYTE: Final = 1 << 20
_GROUPED: Final = 10_000
"""From here on a number's thousands are set apart: years are not."""


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(sql)


def sql(
    store: StoreArgument,
    statement: Annotated[
        str,
        typer.Argument(metavar="STATEMENT", help="A SELECT; - reads it from standard input."),
    ],
    *,
    max_rows: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="End with an error after N rows."),
    ] = 1_000_000,
    timeout: Annotated[
        float, typer.Option(min=0.001, metavar="SECONDS", help="Give up after this time.")
    ] = 60.0,
    memory: Annotated[
        int, typer.Option(min=16, metavar="MB", help="How much memory DuckDB may take.")
    ] = 1_024,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Write CSV, with the columns' names first.")
    ] = False,
    skip_retired: Annotated[
        bool,
        typer.Option("--skip-retired", help="Leave out what was retired, without an error."),
    ] = False,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Ask a question in SQL over all events.

    The statement is a SELECT as DuckDB understands it, from the one table events: position, stream,
    category, version, type, schema_version, recorded_at, occurred_at, tags, data, event_id, extras,
    commit_id, metadata. data->>'price' is a field of an event's data. It can't write, and reads no
    files.

    A bound on position or recorded_at, and a stream or category that is named, keep the rest of
    history from being read.

    Columns in a pipe are the statement's, without titles. This needs the libraries duckdb and
    pyarrow: pip install 'everwhen[sql]'. Exit code 1 means that the statement took more rows, time
    or memory than it may; the rows before that are written. 2 means that it can't be run.
    """
    if json and as_csv:
        raise CommandStop("--json and --csv exclude each other; give one", USAGE)
    text = sys.stdin.read() if statement == "-" else statement
    with existing(store, branch=branch) as opened:
        try:
            with opened.sql(
                text,
                max_rows=max_rows,
                timeout_seconds=timeout,
                memory_bytes=memory * _MEGABYTE,
                skip_retired=skip_retired,
            ) as result:
                if as_csv:
                    _write_csv(result)
                else:
                    _list(result, Output(json=json))
        except StatementLimitError as error:
            raise CommandStop(_in_options(str(error)), NO) from error
        except StatementError as error:
            raise CommandStop(str(error), USAGE) from error


def _in_options(message: str) -> str:
    """What is said of a limit, with the names of the options."""
    for name, option in (
        ("max_rows", "--max-rows"),
        ("timeout_seconds", "--timeout"),
        ("memory_bytes", "--memory"),
    ):
        message = message.replace(name, option)
    return message


def _list(result: SqlResult, out: Output) -> None:
    first = result.fetchmany(1)
    if out.list(chain(first, result), RowView(result.columns, first)) or not out.is_terminal:
        return
    from rich.text import Text

    out.console.print(Text("No rows.", "dim"))


class RowView:
    """Rows of a statement. ``first`` has one, where there is any: numbers stand at the right."""

    def __init__(self, names: Sequence[str], first: Sequence[tuple[Any, ...]]) -> None:
        self._names = _distinct(names)
        values = first[0] if first else [None] * len(names)
        self.columns = [
            Column(name.upper(), right=_is_number(value), rigid=isinstance(value, datetime))
            for name, value in zip(names, values, strict=True)
        ]
        if self.columns[-1].right:  # the last column isn't aligned
            self.columns.append(Column(""))

    def record(self, row: tuple[Any, ...]) -> object:
        """The row for ``--json``; a name that is there twice is numbered."""
        return {name: row_value(name, value) for name, value in zip(self._names, row, strict=True)}

    def plain(self, row: tuple[Any, ...]) -> Sequence[str]:
        """The row's values, in their order."""
        return [plain_text(value) for value in row]

    def cells(self, row: tuple[Any, ...]) -> Sequence[Text]:
        """The same, for people."""
        from rich.text import Text

        cells = [_cell(name, value) for name, value in zip(self._names, row, strict=True)]
        return [*cells, Text()] if len(self.columns) > len(row) else cells


def _distinct(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        again = sum(other == name for other in names[: len(found)])
        found.append(f"{name}_{again + 1}" if again else name)
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _cell(name: str, value: Any) -> Text:
    """A value as the other commands show it: columns of events by their names."""
    from rich.text import Text

    from everwhen.cli import formatting

    match name, value:
        case "type", str():
            return formatting.type_look(value)
        case "stream", str():
            return formatting.stream_look(value)
        case _, None:
            return Text("null", "dim")
        case "tags", list():
            return Text(" ".join(f"#{tag}" for tag in value), "blue")
        case _, str() if (known := json_in(name, value)) is not None:
            return formatting.data_look(msgspec.json.decode(known))
        case _, datetime() if value.tzinfo is not None:
            return formatting.stamp_look(value)
        case _, int() if not isinstance(value, bool):
            return Text(str(value) if abs(value) < _GROUPED else f"{value:,}")
        case _, float() | Decimal():
            return Text(str(value))
        case _, str() if value.isprintable():
            return Text(formatting.beginning(value))
        case _:
            return formatting.value_look(encodable(value))


def _write_csv(result: SqlResult) -> None:
    """CSV with a line of titles; exact, except in a terminal."""
    make_way()
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    for row in chain([result.columns], (map(plain_text, row) for row in result)):
        writer.writerow(row)
        text = line.getvalue()
        line.seek(0)
        line.truncate()
        if sys.stdout.isatty():
            sys.stdout.write(text)
        else:
            sys.stdout.buffer.write(text.encode())


def plain_text(value: Any) -> str:
    """A value as text: nothing for null, times in UTC, lists and objects as JSON."""
    shown = encodable(value)
    if shown is None:
        return ""
    return shown if isinstance(shown, str) else json_text(shown)
