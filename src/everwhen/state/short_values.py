"""Values in a few characters, however large they are: what is left out is counted."""

from __future__ import annotations

from collections import abc
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

import msgspec

from everwhen.state.paths import MISSING, PartKind, key_text, kind_of, names_in
from everwhen.vocabulary.personal_data import Erased

_MIN_ITEM_CHARACTERS: Final = 8
"""A shorter text of an item tells nothing: items are left out and counted."""

_MAX_DEPTH: Final = 4
"""Levels that are shown; below, only how many items there are."""


def sketch(value: Any, width: int = 60) -> str:
    """A value as text of about ``width`` characters; large values are cut, with counts.

    Whatever was erased is ``(erased)``. The cost is that of what is shown, not that of the value.
    """
    return _sketched(value, width, 0)


def size_of(value: Any) -> int:
    """How many parts a value has."""
    match kind_of(type(value)):
        case PartKind.RECORD | PartKind.OBJECT:
            return len(names_in(value))
        case PartKind.MAPPING | PartKind.SEQUENCE:
            return len(value)
        case _:
            return 0


def _sketched(value: Any, width: int, depth: int) -> str:
    if is_erased(value):
        return "(erased)"
    kind = kind_of(type(value))
    if kind is PartKind.LEAF:
        return _leaf(value, width)
    size = size_of(value)
    opens, closes = _BRACKETS[kind]
    if kind in (PartKind.RECORD, PartKind.OBJECT):
        opens = f"{type(value).__name__}("
    if depth >= _MAX_DEPTH and size:
        return f"{opens}{size:,}…{closes}"
    found: list[str] = []
    room = width - len(opens) - len(closes)
    for shown, (name, part) in enumerate(_parts(value, kind)):
        left = size - shown
        if room < _MIN_ITEM_CHARACTERS and left:
            found.append(f"… {left:,} more" if found else f"{left:,} …")
            break
        text = f"{name}{_sketched(part, max(_MIN_ITEM_CHARACTERS, room - len(name)), depth + 1)}"
        if len(text) > room and found:
            found.append(f"… {left:,} more")
            break
        found.append(text)
        room -= len(text) + 2
    return f"{opens}{', '.join(found)}{closes}"


def is_erased(value: Any) -> bool:
    """Whether it stands for personal data of somebody who was forgotten, typed or in plain data."""
    if isinstance(value, dict) and len(value) == 1:
        return isinstance(value.get("$erased"), str)
    return isinstance(value, Erased)


def _parts(value: Any, kind: PartKind) -> Iterator[tuple[str, Any]]:
    if kind is PartKind.SEQUENCE:
        yield from (("", part) for part in value)
    elif kind is PartKind.MAPPING:
        for key in value:
            yield f"{_key(key)}: ", value[key]
    else:
        for name in names_in(value):
            yield f"{name}=", getattr(value, name)


def _key(key: Any) -> str:
    text = key_text(key)
    return _quoted(text) if not text.isprintable() or not text else text


def _leaf(value: Any, width: int) -> str:
    if value is MISSING:
        return "nothing"
    if isinstance(value, str):
        cut = value[: width + 1]
        text = cut if cut and cut.isprintable() and " " not in cut else _quoted(cut)
    elif isinstance(value, bytes | bytearray | memoryview):
        text = f"{len(value):,} bytes"
    elif isinstance(value, abc.Set):
        few = ", ".join(sorted(sketch(item, _MIN_ITEM_CHARACTERS) for item in islice(value, 5)))
        text = f"{{{few}{f', … {len(value) - 5:,} more' if len(value) > 5 else ''}}}"
    else:
        text = _encoded(value)
    return text if len(text) <= width else f"{text[: max(1, width - 1)]}…"


def _encoded(value: Any) -> str:
    plain: Callable[[Any], Any] = str
    try:
        text = msgspec.to_builtins(value, enc_hook=plain)
    except (TypeError, ValueError):
        text = str(value)
    if text is None:
        return "null"
    text = str(text).lower() if isinstance(text, bool) else str(text)
    return text if text.isprintable() else _quoted(text)


def _quoted(text: str) -> str:
    found = msgspec.json.encode(text.encode("utf-8", "replace").decode()).decode()
    return found if found.isprintable() else ascii(text)


_BRACKETS: Final = {
    PartKind.MAPPING: ("{", "}"),
    PartKind.SEQUENCE: ("[", "]"),
    PartKind.RECORD: ("(", ")"),
    PartKind.OBJECT: ("(", ")"),
}
