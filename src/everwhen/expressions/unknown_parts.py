"""Parts that no state has had: what was asked of one never held, most likely for a typo.

Here is what is asked for, and how an answer reads; a time machine finds out which parts there were.
"""

from __future__ import annotations

import difflib
import re
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from everwhen.codec.recorded_events import RecordedEvent
from everwhen.expressions.expression import Expression, Variables
from everwhen.state.paths import (
    MISSING,
    PartKind,
    Path,
    field_names,
    key_text,
    keys_of,
    kind_of,
    part_of,
    path_of,
    text_of,
    value_at,
)
from everwhen.state.read_sets import Read, Reads
from everwhen.vocabulary.errors import DecodeError

_MAX_NAMES: Final = 10_000
"""Of each value: a suggestion needs no more, and comparing names takes time."""
_MAX_NODES: Final = 500
"""Looked at below a value, in search of a name like the one that is missing."""
_LEVELS_BELOW: Final = 2
"""A forgotten level or two is a likely mistake, more isn't."""
_LISTED_NAMES: Final = 8
"""As many as fit in a line or two."""
_MAX_EVENTS: Final = 20_000
"""Looked at, newest first: about a second's work."""
_CONSTANTS: Final = {"True": "true", "False": "false", "None": "null"}
_WORD: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)


class UnknownPart(msgspec.Struct, frozen=True):
    """A part that was never there. Its text says so.

    ``path`` is the part, ``within`` the part of it that there was, and ``suggestions`` are paths,
    as text, that may have been meant. ``names`` are some of what there was in its place.
    ``hint`` is what may have been wrong with how it was asked for.
    """

    path: Path
    within: Path
    suggestions: Sequence[str] = ()
    names: Sequence[str] = ()
    of: str = "the state"
    hint: str = ""

    def __str__(self) -> str:
        wrong = key_text(self.path[len(self.within)])
        where = text_of(self.within) or self.of
        if self.suggestions:
            helps = f"; did you mean {' or '.join(self.suggestions)}?"
        else:
            more = " …" if len(self.names) > _LISTED_NAMES else ""
            helps = f"; it had {', '.join(self.names[:_LISTED_NAMES])}{more}" if self.names else ""
        return f"unknown: {where} never had {wrong!r}{helps}{self.hint}"


class IsThere:
    """A condition: that a state has a part. What it reads is known without running it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, state: Any) -> bool:
        """Whether the part is there."""
        return value_at(state, self._path) is not MISSING

    def reads(self, state: Any) -> Reads:
        """The part, in whatever state."""
        del state
        return frozenset({Read(self._path)})


def asked_of_states(asked: Expression | str | Path) -> list[Path]:
    """The paths into a state that a path, or an expression, names."""
    if not isinstance(asked, Expression):
        return [path_of(asked)]
    roots = {"event", "recorded"}
    parts = [part for part in asked.named_parts() if part[0] not in roots]
    return [part[1:] if part[0] in ("state", "before") else part for part in parts]


def without_state(path: Path, state: Any) -> Path:
    """The path of a part that may have been named as expressions do, from ``state`` on."""
    if path[:1] == ("state",) and part_of(state, "state") is MISSING:
        return path[1:]
    return path


def may_be_there(state: Any, path: Path) -> bool:
    """Whether a part is there, or could be by what the state's classes declare."""
    for key in path:
        part = part_of(state, key)
        if part is MISSING:
            return kind_of(type(state)) is PartKind.RECORD and key in field_names(type(state))
        if part is None:
            return True  # what isn't set may have any parts
        state = part
    return True


