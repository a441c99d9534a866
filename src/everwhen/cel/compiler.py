"""From a tree to a function: each node becomes a closure over those of its parts.

What is common is done in place: two ints, texts or floats are compared at once, and a field or a
key is fetched from a dict or record without a call. Everything else goes through `values`,
`arithmetic` and `functions`, where all cases are.

The number of nodes bounds the work of an expression without macros. A macro pays a step for each
node of its body, for each item; operations on large values pay for their size.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from everwhen.cel import arithmetic
from everwhen.cel.faults import Fault, Run, check_size
from everwhen.cel.functions import FUNCTIONS, MACROS, METHODS, is_in
from everwhen.cel.syntax import Call, Constant, Entries, Items, Macro, Name, Node, Select
from everwhen.cel.values import (
    MadeList,
    MadeMap,
    Type,
    equal,
    find,
    hashable,
    items_in,
    order,
    pairs_in,
    part,
    scalar,
    shown,
    suggestion,
    type_of,
)
from everwhen.paths import MISSING, field_names

Evaluate: TypeAlias = Callable[[Run], Any]
"""What a node became: from an evaluation to a value. Raises `Fault` or `Exhausted`."""

_TYPES: Final = {
    name: Type(name)
    for name in (
        "bool", "int", "uint", "double", "decimal", "string", "bytes", "list", "map", "set",
        "null_type", "type",
    )
}  # fmt: skip
_INDEX: Final = "_[_]"
_UNSET: Final = type(msgspec.UNSET)


class Compiler:
    """Makes functions of trees, and notes the free names and how many local ones there are."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.slots = 0

    def compile(self, node: Node, scope: Mapping[str, int] = {}) -> tuple[Evaluate, int]:
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
            case Items(items=items):
                return self._list(self._all(items, scope))
            case Entries():
                return self._map(node, scope)
            case Macro():
                return self._macro(node, scope)

    def _all(self, nodes: list[Node], scope: Mapping[str, int]) -> list[tuple[Evaluate, int]]:
        return [self.compile(node, scope) for node in nodes]

    def _name(self, node: Name, scope: Mapping[str, int]) -> Evaluate:
        name, at = node.name, node.at
        slot = scope.get(name)
        if slot is not None:
            return lambda run: run.local[slot]
        name = name.removeprefix(".")
        meant = _TYPES.get(name, MISSING)
        if meant is MISSING:
            self.names.add(name)

        def look_up(run: Run) -> Any:
            try:
                return run.variables[name]
            except KeyError:
                if meant is not MISSING:
                    return meant
                known = run.variables
            raise Fault(lambda: f"nothing is called {name!r} here" + suggestion(name, known), at)

        return look_up

    def _select(self, node: Select, scope: Mapping[str, int]) -> tuple[Evaluate, int]:
        field, at = node.field, node.at
        named = _type_name(node)
        if named is not None:
            kind = Type(named)
            return lambda _run: kind, 1
        operand, weight = self.compile(node.operand, scope)
        if node.test:

            def has(run: Run) -> bool:
                value = operand(run)
                return _placed(find, at, run, value, field) is not MISSING

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
                if found is not MISSING and found.__class__ is not _UNSET:
                    return found
            return _placed(part, at, run, value, field)

        return select, weight + 1

    def _index(self, at: int, operand: Evaluate, key: Evaluate) -> Evaluate:
        def index(run: Run) -> Any:
            value, wanted = operand(run), key(run)
            cls = wanted.__class__
            if value.__class__ is dict and (cls is str or cls is int):
                found = value.get(wanted, MISSING)
                if found is not MISSING:
                    return found
            return _placed(part, at, run, value, wanted)

        return index

    def _call(self, node: Call, scope: Mapping[str, int]) -> tuple[Evaluate, int]:
        at, name = node.at, node.function
        if node.target is None and name not in FUNCTIONS and not name[0].isalpha():
            return self._operator(node, scope)
        known = FUNCTIONS if node.target is None else METHODS
        if name not in known:
            raise Fault(_unknown(name, is_method=node.target is not None), at)
        function, counts = known[name]
        given = node.args if node.target is None else [node.target, *node.args]
        if len(given) not in counts:
            raise Fault(f"{name}() with {len(node.args)} values between its brackets", at)
        parts = self._all(given, scope)
        return _applied(function, at, [part for part, _ in parts]), _weight(parts)

    def _operator(self, node: Call, scope: Mapping[str, int]) -> tuple[Evaluate, int]:
        at, sign = node.at, node.function
        parts = self._all(node.args, scope)
        given, weight = [part for part, _ in parts], _weight(parts)
        match sign:
            case "_&&_":
                return _both(at, *given, decisive=False), weight
            case "_||_":
                return _both(at, *given, decisive=True), weight
            case "_?_:_":
                return _conditional(at, *given), weight
            case "!_":
                return _negated(at, *given), weight
            case "_==_":
                return _equality(at, *given, wanted=True), weight
            case "_!=_":
                return _equality(at, *given, wanted=False), weight
            case _ if sign == _INDEX:
                return self._index(at, *given), weight
            case _ if sign in _ORDERS:
                return _comparison(at, given[0], given[1], sign), weight
            case _ if sign in _ARITHMETIC:
                return _applied(_ARITHMETIC[sign], at, given), weight
            case _:
                raise Fault(_unknown(sign, is_method=False), at)

    def _list(self, parts: list[tuple[Evaluate, int]]) -> tuple[Evaluate, int]:
        items = [item for item, _ in parts]
        return lambda run: MadeList([item(run) for item in items]), _weight(parts)

    def _map(self, node: Entries, scope: Mapping[str, int]) -> tuple[Evaluate, int]:
        keys = self._all([key for key, _ in node.entries], scope)
        values = self._all([value for _, value in node.entries], scope)
        pairs = [(key, value) for (key, _), (value, _) in zip(keys, values, strict=True)]
        at = node.at

        def make(run: Run) -> MadeMap:
            made = MadeMap()
            for key, value in pairs:
                _put(made, key(run), value(run), at)
            return made

        return make, _weight(keys) + _weight(values)

    def _macro(self, node: Macro, scope: Mapping[str, int]) -> tuple[Evaluate, int]:
        items, weight = self.compile(node.range, scope)
        inner = dict(scope)
        for name in node.variables:
            inner[name] = self.slots
            self.slots += 1
        body, size = self.compile(node.body, inner)
        where: Evaluate | None = None
        if node.where is not None:
            where, more = self.compile(node.where, inner)
            size += more
        each = _items(node.at, items, size + 1, [inner[name] for name in node.variables])
        return _LOOPS[node.kind](node.at, each, where, body), weight + size + 1


