"""Operators on numbers, texts, lists and times: nothing overflows, nothing grows without bounds."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Context, Decimal, DivisionByZero, InvalidOperation
from typing import Any, Final

from everwhen.expressions.cel.faults import CelFault, Run, check_size
from everwhen.expressions.cel.tree import UInt
from everwhen.expressions.cel.values import MadeList, scalar, shown, type_of

MIN_INT: Final = -(1 << 63)
MAX_INT: Final = (1 << 63) - 1
MAX_UINT: Final = (1 << 64) - 1

_DECIMALS: Final = Context(prec=50)
"""50 digits: more than money or any measure has, and still as fast as 28."""
_TIMES: Final = ("google.protobuf.Timestamp", "google.protobuf.Duration")


def whole(value: int) -> int:
    """An int of 64 bits. Raises `CelFault` for one that needs more."""
    if MIN_INT <= value <= MAX_INT:
        return value
    raise CelFault("the whole number needs more than 64 bits; decimal(…) is wider")


def unsigned(value: int) -> UInt:
    """A uint of 64 bits. Raises `CelFault` for one that needs more, or a sign."""
    if 0 <= value <= MAX_UINT:
        return UInt(value)
    raise CelFault("the number is below 0 or needs more than 64 bits, so it is not a uint")


def add(run: Run, left: Any, right: Any) -> Any:
    """``left + right``."""
    left, right = scalar(left), scalar(right)
    kinds = type_of(left), type_of(right)
    match kinds:
        case ("string", "string") | ("bytes", "bytes"):
            run.spend((len(left) + len(right)) >> 4)
            check_size(len(left) + len(right))
            return left + right
        case ("list", "list"):
            run.spend(len(left) + len(right))
            check_size(len(left) + len(right))
            return MadeList((*left, *right))
        case _ if _TIMES[1] in kinds and set(kinds) <= set(_TIMES):
            return _time(operator.add, left, right)
        case _:
            return _number("+", left, right)


def subtract(_run: Run, left: Any, right: Any) -> Any:
    """``left - right``."""
    left, right = scalar(left), scalar(right)
    kinds = type_of(left), type_of(right)
    if kinds in ((_TIMES[0], _TIMES[0]), _TIMES, (_TIMES[1], _TIMES[1])):
        return _time(operator.sub, left, right)
    return _number("-", left, right)


def multiply(_run: Run, left: Any, right: Any) -> Any:
    """``left * right``."""
    return _number("*", scalar(left), scalar(right))


def divide(_run: Run, left: Any, right: Any) -> Any:
    """``left / right``, of whole numbers towards zero."""
    return _number("/", scalar(left), scalar(right))


def remainder(_run: Run, left: Any, right: Any) -> Any:
    """``left % right``, with the sign of ``left``."""
    return _number("%", scalar(left), scalar(right))


def negate(_run: Run, value: Any) -> Any:
    """``-value``."""
    value = scalar(value)
    match type_of(value):
        case "int":
            return whole(-value)
        case "double":
            return -value
        case "decimal":
            return value.copy_negate()
        case _:
            raise CelFault(f"{shown(value)} can't be negated")


def _quotient(left: int, right: int) -> int:
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _rest(left: int, right: int) -> int:
    rest = abs(left) % abs(right)
    return rest if left >= 0 else -rest


_INTS: Final[dict[str, Callable[[int, int], int]]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": _quotient, "%": _rest,
}  # fmt: skip
_REALS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul,
}  # fmt: skip
_EXACT: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": _DECIMALS.add, "-": _DECIMALS.subtract, "*": _DECIMALS.multiply,
    "/": _DECIMALS.divide, "%": _DECIMALS.remainder,
}  # fmt: skip


def _number(sign: str, left: Any, right: Any) -> Any:
    kinds = type_of(left), type_of(right)
    match kinds:
        case ("int", "int"):
            return whole(_of_ints(sign, left, right))
        case ("uint", "uint"):
            return unsigned(_of_ints(sign, int(left), int(right)))
        case ("double", "double") if sign in _REALS:
            return _REALS[sign](left, right)
        case ("double", "double") if sign == "/":
            return _ratio(left, right)
        case ("decimal", "decimal" | "int" | "uint") | ("int" | "uint", "decimal"):
            return _of_decimals(sign, left, right)
        case _:
            raise CelFault(
                f"{shown(left)} {sign} {shown(right)} is not defined" + _mend(set(kinds))
            )


def _mend(kinds: set[str]) -> str:
    if kinds == {"int", "double"}:
        return "; write double(…) around the whole number"
    if kinds == {"double", "decimal"}:
        return "; write decimal(…) or double(…) around one of them"
    if kinds == {"int", "uint"}:
        return "; write int(…) or uint(…) around one of them"
    if "string" in kinds:
        return "; write string(…) around what is not a text"
    return ""


def _of_ints(sign: str, left: int, right: int) -> int:
    whole(left) if type(left) is int else unsigned(left)
    if sign in "/%" and right == 0:
        raise CelFault("division by zero")
    whole(right) if type(right) is int else None
    return _INTS[sign](left, right)


def _ratio(left: float, right: float) -> float:
    if right != 0 or math.isnan(right):
        return left / right
    if left == 0 or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def _of_decimals(sign: str, left: Any, right: Any) -> Decimal:
    try:
        result: Decimal = _EXACT[sign](Decimal(left), Decimal(right))
    except DivisionByZero:
        raise CelFault("division by zero") from None
    except InvalidOperation:
        raise CelFault("division by zero, or no number") from None
    except ArithmeticError:
        raise CelFault("the decimal number is too large, or none") from None
    return result


def _time(apply: Callable[[Any, Any], Any], left: Any, right: Any) -> datetime | timedelta:
    try:
        result: datetime | timedelta = apply(left, right)
    except OverflowError:
        raise CelFault("the time is before the year 1 or after 9999") from None
    except TypeError:
        raise CelFault("a time with a time zone and one without have no difference") from None
    return result
