"""What an event is: a typed, immutable object with a type name and a schema version.

The documented way is a subclass of `Event`::

    class BetPlaced(Event):
        schema_version = 2              # 1 if not given
        tag_fields = ("player",)        # tags each event player:<value>

        player: int
        amount: int

Its type name is the class's own name, never its module's path, so code can move freely; a
class that must be renamed keeps its old name with ``type_name = "BetPlaced"``.

Frozen dataclasses and attrs classes are events too, declared from outside by `EventType`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar, dataclass_transform

import msgspec

from everwhen.vocabulary.errors import DeclarationError

E = TypeVar("E")


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Event(msgspec.Struct, frozen=True, gc=False):
    """Base class for events: an immutable, fast, typed record.

    Class attributes, all optional: ``type_name`` (the class's name), ``schema_version`` (1) and
    ``tag_fields``, the names of fields whose values tag the event as ``field:value``.

    Events are no concern of the garbage collector: nothing immutable leads back to itself, and
    history read by the million would set it off again and again.
    """

    type_name: ClassVar[str]
    schema_version: ClassVar[int] = 1
    tag_fields: ClassVar[tuple[str, ...]] = ()


class UnknownEvent(msgspec.Struct, frozen=True):
    """An event without a class: its type isn't declared here, or is newer than this code.

    Appending one stores plain data under a type name, for tools that have no classes.
    """

    type: str
    data: dict[str, Any]
    schema_version: int = 1


class NewEvent(msgspec.Struct, Generic[E], frozen=True, kw_only=True):
    """An event to append, with what is stored with it.

    ``tags`` are added to those that the type declares. ``occurred_at`` is when it happened
    (valid time), with a zone; unset, it is the time of recording. ``event_id`` defaults to
    ``<commit id>/<index in the commit>``. ``extras`` is JSON data of your own.
    """

    event: E
    tags: tuple[str, ...] = ()
    occurred_at: datetime | None = None
    event_id: str | None = None
    extras: Mapping[str, Any] = msgspec.field(default_factory=dict)


def typed_of(event: Any) -> Any:
    """The event itself, where it comes in a `NewEvent`."""
    return event.event if isinstance(event, NewEvent) else event


class EventType(Generic[E]):
    """A class declared as an event type: name, schema version and tags.

    `Event` subclasses declare themselves; use this for frozen dataclasses and attrs classes, or
    to give a class another name. Raises `DeclarationError` for a class that can't be an event.
    """

    __slots__ = ("cls", "name", "tags", "version")

    def __init__(
        self,
        cls: type[E],
        *,
        name: str | None = None,
        version: int | None = None,
        tags: Callable[[E], Iterable[str]] | None = None,
    ) -> None:
        if not isinstance(cls, type):
            raise DeclarationError(f"expected an event class, got {cls!r}; give the class itself")
        self.cls = cls
        declared = vars(cls).get("type_name")
        self.name: str = name or (declared if isinstance(declared, str) else cls.__name__)
        own = getattr(cls, "schema_version", 1) if issubclass(cls, Event) else 1
        self.version: int = version if version is not None else own
        self.tags = tags or _declared_tags(cls)
        _check_class(cls)
        if not isinstance(self.version, int) or self.version < 1:
            raise DeclarationError(
                f"{cls.__name__}: schema version {self.version!r}; versions are 1, 2, 3 …"
            )

    def __repr__(self) -> str:
        return f"EventType({self.cls.__name__}, name={self.name!r}, version={self.version})"


def _declared_tags(cls: type[E]) -> Callable[[E], Iterable[str]] | None:
    if not issubclass(cls, Event) or not cls.tag_fields:
        return None
    fields = cls.tag_fields
    unknown = [f for f in fields if f not in cls.__struct_fields__]
    if unknown:
        raise DeclarationError(
            f"{cls.__name__}.tag_fields names {unknown[0]!r}, which is not one of its fields "
            f"({', '.join(cls.__struct_fields__)})"
        )
    return partial(_tags_of, fields)


def _tags_of(fields: tuple[str, ...], event: object) -> list[str]:
    return [f"{f}:{getattr(event, f)}" for f in fields]


def _check_class(cls: type[Any]) -> None:
    """Immutable and comparable, or its events could change without the store's knowledge."""
    if issubclass(cls, msgspec.Struct):
        frozen, eq = cls.__struct_config__.frozen, cls.__struct_config__.eq
        fix = "frozen=True"
    elif dataclasses.is_dataclass(cls):
        params = vars(cls)["__dataclass_params__"]
        frozen, eq = params.frozen, params.eq
        fix = "@dataclass(frozen=True)"
    elif hasattr(cls, "__attrs_attrs__"):
        props = getattr(cls, "__attrs_props__", None)
        frozen = props is None or props.is_frozen
        eq = "__eq__" in vars(cls)
        fix = "@attrs.frozen"
    else:
        raise DeclarationError(
            f"{cls.__name__} can't be an event type: subclass everwhen.Event, or use a frozen "
            f"dataclass or attrs class"
        )
    if not frozen:
        raise DeclarationError(f"{cls.__name__} is mutable; events never change: use {fix}")
    if not eq:
        raise DeclarationError(f"{cls.__name__} can't be compared; events need eq=True")
