"""Events for data frames: what pandas, Polars, DuckDB and pyarrow take without a word of ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from everwhen.vocabulary.errors import InvalidQueryError, UnsupportedError

if TYPE_CHECKING:
    from everwhen.store.event_scans import EventScan


class ArrowEvents:
    """A query's events as an Arrow stream (``__arrow_c_stream__``), one row an event.

    It ends where the store ended when it was made, and can be read as often as wanted: each time
    anew, a batch of some 2,000 events at a time, so memory stays flat. Reading blocks its thread,
    in the async flavour too. Iterating gives pyarrow's record batches. What goes wrong meanwhile,
    as `CorruptStoreError`, a library that reads the stream raises as an error of its own with the
    same words; iterating and ``reader`` raise it as it is.
    """

    def __init__(self, scan: EventScan, columns: Iterable[str] | None = None) -> None:
        self._scan = scan
        self._columns = _checked(columns)

    @property
    def schema(self) -> Any:
        """The columns, as a ``pyarrow.Schema``."""
        import pyarrow as pa

        from everwhen.codec.arrow_columns import SCHEMA

        return pa.schema([SCHEMA.field(name) for name in self._columns])

    def reader(self) -> Any:
        """All of it from the beginning, as a ``pyarrow.RecordBatchReader``."""
        import pyarrow as pa

        return pa.RecordBatchReader.from_batches(self.schema, iter(self))

    def __iter__(self) -> Iterator[Any]:
        return self._scan.batches(self._columns)

    def __arrow_c_schema__(self) -> object:
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.reader().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        until = self._scan.query.last_position or 0
        return f"<ArrowEvents up to position {until}: {', '.join(self._columns)}>"


def check_libraries(*names: str) -> None:
    """Raises `UnsupportedError` where a library is missing."""
    from importlib import import_module

    for name in names:
        try:
            import_module(name)
        except ImportError as error:
            raise UnsupportedError(
                f"this needs the library {name}: pip install 'everwhen[sql]'"
            ) from error


def _checked(columns: Iterable[str] | None) -> list[str]:
    from everwhen.codec.arrow_columns import SCHEMA

    if columns is None:
        return list(SCHEMA.names)
    wanted = [columns] if isinstance(columns, str) else list(columns)
    for name in wanted:
        if name not in SCHEMA.names:
            raise InvalidQueryError(
                f"columns: {name!r} is not one of them; there are {', '.join(SCHEMA.names)}"
            )
    if not wanted or len(set(wanted)) < len(wanted):
        raise InvalidQueryError(f"columns={wanted!r}: name at least one, and each only once")
    return wanted
