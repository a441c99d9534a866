"""The objects of one store on the cluster: each is some chunks, and then their description.

They have the form of NATS's own object store, so its tools know them. But several chunks are on the
way at once, and they are read by pages: nats-py waits for each one, and reads thirty times slower.
A chunk's subject has its object's name in it, so those are found whose writer died before the
description.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

import msgspec
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from everwhen.backends.jetstream.connection import Connection, UnansweredError
from everwhen.backends.jetstream.stream_setup import NO_STREAM, ApiError
from everwhen.backends.jetstream.subject_log import FULL, SubjectLog
from everwhen.vocabulary.errors import NotAStoreError, StorageFullError

T = TypeVar("T")

_CHUNK_BYTES: Final = 1 << 20
_AT_ONCE: Final = 8
"""How many chunks are on the way, and read together."""
_ANSWER_SECONDS: Final = 5.0
_BETWEEN_TRIES: Final = 0.1
_REPLACES: Final = {"Nats-Rollup": "sub"}


class _Description(msgspec.Struct, omit_defaults=True):
    """What NATS knows of an object; ``nuid`` is the end of its chunks' subject."""

    name: str
    bucket: str
    nuid: str
    size: int
    chunks: int
    digest: str = ""
    deleted: bool = False


class _Subjects(msgspec.Struct):
    subjects: dict[str, int] | None = None


class _Listed(msgspec.Struct):
    error: ApiError | None = None
    total: int = 0
    state: _Subjects = msgspec.field(default_factory=_Subjects)


_encode: Final = msgspec.json.Encoder().encode
_decode_description: Final = msgspec.json.Decoder(_Description).decode
_decode_listed: Final = msgspec.json.Decoder(_Listed).decode


