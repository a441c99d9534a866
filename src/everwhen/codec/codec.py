"""Typed events to stored bytes and back.

A slice's body is a JSON array with one entry per event::

    [type, schema version, data]                     the usual entry
    [type, schema version, data, tags]               with tags
    [type, schema version, data, tags, {"id": …, "occurred_at": …, "extras": …}]

JSON because any tool can read it for as long as the file lives, and because it is as fast as
anything here. What JSON can't carry is never altered: each event is decoded again while it is
appended, and one that doesn't come back equal is refused. Of a datetime's zone, JSON has its
offset from UTC at that moment.

Between the typed event and the entry stand the codec's steps, each reversible, such as
compression, and with a vault the sealing of personal fields. Reading runs them backwards, then
upcasts, then builds the typed event.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, Protocol, TypeVar, cast
from uuid import UUID

import msgspec

from everwhen.privacy.field_encryption import (
    PERSONAL,
    SEALED,
    Flat,
    Sealing,
    flat_of,
    personal_values,
    refuse_marks,
    texts_of,
)
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.contract import (
    MAX_DEPTH,
    MAX_EVENT_BYTES,
    MAX_SLICE_BYTES,
    MAX_SLICE_EVENTS,
    EncodedSlice,
)
from everwhen.vocabulary.equality import holds_times_of_day, is_same, lost_zone
from everwhen.vocabulary.errors import (
    DeclarationError,
    DecodeError,
    InvalidEventError,
    TooDeepError,
)
from everwhen.vocabulary.events import EventType, NewEvent, UnknownEvent
from everwhen.vocabulary.nesting import (
    TOO_DEEP,
    can_be_deeper,
    is_deeper,
    is_value_deeper,
    items_of,
    members_of,
)
from everwhen.vocabulary.personal_data import Fields, personal_fields
from everwhen.vocabulary.upcasting import Upcast
from everwhen.vocabulary.validation import (
    check_occurred_at,
    check_tags,
    check_text,
    check_type_name,
)

_MAX_UPCASTS: Final = 1_000

encode_json: Final = msgspec.json.Encoder().encode
decode_json: Final = msgspec.json.decode
_decode_data: Final = msgspec.json.Decoder(dict[str, Any]).decode

_UNFIT: Final = (msgspec.MsgspecError, ValueError, TypeError, ArithmeticError)
"""What encoding, decoding or comparing a value that can't be stored raises."""


def encode_shallow(value: Any, limit: int = MAX_DEPTH) -> bytes:
    """A value as JSON. Raises `TooDeepError` where it is nested more than so many levels."""
    try:
        data = encode_json(value)
    except RecursionError:
        if is_value_deeper(value, limit):
            raise TooDeepError("it", limit) from None
        raise  # it is the caller's stack that is deep
    if is_deeper(data, limit):
        raise TooDeepError("it", limit)
    return data


