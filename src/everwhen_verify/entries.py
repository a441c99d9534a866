r"""What a commit looks like as a leaf of the tree, and as a link of the chain.

An entry is, with big-endian numbers:

    "everwhen-commit/v1\n"
    u64 index | 32 bytes previous leaf hash (zeros for index 0)
    i64 recorded_at (microseconds since 1970) | 16 bytes commit id | u8 form | rest

    form 0   rest = content
    form 1   rest = SHA-256("everwhen-content/v1\n" || content): where the entry would otherwise
             be longer than 65,535 bytes

    content  u32 length of the metadata (0xFFFFFFFF for none) | metadata
             for each slice, in order:
                 u64 position | u64 version | u32 count | u16 length | stream (UTF-8)
                 u32 length | body

Position and version are those of a slice's last event. The entry's leaf hash,
``SHA-256(0x00 || entry)``, is the next entry's previous hash: so chain and tree are one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from struct import Struct
from typing import Final, Protocol
from uuid import UUID

from everwhen_verify.errors import MalformedError
from everwhen_verify.merkle import HASH_SIZE, leaf_hash

PREFIX: Final = b"everwhen-commit/v1\n"
CONTENT_PREFIX: Final = b"everwhen-content/v1\n"
FIRST: Final = bytes(HASH_SIZE)
"""The previous hash of the first entry."""

MAX_ENTRY: Final = 0xFFFF

_HEAD: Final = Struct(f">{len(PREFIX)}sQ{HASH_SIZE}sq16sB")
_SLICE: Final = Struct(">QQIH")
_LENGTH: Final = Struct(">I")
_NO_METADATA: Final = 0xFFFFFFFF
_INLINE, _HASHED = 0, 1
_pack_head = Struct(_HEAD.format + "I").pack
_pack_slice, _pack_length = _SLICE.pack, _LENGTH.pack
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class LoggedSlice(Protocol):
    """A slice of a commit, as stores have it."""

    @property
    def position(self) -> int:
        """The position of its last event."""

    @property
    def stream(self) -> str:
        """The stream that it was written to."""

    @property
    def version(self) -> int:
        """The version of its last event."""

    @property
    def count(self) -> int:
        """How many events it has."""

    @property
    def recorded_at(self) -> int:
        """When the commit was recorded, in microseconds since 1970."""

    @property
    def commit_id(self) -> bytes:
        """The commit's id, 16 bytes."""

    @property
    def metadata(self) -> bytes | None:
        """The commit's metadata."""

    @property
    def body(self) -> bytes:
        """The events."""


@dataclass(frozen=True, slots=True)
class EntrySlice:
    """A slice as it is logged. Position and version are those of its last event."""

    position: int
    version: int
    count: int
    stream: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that was read. ``slices`` is None where only the hash of the content is known."""

    index: int
    previous: bytes
    recorded_at: int
    commit_id: bytes
    content_hash: bytes | None
    metadata: bytes | None
    slices: tuple[EntrySlice, ...] | None

    @property
    def time(self) -> datetime:
        """When it was recorded. Raises `MalformedError` outside the years 1 to 9999."""
        try:
            return _EPOCH + timedelta(microseconds=self.recorded_at)
        except OverflowError:
            raise MalformedError(
                "entry", f"{self.recorded_at} microseconds are out of range for a date"
            ) from None

    @property
    def id(self) -> UUID:
        """The commit's id."""
        return UUID(bytes=self.commit_id)


def entry_of(index: int, previous: bytes, slices: Sequence[LoggedSlice]) -> bytes:
    """The entry of a commit, whose slices these are: all of them, in their order.

    What belongs to the whole commit is taken from the first slice.
    """
    data = _entry(b"", index, previous, slices)
    return data if len(data) <= MAX_ENTRY else _hashed(data)


def leaf_of(index: int, previous: bytes, slices: Sequence[LoggedSlice]) -> bytes:
    """The leaf hash of `entry_of`, which is the next entry's ``previous``."""
    data = _entry(b"\x00", index, previous, slices)
    if len(data) > MAX_ENTRY + 1:
        data = b"\x00" + _hashed(data[1:])
    return sha256(data).digest()


def evidence_of(index: int, previous: bytes, slices: Sequence[LoggedSlice]) -> bytes:
    """The entry with all that it speaks of: where it has only its content's hash, both."""
    data = _entry(b"", index, previous, slices)
    return data if len(data) <= MAX_ENTRY else _hashed(data) + data[_HEAD.size :]


