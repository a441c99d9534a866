"""Which parts of a state a condition looks at, and what it says of them alone.

A condition that is run on a stand-in for the state leaves a trace of *reads*: a part that it read
as a whole, or a part of which it only saw that it is there and of which class. As long as all of
these stay as they are, so does its answer. A read that this can't follow is one of the whole.

Truth is what the condition says of the real state; here is only found out when to ask again.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from everwhen.state.paths import MISSING, PartKind, Path, field_names, kind_of, part_of

Predicate: TypeAlias = Callable[[Any], Any]
"""Says of a state whether it holds; what it looks up in vain makes it not hold."""


class Read(msgspec.Struct, frozen=True):
    """A part that was looked at: all of it, or only its class."""

    path: Path
    whole: bool = True


Reads: TypeAlias = frozenset[Read]
EVERYTHING_READ: Final[Reads] = frozenset({Read(())})


class NotTracked(Exception):  # noqa: N818 (caught where it is raised)
    """The condition looked at a part of which nothing is known."""


def holds(condition: Predicate, state: Any) -> bool:
    """Whether the condition holds; looking up what isn't there (`LookupError`) is a no."""
    try:
        return bool(condition(state))
    except LookupError:
        return False


def reads_of(condition: Predicate, state: Any) -> Reads:
    """The parts that the condition looks at in this state.

    The whole state where its answer on the stand-in differs, or it can't work with one.
    """
    own = getattr(condition, "reads", None)
    if own is not None:
        found: Reads = own(state)
        return found
    trace: set[Read] = set()
    try:
        answer = holds(condition, _seen(state, (), trace))
    except Exception:  # noqa: BLE001 (user code, or a library, that wants the real thing)
        return EVERYTHING_READ
    if answer != holds(condition, state):
        return EVERYTHING_READ
    return _widest(trace)


def answer_from(condition: Predicate, values: Mapping[Read, Any]) -> bool:
    """What the condition says of a state of which only these parts are known.

    Raises `NotTracked` where it looks at any other.
    """
    return holds(condition, _known((), values))


def looked_at(read: Read) -> Callable[[Any], Any]:
    """A function from a state to what a read saw of it."""
    path, whole = read.path, read.whole

    def look(state: Any) -> Any:
        for key in path:
            part = _part(state, key)
            state = part_of(state, key) if part is MISSING else part
            if state is MISSING:
                return MISSING
        return state if whole else type(state)

    return look


def meant_by(value: Any, key: Any) -> Any:
    """The part that a key from outside means, as `part_of` has it; of a stand-in, noted as read."""
    if isinstance(type(value), _StandInType):
        return object.__getattribute__(value, "_source").meant(key)
    return part_of(value, key)


def keys_to_scan(value: Any) -> int:
    """How many keys of a mapping `meant_by` may have to look at. This is no read."""
    if isinstance(type(value), _StandInType):
        value = getattr(object.__getattribute__(value, "_source"), "value", ())
    return 0 if not value or isinstance(next(iter(value)), str) else len(value)


def is_stand_in(value: Any) -> bool:
    """Whether looking at the value leaves a trace, or may be in vain."""
    return isinstance(type(value), _StandInType)


def itself(value: Any) -> Any:
    """The real value of a stand-in, which is a read of all of it."""
    return _itself(value)


def watched(value: Any, path: Path, trace: set[Read]) -> Any:
    """A stand-in for a part of the state, or the part itself, leaving a trace."""
    return _seen(value, path, trace)


def widest(trace: set[Read]) -> Reads:
    """The reads of a trace, without the parts of parts that were read as a whole."""
    return _widest(trace)


def _part(value: Any, key: Any) -> Any:
    """The part that code finds under exactly this key."""
    if type(value) is dict:
        return value.get(key, MISSING)
    match kind_of(type(value)):
        case PartKind.RECORD:
            return getattr(value, key, MISSING) if isinstance(key, str) else MISSING
        case PartKind.MAPPING:
            return value.get(key, MISSING)
        case PartKind.SEQUENCE if isinstance(key, int) and -len(value) <= key < len(value):
            return value[key]
        case _:
            return MISSING


def _widest(trace: set[Read]) -> Reads:
    """Without the parts of parts that were read as a whole."""
    whole = {read.path for read in trace if read.whole}
    return frozenset(
        read
        for read in trace
        if not any(read.path[:n] in whole for n in range(len(read.path)))
        and (read.whole or read.path not in whole)
    )


def _seen(value: Any, path: Path, trace: set[Read]) -> Any:
    """What a condition gets to see of a value, leaving a trace."""
    kind = kind_of(type(value))
    if kind is PartKind.LEAF:
        trace.add(Read(path))
        return value
    trace.add(Read(path, whole=False))
    return _STAND_INS[kind](_Watched(value, path, trace))


