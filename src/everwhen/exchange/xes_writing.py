"""Events to XES: what was imported from XES comes out as it went in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from everwhen.codec.recorded_events import RecordedEvent
from everwhen.exchange.errors import ExchangeFileError
from everwhen.exchange.moments import text_of
from everwhen.exchange.xes_parsing import EVENT_TYPE, LOG_TYPE, TRACE_TYPE
from everwhen.exchange.xes_values import NAME, TIME, XesNode, from_notes, nodes_of, nulls_lost
from everwhen.vocabulary.microseconds import to_micros

_ROOT: Final = {"xes.version": "1.0", "xes.features": "nested-attributes"}
_ESCAPES: Final = str.maketrans(
    {
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        '"': "&quot;",
        "\n": "&#10;",
        "\r": "&#13;",
        "\t": "&#9;",
    }
)
_XML_NAME: Final = re.compile(r"[A-Za-z_:][\w:.-]*", re.ASCII)
_NO_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def notes_of(event: RecordedEvent[Any]) -> dict[str, Any]:
    """What an import noted beside the event's data."""
    notes = event.metadata.extras.get("xes")
    return notes if isinstance(notes, dict) else {}


def trace_numbers(event: RecordedEvent[Any]) -> int | None:
    """Which trace of the log the event belongs to, where it says so; 0 for none."""
    number = notes_of(event).get("trace")
    return number if isinstance(number, int) else None


def nulls_of(event: RecordedEvent[Any]) -> int:
    """How many of the event's values are null, and not written."""
    return nulls_lost(event.data, notes_of(event))


def opening(log: RecordedEvent[Any] | None) -> bytes:
    """The file's beginning, with the log's own attributes."""
    notes = notes_of(log) if log is not None else {}
    root = notes.get("log")
    attributes = {**_ROOT, **(root if isinstance(root, dict) else {})}
    attributes.setdefault("xmlns", "http://www.xes-standard.org/")
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>\n',
        f"<log{_attributes(attributes)}>\n",
    ]
    for node in from_notes(notes.get("nodes")) or []:
        lines += _node(node, 1)
    return "".join(lines).encode()


CLOSING: Final = b"</log>\n"


def trace(events: Sequence[RecordedEvent[Any]], name: str) -> bytes:
    """One trace; its own attributes are the data of its `XesTrace` event, if it has one."""
    own = next((e for e in events if e.type == TRACE_TYPE), None)
    if own is None:
        nodes: list[XesNode] = [["string", NAME, name]]
    else:
        nodes = nodes_of(own.data, notes_of(own), "case:")
    lines = ["\t<trace>\n"]
    for node in nodes:
        lines += _node(node, 2)
    for event in in_order([e for e in events if e.type != TRACE_TYPE]):
        lines += _event(event, 2)
    lines.append("\t</trace>\n")
    return "".join(lines).encode()


def loose(events: Iterable[RecordedEvent[Any]]) -> bytes:
    """Events that the log has outside of any trace."""
    return "".join(line for event in events for line in _event(event, 1)).encode()


def in_order(events: list[RecordedEvent[Any]]) -> list[RecordedEvent[Any]]:
    """The events at the places they had in their trace, where sorting by time moved them."""
    placed = {
        index: event for event in events if isinstance(index := notes_of(event).get("index"), int)
    }
    if not placed:
        return events
    moved = {id(event) for event in placed.values()}
    others = iter([event for event in events if id(event) not in moved])
    ordered: list[RecordedEvent[Any]] = []
    for place in range(max(placed) + 1):
        event = placed.get(place) or next(others, None)
        if event is not None:
            ordered.append(event)
    return [*ordered, *others]


def _event(event: RecordedEvent[Any], depth: int) -> Iterator[str]:
    if event.type == LOG_TYPE:
        return
    notes = notes_of(event)
    nodes = nodes_of(event.data, notes)
    keys = {node[1] for node in nodes}
    if NAME not in keys and event.type != EVENT_TYPE:
        nodes.append(["string", NAME, event.type])
    if TIME not in keys and not notes.get("untimed"):
        nodes.append(["date", TIME, text_of(to_micros(event.occurred_at))])
    indent = "\t" * depth
    yield f"{indent}<event>\n"
    for node in nodes:
        yield from _node(node, depth + 1)
    yield f"{indent}</event>\n"


def _node(node: XesNode, depth: int) -> Iterator[str]:
    tag, key = node[0], node[1]
    if isinstance(key, dict):  # an extension, a global or a classifier: XML attributes as they were
        attributes = key
    else:
        attributes = {} if key is None else {"key": key}
        if len(node) > 2 and node[2] is not None:
            attributes["value"] = node[2]
    children = node[3] if len(node) > 3 and node[3] else ()
    indent = "\t" * depth
    if not children:
        yield f"{indent}<{tag}{_attributes(attributes)}/>\n"
        return
    yield f"{indent}<{tag}{_attributes(attributes)}>\n"
    for child in children:
        yield from _node(child, depth + 1)
    yield f"{indent}</{tag}>\n"


def _attributes(attributes: dict[str, str]) -> str:
    for name, value in attributes.items():
        if not _XML_NAME.fullmatch(name):
            raise ExchangeFileError(
                repr(name)[:60], "XML does not allow this name; export to JSON Lines"
            )
        if bad := _NO_XML.search(str(value)):
            raise ExchangeFileError(
                repr(value)[:60], f"XML can't hold the character {bad[0]!r}; export to JSON Lines"
            )
    return "".join(
        f' {name}="{str(value).translate(_ESCAPES)}"' for name, value in attributes.items()
    )
