"""Values of states in a notebook: as a tree to open and close, with what is left out counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

from everwhen.privacy.personal_values import without_personal
from everwhen.state.paths import MISSING, PartKind, key_text, kind_of, names_in, plain
from everwhen.state.short_values import is_erased, size_of, sketch
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.events import UnknownEvent, typed_of
from everwhen.vocabulary.notebook_html import (
    DIM,
    MOST_ROWS,
    Html,
    element,
    looking,
    more,
    shortened,
    value,
)
from everwhen.vocabulary.personal_data import personal_fields

_MOST_PARTS: Final = 400
"""In a whole tree: some 50 KB of HTML."""
_OPEN_PARTS: Final = 12
"""Larger parts are closed at first."""
_DEEPEST: Final = 8
_LEAF_WIDTH: Final = 160
_CELL_WIDTH: Final = 80
_BRANCH: Final = "padding-left:1.3em"


def in_notebook(build: Callable[[], str]) -> str | None:
    """What is built; None, for which a notebook shows the ``repr``, if values of others fail."""
    try:
        return build()
    except Exception as error:
        if is_interrupt(error):
            raise
        return None


def value_cell(given: Any) -> Html:
    """A value in a few characters; nothing for one that isn't there."""
    return Html("") if given is MISSING else value(sketch(given, _CELL_WIDTH))


def value_tree(given: Any) -> Html:
    """A value with its parts, and their parts."""
    if not _has_parts(given):
        return element("div", value(sketch(given, _LEAF_WIDTH)))
    return _branches(given, _MOST_PARTS, 1)


def new_event_cells(given: Any) -> tuple[Html, Html]:
    """The type and the data of an event that is to be appended; personal values aren't shown."""
    event = typed_of(given)
    if isinstance(event, UnknownEvent):
        return element("bdi", event.type), value(sketch(without_personal(event.data), _CELL_WIDTH))
    shown = without_personal(plain(event), personal_fields(type(event)))
    return element("bdi", type(event).__name__), value(sketch(shown, _CELL_WIDTH))


def _has_parts(given: Any) -> bool:
    return bool(size_of(given)) and not is_erased(given)


def _branches(given: Any, room: int, depth: int) -> Html:
    """The parts, one under another, each with a fair share of the room for parts of its own."""
    size = size_of(given)
    shown = max(1, min(size, MOST_ROWS, room))
    share = (room - shown) // shown
    parts = [_branch(name, part, share, depth) for name, part in islice(_parts(given), shown)]
    left_out = more(size - shown, "part")
    return element("div", *parts, left_out, look=_BRANCH if depth > 1 else "")


def _branch(name: str, part: Any, room: int, depth: int) -> Html:
    label = looking(DIM, element("bdi", shortened(name, _CELL_WIDTH)))
    gap = Html("&ensp;")
    size = size_of(part)
    text = sketch(part, _LEAF_WIDTH)
    is_whole = len(text) < _CELL_WIDTH and "…" not in text
    if is_whole or room < min(size, _OPEN_PARTS) or depth == _DEEPEST or not _has_parts(part):
        return element("div", label, gap, value(text))
    summary = element("summary", label, gap, value(sketch(part, _CELL_WIDTH)))
    is_open = {"open": ""} if depth == 1 and size <= _OPEN_PARTS else {}
    return element("details", summary, _branches(part, room, depth + 1), **is_open)


def _parts(given: Any) -> Iterator[tuple[str, Any]]:
    match kind_of(type(given)):
        case PartKind.MAPPING:
            for key in given:
                yield key_text(key), given[key]
        case PartKind.SEQUENCE:
            for index, part in enumerate(given):
                yield f"[{index}]", part
        case _:
            for name in names_in(given):
                yield name, getattr(given, name)
