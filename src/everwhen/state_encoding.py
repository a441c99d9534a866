"""States to bytes and back, exactly: the value that comes back is the one that went in, or none is.

Most states go through msgpack as they are, typed on the way back. msgpack has moments in UTC only;
a state with others is written with each moment as an extension, which holds its zone as well.
"""

from __future__ import annotations

import dataclasses
import functools
from array import array
from collections import abc, deque
from collections.abc import Callable, Iterator
from datetime import datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, Final, TypeAlias, get_args, get_origin
from zoneinfo import ZoneInfo

import msgspec

from everwhen.contract import MAX_DEPTH
from everwhen.errors import TooDeepError
from everwhen.fold import is_immutable
from everwhen.paths import MISSING, Path, text_of

UNFIT: Final = (
    msgspec.MsgspecError,
    NotImplementedError,
    ValueError,
    TypeError,
    LookupError,
    RecursionError,
    ArithmeticError,
)
"""What encoding, decoding or comparing a state that can't be stored raises."""

_PLAIN: Final = frozenset({int, str, bytes, float, bool, type(None)})
_MOMENT: Final = 1
_PAIRS: Final = 2


def _plain(value: Any) -> Any:
    """Collections that msgspec doesn't know, such as persistent maps, as those that it does."""
    if isinstance(value, abc.Mapping):
        return dict(value)
    if isinstance(value, abc.Set | abc.Sequence) and not isinstance(value, str | bytes):
        return list(value)
    raise NotImplementedError(f"nothing is known of how to store a {type(value).__name__}")


def _restored(wanted: Any, value: Any) -> Any:
    """The collection of a type that msgspec doesn't know."""
    collection, parts = get_origin(wanted) or wanted, get_args(wanted)
    if not (isinstance(collection, type) and issubclass(collection, abc.Collection)):
        raise NotImplementedError(f"nothing is known of how to read a {wanted}")
    known: Any = dict if issubclass(collection, abc.Mapping) else list
    back = msgspec.convert(value, known[parts] if parts else known, dec_hook=_restored)
    return collection(back)  # type: ignore[call-arg]


encode: Final = msgspec.msgpack.Encoder(enc_hook=_plain).encode


class Encoded(msgspec.Struct, frozen=True):
    """A state in bytes, and whether its moments are extensions."""

    data: bytes
    zoned: bool


def encoded(state: Any, state_type: Any) -> Encoded:
    """A state in bytes, proven to come back as it is.

    Raises `ValueError` that says which part would not, or what msgspec raises.
    """
    shared = _shared_part(state)
    if shared is not None:
        raise ValueError(
            f"{text_of(shared)} is the same object as another part of it, which a change in place "
            f"would change with it; copy it where it is put in, or give the fold an immutable state"
        )
    difference: str | None = "it can't be encoded"
    failure: Exception | None = None
    for zoned in (False, True):
        try:
            found = Encoded(_with_zones(state) if zoned else encode(state), zoned)
            difference = _difference(state, decoded(found, state_type))
        except RecursionError:
            raise TooDeepError("it", MAX_DEPTH) from None
        except UNFIT as error:
            failure = failure or error
            continue
        if difference is None:
            return found
    raise failure or ValueError(difference)


def decoded(stored: Encoded, state_type: Any) -> Any:
    """The state. Raises one of `UNFIT`."""
    if not stored.zoned:
        return msgspec.msgpack.decode(stored.data, type=state_type, dec_hook=_restored)
    plain = msgspec.msgpack.decode(stored.data, ext_hook=_unmarked)
    return msgspec.convert(plain, state_type, dec_hook=_restored)


_Zone: TypeAlias = str | tuple[int, int, str | None] | None
"""A zone's name; or an offset in seconds and microseconds, and its name if it has one."""


class _Moment(msgspec.Struct, array_like=True):
    clock: str
    fold: int
    zone: _Zone
    is_time: bool = False


def _with_zones(state: Any) -> bytes:
    """A state with each moment as an extension."""
    builtin: Any = (bytes, bytearray, datetime, time)
    return encode(_marked(msgspec.to_builtins(state, builtin_types=builtin, enc_hook=_plain)))


