"""States to bytes and back, exactly: the value that comes back is the one that went in, or none is.

Most states go through msgpack as they are, typed on the way back. msgpack has moments in UTC only;
a state with others is written with each moment as an extension, which holds its zone as well.
"""

from __future__ import annotations

import dataclasses
import functools
from array import array
from collections import abc, deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, Final, TypeAlias, get_args, get_origin
from zoneinfo import ZoneInfo

import msgspec

from everwhen.state.fold import is_immutable
from everwhen.state.paths import MISSING, Path, text_of
from everwhen.vocabulary.contract import MAX_DEPTH
from everwhen.vocabulary.errors import TooDeepError

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

_SIMPLE: Final = frozenset({int, str, bytes, bool, type(None)})
_PLAIN: Final = frozenset({int, str, bytes, float, bool, type(None)})
_COLLECTIONS: Final = (dict, list, tuple, set, frozenset, deque)
_MOMENT_CODE: Final = 1
"""MessagePack's extension type of a moment that knows its zone."""
_PAIRS_CODE: Final = 2
"""That of a mapping whose keys MessagePack wouldn't give back."""


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


_SIGN: Final = {datetime: "d", time: "t"}


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
        return msgspec.msgpack.Ext(_PAIRS_CODE, encode(pairs))  # an extension is no key
    if cls is list or cls is tuple:
        return cls(map(_marked, value))
    if cls is not datetime and cls is not time:
        return value
    clock = value.replace(tzinfo=None).isoformat()
    text = f"{_SIGN[cls]}{value.fold}{clock}|{_zone_text(value.tzinfo)}"
    return msgspec.msgpack.Ext(_MOMENT_CODE, text.encode())


def _zone_text(zone: tzinfo | None) -> str:
    """A zone as text: nothing, its name in JSON, or its offset and, if it has one, its name."""
    if zone is None:
        return ""
    if type(zone) is ZoneInfo and zone.key:
        return msgspec.json.encode(zone.key).decode()
    if type(zone) is not timezone:
        raise ValueError(f"a moment's zone is a {type(zone).__name__}; use zoneinfo or an offset")
    offset, name = zone.utcoffset(None), zone.tzname(None)
    own = None if name == timezone(offset).tzname(None) else name
    seconds = offset.days * 86_400 + offset.seconds
    return msgspec.json.encode((seconds, offset.microseconds, own)).decode()


@functools.lru_cache(maxsize=1024)
def _zone_of(text: str) -> tzinfo | None:
    if not text:
        return None
    read = msgspec.json.decode(text, type=str | tuple[int, int, str | None])
    if isinstance(read, str):
        return ZoneInfo(read)
    offset = timedelta(seconds=read[0], microseconds=read[1])
    return timezone(offset) if read[2] is None else timezone(offset, read[2])


def _unmarked(code: int, data: memoryview) -> Any:
    if code == _PAIRS_CODE:
        return dict(msgspec.msgpack.decode(data, ext_hook=_unmarked))
    if code != _MOMENT_CODE:
        raise ValueError(f"extension {code} is unknown")
    clock, _, zone = str(data, "utf-8").partition("|")
    read = datetime.fromisoformat if clock[0] == "d" else time.fromisoformat
    return read(clock[2:]).replace(tzinfo=_zone_of(zone), fold=int(clock[1]))


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


@functools.lru_cache(maxsize=4096)
def _fields_of(cls: Any) -> tuple[tuple[str, ...], bool, bool]:
    """A class's fields, whether a value has them all, and whether it may have others."""
    names = list(getattr(cls, "__struct_fields__", ()))
    if dataclasses.is_dataclass(cls):
        names += [field.name for field in dataclasses.fields(cls)]
    names += [field.name for field in getattr(cls, "__attrs_attrs__", ())]
    is_whole = issubclass(cls, msgspec.Struct)  # every field is set, be it to UNSET
    return tuple(names), is_whole, cls.__dictoffset__ != 0


def _names_of(value: Any) -> Sequence[str]:
    """The names of a record's fields, and of what else was set in it."""
    cls: Any = type(value)
    names, is_whole, is_open = _fields_of(cls)
    if is_open:
        derived = functools.cached_property
        own = vars(value)
        more = [name for name in own if not isinstance(getattr(cls, name, None), derived)]
        names = tuple(dict.fromkeys((*names, *more)))
    return names if is_whole else [name for name in names if hasattr(value, name)]


def _difference(state: Any, back: Any) -> str | None:
    """Where two values differ, be it only in a type, a zone or an order; None if nowhere."""
    found = _first_difference(state, back)
    return None if found is None else f"{text_of(found[0]) or 'it'}{found[1]}"


