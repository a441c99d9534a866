"""Events as Arrow columns, one row an event: for SQL, for data frames, and for the archive.

The columns that anyone reads are those of ``SCHEMA``. ``ARCHIVE_SCHEMA`` adds what gives a slice's
exact bytes back: most bodies are put together out of the other columns, and those that would read
differently are kept as they are in the column ``body``.

Needs the library pyarrow, of the extras ``everwhen[sql]`` and ``everwhen[archive]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain
from operator import attrgetter
from typing import Any, Final

import msgspec
import pyarrow as pa

from everwhen.codec.blocks import Block
from everwhen.codec.frames import FrameError
from everwhen.codec.json_encoding import encode_json
from everwhen.codec.slice_bodies import Entry, decode_entries, extras_text
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.microseconds import from_micros, to_micros
from everwhen.vocabulary.streams import category_of

_MOMENT: Final = pa.timestamp("us", tz="UTC")

SCHEMA: Final = pa.schema(
    [
        pa.field("position", pa.int64(), nullable=False),
        pa.field("stream", pa.string(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("schema_version", pa.int64(), nullable=False),
        pa.field("recorded_at", _MOMENT, nullable=False),
        pa.field("occurred_at", _MOMENT),
        pa.field("tags", pa.list_(pa.field("element", pa.string(), nullable=False))),
        pa.field("data", pa.string(), nullable=False),
        pa.field("event_id", pa.string()),
        pa.field("extras", pa.string()),
        pa.field("commit_id", pa.binary(16), nullable=False),
        pa.field("metadata", pa.string()),
    ]
)
"""One row an event. ``type`` and ``schema_version`` are as stored; ``data``, ``extras`` and
``metadata`` are JSON text; ``event_id`` is null where the writer gave none."""

ARCHIVE_SCHEMA: Final = pa.schema(
    [
        *SCHEMA,
        pa.field("first_index", pa.int64(), nullable=False),
        pa.field("slice_size", pa.int64(), nullable=False),
        pa.field("body", pa.binary()),
    ]
)
"""``first_index`` and ``slice_size`` are the slice's, ``body`` is in its first row."""


_ABSENT: Final = msgspec.Raw()


class _EntryMetadata(msgspec.Struct, frozen=True, gc=False):
    id: str | None = None
    occurred_at: datetime | None = None
    extras: msgspec.Raw = _ABSENT


class _Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An entry of a slice's body, of which the parts that are JSON stay text."""

    type: str
    schema_version: int
    data: msgspec.Raw
    tags: tuple[str, ...] = ()
    metadata: _EntryMetadata | None = None


_decode: Final = msgspec.json.Decoder(list[_Entry]).decode

_decode_bodies: Final = msgspec.json.Decoder(list[list[_Entry]]).decode


