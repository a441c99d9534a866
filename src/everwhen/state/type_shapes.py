"""The shape of a type: what its values are made of, as text that changes when they do.

Fields by name, type and default, all the way down; enumerations by their members. What is stored
of a value of one shape is not to be read as one of another, even where that would work. The text
is the same in every process: it holds no addresses, and no order that hashes decide.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, NewType, TypeVar

import msgspec

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_NO_DEFAULTS: Final = (msgspec.NODEFAULT, dataclasses.MISSING, None)


def shape_of(wanted: Any) -> str:
    """The shape of a type, or of whatever stands for one in an annotation."""
    return _shape(wanted, set())


def _shape(wanted: Any, seen: set[type[Any]]) -> str:
    if isinstance(wanted, NewType):
        return _shape(wanted.__supertype__, seen)
    if isinstance(wanted, TypeVar):
        inner = wanted.__constraints__ or (wanted.__bound__,)
        return f"~{wanted.__name__}({_shapes(inner, seen)})"
    value = getattr(wanted, "__value__", None)  # an alias that was made by a type statement
    if value is not None and not isinstance(wanted, type):
        return _shape(value, seen)
    origin, args = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is Annotated:
        return f"{_shape(args[0], seen)} with {_plainly(args[1:])}"
    if origin is Literal:
        return f"Literal[{_plainly(args)}]"
    if origin is typing.Union or origin is types.UnionType:
        return f"({' | '.join(_shape(arg, seen) for arg in args)})"
    if origin is not None:
        return f"{_shape(origin, seen)}[{_shapes(args, seen)}]"
    if isinstance(wanted, list | tuple):  # the arguments of a Callable, or ()
        return f"[{_shapes(wanted, seen)}]"
    return _shape_of_class(wanted, seen) if isinstance(wanted, type) else _plainly(wanted)


def _shapes(given: Iterable[Any], seen: set[type[Any]]) -> str:
    return ", ".join(_shape(one, seen) for one in given)


def _shape_of_class(cls: type[Any], seen: set[type[Any]]) -> str:
    name = cls.__qualname__
    if cls in seen:
        return f"^{name}"
    if issubclass(cls, enum.Enum):
        members = ", ".join(f"{m.name}={_plainly(m.value)}" for m in cls.__members__.values())
        return f"{name}({members})"
    fields = _fields_of(cls)
    if fields is None:
        return name
    seen.add(cls)
    hints = _hints_of(cls)
    parts = [
        f"{field}: {_shape(hints.get(field, Any), seen)}{default}" for field, default in fields
    ]
    return f"{name}{_how_stored(cls)}({', '.join(parts)})"


def _fields_of(cls: type[Any]) -> list[tuple[str, str]] | None:
    """The fields of a class with their defaults; None for a class without fields."""
    if issubclass(cls, msgspec.Struct):
        return [
            (f.name, f" as {f.encode_name}{_default(f.default, f.default_factory)}")
            for f in msgspec.structs.fields(cls)
        ]
    if dataclasses.is_dataclass(cls):
        return [(f.name, _default(f.default, f.default_factory)) for f in dataclasses.fields(cls)]
    if hasattr(cls, "__attrs_attrs__"):
        return [(f.name, f" = {_plainly(f.default)}") for f in cls.__attrs_attrs__]
    if typing.is_typeddict(cls):
        required = getattr(cls, "__required_keys__", ())
        return [(name, "" if name in required else "?") for name in cls.__annotations__]
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        defaults = getattr(cls, "_field_defaults", {})
        return [(n, f" = {_plainly(defaults[n])}" if n in defaults else "") for n in cls._fields]
    return None


def _default(value: Any, factory: Any) -> str:
    if all(value is not nothing for nothing in _NO_DEFAULTS[:2]):
        return f" = {_plainly(value)}"
    return (
        "" if any(factory is nothing for nothing in _NO_DEFAULTS) else f" = {_plainly(factory)}()"
    )


def _hints_of(cls: type[Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except Exception:  # noqa: BLE001 (a name that only a type checker knows: its text says enough)
        found: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            found |= vars(base).get("__annotations__", {})
        return found


def _how_stored(cls: type[Any]) -> str:
    config = getattr(cls, "__struct_config__", None)
    return "" if config is None else f"<{config.tag_field}={config.tag!r} {config.array_like}>"


def _plainly(value: Any) -> str:
    """A value as text that is the same in every process."""
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_plainly, value))})"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_plainly, value)))}}}"
    if isinstance(value, type) or callable(value):
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    return _ADDRESS.sub("", repr(value))
