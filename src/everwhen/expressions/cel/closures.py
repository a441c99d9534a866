"""What operators and macros become: closures over the functions of their parts.

What is common is done in place, such as comparing two ints; everything else goes through `values`
and `arithmetic`, where all cases are.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import msgspec

from everwhen.expressions.cel import arithmetic
from everwhen.expressions.cel.comparing import equal, order
from everwhen.expressions.cel.faults import CelFault, Run, check_size
from everwhen.expressions.cel.functions import is_in
from everwhen.expressions.cel.parts import hashable, items_in, pairs_in
from everwhen.expressions.cel.values import MadeList, MadeMap, scalar, shown, type_of

Closure: TypeAlias = Callable[[Run], Any]
"""What a node became: from an evaluation to a value. Raises `CelFault` or `Exhausted`."""

UNSET: Final = type(msgspec.UNSET)


def at_place(function: Callable[..., Any], at: int, run: Run, *values: Any) -> Any:
    """What the function gives; its faults are at this place."""
    try:
        return function(run, *values)
    except CelFault as fault:
        if fault.at is None:
            fault.at = at
        raise


def applied(function: Callable[..., Any], at: int, parts: list[Closure]) -> Closure:
    """A function of the parts' values."""
    match parts:
        case [only]:
            return lambda run: at_place(function, at, run, only(run))
        case [left, right]:
            return lambda run: at_place(function, at, run, left(run), right(run))
        case _:
            return lambda run: at_place(function, at, run, *[part(run) for part in parts])


def truth(value: Any, at: int) -> bool:
    """A value that is true or false."""
    if value is True or value is False:
        return bool(value)
    raise CelFault(f"{shown(value)} where true or false is needed; compare it with something", at)


def both(at: int, left: Closure, right: Closure, *, decisive: bool) -> Closure:
    """``&&`` or ``||``: a side that decides makes up for a fault of the other."""

    def evaluate(run: Run) -> bool:
        try:
            first = truth(left(run), at)
        except CelFault:
            if truth(right(run), at) is decisive:
                return decisive
            raise
        if first is decisive:
            return decisive
        return truth(right(run), at)

    return evaluate


def conditional(at: int, test: Closure, yes: Closure, no: Closure) -> Closure:
    """``test ? yes : no``; the other one is not evaluated."""
    return lambda run: yes(run) if truth(test(run), at) else no(run)


def negated(at: int, operand: Closure) -> Closure:
    """``!operand``."""
    return lambda run: not truth(operand(run), at)


def equality(at: int, left: Closure, right: Closure, *, wanted: bool) -> Closure:
    """``==``, or ``!=`` where equality isn't wanted."""

    def evaluate(run: Run) -> bool:
        one, other = left(run), right(run)
        cls = one.__class__
        if cls is other.__class__ and (cls is int or cls is float or cls is bool):
            return (one == other) is wanted
        if cls is str and other.__class__ is str and len(one) < 256:
            return (one == other) is wanted
        same: bool = at_place(equal, at, run, one, other)
        return same is wanted

    return evaluate


def comparison(at: int, left: Closure, right: Closure, sign: str) -> Closure:
    """``<``, ``<=``, ``>`` or ``>=``."""
    apply, fits = ORDERS[sign]

    def evaluate(run: Run) -> bool:
        one, other = left(run), right(run)
        cls = one.__class__
        if cls is other.__class__ and (cls is int or cls is float):
            return apply(one, other)
        return at_place(order, at, run, one, other) in fits

    return evaluate


ORDERS: Final[dict[str, tuple[Callable[[Any, Any], bool], set[int]]]] = {
    "_<_": (operator.lt, {-1}),
    "_<=_": (operator.le, {-1, 0}),
    "_>_": (operator.gt, {1}),
    "_>=_": (operator.ge, {0, 1}),
}
ARITHMETIC: Final[dict[str, Callable[..., Any]]] = {
    "_+_": arithmetic.add,
    "_-_": arithmetic.subtract,
    "_*_": arithmetic.multiply,
    "_/_": arithmetic.divide,
    "_%_": arithmetic.remainder,
    "-_": arithmetic.negate,
    "@in": is_in,
}


def put(run: Run, made: MadeMap, key: Any, value: Any, at: int) -> None:
    """Give a map that is being made one more entry."""
    key = hashable(run, key)
    if type_of(scalar(key)) not in ("bool", "int", "uint", "string", "map", "list"):
        raise CelFault(
            f"a map's key can't be {shown(key)}; take a text, a whole number or a bool", at
        )
    try:
        if key in made:
            raise CelFault(f"the key {key!r:.60} twice", at)
        made[key] = value
    except TypeError:
        raise CelFault(f"a map's key can't be {shown(key)}", at) from None


Each: TypeAlias = Callable[[Run], Iterator[Any]]


def going_through(at: int, items: Closure, price: int, slots: list[int]) -> Each:
    """Goes through a range: sets the local names to each item, and pays for it, before it is given.

    What is given is the first of the names: a list's item or index, a map's key.
    """
    first, *others = slots

    def each(run: Run) -> Iterator[Any]:
        value, local = items(run), run.local
        if others:
            for key, item in at_place(pairs_in, at, run, value):
                run.spend(price)
                local[first], local[others[0]] = key, item
                yield key
            return
        for item in at_place(items_in, at, run, value):
            run.spend(price)
            local[first] = item
            yield item

    return each


def _all_or_any(at: int, each: Each, body: Closure, *, decisive: bool) -> Closure:
    def evaluate(run: Run) -> bool:
        fault: CelFault | None = None
        for _ in each(run):
            try:
                if truth(body(run), at) is decisive:
                    return decisive
            except CelFault as found:
                fault = fault or found
        if fault is not None:
            raise fault
        return not decisive

    return evaluate


def _all(at: int, each: Each, _where: Closure | None, body: Closure) -> Closure:
    return _all_or_any(at, each, body, decisive=False)


def _exists(at: int, each: Each, _where: Closure | None, body: Closure) -> Closure:
    return _all_or_any(at, each, body, decisive=True)


def _exists_one(at: int, each: Each, _where: Closure | None, body: Closure) -> Closure:
    return lambda run: sum(truth(body(run), at) for _ in each(run)) == 1


def _mapped(at: int, each: Each, where: Closure | None, body: Closure) -> Closure:
    def evaluate(run: Run) -> MadeList:
        made = MadeList()
        for _ in each(run):
            if where is None or truth(where(run), at):
                check_size(len(made) + 1)
                made.append(body(run))
        return made

    return evaluate


def _map_made(at: int, each: Each, where: Closure | None, body: Closure) -> Closure:
    def evaluate(run: Run) -> MadeMap:
        made = MadeMap()
        for key in each(run):
            if where is None or truth(where(run), at):
                check_size(len(made) + 1)
                put(run, made, key, body(run), at)
        return made

    return evaluate


LOOPS: Final[dict[str, Callable[[int, Each, Closure | None, Closure], Closure]]] = {
    "all": _all,
    "exists": _exists,
    "exists_one": _exists_one,
    "map": _mapped,
    "transformMap": _map_made,
}