class ObjectBucket:
    """The bucket, made with its first object.

    A name is made of letters, digits, and ``- / .``. Each call goes on asking for ``patience``
    seconds, then raises `UnansweredError`.
    """

    def __init__(self, connection: Connection, bucket: str, copies: int, patience: float) -> None:
        self.bucket = bucket
        self._connection = connection
        self._stream = f"OBJ_{bucket}"
        self._copies = copies
        self._patience = patience

    def put(self, name: str, data: bytes) -> None:
        """Store an object; one of that name is replaced.

        Raises `StorageFullError` where the servers have no room for it: then it isn't there.
        """
        tries = 0

        async def put(context: JetStreamContext) -> None:
            nonlocal tries
            tries += 1
            await self._make(context)
            if tries > 1:
                await context.purge_stream(self._stream, subject=self._chunks(name, "*"))
            await self._put(context, name, data)

        try:
            self._asked(put)
        except StorageFullError:
            with contextlib.suppress(UnansweredError):
                self.delete(name)
            raise

    async def _make(self, context: JetStreamContext) -> None:
        try:
            await context.stream_info(self._stream)
        except NotFoundError:
            await context.create_object_store(self.bucket, storage="file", replicas=self._copies)

    async def _put(self, context: JetStreamContext, name: str, data: bytes) -> None:
        nuid = f"{name}.{secrets.token_hex(8)}"
        size = min(_CHUNK_BYTES, self._connection.max_payload // 2)
        starts = range(0, len(data), size)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()
        made = _Description(name, self.bucket, nuid, len(data), len(starts), f"SHA-256={digest}")
        try:
            for first in range(0, len(starts), _AT_ONCE):
                sent = (
                    context.publish(f"$O.{self.bucket}.C.{nuid}", data[start : start + size])
                    for start in starts[first : first + _AT_ONCE]
                )
                places = [answer.seq for answer in await asyncio.gather(*sent)]
                if places != sorted(places):
                    raise UnansweredError(f"{self._stream}: chunks came in another order")
            await context.publish(self._description(name), _encode(made), headers=_REPLACES)
        except APIError as error:
            if error.err_code in FULL:
                raise StorageFullError(
                    f"{self._stream}: the stream takes no more ({error.description}); nothing was "
                    f"written, give it room"
                ) from error
            raise

    def read(self, name: str, most: int) -> bytes | None:
        """The object, of at most that many bytes; None where there is none, or not all of it."""
        found = self._found(name)
        if found is None or found.size > most:
            return None
        log = self._log(f"$O.{self.bucket}.C.{found.nuid}")
        data = bytearray()
        after = 0
        while len(data) < found.size:
            page = log.certain_page(after, _AT_ONCE)
            if not page:
                return None
            for message in page:
                data += message.data
            after = page[-1].seq
        return bytes(data) if len(data) == found.size else None

    def size(self, name: str) -> int | None:
        """How many bytes it has; None for one that has no description (any more)."""
        found = self._found(name)
        return None if found is None else found.size

    def _found(self, name: str) -> _Description | None:
        try:
            newest = self._log(self._description(name)).newest()
            found = None if newest is None else _decode_description(newest.data)
        except (NotAStoreError, msgspec.DecodeError):
            return None
        return None if found is None or found.deleted else found

    def names(self) -> list[str]:
        """The names of all objects, also of those of which only some chunks are there."""
        return sorted({*self._described(), *self._begun()})

    def _described(self) -> Iterator[str]:
        for subject in self._subjects("M"):
            try:
                yield base64.urlsafe_b64decode(subject).decode()
            except ValueError:  # nobody's object
                continue

    def _begun(self) -> Iterator[str]:
        for subject in self._subjects("C"):
            name, dot, _ = subject.rpartition(".")
            if dot:
                yield name

    def _subjects(self, kind: str) -> Iterator[str]:
        """The ends of all subjects of that kind."""
        prefix = f"$O.{self.bucket}.{kind}."
        seen = 0
        while True:
            listed = self._listed({"subjects_filter": f"{prefix}>", "offset": seen})
            found = listed.state.subjects or {}
            seen += len(found)
            yield from (subject.removeprefix(prefix) for subject in found)
            if not found or seen >= listed.total:
                return

    def _listed(self, question: dict[str, Any]) -> _Listed:
        until = time.monotonic() + self._patience
        while True:
            said = "no answer"
            try:
                answer = self._connection.request(
                    f"$JS.API.STREAM.INFO.{self._stream}", _encode(question), _ANSWER_SECONDS
                )
                listed = _decode_listed(answer.data)
                if listed.error is None or listed.error.err_code == NO_STREAM:
                    return listed
                said = listed.error.description
            except (UnansweredError, msgspec.DecodeError):
                pass
            if time.monotonic() > until:
                raise UnansweredError(
                    f"{self._stream}: no server that leads has answered within "
                    f"{self._patience:g} s ({said}); see that a majority of the cluster runs"
                )
            self._connection.pause(_BETWEEN_TRIES, until - self._patience)

    def delete(self, name: str) -> None:
        """Delete an object, whole or not; nothing happens where there is none."""

        async def delete(context: JetStreamContext) -> None:
            try:
                for subject in (self._description(name), self._chunks(name, "*")):
                    await context.purge_stream(self._stream, subject=subject)
            except NotFoundError:
                return

        self._asked(delete)

    def references(self, name: str) -> SubjectLog:
        """A log beside the objects, for references to them."""
        return self._log(self._chunks(name, "references"))

    def _log(self, subject: str) -> SubjectLog:
        return SubjectLog(self._connection, self._stream, subject, self._patience)

    def _description(self, name: str) -> str:
        return f"$O.{self.bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"

    def _chunks(self, name: str, token: str) -> str:
        return f"$O.{self.bucket}.C.{name}.{token}"

    def _asked(self, work: Callable[[JetStreamContext], Coroutine[Any, Any, T]]) -> T:
        until = time.monotonic() + self._patience
        while True:
            try:
                return self._connection.in_jetstream(work)
            except UnansweredError:
                if time.monotonic() > until:
                    raise
            self._connection.pause(_BETWEEN_TRIES, until - self._patience)
