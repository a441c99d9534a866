"""The guarantees that every store gives, and which test stands for which of them."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from everwhen.vocabulary.contract import Capabilities

F = TypeVar("F", bound=Callable[..., Any])


class Guarantee(enum.Enum):
    """What a store promises, whatever it stands on."""

    ATOMIC = "a commit is visible whole or not at all, over all its streams"
    DURABLE = "what was acknowledged is there when the store is opened again"
    VERSIONS = "versions have no holes, and a wrong belief writes nothing"
    CONDITIONS = "a condition holds at the moment of the commit"
    IDEMPOTENT = "a commit id given again returns the first result and writes nothing"
    ORDER = "nothing new ever appears at or below a position that was seen"
    TIME = "recorded_at never decreases along positions"
    IMMUTABLE = "stored bytes never change; old schema versions are upcast when read"
    SUBSCRIPTIONS = "each event is delivered once, in order, catching up and then live"
    UNKNOWN = "nothing unknown breaks a read"
    REFUSAL = "bad input is refused before anything is written"


class Promise(msgspec.Struct, frozen=True):
    """What a contract test is about. ``needs`` names the capabilities it makes sense with."""

    guarantee: Guarantee
    needs: tuple[str, ...] = ()

    def concerns(self, capabilities: Capabilities) -> bool:
        """Whether a backend with these capabilities has to keep the promise."""
        return all(getattr(capabilities, need) for need in self.needs)


def promise(guarantee: Guarantee, *needs: str) -> Callable[[F], F]:
    """Marks a function as a contract test."""

    def mark(function: F) -> F:
        vars(function)["promise"] = Promise(guarantee, needs)
        return function

    return mark


def promise_of(function: object) -> Promise | None:
    """The promise that a function was marked with."""
    found = getattr(function, "promise", None)
    return found if isinstance(found, Promise) else None
