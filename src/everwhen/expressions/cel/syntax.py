"""From a text to a tree, by the parser of Google's CEL implementation.

The parser gives its tree as a Protocol Buffers message (``cel.expr.ParsedExpr``), with macros
spelled out as loops. The message is read here field by field: its few kinds of nodes need no
library of their own.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

from everwhen.expressions.cel.faults import CelFault
from everwhen.expressions.cel.tree import (
    Constant,
    Entries,
    ListItems,
    Name,
    Select,
    SyntaxNode,
    UInt,
    call,
    macro,
)
from everwhen.vocabulary.errors import UnsupportedError

MAX_TEXT_CHARACTERS: Final = 10_000
"""The most characters that an expression may have."""


def parse(text: str) -> SyntaxNode:
    """The tree of a text. Raises `CelFault` with the place where it can't be read."""
    if len(text) > MAX_TEXT_CHARACTERS:
        raise CelFault(
            f"{len(text)} characters; an expression may have at most {MAX_TEXT_CHARACTERS}", 0
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CelFault("half a character (a lone surrogate)", error.start) from None
    try:
        message = _environment().compile(text, disable_check=True).serialize()
    except RuntimeError as error:
        raise _fault(text, str(error)) from None
    parsed = _only(_only(message, 2), 2), _only(_only(message, 2), 3)
    return _Reader(parsed[1]).node(parsed[0])


@cache
def _environment() -> Any:
    try:
        from cel_expr_python import cel
    except ImportError:
        raise UnsupportedError(
            "expressions need a parser: pip install 'everwhen[expressions]'"
        ) from None
    return cel.NewEnv()


@cache
def _matcher() -> Any:
    """An expression that matches a text against a pattern, by RE2, in linear time."""
    from cel_expr_python import cel

    variables = {"text": cel.Type.STRING, "pattern": cel.Type.STRING}
    return cel.NewEnv(variables=variables).compile("text.matches(pattern)")


def matches(text: str, pattern: str) -> bool:
    """Whether a part of the text matches the pattern. Raises `CelFault` for an invalid pattern."""
    try:
        found = _matcher().eval(data={"text": text, "pattern": pattern}).plain_value()
    except RuntimeError as error:
        found = str(error)
    if isinstance(found, bool):
        return found
    reason = re.sub(r"^.*invalid regular expression: |\s*\[[A-Z_]+\]$", "", str(found))
    raise CelFault(f"the pattern {pattern[:60]!r} is not one that RE2 accepts: {reason}")


_HABITS: Final = {
    "and": "write && for and", "or": "write || for or", "not": "write ! for not",
    "is": "write == for is", "=": "write == to compare", "&": "write && for and",
    "|": "write || for or", "if": "write condition ? this : that",
    "**": "there are no powers", "//": "write / between whole numbers",
}  # fmt: skip
_WHERE: Final = re.compile(r"<input>:(\d+):(\d+): (?:Syntax error: )?(.*)")


def _fault(text: str, said: str) -> CelFault:
    """The parser's first complaint, in our words."""
    if "ecursion" in said:
        return CelFault("nested too deeply, or too long a chain; at most 32 levels are allowed", 0)
    match = _WHERE.search(said)
    if match is None:
        return CelFault(f"it can't be read: {said[:100]}", 0)
    line, column, reason = int(match[1]), int(match[2]), match[3].split(" [INVALID")[0]
    lines = text.splitlines(keepends=True)[: line - 1]
    at = min(sum(map(len, lines)) + max(column - 1, 0), len(text))
    habit = next(
        (fix for word, fix in _HABITS.items() if re.match(re.escape(word) + r"(?!\w)", text[at:])),
        None,
    )
    if habit is not None:
        return CelFault(
            f"{text[at : at + 10].split(maxsplit=1)[0]!r} is not of this language; {habit}", at
        )
    if "<EOF>' expecting" in reason:
        return CelFault("it ends where something is still to come", at)
    unexpected = re.match(r"(?:mismatched|extraneous) input '(.*?)' expecting", reason)
    if unexpected or reason.startswith(("token recognition", "no viable alternative")):
        shown = text[at : at + 20].split("\n", maxsplit=1)[0]
        return CelFault(f"{shown!r} is not expected here; check quotes and brackets before it", at)
    return CelFault(reason, at)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """A message's fields, by number: integers, and bytes for everything else."""
    place, end = 0, len(data)
    while place < end:
        tag, place = _varint(data, place)
        match tag & 7:
            case 0:
                value, place = _varint(data, place)
                yield tag >> 3, value
            case 1:
                yield tag >> 3, data[place : place + 8]
                place += 8
            case _:
                size, place = _varint(data, place)
                yield tag >> 3, data[place : place + size]
                place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7


def _only(message: bytes, number: int) -> bytes:
    return next((value for field, value in _fields(message) if field == number), b"")


class _Reader:
    """Reads expressions of a message whose source information says where they stand."""

    def __init__(self, source: bytes) -> None:
        self.places: dict[int, int] = {}
        for number, value in _fields(source):
            if number == 4:
                entry = dict(_fields(value))
                self.places[entry.get(1, 0)] = entry.get(2, 0)

    def node(self, message: bytes) -> SyntaxNode:
        fields = dict(_fields(message))
        at = self.places.get(fields.pop(2, 0), 0)
        ((kind, body),) = fields.items()
        match kind:
            case 3:
                return Constant(at, _constant(body))
            case 4:
                return Name(at, _only(body, 1).decode())
            case 5:
                select = dict(_fields(body))
                field = select.get(2, b"").decode()
                return Select(at, self.node(select[1]), field, bool(select.get(3)))
            case 6:
                parts = list(_fields(body))
                target = next((self.node(value) for number, value in parts if number == 1), None)
                args = [self.node(value) for number, value in parts if number == 3]
                return call(at, target, _only(body, 2).decode(), args)
            case 7:
                return ListItems(at, [self.node(value) for n, value in _fields(body) if n == 1])
            case 8:
                return self._map(at, body)
            case _:
                loop = dict(_fields(body))
                variable, items = loop[1].decode(), self.node(loop[2])
                return macro(at, variable, items, self.node(loop[4]), self.node(loop[6]))

    def _map(self, at: int, body: bytes) -> SyntaxNode:
        entries: list[tuple[SyntaxNode, SyntaxNode]] = []
        for number, value in _fields(body):
            if number == 1:
                raise CelFault("there are no messages here; write a map, {'name': value}", at)
            entry = dict(_fields(value))
            entries.append((self.node(entry[3]), self.node(entry[4])))
        return Entries(at, entries)


def _constant(body: bytes) -> Any:
    ((kind, value),) = _fields(body)
    match kind:
        case 2:
            return bool(value)
        case 3:
            return value - (1 << 64) if value >> 63 else value
        case 4:
            return UInt(value)
        case 5:
            return struct.unpack("<d", value)[0]
        case 6:
            return value.decode()
        case 7:
            return bytes(value)
        case _:
            return None
