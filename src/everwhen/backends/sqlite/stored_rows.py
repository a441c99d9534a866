"""What rows say, once it is shown to be what their columns are for.

SQLite gives back whatever a damaged or tampered page says: text where a number belongs, a time
beyond all calendars, positions out of order. Nothing of that may go on to those who would fall
over it, or believe it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeAlias

import apsw
import msgspec

from everwhen.backends.sqlite.query_plan import Row, Window
from everwhen.backends.sqlite.value_sizes import MAX_STORED_NAME_BYTES
from everwhen.system.sqlite_values import (
    MAX_COUNT,
    stored_bytes,
    stored_int,
    stored_text,
)
from everwhen.vocabulary.contract import (
    MAX_NAME_BYTES,
    Checkpoint,
    Snapshot,
    SnapshotInfo,
    StoredSlice,
    StreamInfo,
)
from everwhen.vocabulary.microseconds import from_micros, to_micros

_EARLIEST_MICROS: Final = to_micros(datetime.min.replace(tzinfo=UTC))
_LATEST_MICROS: Final = to_micros(datetime.max.replace(tzinfo=UTC))
"""What Python's calendar can say: a later time can't become a ``datetime``."""

_Counted: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]
_Row: TypeAlias = tuple[
    _Counted,
    int,
    _Counted,
    _Counted,
    Annotated[int, msgspec.Meta(ge=_EARLIEST_MICROS, le=_LATEST_MICROS)],
    bytes,  # of another length it is a changed one, which the check of commits reports
    Annotated[int, msgspec.Meta(ge=0)],
    bytes | None,
    bytes,
]
_Rows: TypeAlias = list[_Row]


def stored_moment(value: object) -> int:
    """A time, in microseconds. Raises `apsw.CorruptError` for one beyond all calendars."""
    if not _EARLIEST_MICROS <= stored_int(value) <= _LATEST_MICROS:
        raise apsw.CorruptError(f"{value} is stored where a time belongs")
    return stored_int(value)


def stored_name(value: object) -> str:
    """A name that is no longer than any that a store writes."""
    return stored_text(value, MAX_NAME_BYTES)


def check_rows(rows: Sequence[Row], window: Window | None = None) -> None:
    """Raises `apsw.CorruptError` unless these are rows of ``slices`` that a store writes.

    Those of a page stand in their order, inside its window.
    """
    try:
        msgspec.convert(rows, _Rows, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise apsw.CorruptError(
            f"a row of slices has values that no store writes: {error}"
        ) from error
    if window is None or not rows:
        return
    positions = [row[0] for row in rows]
    if positions != sorted(set(positions), reverse=window.reverse):
        raise apsw.CorruptError("rows of slices stand out of order")
    if not window.after < min(positions) <= max(positions) <= window.last:
        raise apsw.CorruptError("rows of slices stand where none was looked for")


def slice_of(row: Row, name: object) -> StoredSlice:
    """The slice of a row, in the stream of that name."""
    check_rows((row,))
    return StoredSlice(row[0], stored_name(name), *row[2:])


def stream_of(row: Sequence[Any]) -> StreamInfo:
    """Where a stream stands, by (name, version, position, recorded_at)."""
    name, version, position, recorded_at = row
    when = from_micros(stored_moment(recorded_at))
    return StreamInfo(stored_name(name), stored_int(version), stored_int(position), when)


def checkpoint_of(row: Sequence[Any]) -> Checkpoint:
    """A checkpoint, by (name, position, data)."""
    name, position, data = row
    return Checkpoint(
        stored_text(name, MAX_STORED_NAME_BYTES), stored_int(position), stored_bytes(data)
    )


def snapshot_of(row: Sequence[Any]) -> Snapshot:
    """A snapshot, by (subject, position, fold, fold_version, state)."""
    subject, position, fold, version, state = row
    named = (
        stored_text(subject, MAX_STORED_NAME_BYTES),
        stored_int(position),
        stored_text(fold, MAX_STORED_NAME_BYTES),
    )
    return Snapshot(*named, stored_int(version), stored_bytes(state))


def snapshot_info_of(row: Sequence[Any]) -> SnapshotInfo:
    """Which snapshot there is, by (subject, position, fold, fold_version)."""
    subject, position, fold, version = row
    return SnapshotInfo(
        stored_name(subject), stored_int(position), stored_name(fold), stored_int(version)
    )
