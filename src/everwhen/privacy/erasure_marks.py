"""How long what was derived from events may be used: until the next erasure.

What is derived from events may hold what an erasure takes away. So it carries a mark, taken before
the events were read, and is used only as long as that isn't outdated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from everwhen.privacy.vault import Vault

T = TypeVar("T")


class ErasureMark(msgspec.Struct, frozen=True):
    """How many data subjects a vault had forgotten when something was begun; 0 without a vault."""

    vault: Vault | None = None
    count: int = 0

    @classmethod
    def now(cls, vault: Vault | None) -> ErasureMark:
        """The mark of what is begun now."""
        return NO_VAULT if vault is None else cls(vault, vault.erasures)

    @property
    def is_outdated(self) -> bool:
        """Whether somebody has been forgotten since; never without a vault."""
        return self.vault is not None and self.vault.erasures > self.count


NO_VAULT = ErasureMark()
"""The mark of what no erasure touches."""


class UntilErasure(Generic[T]):
    """A value that is made anew where somebody has been forgotten since it was made."""

    def __init__(self, vault: Vault | None, make: Callable[[], T]) -> None:
        self._vault = vault
        self._make = make
        self._kept = ErasureMark.now(vault), make()

    @property
    def value(self) -> T:
        """The value, for one use: what is held longer may be outdated."""
        mark, value = self._kept
        if mark.is_outdated:
            mark, value = self._kept = ErasureMark.now(self._vault), self._make()
        return value
