"""The digest of slices, which is the same whichever way they are kept."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from itertools import islice
from typing import Final

import msgspec

from everwhen.codec.blocks import SliceFields, fields_of
from everwhen.vocabulary.contract import StoredSlice

_encode: Final = msgspec.msgpack.Encoder().encode

_AT_ONCE: Final = 64
"""Slices: fewer cost more, and more need more memory."""


class SliceDigest:
    """SHA-256 over slices in the order of their positions, each of them a MessagePack array."""

    def __init__(self) -> None:
        self._hash = sha256()

    def update(self, slices: Iterable[SliceFields]) -> None:
        """Take in some more slices, each as a tuple of its fields."""
        encoded = map(_encode, slices)
        while some := b"".join(islice(encoded, _AT_ONCE)):
            self._hash.update(some)

    def digest(self) -> bytes:
        """The digest of all that were taken in: 32 bytes."""
        return self._hash.digest()


def digest_of(slices: Iterable[StoredSlice]) -> bytes:
    """The digest of these slices."""
    found = SliceDigest()
    found.update(fields_of(slices))
    return found.digest()