def _marked(value: Any) -> Any:
    cls = type(value)
    if cls is dict:
        if {datetime, time}.isdisjoint(map(type, value)):
            return {key: _marked(part) for key, part in value.items()}
        pairs = [(_marked(key), _marked(part)) for key, part in value.items()]
        return msgspec.msgpack.Ext(_PAIRS, encode(pairs))  # an extension is no key
    if cls is list or cls is tuple:
        return cls(map(_marked, value))
    if cls is not datetime and cls is not time:
        return value
    zone = _zone_of(value.tzinfo)
    clock = value.replace(tzinfo=None).isoformat()
    return msgspec.msgpack.Ext(
        _MOMENT, msgspec.msgpack.encode(_Moment(clock, value.fold, zone, cls is time))
    )


def _zone_of(zone: tzinfo | None) -> _Zone:
    if zone is None:
        return None
    if type(zone) is ZoneInfo and zone.key:
        return zone.key
    if type(zone) is not timezone:
        raise ValueError(f"a moment's zone is a {type(zone).__name__}; use zoneinfo or an offset")
    offset = zone.utcoffset(None)
    named = zone if timezone(offset).tzname(None) != zone.tzname(None) else None
    name = None if named is None else named.tzname(None)
    return offset.days * 86_400 + offset.seconds, offset.microseconds, name


def _unmarked(code: int, data: memoryview) -> Any:
    if code == _PAIRS:
        return dict(msgspec.msgpack.decode(data, ext_hook=_unmarked))
    if code != _MOMENT:
        raise ValueError(f"extension {code} is unknown")
    moment = msgspec.msgpack.decode(data, type=_Moment)
    zone: tzinfo | None = None
    if isinstance(moment.zone, str):
        zone = ZoneInfo(moment.zone)
    elif moment.zone is not None:
        seconds, micros, name = moment.zone
        offset = timedelta(seconds=seconds, microseconds=micros)
        zone = timezone(offset) if name is None else timezone(offset, name)
    cls: Any = time if moment.is_time else datetime
    return cls.fromisoformat(moment.clock).replace(tzinfo=zone, fold=moment.fold)


def _shared_part(state: Any) -> Path | None:
    """Where an object that can be changed in place is in a state for the second time.

    The state itself is taken at its word that it is immutable, and so is each part of it.
    """
    seen: set[int] = set()
    waiting: list[tuple[Path, Any]] = [((), state)]
    while waiting:
        path, value = waiting.pop()
        if type(value) in _PLAIN or is_immutable(value):
            continue
        if id(value) in seen:
            return path
        seen.add(id(value))
        waiting += [((*path, key), part) for key, part in _parts(value)]
    return None


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, abc.Mapping):
        yield from value.items()
    elif isinstance(value, abc.Sequence) and not isinstance(value, str | bytes | bytearray):
        yield from enumerate(value)
    else:
        yield from ((name, getattr(value, name)) for name in _names_of(value))


def _names_of(value: Any) -> list[str]:
    """The names of a record's fields, and of what else was set in it."""
    cls = type(value)
    names = list(getattr(cls, "__struct_fields__", ()))
    if dataclasses.is_dataclass(cls):
        names += [field.name for field in dataclasses.fields(cls)]
    names += [field.name for field in getattr(cls, "__attrs_attrs__", ())]
    own = getattr(value, "__dict__", {})
    derived = functools.cached_property
    names += [name for name in own if not isinstance(getattr(cls, name, None), derived)]
    return [name for name in dict.fromkeys(names) if hasattr(value, name)]


def _difference(state: Any, back: Any) -> str | None:
    """Where two values differ, be it only in a type, a zone or an order; None if nowhere."""
    waiting: list[tuple[Path, Any, Any]] = [((), state, back)]
    while waiting:
        path, one, other = waiting.pop()
        found = _compared(one, other)
        if isinstance(found, str):
            return f"{text_of(path) or 'it'}{found}"
        waiting += [((*path, key), part, its) for key, part, its in found]
    return None


_Pairs: TypeAlias = list[tuple[Any, Any, Any]]
"""Parts that are to be compared: what leads there, and what is there on both sides."""


