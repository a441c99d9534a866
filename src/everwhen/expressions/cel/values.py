"""What values are to an expression.

Values stay what they are in Python, and are looked at where they stand; nothing is converted
ahead. Records, objects and mappings are maps, sequences are lists. Scalars that CEL doesn't have
are taken for what they are written as: an enum for its value, a UUID, date or time for its text.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from types import NoneType
from typing import Any, Final
from uuid import UUID

from everwhen.expressions.cel.tree import UInt
from everwhen.state.paths import PartKind, kind_of


class Type:
    """A type, as a value."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Type) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


class MadeList(list[Any]):
    """A list that an expression has made."""


class MadeMap(dict[Any, Any]):
    """A map that an expression has made."""


NUMBERS: Final = frozenset({"int", "uint", "double", "decimal"})
_SCALARS: Final[tuple[tuple[type[Any], str], ...]] = (
    (bool, "bool"), (UInt, "uint"), (int, "int"), (float, "double"), (Decimal, "decimal"),
    (str, "string"), (bytes, "bytes"), (NoneType, "null_type"),
    (datetime, "google.protobuf.Timestamp"), (timedelta, "google.protobuf.Duration"),
    (Type, "type"),
)  # fmt: skip
SHORT: Final = {"google.protobuf.Timestamp": "timestamp", "google.protobuf.Duration": "duration"}


def _per_class(function: Callable[[type[Any]], Any]) -> Any:
    return lru_cache(maxsize=4096)(function)


@_per_class
def _as_written(cls: type[Any]) -> Callable[[Any], Any] | None:
    """What makes a scalar of CEL of a value of this class; None where it is fine as it is."""
    if issubclass(cls, Enum):
        return _of_enum
    if issubclass(cls, UUID):
        return str
    if (issubclass(cls, date) and not issubclass(cls, datetime)) or issubclass(cls, time):
        return lambda value: value.isoformat()
    if issubclass(cls, bytearray | memoryview):
        return bytes
    if cls in (str, bool, int, float, UInt):
        return None
    return next((plainer for base, plainer in _PLAINER.items() if issubclass(cls, base)), None)


_PLAINER: Final[dict[type[Any], Callable[[Any], Any]]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
}


def _of_enum(value: Enum) -> Any:
    written = value.value
    return written if isinstance(written, str | int) else value.name


def scalar(value: Any) -> Any:
    """The value as CEL has it; containers stay as they are."""
    written = _as_written(value.__class__)
    return value if written is None else written(value)


@_per_class
def type_of_class(cls: type[Any]) -> str:
    """The name of the type of values of a class; see `type_of`."""
    for base, name in _SCALARS:
        if issubclass(cls, base):
            return name
    if issubclass(cls, abc.Set):
        return "set"
    match kind_of(cls):
        case PartKind.RECORD | PartKind.OBJECT | PartKind.MAPPING:
            return "map"
        case PartKind.SEQUENCE:
            return "list"
        case _:
            return f"{cls.__module__}.{cls.__qualname__}"


def type_of(value: Any) -> str:
    """The name of the type of a value that is as CEL has it (see `scalar`)."""
    name: str = type_of_class(value.__class__)
    return name


def shown(value: Any) -> str:
    """The type of any value, for errors."""
    name = type_of(scalar(value))
    return SHORT.get(name, name)
