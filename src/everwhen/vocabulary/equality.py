"""Whether a value that was written reads back as the same one, where ``==`` isn't enough.

A datetime whose zone changes its clocks within the hour before or after (a repeated hour, a gap)
equals none of another zone in Python, not even the same moment. And a time of day with a named
zone equals one without any.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime, time, timedelta
from typing import Any, Final

import msgspec

_MINUTE: Final = timedelta(minutes=1)


def is_same(given: Any, back: Any) -> bool:
    """Whether two values are equal; aware datetimes are if moment and offset from UTC agree."""
    if given == back:
        return True
    if isinstance(given, datetime) and isinstance(back, datetime):
        offset = given.utcoffset()
        return offset is not None and offset == back.utcoffset() and _wall(given) == _wall(back)
    mine, theirs = _parts(given), _parts(back)
    if mine is None or theirs is None or type(given) is not type(back):
        return False
    return len(mine) == len(theirs) and all(map(is_same, mine, theirs))


def lost_zone(value: Any) -> str | None:
    """What JSON can't say of the first such time in a value, and the fix; None without any."""
    if isinstance(value, datetime | time):
        offset = value.utcoffset()
        if offset is not None and offset % _MINUTE:
            return (
                f"{value.isoformat()} has an offset from UTC with seconds, which can't be stored; "
                f"convert it with .astimezone(UTC)"
            )
        if value.tzinfo is not None and offset is None:
            return (
                f"the time of day {value.isoformat()} has the zone {value.tzinfo}, whose offset "
                f"depends on the day; keep the zone's name in a field of its own"
            )
        if value.fold and value.tzinfo is None:
            return (
                f"{value!r} has fold=1, which only a zone gives a meaning; give it one, or take "
                f"it with .replace(fold=0)"
            )
        return None
    found = map(lost_zone, _parts(value) or ())
    return next((reason for reason in found if reason is not None), None)


def holds_times_of_day(cls: type[Any]) -> bool:
    """Whether values of a class may hold a ``datetime.time``, as far as its fields' types say."""
    seen: set[type[Any]] = set()

    def holds(node: Any) -> bool:
        if isinstance(node, msgspec.inspect.TimeType):
            return True
        if isinstance(node, list | tuple):
            return any(map(holds, node))
        if not isinstance(node, msgspec.inspect.Type | msgspec.inspect.Field):
            return False
        own = getattr(node, "cls", None)
        if own is not None:
            if own in seen:
                return False
            seen.add(own)
        return any(holds(getattr(node, name)) for name in node.__struct_fields__)

    try:
        return holds(msgspec.inspect.type_info(cls))
    except (TypeError, NameError):  # whoever encodes such a class says what is wrong with it
        return False


def _wall(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None, fold=0)


def _parts(value: Any) -> list[Any] | None:
    """What a value is made of, in the order in which it is encoded; None for a single one."""
    if isinstance(value, Mapping):
        return [part for item in value.items() for part in item]
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, AbstractSet):
        return sorted(value, key=msgspec.json.encode)
    names = getattr(value, "__struct_fields__", None)
    if names is None and dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    if names is None and hasattr(value, "__attrs_attrs__"):
        names = [field.name for field in value.__attrs_attrs__]
    return None if names is None else [getattr(value, name) for name in names]
