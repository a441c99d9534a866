"""Copies of a replica in the cluster's object store: a node needs no file from elsewhere.

A copy is some objects, a part of a file each, and last a list of its files. A log of references
beside them says which copy is the newest: a node writes there behind what it has found before it
began, so of nodes that offer at once only the first succeeds. What was there before a copy was
complete, and isn't of it, is older or broken off, and is deleted after.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.backends.jetstream.connection import Connection
from everwhen.backends.jetstream.large_messages import LOG_ID, LargeMessages
from everwhen.backends.jetstream.messages import MessageReference, new_reference, read_reference
from everwhen.backends.jetstream.subject_log import LogMessage, OvertakenError
from everwhen.backends.sqlite.files import check_room
from everwhen.cluster.progress import ReplicaProgress
from everwhen.cluster.replica_copies import ReplicaCopying
from everwhen.cluster.replica_files import branch_file, files_of, opened_file
from everwhen.system.file_backups import workplace
from everwhen.vocabulary.errors import (
    BusyError,
    CorruptStoreError,
    NewerStoreError,
    NotAStoreError,
    StorageError,
    TrimmedLogError,
)

_ROOT: Final = "replica"
"""What the names of the objects begin with; those of large messages don't."""
_PART_BYTES: Final = 16 << 20
_FORMAT: Final = 1


class OfferedReplica(msgspec.Struct, frozen=True):
    """A copy up to a ``message`` of the log, and a ``position``, of so many ``bytes`` in all.

    ``deleted`` are the objects of older copies, and of such as were broken off.
    """

    message: int
    position: int
    branches: int
    bytes: int
    deleted: int


class _OfferedFile(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    log: str
    size: int
    sha256: bytes


class _Offer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The list of a copy's files, that of the store first."""

    name: str
    message: int
    files: tuple[_OfferedFile, ...]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Offer).decode


class _ReplacedError(Exception):
    """The copy was deleted meanwhile: there is a newer one."""


def offer_replica(
    url: str,
    *,
    busy_timeout: float = 30.0,
    progress: Callable[[ReplicaProgress], None] | None = None,
) -> OfferedReplica:
    """Put a copy of this node's replica, with its branches, into the cluster's object store.

    It is copied as a backup is, beside the replica, and may be written meanwhile. Once all of it is
    there it is the newest copy, and older ones are deleted.

    Raises `CorruptStoreError` for a replica that has a fault or is of another history,
    `BusyError` where another node has offered a copy meanwhile, and `StorageError` where the
    cluster or the disk has no room or can't be reached. The newest copy stays the newest then.
    """
    address = ClusterAddress.parsed(url)
    replica = address.replica.resolve()
    if not replica.is_file():
        raise StorageError(f"{address.replica}: there is no such replica; check the path")
    connection = Connection(address, busy_timeout)
    try:
        offers = _Offers(ReplicaCopying(connection, address, busy_timeout, progress))
        with workplace(replica.with_name(f"{replica.name}-offer")) as folder:
            return offers.offer(replica, folder / "replica.db")
    finally:
        connection.close()


@contextmanager
def found_copy(copying: ReplicaCopying, copy: str | os.PathLike[str] | None) -> Iterator[Path]:
    """The copy of a replica; where none is given, the newest one that is offered.

    That is fetched into a folder beside this node's replica, which is there while the block runs.
    Raises `StorageError` where none is offered, or it is older than what the log begins with, the
    cluster can't be reached, or the disk is full, and `CorruptStoreError` where it isn't what was
    offered.
    """
    if copy is not None:
        yield Path(copy)
        return
    final = copying.address.replica.resolve()
    with workplace(final.with_name(f"{final.name}-offered")) as folder:
        try:
            yield _Offers(copying).fetch(folder)
        except TrimmedLogError as error:
            raise StorageError(
                f"{copying.address.place}: the newest copy that is offered has come to message "
                f"{error.message}, and the log begins with message {error.first} by now; offer a "
                f"new one on a node that has a replica ('everwhen cluster offer URL'), or name a "
                f"newer file (--from FILE)"
            ) from error


