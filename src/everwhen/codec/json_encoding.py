"""Values as JSON, proven to read back as they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from everwhen.vocabulary.contract import MAX_DEPTH
from everwhen.vocabulary.equality import is_same
from everwhen.vocabulary.errors import InvalidEventError, TooDeepError
from everwhen.vocabulary.nesting import is_deeper, is_value_deeper

encode_json: Final = msgspec.json.Encoder().encode
decode_json: Final = msgspec.json.decode
decode_object: Final = msgspec.json.Decoder(dict[str, Any]).decode

UNFIT: Final = (msgspec.MsgspecError, ValueError, TypeError, ArithmeticError)
"""What encoding, decoding or comparing a value that can't be stored raises."""


def encode_shallow(value: Any, limit: int = MAX_DEPTH) -> bytes:
    """A value as JSON. Raises `TooDeepError` where it is nested more than ``limit`` levels."""
    try:
        data = encode_json(value)
    except RecursionError:
        if is_value_deeper(value, limit):
            raise TooDeepError("it", limit) from None
        raise  # it is the caller's stack that is deep
    if is_deeper(data, limit):
        raise TooDeepError("it", limit)
    return data


def exact_extras(extras: Mapping[str, Any]) -> dict[str, Any]:
    """The extras, proven to be JSON that reads back unchanged."""
    try:
        back = decode_object(encode_shallow(extras))
    except UNFIT as error:
        raise InvalidEventError(f"metadata extras can't be stored: {error}") from error
    if back != extras:
        raise InvalidEventError(
            f"metadata extras would read back changed: {first_difference(extras, back)}"
        )
    return back


def first_difference(given: Any, back: Any) -> str:
    """Where two values first differ, for people."""
    if isinstance(given, Mapping) and isinstance(back, Mapping):
        for key in given:
            if key not in back:
                return f"key {key!r} ({type(key).__name__}) becomes text"
            if not is_same(given[key], back[key]):
                return f"{key}: {first_difference(given[key], back[key])}"
    for name in getattr(type(given), "__match_args__", ()):
        one, other = getattr(given, name), getattr(back, name, None)
        if not is_same(one, other):
            return f"{name}: {first_difference(one, other)}"
    return f"{given!r} ({type(given).__name__}) becomes {back!r} ({type(back).__name__})"
