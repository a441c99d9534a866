"""Reading events of old schema versions as if they had been written today.

An upcast is one pure step from a type's version n; steps chain by themselves, and run when an
event is read. Stored bytes never change.

::

    Upcast("BetPlaced", 1, lambda data: {**data, "currency": "EUR"})            # 1 → 2, raw data
    Upcast.typed(BetPlacedV1, lambda old: BetPlaced(old.player, old.amount))    # typed
    Upcast("GameOver", 1, split, into=("GameWon", "GameCompleted"))             # rename or split

A raw step gets the data of version n and returns that of version n + 1. A step that renames or
splits says so with ``into`` and returns a list of `UnknownEvent` (raw) or of events (typed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from everwhen.vocabulary.errors import DeclarationError
from everwhen.vocabulary.events import EventType, UnknownEvent

Data: TypeAlias = dict[str, Any]
RawStep: TypeAlias = Callable[[Data], Data | Sequence[UnknownEvent]]


class Upcast:
    """One step from ``type_name`` at ``version``; see the module for how to declare it."""

    __slots__ = ("into", "old", "step", "type_name", "version")

    def __init__(
        self,
        type_name: str,
        version: int,
        step: RawStep,
        *,
        into: Iterable[str] | None = None,
    ) -> None:
        self.type_name = type_name
        self.version = version
        self.step: Callable[[Any], Any] = step
        self.into = frozenset(into or (type_name,))
        self.old: EventType[Any] | None = None
        if version < 1:
            raise DeclarationError(f"upcast of {type_name!r}: version {version} must be 1 or more")
        if not self.into:
            raise DeclarationError(f"upcast of {type_name!r}: into= names no type")

    @classmethod
    def typed(
        cls,
        old: type[Any] | EventType[Any],
        step: Callable[[Any], Any],
        *,
        into: Iterable[str] | None = None,
    ) -> Upcast:
        """A step from an old event class, which says the type name and version it stands for."""
        declared = old if isinstance(old, EventType) else EventType(old)
        upcast = cls(declared.name, declared.version, step, into=into)
        upcast.old = declared
        return upcast
