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

from everwhen.backends.sqlite.connection import MAX_STORED_NAME_BYTES
from everwhen.backends.sqlite.query_plan import Row, Window
from everwhen.vocabulary.contract import (
    MAX_NAME_BYTES,
    Checkpoint,
    Snapshot,
    StoredSlice,
    StreamInfo,
)
from everwhen.vocabulary.microseconds import from_micros, to_micros

_EARLIEST: Final = to_micros(datetime.min.replace(tzinfo=UTC))
_LATEST: Final = to_micros(datetime.max.replace(tzinfo=UTC))
_COUNTED: Final = 1 << 62

_Counted: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=_COUNTED)]
_Row: TypeAlias = tuple[
    _Counted,
    int,
    _Counted,
    _Counted,
    Annotated[int, msgspec.Meta(ge=_EARLIEST, le=_LATEST)],
    bytes,  # of another length it is a changed one, which whoever looks at commits names
    Annotated[int, msgspec.Meta(ge=0)],
    bytes | None,
    bytes,
]
_Rows: TypeAlias = list[_Row]


def number(stored: object) -> int:
    """The stored number. Raises `apsw.CorruptError` for anything else."""
    if type(stored) is not int:
        raise apsw.CorruptError(f"{stored!r:.40} is stored where a number belongs")
    return stored


def counter(stored: object) -> int:
    """A stored number that others count on from. Raises `apsw.CorruptError` near the last one."""
    if number(stored) > _COUNTED:
        raise apsw.CorruptError(f"{stored} is stored where a counted number belongs")
    return number(stored)


def moment(stored: object) -> int:
    """A stored time, in microseconds. Raises `apsw.CorruptError` for one beyond all calendars."""
    if not _EARLIEST <= number(stored) <= _LATEST:
        raise apsw.CorruptError(f"{stored} is stored where a time belongs")
    return number(stored)


def text(stored: object, most: int = MAX_NAME_BYTES) -> str:
    """The stored text. Raises `apsw.CorruptError` for anything else."""
    if type(stored) is not str:
        raise apsw.CorruptError(f"{stored!r:.40} is stored where a name belongs")
    if len(stored) > most:
        raise apsw.CorruptError(f"{len(stored):,} characters are stored where a name belongs")
    return stored


def content(stored: object) -> bytes:
    """The stored bytes. Raises `apsw.CorruptError` for anything else."""
    if type(stored) is not bytes:
        raise apsw.CorruptError(f"{stored!r:.40} is stored where bytes belong")
    return stored


def check_rows(rows: Sequence[Row], window: Window | None = None) -> None:
    """Raises `apsw.CorruptError` unless these are rows of ``slices`` that a store writes.

    Those of a page stand in their order, inside its window.
    """
    try:
        msgspec.convert(rows, _Rows, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise apsw.CorruptError(f"a row of slices is none that a store writes: {error}") from error
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
    return StoredSlice(row[0], text(name), *row[2:])


def stream_of(row: Sequence[Any]) -> StreamInfo:
    """Where a stream stands, by (name, version, position, recorded_at)."""
    name, version, position, recorded_at = row
    when = from_micros(moment(recorded_at))
    return StreamInfo(text(name), number(version), number(position), when)


def checkpoint_of(row: Sequence[Any]) -> Checkpoint:
    """A checkpoint, by (name, position, data)."""
    name, position, data = row
    return Checkpoint(text(name, MAX_STORED_NAME_BYTES), number(position), content(data))


def snapshot_of(row: Sequence[Any]) -> Snapshot:
    """A snapshot, by (subject, position, fold, fold_version, state)."""
    subject, position, fold, version, state = row
    named = (
        text(subject, MAX_STORED_NAME_BYTES),
        number(position),
        text(fold, MAX_STORED_NAME_BYTES),
    )
    return Snapshot(*named, number(version), content(state))
