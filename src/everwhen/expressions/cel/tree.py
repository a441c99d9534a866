"""The tree of an expression: constants, names, selections, calls, lists, maps and macros."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec

from everwhen.expressions.cel.faults import CelFault


class UInt(int):
    """An unsigned integer of CEL, written ``7u``."""

    __slots__ = ()


class Constant(msgspec.Struct, frozen=True):
    """A value that stands in the text."""

    at: int
    value: Any


class Name(msgspec.Struct, frozen=True):
    """A variable, by its name."""

    at: int
    name: str


class Select(msgspec.Struct, frozen=True):
    """``operand.field``, or ``has(operand.field)`` for ``test``."""

    at: int
    operand: SyntaxNode
    field: str
    test: bool


class Call(msgspec.Struct, frozen=True):
    """A function or an operator, and the value it is called on, if any."""

    at: int
    target: SyntaxNode | None
    function: str
    args: list[SyntaxNode]


class ListItems(msgspec.Struct, frozen=True):
    """A list."""

    at: int
    items: list[SyntaxNode]


class Entries(msgspec.Struct, frozen=True):
    """A map."""

    at: int
    entries: list[tuple[SyntaxNode, SyntaxNode]]


class Macro(msgspec.Struct, frozen=True):
    """A loop over a range: ``range.kind(variables, where, body)``."""

    at: int
    kind: Literal["all", "exists", "exists_one", "map", "transformMap"]
    variables: tuple[str, ...]
    range: SyntaxNode
    where: SyntaxNode | None
    body: SyntaxNode


SyntaxNode: TypeAlias = Constant | Name | Select | Call | ListItems | Entries | Macro


def macro(at: int, variable: str, items: SyntaxNode, start: SyntaxNode, step: Any) -> Macro:
    """The macro that a loop was written as, by what it starts with and how it goes on."""
    match start:
        case Constant(value=True):
            return Macro(at, "all", (variable,), items, None, step.args[1])
        case Constant(value=False):
            return Macro(at, "exists", (variable,), items, None, step.args[1])
        case Constant():
            return Macro(at, "exists_one", (variable,), items, None, step.args[0])
    where = None
    if step.function == "_?_:_":
        where, step = step.args[0], step.args[1]
    return Macro(at, "map", (variable,), items, where, step.args[1].items[0])


_PAIRED: Final[dict[tuple[str, int], Any]] = {
    ("all", 3): "all",
    ("exists", 3): "exists",
    ("exists_one", 3): "exists_one",
    ("existsOne", 3): "exists_one",
    ("transformList", 3): "map",
    ("transformList", 4): "map",
    ("transformMap", 3): "transformMap",
    ("transformMap", 4): "transformMap",
}


def call(at: int, target: SyntaxNode | None, function: str, args: list[SyntaxNode]) -> SyntaxNode:
    """A call, or a macro over keys and values, which the parser takes for one."""
    kind = _PAIRED.get((function, len(args)))
    if target is None or kind is None:
        return Call(at, target, function, args)
    match args:
        case [Name(name=key), Name(name=value), *where, body] if key != value:
            return Macro(at, kind, (key, value), target, where[0] if where else None, body)
        case _:
            raise CelFault(
                f"{function}() takes two different names first, of a key and a value", at
            )
