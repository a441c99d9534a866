"""Functions that make a value of one type from another: ``int("7")``, ``timestamp("2026-…")``."""

from __future__ import annotations

import contextlib
import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from everwhen.expressions.cel.arithmetic import MAX_INT, MAX_UINT, MIN_INT, unsigned, whole
from everwhen.expressions.cel.faults import CelFault, Run
from everwhen.expressions.cel.tree import UInt
from everwhen.expressions.cel.values import Type, scalar, shown, type_of

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_SPAN: Final = re.compile(r"[-+]?(?:\d{1,18}(?:\.\d{0,9})?(?:h|ms|us|µs|ns|m|s))+")
_SPAN_PART: Final = re.compile(r"(\d+(?:\.\d*)?)(h|ms|us|µs|ns|m|s)")
_SECONDS: Final = {
    "h": Decimal(3600), "m": Decimal(60), "s": Decimal(1), "ms": Decimal("1e-3"),
    "us": Decimal("1e-6"), "µs": Decimal("1e-6"), "ns": Decimal("1e-9"),
}  # fmt: skip
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _refused(what: str, value: Any) -> CelFault:
    named = f"{value[:60]!r}" if isinstance(value, str) else shown(value)
    return CelFault(f"{what}() can't be made of {named}")


def to_int(_run: Run, value: Any) -> int:
    """``int(value)``: of numbers towards zero, of text, of a time in seconds since 1970."""
    value = scalar(value)
    match type_of(value):
        case "int" | "uint":
            return whole(int(value))
        case "bool":
            return int(value)
        case "double" | "decimal" if _is_finite(value) and MIN_INT <= value <= MAX_INT:
            return int(value)
        case "double" | "decimal":
            raise CelFault("the number needs more than 64 bits, or is none")
        case "string" if re.fullmatch(r"[-+]?[0-9]{1,25}", value):
            return whole(int(value))
        case "google.protobuf.Timestamp":
            return int((_aware(value) - _EPOCH) // timedelta(seconds=1))
        case _:
            raise _refused("int", value)


def to_uint(_run: Run, value: Any) -> UInt:
    """``uint(value)``: of numbers towards zero, and of text."""
    value = scalar(value)
    match type_of(value):
        case "int" | "uint":
            return unsigned(int(value))
        case "double" | "decimal" if _is_finite(value) and 0 <= value <= MAX_UINT:
            return unsigned(int(value))
        case "double" | "decimal":
            raise CelFault("the number is below 0 or needs more than 64 bits, so it is not a uint")
        case "string" if re.fullmatch(r"[0-9]{1,25}", value):
            return unsigned(int(value))
        case _:
            raise _refused("uint", value)


def to_double(_run: Run, value: Any) -> float:
    """``double(value)``: of numbers and of text."""
    value = scalar(value)
    number = r"[-+]?([0-9]+\.?[0-9]*([eE][-+]?[0-9]+)?|\.[0-9]+|(?i:inf|infinity|nan))"
    match type_of(value):
        case "int" | "uint" | "double" | "decimal":
            with contextlib.suppress(OverflowError, ValueError):
                made = float(value)
                if math.isfinite(made) or not _is_finite(value):
                    return made
            raise CelFault("the number is too large for a double, or none")
        case "string" if len(value) <= 1_000 and re.fullmatch(number, value):
            return float(value)
        case _:
            raise _refused("double", value)


def to_decimal(_run: Run, value: Any) -> Decimal:
    """``decimal(value)``: of numbers and of text; a double as it is written, so 0.1 is 0.1."""
    value = scalar(value)
    try:
        match type_of(value):
            case "int" | "uint" | "decimal":
                return Decimal(value)
            case "double":
                return Decimal(repr(value))
            case "string" if len(value) <= 1_000 and "_" not in value:
                return Decimal(value)
    except InvalidOperation:
        pass
    raise _refused("decimal", value)


def to_bool(_run: Run, value: Any) -> bool:
    """``bool(value)``: of true, false, and their texts."""
    value = scalar(value)
    if isinstance(value, bool):
        return value
    if value in ("true", "True", "TRUE", "t", "1"):
        return True
    if value in ("false", "False", "FALSE", "f", "0"):
        return False
    raise _refused("bool", value)


def to_bytes(run: Run, value: Any) -> bytes:
    """``bytes(value)``: of text, in UTF-8."""
    value = scalar(value)
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise _refused("bytes", value)
    run.spend(len(value) >> 4)
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise CelFault("the text holds half a character (a lone surrogate)") from None


def to_string(run: Run, value: Any) -> str:
    """``string(value)``: of every scalar but null."""
    value = scalar(value)
    match type_of(value):
        case "string":
            return str(value)
        case "bool":
            return "true" if value else "false"
        case "int" | "uint":
            return str(int(value)) if abs(value) <= MAX_UINT else str(whole(value))
        case "decimal":
            return str(value)
        case "double":
            return repr(value).removesuffix(".0").replace("inf", "Inf").replace("nan", "NaN")
        case "bytes":
            return _decoded(run, value)
        case "google.protobuf.Timestamp":
            return _rfc3339(value)
        case "google.protobuf.Duration":
            return _seconds(value)
        case "type":
            return str(value.name)
        case _:
            raise _refused("string", value)


def _decoded(run: Run, value: bytes) -> str:
    run.spend(len(value) >> 4)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise CelFault("the bytes are not text in UTF-8") from None


def _rfc3339(value: datetime) -> str:
    text = value.isoformat()
    if value.microsecond:
        whole_part, _, fraction = text.partition(".")
        text = f"{whole_part}.{fraction[:6].rstrip('0')}{fraction[6:]}"
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text


def _seconds(value: timedelta) -> str:
    micros = value // timedelta(microseconds=1)
    sign, micros = ("-" if micros < 0 else ""), abs(micros)
    fraction = f".{micros % 1_000_000:06}".rstrip("0").rstrip(".")
    return f"{sign}{micros // 1_000_000}{fraction}s"


def to_timestamp(_run: Run, value: Any) -> datetime:
    """``timestamp(value)``: of RFC 3339 text, or of seconds since 1970."""
    value = scalar(value)
    try:
        match type_of(value):
            case "google.protobuf.Timestamp":
                return _aware(value)
            case "int":
                return _EPOCH + timedelta(seconds=value)
            case "string" if _TIME.fullmatch(value):
                return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise CelFault(
        f"timestamp() can't be made of {value!r:.60}; write it as in RFC 3339: 2026-07-01T20:00:00Z"
    )


def to_duration(_run: Run, value: Any) -> timedelta:
    """``duration(value)``: of text like ``1h30m``, to the microsecond."""
    value = scalar(value)
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or len(value) > 200 or not _SPAN.fullmatch(value):
        raise CelFault(f"duration() can't be made of {value!r:.60}; write it as 1h30m or 2.5s")
    seconds = sum(
        (Decimal(number) * _SECONDS[unit] for number, unit in _SPAN_PART.findall(value)),
        Decimal(0),
    )
    try:
        span = timedelta(microseconds=int(seconds * 1_000_000))
    except OverflowError:
        raise CelFault(f"the duration {value[:60]!r} is too long") from None
    return -span if value.startswith("-") else span


def type_value(_run: Run, value: Any) -> Type:
    """``type(value)``."""
    return Type(type_of(scalar(value)))


def _is_finite(value: float | Decimal) -> bool:
    return value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise CelFault("the time has no time zone, so it is not a moment")
    return value
