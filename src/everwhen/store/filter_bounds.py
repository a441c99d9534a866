"""What a filter leaves of history: between which positions and times, and of which streams.

DuckDB hands its filters on as Arrow expressions, which can't be looked into. But Arrow says whether
one can be true where something is known of a column: that is how it skips files of a partition. So
bounds are found by bisection, whatever the filter's form. Where Arrow can't tell, more is read than
needs be, and the filter is still applied to all of it.

Needs the library pyarrow.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs

from everwhen.codec.arrow_columns import SCHEMA

_LITERAL: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
"""How Arrow writes text in an expression. What it finds is only believed once it is tried."""
_MAX_NAMES: Final = 1_000
_FORMAT: Final = ds.ParquetFileFormat()
_NOWHERE: Final = pyarrow.fs.LocalFileSystem()


class FilterBounds:
    """A filter over the columns of events; without an expression it lets everything through.

    ``columns`` are those that it is about.
    """

    def __init__(self, expression: Any = None) -> None:
        self._expression = expression
        self.columns: Final = [] if expression is None else _columns_of(expression)

    def between(self, column: str, low: int, high: int) -> tuple[int, int]:
        """The first and the last value in a range that can pass; (high, low) where none can.

        Of times, in microseconds.
        """
        if column not in self.columns:
            return low, high
        if low > high or not self.allows(column, low, high):
            return high, low
        return self.first(column, low, high), self._last(column, low, high)

    def allows(self, column: str, low: int, high: int) -> bool:
        """Whether a value in the range can pass."""
        if column not in self.columns:
            return True
        kind = SCHEMA.field(column).type
        one, other = (pa.scalar(value, pa.int64()).cast(kind) for value in (low, high))
        return self._can_be((ds.field(column) >= one) & (ds.field(column) <= other))

    def first(self, column: str, low: int, high: int) -> int:
        """The first value in a range that can pass, where one can."""
        while low < high:
            middle = (low + high) // 2
            if self.allows(column, low, middle):
                high = middle
            else:
                low = middle + 1
        return low

    def _last(self, column: str, low: int, high: int) -> int:
        while low < high:
            middle = (low + high + 1) // 2
            if self.allows(column, middle, high):
                low = middle
            else:
                high = middle - 1
        return low

    def names(self, column: str) -> Sequence[str]:
        """The only values of a column of text that can pass; empty where there are others."""
        if column not in self.columns:
            return ()
        found = sorted({_unquoted(text) for text in _LITERAL.findall(str(self._expression))})
        if not 0 < len(found) <= _MAX_NAMES:
            return ()
        field = ds.field(column)
        gaps = [field < found[0], field > found[-1]]
        gaps += [(field > one) & (field < other) for one, other in pairwise(found)]
        if any(map(self._can_be, gaps)):
            return ()
        return [name for name in found if self._can_be(field == name)]

    def _can_be(self, known: Any) -> bool:
        """Whether the filter can be true of rows of which this is known."""
        part = _FORMAT.make_fragment("part", filesystem=_NOWHERE, partition_expression=known)
        whole = ds.FileSystemDataset([part], SCHEMA, _FORMAT, _NOWHERE)
        return any(True for _ in whole.get_fragments(filter=self._expression))


def _columns_of(expression: Any) -> list[str]:
    """The columns that the expression is about: those without which it means nothing."""
    return [field.name for field in SCHEMA if not _is_bound(expression, without=field.name)]


def _is_bound(expression: Any, without: str) -> bool:
    others = pa.schema([field for field in SCHEMA if field.name != without])
    try:
        ds.Scanner.from_batches([], schema=others, columns=[], filter=expression)
    except pa.ArrowInvalid:
        return False
    return True


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
