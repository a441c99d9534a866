"""Arrays as the server reads them, packed at once: psycopg's own lists cost ten times as much.

The format is that of ``array_recv`` in PostgreSQL's ``arrayfuncs.c``: dimensions, whether there are
NULLs, the elements' type, then for the one dimension its length and lower bound, then each element
after its length.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

from psycopg import Connection
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format

_INT8, _TEXT, _BYTEA, _UUID = 20, 25, 17, 2950
"""The server's numbers of types, from ``pg_type.dat``."""
_HEADER: Final = struct.Struct(">iiIii").pack
_EMPTY: Final = struct.Struct(">iiI").pack
_LENGTH: Final = struct.Struct(">i").pack
_NULL: Final = _LENGTH(-1)


class BinaryArray:
    """An array's bytes."""

    __slots__ = ("packed",)
    oid: int

    def __init__(self, packed: bytes) -> None:
        self.packed = packed


class Bigints(BinaryArray):
    """``bigint[]``."""

    __slots__ = ()
    oid = 1016

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Bigints:
        """That of numbers."""
        if not numbers:
            return cls(_EMPTY(0, 0, _INT8))
        count = len(numbers)
        lengths_and_numbers = [8] * (2 * count)
        lengths_and_numbers[1::2] = numbers
        elements = struct.pack(">" + "iq" * count, *lengths_and_numbers)
        return cls(_HEADER(1, 0, _INT8, count, 1) + elements)


class Texts(BinaryArray):
    """``text[]``."""

    __slots__ = ()
    oid = 1009

    @classmethod
    def of(cls, texts: Sequence[str]) -> Texts:
        """That of texts. Raises `UnicodeEncodeError` where one of them is none."""
        return cls(_packed(_TEXT, [text.encode() for text in texts]))


class Byteas(BinaryArray):
    """``bytea[]``."""

    __slots__ = ()
    oid = 1001

    @classmethod
    def of(cls, values: Sequence[bytes | None]) -> Byteas:
        """That of bytes, or NULL."""
        return cls(_packed(_BYTEA, values))


class Uuids(BinaryArray):
    """``uuid[]``."""

    __slots__ = ()
    oid = 2951

    @classmethod
    def of(cls, ids: Sequence[bytes]) -> Uuids:
        """That of UUIDs, 16 bytes each."""
        return cls(_packed(_UUID, ids))


def _packed(oid: int, values: Sequence[bytes | None]) -> bytes:
    if not values:
        return _EMPTY(0, 0, oid)
    parts = [_HEADER(1, int(None in values), oid, len(values), 1)]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts += _LENGTH(len(value)), value
    return b"".join(parts)


class _Dumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: BinaryArray) -> Buffer:
        return obj.packed


def register(session: Connection[Any]) -> None:
    """Let a session send them."""
    for kind in (Bigints, Texts, Byteas, Uuids):
        session.adapters.register_dumper(kind, type(kind.__name__, (_Dumper,), {"oid": kind.oid}))
