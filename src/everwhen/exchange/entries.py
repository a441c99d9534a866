"""From imported values to commits as a backend takes them, in two forms.

In its *own* form a commit has the source's time as its ``recorded_at``; in its *late* form, for a
store that has newer events already, the store's clock gives ``recorded_at`` and the source's time
becomes each event's ``occurred_at``. Both have the same id, made from the source's content, so
that an import can be repeated after an interruption, at any point, and writes nothing twice.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from everwhen.codec.codec import Codec
from everwhen.codec.commits import Commit, Write, encoded
from everwhen.codec.json_encoding import decode_json, encode_json
from everwhen.codec.slice_bodies import decode_entries
from everwhen.commands.decisions import encrypted_command, moved_command
from everwhen.exchange.moments import micros_of, text_of
from everwhen.exchange.records import UNTIMED, ForeignEvent, RestoredCommit, RestoredEntry
from everwhen.privacy.field_encryption import FieldEncryption, TracedEncryption
from everwhen.vocabulary.contract import (
    MAX_EVENT_BYTES,
    MAX_SLICE_BYTES,
    MAX_SLICE_EVENTS,
    EncodedCommit,
    EncodedSlice,
)
from everwhen.vocabulary.errors import (
    ErasedSubjectError,
    EverwhenError,
    InvalidEventError,
    SealedError,
)
from everwhen.vocabulary.events import NewEvent, UnknownEvent
from everwhen.vocabulary.metadata import NO_METADATA, CommitMetadata, current_metadata
from everwhen.vocabulary.microseconds import from_micros, to_micros
from everwhen.vocabulary.nesting import TOO_DEEP, is_deeper
from everwhen.vocabulary.validation import (
    check_recorded_at,
    check_stream,
    check_tags,
    check_text,
    check_type_name,
)

_ORDINAL_BITS: Final = 40
"""The end of a commit id that counts the file's records: enough for 10^12 of them."""

_SECRET_BYTES: Final = 16
"""128 bits, which nobody can guess."""
_decode_moment: Final = msgspec.json.Decoder(datetime).decode
_decode_metadata: Final = msgspec.json.Decoder(CommitMetadata).decode


class _Extra(msgspec.Struct, omit_defaults=True, gc=False):
    """An entry's last part, with everything in it in JSON already."""

    id: str | None = None
    occurred_at: str | None = None
    extras: msgspec.Raw | None = None


def reads_back(moment: str) -> bool:
    """Whether the text is a moment, and stored events that say it can be read."""
    try:
        return to_micros(_decode_moment(encode_json(moment))) == micros_of(moment)
    except (ValueError, OverflowError, msgspec.DecodeError):
        return False


def uuid8(digest: bytes) -> int:
    """A UUID version 8 (RFC 9562) out of the first 16 bytes of a digest, as a number."""
    bits = int.from_bytes(digest[:16], "big")
    return bits & ~(0xF << 76 | 0x3 << 62) | 0x8 << 76 | 0x2 << 62


class Importable(Protocol):
    """A commit on its way into a store: where it begins in the file, and its own time, if any."""

    events: int
    line: int
    time: int | None

    def own(self) -> EncodedCommit:
        """With the source's time as ``recorded_at``."""
        ...

    def late(self) -> EncodedCommit:
        """With the source's time as ``occurred_at``."""
        ...


def entry_of(event: ForeignEvent | RestoredEntry, occurred_at: str | None) -> bytes:
    """The event's entry in a slice's body, just as the codec makes it."""
    entry: list[Any] = [event.type, event.schema_version, msgspec.Raw(event.data)]
    if event.event_id is not None or occurred_at is not None or event.extras is not None:
        extras = None if event.extras is None else msgspec.Raw(event.extras)
        entry += [event.tags, _Extra(event.event_id, occurred_at, extras)]
    elif event.tags:
        entry.append(event.tags)
    return encode_json(entry)


