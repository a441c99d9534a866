"""Personal data: which fields of a class hold it, and whose it is.

    class PlayerJoined(Event):
        data_subject = "player"              # the field that says whose data it is

        player: str
        name: Personal[str]
        email: Personal[str] | None = None

A store with a vault keeps such fields encrypted, under a key of their subject's own. Once the
subject is forgotten they read as `Erased`. A nested struct may name a subject of its own; one
that doesn't belongs to the subject of what it is in.

Subjects are paths: forgetting ``ann`` forgets ``ann/audit`` too. They stay in the open, in
events and in the vault: let them be ids, not names or addresses.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections import abc
from typing import (
    Annotated,
    Any,
    Final,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from everwhen.vocabulary.errors import DeclarationError

T = TypeVar("T")


class Erased(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What is read in a personal field once its subject has been forgotten."""

    subject: str = msgspec.field(name="$erased")

    def __str__(self) -> str:
        return "(erased)"


class PersonalData(msgspec.Struct, frozen=True):
    """Marks a field as personal; `Personal` does it."""


Personal: TypeAlias = Annotated[T | Erased, PersonalData()]
"""A field with personal data: of the type given, or `Erased`."""


class Plaintext(enum.Enum):
    """The type of ``PLAINTEXT``."""

    PLAINTEXT = "plaintext"

    def __repr__(self) -> str:
        return self.name


PLAINTEXT: Final = Plaintext.PLAINTEXT
"""Given as ``vault``: personal fields are to be stored unencrypted, and can't be erased."""


class Leaf(msgspec.Struct, frozen=True):
    """A value that is personal as a whole."""


class PersonalItems(msgspec.Struct, frozen=True):
    """A list or an object, each element of which may hold personal values."""

    item: PersonalNode


class Fields(msgspec.Struct, frozen=True):
    """A struct's fields with personal values, by their names in JSON (by index in a list).

    ``subject`` is the field that says whose they are; None for that of what it is in.
    """

    owner: str
    subject: str | int | None
    fields: dict[str | int, PersonalNode]


PersonalNode: TypeAlias = Leaf | PersonalItems | Fields


def personal_fields(cls: type[Any]) -> Fields | None:
    """Where values of a class hold personal data; None where they don't.

    Raises `DeclarationError` for personal data without a subject, of a type that has no place for
    `Erased`, or in the subject itself.
    """
    found = _fields_of(cls, cls.__name__, has_subject=False, seen=())
    tagging = getattr(cls, "tag_fields", ())
    if found is not None and not isinstance(tagging, str):
        for name in tagging:
            if name in found.fields:
                raise DeclarationError(
                    f"{cls.__name__}.{name} is personal, and tags are not encrypted: take it out "
                    f"of tag_fields"
                )
    return found


def _fields_of(
    cls: type[Any], where: str, *, has_subject: bool, seen: tuple[type[Any], ...]
) -> Fields | None:
    names = _names_of(cls)
    if not names or cls is Erased:
        return None
    if cls in seen:
        return None if not _mentions_personal(cls) else _recursive(where)
    declared = getattr(cls, "data_subject", None)
    subject: str | int | None = None
    if declared is not None:
        if not isinstance(declared, str) or declared not in names:
            raise DeclarationError(
                f"{where}: data_subject names {declared!r}, which is not one of its fields"
            )
        subject = names[declared]
    try:
        hints = get_type_hints(cls, include_extras=True)
    except (NameError, TypeError):
        return None  # whatever it is, its own decoder will say so
    fields: dict[str | int, PersonalNode] = {}
    for name, stored in names.items():
        node = _node_of(
            hints.get(name, Any),
            f"{where}.{name}",
            has_subject=has_subject or subject is not None,
            seen=(*seen, cls),
        )
        if node is not None:
            if name == declared:
                raise DeclarationError(
                    f"{where}.{name} says whose data it is, and can't be personal itself: let it "
                    f"be an id"
                )
            fields[stored] = node
    return Fields(cls.__name__, subject, fields) if fields else None


def _node_of(
    hint: Any, where: str, *, has_subject: bool, seen: tuple[type[Any], ...]
) -> PersonalNode | None:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        if any(isinstance(mark, PersonalData) for mark in hint.__metadata__):
            _check_leaf(hint, where, has_subject=has_subject)
            return Leaf()
        return _node_of(parts[0], where, has_subject=has_subject, seen=seen)
    if origin in (Union, types.UnionType):
        found = [_node_of(p, where, has_subject=has_subject, seen=seen) for p in parts]
        return _either([node for node in found if node is not None], where)
    if isinstance(origin, type) and issubclass(origin, abc.Collection):
        if issubclass(origin, abc.Mapping) and _is_personal(parts[0], where, seen):
            raise DeclarationError(
                f"{where}: an object's keys are not encrypted; keep personal data in its values"
            )
        inner = parts[1:] if issubclass(origin, abc.Mapping) else parts
        nodes = [_node_of(p, where, has_subject=has_subject, seen=seen) for p in inner]
        item = _either([node for node in nodes if node is not None], where)
        return None if item is None else PersonalItems(item)
    if isinstance(origin, type):
        hint = origin
    if isinstance(hint, type):
        return _fields_of(hint, where, has_subject=has_subject, seen=seen)
    return None


def _check_leaf(hint: Any, where: str, *, has_subject: bool) -> None:
    if not has_subject:
        raise DeclarationError(
            f"{where} is personal, but nothing says whose: name the field with the subject's id, "
            f'such as data_subject: ClassVar[str] = "player"'
        )
    try:
        msgspec.json.Decoder(get_args(hint)[0])
    except TypeError as error:
        raise DeclarationError(
            f"{where}: Personal[…] is for values and lists of them, where Erased can stand instead "
            f"({error}); of a struct or an object, mark the fields or values within"
        ) from error


def _is_personal(hint: Any, where: str, seen: tuple[type[Any], ...]) -> bool:
    return _node_of(hint, where, has_subject=True, seen=seen) is not None


def _either(nodes: list[PersonalNode], where: str) -> PersonalNode | None:
    """One node for all members of a union; those that a value doesn't have do no harm."""
    if not nodes:
        return None
    first = nodes[0]
    if all(node == first for node in nodes):
        return first
    structs = [node for node in nodes if isinstance(node, Fields)]
    if len(structs) < len(nodes) or len({node.subject for node in structs}) > 1:
        raise DeclarationError(
            f"{where}: the members of the union have personal data in different ways; make them "
            f"structs of one data_subject"
        )
    fields: dict[str | int, PersonalNode] = {}
    for node in structs:
        fields.update(node.fields)
    return Fields(structs[0].owner, structs[0].subject, fields)


def _names_of(cls: type[Any]) -> dict[str, str | int]:
    """A class's fields, with what they are stored under."""
    if isinstance(cls, type) and issubclass(cls, msgspec.Struct):
        config = cls.__struct_config__
        if config.array_like:
            first = 0 if config.tag is None else 1
            return {name: index for index, name in enumerate(cls.__struct_fields__, first)}
        return dict(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
    if dataclasses.is_dataclass(cls):
        return {field.name: field.name for field in dataclasses.fields(cls)}
    attributes = getattr(cls, "__attrs_attrs__", None)
    return {field.name: field.name for field in attributes} if attributes else {}


def _mentions_personal(cls: type[Any]) -> bool:
    return any("PersonalData" in repr(h) for h in get_type_hints(cls, include_extras=True).values())


def _recursive(where: str) -> Fields:
    raise DeclarationError(
        f"{where}: a type that contains itself can't have personal fields; keep them beside it"
    )