class _Offers:
    def __init__(self, copying: ReplicaCopying) -> None:
        self._copying = copying
        address = copying.address
        self._place = address.place
        self._bucket = LargeMessages(
            copying.connection, address.stream, address.copies, copying.patience
        )
        self._references = self._bucket.references(_ROOT)

    def _newest(self) -> LogMessage | None:
        try:
            return self._references.newest()
        except NotAStoreError:  # no bucket
            return None

    # Offering

    def offer(self, replica: Path, copy: Path) -> OfferedReplica:
        newest = self._newest()
        message = self._copying.copy(replica, copy, logs="none")
        with opened_file(copy) as engine:
            position = engine.head().position
        name = f"{_ROOT}/{message}-{secrets.token_hex(8)}"
        try:
            offer = self._put(name, message, copy)
            data = bytes([_FORMAT]) + _encode(offer)
            self._bucket.put(f"{name}/files", data)
            there = self._names()
        except BaseException:
            with contextlib.suppress(StorageError):
                self._delete(f"{name}/")
            raise
        self._refer(f"{name}/files", data, newest.seq if newest is not None else 0)
        old = [other for other in there if not other.startswith(f"{name}/")]
        for other in old:
            self._bucket.delete(other)
        size = sum(file.size for file in offer.files)
        return OfferedReplica(message, position, len(offer.files) - 1, size, len(old))

    def _put(self, name: str, message: int, copy: Path) -> _Offer:
        files = files_of(copy)
        total = sum(file.path.stat().st_size for file in files)
        put: list[_OfferedFile] = []
        done = 0
        for number, file in enumerate(files):
            sha256, size = hashlib.sha256(), 0
            with file.path.open("rb") as opened:
                parts = iter(partial(opened.read, _PART_BYTES), b"")
                for part, data in enumerate(parts):
                    self._bucket.put(_part(name, number, part), data)
                    sha256.update(data)
                    size += len(data)
                    done += len(data)
                    self._copying.tell("offering", done, total)
            put.append(_OfferedFile(file.log, size, sha256.digest()))
        return _Offer(name, message, tuple(put))

    def _refer(self, name: str, data: bytes, after: int) -> None:
        """Make it the newest copy, unless another one came behind what there was."""
        reference_id = uuid.uuid4().bytes
        try:
            self._references.append(reference_id, new_reference(reference_id, name, data), after)
        except OvertakenError:
            self._delete(f"{name.removesuffix('files')}")
            raise BusyError(
                f"{self._place}: another node has offered a copy meanwhile, and that is the newest "
                f"one now; nothing is left to do"
            ) from None

    def _names(self) -> list[str]:
        return [name for name in self._bucket.names() if name.startswith(f"{_ROOT}/")]

    def _delete(self, prefix: str) -> None:
        for name in self._names():
            if name.startswith(prefix):
                self._bucket.delete(name)

    # Fetching

    def fetch(self, folder: Path) -> Path:
        while True:
            newest = self._newest()
            if newest is None:
                raise StorageError(
                    f"{self._place}: no copy of a replica is offered there; offer one on a node "
                    f"that has one ('everwhen cluster offer URL'), or name a file (--from FILE)"
                )
            with contextlib.suppress(_ReplacedError):
                return self._fetched(newest, folder)

    def _fetched(self, newest: LogMessage, folder: Path) -> Path:
        where = self._references.place_of(newest.seq)
        reference = read_reference(newest.data, where)
        if reference is None:
            raise CorruptStoreError(f"{where}: refers to no copy of a replica; offer one anew")
        offer = self._offer_of(reference, newest, where)
        copy = folder / "replica.db"
        total = sum(file.size for file in offer.files)
        check_room(self._copying.address.replica, total, folder)
        done = 0
        for number, file in enumerate(offer.files):
            path = branch_file(copy, file.log) if number else copy
            path.parent.mkdir(mode=0o700, exist_ok=True)
            sha256 = hashlib.sha256()
            with open(path, "wb", opener=_for_the_owner) as written:
                for part in range(-(-file.size // _PART_BYTES)):
                    data = self._bucket.read(_part(offer.name, number, part), _PART_BYTES)
                    if data is None:
                        raise self._incomplete(newest, where)
                    sha256.update(data)
                    written.write(data)
                    done += len(data)
                    self._copying.tell("fetching", done, total)
            if path.stat().st_size != file.size or sha256.digest() != file.sha256:
                raise CorruptStoreError(
                    f"{where}: the copy's file of the log {file.log} isn't what was offered; find "
                    f"out who changed it, and offer one anew"
                )
        return copy

    def _offer_of(self, reference: MessageReference, newest: LogMessage, where: str) -> _Offer:
        try:
            data = self._bucket.get(reference, where)
        except CorruptStoreError:
            raise self._incomplete(newest, where) from None
        if data[0] > _FORMAT:
            raise NewerStoreError(
                f"{where}: the copy has format {data[0]}, this Everwhen knows formats up to "
                f"{_FORMAT}; upgrade Everwhen on this node"
            )
        try:
            offer = _decode(memoryview(data)[1:])
        except msgspec.DecodeError as error:
            raise CorruptStoreError(
                f"{where}: the list of the copy's files can't be read ({error}); offer one anew"
            ) from error
        logs = [file.log for file in offer.files[1:]]
        if not offer.files or not all(map(LOG_ID.fullmatch, logs)) or len({*logs}) < len(logs):
            raise CorruptStoreError(
                f"{where}: the list of the copy's files isn't one of a store and its branches; "
                f"find out who wrote it, and offer one anew"
            )
        return offer

    def _incomplete(self, newest: LogMessage, where: str) -> Exception:
        """Why something of a copy is missing."""
        if self._newest() != newest:
            return _ReplacedError()
        return CorruptStoreError(
            f"{where}: the copy that it refers to isn't complete; find out who deleted what of it, "
            f"and offer one anew"
        )


def _part(name: str, file: int, part: int) -> str:
    return f"{name}/{file}.{part}"


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