def slices_of(entries: Iterable[tuple[RestoredEntry, bytes]]) -> tuple[EncodedSlice, ...]:
    """A commit's entries as slices, cut where the codec cuts them."""
    slices: list[EncodedSlice] = []
    stream: str | None = None
    bodies: list[bytes] = []
    types: dict[str, None] = {}
    tags: dict[str, None] = {}
    size = 0
    for event, body in entries:
        full = len(bodies) >= MAX_SLICE_EVENTS or size + len(body) > MAX_SLICE_BYTES
        if bodies and stream is not None and (full or event.stream != stream):
            slices.append(_slice(stream, bodies, types, tags))
            bodies, types, tags, size = [], {}, {}, 0
        stream = event.stream
        bodies.append(body)
        size += len(body)
        types[event.type] = None
        tags.update(dict.fromkeys(event.tags))
    if stream is not None:
        slices.append(_slice(stream, bodies, types, tags))
    return tuple(slices)


def _slice(
    stream: str, bodies: list[bytes], types: Iterable[str], tags: Iterable[str]
) -> EncodedSlice:
    return EncodedSlice(stream, len(bodies), b"[%b]" % b",".join(bodies), tuple(types), tuple(tags))


class Restored:
    """A commit of an Everwhen export."""

    def __init__(self, commit: RestoredCommit, *, keep_versions: bool) -> None:
        self.events = commit.events
        self.line = commit.line
        self.time: int | None = commit.recorded_at
        self.commit = commit
        self._expected = commit.before if keep_versions else ()

    def own(self) -> EncodedCommit:
        """The commit as it was."""
        return self._encoded(self.commit.slices, self.commit.recorded_at)

    def late(self) -> EncodedCommit:
        """The commit, recorded now."""
        recorded_at = text_of(self.commit.recorded_at)
        entries = [(e, entry_of(e, e.occurred_at or recorded_at)) for e in self.commit.entries]
        return self._encoded(slices_of(entries), None)

    def _encoded(self, slices: tuple[EncodedSlice, ...], recorded_at: int | None) -> EncodedCommit:
        commit = self.commit
        return EncodedCommit(commit.id, slices, self._expected, None, commit.metadata, recorded_at)


def encrypted_again(commit: RestoredCommit, encryption: FieldEncryption) -> RestoredCommit:
    """The commit, with the personal values that are marked in it and its command encrypted.

    Raises `ErasedSubjectError`.
    """
    own = UUID(bytes=commit.id)
    encryptor = encryption.encryptor()
    entries: list[RestoredEntry] = []
    for index, entry in enumerate(commit.entries):
        own_id = entry.event_id or f"{own}/{index}"
        data = encryptor.marked(entry.type, entry.schema_version, own_id, entry.data)
        entries.append(msgspec.structs.replace(entry, data=data))
    slices = slices_of((entry, entry_of(entry, entry.occurred_at)) for entry in entries)
    metadata = _changed(commit.metadata, lambda extras: encrypted_command(extras, own, encryption))
    return msgspec.structs.replace(commit, entries=entries, slices=slices, metadata=metadata)


def settled(commit: RestoredCommit, encryption: FieldEncryption) -> RestoredCommit:
    """The commit, with a command that is encrypted in it encrypted for the id that it has here.

    A command of which the keys aren't here stays as it is.
    """
    before, now = UUID(bytes=commit.origin), UUID(bytes=commit.id)
    try:
        metadata = _changed(
            commit.metadata, lambda extras: moved_command(extras, before, now, encryption)
        )
    except SealedError:
        return commit
    return msgspec.structs.replace(commit, metadata=metadata)


