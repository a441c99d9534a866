"""When two values are equal, and which is the less."""

from __future__ import annotations

from typing import Any, Final

from everwhen.expressions.cel.faults import MAX_EXPRESSION_DEPTH, CelFault, Exhausted, Run
from everwhen.expressions.cel.parts import find, keys_in, size
from everwhen.expressions.cel.values import NUMBERS, scalar, shown, type_of
from everwhen.state.paths import MISSING


def equal(run: Run, left: Any, right: Any, depth: int = 0) -> bool:
    """Whether two values are equal, whatever their types; numbers on one line, others by type."""
    left, right = scalar(left), scalar(right)
    kind, other = type_of(left), type_of(right)
    run.spend(1)
    if kind in NUMBERS:
        return other in NUMBERS and _same_number(left, right)
    if kind != other:
        return False
    if depth > MAX_EXPRESSION_DEPTH:
        raise Exhausted(f"values are nested more than {MAX_EXPRESSION_DEPTH} levels deep")
    if kind == "list":
        if len(left) != len(right):
            return False
        return all(equal(run, a, b, depth + 1) for a, b in zip(left, right, strict=True))
    if kind == "map":
        return _same_map(run, left, right, depth + 1)
    if kind in ("string", "bytes", "set"):
        run.spend(len(left) >> 8)
    return bool(left == right)


def _same_number(left: Any, right: Any) -> bool:
    try:
        return bool(left == right)
    except ArithmeticError:  # a signalling NaN
        return False


def _same_map(run: Run, left: Any, right: Any, depth: int) -> bool:
    if size(left) != size(right):
        return False
    for key in keys_in(left):
        run.spend(1)
        other = find(run, right, key)
        if other is MISSING or not equal(run, find(run, left, key), other, depth):
            return False
    return True


_ORDERED: Final = frozenset(
    {"bool", "string", "bytes", "google.protobuf.Timestamp", "google.protobuf.Duration"}
)


def order(run: Run, left: Any, right: Any) -> int | None:
    """-1, 0 or 1 as left is less, equal or greater; None where one is not a number (NaN)."""
    left, right = scalar(left), scalar(right)
    kind, other = type_of(left), type_of(right)
    if not (kind == other and kind in _ORDERED) and not (kind in NUMBERS and other in NUMBERS):
        raise CelFault(f"{shown(left)} and {shown(right)} have no order")
    if kind == "string":
        run.spend(len(left) >> 8)
    try:
        less, greater = left < right, left > right
    except TypeError:
        raise CelFault("a time with a time zone and one without have no order") from None
    except ArithmeticError:  # a decimal that is not a number
        return None
    if less or greater:
        return -1 if less else 1
    return 0 if left == right else None
