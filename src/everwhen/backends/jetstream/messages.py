"""The messages of a log: each has the commits of one group, and what checkpoints it changed.

Positions, versions and the index aren't in them: they follow from the order, alike on each node.
A message begins with one byte, the format, and goes on as MessagePack, compressed by zstd. It names
the digest of the message before, so that a replica of another history notices. One that is larger
than what a server takes is an object in the cluster's object store, which the log's refers to.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable
from functools import cache
from typing import Final

import msgspec

from everwhen.system.compression import Compressor, DecompressionError
from everwhen.vocabulary.contract import (
    MAX_KEPT_BYTES,
    MAX_STORED_BYTES,
    EncodedCommit,
    EncodedSlice,
)
from everwhen.vocabulary.errors import CorruptStoreError, NewerStoreError

_WHOLE: Final = b"\x01"
_REFERENCE: Final = b"\x02"
MAX_MESSAGE_BYTES: Final = MAX_KEPT_BYTES + MAX_STORED_BYTES
"""The most that a message takes when it is decompressed."""


class LoggedSlice(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One stream's events of a commit, see `everwhen.vocabulary.contract.EncodedSlice`."""

    stream: str
    count: int
    body: bytes
    types: tuple[str, ...]
    tags: tuple[str, ...]


def logged_slices(commit: EncodedCommit) -> tuple[LoggedSlice, ...]:
    """A commit's slices as they go over the wire."""
    return tuple(
        LoggedSlice(part.stream, part.count, part.body, part.types, part.tags)
        for part in commit.slices
    )


def encoded_slices(slices: Iterable[LoggedSlice]) -> tuple[EncodedSlice, ...]:
    """Slices as an engine writes them."""
    return tuple(
        EncodedSlice(part.stream, part.count, part.body, part.types, part.tags) for part in slices
    )


class LoggedCommit(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A commit as it was accepted; ``recorded_at`` in microseconds since 1970 UTC."""

    id: bytes
    recorded_at: int
    metadata: bytes | None
    slices: tuple[LoggedSlice, ...]

    def encoded(self) -> EncodedCommit:
        """What an engine writes: judged already."""
        slices = encoded_slices(self.slices)
        return EncodedCommit(
            self.id, slices, (), None, self.metadata, self.recorded_at, is_fresh=True
        )


class LoggedCheckpoint(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A checkpoint as it was saved; without a ``position`` it was deleted."""

    name: str
    position: int | None
    data: bytes = b""


class GroupMessage(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What takes effect together. ``id`` is made for it; ``previous`` is a digest, or empty."""

    id: bytes
    previous: bytes
    commits: tuple[LoggedCommit, ...] = ()
    checkpoints: tuple[LoggedCheckpoint, ...] = ()


class MessageReference(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What stands in the log for a message that is an object elsewhere, of that digest."""

    id: bytes
    name: str
    sha256: bytes


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_group: Final = msgspec.msgpack.Decoder(GroupMessage).decode
_decode_reference: Final = msgspec.msgpack.Decoder(MessageReference).decode


@cache
def _compressor() -> Compressor:
    """Made on first use: it needs a library."""
    return Compressor()


def logged(commit: EncodedCommit, recorded_at: int) -> LoggedCommit:
    """The commit as it goes into the log."""
    return LoggedCommit(commit.id, recorded_at, commit.metadata, logged_slices(commit))


def new_message(
    previous: bytes,
    commits: tuple[LoggedCommit, ...],
    checkpoints: tuple[LoggedCheckpoint, ...] = (),
) -> tuple[bytes, bytes]:
    """The id of a new message, and its bytes."""
    made = GroupMessage(uuid.uuid4().bytes, previous, commits, checkpoints)
    return made.id, _WHOLE + _compressor().compress(_encode(made))


def new_reference(message_id: bytes, name: str, data: bytes) -> bytes:
    """What the log has in place of a message's bytes, which are an object of that name."""
    return _REFERENCE + _encode(MessageReference(message_id, name, hashlib.sha256(data).digest()))


def digest_of(data: bytes) -> bytes:
    """What the next message names, of 16 bytes."""
    return hashlib.blake2b(data, digest_size=16).digest()


def message_id(data: bytes, where: str) -> bytes:
    """The id of a message, or of the one that is referred to; ``where`` is for errors."""
    return _read(data, where).id


def read_reference(data: bytes, where: str) -> MessageReference | None:
    """What a message refers to; None for one that has its commits itself. Raises the same."""
    read = _read(data, where) if data[:1] != _WHOLE else None
    return read if isinstance(read, MessageReference) else None


def read_message(
    data: bytes, where: str, fetched: Callable[[MessageReference, str], bytes]
) -> GroupMessage:
    """The message; ``fetched`` gives the object that one refers to.

    Raises `NewerStoreError` or `CorruptStoreError`.
    """
    read = _read(data, where)
    if isinstance(read, GroupMessage):
        return read
    whole = _read(fetched(read, where), f"{where}, object {read.name}")
    if not isinstance(whole, GroupMessage) or whole.id != read.id:
        raise CorruptStoreError(f"{where}: refers to the object {read.name}, which is another one")
    return whole


def _read(data: bytes, where: str) -> GroupMessage | MessageReference:
    form, rest = data[:1], memoryview(data)[1:]
    if form > _REFERENCE:
        raise NewerStoreError(
            f"{where}: has format {form[0]}, this Everwhen knows formats up to {_REFERENCE[0]}; "
            f"upgrade Everwhen on this node"
        )
    try:
        if form == _REFERENCE:
            return _decode_reference(rest)
        return _decode_group(_compressor().decompress(rest, MAX_MESSAGE_BYTES))
    except (DecompressionError, msgspec.DecodeError) as error:
        raise CorruptStoreError(
            f"{where}: can't be read ({error}); something else writes to this log, find out what"
        ) from error
