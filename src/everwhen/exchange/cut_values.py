"""Values as JSON, however large they are: what is too large is cut, and listed."""

from __future__ import annotations

import copy
from collections import abc
from itertools import islice
from operator import is_
from typing import Any, Final

import msgspec

from everwhen.state.paths import (
    PartKind,
    Path,
    key_text,
    kind_of,
    names_in,
    part_of,
    plain,
    text_of,
)

MOST_ENTRIES: Final = 200
"""Of one container: a screen or two."""
MOST_VALUES: Final = 20_000
"""Of a whole answer: about a megabyte of usual data."""
_MAX_TEXT: Final = 65_536
"""Characters of a text, or bytes. More is for a file."""
_MAX_LEVELS: Final = 64
"""Below the part that is shown; a path leads deeper. Far below what encoders can do."""


class CutPart(msgspec.Struct, frozen=True, gc=False):
    """A container or text that isn't shown whole: where it is, and how many entries it has."""

    path: str
    entries: int


def cut_value(
    value: Any,
    path: Path = (),
    *,
    max_entries: int = MOST_ENTRIES,
    most_values: int = MOST_VALUES,
) -> tuple[Any, list[CutPart]]:
    """The value as `plain` has it, and what was cut.

    Of a container with more than ``max_entries`` the first ones are there; of all together at most
    ``most_values``, shared out evenly; and of a text or bytes 65,536 characters. A value without
    parts is always there. ``path`` is where the value is in its state; the paths of what was cut
    begin with it. Halves of characters (lone surrogates) are written out as escapes.
    """
    cutting = _Cutting(max_entries)
    kept = cutting.kept(value, path, most_values, 0)
    return plain(kept), cutting.cut


class _Cutting:
    def __init__(self, max_entries: int) -> None:
        self.cut: list[CutPart] = []
        self._count = 0
        self._max_entries = max_entries

    def kept(self, value: Any, path: Path, room: int, level: int) -> Any:
        """The value itself where all of it is kept; else one that is like it, with less in it."""
        kind = kind_of(type(value))
        if kind is PartKind.LEAF:
            return self._leaf(value, path)
        keys, size = _keys(value, kind, self._max_entries)
        keys = keys[: 0 if level == _MAX_LEVELS else room]
        if len(keys) < size:
            self.cut.append(CutPart(text_of(path), size))
        self._count += len(keys)
        room -= len(keys)
        parts = [part_of(value, key) for key in keys]
        kept: list[Any] = []
        for index, (key, part) in enumerate(zip(keys, parts, strict=True)):
            before = self._count
            share = room // (len(keys) - index)
            kept.append(self.kept(part, (*path, key), share, level + 1))
            room -= self._count - before
        is_whole = len(keys) == size and all(map(is_, parts, kept))
        return value if is_whole else _with_parts(value, kind, keys, kept)

    def _leaf(self, value: Any, path: Path) -> Any:
        match value:
            case str() | bytes() | bytearray() if len(value) > _MAX_TEXT:
                self.cut.append(CutPart(text_of(path), len(value)))
                value = value[:_MAX_TEXT]
            case abc.Set() if len(value) > self._max_entries:
                self.cut.append(CutPart(text_of(path), len(value)))
                return list(islice(value, self._max_entries))
        return _encodable(value)


def _keys(value: Any, kind: PartKind, most: int) -> tuple[list[Any], int]:
    """The first keys of a value's parts, and how many parts there are."""
    match kind:
        case PartKind.MAPPING:
            return list(islice(value, most)), len(value)
        case PartKind.SEQUENCE:
            return list(range(min(len(value), most))), len(value)
        case _:
            names = names_in(value)  # a class has as many as somebody wrote down
            return names, len(names)


def _with_parts(value: Any, kind: PartKind, keys: list[Any], kept: list[Any]) -> Any:
    match kind:
        case PartKind.MAPPING:
            return {
                _encodable(key) if isinstance(key, str) else key: part
                for key, part in zip(keys, kept, strict=True)
            }
        case PartKind.SEQUENCE:
            return kept
        case PartKind.RECORD if len(keys) == len(names_in(value)):
            found = copy.copy(value)  # of the same class: it says how it is encoded
            for name, part in zip(keys, kept, strict=True):
                _set(found, name, part)
            return found
        case _:
            return {key_text(key): part for key, part in zip(keys, kept, strict=True)}


def _set(value: Any, name: str, part: Any) -> None:
    if isinstance(value, msgspec.Struct):
        msgspec.structs.force_setattr(value, name, part)
    else:
        object.__setattr__(value, name, part)


def _encodable(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "backslashreplace").decode()
    return value
