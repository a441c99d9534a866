"""What a value of an SQLite file is, once it is shown to be of the kind that belongs there.

SQLite gives back whatever a damaged or tampered page says: text where a number belongs, say, or a
number that nothing can be added to. Each function raises `apsw.CorruptError` for such a value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import apsw

MAX_COUNT: Final = 1 << 62
"""More than anything that is counted; as much again can be added within SQLite's 64 bits."""

_SHOWN_CHARACTERS: Final = 40
"""How much of a wrong value a message shows: enough to find it, and no wall of text."""


def stored_int(value: object) -> int:
    """A number."""
    if type(value) is not int:
        raise _wrong(value, "a number")
    return value


def stored_count(value: object) -> int:
    """A number that others count on from."""
    if abs(stored_int(value)) > MAX_COUNT:
        raise _wrong(value, "a counted number")
    return stored_int(value)


def stored_text(value: object, most: int | None = None) -> str:
    """A name, of at most that many characters."""
    if type(value) is not str:
        raise _wrong(value, "a name")
    if most is not None and len(value) > most:
        raise _corrupt(f"{len(value):,} characters are stored where a name belongs")
    return value


def stored_bytes(value: object) -> bytes:
    """Bytes."""
    if type(value) is not bytes:
        raise _wrong(value, "bytes")
    return value


def _wrong(value: object, what: str) -> apsw.CorruptError:
    beginning = value[:_SHOWN_CHARACTERS] if isinstance(value, str | bytes) else value
    shown = repr(beginning)[:_SHOWN_CHARACTERS]
    return _corrupt(f"{shown} is stored where {what} belongs")


def _corrupt(what: str) -> apsw.CorruptError:
    import apsw

    return apsw.CorruptError(what)