def _compared(one: Any, other: Any) -> str | _Pairs:
    """How two values differ in themselves, or their parts."""
    cls = type(one)
    if one is other:
        return []
    if cls is not type(other):
        theirs = "nothing" if other is MISSING else type(other).__name__
        return f": {cls.__name__} would come back as {theirs}"
    exact = _EXACT.get(cls)
    if exact is not None:
        return [] if exact(one) == exact(other) else f": {one!r} would come back as {other!r}"
    if isinstance(one, dict | list | tuple) and _are_same_leaves(one, other):
        return _own_parts(one, other)
    if isinstance(one, abc.Mapping):
        return _of_mappings(one, other)
    if isinstance(one, abc.Set):
        its = {item: item for item in other}
        pairs = [(item, item, its.get(item, MISSING)) for item in one]
        return pairs if len(one) == len(other) else f" has {len(one)} items, and not {len(other)}"
    if isinstance(one, abc.Sequence) and not isinstance(one, str | bytes | bytearray):
        if len(one) != len(other) or getattr(one, "maxlen", 0) != getattr(other, "maxlen", 0):
            return " has another length"
        pairs = list(zip(range(len(one)), one, other, strict=True))
        return pairs + _own_parts(one, other)
    names = _names_of(one)
    if names or _names_of(other):
        return _own_parts(one, other) if names == _names_of(other) else " has other fields"
    return [] if one == other else f": {one!r} would come back as {other!r}"


def _own_parts(one: Any, other: Any) -> _Pairs:
    """The fields of records, and what was set on collections of a class of one's own."""
    if type(one) in (dict, list, tuple, deque):
        return []
    names = dict.fromkeys((*_names_of(one), *_names_of(other)))
    return [(n, getattr(one, n, MISSING), getattr(other, n, MISSING)) for n in names]


def _of_mappings(one: Any, other: Any) -> str | _Pairs:
    if isinstance(one, dict):
        keys, theirs = list(one), list(other)
        if len(keys) != len(theirs):
            return f" has {len(keys)} keys, and not {len(theirs)}"
        pairs = [(key, key, its) for key, its in zip(keys, theirs, strict=True)]
        values = [(key, part, other.get(key, MISSING)) for key, part in one.items()]
        return pairs + values + _own_parts(one, other)
    found = {key: key for key in other}
    if len(one) != len(found):
        return f" has {len(one)} keys, and not {len(found)}"
    pairs = [(key, key, found.get(key, MISSING)) for key in one]
    return pairs + [(key, one[key], other[key]) for key in one if key in found]


def _are_same_leaves(one: Any, other: Any) -> bool:
    """Whether collections are of the same plain leaves in the same order, at the speed of C.

    False where it doesn't show that way.
    """
    if isinstance(one, dict):
        if list(one) != list(other) or [*map(type, one)] != [*map(type, other)]:
            return False
        if not _PLAIN.issuperset(map(type, one)) or float in map(type, one):
            return False
        one, other = [*one.values()], [*other.values()]
    kinds = [*map(type, one)]
    if not _PLAIN.issuperset(kinds) or kinds != [*map(type, other)]:
        return False
    if float in kinds:
        floats, theirs = ([v for v in side if type(v) is float] for side in (one, other))
        if array("d", floats).tobytes() != array("d", theirs).tobytes():
            return False
        one, other = ([v for v in side if type(v) is not float] for side in (one, other))
    return bool(one == other)


def _zone_text(zone: tzinfo | None) -> Any:
    return (type(zone), repr(zone), None if type(zone) in (timezone, ZoneInfo) else id(zone))


def _of_moment(moment: datetime | time) -> Any:
    return (moment.replace(tzinfo=None), moment.fold, _zone_text(moment.tzinfo))


def _itself(value: Any) -> Any:
    return value


_EXACT: Final[dict[Any, Callable[[Any], Any]]] = {
    **dict.fromkeys(_PLAIN, _itself),
    float: repr,
    complex: repr,
    Decimal: str,
    datetime: _of_moment,
    time: _of_moment,
}
"""What has to be equal for two values of a type to be the same."""
