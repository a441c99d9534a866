"""Who calls, and what they may: decided once for each request, before anything is looked at."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final, Literal, Protocol, TypeAlias

import msgspec
from starlette.requests import Request

from everwhen.vocabulary.errors import DeclarationError

AccessScope: TypeAlias = Literal["read", "append", "operate", "sql"]
"""``read`` history and states · ``append`` events and commands · ``operate`` branches, merges, undo
and projections · ``sql`` and CEL as queries.

``read`` includes the expressions of finds, prints, debug sessions and conditions on events: CEL has
no effects, sees nothing that its caller may not read, and each evaluation has a limit of steps.
What they cost is bounded by the time of a request, and by how many of them run at a time. ``sql``
is a scope of its own since a statement may join and sort all of history."""

SCOPES: Final[tuple[AccessScope, ...]] = ("read", "append", "operate", "sql")


class Caller(msgspec.Struct, frozen=True):
    """Who calls: the name that audit entries and commits get, and what they may."""

    name: str | None
    scopes: AbstractSet[AccessScope]


def checked_scopes(scopes: AbstractSet[AccessScope]) -> frozenset[AccessScope]:
    """The scopes. Raises `DeclarationError` where one is unknown, or there is none."""
    if not scopes or not scopes <= set(SCOPES):
        raise DeclarationError(f"expected some of the scopes {', '.join(SCOPES)}")
    return frozenset(scopes)


class Access(Protocol):
    """Tells who calls."""

    async def caller(self, request: Request) -> Caller | None:
        """Who it is; None where they must say it first, which is answered with 401."""
        ...


class OpenAccess:
    """Everyone may the same: for a loopback address, or behind an application's own access check.

    Raises `DeclarationError` for a scope that there is not.
    """

    def __init__(self, scopes: AbstractSet[AccessScope] = frozenset({"read"})) -> None:
        self._caller = Caller(None, checked_scopes(scopes))

    async def caller(self, request: Request) -> Caller:  # noqa: ARG002
        """Nobody in particular."""
        return self._caller