class _Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The beginning of an entry, which is all that some columns need."""

    type: str
    schema_version: int


_HEADS: Final = frozenset(_Head.__struct_fields__)
_decode_heads: Final = msgspec.json.Decoder(list[list[_Head]]).decode

_COUNTED: Final = {"position": "positions", "version": "versions"}
"""Columns of whose values a slice has the last, and a block all of these."""

_OF_SLICES: Final = {
    "stream": ("stream", "streams"),
    "category": ("stream", "streams"),
    "recorded_at": ("recorded_at", "recorded_at"),
    "commit_id": ("commit_id", "commit_ids"),
    "metadata": ("metadata", "metadata"),
    "first_index": ("first_index", "first_indexes"),
    "slice_size": ("count", "counts"),
}
"""Columns that have the same value for all events of a slice: what it is made of, there and in a
block."""

_OF_ENTRIES: Final[dict[str, Callable[[_Entry], Any]]] = {
    "type": lambda entry: entry.type,
    "schema_version": lambda entry: entry.schema_version,
    "tags": lambda entry: entry.tags,
    "data": lambda entry: bytes(entry.data).decode(),
    "occurred_at": lambda entry: entry.metadata and _moment(entry.metadata.occurred_at),
    "event_id": lambda entry: entry.metadata and entry.metadata.id,
    "extras": lambda entry: entry.metadata and _text(entry.metadata.extras),
}


def arrow_batch(
    slices: Sequence[StoredSlice],
    names: Sequence[str] = SCHEMA.names,
    picked: Sequence[Sequence[int] | None] | None = None,
) -> pa.RecordBatch:
    """The events of slices, with these columns of ``SCHEMA``.

    ``picked`` has the indexes of the events that are wanted of each slice, None for all of one.
    Raises `FrameError` for a slice that is damaged.
    """
    entries = [] if _OF_ENTRIES.keys().isdisjoint(names) else _flat(slices, names)
    columns = _columns(slices, entries, names)
    schema = pa.schema([SCHEMA.field(name) for name in names])
    arrays = [_array(columns[field.name], field) for field in schema]
    made = pa.record_batch(arrays, schema)
    if picked is None or all(indexes is None for indexes in picked):
        return made
    return made.take(pa.array(_rows_picked(slices, picked), pa.int64()))


def archive_table(slices: Sequence[StoredSlice]) -> pa.Table:
    """The events of slices, with all columns of ``ARCHIVE_SCHEMA``: `slices_in` gives them back.

    Raises `FrameError` for a slice that is damaged.
    """
    entries = list(map(_entries, slices))
    flat = list(chain.from_iterable(entries))
    columns = _columns(slices, flat, ARCHIVE_SCHEMA.names[:-1])
    bodies: list[bytes | None] = []
    for stored, found in zip(slices, entries, strict=True):
        exact = b"[%b]" % b",".join(map(_piece_of, found)) == stored.body
        bodies.append(None if exact else stored.body)
        bodies += [None] * (len(found) - 1)
    columns["body"] = bodies
    arrays = [_array(columns[field.name], field) for field in ARCHIVE_SCHEMA]
    return pa.table(arrays, ARCHIVE_SCHEMA)


def slices_in(table: pa.Table) -> list[StoredSlice]:
    """The slices of a table of ``ARCHIVE_SCHEMA``, byte for byte.

    Raises `FrameError` for a table that isn't one.
    """
    if not table.schema.equals(ARCHIVE_SCHEMA):
        raise FrameError("its columns aren't those of an archive")
    found = {field.name: _values(table.column(field.name), field) for field in ARCHIVE_SCHEMA}
    pieces = map(
        _piece,
        found["type"],
        found["schema_version"],
        found["data"],
        found["tags"],
        map(_metadata_text, found["event_id"], found["occurred_at"], found["extras"]),
    )
    entries = list(pieces)
    slices: list[StoredSlice] = []
    start = 0
    sizes, bodies = found["slice_size"], found["body"]
    while start < len(sizes):
        stop = start + sizes[start]
        if not start < stop <= len(sizes):
            raise FrameError(f"row {start} belongs to a slice of {sizes[start]} events")
        last = stop - 1
        metadata = found["metadata"][last]
        body = bodies[start]
        slices.append(
            StoredSlice(
                found["position"][last],
                found["stream"][last],
                found["version"][last],
                stop - start,
                found["recorded_at"][last],
                found["commit_id"][last],
                found["first_index"][last],
                None if metadata is None else metadata.encode(),
                b"[%b]" % b",".join(entries[start:stop]) if body is None else body,
            )
        )
        start = stop
    return slices


def _entries(stored: StoredSlice) -> list[_Entry]:
    try:
        entries = _decode(stored.body)
    except RecursionError:
        entries = list(map(_rare_entry, decode_entries(stored.body)))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameError(f"the slice at position {stored.position}: {error}") from error
    if len(entries) != stored.count:
        raise FrameError(f"the slice at position {stored.position} has {len(entries)} events")
    return entries


def _rare_entry(entry: Entry) -> _Entry:
    """An entry that was decoded the slow way, since a part of it is nested too deep."""
    known = entry.metadata
    if known is None:
        return _Entry(entry.type, entry.schema_version, entry.data, entry.tags)
    extras = _ABSENT if known.extras is None else msgspec.Raw(extras_text(known.extras).encode())
    metadata = _EntryMetadata(known.id, known.occurred_at, extras)
    return _Entry(entry.type, entry.schema_version, entry.data, entry.tags, metadata)


def _flat(slices: Sequence[StoredSlice], names: Iterable[str]) -> Sequence[Any]:
    """The entries of all slices, or as much of them as these columns need.

    All in one call: most of the cost of decoding is in the calls.
    """
    of_entries = _OF_ENTRIES.keys() & set(names)
    decode = _decode_heads if of_entries <= _HEADS else _decode_bodies
    try:
        if isinstance(slices, Block):
            (flat,) = decode(b"[[%b]]" % slices.entries)
            if len(flat) == slices.events:
                return flat
        else:
            decoded = decode(b"[%b]" % b",".join([stored.body for stored in slices]))
            if [len(entries) for entries in decoded] == [stored.count for stored in slices]:
                return list(chain.from_iterable(decoded))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # one of them is damaged or nested too deep: it is found one by one
    return list(chain.from_iterable(map(_entries, slices)))


def _columns(
    slices: Sequence[StoredSlice], flat: Sequence[Any], names: Iterable[str]
) -> dict[str, Sequence[Any]]:
    """The columns' values, as `_array` takes them. ``flat`` has the entries of all slices."""
    counts = _part(slices, "count", "counts")
    columns: dict[str, Sequence[Any]] = {}
    for name in names:
        try:
            if name in _OF_ENTRIES:
                columns[name] = list(map(_OF_ENTRIES[name], flat))
                continue
            of_slices = _of_slices(slices, name)
        except UnicodeDecodeError as error:
            raise FrameError(f"column {name}: {error}") from error
        if sum(counts) == len(slices):
            columns[name] = of_slices
        elif name in _OF_SLICES:
            columns[name] = _by_event(of_slices, counts)
        else:
            columns[name] = _counted(of_slices, counts)
    return columns


