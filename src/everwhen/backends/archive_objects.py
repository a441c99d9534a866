"""Archived history: Parquet objects of some row groups each, made of slices and read back exactly.

An object stands alone. Its columns are those of `everwhen.codec.arrow_columns`, its footer says
which positions it has and, for each row group, where it ends and the SHA-256 of its slices. Whoever
made it keeps these too, and believes no object that says otherwise.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from everwhen.codec.frames import FrameError
from everwhen.codec.slice_digest import digest_of
from everwhen.system.object_storage import LIBRARIES_NEEDED, ObjectStorage
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.errors import CorruptStoreError, UnsupportedError

if TYPE_CHECKING:
    from types import ModuleType

FORMAT: Final = 1
_FOOTER_KEY: Final = b"everwhen"

GROUP_EVENTS: Final = 16_384
"""Of a row group, about: one slice is read by reading all of it."""
GROUP_BYTES: Final = 8 << 20
"""Of the bodies of a row group, about: it is in memory as a whole."""
_MAX_GROUP_BYTES: Final = 256 << 20
"""Of a row group in an object: a few slices of the largest events."""
_MAX_GROUP_ROWS: Final = 1 << 20
_FOOTER_BYTES: Final = 64 << 10
"""What is read of an object's end at first: most footers are smaller."""
_MAX_FOOTER_BYTES: Final = 64 << 20
_TAIL_BYTES: Final = 8
_MAGIC: Final = b"PAR1"


class GroupRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row group: where it begins and ends, when it begins, and the SHA-256 of its slices.

    ``first`` and ``last`` are positions of events, ``first_time`` is in microseconds.
    """

    first: int
    last: int
    slices: int
    first_time: int
    sha256: bytes


class ObjectRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an object's footer says of it."""

    format: int
    groups: tuple[GroupRecord, ...]


def group_record(slices: Sequence[StoredSlice]) -> GroupRecord:
    """What is known of a row group of these slices."""
    first, last = slices[0], slices[-1]
    begins = first.position - first.count + 1
    return GroupRecord(begins, last.position, len(slices), first.recorded_at, digest_of(slices))


class ObjectWriter:
    """Makes an object, in memory, of row groups in the order of their positions."""

    def __init__(self) -> None:
        self.groups: list[GroupRecord] = []
        self._columns, parquet = _libraries()
        self._file = io.BytesIO()
        self._writer = parquet.ParquetWriter(self._file, self._columns.ARCHIVE_SCHEMA, **_OPTIONS)

    def add(self, slices: Sequence[StoredSlice]) -> None:
        """Add a row group. Raises `FrameError` for slices that wouldn't come back as they are."""
        table = self._columns.archive_table(slices)
        if self._columns.slices_in(table) != list(slices):
            raise FrameError("they wouldn't come back as they are")
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self.groups.append(group_record(slices))

    def finish(self) -> bytes:
        """The object, whole."""
        record = msgspec.json.encode(ObjectRecord(FORMAT, tuple(self.groups)))
        self._writer.add_key_value_metadata({_FOOTER_KEY: record})
        self._writer.close()
        return self._file.getvalue()


