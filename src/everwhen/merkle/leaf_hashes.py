"""The leaves of a store's Merkle log: each commit hashed as `everwhen_verify.entries` says.

This loop is what signing and verifying spend their time in, so it does what `leaf_of` does for one
commit without a call for each: the tests hold one against the other.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from hashlib import sha256
from struct import Struct
from typing import Final

from everwhen.codec.blocks import SliceFields, fields_of
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.errors import CorruptStoreError
from everwhen_verify.entries import CONTENT_PREFIX, FIRST, MAX_ENTRY, PREFIX

_LEAF: Final = b"\x00" + PREFIX
_INLINE: Final = b"\x00"
_NO_METADATA: Final = _INLINE + b"\xff\xff\xff\xff"
_HEAD: Final = Struct(f">{len(_LEAF)}sQ32sq16s")
_WITH_METADATA: Final = Struct(f"{_HEAD.format}sI").pack
_WITHOUT_METADATA: Final = Struct(f"{_HEAD.format}5sQQIH").pack
_SLICE: Final = Struct(">QQIH").pack
_LENGTH: Final = Struct(">I").pack
_MAX_ENTRY_BYTES: Final = MAX_ENTRY + 1
"""With the byte that says it is a leaf."""
_COMMIT_ID_BYTES: Final = 16
"""A UUID's."""


class Leaves:
    """Turns slices, in their order, into leaf hashes.

    A commit is whole once the next one begins, or at the end of the store: until then it is held
    back. ``size``, ``last`` and ``position`` are how many leaves there have been, the newest one's
    hash, and the last position of its commit.
    """

    __slots__ = ("_data", "_events", "_first", "_position", "last", "position", "size")

    def __init__(self, size: int = 0, last: bytes = FIRST, position: int = 0) -> None:
        self.size = size
        self.last = last
        self.position = position
        self._data = b""
        self._first: SliceFields | None = None
        self._events = self._position = 0

    def take(
        self, slices: Sequence[StoredSlice], ends: list[int] | None = None, *, end: bool = False
    ) -> list[bytes]:
        """The leaves that these slices complete; with ``end``, also that of the last commit.

        ``ends`` is given the last position of each. Raises `CorruptStoreError` for what no store
        writes; the leaves before that are lost to the caller.
        """
        found: list[bytes] = []
        positions: list[int] = [] if ends is None else ends
        try:
            self._take(slices, found, positions)
        except (struct.error, UnicodeEncodeError) as error:
            raise _damaged(self._first, str(error)) from error
        if end and self._data:
            self._finish(found.append, positions.append)
            self._data = b""
        return found

    def _take(
        self, slices: Sequence[StoredSlice], found: list[bytes], positions: list[int]
    ) -> None:
        take, place = found.append, positions.append
        data, index, last, position = self._data, self.size, self.last, self._position
        first = self._first
        more: list[bytes] = []
        for row in fields_of(slices):
            until, name, version, count, moment, commit_id, first_index, metadata, body = row
            if first_index:
                if not data:
                    raise _damaged(row, "it has no beginning")
                more += self._further(row)
                position = until
                continue
            if more:
                data, more = b"".join((data, *more)), []
            if data:
                last = sha256(data if len(data) <= _MAX_ENTRY_BYTES else _hashed(data)).digest()
                take(last)
                place(position)
                index += 1
            if first is not None and first[5] == commit_id:
                raise _damaged(row, f"it begins the commit of {first[0]} once more")
            if len(commit_id) != _COMMIT_ID_BYTES:
                raise _damaged(row, f"its commit id has {len(commit_id)} bytes")
            first = self._first = row
            self._events, position = count, until
            stream = name.encode()
            if metadata is None:
                head = _WITHOUT_METADATA(
                    _LEAF,
                    index,
                    last,
                    moment,
                    commit_id,
                    _NO_METADATA,
                    until,
                    version,
                    count,
                    len(stream),
                )
            else:
                part = _SLICE(until, version, count, len(stream))
                head = _WITH_METADATA(_LEAF, index, last, moment, commit_id, _INLINE, len(metadata))
                head = b"".join((head, metadata, part))
            data = b"".join((head, stream, _LENGTH(len(body)), body))
        if index > self.size:
            self.size, self.last, self.position = index, last, positions[-1]
        self._data, self._position = b"".join((data, *more)) if more else data, position

    def _further(self, row: SliceFields) -> tuple[bytes, ...]:
        """What a further slice adds to the commit: it has to be one of the same."""
        position, name, version, count, moment, commit_id, first_index, metadata, body = row
        first = self._first
        if first is None:
            raise _damaged(row, "it has no beginning")
        if first[4:6] != (moment, commit_id) or first[7] != metadata or first_index != self._events:
            raise _damaged(row, f"it doesn't go on as the commit of {first[0]} began")
        stream = name.encode()
        self._events += count
        return _SLICE(position, version, count, len(stream)), stream, _LENGTH(len(body)), body

    def _finish(self, take: Callable[[bytes], None], place: Callable[[int], None]) -> None:
        data = self._data
        self.last = sha256(data if len(data) <= _MAX_ENTRY_BYTES else _hashed(data)).digest()
        self.size += 1
        self.position = self._position
        take(self.last)
        place(self.position)


def _hashed(data: bytes) -> bytes:
    """The leaf of a large commit, with its content's hash in the place of the content."""
    content = sha256(CONTENT_PREFIX + data[_HEAD.size + 1 :]).digest()
    return b"".join((data[: _HEAD.size], b"\x01", content))


def _damaged(row: SliceFields | None, why: str) -> CorruptStoreError:
    where = "a commit" if row is None else f"position {row[0]}"
    return CorruptStoreError(f"{where}: {why}; run check(), and restore the store from a backup")