def content_of(slices: Sequence[LoggedSlice]) -> bytes:
    """The content of a commit alone: what an entry with a hash in its place leaves out."""
    return _entry(b"", 0, FIRST, slices)[_HEAD.size :]


def _entry(lead: bytes, index: int, previous: bytes, slices: Sequence[LoggedSlice]) -> bytes:
    """The entry with its content, however long, after ``lead``. Every commit comes by here."""
    first = slices[0]
    metadata, stream, body = first.metadata, first.stream.encode(), first.body
    length = _NO_METADATA if metadata is None else len(metadata)
    data = b"%b%b%b%b%b%b%b" % (
        lead,
        _pack_head(PREFIX, index, previous, first.recorded_at, first.commit_id, _INLINE, length),
        metadata or b"",
        _pack_slice(first.position, first.version, first.count, len(stream)),
        stream,
        _pack_length(len(body)),
        body,
    )
    return data if len(slices) == 1 else data + b"".join(_others(slices))


def _others(slices: Sequence[LoggedSlice]) -> list[bytes]:
    parts: list[bytes] = []
    for other in slices[1:]:
        stream = other.stream.encode()
        parts += (
            _pack_slice(other.position, other.version, other.count, len(stream)),
            stream,
            _pack_length(len(other.body)),
            other.body,
        )
    return parts


def _hashed(entry: bytes) -> bytes:
    """The same entry with its content's hash in the place of the content."""
    return b"".join(
        (
            entry[: _HEAD.size - 1],
            bytes([_HASHED]),
            sha256(CONTENT_PREFIX + entry[_HEAD.size :]).digest(),
        )
    )


def parse_entry(data: bytes, content: bytes | None = None) -> Entry:
    """Read an entry; ``content`` is what it has only the hash of, where that is at hand.

    Raises `MalformedError` for bytes that `entry_of` doesn't write, and for another content than
    the one that was hashed.
    """
    if len(data) < _HEAD.size or len(data) > MAX_ENTRY:
        raise MalformedError("entry", f"{len(data):,} bytes are too few or too many")
    prefix, index, previous, recorded_at, commit_id, form = _HEAD.unpack_from(data)
    if prefix != PREFIX:
        raise MalformedError("entry", f"it begins with {prefix!r}, expected {PREFIX!r}")
    rest = data[_HEAD.size :]
    content_hash: bytes | None = None
    if form == _HASHED and len(rest) == HASH_SIZE:
        content_hash = rest
        if content is not None and sha256(CONTENT_PREFIX + content).digest() != rest:
            raise MalformedError("entry", "the content does not fit its hash")
        if content is not None and _HEAD.size + len(content) <= MAX_ENTRY:
            raise MalformedError("entry", "the content is so short that the entry must contain it")
    elif form == _INLINE and content is None:
        content = rest
    else:
        raise MalformedError("entry", f"form {form} with {len(rest):,} bytes is unknown")
    metadata, slices = (None, None) if content is None else _read_content(content)
    return Entry(index, previous, recorded_at, commit_id, content_hash, metadata, slices)


def parse_evidence(data: bytes) -> tuple[bytes, Entry]:
    """An entry's leaf hash, and the entry, from what `evidence_of` gives or the entry alone.

    Raises `MalformedError` for anything else.
    """
    whole = data[: _HEAD.size + HASH_SIZE]
    if len(data) > len(whole) and data[_HEAD.size - 1] == _HASHED:
        return leaf_hash(whole), parse_entry(whole, data[len(whole) :])
    return leaf_hash(data), parse_entry(data)


def _read_content(content: bytes) -> tuple[bytes | None, tuple[EntrySlice, ...]]:
    reader = _Reader(content)
    (length,) = _LENGTH.unpack(reader.take(_LENGTH.size))
    metadata = None if length == _NO_METADATA else reader.take(length)
    slices: list[EntrySlice] = []
    while reader.at < len(content):
        position, version, count, length = _SLICE.unpack(reader.take(_SLICE.size))
        try:
            stream = reader.take(length).decode()
        except UnicodeDecodeError:
            raise MalformedError("entry", "a stream's name is not UTF-8") from None
        (length,) = _LENGTH.unpack(reader.take(_LENGTH.size))
        slices.append(EntrySlice(position, version, count, stream, reader.take(length)))
    if not slices:
        raise MalformedError("entry", "it has no slices")
    return metadata, tuple(slices)


class _Reader:
    """Takes bytes one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        taken = self._data[self.at : self.at + count]
        if len(taken) != count:
            raise MalformedError("entry", f"it ends after {len(self._data):,} bytes of content")
        self.at += count
        return taken