class _Watched:
    """A value that is there, and the trace that is left by looking at it."""

    def __init__(self, value: Any, path: Path, trace: set[Read]) -> None:
        self.value, self.path, self.trace = value, path, trace
        self.cls = type(value)

    def part(self, key: Any) -> Any:
        """The part under a key, or `MISSING`."""
        path, found = (*self.path, key), _part(self.value, key)
        if found is MISSING:
            self.trace.add(Read(path))
            return MISSING
        return _seen(found, path, self.trace)

    def meant(self, key: Any) -> Any:
        """The part that a key from outside means, or `MISSING`."""
        path, found = (*self.path, key), part_of(self.value, key)
        if found is MISSING:
            self.trace.add(Read(path))
            return MISSING
        return _seen(found, path, self.trace)

    def whole(self) -> Any:
        """The value itself."""
        self.trace.add(Read(self.path))
        return self.value


class _Known:
    """A value of which only some parts are known."""

    def __init__(self, cls: type[Any], path: Path, values: Mapping[Read, Any]) -> None:
        self.cls, self.path, self.values = cls, path, values

    def part(self, key: Any) -> Any:
        """The part under a key, or `MISSING`."""
        return _known((*self.path, key), self.values)

    meant = part

    def whole(self) -> Any:
        """The value itself, which nobody knows."""
        raise NotTracked(self.path)


def _known(path: Path, values: Mapping[Read, Any]) -> Any:
    whole = values.get(Read(path), NotTracked)
    if whole is not NotTracked:
        return whole
    cls = values.get(Read(path, whole=False), NotTracked)
    if cls is MISSING:
        return MISSING
    if cls is NotTracked:
        raise NotTracked(path)
    kind = kind_of(cls)
    if kind is PartKind.LEAF:
        if cls is type(None):
            return None
        raise NotTracked(path)
    return _STAND_INS[kind](_Known(cls, path, values))


def _handed_on(name: str) -> Callable[..., Any]:
    def operation(self: Any, *others: Any) -> Any:
        value = object.__getattribute__(self, "_source").whole()
        found = getattr(type(value), name, None)
        if found is None:
            raise TypeError(f"{type(value).__name__} has no {name}")
        return found(value, *map(_itself, others))

    return operation


def _itself(value: Any) -> Any:
    """The real value of a stand-in."""
    if isinstance(type(value), _StandInType):
        return object.__getattribute__(value, "_source").whole()
    return value


_HANDED_ON: Final = (
    "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__len__", "__iter__",
    "__reversed__", "__add__", "__radd__", "__mul__", "__or__", "__and__", "__sub__", "__str__",
    "__repr__", "__format__", "__call__", "__contains__", "__hash__",
)  # fmt: skip


class _StandInType(type):
    """Marks the classes of stand-ins, whose values say that they are of another class."""


class _StandIn(metaclass=_StandInType):
    """Looks like the value; anything but looking at a part is a look at the whole."""

    __slots__ = ("_source",)

    def __init__(self, source: _Watched | _Known) -> None:
        object.__setattr__(self, "_source", source)

    def __getattribute__(self, name: str) -> Any:
        source = object.__getattribute__(self, "_source")
        if name == "__class__":
            return source.cls
        return getattr(source.whole(), name)

    def __bool__(self) -> bool:
        return bool(object.__getattribute__(self, "_source").whole())


for _name in _HANDED_ON:
    setattr(_StandIn, _name, _handed_on(_name))


class _Record(_StandIn):
    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        source = object.__getattribute__(self, "_source")
        if name in field_names(source.cls):
            part = source.part(name)
            if part is not MISSING:
                return part
        return super().__getattribute__(name)

    def __bool__(self) -> bool:
        cls = object.__getattribute__(self, "_source").cls
        if hasattr(cls, "__bool__") or hasattr(cls, "__len__"):
            return super().__bool__()
        return True


class _Collection(_StandIn):
    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        source = object.__getattribute__(self, "_source")
        if isinstance(key, slice):
            return source.whole()[key]
        part = source.part(key)
        if part is MISSING:
            raise KeyError(key) if kind_of(source.cls) is PartKind.MAPPING else IndexError(key)
        return part


class _Mapping(_Collection):
    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        return _get(self) if name == "get" else super().__getattribute__(name)

    def __contains__(self, key: Any) -> bool:
        return object.__getattribute__(self, "_source").part(key) is not MISSING

    def __iter__(self) -> Iterator[Any]:
        return iter(object.__getattribute__(self, "_source").whole())


def _get(mapping: _Mapping) -> Callable[..., Any]:
    source = object.__getattribute__(mapping, "_source")

    def get(key: Any, default: Any = None) -> Any:
        part = source.part(key)
        return default if part is MISSING else part

    return get


class _Sequence(_Collection):
    __slots__ = ()


abc.Mapping.register(_Mapping)  # so that they match the patterns that mappings and sequences do
abc.Sequence.register(_Sequence)

_STAND_INS: Final[dict[PartKind, type[_StandIn]]] = {
    PartKind.RECORD: _Record,
    PartKind.OBJECT: _StandIn,
    PartKind.MAPPING: _Mapping,
    PartKind.SEQUENCE: _Sequence,
}
