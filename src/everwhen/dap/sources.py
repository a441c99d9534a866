"""Events as lines of text: history in pages of a thousand positions, each page a source.

Line n of a page stands for its n-th position, so a place never moves, and any of ten million is
found without asking. Positions at which the history that is looked at has no event are empty lines.
"""

from __future__ import annotations

from typing import Any, Final

from everwhen.codec.recorded_events import RecordedEvent
from everwhen.dap.messages import SourcePage
from everwhen.store._sync.store import Store
from everwhen.vocabulary.query import Query

SOURCE_LINES: Final = 1_000
"""Events in one generated source: few enough to send whole."""

_MAX_DATA_CHARACTERS: Final = 160
"""Of an event's data in its line; the rest is cut off."""


def place_of(position: int) -> tuple[int, int]:
    """The source's reference and the line of a position."""
    page, line = divmod(max(0, position - 1), SOURCE_LINES)
    return page + 1, line + 1


def position_of(reference: int, line: int) -> int:
    """The position of a line of a source."""
    return (reference - 1) * SOURCE_LINES + max(1, min(line, SOURCE_LINES))


def source_of(store: Store, position: int) -> SourcePage:
    """The source that a position is in."""
    reference, _ = place_of(position)
    first = (reference - 1) * SOURCE_LINES + 1
    name = f"{store.name} {first:,} - {first + SOURCE_LINES - 1:,}.events"
    return SourcePage(name, reference, origin="history")


def text_of(store: Store, of: Query, reference: int) -> str:
    """A source's text."""
    first = (reference - 1) * SOURCE_LINES + 1
    last = min(first + SOURCE_LINES - 1, store.head().position)
    lines = [""] * max(0, last - first + 1)
    if lines:
        for event in store.read(of.after(first - 1).up_to(last)):
            lines[event.position - first] = line_of(event)
    return "\n".join(lines)


def line_of(event: RecordedEvent[Any]) -> str:
    """An event in one line."""
    time = event.recorded_at.isoformat(" ", "milliseconds").partition("+")[0]
    data = " ".join(event.json.decode("utf-8", "replace").split())
    data = data if len(data) <= _MAX_DATA_CHARACTERS else f"{data[: _MAX_DATA_CHARACTERS - 1]}…"
    return f"{event.position:>8}  {time}  {event.stream}@{event.version}  {event.type}  {data}"
