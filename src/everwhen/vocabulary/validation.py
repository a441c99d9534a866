"""The rules for names, tags and times; each raises an error that says how to fix it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from everwhen.vocabulary.contract import MAX_KEPT_BYTES, MAX_NAME_BYTES, Checkpoint, Snapshot
from everwhen.vocabulary.equality import lost_zone
from everwhen.vocabulary.errors import (
    DeclarationError,
    EverwhenError,
    InvalidCommitError,
    InvalidEventError,
)
from everwhen.vocabulary.microseconds import FIRST_MICROS, LAST_MICROS, to_micros
from everwhen.vocabulary.streams import Expected, ExpectedVersion

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def check_text(
    text: object,
    what: str,
    error: type[EverwhenError] = InvalidCommitError,
    longest: int = MAX_NAME_BYTES,
) -> str:
    """Non-empty text of at most ``longest`` UTF-8 bytes, without control characters."""
    if not isinstance(text, str) or not text:
        raise error(f"{what} {text!r}: use non-empty text")
    bad = _CONTROL.search(text)
    if bad is not None:
        raise error(f"{what} {text!r}: the character {bad[0]!r} is not allowed in it")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as reason:
        raise error(f"{what} {text!r}: it is not valid Unicode") from reason
    if size > longest:
        raise error(f"{what} {text[:40]!r}…: {size} bytes, the limit is {longest}")
    return text


def check_stream(name: object) -> str:
    """A stream's name."""
    if isinstance(name, str):
        return _known_stream(name)
    return check_text(name, "stream name")


@lru_cache(4_096)
def _known_stream(name: str) -> str:
    return check_text(name, "stream name")


def check_type_name(name: object, error: type[EverwhenError]) -> str:
    """An event type's name."""
    return check_text(name, "event type name", error)


def check_checkpoint(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint whose name, position and data can be stored."""
    check_text(checkpoint.name, "checkpoint name")
    _check_place(checkpoint.position, checkpoint.data, f"checkpoint {checkpoint.name!r}")
    return checkpoint


def check_snapshot(snapshot: Snapshot) -> Snapshot:
    """A snapshot whose subject, fold, position and state can be stored."""
    check_text(snapshot.subject, "snapshot subject")
    check_text(snapshot.fold, "fold name")
    what = f"snapshot of {snapshot.subject!r}"
    _check_place(snapshot.position, snapshot.state, what)
    _check_place(snapshot.fold_version, b"", f"{what}: fold version")
    return snapshot


def _check_place(position: object, data: object, what: str) -> None:
    if type(position) is not int or not 0 <= position < 1 << 63:
        raise InvalidCommitError(
            f"{what}: {position!r} is not a position; use a whole number from 0"
        )
    if not isinstance(data, bytes):
        raise InvalidCommitError(f"{what}: {type(data).__name__} can't be stored; encode to bytes")
    if len(data) > MAX_KEPT_BYTES:
        raise InvalidCommitError(
            f"{what}: {len(data):,} bytes; the limit is {MAX_KEPT_BYTES:,}: keep less in it"
        )


def check_tags(tags: Iterable[str], type_name: str) -> tuple[str, ...]:
    """An event's tags, as a tuple without repeats."""
    if isinstance(tags, str):
        raise InvalidEventError(f"tags of {type_name}: {tags!r} is one text; give a tuple of texts")
    try:
        unique = tuple(dict.fromkeys(tags))
    except TypeError as error:
        raise InvalidEventError(f"tags of {type_name}: {tags!r}; give a tuple of texts") from error
    for tag in unique:
        check_text(tag, f"tag of {type_name}", InvalidEventError)
    return unique


def check_expected(expected: object, stream: str) -> ExpectedVersion:
    """A version from 0, or one of ``ANY``, ``NO_STREAM`` and ``EXISTS``."""
    if type(expected) is int and expected >= 0:  # neither a bool nor anything else
        return expected
    if isinstance(expected, Expected):
        return expected
    raise InvalidCommitError(
        f"expected={expected!r} for stream {stream!r}: use a version (0, 1, 2 …), ANY, NO_STREAM "
        f"or EXISTS"
    )


def check_recorded_at(micros: object) -> int:
    """A moment that can be given back, in microseconds since 1970 UTC."""
    if type(micros) is not int or not FIRST_MICROS <= micros <= LAST_MICROS:
        raise InvalidCommitError(
            f"recorded_at {micros!r}: use microseconds since 1970 UTC, between the years 1 and 9999"
        )
    return micros


def check_occurred_at(moment: datetime | None) -> datetime | None:
    """A moment with a time zone, which can be stored."""
    if moment is not None:
        try:
            moment.astimezone(UTC)
            to_micros(moment)
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidEventError(
                f"occurred_at={moment!r}: use a datetime with a time zone"
            ) from error
        except OverflowError as error:
            raise InvalidEventError(
                f"occurred_at={moment!r}: in UTC it lies outside the years 1 to 9999"
            ) from error
        if (lost := lost_zone(moment)) is not None:
            raise InvalidEventError(f"occurred_at: {lost}")
    return moment


def check_plain(function: Any, what: str) -> None:
    """A function that is called and has then done its work, and no coroutine or generator."""
    wrong = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    if not callable(function) or wrong:
        raise DeclarationError(
            f"{what}: {function!r} is not a plain function; declare it with def, and await "
            f"before or after it"
        )
