"""Commits that came from a client, judged as those that are made here: nobody else has done it.

A client encodes, and encrypts, its events itself. What it sends is stored as it is, and read by
everybody for ever, so each body is decoded and every rule for its content applied again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from everwhen.backends.remote.messages import CommitMessage
from everwhen.codec.json_encoding import decode_json, encode_json
from everwhen.codec.slice_bodies import EntryMetadata, decode_entries, deep_parts, is_body_deeper
from everwhen.vocabulary.contract import (
    MAX_DEPTH,
    MAX_SLICE_BYTES,
    MAX_SLICE_EVENTS,
    MAX_STORED_BYTES,
    Condition,
    EncodedCommit,
    EncodedSlice,
)
from everwhen.vocabulary.errors import (
    InvalidCommitError,
    InvalidEventError,
    InvalidQueryError,
    ReadOnlyError,
)
from everwhen.vocabulary.metadata import CommitMetadata
from everwhen.vocabulary.nesting import TOO_DEEP, is_deeper
from everwhen.vocabulary.query import Query, checked
from everwhen.vocabulary.streams import ANY, MAX_POSITION, ExpectedVersion
from everwhen.vocabulary.validation import (
    check_expected,
    check_occurred_at,
    check_recorded_at,
    check_stream,
    check_tags,
    check_text,
    check_type_name,
)
from everwhen.web.access import Caller

_ID_BYTES: Final = 16
_MAX_SCHEMA_VERSION: Final = (1 << 31) - 1
_EVENT_PARTS: Final = range(3, 6)
_UNFIT: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Metadata(CommitMetadata, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A commit's metadata, and nothing else."""


class _EntryMetadata(EntryMetadata, frozen=True, forbid_unknown_fields=True):
    """An event's own metadata, and nothing else."""


def received_commit(message: CommitMessage, by: Caller) -> EncodedCommit:
    """The commit for a backend, with every rule about its content checked.

    Its id is never taken for a fresh one, and without another user it has the caller's name.
    Raises `InvalidCommitError`, `InvalidEventError`, and `ReadOnlyError` for what the caller may
    not say: a time of its own, or another's name.
    """
    if message.recorded_at is not None:
        check_operates(by, "a commit with a time of its own")
    if len(message.id) != _ID_BYTES:
        raise InvalidCommitError(f"commit id of {len(message.id)} bytes: use a UUID's 16")
    if not message.slices:
        raise InvalidCommitError("a commit needs at least one event; there is nothing to append")
    beside = 0 if message.metadata is None else len(message.metadata)
    slices = tuple(_slice(stream, body, beside) for stream, body in message.slices)
    metadata = _metadata(message.metadata, by)
    return EncodedCommit(
        message.id,
        slices,
        _beliefs(message.expected),
        None if message.condition is None else _condition(*message.condition),
        metadata,
        None if message.recorded_at is None else check_recorded_at(message.recorded_at),
    )


def _beliefs(
    expected: Sequence[tuple[str, ExpectedVersion]],
) -> tuple[tuple[str, ExpectedVersion], ...]:
    beliefs: dict[str, ExpectedVersion] = {}
    for stream, belief in expected:
        if check_stream(stream) in beliefs:
            raise InvalidCommitError(f"stream {stream!r}: two beliefs about it in one commit")
        check_expected(belief, stream)
        beliefs[stream] = min(belief, MAX_POSITION) if isinstance(belief, int) else belief
    return tuple((stream, belief) for stream, belief in beliefs.items() if belief is not ANY)


def _condition(selectors: Sequence[Any], after: int) -> Condition:
    if not 0 <= after <= MAX_POSITION:
        raise InvalidCommitError(f"a condition's position is 0 or more, not {after}")
    try:
        return Condition(checked(Query(tuple(selectors))), after)
    except InvalidQueryError as error:
        raise InvalidCommitError(f"a condition's query: {error}") from error


def check_operates(by: Caller, what: str) -> None:
    """Raises `ReadOnlyError` where the caller doesn't have the scope ``operate``."""
    if "operate" not in by.scopes:
        raise ReadOnlyError(f"{what} needs the scope 'operate'; ask whoever runs the server")


