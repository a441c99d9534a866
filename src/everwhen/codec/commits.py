"""What a writer hands to a store: writes to streams, joined in a commit."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

import msgspec

from everwhen.codec.codec import Codec
from everwhen.codec.json_encoding import encode_json, exact_extras
from everwhen.vocabulary.contract import MAX_STORED_BYTES, Condition, EncodedCommit, EncodedSlice
from everwhen.vocabulary.errors import InvalidCommitError, InvalidQueryError
from everwhen.vocabulary.metadata import NO_METADATA, CommitMetadata, current_metadata, merged
from everwhen.vocabulary.microseconds import to_micros
from everwhen.vocabulary.query import Query, checked
from everwhen.vocabulary.streams import ANY, ExpectedVersion
from everwhen.vocabulary.validation import (
    check_expected,
    check_recorded_at,
    check_stream,
    check_text,
)


class Write(msgspec.Struct, frozen=True):
    """Events for one stream, and the version the writer believes it to be at.

    ``events`` holds declared events, `UnknownEvent` for plain data, or `NewEvent` around either.
    Without events it only guards: the commit is refused unless the belief holds.
    """

    stream: str
    events: Sequence[Any]
    expected: ExpectedVersion = ANY


class Commit(msgspec.Struct, frozen=True):
    """Writes that take effect together or not at all, in this order.

    A stream may be written to in turns with others; its first write says where it is believed to
    be before all of them.

    ``id`` makes the commit idempotent: given again with the same events, it returns the first
    receipt. ``metadata`` goes over what the context provides. ``recorded_at`` is for importing
    history that has its own times, and may not lie before the store's newest event.
    """

    writes: Sequence[Write]
    condition: Condition | None = None
    id: UUID | None = None
    metadata: CommitMetadata | None = None
    recorded_at: datetime | None = None


_random: Final = random.Random(os.urandom(32))  # noqa: S311  unique, not secret
os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(32)))


def new_commit_id() -> bytes:
    """A fresh UUID version 7 (RFC 9562), as its 16 bytes: ordered by time, else random.

    The random bits come from a generator seeded by the system, once per process: asking the system
    each time would give up the interpreter's lock, which is dear where many threads append.
    """
    bits = _random.getrandbits(74)
    high = time.time_ns() // 1_000_000 << 16 | 0x7000 | bits >> 62
    return (high << 64 | 0x2 << 62 | bits & 0x3FFF_FFFF_FFFF_FFFF).to_bytes(16, "big")


def encoded(commit: Commit, codec: Codec, new_id: Callable[[], bytes]) -> EncodedCommit:
    """The commit for a backend, with every rule about its content checked.

    Raises `InvalidCommitError` or `InvalidEventError`.
    """
    if not isinstance(commit, Commit):
        raise InvalidCommitError(f"expected a Commit, got {commit!r}")
    commit_id = new_id() if commit.id is None else given_id(commit.id)
    parts, beliefs = _judged(commit.writes)
    slices: list[EncodedSlice] = []
    index = 0
    for stream, events in _joined(parts):
        slices += codec.encode(stream, events, commit_id, index)
        index += len(events)
    if not slices:
        raise InvalidCommitError("a commit needs at least one event; there is nothing to append")
    metadata = _encoded_metadata(commit.metadata)
    beside = 0 if metadata is None else len(metadata)
    for part in slices:
        if len(part.body) + beside > MAX_STORED_BYTES:
            raise InvalidCommitError(
                f"stream {part.stream!r}: an event with its tags and extras, and the commit's "
                f"metadata, is {len(part.body) + beside:,} bytes; the limit is "
                f"{MAX_STORED_BYTES:,}: keep large content elsewhere, and its hash here"
            )
    return EncodedCommit(
        commit_id,
        tuple(slices),
        tuple(beliefs),
        None if commit.condition is None else _stored_condition(commit.condition, codec),
        metadata,
        None if commit.recorded_at is None else _micros(commit.recorded_at),
        commit.id is None,
    )


def _judged(
    writes: Iterable[object],
) -> tuple[list[tuple[str, Sequence[Any]]], list[tuple[str, ExpectedVersion]]]:
    """Each stream with its events, and what is believed of the versions."""
    parts: list[tuple[str, Sequence[Any]]] = []
    beliefs: list[tuple[str, ExpectedVersion]] = []
    streams: set[str] = set()
    for write in writes:
        if not isinstance(write, Write):
            raise InvalidCommitError(f"expected a list of Write, got {write!r} in it")
        stream = check_stream(write.stream)
        expected, events = write.expected, write.events
        if stream in streams and expected is not ANY:
            raise InvalidCommitError(
                f"stream {stream!r} is written again in one commit; say what you believe of its "
                f"version with its first write only"
            )
        streams.add(stream)
        if expected is not ANY:
            beliefs.append((stream, check_expected(expected, stream)))
        if type(events) is not list:
            events = _listed(events, stream)
        if events:
            parts.append((stream, events))
    return parts, beliefs


def _joined(parts: list[tuple[str, Sequence[Any]]]) -> Iterator[tuple[str, Sequence[Any]]]:
    """What follows on each other in one stream as one: an export can't tell it apart either."""
    for stream, group in groupby(parts, key=itemgetter(0)):
        first, *others = (events for _, events in group)
        yield stream, [*first, *chain.from_iterable(others)] if others else first


