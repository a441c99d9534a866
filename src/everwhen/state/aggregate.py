"""Aggregates in the object style, for those who prefer methods to functions.

    @dataclass
    class Account(Aggregate):
        balance: int = 0

        def withdraw(self, amount: int) -> None:
            if amount > self.balance:
                raise InsufficientBalance(self.balance)
            self.record(Withdrawn(amount))

    account = Fold("account", Account)

    @account.on(Withdrawn)
    def _(self: Account, event: Withdrawn) -> Account:
        self.balance -= event.amount
        return self

Its state is what its fold makes of events, as everywhere; what the base class adds is `record`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from everwhen.vocabulary.errors import DeclarationError


class Aggregate:
    """An object that records events about itself: its fold applies each as it is recorded."""

    _apply: Callable[[Any], None] | None = None
    _recorded: list[Any] | None = None

    def record(self, event: Any) -> None:
        """Let it happen: the event changes this object, and is written when all went well.

        Raises `DeclarationError` for an object that nobody has opened for changes.
        """
        if self._apply is None or self._recorded is None:
            raise DeclarationError(
                f"this {type(self).__name__} is not open for changes; record events in a "
                f"decision, on the state that it is given"
            )
        self._apply(event)
        self._recorded.append(event)

    def recorded_events(self) -> list[Any]:
        """What was recorded and is not yet written, oldest first."""
        return list(self._recorded or ())


def opened_for_changes(aggregate: Any, evolve: Callable[[Any, Any], Any]) -> None:
    """Let an aggregate record events; does nothing to states of other kinds.

    ``evolve`` is its fold's way to apply one event. What it returns must be the object itself.
    """
    if not isinstance(aggregate, Aggregate):
        return

    def apply(event: Any) -> None:
        if evolve(aggregate, event) is not aggregate:
            raise DeclarationError(
                f"the fold of {type(aggregate).__name__} makes a new object of it for "
                f"{type(event).__name__}; change it in place and return it"
            )

    try:
        aggregate._apply = apply
        aggregate._recorded = []
    except AttributeError as error:
        raise DeclarationError(
            f"{type(aggregate).__name__} can't be changed ({error}); an aggregate that records "
            f"events is mutable and has no slots"
        ) from error
