"""Which parts an expression names outright: those that a typo could be in.

A part that the expression itself asks after, by ``has(a.b)`` or ``"b" in a``, may be missing by
right, and so may all that is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from everwhen.expressions.cel.compiler import CEL_TYPES
from everwhen.expressions.cel.tree import (
    Call,
    Constant,
    Entries,
    ListItems,
    Macro,
    Name,
    Select,
    SyntaxNode,
)
from everwhen.state.paths import Path

_INDEX: Final = "_[_]"


def named_parts(node: SyntaxNode) -> list[Path]:
    """The keys to each part, beginning with the name of a variable; the longest paths only."""
    asked: set[Path] = set()
    named = dict.fromkeys(_named(node, frozenset(), asked))
    found = [
        path
        for path in named
        if not any(path[: len(may_miss)] == may_miss for may_miss in asked)
        and not (len(path) == 1 and path[0] in CEL_TYPES)
        and path[:2] != ("google", "protobuf")
    ]
    return [p for p in found if not any(o[: len(p)] == p for o in found if o != p)]


def _named(node: SyntaxNode, local: frozenset[str], asked: set[Path]) -> Iterator[Path]:
    path = _path(node, local)
    if path is not None:
        if isinstance(node, Select) and node.test:
            asked.add(path)
        else:
            yield path
        return
    match node:
        case Call(function="@in", args=[Constant(value=str() | int() as key), into]):
            within = _path(into, local)
            if within is not None:
                asked.add((*within, key))
                yield within
                return
    if isinstance(node, Macro):
        yield from _named(node.range, local, asked)
        local |= set(node.variables)
    for part in _inner(node):
        yield from _named(part, local, asked)


def _inner(node: SyntaxNode) -> list[SyntaxNode]:
    """What a node is made of; of a macro, what it does for each item."""
    match node:
        case Macro(where=where, body=body):
            return [body] if where is None else [where, body]
        case Select(operand=operand):
            return [operand]
        case Call(target=target, args=args):
            return args if target is None else [target, *args]
        case ListItems(items=items):
            return items
        case Entries(entries=entries):
            return [part for pair in entries for part in pair]
        case _:
            return []


def _path(node: SyntaxNode, local: frozenset[str]) -> Path | None:
    """The keys to the one part that the node is; None where it is something else."""
    keys: list[Any] = []
    while True:
        match node:
            case Select(operand=operand, field=field):
                keys.append(field)
                node = operand
            case Call(function=function, args=[operand, Constant(value=str() | int() as key)]) if (
                function == _INDEX
            ):
                keys.append(key)
                node = operand
            case Name(name=name) if name not in local:
                return (name.removeprefix("."), *reversed(keys))
            case _:
                return None
