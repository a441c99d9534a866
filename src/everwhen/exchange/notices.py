"""What an import has to tell of a file that it takes: what it left out, and what it guessed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

_MAX_KINDS: Final = 100
"""Kinds that are counted apart: a hostile file could make up as many as it has lines."""

_OTHER: Final = "others"


class Notice(msgspec.Struct, frozen=True):
    """One kind of thing that was left out or changed: what, where first, and how often.

    ``line`` is one of the file that was read; for an export it is 0, and ``position`` is the first
    event's. Both are 0 for what has no place in a file, since it is a file itself.
    """

    what: str
    line: int
    count: int
    position: int = 0

    def __str__(self) -> str:
        if not self.line and not self.position:
            return f"{self.what}: {self.count:,}"
        where = f"in line {self.line}" if self.line else f"at position {self.position:,}"
        return f"{self.what}: {self.count:,}, the first {where}"


class Notices:
    """Counts notices by kind; kinds after the first hundred count as "others"."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, int]] = {}

    def add(self, what: str, line: int, count: int = 1) -> None:
        """Count one more, or several."""
        if what not in self._found and len(self._found) >= _MAX_KINDS:
            what = _OTHER
        first, before = self._found.get(what, (line, 0))
        self._found[what] = (first, before + count)

    def __iter__(self) -> Iterator[Notice]:
        for what, (line, count) in self._found.items():
            yield Notice(what, line, count)