class ObjectReader:
    """Reads the row groups of one object. Safe from any thread; it blocks.

    ``read`` gives so many bytes from a place on, or as many as there are.

    Nothing that it says is believed before it is checked: what isn't an object of ours raises
    `CorruptStoreError` with its name, and a group's slices are compared with a digest.
    """

    def __init__(self, name: str, size: int, read: Callable[[int, int], bytes]) -> None:
        self._columns, self._parquet = _libraries()
        self._name = name
        self._size = size
        self._read_bytes = read
        self._footer: Any = None

    @classmethod
    def stored(cls, storage: ObjectStorage, name: str, size: int) -> ObjectReader:
        """An object in a storage."""
        return cls(f"{name} at {storage.url}", size, partial(storage.read, name))

    @classmethod
    def held(cls, name: str, data: bytes) -> ObjectReader:
        """An object in memory, before it is stored anywhere."""
        return cls(name, len(data), lambda start, size: data[start : start + size])

    def record(self) -> ObjectRecord:
        """What the object says of itself."""
        record = self.own_record()
        if record is None:
            raise self._damaged("its footer isn't Everwhen's")
        return record

    def own_record(self) -> ObjectRecord | None:
        """What the object says of itself; None for a Parquet file of somebody else's."""
        found = (self._metadata().metadata or {}).get(_FOOTER_KEY)
        if found is None:
            return None
        try:
            record = msgspec.json.decode(found, type=ObjectRecord)
        except msgspec.DecodeError as error:
            raise self._damaged(f"its footer: {error}") from error
        if record.format != FORMAT:
            raise self._damaged(f"it has format {record.format}, and this Everwhen knows {FORMAT}")
        if len(record.groups) != self._metadata().num_row_groups:
            raise self._damaged("its footer has other row groups than it has")
        return record

    def slices(self, number: int, expected: bytes) -> list[StoredSlice]:
        """The slices of a row group, of which the SHA-256 is expected."""
        found = self._slices(number)
        if digest_of(found) != expected:
            raise self._damaged(f"row group {number} has other slices than were archived")
        return found

    def _slices(self, number: int) -> list[StoredSlice]:
        metadata = self._metadata()
        if not 0 <= number < metadata.num_row_groups:
            raise self._damaged(f"it has no row group {number}")
        start, size = self._place_of(number)
        data = self._read(start, size)
        try:
            file = _Part(self._size, start, data)
            table = self._parquet.ParquetFile(file, metadata=metadata).read_row_group(number)
            return list(self._columns.slices_in(table))
        except (
            OSError,
            ValueError,
            self._columns.pa.ArrowException,
        ) as error:  # FrameError is a ValueError
            raise self._damaged(f"row group {number}: {error}") from error

    def _place_of(self, number: int) -> tuple[int, int]:
        group = self._metadata().row_group(number)
        starts, ends = [], []
        for index in range(group.num_columns):
            column = group.column(index)
            offsets = [column.data_page_offset, column.dictionary_page_offset]
            start = min(offset for offset in offsets if offset is not None)
            starts.append(start)
            ends.append(start + column.total_compressed_size)
        start, size = min(starts), max(ends) - min(starts)
        if start < 0 or start + size > self._size or not 0 < size <= _MAX_GROUP_BYTES:
            raise self._damaged(f"row group {number} isn't where its footer says")
        if group.num_rows > _MAX_GROUP_ROWS or group.total_byte_size > _MAX_GROUP_BYTES:
            raise self._damaged(f"row group {number} is larger than any that a store writes")
        return start, size

    def _metadata(self) -> Any:
        if self._footer is None:
            size = min(self._size, _FOOTER_BYTES)
            tail = self._read(self._size - size, size)
            length = int.from_bytes(tail[-_TAIL_BYTES:-4], "little") + _TAIL_BYTES
            if tail[-4:] != _MAGIC or not _TAIL_BYTES < length <= min(
                self._size, _MAX_FOOTER_BYTES
            ):
                raise self._damaged("it isn't a Parquet file")
            if length > size:
                tail = self._read(self._size - length, length)
            try:
                file = _Part(self._size, self._size - len(tail), tail)
                self._footer = self._parquet.read_metadata(file)
            except (OSError, ValueError, self._columns.pa.ArrowException) as error:
                raise self._damaged(f"its footer: {error}") from error
        return self._footer

    def _read(self, start: int, size: int) -> bytes:
        data = self._read_bytes(start, size) if size else b""
        if len(data) != size:
            raise self._damaged(f"it ends after {start + len(data):,} of {self._size:,} bytes")
        return data

    def _damaged(self, why: str) -> CorruptStoreError:
        return CorruptStoreError(
            f"the archive's object {self._name} is damaged: {why}; keep a copy of it, and put one "
            f"from a backup in its place"
        )


class _Part(io.RawIOBase):
    """A file of which only one part is there: what a reader asks for beyond it is an error."""

    def __init__(self, size: int, start: int, data: bytes) -> None:
        super().__init__()
        self._size = size
        self._start = start
        self._data = data
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        stop = self._size if size < 0 else min(self._size, self._at + size)
        begins = self._at - self._start
        if begins < 0 or stop - self._start > len(self._data):
            raise OSError(f"bytes {self._at:,} to {stop:,} aren't part of this row group")
        self._at = stop
        return self._data[begins : stop - self._start]


def _libraries() -> tuple[ModuleType, ModuleType]:
    """The columns of slices, and Parquet."""
    try:
        from pyarrow import parquet

        from everwhen.codec import arrow_columns
    except ImportError as error:
        raise UnsupportedError(LIBRARIES_NEEDED) from error
    return arrow_columns, parquet


_OPTIONS: Final[dict[str, Any]] = {
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": [
        "stream",
        "category",
        "type",
        "schema_version",
        "tags.list.element",
        "metadata",
        "first_index",
        "slice_size",
    ],
    "column_encoding": {
        "position": "DELTA_BINARY_PACKED",
        "version": "DELTA_BINARY_PACKED",
        "recorded_at": "DELTA_BINARY_PACKED",
    },
    "write_page_index": True,
    "write_page_checksum": True,
}
"""What made the files smallest: what repeats by a dictionary, what rises by differences."""
