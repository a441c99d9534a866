"""What is at a path, found by the path's segments, however many paths there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

_ANY: Final = ""
"""Where a name in braces leads: no segment that a literal one could be."""
_END: Final = "/"
"""Where what is at a path that ends here is kept: no segment has a slash."""


class PathTable(Generic[T]):
    """Things at paths, whose segments are literal or names in braces, one each.

    A literal segment goes before a name.
    """

    def __init__(self, paths: Mapping[str, T]) -> None:
        self._root: dict[str, Any] = {}
        for path, thing in paths.items():
            node = self._root
            names = []
            for segment in path.split("/")[1:]:
                if segment.startswith("{"):
                    names.append(segment.strip("{}"))
                node = node.setdefault(_ANY if segment.startswith("{") else segment, {})
            node[_END] = thing, names

    def find(self, path: str) -> tuple[T, dict[str, str]] | None:
        """What is at the path, and the segments that its names stand for; None for another path."""
        found = _found(self._root, path.split("/"), 1, ())
        if found is None:
            return None
        (thing, names), values = found
        return thing, dict(zip(names, values, strict=True))


def _found(node: dict[str, Any], segments: Sequence[str], at: int, values: tuple[str, ...]) -> Any:
    if at == len(segments):
        return None if _END not in node else (node[_END], values)
    segment = segments[at]
    if not segment:
        return None
    found = _found(node[segment], segments, at + 1, values) if segment in node else None
    if found is None and _ANY in node:
        return _found(node[_ANY], segments, at + 1, (*values, segment))
    return found
