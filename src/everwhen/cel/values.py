"""What values are to an expression: their types, equality, order and parts.

Values stay what they are in Python, and are looked at where they stand; nothing is converted
ahead. Records, objects and mappings are maps, sequences are lists. Scalars that CEL doesn't have
are taken for what they are written as: an enum for its value, a UUID, date or time for its text.
"""

from __future__ import annotations

import difflib
from collections import abc
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from itertools import islice
from types import ModuleType, NoneType
from typing import Any, Final
from uuid import UUID

import msgspec

from everwhen.cel.faults import MAX_DEPTH, Exhausted, Fault, Run
from everwhen.cel.syntax import UInt
from everwhen.paths import MISSING, Kind, field_names, key_text, keys_of, kind_of
from everwhen.tracking import is_stand_in, keys_to_scan, meant_by


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
def _type_of_class(cls: type[Any]) -> str:
    for base, name in _SCALARS:
        if issubclass(cls, base):
            return name
    if issubclass(cls, abc.Set):
        return "set"
    match kind_of(cls):
        case Kind.RECORD | Kind.OBJECT | Kind.MAPPING:
            return "map"
        case Kind.SEQUENCE:
            return "list"
        case _:
            return f"{cls.__module__}.{cls.__qualname__}"


def type_of(value: Any) -> str:
    """The name of the type of a value that is as CEL has it (see `scalar`)."""
    name: str = _type_of_class(value.__class__)
    return name


def shown(value: Any) -> str:
    """The type of any value, for errors."""
    name = type_of(scalar(value))
    return SHORT.get(name, name)


def equal(run: Run, left: Any, right: Any, depth: int = 0) -> bool:
    """Whether two values are equal, whatever their types; numbers on one line, others by type."""
    left, right = scalar(left), scalar(right)
    kind, other = type_of(left), type_of(right)
    run.spend(1)
    if kind in NUMBERS:
        return other in NUMBERS and _same_number(left, right)
    if kind != other:
        return False
    if depth > MAX_DEPTH:
        raise Exhausted(f"values are nested more than {MAX_DEPTH} levels deep")
    if kind == "list":
        if len(left) != len(right):
            return False
        return all(equal(run, a, b, depth + 1) for a, b in zip(left, right, strict=True))
    if kind == "map":
        return _same_map(run, left, right, depth + 1)
    if kind in ("string", "bytes", "set"):
        run.spend(len(left) >> 8)
    return bool(left == right)


def _same_number(left: Any, right: Any) -> bool:
    try:
        return bool(left == right)
    except ArithmeticError:  # a signalling NaN
        return False


def _same_map(run: Run, left: Any, right: Any, depth: int) -> bool:
    if size(left) != size(right):
        return False
    for key in keys_in(left):
        run.spend(1)
        other = find(run, right, key)
        if other is MISSING or not equal(run, find(run, left, key), other, depth):
            return False
    return True


_ORDERED: Final = frozenset(
    {"bool", "string", "bytes", "google.protobuf.Timestamp", "google.protobuf.Duration"}
)


def order(run: Run, left: Any, right: Any) -> int | None:
    """-1, 0 or 1 as left is less, equal or greater; None where one is not a number (NaN)."""
    left, right = scalar(left), scalar(right)
    kind, other = type_of(left), type_of(right)
    if not (kind == other and kind in _ORDERED) and not (kind in NUMBERS and other in NUMBERS):
        raise Fault(f"{shown(left)} and {shown(right)} have no order")
    if kind == "string":
        run.spend(len(left) >> 8)
    try:
        less, greater = left < right, left > right
    except TypeError:
        raise Fault("a time with a time zone and one without have no order") from None
    except ArithmeticError:  # a decimal that is not a number
        return None
    if less or greater:
        return -1 if less else 1
    return 0 if left == right else None


def size(value: Any) -> int:
    """How many characters, bytes, items or fields a value has."""
    value = scalar(value)
    kind = type_of(value)
    if kind not in ("string", "bytes", "list", "map", "set"):
        raise Fault(f"{shown(value)} has no size")
    if kind == "map" and kind_of(value.__class__) is not Kind.MAPPING:
        return len(list(keys_in(value)))
    return len(value)


def keys_in(value: Any) -> Iterable[Any]:
    """The keys of a map, one by one, or the names of a record's fields."""
    match kind_of(value.__class__):
        case Kind.MAPPING:
            keys: Iterable[Any] = value
            return keys
        case Kind.RECORD:
            names = field_names(value.__class__)
            return [n for n in names if n[0] != "_" and _is_set(getattr(value, n, MISSING))]
        case _:
            return [name for name in vars(value) if not name.startswith("_")]


def _is_set(value: Any) -> bool:
    return value is not MISSING and value is not msgspec.UNSET


