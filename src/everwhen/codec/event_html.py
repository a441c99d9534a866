"""How a recorded event is shown in a notebook: on its own, and as a line of a table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final

import msgspec

from everwhen.vocabulary.nesting import is_deeper
from everwhen.vocabulary.notebook_html import (
    BAD,
    CODE,
    DIM,
    Html,
    TableRow,
    card,
    element,
    heading,
    joined,
    listed,
    looking,
    shortened,
    table,
    time_text,
    value,
)

_LONGEST_LINE: Final = 160
"""Characters of data in a line of a table."""
_UNBROKEN: Final = 48
"""Shorter values stay beside their names."""
_LOOKED_THROUGH: Final = 64 << 10
"""How much of a field is looked through for what stands for personal values."""
_STAND_IN: Final = re.compile(
    r'\{"\$(sealed|erased)":(?:"(?:[^"\\]|\\.)*"|\d+)(?:,"subject":"(?:[^"\\]|\\.)*")?\}'
)
_STANDS_FOR: Final = {"sealed": "(encrypted)", "erased": "(erased)"}
_decode_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

EVENT_COLUMNS: Final = ("position", "recorded", "stream", "type", "data")


class ShownEvent(msgspec.Struct, frozen=True):
    """What is shown of an event. ``problem`` says what of it can't be read."""

    position: int
    stream: str
    version: int
    type: str
    recorded_at: datetime | None
    occurred_at: datetime | None
    tags: tuple[str, ...]
    user_id: str | None
    data: bytes
    problem: str

    @property
    def place(self) -> str:
        """Its stream and its version there."""
        return f"{self.stream}@{self.version}"


def event_card(event: ShownEvent, *below: Html, kind: str = "Event") -> str:
    """An event on its own, and what there is to be said of it."""
    return card(event_head(event, kind), *below)


def event_head(event: ShownEvent, kind: str = "Event") -> Html:
    """An event: what and where it is, and its data field by field."""
    facts = (
        f"position {event.position:,}",
        "" if event.recorded_at is None else f"recorded {time_text(event.recorded_at)}",
        "" if event.occurred_at is None else f"occurred {time_text(event.occurred_at)}",
        f"by {event.user_id}" if event.user_id else "",
        f"tags {listed(event.tags)}" if event.tags else "",
    )
    title = joined(event.type, looking(f"{CODE};font-weight:normal;margin-left:.8em", event.place))
    return joined(heading(kind, title, *facts), _problem(event), _fields_table(event.data))


def _problem(event: ShownEvent) -> Html:
    return element("div", event.problem, look=BAD) if event.problem else Html("")


def _fields_table(data: bytes) -> Html:
    if not data:
        return Html("")
    fields = _fields(data)
    if fields is None:
        return element("div", value(_value_text(data)))
    if not fields:
        return element("div", "no data", look=DIM)
    rows = ((looking(DIM, name), value(_value_text(raw))) for name, raw in fields.items())
    return table((), rows, len(fields), "field")


def _fields(data: bytes) -> dict[str, bytes] | None:
    """The fields with their JSON, None where the data is no object that can be taken apart."""
    if is_deeper(data):
        return None
    try:
        return {name: bytes(raw) for name, raw in _decode_fields(data).items()}
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _value_text(raw: bytes) -> str:
    """JSON as text; what is erased or encrypted is named so, and nothing else of it shown."""
    text = raw[:_LOOKED_THROUGH].decode(errors="replace")
    named = _STAND_IN.sub(lambda found: _STANDS_FOR[found[1]], text)
    return shortened(named, unseen=max(0, len(raw) - _LOOKED_THROUGH))


def event_row(event: ShownEvent) -> TableRow:
    """An event as a line of a table."""
    return TableRow(EVENT_COLUMNS, event_cells(event))


def event_cells(event: ShownEvent) -> tuple[int, datetime | None, Html, Html, Html]:
    """The cells of an event: see `EVENT_COLUMNS`."""
    return (
        event.position,
        event.recorded_at,
        element("bdi", event.place),
        element("bdi", event.type),
        joined(_problem(event), _line(event.data)),
    )


def _line(data: bytes) -> Html:
    """Data in a line: the first fields as far as they fit; the others are counted."""
    fields = _fields(data) if data else {}
    if fields is None:
        return value(shortened(_value_text(data), _LONGEST_LINE))
    return joined(*_pieces(fields))


def _pieces(fields: dict[str, bytes]) -> Iterator[Html]:
    room = _LONGEST_LINE
    for number, (name, raw) in enumerate(fields.items()):
        text = shortened(_value_text(raw), max(24, min(room, 80)))
        room -= len(name) + len(text)
        if number and room < 0:
            yield looking(DIM, f"… {len(fields) - number:,} more")
            return
        look = "white-space:nowrap" if len(text) < _UNBROKEN else ""
        yield looking(look, looking(DIM, f"{name}="), value(text))
        yield Html(" &ensp;")
