"""Sealed slices as a table of SQL: what the view ``events`` shows beside the rows.

The table is made in each of our connections, and in no file: a program that opens the store by
another SQLite library learns from the view that the table is missing, instead of seeing only the
newest part of history.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import apsw

from everwhen.backends.sqlite.pages import ends, retired_error
from everwhen.backends.sqlite.segments import Segments
from everwhen.codec.frames import SliceRow

NAME: Final = "sealed_slices"

_COLUMNS: Final = (
    "CREATE TABLE sealed_slices (position INTEGER, stream INTEGER, version INTEGER, "
    "count INTEGER, recorded_at INTEGER, commit_id BLOB, first_index INTEGER, metadata BLOB, "
    "body BLOB)"
)
_AFTER: Final = {
    apsw.SQLITE_INDEX_CONSTRAINT_GT: 0,
    apsw.SQLITE_INDEX_CONSTRAINT_GE: -1,
    apsw.SQLITE_INDEX_CONSTRAINT_EQ: -1,
}
_UP_TO: Final = {
    apsw.SQLITE_INDEX_CONSTRAINT_LT: -1,
    apsw.SQLITE_INDEX_CONSTRAINT_LE: 0,
    apsw.SQLITE_INDEX_CONSTRAINT_EQ: 0,
}
"""What is added to a bound, to have slices after one position and up to another."""


def add_sealed_table(connection: apsw.Connection) -> None:
    """Let the connection's SQL see sealed slices."""
    module = cast("Any", _Module())  # without the methods that SQLite can do without
    connection.create_module(NAME, module, eponymous_only=True, read_only=True)


class _Module:
    def Connect(  # noqa: N802 (apsw's name)
        self, connection: apsw.Connection, *_: str
    ) -> tuple[str, _Table]:
        connection.vtab_config(apsw.SQLITE_VTAB_INNOCUOUS)
        return _COLUMNS, _Table(connection)

    Create = Connect


class _Table:
    """Bounds of positions are used; all else is SQLite's to compare."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._segments = Segments()

    def BestIndex(  # noqa: N802
        self, constraints: Sequence[tuple[int, int]], _: Sequence[tuple[int, bool]]
    ) -> Any:
        used: list[Any] = []
        kinds: list[str] = []
        for column, kind in constraints:
            is_bound = column in {0, -1} and (kind in _AFTER or kind in _UP_TO)
            used.append((len(kinds), False) if is_bound else None)
            if is_bound:
                kinds.append(str(kind))
        return used, 0, ",".join(kinds), False, 1e6 / (1 + len(kinds))

    def Open(self) -> _Cursor:  # noqa: N802
        return _Cursor(self._connection, self._segments)

    def Disconnect(self) -> None:  # noqa: N802
        self._segments.clear()

    Destroy = Disconnect


class _Cursor:
    def __init__(self, connection: apsw.Connection, segments: Segments) -> None:
        self._connection = connection
        self._segments = segments
        self._rows: Iterator[SliceRow] = iter(())
        self._row: SliceRow | None = None

    def Filter(self, _: int, kinds: str, bounds: Sequence[Any]) -> None:  # noqa: N802
        low, high = 0, Segments.border(self._connection)
        for kind, bound in zip(map(int, kinds.split(",")) if kinds else (), bounds, strict=True):
            if isinstance(bound, int):  # all other comparisons are SQLite's
                low = max(low, bound + _AFTER[kind]) if kind in _AFTER else low
                high = min(high, bound + _UP_TO[kind]) if kind in _UP_TO else high
        self._rows = iter(())
        retired = ends(self._connection).retired
        if low < min(high, retired):
            raise apsw.SQLError(str(retired_error(self._connection, retired)))
        if low < high:
            self._rows = self._segments.rows(self._connection, low, high, reverse=False)
        self.Next()

    def Next(self) -> None:  # noqa: N802
        self._row = next(self._rows, None)

    def Eof(self) -> bool:  # noqa: N802
        return self._row is None

    def Column(self, number: int) -> Any:  # noqa: N802
        if self._row is None:
            return None
        return self._row[max(number, 0)]

    def Rowid(self) -> int:  # noqa: N802
        return 0 if self._row is None else self._row[0]

    def Close(self) -> None:  # noqa: N802
        self._rows = iter(())