def items_in(run: Run, value: Any) -> Iterable[Any]:
    """What a macro goes through: a list's items, a map's keys, a set's in an order of their own."""
    match type_of(value):
        case "list":
            items: Iterable[Any] = value
            return items
        case "map":
            return keys_in(value)
        case "set":
            run.spend(len(value))
            return sorted(value, key=repr)
        case _:
            raise Fault(f"{shown(value)} has no items to go through; lists, maps and sets have")


def pairs_in(run: Run, value: Any) -> Iterable[tuple[Any, Any]]:
    """What a macro of two names goes through: a map's keys and values, or indexes and items."""
    if type_of(value) == "map":
        return ((key, find(run, value, key)) for key in keys_in(value))
    return enumerate(items_in(run, value))


def find(run: Run, value: Any, key: Any) -> Any:
    """The part under a key, `MISSING` where there is none. Raises `Fault` if it can't have any."""
    match kind_of(value.__class__):
        case Kind.MAPPING:
            found = _in_mapping(run, value, key)
        case Kind.SEQUENCE:
            found = _in_sequence(value, key)
        case Kind.RECORD | Kind.OBJECT if not isinstance(value, ModuleType):
            found = _in_record(value, key)
        case _:
            raise Fault(f"{shown(value)} has no parts, so none under {key!r:.60}")
    return found if _is_set(found) else MISSING


def _in_mapping(run: Run, value: Any, key: Any) -> Any:
    if key.__class__ is bool:
        run.spend(len(value))
        return next((value[k] for k in value if k is key), MISSING)
    key = hashable(run, key)
    try:
        found = value.get(key, MISSING)
    except TypeError:
        raise Fault(f"a map has no keys of type {shown(key)}") from None
    if found is not MISSING or key.__class__ is not str or value.__class__ is MadeMap:
        return found
    if len(key) == 36 and (uuid := _uuid(key)) is not None:
        found = value.get(uuid, MISSING)
        if found is not MISSING:
            return found
    run.spend(keys_to_scan(value))
    return meant_by(value, key)


def hashable(run: Run, key: Any, depth: int = 0) -> Any:
    """A key as a mapping can have it: a tuple for a list."""
    if not isinstance(key, MadeList):
        return key
    if depth > MAX_DEPTH:
        raise Exhausted(f"a key is nested more than {MAX_DEPTH} levels deep")
    run.spend(len(key))
    return tuple(hashable(run, item, depth + 1) for item in key)


def _uuid(text: str) -> UUID | None:
    try:
        uuid = UUID(text)
    except ValueError:
        return None
    return uuid if str(uuid) == text else None


def _in_sequence(value: Any, key: Any) -> Any:
    index = scalar(key)
    if isinstance(index, str):
        names = getattr(value.__class__, "_fields", ())
        if index not in names:
            raise Fault(f"a list has no part {index[:60]!r}; give the index, a whole number from 0")
        index = names.index(index)
    if type(index) is float and index.is_integer():
        index = int(index)
    if type_of(index) not in ("int", "uint"):
        raise Fault(f"a list has no part {index!r:.60}; give the index, a whole number from 0")
    return value[index] if 0 <= index < len(value) else MISSING


def _in_record(value: Any, key: Any) -> Any:
    if not isinstance(key, str):
        raise Fault(f"a record has its parts by name, not by {shown(key)}")
    if key.startswith("_"):
        raise Fault(f"{key[:60]!r} is no field: nothing that starts with an underscore can be read")
    if key in field_names(value.__class__):
        return getattr(value, key, MISSING)
    return meant_by(value, key)


def part(run: Run, value: Any, key: Any) -> Any:
    """The part under a key. Raises `Fault` where there is none."""
    found = find(run, value, key)
    if found is not MISSING:
        return found
    kind = kind_of(value.__class__)
    if kind is Kind.SEQUENCE:
        raise Fault(lambda: f"there is no item {key!r:.60}, only {len(value)}", missing=True)
    raise Fault(lambda: _no_part(value, key), missing=kind is Kind.MAPPING)


def _no_part(value: Any, key: Any) -> str:
    is_map = kind_of(value.__class__) is Kind.MAPPING
    wrong = key_text(scalar(key))
    what = "no key" if is_map else f"{value.__class__.__name__} has no field"
    if is_stand_in(value):
        return f"{what} {wrong[:60]!r}"
    return f"{what} {wrong[:60]!r}" + suggestion(wrong, map(key_text, keys_of(value)))


def suggestion(wrong: str, names: Iterable[str]) -> str:
    """What a name was probably meant to be, or what there is; the end of a sentence."""
    known = [name for name in islice(names, 1_000) if not name.startswith("_")]
    close = difflib.get_close_matches(wrong, known, 1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there is {', '.join(known[:10]) or 'nothing'}" + (" …" if len(known) > 10 else "")
