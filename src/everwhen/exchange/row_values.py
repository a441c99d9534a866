"""What a row of an SQL statement is in JSON: on the command line and over HTTP."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec

from everwhen.exchange.json_forms import utc_text

_ID_BYTES: Final = 16
_OBJECTS: Final = frozenset({"data", "extras", "metadata"})


def row_value(column: str, value: Any) -> Any:
    """A column's value in terms of JSON; the objects of events as objects, not as text."""
    return json_in(column, value) or encodable(value)


def json_in(column: str, value: Any) -> msgspec.Raw | None:
    """The object that a column of events has as JSON text; None for anything else."""
    if column not in _OBJECTS or not isinstance(value, str):
        return None
    try:
        is_object = isinstance(msgspec.json.decode(value), dict)
    except (msgspec.DecodeError, RecursionError):
        return None
    return msgspec.Raw(value.encode()) if is_object else None


def encodable(value: Any) -> Any:
    """A value of a row in terms of JSON: bytes in hexadecimal digits, times in UTC."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case datetime() if value.tzinfo is not None:
            return utc_text(value)
        case date() | time():
            return value.isoformat()
        case bytes() if len(value) == _ID_BYTES:
            return str(UUID(bytes=value))
        case bytes():
            return value.hex()
        case Decimal() if value.is_finite():
            return msgspec.Raw(str(value).encode())
        case dict():
            return {str(key): encodable(part) for key, part in value.items()}
        case list() | tuple():
            return [encodable(part) for part in value]
        case _:
            return str(value)