def unknown_part(
    state: Any, path: Path, within: Path, expression: Expression | None = None
) -> UnknownPart:
    """Says of a part that it was never there, with the names of a state that ``within`` was in.

    ``expression`` is what asked for it, unless it was asked for as a path.
    """
    here, wrong = value_at(state, within), key_text(path[len(within)])
    if expression is not None and len(path) == 1 and wrong in _CONSTANTS:
        return UnknownPart(path, within, [_CONSTANTS[wrong]])
    text = text_of if expression is None else expression_of
    rest = path[len(within) + 1 :]
    names = _names(here)
    named = _taken_apart(wrong, names, expression) or difflib.get_close_matches(wrong, names, 2)
    meant = [(*within, name) for name in named]
    meant = meant or [(*within, *below) for below in _deeper(here, wrong)]
    whole = [(*one, *rest) for one in meant if value_at(state, (*one, *rest)) is not MISSING]
    suggestions = [text(one) for one in whole or meant]
    hint = ""
    if expression is not None and len(path) == 1 and not suggestions:
        hint = f'; a text stands in quotes: "{wrong}"'
    return UnknownPart(path, within, suggestions, names[: _LISTED_NAMES + 1], hint=hint)


def _taken_apart(wrong: str, names: Iterable[str], expression: Expression | None) -> list[str]:
    """The names, such as ``order-1``, of which an expression took a first word for a name."""
    if expression is None:
        return []
    return [
        name
        for name in names
        if name.startswith(wrong) and not _WORD.fullmatch(name) and name in expression.text
    ][-2:]


def expression_of(path: Path) -> str:
    """A path into a state as an expression has it: ``state["depot-1"].data``."""
    found = "" if path and isinstance(path[0], str) and _WORD.fullmatch(path[0]) else "state"
    for key in path:
        if isinstance(key, str) and _WORD.fullmatch(key):
            found += f".{key}" if found else key
        else:
            quoted = key_text(key).replace("\\", "\\\\").replace('"', '\\"')
            found += f"[{key}]" if isinstance(key, int) else f'["{quoted}"]'
    return found


def unknown_in_events(
    expression: Expression, events: Iterable[RecordedEvent[Any]]
) -> list[UnknownPart]:
    """The parts of events, named by an expression, that none of the newest such events has."""
    left = {part for part in expression.named_parts() if part[0] in ("event", "recorded")}
    if not left:
        return []
    newest: dict[str, Any] = {}
    for event in islice(events, _MAX_EVENTS):
        variables = Variables(None, event=event)
        for root in {part[0] for part in left}:
            try:
                value = variables[root]
            except DecodeError:
                return []
            newest.setdefault(root, {}).update({n: part_of(value, n) for n in _names(value)})
            left = {p for p in left if p[0] != root or not may_be_there(value, p[1:])}
        if not left:
            return []
    found: list[UnknownPart] = []
    for root, *keys in left:
        if root in newest and keys:
            within = _longest(newest[root], tuple(keys))
            known = unknown_part(newest[root], tuple(keys), within)
            within_text = text_of((root, *known.within))
            found.append(
                UnknownPart(
                    (root, *known.path),
                    (root, *known.within),
                    [f"{root}.{meant}" for meant in known.suggestions],
                    known.names,
                    within_text,
                )
            )
    return found


def _longest(state: Any, path: Path) -> Path:
    """How much of a path there is."""
    for length in range(len(path)):
        if value_at(state, path[: length + 1]) is MISSING:
            return path[:length]
    return path


def _names(value: Any) -> list[str]:
    if value is MISSING or kind_of(type(value)) is PartKind.SEQUENCE:
        return []
    if kind_of(type(value)) is PartKind.MAPPING:
        return [key_text(key) for key in islice(value, _MAX_NAMES)]
    return [key_text(key) for key in keys_of(value)[:_MAX_NAMES]]


def _deeper(value: Any, wrong: str) -> list[Path]:
    """Where the name is, or one like it, close below: the first such place."""
    left: deque[tuple[Any, Path]] = deque([(value, ())])
    alike: dict[str, Path] = {}
    seen = 0
    while left:
        value, path = left.popleft()
        for name in _names(value)[:_MAX_NODES]:
            seen += 1
            below = (*path, name)
            alike.setdefault(name, below)
            if len(path) < _LEVELS_BELOW and seen < _MAX_NODES:
                left.append((part_of(value, name), below))
    return [alike[name] for name in difflib.get_close_matches(wrong, alike, 1)]
