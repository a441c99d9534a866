"""The event types that a program knows, and how it reads what older versions of them stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, Literal

import msgspec

from everwhen.codec.json_encoding import decode_object, encode_json
from everwhen.codec.slice_bodies import EntryMetadata
from everwhen.privacy.flat_types import FlatType, flat_type
from everwhen.system.import_paths import import_path, imported
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.equality import holds_times_of_day
from everwhen.vocabulary.errors import DeclarationError, DecodeError, InvalidEventError
from everwhen.vocabulary.events import EventType, UnknownEvent
from everwhen.vocabulary.nesting import TOO_DEEP, can_be_deeper, is_deeper
from everwhen.vocabulary.personal_data import Fields, personal_fields
from everwhen.vocabulary.upcasting import Upcast
from everwhen.vocabulary.validation import check_type_name

_MAX_UPCASTS: Final = 1_000
"""How many steps lead from one stored event to the current ones: more than any chain has, and few
enough to notice at once that one goes in a circle."""


class DeclaredType:
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
        self.flat: FlatType | None = None
        if self.personal is not None:
            self.flat = flat_type(declared.cls, declared.name, declared.version, self.personal)
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
        self._by_class: dict[type[Any], DeclaredType] = {}
        self._by_name: dict[str, DeclaredType] = {}
        self._given = types
        for given in types:
            declared = given if isinstance(given, EventType) else EventType(given)
            check_type_name(declared.name, DeclarationError)
            other = self._by_name.get(declared.name)
            if other is not None:
                raise DeclarationError(
                    f"two event types are named {declared.name!r}; give one of them another name"
                )
            ready = DeclaredType(declared)
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
            old = DeclaredType(upcast.old)
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

    def __reduce__(self) -> tuple[Any, ...]:
        path = import_path(self)
        if path is not None:
            return imported, path
        return partial(EventTypes, upcasts=[*self._upcasts.values()]), self._given

    def including(self, *types: type[Any] | EventType[Any]) -> EventTypes:
        """These, and others beside them. Raises `DeclarationError`."""
        return EventTypes(*self._given, *types, upcasts=self._upcasts.values())

    def current(self) -> dict[type[Any], DeclaredType]:
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

    def entry_types(self, raw: frozenset[str] = frozenset()) -> dict[type[Any], DeclaredType]:
        """For each event type, the class of a slice's entry with its data typed.

        They form a tagged union: the type name, which comes first, says which class it is. Only
        current schema versions fit. The data of the types named in ``raw`` is left as it is.
        """
        return {
            msgspec.defstruct(
                f"{declared.cls.__name__}Entry",
                [
                    ("schema_version", Literal[declared.version]),
                    ("data", msgspec.Raw if name in raw else declared.cls),
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
            raise DecodeError(unreadable_data(type_name, version))
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
                result = upcast.step(decode_object(data))
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

    def of(self, event: object) -> DeclaredType:
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
            raise DecodeError(unreadable_data(type_name, version))
        declared = self._by_name.get(type_name)
        if declared is None or declared.version != version:
            return UnknownEvent(type=type_name, data=decode_object(data), schema_version=version)
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


def unreadable_data(type_name: str, version: int) -> str:
    """Why an event's data can't be decoded where it is nested too deep."""
    return (
        f"the stored data of {type_name!r} version {version} is {TOO_DEEP}; an export "
        f"holds its text"
    )