def _changed(
    metadata: bytes | None, change: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> bytes | None:
    """A commit's stored metadata with other extras."""
    if metadata is None:
        return None
    decoded = _decode_metadata(metadata)
    return encode_json(msgspec.structs.replace(decoded, extras=change(decoded.extras)))


class Foreign:
    """One event of a foreign log, as a commit of its own."""

    events = 1

    def __init__(self, record: ForeignEvent, entrance: Entrance, earliest: int | None) -> None:
        self.line = record.line
        self.time = earliest if record.time == UNTIMED else record.time
        self._record = record
        self._entrance = entrance

    def own(self) -> EncodedCommit:
        """With its own time as ``recorded_at``."""
        record = self._record
        return self._entrance.commit(record, record.occurred_at, self.time)

    def late(self) -> EncodedCommit:
        """With its own time as ``occurred_at``."""
        record = self._record
        occurred_at = record.occurred_at
        if occurred_at is None and self.time is not None:
            occurred_at = text_of(self.time)
        return self._entrance.commit(record, occurred_at, None)


class Entrance:
    """Encodes a foreign log's events for one store, by the store's own codec where it matters."""

    def __init__(self, codec: Codec) -> None:
        self._encryption = (
            None if codec.encryption is None else TracedEncryption(codec.encryption.vault)
        )
        self._judging = codec
        if self._encryption is not None:
            self._judging = Codec(codec.types, codec.steps, self._encryption)
        self._codec = codec
        self._direct = (
            codec.is_raw
            and not codec.types.has_upcasts
            and not codec.types.names
            and current_metadata() is NO_METADATA
        )
        self._prefix = 0
        self.forgotten: str | None = None
        self._random = secrets.token_bytes(_SECRET_BYTES)

    @property
    def secret(self) -> bytes:
        """What only the keys of all whose data was judged tell; empty where there was no such.

        Random where one of them is gone.
        """
        if self.forgotten is not None:
            return self._random
        return b"" if self._encryption is None else self._encryption.secret

    def take_own_secret(self) -> bytes:
        """The same of the records that were judged since this was last called."""
        return b"" if self._encryption is None else self._encryption.take_own()

    def identify(self, digest: bytes) -> None:
        """Set what commit ids are made of: the digest of the source and how it was read."""
        self._prefix = uuid8(digest) >> _ORDINAL_BITS << _ORDINAL_BITS

    def refusal(self, record: ForeignEvent) -> str | None:
        """Why the store would refuse the record; None where it takes it."""
        try:
            check_stream(record.stream)
            check_type_name(record.type, InvalidEventError)
            if record.tags:
                check_tags(record.tags, record.type)
            if record.event_id is not None:
                check_text(record.event_id, "event id")
            if not 0 < record.schema_version < 1 << 31:
                return f"{record.schema_version} is not a schema version; use a number from 1"
            if record.time != UNTIMED:
                check_recorded_at(record.time)
            if record.occurred_at is not None and not reads_back(record.occurred_at):
                return f"occurred_at {record.occurred_at!r} is not an ISO 8601 time with a zone"
            if is_deeper(record.data) or is_deeper(record.extras or b""):
                return f"the event is {TOO_DEEP}; make it flatter, or leave it out"
            if self._direct:
                size = len(record.data) + len(record.extras or b"")
                if size > MAX_EVENT_BYTES - 8_192:
                    return (
                        f"the event's data is {size:,} bytes; the limit is {MAX_EVENT_BYTES:,}: "
                        f"keep large content elsewhere, and its hash here"
                    )
            else:
                self._judge(record)
        except EverwhenError as error:
            return str(error)
        return None

    def _judge(self, record: ForeignEvent) -> None:
        """Raises what the codec raises for it."""
        try:
            self._through_codec(record, record.occurred_at, 0, bytes(16), self._judging)
        except ErasedSubjectError as error:
            self.forgotten = self.forgotten or error.subject
            raise

    def commit(
        self, record: ForeignEvent, occurred_at: str | None, recorded_at: int | None
    ) -> EncodedCommit:
        """The record as a commit."""
        commit_id = (self._prefix | record.ordinal).to_bytes(16, "big")
        if not self._direct:
            return self._through_codec(record, occurred_at, recorded_at, commit_id, self._codec)
        part = EncodedSlice(
            record.stream,
            1,
            b"[%b]" % entry_of(record, occurred_at),
            (record.type,),
            record.tags,
        )
        return EncodedCommit(commit_id, (part,), (), None, None, recorded_at)

    def _through_codec(
        self,
        record: ForeignEvent,
        occurred_at: str | None,
        recorded_at: int | None,
        commit_id: bytes,
        codec: Codec,
    ) -> EncodedCommit:
        (entry,) = decode_entries(b"[%b]" % entry_of(record, occurred_at))
        metadata = entry.metadata
        event = NewEvent(
            event=UnknownEvent(record.type, decode_json(record.data), record.schema_version),
            tags=record.tags,
            occurred_at=None if metadata is None else metadata.occurred_at,
            event_id=record.event_id,
            extras={} if metadata is None else metadata.extras or {},
        )
        commit = Commit(
            (Write(record.stream, (event,)),),
            id=UUID(bytes=commit_id),
            recorded_at=None if recorded_at is None else from_micros(recorded_at),
        )
        return encoded(commit, codec, lambda: commit_id)
