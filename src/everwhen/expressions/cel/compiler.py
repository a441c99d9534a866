"""From a tree to a function: each node becomes a closure over those of its parts.

A field or a key of a plain dict or record is fetched in place; everything else goes through
`values`, where all cases are.

The number of nodes bounds the work of an expression without macros. A macro pays a step for each
node of its body, for each item; operations on large values pay for their size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from everwhen.expressions.cel.closures import (
    ARITHMETIC,
    LOOPS,
    ORDERS,
    UNSET,
    Closure,
    applied,
    at_place,
    both,
    comparison,
    conditional,
    equality,
    going_through,
    negated,
    put,
)
from everwhen.expressions.cel.faults import CelFault, NotThereError, Run
from everwhen.expressions.cel.functions import FUNCTIONS, MACROS, METHODS
from everwhen.expressions.cel.parts import find, part, suggestion
from everwhen.expressions.cel.repeating import Repeated, rests_on_items
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
from everwhen.expressions.cel.values import MadeList, MadeMap, Type
from everwhen.state.paths import MISSING, field_names

CEL_TYPES: Final = {
    name: Type(name)
    for name in (
        "bool", "int", "uint", "double", "decimal", "string", "bytes", "list", "map", "set",
        "null_type", "type",
    )
}  # fmt: skip
_INDEX: Final = "_[_]"


class Compiler:
    """Makes functions of trees, and notes the free names and how many local ones there are."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.slots = 0

    def compile(self, node: SyntaxNode, scope: Mapping[str, int] = {}) -> tuple[Closure, int]:
        """A node's function, and how many nodes it is made of."""
        match node:
            case Constant(value=value):
                return lambda _run: value, 1
            case Name():
                return self._name(node, scope), 1
            case Select():
                return self._select(node, scope)
            case Call():
                return self._call(node, scope)
            case ListItems(items=items):
                return self._list(self._all(items, scope))
            case Entries():
                return self._map(node, scope)
            case Macro():
                return self._macro(node, scope)

    def _all(self, nodes: list[SyntaxNode], scope: Mapping[str, int]) -> list[tuple[Closure, int]]:
        return [self.compile(node, scope) for node in nodes]

    def _name(self, node: Name, scope: Mapping[str, int]) -> Closure:
        name, at = node.name, node.at
        slot = scope.get(name)
        if slot is not None:
            return lambda run: run.local[slot]
        name = name.removeprefix(".")
        meant = CEL_TYPES.get(name, MISSING)
        if meant is MISSING:
            self.names.add(name)

        def look_up(run: Run) -> Any:
            try:
                return run.variables[name]
            except KeyError as error:
                if meant is not MISSING:
                    return meant
                missing, known = isinstance(error, NotThereError), run.variables
            said = f"nothing is called {name!r} here"
            raise CelFault(lambda: said + suggestion(name, known), at, missing=missing)

        return look_up

    def _select(self, node: Select, scope: Mapping[str, int]) -> tuple[Closure, int]:
        field, at = node.field, node.at
        named = _type_name(node)
        if named is not None:
            kind = Type(named)
            return lambda _run: kind, 1
        operand, weight = self.compile(node.operand, scope)
        if node.test:

            def has(run: Run) -> bool:
                value = operand(run)
                return at_place(find, at, run, value, field) is not MISSING

            return has, weight + 1

        private = field.startswith("_")

        def select(run: Run) -> Any:
            value = operand(run)
            cls = value.__class__
            if cls is dict:
                found = value.get(field, MISSING)
                if found is not MISSING:
                    return found
            elif not private and field in field_names(cls):
                found = getattr(value, field, MISSING)
                if found is not MISSING and found.__class__ is not UNSET:
                    return found
            return at_place(part, at, run, value, field)

        return select, weight + 1

    def _index(self, at: int, operand: Closure, key: Closure) -> Closure:
        def index(run: Run) -> Any:
            value, wanted = operand(run), key(run)
            cls = wanted.__class__
            if value.__class__ is dict and (cls is str or cls is int):
                found = value.get(wanted, MISSING)
                if found is not MISSING:
                    return found
            return at_place(part, at, run, value, wanted)

        return index

    def _call(self, node: Call, scope: Mapping[str, int]) -> tuple[Closure, int]:
        at, name = node.at, node.function
        if node.target is None and name not in FUNCTIONS and not name[0].isalpha():
            return self._operator(node, scope)
        known = FUNCTIONS if node.target is None else METHODS
        if name not in known:
            raise CelFault(_unknown(name, is_method=node.target is not None), at)
        function, counts = known[name]
        given = node.args if node.target is None else [node.target, *node.args]
        if len(given) not in counts:
            raise CelFault(f"{name}() with {len(node.args)} values between its brackets", at)
        parts = self._all(given, scope)
        return applied(function, at, [part for part, _ in parts]), _weight(parts)

    def _operator(self, node: Call, scope: Mapping[str, int]) -> tuple[Closure, int]:
        at, sign = node.at, node.function
        parts = self._all(node.args, scope)
        given, weight = [part for part, _ in parts], _weight(parts)
        match sign:
            case "_&&_":
                return both(at, *given, decisive=False), weight
            case "_||_":
                return both(at, *given, decisive=True), weight
            case "_?_:_":
                return conditional(at, *given), weight
            case "!_":
                return negated(at, *given), weight
            case "_==_":
                return equality(at, *given, wanted=True), weight
            case "_!=_":
                return equality(at, *given, wanted=False), weight
            case _ if sign == _INDEX:
                return self._index(at, *given), weight
            case _ if sign in ORDERS:
                return comparison(at, given[0], given[1], sign), weight
            case _ if sign in ARITHMETIC:
                return applied(ARITHMETIC[sign], at, given), weight
            case _:
                raise CelFault(_unknown(sign, is_method=False), at)

    def _list(self, parts: list[tuple[Closure, int]]) -> tuple[Closure, int]:
        items = [item for item, _ in parts]
        return lambda run: MadeList([item(run) for item in items]), _weight(parts)

    def _map(self, node: Entries, scope: Mapping[str, int]) -> tuple[Closure, int]:
        keys = self._all([key for key, _ in node.entries], scope)
        values = self._all([value for _, value in node.entries], scope)
        pairs = [(key, value) for (key, _), (value, _) in zip(keys, values, strict=True)]
        at = node.at

        def make(run: Run) -> MadeMap:
            made = MadeMap()
            for key, value in pairs:
                put(run, made, key(run), value(run), at)
            return made

        return make, _weight(keys) + _weight(values)

    def _macro(self, node: Macro, scope: Mapping[str, int]) -> tuple[Closure, int]:
        items, weight = self.compile(node.range, scope)
        inner = dict(scope)
        for name in node.variables:
            inner[name] = self.slots
            self.slots += 1
        body, size = self.compile(node.body, inner)
        where: Closure | None = None
        if node.where is not None:
            where, more = self.compile(node.where, inner)
            size += more
        each = going_through(node.at, items, size + 1, [inner[name] for name in node.variables])
        loop = LOOPS[node.kind](node.at, each, where, body)
        rests = rests_on_items(node) if node.kind in ("all", "exists") and not scope else False
        if rests is not False:
            slots = [inner[name] for name in node.variables]
            loop = Repeated(node, loop, items, body, size + 1, slots, only_maps=rests is None)
        return loop, weight + size + 1


def _weight(parts: list[tuple[Closure, int]]) -> int:
    return 1 + sum(weight for _, weight in parts)


def _type_name(node: Select) -> str | None:
    """``google.protobuf.Timestamp`` and ``…Duration``, which look like fields."""
    match node:
        case Select(operand=Select(operand=Name(name="google"), field="protobuf"), test=False):
            name = f"google.protobuf.{node.field}"
            return name if node.field in ("Timestamp", "Duration") else None
        case _:
            return None


def _unknown(name: str, *, is_method: bool) -> str:
    known, others = (METHODS, FUNCTIONS) if is_method else (FUNCTIONS, METHODS)
    if name in MACROS:
        return f"{name}() is a macro: write list.{name}(item, condition), or has(record.field)"
    if name in others:
        return f"{name}() is called " + (
            f"as {name}(value)" if is_method else f"on a value: value.{name}(…)"
        )
    return f"there is no function {name[:60]!r}" + suggestion(name, [*known, *MACROS])
