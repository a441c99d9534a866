"""How deep JSON and the values that become JSON are nested: bounded, and judged without recursion.

Decoders, encoders and whoever walks through a value recurse, and the interpreter ends recursion at
a limit of its own, wherever the caller's stack happens to stand. So a store has one limit that is
far below it, `MAX_DEPTH`, and what lies beyond is found by looking at brackets alone.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import accumulate
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect as types

from everwhen.vocabulary.contract import MAX_DEPTH
from everwhen.vocabulary.errors import TooDeepError

T = TypeVar("T")

TOO_DEEP: Final = f"nested more than {MAX_DEPTH} levels"

_AS_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"{}[]"))

_LEVEL_STEPS: Final = [{ord("["): 1, ord("]"): -1}.get(sign, 0) for sign in range(256)]
_CHEAP_LEVELS: Final = 4
"""Most JSON is no deeper, and replacing is faster than counting bracket by bracket."""
_TOKEN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],]', re.DOTALL)
_KEY: Final = re.compile(rb'\s*("[^"\\]*(?:\\.[^"\\]*)*")\s*:', re.DOTALL)
_CONTAINERS: Final = (dict, list, tuple, set, frozenset)


def is_deeper(data: bytes, limit: int = MAX_DEPTH) -> bool:
    """Whether JSON text has more than ``limit`` objects and lists inside one another.

    Of text that isn't JSON it may say either; of text without end that opens more, that it is.
    """
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    if b"\\" in data:
        data = data.replace(rb"\\", b"").replace(rb"\"", b"")
    outside = b"".join(data.split(b'"')[::2])
    brackets = outside.translate(_AS_ONE_KIND, _NO_BRACKETS)
    for level in range(_CHEAP_LEVELS):  # each time round, what is innermost goes
        left = brackets.replace(b"[]", b"")
        if not left:
            return level >= limit
        if len(left) == len(brackets):
            return left.count(b"[") > limit
        brackets = left
    return max(accumulate(map(_LEVEL_STEPS.__getitem__, brackets))) + _CHEAP_LEVELS > limit


def is_value_deeper(value: Any, limit: int = MAX_DEPTH) -> bool:
    """The same for a value that is to be encoded, also one that contains itself."""
    level = [value] if _is_container(value) else []
    for _ in range(limit):
        level = list({id(part): part for part in _inner(level)}.values())
        if not level:
            return False
    return bool(level)


def deep_copy(value: T, what: str) -> T:
    """A copy that shares nothing which can be changed.

    Raises `TooDeepError` for a value that is nested too deep to be copied.
    """
    try:
        return deepcopy(value)
    except RecursionError:
        if is_value_deeper(value):
            raise TooDeepError(what, MAX_DEPTH) from None
        raise  # it is the caller's stack that is deep


def _inner(values: list[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, dict):
            parts: Any = value.values()
        elif isinstance(value, _CONTAINERS):
            parts = value
        else:
            parts = [getattr(value, name, None) for name in _field_names(value)]
            parts += getattr(value, "__dict__", {}).values()
        yield from filter(_is_container, parts)


def _is_container(value: Any) -> bool:
    if isinstance(value, type | Callable):
        return False
    return isinstance(value, _CONTAINERS) or bool(_field_names(value)) or hasattr(value, "__dict__")


def _field_names(value: Any) -> tuple[str, ...]:
    cls = type(value)
    if isinstance(value, msgspec.Struct):
        return tuple(cls.__struct_fields__)
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    return tuple(field.name for field in getattr(cls, "__attrs_attrs__", ()))


def can_be_deeper(cls: type[Any], limit: int = MAX_DEPTH) -> bool:
    """Whether values of a class may be nested deeper: those that hold anything, or their own kind.

    The others need no look at what they have become.
    """
    try:
        info = types.type_info(cls)
    except Exception:  # noqa: BLE001 (a type that only its encoder knows how to take)
        return True
    return _depth_of(info, ()) > limit


def _depth_of(info: types.Type, outer: tuple[types.Type, ...]) -> float:
    """How deep values of a type are nested at most."""
    if any(info is other for other in outer):
        return float("inf")
    match info:
        case types.AnyType() | types.RawType() | types.CustomType() | types.ExtType():
            return float("inf")
        case types.Metadata():
            return _depth_of(info.type, outer)
        case types.UnionType():
            parts: list[types.Type] = list(info.types)
            return max(_depth_of(part, outer) for part in parts)
        case types.CollectionType():
            parts = [info.item_type]
        case types.TupleType():
            parts = list(info.item_types)
        case types.DictType():
            parts = [info.value_type]
        case (
            types.StructType()
            | types.DataclassType()
            | types.TypedDictType()
            | types.NamedTupleType()
        ):
            parts = [field.type for field in info.fields]
        case _:
            return 0
    return 1 + max((_depth_of(part, (*outer, info)) for part in parts), default=0)


def items_of(data: bytes) -> list[bytes]:
    """The items of a list in JSON, or an object's keys with their values, each as text.

    Raises ``msgspec.DecodeError`` for what is neither.
    """
    found: list[bytes] = []
    depth = 0
    start = -1
    for token in _TOKEN.finditer(data):
        sign = data[token.start()]
        if sign in b"[{":
            depth += 1
            if depth == 1:
                start = token.end()
        elif sign in b"]}":
            depth -= 1
            if depth == 0:
                last = data[start : token.start()].strip()
                return [*found, last] if found or last else []
        elif sign == b","[0] and depth == 1:
            found.append(data[start : token.start()].strip())
            start = token.end()
    raise msgspec.DecodeError("the JSON is cut off")


def members_of(data: bytes) -> dict[str, bytes]:
    """The members of an object in JSON, their values as text. Raises ``msgspec.DecodeError``."""
    found: dict[str, bytes] = {}
    for item in items_of(data):
        key = _KEY.match(item)
        if key is None:
            raise msgspec.DecodeError("the JSON has a member without a name")
        found[msgspec.json.decode(key[1], type=str)] = item[key.end() :].strip()
    return found
