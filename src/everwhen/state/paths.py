"""Paths into a state: which parts a value has, and how a part is named.

A state is made of records (structs, dataclasses, attrs classes, plain objects), mappings and
sequences; everything else, sets included, is a value without parts. A path is the tuple of the
keys that lead to a part: a field's name, a mapping's key, or a sequence's index.

In text a path is written as in code, ``players.hedy.bets[0]``, with quotes where a key is no
plain word, ``players["J. R."].balance``; or as a JSON Pointer (RFC 6901), ``/players/hedy/bets/0``.
The empty text and the empty tuple are the state itself.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import re
from collections import abc
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import islice
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from everwhen.state.fold import IMMUTABLE
from everwhen.vocabulary.contract import MAX_DEPTH
from everwhen.vocabulary.errors import InvalidPathError, TooDeepError
from everwhen.vocabulary.nesting import is_value_deeper
from everwhen.vocabulary.personal_data import Erased

T = TypeVar("T")

Path: TypeAlias = tuple[Any, ...]
"""The keys from a state to one of its parts."""


class Missing(enum.Enum):
    """Stands for a part that isn't there."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing.MISSING

_WORD: Final = re.compile(r"[^\W\d]\w*(?:-\w+)*")
_STEP: Final = re.compile(
    r"""\.?(?P<word>[\w$@:-]+)              # a field or a plain key
      | \[(?P<index>-?\d+)\]
      | \[(?P<quoted>"(?:[^"\\]|\\.)*"|'[^']*')\]""",
    re.VERBOSE,
)
_MAX_STEPS: Final = 100
"""As deep as an event's data may be nested."""


def _per_class(function: Callable[[type[Any]], T]) -> Callable[[type[Any]], T]:
    """Work it out once for each class, as long as there aren't too many."""
    remembering: Any = lru_cache(maxsize=4096)
    remembered: Callable[[type[Any]], T] = remembering(function)
    return remembered


class PartKind(enum.Enum):
    """What parts the values of a type have."""

    RECORD = "fields by name"
    OBJECT = "attributes by name"
    MAPPING = "values by key"
    SEQUENCE = "items by index"
    LEAF = "none"


@_per_class
def kind_of(cls: type[Any]) -> PartKind:
    """What parts the values of this type have."""
    if issubclass(cls, (*IMMUTABLE, Erased, abc.Set, bytearray, memoryview, type)):
        return PartKind.LEAF
    if field_names(cls):
        return PartKind.RECORD
    if issubclass(cls, abc.Mapping):
        return PartKind.MAPPING
    if issubclass(cls, abc.Sequence):
        return PartKind.SEQUENCE
    return PartKind.OBJECT if _has_attributes(cls) else PartKind.LEAF


def _has_attributes(cls: type[Any]) -> bool:
    """Whether its values are plain objects of a class written in Python."""
    return cls.__dictoffset__ != 0 and not issubclass(cls, abc.Callable)  # type: ignore[arg-type]


@_per_class
def field_names(cls: type[Any]) -> tuple[str, ...]:
    """The fields of a struct, dataclass or attrs class, in order; none for other classes."""
    if issubclass(cls, msgspec.Struct):
        return tuple(cls.__struct_fields__)
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    return tuple(field.name for field in getattr(cls, "__attrs_attrs__", ()))


def names_in(value: Any) -> list[str]:
    """The names of a record's fields, or of an object's public attributes."""
    fields = field_names(type(value))
    if fields:
        return [name for name in fields if hasattr(value, name)]
    return [name for name in vars(value) if not name.startswith("_")]


def keys_of(value: Any) -> list[Any]:
    """The keys of all of a value's parts, in order."""
    match kind_of(type(value)):
        case PartKind.RECORD | PartKind.OBJECT:
            return names_in(value)
        case PartKind.MAPPING:
            return list(value)
        case PartKind.SEQUENCE:
            return list(range(len(value)))
        case _:
            return []


def part_of(value: Any, key: Any) -> Any:
    """The part under a key, `MISSING` where there is none.

    A text that came from outside also finds what it is the text of: ``"7"`` the key 7 or the
    index 7, and a field by the name that it is stored under.
    """
    match kind_of(type(value)):
        case PartKind.MAPPING:
            return _of_mapping(value, key)
        case PartKind.SEQUENCE:
            return _of_sequence(value, key)
        case PartKind.RECORD if isinstance(key, str):
            return _of_record(value, key)
        case PartKind.OBJECT if isinstance(key, str) and not key.startswith("_"):
            return vars(value).get(key, MISSING)
        case _:
            return MISSING


def _of_mapping(value: Any, key: Any) -> Any:
    try:
        if key in value:
            return value[key]
    except TypeError:  # not hashable, or of a kind that this mapping can't hold
        return MISSING
    if not isinstance(key, str) or isinstance(next(iter(value), ""), str):
        return MISSING
    if re.fullmatch(r"-?\d{1,20}", key) and int(key) in value:
        return value[int(key)]
    return next((value[other] for other in value if key_text(other) == key), MISSING)


def _of_sequence(value: Any, key: Any) -> Any:
    if isinstance(key, str):
        if re.fullmatch(r"-?\d{1,20}", key) is None:
            return MISSING
        key = int(key)
    if not isinstance(key, int) or not -len(value) <= key < len(value):
        return MISSING
    return value[key]


