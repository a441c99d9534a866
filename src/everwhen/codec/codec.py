"""Typed events to stored bytes and back.

Each event becomes plain data: JSON, and what goes along with it. What JSON can't carry is never
altered: each event is decoded again while it is appended, and one that doesn't come back equal is
refused. Of a datetime's zone, JSON has its offset from UTC at that moment.

Plain data goes through the steps, each reversible: the encryption of personal fields, where there
is a vault, and then a user's own, such as compression. What comes out is joined to a slice's body.
Reading undoes the steps in reverse, then upcasts, then builds the typed event.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from everwhen.codec.encryption_step import EncryptionStep
from everwhen.codec.event_types import DeclaredType, EventTypes
from everwhen.codec.json_encoding import (
    UNFIT,
    decode_object,
    encode_json,
    encode_shallow,
    exact_extras,
    first_difference,
)
from everwhen.codec.pipeline import CodecStep, EachEvent, Pipeline, StepEvent
from everwhen.codec.slice_bodies import (
    Entry,
    EntryMetadata,
    id_in_commit,
    is_body_deeper,
    text_of_id,
)
from everwhen.privacy.field_encryption import FieldEncryption
from everwhen.privacy.personal_values import ENCRYPTED
from everwhen.vocabulary.contract import (
    MAX_EVENT_BYTES,
    MAX_SLICE_BYTES,
    MAX_SLICE_EVENTS,
    EncodedSlice,
)
from everwhen.vocabulary.equality import is_same, lost_zone
from everwhen.vocabulary.errors import DecodeError, InvalidEventError
from everwhen.vocabulary.events import NewEvent, UnknownEvent
from everwhen.vocabulary.validation import (
    check_occurred_at,
    check_tags,
    check_text,
    check_type_name,
)


class TypedBodies(NamedTuple):
    """How to decode many slices' bodies with the events typed.

    ``decode`` takes a JSON array of bodies, and raises ``msgspec.DecodeError`` unless all events
    are of declared types in their current versions. The data of entries of the classes in
    ``stepped`` is still as the steps have left it.
    """

    decode: Callable[[bytes], list[list[Any]]]
    stepped: dict[type[Any], DeclaredType]


class Codec:
    """Event types, and the steps between them and the store.

    ``encryption`` is that of personal fields, and the first of the steps; None without a vault.
    """

    def __init__(
        self,
        types: EventTypes,
        steps: Sequence[CodecStep] = (),
        encryption: FieldEncryption | None = None,
    ) -> None:
        self.types = types
        self.steps = tuple(steps)
        self.encryption = encryption
        own = () if encryption is None else (EncryptionStep(types, encryption),)
        self._pipeline = Pipeline([*own, *map(EachEvent, steps)])
        self.is_raw: Final = not self._pipeline.steps
        self.is_plain: Final = self.is_raw and not types.has_upcasts
        self.can_be_deep = types.can_be_deep
        self._current = types.current()
        self._together = {d.cls: d for d in self._current.values() if not d.has_times}
        self._stepped = frozenset(
            d.name for d in self._current.values() if self._pipeline.changes(d)
        )
        self._made_typed_bodies: TypedBodies | None = None
        self._made_plain_bodies: TypedBodies | None = None
        self._unstepped = {c: d for c, d in self._current.items() if d.name not in self._stepped}

    @property
    def typed_bodies(self) -> TypedBodies:
        """How to decode what is stored, with the events typed."""
        # No `cached_property`: it makes the attributes of an instance slower to read, all of them.
        made = self._made_typed_bodies
        if made is None:
            entries = self.types.entry_types(self._stepped)
            stepped = {cls: d for cls, d in entries.items() if d.name in self._stepped}
            made = self._made_typed_bodies = TypedBodies(_bodies_decoder(entries), stepped)
        return made

    @property
    def _plain_bodies(self) -> TypedBodies:
        """The same for what hasn't been through the steps."""
        if not self._stepped:
            return self.typed_bodies
        made = self._made_plain_bodies
        if made is None:
            decode = _bodies_decoder(self.types.entry_types())
            made = self._made_plain_bodies = TypedBodies(decode, {})
        return made

    def encode(
        self, stream: str, events: Sequence[Any], commit_id: bytes, first_index: int
    ) -> list[EncodedSlice]:
        """A stream's events as slices of bounded size.

        Raises `InvalidEventError` for an event that would not come back unchanged.
        """
        if len(events) == 1:
            return [self._encode_one(stream, events[0], commit_id, first_index)]
        slices = self._encode_together(stream, events, commit_id, first_index)
        if slices is not None:
            return slices
        plain = [
            self._plain(event, stream, commit_id, index)
            for index, event in enumerate(events, first_index)
        ]
        self._pipeline.encode(plain)
        return _slices(stream, plain)

    def _encode_one(self, stream: str, event: Any, commit_id: bytes, index: int) -> EncodedSlice:
        """The slice of a single event, the usual one without a detour."""
        declared = self._unstepped.get(type(event))
        if declared is not None:
            data = self._data(declared, event, stream, index)
            if self.is_raw or self._pipeline.takes_typed(data):
                tags = self._tags(declared, event)
                if tags:
                    body = b"[%b%b,%b]]" % (declared.prefix, data, encode_json(tags))
                else:
                    body = b"[%b%b]]" % (declared.prefix, data)
                return EncodedSlice(stream, 1, body, (declared.name,), tags)
        plain = self._plain(event, stream, commit_id, index)
        self._pipeline.encode([plain])
        body = b"[%b]" % encode_json(plain.entry)
        return EncodedSlice(stream, 1, body, (plain.type_name,), plain.tags)

    def _encode_together(
        self, stream: str, events: Sequence[Any], commit_id: bytes, first_index: int
    ) -> list[EncodedSlice] | None:
        """The same slices with one call each way for all events, several times as fast.

        None where anything is out of the ordinary, for the way that looks at each event.
        """
        if not 1 < len(events) <= MAX_SLICE_EVENTS:
            return None
        known = self._together
        types: dict[str, None] = {}
        tags: dict[str, None] = {}
        entries: list[tuple[Any, ...]] = []
        try:
            for event in events:
                declared = known[type(event)]
                types[declared.name] = None
                if declared.tags is None:
                    entries.append((declared.name, declared.version, event))
                else:
                    own = check_tags(declared.tags(event), declared.name)
                    entries.append((declared.name, declared.version, event, own))
                    tags.update(dict.fromkeys(own))
            body = encode_json(entries)
            if len(body) > MAX_SLICE_BYTES or self._is_deeper(body, types):
                return None
            if not (self.is_raw or self._pipeline.takes_typed(body)):
                return None
            (back,) = self._plain_bodies.decode(b"[%b]" % body)
            if [entry.data for entry in back] != list(events):
                return None
        except (KeyError, RecursionError, *UNFIT):
            return None
        if not self._stepped.isdisjoint(types):
            commit = text_of_id(commit_id)
            plain = [
                StepEvent(entry[0], entry[1], f"{commit}/{index}", entry[2], entry[3])
                if len(entry) > 3
                else StepEvent(entry[0], entry[1], f"{commit}/{index}", entry[2])
                for index, entry in enumerate(entries, first_index)
            ]
            self._pipeline.encode(plain)
            body = encode_json([event.entry for event in plain])
            if len(body) > MAX_SLICE_BYTES:
                return _slices(stream, plain)
        return [EncodedSlice(stream, len(entries), body, tuple(types), tuple(tags))]

    def _is_deeper(self, body: bytes, types: Iterable[str]) -> bool:
        """Whether some event of these types in a body may be nested deeper than is allowed."""
        return not self.can_be_deep.isdisjoint(types) and is_body_deeper(body)

    def _plain(self, event: Any, stream: str, commit_id: bytes, index: int) -> StepEvent:
        """The event before the steps, proven to read back as the same event."""
        declared = self._current.get(type(event))
        if declared is None:
            return self._plain_new(event, stream, commit_id, index)
        data = self._data(declared, event, stream, index)
        content = self._content(declared, event, data)
        tags = self._tags(declared, event)
        own_id = "" if self.is_raw else id_in_commit(commit_id, index)
        return StepEvent(declared.name, declared.version, own_id, content, tags)

    def _plain_new(self, event: object, stream: str, commit_id: bytes, index: int) -> StepEvent:
        """The same of an event in a `NewEvent`, or of plain data."""
        new = event if isinstance(event, NewEvent) else NewEvent(event=event)
        inner: Any = new.event
        content: Any
        if isinstance(inner, UnknownEvent):
            name, version = check_type_name(inner.type, InvalidEventError), inner.schema_version
            content = self._unknown_data(inner, stream, index)
            own_tags: Iterable[str] = ()
        else:
            declared = self.types.of(inner)
            name, version = declared.name, declared.version
            content = self._content(declared, inner, self._data(declared, inner, stream, index))
            own_tags = declared.tags(inner) if declared.tags is not None else ()
        tags = check_tags((*own_tags, *check_tags(new.tags, name)), name)
        if new.event_id is not None:
            check_text(new.event_id, "event id", InvalidEventError)
        metadata = EntryMetadata(
            new.event_id,
            check_occurred_at(new.occurred_at),
            exact_extras(new.extras) or None,
        )
        own_id = new.event_id or id_in_commit(commit_id, index)
        kept = None if metadata == _NO_METADATA else metadata
        return StepEvent(name, version, own_id, content, tags, kept)

    def _tags(self, declared: DeclaredType, event: object) -> tuple[str, ...]:
        """The tags that the event's type gives it."""
        return () if declared.tags is None else check_tags(declared.tags(event), declared.name)

    def _content(self, declared: DeclaredType, event: object, data: bytes) -> Any:
        """What the steps are given: the typed event where they take it, which is faster."""
        is_stepped = declared.name in self._stepped
        return event if is_stepped and self._pipeline.takes_typed(data) else data

    def _data(self, declared: DeclaredType, event: object, stream: str, index: int) -> bytes:
        try:
            data = encode_shallow(event)
            back = declared.decode(data)
            comes_back = back == event or is_same(event, back)
            lost = lost_zone(event) if declared.has_times or not comes_back else None
        except UNFIT as error:
            raise InvalidEventError(
                f"event {index} ({declared.name}, for {stream!r}) can't be stored: {error}"
            ) from error
        if not comes_back or lost is not None:
            where = (
                lost or f"{first_difference(event, back)}; declare the field with its exact type"
            )
            if declared.personal is not None:
                where = "(not shown); declare its fields with their exact types"
            raise InvalidEventError(
                f"event {index} ({declared.name}, for {stream!r}) would read back changed: {where}"
            )
        if len(data) > MAX_EVENT_BYTES:
            raise InvalidEventError(
                f"event {index} ({declared.name}, for {stream!r}) {_too_large(data)}"
            )
        return data

    def _unknown_data(self, event: UnknownEvent, stream: str, index: int) -> bytes:
        what = f"event {index} ({event.type}, for {stream!r})"
        version = event.schema_version
        if type(version) is not int or not 0 < version < 1 << 31:
            raise InvalidEventError(f"{what}: schema version {version!r}; versions are 1, 2, 3 …")
        try:
            data = encode_shallow(event.data)
            back = decode_object(data)
        except UNFIT as error:
            raise InvalidEventError(f"{what} can't be stored: {error}") from error
        if len(data) > MAX_EVENT_BYTES:
            raise InvalidEventError(f"{what} {_too_large(data)}")
        if back != event.data:
            raise InvalidEventError(
                f"{what} would read back changed: {first_difference(event.data, back)}; "
                f"plain data is made of text, numbers, booleans, null, lists and objects"
            )
        if event.type in self.types and not self.types.is_stale(event.type, event.schema_version):
            try:
                self.types.typed(event.type, event.schema_version, data)
            except DecodeError as error:
                raise InvalidEventError(f"{what}: {error}") from error
        return data

    def decode_steps(self, entry: Entry, event_id: str) -> bytes:
        """The entry's data with every step undone. Raises `DecodeError`, also as `SealedError`."""
        return self.decode_batch([(entry, event_id)])[0]

    def decode_batch(self, entries: Iterable[tuple[Entry, str]]) -> list[bytes]:
        """The same of many entries, which come with their event ids.

        Raises `DecodeError`, of which `SealedError` is one.
        """
        events = [
            StepEvent(entry.type, entry.schema_version, event_id, bytes(entry.data))
            for entry, event_id in entries
        ]
        self._pipeline.decode(events)
        return [event.content for event in events]

    def encrypted_data(self, entry: Entry, event_id: str) -> bytes | None:
        """The entry's data as JSON with its personal values encrypted; None where it has none.

        Raises `DecodeError`.
        """
        if self.encryption is None:
            return None
        event = StepEvent(entry.type, entry.schema_version, event_id, bytes(entry.data))
        Pipeline(self._pipeline.steps[1:]).decode([event])
        return event.data if ENCRYPTED in event.data else None


