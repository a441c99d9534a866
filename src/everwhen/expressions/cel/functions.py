"""The functions that expressions can call."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from everwhen.expressions.cel import conversions, syntax
from everwhen.expressions.cel.arithmetic import add
from everwhen.expressions.cel.comparing import equal, order
from everwhen.expressions.cel.faults import CelFault, Run
from everwhen.expressions.cel.parts import find, items_in, size
from everwhen.expressions.cel.values import scalar, shown, type_of
from everwhen.state.paths import MISSING

Function: TypeAlias = Callable[..., Any]

_MAX_PATTERN_CHARACTERS: Final = 500
"""RE2's time and memory grow with a pattern's length."""


def is_in(run: Run, item: Any, container: Any) -> bool:
    """``item in container``: a list's or set's items, a map's keys, a record's fields."""
    match type_of(container):
        case "map":
            return find(run, container, item) is not MISSING
        case "set":
            try:
                if item in container:
                    return True
            except TypeError:
                return False
        case "list":
            pass
        case _:
            raise CelFault(f"nothing is in {shown(container)}; lists, maps and sets have items")
    return any(equal(run, item, other) for other in container)


def _text(value: Any, function: str) -> str:
    text: Any = scalar(value)
    if not isinstance(text, str):
        raise CelFault(f"{function}() takes texts, not {shown(value)}")
    return text


def _contains(run: Run, value: Any, given: Any) -> bool:
    text, other = _text(value, "contains"), _text(given, "contains")
    run.spend(len(text) * min(len(other), 64) >> 8)
    return other in text


def _starts_with(run: Run, value: Any, given: Any) -> bool:
    text, other = _text(value, "startsWith"), _text(given, "startsWith")
    run.spend(len(other) >> 8)
    return text.startswith(other)


def _ends_with(run: Run, value: Any, given: Any) -> bool:
    text, other = _text(value, "endsWith"), _text(given, "endsWith")
    run.spend(len(other) >> 8)
    return text.endswith(other)


def _matches(run: Run, value: Any, given: Any) -> bool:
    text, pattern = _text(value, "matches"), _text(given, "matches")
    if len(pattern) > _MAX_PATTERN_CHARACTERS:
        raise CelFault(
            f"the pattern has {len(pattern)} characters; at most {_MAX_PATTERN_CHARACTERS} are "
            f"allowed"
        )
    repeated = sum(int(times or 0) for pair in _REPEATS.findall(pattern) for times in pair)
    run.spend(100 + len(text) * (len(pattern) + 4 * repeated) // 8)
    return syntax.matches(
        conversions.to_bytes(run, text).decode(), conversions.to_bytes(run, pattern).decode()
    )


_REPEATS: Final = re.compile(r"\{([0-9]{1,4})?,?([0-9]{1,4})?\}")


def _sum(run: Run, values: Any) -> Any:
    total: Any = None
    for value in items_in(run, values):
        run.spend(1)
        total = value if total is None else add(run, total, value)
    return 0 if total is None else total


def _extreme(name: str, wanted: int) -> Function:
    def function(run: Run, *values: Any) -> Any:
        given: Iterable[Any] = items_in(run, values[0]) if len(values) == 1 else values
        found: Any = MISSING
        for value in given:
            run.spend(1)
            if found is MISSING or order(run, value, found) == wanted:
                found = value
        if found is MISSING:
            raise CelFault(f"{name}() of nothing; it takes at least one value")
        return found

    return function


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    offset = re.fullmatch(r"([+-]?)([0-9]{2}):([0-9]{2})", name)
    try:
        if offset is None:
            return ZoneInfo(name)
        span = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return timezone(-span if offset[1] == "-" else span)
    except (ValueError, OSError, LookupError):
        raise CelFault(
            f"{name[:60]!r} is not a time zone; write Europe/Vienna, UTC or +02:00"
        ) from None


def _of_time(name: str, read: Callable[[datetime], int]) -> Function:
    def function(_run: Run, value: Any, zone: Any = "UTC") -> int:
        moment = scalar(value)
        if isinstance(moment, timedelta) and name in _OF_DURATION:
            return _OF_DURATION[name](moment)
        if not isinstance(moment, datetime):
            raise CelFault(f"{name}() is asked of a timestamp, not of {shown(value)}")
        if moment.tzinfo is None and zone == "UTC":
            return read(moment)
        try:
            return read(moment.astimezone(_zone(_text(zone, name)[:100])))
        except OverflowError:
            raise CelFault("the time is before the year 1 or after 9999 there") from None

    return function


def _truncated(span: timedelta, unit: timedelta) -> int:
    count = abs(span) // unit
    return count if span >= timedelta(0) else -count


_OF_DURATION: Final[dict[str, Callable[[timedelta], int]]] = {
    "getHours": lambda span: _truncated(span, timedelta(hours=1)),
    "getMinutes": lambda span: _truncated(span, timedelta(minutes=1)),
    "getSeconds": lambda span: _truncated(span, timedelta(seconds=1)),
    "getMilliseconds": lambda span: _truncated(span, timedelta(milliseconds=1)) % 1000,
}
_OF_TIME: Final[dict[str, Callable[[datetime], int]]] = {
    "getFullYear": lambda moment: moment.year,
    "getMonth": lambda moment: moment.month - 1,
    "getDate": lambda moment: moment.day,
    "getDayOfMonth": lambda moment: moment.day - 1,
    "getDayOfWeek": lambda moment: moment.isoweekday() % 7,
    "getDayOfYear": lambda moment: moment.timetuple().tm_yday - 1,
    "getHours": lambda moment: moment.hour,
    "getMinutes": lambda moment: moment.minute,
    "getSeconds": lambda moment: moment.second,
    "getMilliseconds": lambda moment: moment.microsecond // 1000,
}

FUNCTIONS: Final[dict[str, tuple[Function, range]]] = {
    "size": (lambda _run, value: size(value), range(1, 2)),
    "type": (conversions.type_value, range(1, 2)),
    "dyn": (lambda _run, value: value, range(1, 2)),
    "int": (conversions.to_int, range(1, 2)),
    "uint": (conversions.to_uint, range(1, 2)),
    "double": (conversions.to_double, range(1, 2)),
    "decimal": (conversions.to_decimal, range(1, 2)),
    "bool": (conversions.to_bool, range(1, 2)),
    "string": (conversions.to_string, range(1, 2)),
    "bytes": (conversions.to_bytes, range(1, 2)),
    "timestamp": (conversions.to_timestamp, range(1, 2)),
    "duration": (conversions.to_duration, range(1, 2)),
    "matches": (_matches, range(2, 3)),
    "sum": (_sum, range(1, 2)),
    "min": (_extreme("min", -1), range(1, 33)),
    "max": (_extreme("max", 1), range(1, 33)),
}
"""What is called as ``name(…)``, with how many values each takes."""

METHODS: Final[dict[str, tuple[Function, range]]] = {
    "size": FUNCTIONS["size"],
    "contains": (_contains, range(2, 3)),
    "startsWith": (_starts_with, range(2, 3)),
    "endsWith": (_ends_with, range(2, 3)),
    "matches": (_matches, range(2, 3)),
    **{name: (_of_time(name, read), range(1, 3)) for name, read in _OF_TIME.items()},
}
"""What is called as ``value.name(…)``, counting the value as well."""

MACROS: Final = (
    "has", "all", "exists", "exists_one", "existsOne", "map", "filter", "transformList",
    "transformMap",
)  # fmt: skip
