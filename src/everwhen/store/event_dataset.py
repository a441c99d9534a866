"""The table ``events`` as DuckDB reads it: a dataset that it hands its columns and filters to.

Needs the library pyarrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from everwhen.codec.arrow_columns import SCHEMA
from everwhen.store.event_scans import EventScan


class EventDataset(ds.Dataset):  # type: ignore[misc]  # pyarrow is untyped
    """Events as a dataset, of which only what DuckDB asks is there: ``schema`` and ``scanner``.

    ``check`` is called before each page, and may raise. What is raised while events are read goes
    into ``failures``, since DuckDB passes on no more than the words of it.
    """

    def __init__(
        self, scan: EventScan, check: Callable[[], None], failures: list[BaseException]
    ) -> None:
        self._scan = scan
        self._check = check
        self._failures = failures

    @property
    def schema(self) -> Any:
        """The columns."""
        return SCHEMA

    def scanner(
        self,
        columns: Sequence[str] | None = None,
        filter: Any = None,  # noqa: A002 (DuckDB's name for it)
        **_: object,
    ) -> EventScanner:
        """What is read of it, by these columns and as far as an expression lets it through."""
        return EventScanner(SCHEMA.names if columns is None else columns, self._read, filter)

    def _read(self, columns: Sequence[str], filter_: Any) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._scan.paged(columns, filter_, self._check)
        except GeneratorExit:
            raise
        except BaseException as error:
            self._failures.append(error)
            raise


class EventScanner:
    """One reading of the dataset."""

    def __init__(
        self,
        columns: Sequence[str],
        read: Callable[[Sequence[str], Any], Iterator[pa.RecordBatch]],
        filter_: Any,
    ) -> None:
        self._columns = columns
        self._read = read
        self._filter = filter_

    @property
    def projected_schema(self) -> Any:
        """The columns that it gives."""
        return pa.schema([SCHEMA.field(name) for name in self._columns])

    def to_reader(self) -> Any:
        """A reader of its batches."""
        batches = self._read(self._columns, self._filter)
        return pa.RecordBatchReader.from_batches(self.projected_schema, batches)
