"""XES attributes as JSON and back, exactly.

An XES attribute becomes the JSON value that a reader expects: a number for an ``int`` or ``float``,
text for a ``string``, ``date`` or ``id``, an object for a ``container``, a list for a ``list``. An
attribute that has others nested in it becomes ``{"value": …, "nested": {…}}``. What JSON can't say
(that a text is a date, that a number was written ``1.50``) is noted beside the data, in the event's
extras under ``xes``, only where it is needed to write the same XES again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC
from itertools import repeat
from typing import Any, Final, TypeAlias

from everwhen.codec.json_encoding import decode_json, encode_json
from everwhen.exchange.log_times import time_of

XesNode: TypeAlias = list[Any]
"""``[tag, key, value]`` or ``[tag, key, value, children]``, all as in the file."""

Odd: TypeAlias = list[tuple[str, str]]
"""Keys whose values are changed, and how."""

LEAVES: Final = frozenset({"string", "date", "int", "float", "boolean", "id"})
XES_GROUPS: Final = frozenset({"list", "container"})
HEADS: Final = frozenset({"extension", "global", "classifier"})
TIME: Final = "time:timestamp"
NAME: Final = "concept:name"
_MAX_DIGITS: Final = 1_000  # int() takes long for long texts
_BOOLEANS: Final = {"true": True, "false": False, "1": True, "0": False}
_MAX_DEPTH: Final = 20
"""Elements: deeper nested notes are kept as text, or they could be too deep for a store."""


def natural(node: XesNode, odd: Odd) -> Any:
    """The node as a JSON value. What isn't of its type is text, and added to ``odd``."""
    tag, text = node[0], node[2]
    children = _children(node)
    if tag == "list":
        nested = [child for child in children if child[0] != "values"]
        items: list[Any] = []
        for child in children:
            if child[0] == "values":
                items.extend(map(natural, _children(child), repeat(odd)))
        return {"value": items, "nested": _object(nested, odd)} if nested else items
    if tag == "container":
        return _object(children, odd)
    try:
        value = _leaf(tag, text)
    except (ValueError, KeyError):
        odd.append((node[1], f"is not of type {tag}, kept as text"))
        value = text
    if value is None:
        odd.append((node[1], "is not a finite number, kept as null"))
    return {"value": value, "nested": _object(children, odd)} if children else value


def _children(node: XesNode) -> Sequence[XesNode]:
    return node[3] if len(node) > 3 else ()


def _object(nodes: Sequence[XesNode], odd: Odd) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node in nodes:
        found[node[1]] = natural(node, odd)
    return found


def _leaf(tag: str, text: str) -> Any:
    """Raises ``ValueError`` or ``KeyError`` for what isn't of its type."""
    if tag == "int":
        if len(text) > _MAX_DIGITS:
            raise ValueError
        return int(text)
    if tag == "float":
        value = float(text)
        return value if math.isfinite(value) else None
    if tag == "boolean":
        return _BOOLEANS[text.lower()]
    if tag == "date":
        time_of(text, UTC)
    return text


