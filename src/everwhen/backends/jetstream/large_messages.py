"""Messages that are larger than what a server takes: in the cluster's object store, piece by piece.

An object is there before the log's message that refers to it, and is named after the place that
this message has to have. So one whose writer died in between can be told, and is swept.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec

from everwhen.backends.jetstream.address import MAIN
from everwhen.backends.jetstream.messages import MAX_MESSAGE_BYTES, MessageReference
from everwhen.backends.jetstream.object_bucket import ObjectBucket
from everwhen.vocabulary.errors import CorruptStoreError

LOG_ID: Final = re.compile("[0-9a-f]{32}")
"""The log of a branch."""
_NAME: Final = re.compile(rf"({MAIN}|{LOG_ID.pattern})\.([0-9]{{1,19}})\.([0-9a-f]{{32}})")


class LargeMessageName(msgspec.Struct, frozen=True):
    """The place of a message: in a ``log``, directly behind the sequence ``after``, with its id."""

    log: str
    after: int
    id: bytes

    @classmethod
    def parsed(cls, name: str) -> LargeMessageName | None:
        """None for the name of something else."""
        match = _NAME.fullmatch(name)
        return None if match is None else cls(match[1], int(match[2]), bytes.fromhex(match[3]))

    def __str__(self) -> str:
        return f"{self.log}.{self.after}.{self.id.hex()}"


class LargeMessages(ObjectBucket):
    """The objects of one store, of which the messages of its logs refer to some."""

    def get(self, reference: MessageReference, where: str) -> bytes:
        """The object that a message refers to. Raises `CorruptStoreError` where it isn't there."""
        data = self.read(reference.name, 2 * MAX_MESSAGE_BYTES)
        if data is None or hashlib.sha256(data).digest() != reference.sha256:
            what = "isn't there" if data is None else "isn't what was written"
            raise CorruptStoreError(
                f"{where}: refers to the object {reference.name!r} of the bucket {self.bucket}, "
                f"which {what}; find out who changed it, and restore the cluster from a backup"
            )
        return data

    def of_log(self, log: str) -> list[str]:
        """The names of one log's objects."""
        return [
            name
            for name in self.names()
            if (place := LargeMessageName.parsed(name)) is not None and place.log == log
        ]