class EntryMetadata(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one event carries beside its data and tags."""

    id: str | None = None
    occurred_at: datetime | None = None
    extras: dict[str, Any] | None = None


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One event in a slice's body."""

    type: str
    schema_version: int
    data: msgspec.Raw
    tags: tuple[str, ...] = ()
    metadata: EntryMetadata | None = None


_decode_entries: Final = msgspec.json.Decoder(list[Entry]).decode
decode_bodies: Final = msgspec.json.Decoder(list[list[Entry]]).decode


class DeepExtras(Mapping[str, Any]):
    """Metadata extras that are nested too deep: there, and any look at them is a `DecodeError`.

    ``text`` is what they are in JSON.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text

    def __getitem__(self, key: str) -> Any:
        raise unreadable_extras()

    def __iter__(self) -> Iterator[str]:
        raise unreadable_extras()

    def __len__(self) -> int:
        raise unreadable_extras()

    def __bool__(self) -> bool:
        return True


def unreadable_extras() -> DecodeError:
    """What looking at extras that are nested too deep raises."""
    return DecodeError(f"the metadata extras are {TOO_DEEP}; an export holds their text")


M = TypeVar("M")


def with_extras(metadata: bytes, cls: type[M]) -> M:
    """Metadata of a class from its JSON, its extras `DeepExtras` where they are."""
    if not is_deeper(metadata, MAX_DEPTH + 1):
        return decode_json(metadata, type=cls)
    members = members_of(metadata)
    extras = DeepExtras(members.pop("extras", b"{}"))
    rest = encode_json({name: msgspec.Raw(value) for name, value in members.items()})
    found: Any = decode_json(rest, type=cls)
    return cast("M", msgspec.structs.replace(found, extras=extras))


def extras_text(extras: Mapping[str, Any]) -> str:
    """Extras as JSON."""
    text = extras.text if isinstance(extras, DeepExtras) else encode_json(extras)
    return text.decode()


_ABOVE_DATA: Final = 2
"""In a body, an event's data is in its entry, which is in the list of them."""


def is_body_deeper(body: bytes) -> bool:
    """Whether some event in a slice's body may be nested deeper than is allowed."""
    return is_deeper(body, MAX_DEPTH + _ABOVE_DATA)


def decode_entries(body: bytes) -> list[Entry]:
    """A slice's body, as entries of which the data is still text.

    Extras that are nested too deep to be decoded are `DeepExtras`. Raises ``msgspec.DecodeError``
    for what is no body.
    """
    try:
        return _decode_entries(body)
    except RecursionError:
        if not is_body_deeper(body):
            raise
        return [_deep_entry(items_of(item)) for item in items_of(body)]


def _deep_entry(parts: list[bytes]) -> Entry:
    """An entry out of its parts, of which some are too deep to be decoded."""
    if not 3 <= len(parts) <= 5 or any(is_deeper(part) for part in (*parts[:2], *parts[3:4])):
        raise msgspec.DecodeError("an entry isn't made as entries are")
    metadata: EntryMetadata | None = None
    if len(parts) == 5:
        metadata = None if parts[4] == b"null" else with_extras(parts[4], EntryMetadata)
    return Entry(
        decode_json(parts[0], type=str),
        decode_json(parts[1], type=int),
        msgspec.Raw(parts[2]),
        decode_json(parts[3], type=tuple[str, ...]) if len(parts) > 3 else (),
        metadata,
    )


def deep_parts(body: bytes, entries: Sequence[Entry]) -> Iterator[tuple[int, str]]:
    """What is nested too deep in a slice: each entry's index, and which part of it is."""
    if not is_body_deeper(body):
        return
    for index, entry in enumerate(entries):
        if is_deeper(bytes(entry.data)):
            yield index, "data is"
        extras = entry.metadata.extras if entry.metadata is not None else None
        if isinstance(extras, DeepExtras) or is_value_deeper(extras):
            yield index, "metadata extras are"


class CodecStep(Protocol):
    """A reversible change to an event's data on its way to the store.

    Both ways get the type, the schema version, the event id and the data as JSON, and return
    JSON. ``decode`` undoes ``encode`` exactly, and ``encode`` gives the same bytes for the same
    arguments, or a repeated commit could not be recognised.
    """

    def encode(self, type_name: str, schema_version: int, event_id: str, data: bytes) -> bytes:
        """The data to store."""
        ...

    def decode(self, type_name: str, schema_version: int, event_id: str, data: bytes) -> bytes:
        """The data as it was given to ``encode``."""
        ...


class _Declared:
    """An event type, ready to encode and decode."""

    __slots__ = (
        "can_be_deep", "cls", "decode", "flat", "has_times", "name", "personal", "prefix", "tags",
        "version",
    )  # fmt: skip

    def __init__(self, declared: EventType[Any]) -> None:
        self.cls = declared.cls
        self.name = declared.name
        self.version = declared.version
        self.tags: Callable[[Any], Iterable[str]] | None = declared.tags
        self.prefix = b"[%s,%d," % (encode_json(declared.name), declared.version)
        self.personal: Fields | None = personal_fields(declared.cls)
        self.flat: Flat | None = None
        if self.personal is not None:
            self.flat = flat_of(declared.cls, declared.name, declared.version, self.personal)
        try:
            self.decode = msgspec.json.Decoder(declared.cls).decode
            self.has_times = holds_times_of_day(declared.cls)
        except TypeError as error:
            raise DeclarationError(f"{declared.name}: {error}") from error
        self.can_be_deep = can_be_deeper(declared.cls)


class EventTypes:
    """The event types a program knows, and how to read their older versions.

    Takes `Event` subclasses and `EventType` declarations. Raises `DeclarationError` where two
    types share a name, or an older version of a type has no upcast.
    """

    def __init__(self, *types: type[Any] | EventType[Any], upcasts: Iterable[Upcast] = ()) -> None:
        self._by_class: dict[type[Any], _Declared] = {}
        self._by_name: dict[str, _Declared] = {}
        for given in types:
            declared = given if isinstance(given, EventType) else EventType(given)
            check_type_name(declared.name, DeclarationError)
            other = self._by_name.get(declared.name)
            if other is not None:
                raise DeclarationError(
                    f"two event types are named {declared.name!r}; give one of them another name"
                )
            ready = _Declared(declared)
            self._by_class[declared.cls] = ready
            self._by_name[declared.name] = ready
        self._upcasts: dict[tuple[str, int], Upcast] = {}
        self._old_decoders: dict[tuple[str, int], Callable[[bytes], Any]] = {}
        self._personal = {(d.name, d.version): d.personal for d in self._by_name.values()}
        for upcast in upcasts:
            self._add_upcast(upcast)
        self._check_chains()

    def _add_upcast(self, upcast: Upcast) -> None:
        key = (upcast.type_name, upcast.version)
        if key in self._upcasts:
            raise DeclarationError(f"two upcasts start at {key[0]!r} version {key[1]}")
        current = self._by_name.get(upcast.type_name)
        if current is not None and current.version <= upcast.version:
            raise DeclarationError(
                f"the upcast of {key[0]!r} from version {key[1]} leads away from the current "
                f"version {current.version}; raise the class's schema_version"
            )
        self._upcasts[key] = upcast
        if upcast.old is not None:
            old = _Declared(upcast.old)
            self._old_decoders[key] = old.decode
            self._personal[key] = old.personal
            self._by_class.setdefault(upcast.old.cls, old)

    def _check_chains(self) -> None:
        for name, declared in self._by_name.items():
            for version in range(1, declared.version):
                if (name, version) not in self._upcasts:
                    raise DeclarationError(
                        f"{name!r} is at schema version {declared.version}, but nothing upcasts "
                        f"version {version}; declare Upcast({name!r}, {version}, …)"
                    )

    def current(self) -> dict[type[Any], _Declared]:
        """The declared classes that new events may have."""
        return {declared.cls: declared for declared in self._by_name.values()}

    @property
    def can_be_deep(self) -> frozenset[str]:
        """The names of the current types whose data may be nested without end."""
        return frozenset(d.name for d in self._by_name.values() if d.can_be_deep)

    @property
    def with_personal_data(self) -> list[str]:
        """The names of the types, current and old, that have personal fields."""
        return sorted({name for (name, _), fields in self._personal.items() if fields is not None})

    def personal(self, type_name: str, version: int) -> Fields | None:
        """Where events of a declared class hold personal data."""
        return self._personal.get((type_name, version))

    def is_known(self, type_name: str, version: int) -> bool:
        """Whether events stored so are read typed, by their class or by upcasting."""
        declared = self._by_name.get(type_name)
        is_current = declared is not None and declared.version == version
        return is_current or (type_name, version) in self._upcasts

    def class_of(self, type_name: str, version: int) -> type[Any] | None:
        """The class of events of a type in its current version."""
        declared = self._by_name.get(type_name)
        return None if declared is None or declared.version != version else declared.cls

    def entry_types(self, *, sealed: bool = False) -> dict[type[Any], _Declared]:
        """For each event type, the class of a slice's entry with its data typed.

        They form a tagged union: the type name, which comes first, says which class it is. Only
        current schema versions fit. With ``sealed``, the data of types with personal fields is
        left as it is.
        """
        return {
            msgspec.defstruct(
                f"{declared.cls.__name__}Entry",
                [
                    ("schema_version", Literal[declared.version]),
                    ("data", msgspec.Raw if sealed and declared.personal else declared.cls),
                    ("tags", tuple[str, ...], ()),
                    ("metadata", EntryMetadata | None, None),
                ],
                tag=name,
                tag_field="type",
                array_like=True,
                frozen=True,
                gc=False,
                namespace={"type": name},
            ): declared
            for name, declared in self._by_name.items()
        }

    @property
    def names(self) -> frozenset[str]:
        """The declared type names."""
        return frozenset(self._by_name)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    @property
    def has_upcasts(self) -> bool:
        """Whether any stored event may need one."""
        return bool(self._upcasts)

    def is_stale(self, type_name: str, version: int) -> bool:
        """Whether an event stored so has to be upcast."""
        return (type_name, version) in self._upcasts

    def stored_names(self, names: frozenset[str]) -> frozenset[str]:
        """The names under which events that read as one of ``names`` may be stored."""
        found = set(names)
        grown = True
        while grown:
            before = len(found)
            found.update(u.type_name for u in self._upcasts.values() if u.into & found)
            grown = len(found) > before
        return frozenset(found)

    def upcast(self, type_name: str, version: int, data: bytes) -> list[tuple[str, int, bytes]]:
        """The current event or events that a stored one stands for, in order.

        Raises `DecodeError` where a step fails or returns what it did not announce.
        """
        if is_deeper(data):
            raise DecodeError(_unreadable(type_name, version))
        done: list[tuple[str, int, bytes]] = []
        waiting = [(type_name, version, data)]
        for _ in range(_MAX_UPCASTS):
            if not waiting:
                return done
            item = waiting.pop()
            upcast = self._upcasts.get(item[:2])
            if upcast is None:
                done.append(item)
            else:
                waiting.extend(reversed(self._step(upcast, item[2])))
        raise DecodeError(f"upcasting {type_name!r} version {version} goes in a circle")

    def _step(self, upcast: Upcast, data: bytes) -> list[tuple[str, int, bytes]]:
        key = (upcast.type_name, upcast.version)
        try:
            if upcast.old is not None:
                result = upcast.step(self._old_decoders[key](data))
                events = result if isinstance(result, list | tuple) else [result]
                out = [self._unpacked(event) for event in events]
            else:
                result = upcast.step(_decode_data(data))
                if isinstance(result, Mapping):
                    out = [(key[0], key[1] + 1, encode_json(result))]
                else:
                    out = [self._unpacked(event) for event in result]
        except Exception as error:
            if is_interrupt(error):
                raise
            raise DecodeError(
                f"the upcast of {key[0]!r} from version {key[1]} failed: {error!r}"
            ) from error
        wrong = [name for name, _, _ in out if name not in upcast.into]
        if wrong or not out:
            raise DecodeError(
                f"the upcast of {key[0]!r} from version {key[1]} returned {wrong or 'nothing'}, "
                f"but is declared to give {sorted(upcast.into)}; name all of them in into="
            )
        return out

    def _unpacked(self, event: Any) -> tuple[str, int, bytes]:
        if isinstance(event, UnknownEvent):
            return event.type, event.schema_version, encode_json(event.data)
        declared = self._by_class.get(type(event))
        if declared is None:
            raise DeclarationError(f"{type(event).__name__} is not among the event types")
        return declared.name, declared.version, encode_json(event)

    def of(self, event: object) -> _Declared:
        """How to encode this event. Raises `InvalidEventError` for an undeclared class."""
        declared = self._by_class.get(type(event))
        if declared is None or declared is not self._by_name.get(declared.name):
            name = type(event).__name__
            raise InvalidEventError(
                f"{name} is not an event type of this store; open it with events=[…, {name}]"
            )
        return declared

    def typed(
        self, type_name: str, version: int, data: bytes, stored: tuple[str, int] | None = None
    ) -> Any:
        """The event for current data; `UnknownEvent` where the type or version is unknown.

        ``stored`` is the type and version that it was upcast from, if it was. Raises `DecodeError`
        where the data doesn't fit the class, or is nested too deep.
        """
        if is_deeper(data):
            raise DecodeError(_unreadable(type_name, version))
        declared = self._by_name.get(type_name)
        if declared is None or declared.version != version:
            return UnknownEvent(type=type_name, data=_decode_data(data), schema_version=version)
        try:
            return declared.decode(data)
        except (msgspec.DecodeError, ValueError, TypeError) as error:
            if stored is not None and stored != (type_name, version):
                raise DecodeError(
                    f"what the upcast of {stored[0]!r} from version {stored[1]} leads to doesn't "
                    f"fit the class of {type_name!r} version {version}: {error}; fix that upcast, "
                    f"or one that follows it"
                ) from error
            added = "missing required field" in str(error)
            raise DecodeError(
                f"the stored data of {type_name!r} version {version} doesn't fit its class: "
                f"{error}; raise schema_version and declare an upcast from version {version}"
                f"{', or give the new field a default' if added else ''}"
            ) from error


def declared(events: EventTypes | Iterable[Any]) -> EventTypes:
    """The event types as given, or made of a list. Raises `DeclarationError`."""
    if isinstance(events, EventTypes):
        return events
    if isinstance(events, str) or not isinstance(events, Iterable):
        raise DeclarationError(f"events={events!r}: give a list of event classes, or an EventTypes")
    return EventTypes(*events)


class Codec:
    """Event types plus the steps between them and the store."""

    def __init__(
        self,
        types: EventTypes,
        steps: Sequence[CodecStep] = (),
        sealing: Sealing | None = None,
    ) -> None:
        self.types = types
        self.steps = tuple(steps)
        self.sealing = sealing
        self.is_raw: Final = not steps and sealing is None
        self.is_plain: Final = self.is_raw and not types.has_upcasts
        self._typed_bodies: Callable[[bytes], list[list[Any]]] | None = None
        self._proven_bodies: Callable[[bytes], list[list[Any]]] | None = None
        self.sealed_entries: dict[type[Any], _Declared] = {}
        self.can_be_deep = types.can_be_deep
        self._current = {} if steps else types.current()
        current = self._current.values()
        sealed = [d for d in current if sealing is not None and d.personal is not None]
        self._flat = {d.name: d.flat for d in sealed if d.flat is not None}
        self._together = {
            d.cls: d
            for d in current
            if (d not in sealed or d.name in self._flat) and not d.has_times
        }

    def decode_typed_bodies(self, bodies: bytes) -> list[list[Any]]:
        """A JSON array of slices' bodies, with the events typed.

        Raises ``msgspec.DecodeError`` unless all of them are of declared types, in their current
        versions, stored without steps. The data of ``sealed_entries`` is still to be opened.
        """
        if self._typed_bodies is None:
            known = self.types.entry_types(sealed=self.sealing is not None)
            if self.sealing is not None and not self.steps:
                self.sealed_entries = {c: d for c, d in known.items() if d.personal is not None}
            self._typed_bodies = _bodies_decoder([] if self.steps else known)
        return self._typed_bodies(bodies)

    def _decode_proven(self, bodies: bytes) -> list[list[Any]]:
        """The same for what has not been sealed yet."""
        if self.sealing is None:
            return self.decode_typed_bodies(bodies)
        if self._proven_bodies is None:
            self._proven_bodies = _bodies_decoder(self.types.entry_types())
        return self._proven_bodies(bodies)

    def encode(
        self, stream: str, events: Sequence[Any], commit_id: bytes, first_index: int
    ) -> list[EncodedSlice]:
        """A stream's events as slices of bounded size.

        Raises `InvalidEventError` for an event that would not come back unchanged.
        """
        if len(events) == 1:
            name, own, entry = self._entry(events[0], stream, commit_id, first_index)
            return [EncodedSlice(stream, 1, b"[%b]" % entry, (name,), own)]
        together = self._encode_together(stream, events, commit_id, first_index)
        if together is not None:
            return [together]
        slices: list[EncodedSlice] = []
        entries: list[bytes] = []
        size = 0
        types: dict[str, None] = {}
        tags: dict[str, None] = {}
        for index, event in enumerate(events, first_index):
            name, own, entry = self._entry(event, stream, commit_id, index)
            if entries and (
                len(entries) >= MAX_SLICE_EVENTS or size + len(entry) > MAX_SLICE_BYTES
            ):
                slices.append(_slice(stream, entries, types, tags))
                entries, size, types, tags = [], 0, {}, {}
            entries.append(entry)
            size += len(entry)
            types[name] = None
            if own:
                tags.update(dict.fromkeys(own))
        if entries:
            slices.append(_slice(stream, entries, types, tags))
        return slices

    def _encode_together(
        self, stream: str, events: Sequence[Any], commit_id: bytes, first_index: int
    ) -> EncodedSlice | None:
        """The same slice with one call each way for all events, several times as fast.

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
            if self.sealing is not None and (SEALED in body or PERSONAL in body):
                return None
            (back,) = self._decode_proven(b"[%b]" % body)
            if [entry.data for entry in back] != list(events):
                return None
        except (KeyError, RecursionError, *_UNFIT):
            return None
        if self.sealing is not None and not types.keys().isdisjoint(self._flat):
            body = self._sealed_together(entries, commit_id, first_index)
            if len(body) > MAX_SLICE_BYTES:
                return None
        return EncodedSlice(stream, len(entries), body, tuple(types), tuple(tags))

    def _is_deeper(self, body: bytes, types: Iterable[str]) -> bool:
        """Whether some event of these types in a body may be nested deeper than is allowed."""
        return not self.can_be_deep.isdisjoint(types) and is_body_deeper(body)

    def _sealed_together(
        self, entries: list[tuple[Any, ...]], commit_id: bytes, first_index: int
    ) -> bytes:
        """The body of entries with what is personal in them sealed."""
        own_id, flat = UUID(bytes=commit_id), self._flat.get
        events = [(entry[2], flat(entry[0])) for entry in entries]
        for entry, (event, its_flat) in zip(entries, events, strict=True):
            if its_flat is not None and len(entry) > 3:
                _check_flat(entry[3], event, its_flat)
        sealed = cast("Sealing", self.sealing).seal_flat(own_id, first_index, events)
        return encode_json(
            [(*entry[:2], event, *entry[3:]) for entry, event in zip(entries, sealed, strict=True)]
        )

    def _entry(
        self, event: Any, stream: str, commit_id: bytes, index: int
    ) -> tuple[str, tuple[str, ...], bytes]:
        """The event's type name, tags and entry, proven to read back as the same event."""
        declared = self._current.get(type(event))
        if declared is None:
            return self._wrapped_entry(event, stream, commit_id, index)
        data = self._data(declared, event, stream, index)
        tags = check_tags(declared.tags(event), declared.name) if declared.tags is not None else ()
        if self.sealing is not None:
            own_id, flat = UUID(bytes=commit_id), self._flat.get(declared.name)
            if flat is not None:
                refuse_marks(data, declared.name)
                _check_flat(tags, event, flat)
                (sealed,) = self.sealing.seal_flat(own_id, index, [(event, flat)])
                data = encode_json(sealed)
            else:
                event_id = f"{own_id}/{index}"
                data = self._stepped(declared.name, declared.version, event_id, data, tags)
        if not tags:
            return declared.name, (), declared.prefix + data + b"]"
        return declared.name, tags, b"%b%b,%b]" % (declared.prefix, data, encode_json(tags))

    def _data(self, declared: _Declared, event: object, stream: str, index: int) -> bytes:
        try:
            data = encode_shallow(event)
            back = declared.decode(data)
            comes_back = back == event or is_same(event, back)
            lost = lost_zone(event) if declared.has_times or not comes_back else None
        except _UNFIT as error:
            raise InvalidEventError(
                f"event {index} ({declared.name}, for {stream!r}) can't be stored: {error}"
            ) from error
        if not comes_back or lost is not None:
            where = (
                lost or f"{_first_difference(event, back)}; declare the field with its exact type"
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

    def _wrapped_entry(
        self, event: object, stream: str, commit_id: bytes, index: int
    ) -> tuple[str, tuple[str, ...], bytes]:
        """The general case: wrapped, plain or stepped events."""
        new = event if isinstance(event, NewEvent) else NewEvent(event=event)
        inner: Any = new.event
        if isinstance(inner, UnknownEvent):
            name, version = check_type_name(inner.type, InvalidEventError), inner.schema_version
            data = self._plain_data(inner, stream, index)
            own_tags: Iterable[str] = ()
        else:
            declared = self.types.of(inner)
            name, version = declared.name, declared.version
            data = self._data(declared, inner, stream, index)
            own_tags = declared.tags(inner) if declared.tags is not None else ()
        tags = check_tags((*own_tags, *check_tags(new.tags, name)), name)
        if new.event_id is not None:
            check_text(new.event_id, "event id", InvalidEventError)
        if not self.is_raw:
            event_id = new.event_id or f"{UUID(bytes=commit_id)}/{index}"
            data = self._stepped(name, version, event_id, data, tags)
        metadata = EntryMetadata(
            new.event_id,
            check_occurred_at(new.occurred_at),
            exact_extras(new.extras) or None,
        )
        entry: list[Any] = [name, version, msgspec.Raw(data)]
        if metadata != _NO_METADATA:
            entry += [tags, metadata]
        elif tags:
            entry.append(tags)
        return name, tags, encode_json(entry)

    def _plain_data(self, event: UnknownEvent, stream: str, index: int) -> bytes:
        what = f"event {index} ({event.type}, for {stream!r})"
        version = event.schema_version
        if type(version) is not int or not 0 < version < 1 << 31:
            raise InvalidEventError(f"{what}: schema version {version!r}; versions are 1, 2, 3 …")
        try:
            data = encode_shallow(event.data)
            back = _decode_data(data)
        except _UNFIT as error:
            raise InvalidEventError(f"{what} can't be stored: {error}") from error
        if len(data) > MAX_EVENT_BYTES:
            raise InvalidEventError(f"{what} {_too_large(data)}")
        if back != event.data:
            raise InvalidEventError(
                f"{what} would read back changed: {_first_difference(event.data, back)}; "
                f"plain data is made of text, numbers, booleans, null, lists and objects"
            )
        if event.type in self.types and not self.types.is_stale(event.type, event.schema_version):
            try:
                self.types.typed(event.type, event.schema_version, data)
            except DecodeError as error:
                raise InvalidEventError(f"{what}: {error}") from error
        return data

    def _stepped(
        self, name: str, version: int, event_id: str, data: bytes, tags: tuple[str, ...]
    ) -> bytes:
        """The data as it is stored: sealed, and with every step done."""
        if self.sealing is not None:
            personal = self.types.personal(name, version)
            if personal is not None:
                if tags:
                    texts, plain = personal_values(data, personal), data
                    _check_not_in_tags(tags, texts, lambda: _open_in(plain, personal), name)
                data = self.sealing.seal(name, version, event_id, data, personal)
            elif not self.types.is_known(name, version):
                data = self.sealing.seal_plain(name, version, event_id, data)
            else:
                refuse_marks(data, name)
        for step in self.steps:
            data = step.encode(name, version, event_id, data)
        if is_deeper(data):
            raise InvalidEventError(f"{name} can't be stored: {TooDeepError('it', MAX_DEPTH)}")
        return data

    def decode_steps(self, entry: Entry, event_id: str) -> bytes:
        """The entry's data with every step undone. Raises `DecodeError` and `SealedError`."""
        name, version, data = entry.type, entry.schema_version, bytes(entry.data)
        if is_deeper(data):
            raise DecodeError(f"event {event_id}: {_unreadable(name, version)}")
        for step in reversed(self.steps):
            data = step.decode(name, version, event_id, data)
        if self.sealing is not None:
            flat = self._flat.get(name)
            if flat is not None and flat.version == version:
                return self.sealing.open_flat(event_id, data, flat)
            marked = not self.types.is_known(name, version)
            data = self.sealing.open(name, version, event_id, data, marked=marked)
        return data


_NO_METADATA: Final = EntryMetadata()


def _bodies_decoder(entries: Iterable[type[Any]]) -> Callable[[bytes], list[list[Any]]]:
    union: Any = functools.reduce(operator.or_, entries or [Entry])
    return msgspec.json.Decoder(list[list[union]]).decode


def _slice(
    stream: str, entries: list[bytes], types: Iterable[str], tags: Iterable[str]
) -> EncodedSlice:
    body = b"[%b]" % b",".join(entries)
    return EncodedSlice(stream, len(entries), body, tuple(types), tuple(tags))


def _check_not_in_tags(
    tags: tuple[str, ...], personal: list[str], in_the_open: Callable[[], list[str]], name: str
) -> None:
    """Tags are not encrypted: what is personal may not be in them, unless it is in the open anyway.

    That is where a tag has all that a field says which isn't personal, or a path above it.
    """
    for tag in tags:
        said = tag.partition(":")[2]
        if not any(
            value in (tag, said) or (len(value) >= _TELLING and value in tag) for value in personal
        ):
            continue
        if not any(text in (tag, said) or text.startswith(f"{said}/") for text in in_the_open()):
            raise InvalidEventError(
                f"a tag of {name} holds the value of one of its personal fields, and tags are "
                f"not encrypted; tag it with an id"
            )


def _check_flat(tags: tuple[str, ...], event: Any, flat: Flat) -> None:
    """The same for an event that needn't be taken apart."""
    if tags:
        texts = texts_of(event, flat)
        _check_not_in_tags(tags, texts, lambda: _open_in(encode_json(event), flat.node), flat.name)


def _open_in(data: bytes, fields: Fields) -> list[str]:
    """The texts in an event's own fields that aren't personal."""
    decoded = _decode_data(data)
    found = decoded.items() if isinstance(decoded, dict) else enumerate(decoded)
    return [value for key, value in found if key not in fields.fields and isinstance(value, str)]


_TELLING: Final = 4


def _unreadable(type_name: str, version: int) -> str:
    return (
        f"the stored data of {type_name!r} version {version} is {TOO_DEEP}; an export "
        f"holds its text"
    )


def _too_large(data: bytes) -> str:
    return (
        f"is {len(data):,} bytes encoded; the limit is {MAX_EVENT_BYTES:,}: keep large content "
        f"elsewhere, and its hash here"
    )


def exact_extras(extras: Mapping[str, Any]) -> dict[str, Any]:
    """The extras, proven to be JSON that reads back unchanged."""
    try:
        back = _decode_data(encode_shallow(extras))
    except _UNFIT as error:
        raise InvalidEventError(f"metadata extras can't be stored: {error}") from error
    if back != extras:
        raise InvalidEventError(
            f"metadata extras would read back changed: {_first_difference(extras, back)}"
        )
    return back


def _first_difference(given: Any, back: Any) -> str:
    """Where two values first differ, for people."""
    if isinstance(given, Mapping) and isinstance(back, Mapping):
        for key in given:
            if key not in back:
                return f"key {key!r} ({type(key).__name__}) becomes text"
            if not is_same(given[key], back[key]):
                return f"{key}: {_first_difference(given[key], back[key])}"
    for name in getattr(type(given), "__match_args__", ()):
        one, other = getattr(given, name), getattr(back, name, None)
        if not is_same(one, other):
            return f"{name}: {_first_difference(one, other)}"
    return f"{given!r} ({type(given).__name__}) becomes {back!r} ({type(back).__name__})"