def _metadata(given: bytes | None, by: Caller) -> bytes | None:
    """The commit's metadata, which says who wrote it."""
    found = CommitMetadata() if given is None else _checked_metadata(given)
    if by.name is None or found.user_id == by.name:
        return given
    if found.user_id is not None:
        check_operates(by, f"a commit in the name of another ({found.user_id!r})")
        return given
    return encode_json(msgspec.structs.replace(found, user_id=by.name))


def _checked_metadata(metadata: bytes) -> CommitMetadata:
    if is_deeper(metadata, MAX_DEPTH + 1):
        raise InvalidCommitError(f"the commit's metadata extras are {TOO_DEEP}")
    try:
        metadata.decode()
        found = decode_json(metadata, type=_Metadata)
    except _UNFIT as error:
        raise InvalidCommitError(f"the commit's metadata can't be read: {error}") from error
    for name in ("causation_id", "correlation_id", "user_id", "source"):
        value = getattr(found, name)
        if value is not None:
            check_text(value, name)
    return found


def _slice(stream: str, body: bytes, beside: int) -> EncodedSlice:
    """A slice with what its body says: its count, types and tags."""
    check_stream(stream)
    if len(body) + beside > MAX_STORED_BYTES:
        raise InvalidCommitError(
            f"stream {stream!r}: a slice of {len(body) + beside:,} bytes with the commit's "
            f"metadata; the limit is {MAX_STORED_BYTES:,}"
        )
    entries = _entries(stream, body)
    types: dict[str, None] = {}
    tags: dict[str, None] = {}
    for index, entry in enumerate(entries):
        types[_check_event(entry, f"event {index} for {stream!r}")] = None
        tags.update(dict.fromkeys(entry[3] if len(entry) > 3 else ()))
    count = len(entries)
    if count > 1 and len(body) > MAX_SLICE_BYTES + count + 1:  # with brackets and commas
        raise InvalidCommitError(
            f"stream {stream!r}: {count} events in a slice of {len(body):,} bytes; the limit for "
            f"several is {MAX_SLICE_BYTES:,}"
        )
    return EncodedSlice(stream, count, body, tuple(types), tuple(tags))


def _entries(stream: str, body: bytes) -> list[list[Any]]:
    """The body as plain values: each of them can be given back to whoever reads it."""
    try:
        body.decode()  # which the decoder does for what it looks at only
        if is_body_deeper(body):
            for index, what in deep_parts(body, decode_entries(body)):
                raise InvalidEventError(f"event {index} for {stream!r}: its {what} {TOO_DEEP}")
        entries = decode_json(body, type=list[list[Any]])
    except _UNFIT as error:
        raise InvalidEventError(f"events for {stream!r} can't be read: {error}") from error
    if not 1 <= len(entries) <= MAX_SLICE_EVENTS or body[:1] + body[-1:] != b"[]":
        raise InvalidCommitError(
            f"stream {stream!r}: a slice is a list of 1 to {MAX_SLICE_EVENTS:,} events"
        )
    return entries


def _check_event(entry: list[Any], what: str) -> str:
    """The event's type. Raises `InvalidEventError`."""
    if len(entry) not in _EVENT_PARTS:
        raise InvalidEventError(f"{what} has {len(entry)} parts")
    name, version, data = entry[:3]
    check_type_name(name, InvalidEventError)
    if type(version) is not int or not 1 <= version <= _MAX_SCHEMA_VERSION:
        raise InvalidEventError(f"{what}: schema version {version!r}; versions are 1, 2, 3 …")
    if not isinstance(data, dict | str):  # a text is what a codec step may make of an object
        raise InvalidEventError(f"{what}: its data is no object")
    if len(entry) > 3:
        tags = entry[3]
        if not isinstance(tags, list) or len(check_tags(tags, name)) != len(tags):
            raise InvalidEventError(f"{what}: its tags are no list of different texts")
    if len(entry) > 4 and entry[4] is not None:
        _check_own_metadata(entry[4], what)
    return str(name)


def _check_own_metadata(given: Any, what: str) -> None:
    try:
        found = msgspec.convert(given, _EntryMetadata)
    except msgspec.ValidationError as error:
        raise InvalidEventError(f"{what}: its metadata can't be read: {error}") from error
    if found.id is not None:
        check_text(found.id, "event id", InvalidEventError)
    check_occurred_at(found.occurred_at)