def attributes_of(
    nodes: Sequence[XesNode], prefix: str, odd: Odd
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The nodes as data, and what has to be noted beside it to write the same nodes again.

    ``prefix`` goes before each key in the data. What isn't of its type is text in the data, and
    added to ``odd``.
    """
    data: dict[str, Any] = {}
    types: dict[str, Any] = {}
    for node in nodes:
        key = node[1]
        value = node[2] if node[0] == "string" and len(node) == 3 else natural(node, odd)
        data[prefix + key] = value
        if node[0] == "string" and len(node) == 3 and key != TIME:
            continue
        if inferred(key, value) != node:
            simple = len(node) == 3 and value == node[2]
            types[key] = node[0] if simple else noted([node])[0]
    if len(data) < len(nodes):
        return data, {"nodes": noted(nodes)}
    return data, {"types": types} if types else {}


def nodes_of(data: Mapping[str, Any], notes: Mapping[str, Any], prefix: str = "") -> list[XesNode]:
    """The attributes that the data stands for, exactly so where there are notes."""
    exact = from_notes(notes.get("nodes"))
    if exact is not None:
        return exact
    types = notes.get("types")
    types = types if isinstance(types, dict) else {}
    nodes: list[XesNode] = []
    for name, value in data.items():
        if not name.startswith(prefix):
            continue
        key = name[len(prefix) :]
        noted = types.get(key)
        if isinstance(noted, str) and noted in LEAVES and isinstance(value, str):
            nodes.append([noted, key, value])
        elif noted is not None and (known := from_notes([noted])) is not None:
            nodes += known
        elif (node := inferred(key, value)) is not None:
            nodes.append(node)
    return nodes


def nulls_lost(data: Mapping[str, Any], notes: Mapping[str, Any]) -> int:
    """How many nulls of the data no note says how to write: XES has no null."""
    if from_notes(notes.get("nodes")) is not None:
        return 0
    types = notes.get("types")
    noted_keys = types if isinstance(types, dict) else {}
    return sum(_nulls_in(value) for name, value in data.items() if name not in noted_keys)


def _nulls_in(data: Any) -> int:
    if isinstance(data, dict):
        return sum(map(_nulls_in, data.values()))
    if isinstance(data, list | tuple):
        return sum(map(_nulls_in, data))
    return int(data is None)


def inferred(key: str, value: Any) -> XesNode | None:
    """The attribute that a JSON value is by itself; None for null, which XES does not have."""
    match value:
        case str():
            return ["date" if key == TIME and _is_time(value) else "string", key, value]
        case bool():
            return ["boolean", key, "true" if value else "false"]
        case int():
            return ["int", key, str(value)]
        case float():
            return ["float", key, repr(value)]
        case dict():
            nested = [inferred(str(k), v) for k, v in value.items()]
            return ["container", key, None, [node for node in nested if node is not None]]
        case list() | tuple():
            items = [inferred(key, item) for item in value]
            values = [node for node in items if node is not None]
            return ["list", key, None, [["values", None, None, values]]]
        case _:
            return None


def noted(nodes: Sequence[XesNode]) -> list[Any]:
    """The nodes as they are kept in notes: those that are nested deep as a text."""
    return [encode_json(node).decode() if _height(node) > _MAX_DEPTH else node for node in nodes]


def from_notes(kept: Any) -> list[XesNode] | None:
    """The attributes and heads that notes hold; None where they hold anything else."""
    if not isinstance(kept, list):
        return None
    nodes: list[XesNode] = []
    for note in kept:
        node = note
        if isinstance(note, str):
            try:
                node = decode_json(note)
            except (ValueError, RecursionError):
                return None
        if not is_node(node) and not is_head(node):  # extras may come from anywhere
            return None
        nodes.append(node)
    return nodes


def _height(node: XesNode) -> int:
    return 1 + max(map(_height, _children(node)), default=0)


def _is_time(text: str) -> bool:
    try:
        time_of(text, UTC)
    except ValueError:
        return False
    return True


def is_node(node: Any) -> bool:
    """Whether a note has the shape of an attribute; extras may come from anywhere."""
    if not isinstance(node, list) or len(node) not in {3, 4} or not isinstance(node[0], str):
        return False
    tag, key, value = node[:3]
    children = node[3] if len(node) == 4 else []
    if not isinstance(children, list) or not all(map(is_node, children)):
        return False
    if tag == "values":
        return key is None
    if not isinstance(key, str):
        return False
    return value is None if tag in XES_GROUPS else tag in LEAVES and isinstance(value, str)


def is_head(node: Any) -> bool:
    """Whether a note has the shape of an extension, a global or a classifier."""
    return (
        isinstance(node, list)
        and len(node) == 4
        and node[0] in HEADS
        and isinstance(node[1], dict)
        and all(isinstance(value, str) for value in node[1].values())
        and isinstance(node[3], list)
        and all(map(is_node, node[3]))
    )
