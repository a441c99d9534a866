"""What the contract suite checks with, so that it needs no test framework.

A failed check raises ``AssertionError`` and says what was promised, what came, and what should
have come.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final, Generic, TypeVar

E = TypeVar("E", bound=BaseException)

_SHOWN_CHARACTERS: Final = 600
"""Several lines of a terminal: enough to see what differs."""


def equal(got: object, wanted: object, promised: str) -> None:
    """Raises ``AssertionError`` unless the two are equal."""
    if got != wanted:
        raise AssertionError(f"{promised}\n   got: {_shown(got)}\nwanted: {_shown(wanted)}")


def true(fact: object, promised: str) -> None:
    """Raises ``AssertionError`` unless the fact is true."""
    if not fact:
        raise AssertionError(f"{promised}\n   got: {_shown(fact)}")


class raises(Generic[E]):  # noqa: N801 (reads as a word of the test, like pytest's)
    """A context that wants this error to be raised within it, and keeps it as ``error``."""

    error: E

    def __init__(self, wanted: type[E], promised: str) -> None:
        self._wanted = wanted
        self._promised = promised

    def __enter__(self) -> raises[E]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        if error is None:
            raise AssertionError(f"{self._promised}: wanted {self._wanted.__name__}, nothing came")
        if isinstance(error, self._wanted):
            self.error = error
            return True
        if isinstance(error, Exception):
            raise AssertionError(  # noqa: TRY004 (of another kind than wanted)
                f"{self._promised}: wanted {self._wanted.__name__}, got {error!r}"
            ) from error
        return False


def _shown(value: object) -> str:
    text = repr(value)
    return (
        text
        if len(text) <= _SHOWN_CHARACTERS
        else f"{text[:_SHOWN_CHARACTERS]}… ({len(text):,} characters)"
    )