def _of_record(value: Any, key: str) -> Any:
    names = field_names(type(value))
    if key in names:
        return getattr(value, key, MISSING)
    stored = getattr(value, "__struct_encode_fields__", ())
    return getattr(value, names[stored.index(key)]) if key in stored else MISSING


def value_at(state: Any, path: Path) -> Any:
    """The part that a path leads to, `MISSING` where it leads nowhere."""
    for key in path:
        state = part_of(state, key)
        if state is MISSING:
            return MISSING
    return state


def path_of(written: str | Path | Iterable[Any]) -> Path:
    """The path of a text, or of the keys themselves.

    Raises `InvalidPathError` for a text that can't be read.
    """
    if not isinstance(written, str):
        return tuple(written)
    if written.startswith("/"):
        steps = written[1:].split("/")
        path: Path = tuple(step.replace("~1", "/").replace("~0", "~") for step in steps)
    else:
        path = tuple(_steps(written.strip()))
    if len(path) > _MAX_STEPS:
        raise InvalidPathError(f"path {written[:60]!r}…: more than {_MAX_STEPS} steps")
    return path


def _steps(text: str) -> Iterable[Any]:
    place = 0
    while place < len(text):
        match = _STEP.match(text, place)
        if match is None or (place and match["word"] and text[place] != "."):
            raise InvalidPathError(
                f"path {text!r} can't be read from column {place + 1} on; write it as "
                f'players.hedy.bets[0], players["J. R."].balance or /players/hedy/bets/0'
            )
        if match["index"] is not None:
            yield int(match["index"])
        elif match["quoted"] is not None:
            yield re.sub(r"\\(.)", r"\1", match["quoted"][1:-1])
        else:
            yield match["word"]
        place = match.end()


def text_of(path: Path) -> str:
    """The path as text; `path_of` reads it back."""
    found = ""
    for key in path:
        if isinstance(key, str) and _WORD.fullmatch(key):
            found += f".{key}" if found else key
        elif isinstance(key, int) and not isinstance(key, bool):
            found += f"[{key}]"
        else:
            quoted = key_text(key).replace("\\", "\\\\").replace('"', '\\"')
            found += f'["{quoted}"]'
    return found


def pointer_of(path: Path) -> str:
    """The path as a JSON Pointer (RFC 6901)."""
    return "".join("/" + key_text(key).replace("~", "~0").replace("/", "~1") for key in path)


def key_text(key: Any) -> str:
    """A mapping's key as the text that JSON has for it."""
    if isinstance(key, str) and not isinstance(key, enum.Enum):
        return key
    try:
        (text,) = msgspec.to_builtins({key: None}, str_keys=True)
    except TypeError:
        return str(key)
    return str(text)


def plain(value: Any, *, ordered: bool = False) -> Any:
    """A value as JSON has it: dicts with text keys, lists or tuples, text, numbers, None.

    With ``ordered``, equal values come out the same: a set's members and a dict's keys are sorted.
    Raises `TooDeepError` for a value that is nested too deep.
    """
    order: Any = "deterministic" if ordered else None
    try:
        try:
            return msgspec.to_builtins(value, str_keys=True, order=order, enc_hook=_parts)
        except TypeError:  # a key that msgspec has no text for
            return _plain(value)
    except RecursionError:
        if is_value_deeper(value):
            raise TooDeepError("the value", MAX_DEPTH) from None
        raise


def _parts(value: Any) -> Any:
    match kind_of(type(value)):
        case PartKind.MAPPING:
            return dict(value)
        case PartKind.SEQUENCE:
            return list(value)
        case PartKind.RECORD | PartKind.OBJECT:
            return {name: getattr(value, name) for name in names_in(value)}
        case _:
            return sorted(value, key=repr) if isinstance(value, abc.Set) else str(value)


def _plain(value: Any) -> Any:
    match kind_of(type(value)):
        case PartKind.MAPPING:
            return {key_text(key): plain(part) for key, part in value.items()}
        case PartKind.SEQUENCE:
            return [plain(part) for part in value]
        case PartKind.RECORD | PartKind.OBJECT:
            return {name: plain(getattr(value, name)) for name in names_in(value)}
        case _:
            return str(value)


def existing_path(state: Any, path: Path) -> Path:
    """The path, for a part that is there. Raises `InvalidPathError` that names what is."""
    if value_at(state, path) is not MISSING:
        return path
    here, known = nearest(state, path)
    wrong = key_text(path[len(here)])
    close = difflib.get_close_matches(wrong, known, 3)
    names = ", ".join(close or known[:10]) + ("" if close or len(known) <= 10 else " …")
    where = text_of(here) or "the state"
    raise InvalidPathError(
        f"{where} has no {wrong!r}"
        + (f"; did you mean {names}?" if close else f"; it has {names or 'no parts'}")
    )


def nearest(state: Any, path: Path) -> tuple[Path, list[str]]:
    """How far a path leads, and what there is to go on with: for errors and completion."""
    here: Path = ()
    for key in path:
        part = part_of(state, key)
        if part is MISSING:
            break
        state, here = part, (*here, key)
    return here, [key_text(key) for key in islice(keys_of(state), 1_000)]