def _of_slices(slices: Sequence[StoredSlice], name: str) -> Sequence[Any]:
    """A column's value for each slice; of those that are counted, the last."""
    if name in _COUNTED:
        return _part(slices, name, _COUNTED[name])
    values = _part(slices, *_OF_SLICES[name])
    if name == "category":
        categories = {stream: category_of(stream) for stream in set(values)}
        return [categories[stream] for stream in values]
    if name == "metadata":
        return [None if value is None else value.decode() for value in values]
    return values


def _part(slices: Sequence[StoredSlice], name: str, of_block: str) -> Sequence[Any]:
    """What each slice has under a name; a block has all of them together."""
    if not isinstance(slices, Block):
        return list(map(attrgetter(name), slices))
    if name == "commit_id":
        return [slices.commit_id(row) for row in range(len(slices))]
    found: Sequence[Any] = getattr(slices, of_block)
    return found


def _by_event(values: Sequence[Any], counts: Sequence[int]) -> list[Any]:
    return [value for value, count in zip(values, counts, strict=True) for _ in range(count)]


def _counted(lasts: Sequence[int], counts: Sequence[int]) -> list[int]:
    """Positions or versions of all events, from those of the slices' last ones."""
    pairs = zip(lasts, counts, strict=True)
    return list(chain.from_iterable(range(last - n + 1, last + 1) for last, n in pairs))


def _rows_picked(
    slices: Sequence[StoredSlice], picked: Sequence[Sequence[int] | None]
) -> Iterator[int]:
    start = 0
    for stored, indexes in zip(slices, picked, strict=True):
        for index in range(stored.count) if indexes is None else indexes:
            yield start + index
        start += stored.count


def _array(values: Sequence[Any], field: pa.Field) -> pa.Array:
    """One column's values; times are microseconds."""
    try:
        if field.type == _MOMENT:
            return pa.array(values, pa.int64()).cast(_MOMENT)
        return pa.array(values, field.type)
    except (pa.ArrowException, OverflowError, UnicodeError) as error:
        raise FrameError(f"column {field.name}: {error}") from error


def _values(column: pa.ChunkedArray, field: pa.Field) -> list[Any]:
    """The same values, back from a column."""
    values = column.cast(pa.int64()) if field.type == _MOMENT else column
    if values.null_count and not field.nullable:
        raise FrameError(f"column {field.name} has no value in {values.null_count} rows")
    try:
        return list(values.to_pylist())
    except UnicodeDecodeError as error:
        raise FrameError(f"column {field.name}: {error}") from error


def _moment(moment: datetime | None) -> int | None:
    """In microseconds; None also where it has no time zone, and is no moment then."""
    return None if moment is None or moment.tzinfo is None else to_micros(moment)


def _text(json: msgspec.Raw) -> str | None:
    return bytes(json).decode() or None


def _metadata_text(
    event_id: str | None, occurred_at: int | None, extras: str | None
) -> bytes | None:
    """An event's own metadata, as the codec writes it; None where it has none."""
    if event_id is None and occurred_at is None and extras is None:
        return None
    members: dict[str, Any] = {}
    if event_id is not None:
        members["id"] = event_id
    if occurred_at is not None:
        members["occurred_at"] = from_micros(occurred_at)
    if extras is not None:
        members["extras"] = msgspec.Raw(extras.encode())
    return encode_json(members)


def _piece(
    type_: str, version: int, data: str, tags: Sequence[str] | None, metadata: bytes | None
) -> bytes:
    """An entry of a body, as the codec writes it."""
    if metadata is not None:
        return encode_json(
            (type_, version, msgspec.Raw(data.encode()), tags or (), msgspec.Raw(metadata))
        )
    if tags:
        return encode_json((type_, version, msgspec.Raw(data.encode()), tags))
    return encode_json((type_, version, msgspec.Raw(data.encode())))


def _piece_of(entry: _Entry) -> bytes:
    """The entry, by what the columns keep of it."""
    known = entry.metadata
    metadata = None
    if known is not None:
        metadata = _metadata_text(known.id, _moment(known.occurred_at), _text(known.extras))
    return _piece(
        entry.type, entry.schema_version, bytes(entry.data).decode(), entry.tags, metadata
    )
