"""Messages that are larger than what a server takes: in the cluster's object store, piece by piece.

An object is there before the log's message that refers to it, and is named after the place that
this message has to have. So one whose writer died in between can be told, and is swept.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from nats.js import JetStreamContext
from nats.js.errors import (
    BucketNotFoundError,
    NotFoundError,
    ObjectDeletedError,
    ObjectNotFoundError,
)
from nats.js.object_store import ObjectStore

from everwhen.backends.jetstream.connection import Connection, UnansweredError
from everwhen.backends.jetstream.messages import MessageReference
from everwhen.vocabulary.errors import CorruptStoreError

T = TypeVar("T")

_BETWEEN_TRIES: Final = 0.1
_MISSING: Final = (ObjectNotFoundError, ObjectDeletedError, NotFoundError)


class LargeMessages:
    """The objects of one store. Raises `UnansweredError` where nobody answers for ``patience``."""

    def __init__(self, connection: Connection, bucket: str, copies: int, patience: float) -> None:
        self._connection = connection
        self._bucket = bucket
        self._copies = copies
        self._patience = patience

    def put(self, name: str, data: bytes) -> None:
        """Store an object; one of that name is replaced."""

        async def put(context: JetStreamContext) -> None:
            try:
                objects = await context.object_store(self._bucket)
            except (BucketNotFoundError, NotFoundError):
                objects = await context.create_object_store(
                    self._bucket, storage="file", replicas=self._copies
                )
            await objects.put(name, data)

        self._asked(put)

    def get(self, reference: MessageReference, where: str) -> bytes:
        """The object that a message refers to. Raises `CorruptStoreError` where it isn't there."""

        async def get(objects: ObjectStore) -> bytes | None:
            try:
                return (await objects.get(reference.name)).data
            except _MISSING:
                return None

        data = self._in_bucket(get)
        if data is None or hashlib.sha256(data).digest() != reference.sha256:
            what = "isn't there" if data is None else "isn't what was written"
            raise CorruptStoreError(
                f"{where}: refers to the object {reference.name!r} of the bucket {self._bucket}, "
                f"which {what}; find out who changed it, and restore the cluster from a backup"
            )
        return data

    def names(self) -> list[str]:
        """The names of all objects."""

        async def names(objects: ObjectStore) -> list[str]:
            try:
                found = await objects.list(ignore_deletes=True)
            except _MISSING:
                return []
            return [info.name for info in found]

        return self._in_bucket(names) or []

    def delete(self, name: str) -> None:
        """Delete an object; nothing happens where there is none."""

        async def delete(objects: ObjectStore) -> None:
            try:
                await objects.delete(name)
            except _MISSING:
                return

        self._in_bucket(delete)

    def _in_bucket(self, work: Callable[[ObjectStore], Coroutine[Any, Any, T]]) -> T | None:
        """What the work returns; None where there is no bucket."""

        async def within(context: JetStreamContext) -> T | None:
            try:
                objects = await context.object_store(self._bucket)
            except (BucketNotFoundError, NotFoundError):
                return None
            return await work(objects)

        return self._asked(within)

    def _asked(self, work: Callable[[JetStreamContext], Coroutine[Any, Any, T]]) -> T:
        until = time.monotonic() + self._patience
        while True:
            try:
                return self._connection.in_jetstream(work)
            except UnansweredError:
                if time.monotonic() > until:
                    raise
            self._connection.pause(_BETWEEN_TRIES, until - self._patience)
