"""Values as an editor shows them: each part only when it is opened, large ones in groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from everwhen.state.differences import Change
from everwhen.state.paths import MISSING, PartKind, Path, keys_of, kind_of, part_of, text_of
from everwhen.state.short_values import size_of, sketch

_PAGE_ITEMS: Final = 1_000
"""Children of a variable that are shown at once; more are grouped in ranges."""

_MAX_REFERENCES: Final = 100_000
"""Variables that can be opened at one stop: a bound for memory."""

_MAX_VALUE_CHARACTERS: Final = 120
"""Of a value in its line; what is longer is shortened."""


class VariableNode(msgspec.Struct, frozen=True):
    """A value that can be opened. ``path`` leads to it from the state here; None for others."""

    value: Any
    path: Path | None = None


class VariableGroup(msgspec.Struct, frozen=True):
    """Some of the parts of a large value."""

    node: VariableNode
    start: int
    stop: int


class Changes(msgspec.Struct, frozen=True):
    """What an event changed."""

    changes: Sequence[Change]


class Later(msgspec.Struct, frozen=True):
    """A scope whose value is found when it is opened."""

    find: Callable[[], VariableNode | Changes]


class Handles:
    """What the editor may ask the parts of, by number; forgotten with each movement."""

    def __init__(self) -> None:
        self._items: list[VariableNode | VariableGroup | Changes | Later] = []

    def clear(self) -> None:
        """Forget them all."""
        self._items.clear()

    def add(self, item: VariableNode | VariableGroup | Changes | Later) -> int:
        """A number for something to be opened."""
        if len(self._items) >= _MAX_REFERENCES:
            return 0
        self._items.append(item)
        return len(self._items)

    def get(self, reference: int) -> VariableNode | VariableGroup | Changes | None:
        """What has that number, None for nothing."""
        if not 0 < reference <= len(self._items):
            return None
        item = self._items[reference - 1]
        return item.find() if isinstance(item, Later) else item

    def parts(self, reference: int, start: int, count: int) -> list[dict[str, Any]] | None:
        """The parts of what has that number; None for no such number."""
        item = self.get(reference)
        if item is None:
            return None
        if isinstance(item, Changes):
            some = item.changes[start : start + (count or _PAGE_ITEMS)]
            return [self._change(change) for change in some]
        if isinstance(item, VariableGroup):
            return self._of(item.node, item.start, item.stop)
        size = size_of(item.value)
        if count or start:
            return self._of(item, start, min(size, start + min(count or _PAGE_ITEMS, _PAGE_ITEMS)))
        return self._of(item, 0, size)

    def shown(self, name: str, value: Any, path: Path | None) -> dict[str, Any]:
        """A value as a variable."""
        found: dict[str, Any] = {
            "name": name,
            "value": sketch(value, _MAX_VALUE_CHARACTERS),
            "type": type(value).__name__,
            "variablesReference": 0,
        }
        size = size_of(value)
        if size:
            found["variablesReference"] = self.add(VariableNode(value, path))
            is_sequence = kind_of(type(value)) is PartKind.SEQUENCE
            found["indexedVariables" if is_sequence else "namedVariables"] = size
        if path is not None:
            found["evaluateName"] = text_of(path)
        return found

    def _of(self, node: VariableNode, start: int, stop: int) -> list[dict[str, Any]]:
        count = stop - start
        if count > _PAGE_ITEMS:
            size = _PAGE_ITEMS
            while count / size > _PAGE_ITEMS:
                size *= _PAGE_ITEMS
            return [
                self._group(node, first, min(first + size, stop))
                for first in range(start, stop, size)
            ]
        found = []
        for key in islice(keys_of(node.value), start, stop):
            path = None if node.path is None else (*node.path, key)
            part = part_of(node.value, key)
            if part is not MISSING:
                found.append(self.shown(text_of((key,)), part, path))
        return found

    def _group(self, node: VariableNode, start: int, stop: int) -> dict[str, Any]:
        return {
            "name": f"[{start:,} … {stop - 1:,}]",
            "value": f"{stop - start:,} of {size_of(node.value):,}",
            "variablesReference": self.add(VariableGroup(node, start, stop)),
            "presentationHint": {"kind": "virtual"},
        }

    def _change(self, change: Change) -> dict[str, Any]:
        after = change.after if change.after is not MISSING else change.before
        found = self.shown(text_of(change.path) or "state", after, change.path)
        before, now = (sketch(v, _MAX_VALUE_CHARACTERS // 2) for v in (change.before, change.after))
        signs = {"added": f"+ {now}", "removed": f"- {before}", "changed": f"{before} → {now}"}
        return found | {"value": signs[change.kind]}
