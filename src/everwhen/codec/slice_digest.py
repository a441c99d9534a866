"""The digest of slices, which is the same whichever way they are kept."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

import msgspec

from everwhen.vocabulary.contract import StoredSlice

_encode: Final = msgspec.msgpack.Encoder().encode


class SliceDigest:
    """SHA-256 over slices in the order of their positions, each of them a MessagePack array."""

    def __init__(self) -> None:
        self._hash = sha256()

    def update(self, slices: Iterable[StoredSlice]) -> None:
        """Take in some more slices."""
        for stored in slices:
            self._hash.update(_encode(msgspec.structs.astuple(stored)))

    def digest(self) -> bytes:
        """The digest of all that were taken in: 32 bytes."""
        return self._hash.digest()


def digest_of(slices: Iterable[StoredSlice]) -> bytes:
    """The digest of these slices."""
    found = SliceDigest()
    found.update(slices)
    return found.digest()