def _listed(events: object, stream: str) -> Sequence[Any]:
    if isinstance(events, tuple):
        return events
    if isinstance(events, str | bytes | Mapping) or not isinstance(events, Iterable):
        raise InvalidCommitError(f"stream {stream!r}: give the events as a list, not {events!r}")
    return list(events)


def given_id(commit_id: object) -> bytes:
    """The commit id's 16 bytes. Raises `InvalidCommitError` for anything but a UUID."""
    if not isinstance(commit_id, UUID):
        raise InvalidCommitError(f"commit id {commit_id!r}: use a uuid.UUID")
    return commit_id.bytes


def _encoded_metadata(given: CommitMetadata | None) -> bytes | None:
    flowing = current_metadata()
    if given is None and flowing is NO_METADATA:
        return None
    if given is not None and not isinstance(given, CommitMetadata):
        raise InvalidCommitError(f"metadata={given!r}: use a CommitMetadata")
    metadata = merged(given, flowing)
    if metadata == NO_METADATA:
        return None
    for name in ("causation_id", "correlation_id", "user_id", "source"):
        value = getattr(metadata, name)
        if value is not None:
            check_text(value, name)
    exact_extras(metadata.extras)
    return encode_json(metadata)


def _stored_condition(condition: Condition, codec: Codec) -> Condition:
    if not isinstance(condition, Condition) or not isinstance(condition.query, Query):
        raise InvalidCommitError(
            f"condition={condition!r}: use a Condition of a Query and a position"
        )
    query = condition.query
    if query != Query(query.selectors):
        raise InvalidCommitError(
            "a condition's query says which events matter (streams, categories, types, tags); "
            "its bound is the condition's position, so leave bounds, limit and direction out"
        )
    after = condition.after
    if not isinstance(after, int) or isinstance(after, bool) or after < 0:
        raise InvalidCommitError(
            f"a condition's position is a whole number, 0 or more, not {after!r}"
        )
    try:
        query = checked(query)
    except InvalidQueryError as error:
        raise InvalidCommitError(f"a condition's query: {error}") from error
    return Condition(stored_query(query, codec), after)


def stored_query(query: Query, codec: Codec) -> Query:
    """The query in terms of stored type names: with those that upcasts turn into wanted ones."""
    if not codec.types.has_upcasts:
        return query
    selectors = tuple(
        msgspec.structs.replace(s, types=codec.types.stored_names(s.types)) if s.types else s
        for s in query.selectors
    )
    return msgspec.structs.replace(query, selectors=selectors)


def _micros(moment: datetime) -> int:
    try:
        micros = to_micros(moment)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidCommitError(
            f"recorded_at={moment!r}: use a datetime with a time zone"
        ) from error
    return check_recorded_at(micros)