def _weight(parts: list[tuple[Evaluate, int]]) -> int:
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


def _placed(function: Callable[..., Any], at: int, run: Run, *values: Any) -> Any:
    """What the function gives; its faults are at this place."""
    try:
        return function(run, *values)
    except Fault as fault:
        if fault.at is None:
            fault.at = at
        raise


def _applied(function: Callable[..., Any], at: int, parts: list[Evaluate]) -> Evaluate:
    match parts:
        case [only]:
            return lambda run: _placed(function, at, run, only(run))
        case [left, right]:
            return lambda run: _placed(function, at, run, left(run), right(run))
        case _:
            return lambda run: _placed(function, at, run, *[part(run) for part in parts])


def _truth(value: Any, at: int) -> bool:
    if value is True or value is False:
        return bool(value)
    raise Fault(f"{shown(value)} where true or false is needed; compare it with something", at)


def _both(at: int, left: Evaluate, right: Evaluate, *, decisive: bool) -> Evaluate:
    """``&&`` or ``||``: a side that decides makes up for a fault of the other."""

    def evaluate(run: Run) -> bool:
        try:
            first = _truth(left(run), at)
        except Fault:
            if _truth(right(run), at) is decisive:
                return decisive
            raise
        if first is decisive:
            return decisive
        return _truth(right(run), at)

    return evaluate


def _conditional(at: int, test: Evaluate, yes: Evaluate, no: Evaluate) -> Evaluate:
    return lambda run: yes(run) if _truth(test(run), at) else no(run)


def _negated(at: int, operand: Evaluate) -> Evaluate:
    return lambda run: not _truth(operand(run), at)


def _equality(at: int, left: Evaluate, right: Evaluate, *, wanted: bool) -> Evaluate:
    def evaluate(run: Run) -> bool:
        one, other = left(run), right(run)
        cls = one.__class__
        if cls is other.__class__ and (cls is int or cls is float or cls is bool):
            return (one == other) is wanted
        if cls is str and other.__class__ is str and len(one) < 256:
            return (one == other) is wanted
        same: bool = _placed(equal, at, run, one, other)
        return same is wanted

    return evaluate


