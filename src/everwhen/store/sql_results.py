"""SQL over all of history: DuckDB in this process, closed to everything but the table ``events``.

Each statement has a DuckDB of its own, in memory and gone with its result, which pulls events out
of the store as it needs them.

Needs the libraries duckdb and pyarrow.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from datetime import UTC
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from everwhen.vocabulary.errors import (
    DeclarationError,
    EverwhenError,
    StatementError,
    StatementLimitError,
)

if TYPE_CHECKING:
    import duckdb

    from everwhen.store.event_scans import ArchivedFile, EventScan

T = TypeVar("T")

_BATCH_ROWS: Final = 8_192
_AGAIN_SECONDS: Final = 0.05
"""An interrupt that comes while nothing runs is lost, so it is repeated."""
_SQL_STREAMS: Final = 2
"""From this version of DuckDB on, ``sql`` gives rows as they are made, and ``execute`` keeps all of
them in memory first; before, it is the other way round."""
_MIN_BYTES: Final = 16 << 20
"""With less DuckDB can't start."""


class SqlLimits(msgspec.Struct, frozen=True):
    """What one statement may take; None is as much as it likes. Raises `DeclarationError`."""

    max_rows: int | None
    timeout_seconds: float | None
    memory_bytes: int

    def __post_init__(self) -> None:
        if self.max_rows is not None and not (_is_whole(self.max_rows) and self.max_rows >= 0):
            raise DeclarationError(f"max_rows={self.max_rows!r}: give a whole number, or None")
        seconds = self.timeout_seconds
        if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
            raise DeclarationError(
                f"timeout_seconds={seconds!r}: give a number of seconds, or None"
            )
        if not (_is_whole(self.memory_bytes) and self.memory_bytes >= _MIN_BYTES):
            raise DeclarationError(
                f"memory_bytes={self.memory_bytes!r}: give a whole number, {_MIN_BYTES:,} or more"
            )


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


