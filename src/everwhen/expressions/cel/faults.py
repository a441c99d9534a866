"""What can go wrong while an expression is evaluated, and how much work it may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

MAX_EXPRESSION_SIZE: Final = 1_000_000
"""The most characters, bytes or items that an expression may make."""

MAX_EXPRESSION_DEPTH: Final = 100
"""How deep values may be nested where they are compared or given out."""


class CelFault(Exception):  # noqa: N818 (it becomes an error once its place is known)
    """A part of the expression has no value; ``at`` is its place in the text, once known."""

    def __init__(
        self, reason: str | Callable[[], str], at: int | None = None, *, missing: bool = False
    ) -> None:
        super().__init__(reason)
        self._reason = reason
        self.at = at
        self.missing = missing

    @property
    def reason(self) -> str:
        """Why; worked out only for faults that come to light."""
        return self._reason if isinstance(self._reason, str) else self._reason()


class Exhausted(Exception):  # noqa: N818 (likewise)
    """The expression takes more work, or makes more, than it may. No operator hides it."""


class NotThereError(KeyError):
    """A name that stands for nothing now, and may at another time."""


class Run:
    """One evaluation: what names stand for, and how many steps are left.

    ``answers`` is for what is remembered where many states are evaluated in a row, or None.
    """

    __slots__ = ("answers", "local", "steps", "variables")

    def __init__(self, variables: Any, slots: int, steps: int) -> None:
        self.variables = variables
        self.local: list[Any] = [None] * slots
        self.steps = steps
        self.answers: dict[Any, Any] | None = None

    def spend(self, steps: int) -> None:
        """Count work that was or is to be done. Raises `Exhausted` where it is too much."""
        self.steps -= steps
        if self.steps < 0:
            raise Exhausted(
                "it takes more steps than it may; look at fewer items, or ask for less at once"
            )


def check_size(size: int) -> None:
    """Raises `Exhausted` for a text, a list or the like that is too large to be made."""
    if size > MAX_EXPRESSION_SIZE:
        raise Exhausted(
            f"it makes a value of {size} parts; at most {MAX_EXPRESSION_SIZE} are allowed"
        )
