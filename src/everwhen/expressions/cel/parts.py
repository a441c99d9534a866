"""The parts of values: fields, keys, items, characters; and errors that name what there is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice
from types import ModuleType
from typing import Any
from uuid import UUID

import msgspec

from everwhen.expressions.cel.faults import MAX_EXPRESSION_DEPTH, CelFault, Exhausted, Run
from everwhen.expressions.cel.values import MadeList, MadeMap, scalar, shown, type_of
from everwhen.state.paths import MISSING, PartKind, field_names, key_text, keys_of, kind_of
from everwhen.state.read_sets import is_stand_in, keys_to_scan, meant_by


def size(value: Any) -> int:
    """How many characters, bytes, items or fields a value has."""
    value = scalar(value)
    kind = type_of(value)
    if kind not in ("string", "bytes", "list", "map", "set"):
        raise CelFault(f"{shown(value)} has no size")
    if kind == "map" and kind_of(value.__class__) is not PartKind.MAPPING:
        return len(list(keys_in(value)))
    return len(value)


def keys_in(value: Any) -> Iterable[Any]:
    """The keys of a map, one by one, or the names of a record's fields."""
    match kind_of(value.__class__):
        case PartKind.MAPPING:
            keys: Iterable[Any] = value
            return keys
        case PartKind.RECORD:
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
            raise CelFault(f"{shown(value)} has no items to go through; lists, maps and sets have")


def pairs_in(run: Run, value: Any) -> Iterable[tuple[Any, Any]]:
    """What a macro of two names goes through: a map's keys and values, or indexes and items."""
    if type_of(value) == "map":
        return ((key, find(run, value, key)) for key in keys_in(value))
    return enumerate(items_in(run, value))


def find(run: Run, value: Any, key: Any) -> Any:
    """The part under a key, or `MISSING`. Raises `CelFault` where the value can't have parts."""
    match kind_of(value.__class__):
        case PartKind.MAPPING:
            found = _in_mapping(run, value, key)
        case PartKind.SEQUENCE:
            found = _in_sequence(value, key)
        case PartKind.RECORD | PartKind.OBJECT if not isinstance(value, ModuleType):
            found = _in_record(value, key)
        case _:
            raise CelFault(f"{shown(value)} has no parts, so none under {key!r:.60}")
    return found if _is_set(found) else MISSING


def _in_mapping(run: Run, value: Any, key: Any) -> Any:
    if key.__class__ is bool:
        run.spend(len(value))
        return next((value[k] for k in value if k is key), MISSING)
    key = hashable(run, key)
    try:
        found = value.get(key, MISSING)
    except TypeError:
        raise CelFault(f"a map has no keys of type {shown(key)}") from None
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
    if depth > MAX_EXPRESSION_DEPTH:
        raise Exhausted(f"a key is nested more than {MAX_EXPRESSION_DEPTH} levels deep")
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
            raise CelFault(
                f"a list has no part {index[:60]!r}; give the index, a whole number from 0"
            )
        index = names.index(index)
    if type(index) is float and index.is_integer():
        index = int(index)
    if type_of(index) not in ("int", "uint"):
        raise CelFault(f"a list has no part {index!r:.60}; give the index, a whole number from 0")
    return value[index] if 0 <= index < len(value) else MISSING


def _in_record(value: Any, key: Any) -> Any:
    if not isinstance(key, str):
        raise CelFault(f"a record has its parts by name, not by {shown(key)}")
    if key.startswith("_"):
        raise CelFault(
            f"{key[:60]!r} is not a field: nothing that starts with an underscore can be read"
        )
    if key in field_names(value.__class__):
        return getattr(value, key, MISSING)
    return meant_by(value, key)


def part(run: Run, value: Any, key: Any) -> Any:
    """The part under a key. Raises `CelFault` where there is none."""
    found = find(run, value, key)
    if found is not MISSING:
        return found
    kind = kind_of(value.__class__)
    if kind is PartKind.SEQUENCE:
        raise CelFault(lambda: f"there is no item {key!r:.60}, only {len(value)}", missing=True)
    raise CelFault(lambda: _no_part(value, key), missing=kind is PartKind.MAPPING)


def _no_part(value: Any, key: Any) -> str:
    is_map = kind_of(value.__class__) is PartKind.MAPPING
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