def _comparison(at: int, left: Evaluate, right: Evaluate, sign: str) -> Evaluate:
    apply, fits = _ORDERS[sign]

    def evaluate(run: Run) -> bool:
        one, other = left(run), right(run)
        cls = one.__class__
        if cls is other.__class__ and (cls is int or cls is float):
            return apply(one, other)
        return _placed(order, at, run, one, other) in fits

    return evaluate


_ORDERS: Final[dict[str, tuple[Callable[[Any, Any], bool], set[int]]]] = {
    "_<_": (operator.lt, {-1}),
    "_<=_": (operator.le, {-1, 0}),
    "_>_": (operator.gt, {1}),
    "_>=_": (operator.ge, {0, 1}),
}
_ARITHMETIC: Final[dict[str, Callable[..., Any]]] = {
    "_+_": arithmetic.add,
    "_-_": arithmetic.subtract,
    "_*_": arithmetic.multiply,
    "_/_": arithmetic.divide,
    "_%_": arithmetic.remainder,
    "-_": arithmetic.negate,
    "@in": is_in,
}


def _put(made: MadeMap, key: Any, value: Any, at: int) -> None:
    key = hashable(key)
    if type_of(scalar(key)) not in ("bool", "int", "uint", "string", "map", "list"):
        raise Fault(f"a map's key can't be {shown(key)}; take a text, a whole number or a bool", at)
    try:
        if key in made:
            raise Fault(f"the key {key!r:.60} twice", at)
        made[key] = value
    except TypeError:
        raise Fault(f"a map's key can't be {shown(key)}", at) from None


Each: TypeAlias = Callable[[Run], Iterator[Any]]


def _items(at: int, items: Evaluate, price: int, slots: list[int]) -> Each:
    """Goes through a range: sets the local names to each item, and pays for it, before it is given.

    What is given is the first of the names: a list's item or index, a map's key.
    """
    first, *others = slots

    def each(run: Run) -> Iterator[Any]:
        value, local = items(run), run.local
        if others:
            for key, item in _placed(pairs_in, at, run, value):
                run.spend(price)
                local[first], local[others[0]] = key, item
                yield key
            return
        for item in _placed(items_in, at, run, value):
            run.spend(price)
            local[first] = item
            yield item

    return each


def _all_or_any(at: int, each: Each, body: Evaluate, *, decisive: bool) -> Evaluate:
    def evaluate(run: Run) -> bool:
        fault: Fault | None = None
        for _ in each(run):
            try:
                if _truth(body(run), at) is decisive:
                    return decisive
            except Fault as found:
                fault = fault or found
        if fault is not None:
            raise fault
        return not decisive

    return evaluate


def _all(at: int, each: Each, _where: Evaluate | None, body: Evaluate) -> Evaluate:
    return _all_or_any(at, each, body, decisive=False)


def _exists(at: int, each: Each, _where: Evaluate | None, body: Evaluate) -> Evaluate:
    return _all_or_any(at, each, body, decisive=True)


def _exists_one(at: int, each: Each, _where: Evaluate | None, body: Evaluate) -> Evaluate:
    return lambda run: sum(_truth(body(run), at) for _ in each(run)) == 1


def _mapped(at: int, each: Each, where: Evaluate | None, body: Evaluate) -> Evaluate:
    def evaluate(run: Run) -> MadeList:
        made = MadeList()
        for _ in each(run):
            if where is None or _truth(where(run), at):
                check_size(len(made) + 1)
                made.append(body(run))
        return made

    return evaluate


def _map_made(at: int, each: Each, where: Evaluate | None, body: Evaluate) -> Evaluate:
    def evaluate(run: Run) -> MadeMap:
        made = MadeMap()
        for key in each(run):
            if where is None or _truth(where(run), at):
                check_size(len(made) + 1)
                _put(made, key, body(run), at)
        return made

    return evaluate


_LOOPS: Final[dict[str, Callable[[int, Each, Evaluate | None, Evaluate], Evaluate]]] = {
    "all": _all,
    "exists": _exists,
    "exists_one": _exists_one,
    "map": _mapped,
    "transformMap": _map_made,
}