_NO_METADATA: Final = EntryMetadata()


def _bodies_decoder(entries: Iterable[type[Any]]) -> Callable[[bytes], list[list[Any]]]:
    union: Any = functools.reduce(operator.or_, entries or [Entry])
    return msgspec.json.Decoder(list[list[union]]).decode


def _slices(stream: str, events: Iterable[StepEvent]) -> list[EncodedSlice]:
    """What came out of the steps, as slices of bounded size."""
    slices: list[EncodedSlice] = []
    entries: list[bytes] = []
    size = 0
    types: dict[str, None] = {}
    tags: dict[str, None] = {}
    for event in events:
        entry = encode_json(event.entry)
        if entries and (len(entries) >= MAX_SLICE_EVENTS or size + len(entry) > MAX_SLICE_BYTES):
            slices.append(_slice(stream, entries, types, tags))
            entries, size, types, tags = [], 0, {}, {}
        entries.append(entry)
        size += len(entry)
        types[event.type_name] = None
        if event.tags:
            tags.update(dict.fromkeys(event.tags))
    if entries:
        slices.append(_slice(stream, entries, types, tags))
    return slices


def _slice(
    stream: str, entries: list[bytes], types: Iterable[str], tags: Iterable[str]
) -> EncodedSlice:
    body = b"[%b]" % b",".join(entries)
    return EncodedSlice(stream, len(entries), body, tuple(types), tuple(tags))


def _too_large(data: bytes) -> str:
    return (
        f"is {len(data):,} bytes encoded; the limit is {MAX_EVENT_BYTES:,}: keep large content "
        f"elsewhere, and its hash here"
    )