def differing_part(one: Any, other: Any) -> Path | None:
    """The path to the first part in which two states differ, as exactly; None if in nothing.

    Raises one of `UNFIT` for what can't be compared.
    """
    found = _first_difference(one, other)
    return None if found is None else found[0]


def _first_difference(state: Any, back: Any) -> tuple[Path, str] | None:
    waiting: list[tuple[Any, Any, Any]] = [(None, state, back)]
    while waiting:
        way, one, other = waiting.pop()
        found = _compared(one, other)
        if isinstance(found, str):
            path: list[Any] = []
            while way is not None:
                way, key = way
                path.insert(0, key)
            return tuple(path), found
        for key, part, its in found:
            cls = part.__class__
            if cls not in _SIMPLE or cls is not its.__class__ or part != its:
                waiting.append(((way, key), part, its))
    return None


_Pairs: TypeAlias = list[tuple[Any, Any, Any]]
"""Parts that are to be compared: what leads there, and what is there on both sides."""


def _compared(one: Any, other: Any) -> str | _Pairs:
    """How two values differ in themselves, or their parts."""
    if one is other:
        return []
    cls = one.__class__
    if cls is not other.__class__:
        theirs = "nothing" if other is MISSING else type(other).__name__
        return f": {cls.__name__} would come back as {theirs}"
    exact = _EXACT.get(cls)
    if exact is not None:
        return [] if exact(one) == exact(other) else f": {one!r} would come back as {other!r}"
    return _way_to_compare(cls)(one, other)


@functools.lru_cache(maxsize=4096)
def _way_to_compare(cls: Any) -> Callable[[Any, Any], str | _Pairs]:
    if issubclass(cls, dict):
        return _of_dicts
    if issubclass(cls, abc.Mapping):
        return _of_mappings
    if issubclass(cls, abc.Set):
        return _of_sets
    if issubclass(cls, abc.Sequence) and not issubclass(cls, str | bytes | bytearray):
        return _of_sequences
    return _of_records


def _of_records(one: Any, other: Any) -> str | _Pairs:
    names, theirs = _names_of(one), _names_of(other)
    if names != theirs:
        return " has other fields"
    if names:
        return [(name, getattr(one, name), getattr(other, name)) for name in names]
    return [] if one == other else f": {one!r} would come back as {other!r}"


def _of_dicts(one: Any, other: Any) -> str | _Pairs:
    if _are_same_leaves(one, other):
        return _set_in(one, other)
    keys, theirs = list(one), list(other)
    if len(keys) != len(theirs):
        return f" has {len(keys)} keys, and not {len(theirs)}"
    pairs = list(zip(keys, keys, theirs, strict=True))
    values = [(key, part, other.get(key, MISSING)) for key, part in one.items()]
    return pairs + values + _set_in(one, other)


def _of_mappings(one: Any, other: Any) -> str | _Pairs:
    found = {key: key for key in other}
    if len(one) != len(found):
        return f" has {len(one)} keys, and not {len(found)}"
    pairs = [(key, key, found.get(key, MISSING)) for key in one]
    return pairs + [(key, one[key], other[key]) for key in one if key in found]


def _of_sets(one: Any, other: Any) -> str | _Pairs:
    if len(one) != len(other):
        return f" has {len(one)} items, and not {len(other)}"
    its = {item: item for item in other}
    return [(item, item, its.get(item, MISSING)) for item in one] + _set_in(one, other)


def _of_sequences(one: Any, other: Any) -> str | _Pairs:
    if len(one) != len(other) or getattr(one, "maxlen", 0) != getattr(other, "maxlen", 0):
        return " has another length"
    if _are_same_leaves(one, other):
        return _set_in(one, other)
    return list(zip(range(len(one)), one, other, strict=True)) + _set_in(one, other)


def _set_in(one: Any, other: Any) -> _Pairs:
    """What was set on collections of a class of one's own, beside their items."""
    cls = type(one)
    if cls.__dictoffset__ == 0 or not issubclass(cls, _COLLECTIONS):
        return []
    names = dict.fromkeys((*_names_of(one), *_names_of(other)))
    return [(n, getattr(one, n, MISSING), getattr(other, n, MISSING)) for n in names]


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


def _exact_zone(zone: tzinfo | None) -> Any:
    return (type(zone), repr(zone), None if type(zone) in (timezone, ZoneInfo) else id(zone))


def _of_moment(moment: datetime | time) -> Any:
    return (moment.replace(tzinfo=None), moment.fold, _exact_zone(moment.tzinfo))


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