class SqlResult:
    """The rows of a SELECT over all of history.

    Iterating gives the rows that are left, as tuples; the object is also an Arrow stream
    (``__arrow_c_stream__``), which pandas, Polars, DuckDB and pyarrow take. Rows are made as they
    are asked for, and each only once. It blocks its thread, in the async flavour too, and may be
    used in any thread, by one at a time. Close it, or use it as a context manager; reading it to
    the end closes it as well.

    Reading raises `StatementLimitError` where the statement takes more than it may, after the rows
    that it may have, `StatementError` for what goes wrong in it, and what the store raises.
    """

    def __init__(
        self,
        scan: EventScan,
        statement: str,
        parameters: Sequence[Any] | Mapping[str, Any],
        limits: SqlLimits,
    ) -> None:
        self._statement = statement
        self._limits = limits
        self._failures: list[BaseException] = []
        self._lock = threading.RLock()
        self._is_closed = False
        self._schema: Any = None
        self._watch = _Watch(limits.timeout_seconds)
        self._rows_left = limits.max_rows
        self._connection: duckdb.DuckDBPyConnection | None = _opened(limits)
        self._reader: Any = None
        try:
            self._run(partial(_begin, statement=statement))
            self._run(partial(_show_events, scan=scan, check=self._check, failures=self._failures))
            self._reader = self._run(partial(_asked, statement=statement, parameters=parameters))
        except BaseException:
            self.close()
            raise
        self._schema = self._reader.schema
        self._rows = self._made_rows()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self._schema.names)

    @property
    def schema(self) -> Any:
        """The columns with their types, as a ``pyarrow.Schema``."""
        return self._schema

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row; None where none is left."""
        return next(self._rows, None)

    def fetchmany(self, size: int = 1) -> list[tuple[Any, ...]]:
        """At most so many of the next rows."""
        return list(islice(self._rows, size))

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows that are left."""
        return list(self._rows)

    def __arrow_c_schema__(self) -> object:
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        import pyarrow as pa

        if self._connection is None:
            raise _closed()
        reader = pa.RecordBatchReader.from_batches(self._schema, self._batches())
        return reader.__arrow_c_stream__(requested_schema)

    def close(self) -> None:
        """End the statement and release what it holds; calling it again does nothing."""
        self._is_closed = True
        self._release()

    def _release(self) -> None:
        connection = self._connection
        if connection is None:
            return
        with contextlib.suppress(Exception):
            connection.interrupt()
        with self._lock:
            self._reader, self._connection = None, None
            connection.close()

    def __enter__(self) -> SqlResult:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._connection is None else "open"
        columns = "" if self._schema is None else f": {', '.join(self.columns)}"
        return f"<SqlResult, {state}{columns}>"

    def _made_rows(self) -> Iterator[tuple[Any, ...]]:
        for batch in self._batches():
            for row in zip(*map(_values, batch.columns), strict=True):
                if self._is_closed:
                    raise _closed()
                yield row

    def _batches(self) -> Iterator[Any]:
        """The batches that are left, as far as they may be read."""
        while True:
            with self._lock:
                batch = self._run(partial(_next, self._reader))
            if batch is None:
                self._release()
                return
            if self._rows_left is not None:
                if batch.num_rows > self._rows_left:
                    if self._rows_left:
                        yield batch.slice(0, self._rows_left)
                    self._release()
                    raise StatementLimitError(
                        f"there are more than {self._limits.max_rows:,} rows; add a LIMIT to the "
                        f"statement, or allow more with max_rows"
                    )
                self._rows_left -= batch.num_rows
            yield batch

    def _check(self) -> None:
        """Ends the reading of events once time is up or nobody wants them any more."""
        if self._watch.is_over:
            raise self._too_slow()
        if self._connection is None:
            raise _closed()

    def _run(self, call: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """What DuckDB does: within its time, and with failures as what they are."""
        connection = self._connection
        if connection is None:
            raise _closed()
        try:
            return self._watch.run(partial(call, connection), connection.interrupt)
        except EverwhenError:
            raise
        except Exception as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> BaseException:
        import duckdb

        from everwhen.store.sql_statements import explained

        if self._watch.is_over:
            return self._too_slow()
        if self._failures:
            return self._failures[0]
        if self._connection is None:
            return _closed()
        if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory" in str(error):
            return StatementLimitError(
                f"this takes more than {self._limits.memory_bytes:,} bytes of memory; ask for less "
                f"at once, or allow more with memory_bytes"
            )
        return explained(error, self._statement)

    def _too_slow(self) -> StatementLimitError:
        return StatementLimitError(
            f"this takes longer than {self._limits.timeout_seconds:g} seconds; bound position or "
            f"recorded_at in the statement, or allow more with timeout_seconds"
        )


class _Watch:
    """Runs a statement's steps, until they have taken too long.

    They run in a thread of their own: DuckDB doesn't look for signals while it works.
    """

    def __init__(self, seconds: float | None) -> None:
        self._left = seconds
        self.is_over = False

    def run(self, call: Callable[[], T], interrupt: Callable[[], object]) -> T:
        """What the call returns or raises; interrupted where time is up, or by Ctrl-C."""
        began = time.monotonic()
        outcome: Future[T] = Future()
        thread = threading.Thread(target=_settle, args=(outcome, call), name="everwhen-sql")
        thread.start()
        try:
            wait([outcome], self._left)
            self.is_over = not outcome.done()
        finally:
            while not outcome.done():
                interrupt()
                wait([outcome], _AGAIN_SECONDS)
            thread.join()
            if self._left is not None:
                self._left = max(0.0, self._left - (time.monotonic() - began))
        return outcome.result()


def _settle(outcome: Future[T], call: Callable[[], T]) -> None:
    try:
        result = call()
    except BaseException as failure:  # noqa: BLE001 (raised where it is waited for)
        outcome.set_exception(failure)
    else:
        outcome.set_result(result)


def _closed() -> StatementError:
    return StatementError("this result is closed; ask again with store.sql()")


def _opened(limits: SqlLimits) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory that keeps nothing on a disk."""
    import duckdb

    settings: dict[str, Any] = {
        "memory_limit": f"{limits.memory_bytes}B",
        "temp_directory": "",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "python_enable_replacements": "false",
    }
    return duckdb.connect(":memory:", config=settings)


def _begin(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    from everwhen.store.sql_statements import check_statement

    check_statement(connection, statement)
    connection.execute("SET TimeZone = 'UTC'")


def _show_events(
    connection: duckdb.DuckDBPyConnection,
    scan: EventScan,
    check: Callable[[], None],
    failures: list[BaseException],
) -> None:
    """Make the view ``events``, and close DuckDB to everything else."""
    from everwhen.codec.arrow_columns import SCHEMA
    from everwhen.store.event_dataset import EventDataset

    columns = ", ".join(SCHEMA.names)
    view = f"CREATE VIEW events AS SELECT {columns} FROM pages"
    connection.register("pages", EventDataset(scan, check, failures))
    if scan.archived:
        paths = ", ".join(_text(file.path) for file in scan.archived)
        connection.execute(f"SET allowed_paths = [{paths}]")
        view += "".join(
            f" UNION ALL SELECT {columns} FROM {source}" for source in _of_files(scan.archived)
        )
    connection.execute("SET enable_external_access = false")
    connection.execute(view)
    connection.execute("SET lock_configuration = true")


def _of_files(archived: Sequence[ArchivedFile]) -> Iterator[str]:
    """What DuckDB reads of archived files: all of most, in one go, and parts of others."""
    whole = ", ".join(_text(file.path) for file in archived if file.is_whole)
    if whole:
        yield f"read_parquet([{whole}], hive_partitioning = false)"
    for file in archived:
        if not file.is_whole:
            source = f"read_parquet([{_text(file.path)}], hive_partitioning = false)"
            yield f"{source} WHERE position BETWEEN {file.first} AND {file.last}"


def _text(value: str) -> str:
    quoted = value.replace("'", "''")
    return f"'{quoted}'"


def _asked(
    connection: Any,
    statement: str,
    parameters: Sequence[Any] | Mapping[str, Any],
) -> Any:
    """The statement's batches; it runs as they are read."""
    import duckdb

    given = dict(parameters) if isinstance(parameters, Mapping) else list(parameters)
    if int(duckdb.__version__.partition(".")[0]) < _SQL_STREAMS:
        return connection.execute(statement, given).fetch_record_batch(_BATCH_ROWS)
    return connection.sql(statement, params=given).to_arrow_reader(_BATCH_ROWS)


def _next(reader: Any, _: object) -> Any:
    return next(reader, None)


def _values(column: Any) -> list[Any]:
    """A column's values for Python: times in UTC, whole numbers as int even of many digits."""
    import pyarrow as pa

    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError) as error:
        raise StatementError(f"a value that Python has no type for: {error}") from error
    if pa.types.is_decimal(column.type) and column.type.scale == 0:
        return [None if value is None else int(value) for value in values]
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        return [None if value is None else value.astimezone(UTC) for value in values]
    return values
