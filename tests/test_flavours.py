"""A store of one flavour, given to what is of the other one: told in words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import everwhen
import everwhen.audit.aio
import everwhen.projections.aio
from everwhen import Decisions, Event, Fold, Projection, aio
from everwhen.errors import DeclarationError
from everwhen.projections import Queries
from everwhen.reactions import ReactionRunner
from everwhen.reactions.aio import ReactionRunner as AsyncReactionRunner
from everwhen.undo import Compensations


class Paid(Event):
    amount: int


PROJECTIONS: dict[Any, Any] = {everwhen: everwhen.projections, aio: everwhen.projections.aio}
AUDIT: dict[Any, Any] = {everwhen: everwhen.audit, aio: everwhen.audit.aio}
TOTAL: Fold[int] = Fold("total", int)
PLACES: dict[str, Callable[[Any, Any], Any]] = {
    "TimeMachine": lambda of, store: of.TimeMachine(store, TOTAL),
    "Repository": lambda of, store: of.Repository(store, TOTAL),
    "CommandBus": lambda of, store: of.CommandBus(store, Decisions()),
    "QueryBus": lambda of, store: PROJECTIONS[of].QueryBus(store, Queries()),
    "ProjectionRunner": lambda of, store: of.ProjectionRunner(store, [Projection(TOTAL)]),
    "Undo": lambda of, store: of.Undo(store, Compensations()),
    "AuditLog": lambda of, store: AUDIT[of].AuditLog(store, policy=lambda user: None),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_store_of_everwhen_aio_where_nothing_is_awaited(place: str) -> None:
    async def run() -> None:
        async with aio.open_store("memory:", events=[Paid]) as store:
            with pytest.raises(DeclarationError, match=r"the store is of everwhen\.aio"):
                PLACES[place](everwhen, store)

    asyncio.run(run())


@pytest.mark.parametrize("place", PLACES)
def test_a_store_of_everwhen_where_all_is_awaited(place: str) -> None:
    with (
        everwhen.open_store("memory:", events=[Paid]) as store,
        pytest.raises(DeclarationError, match=r"this is of everwhen\.aio, and the store isn't"),
    ):
        PLACES[place](aio, store)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("of", [everwhen, aio])
def test_what_is_no_store(of: Any, place: str) -> None:
    with pytest.raises(DeclarationError, match=r"expected a store, got 'shop\.db'"):
        PLACES[place](of, "shop.db")


def test_a_bus_of_the_other_flavour() -> None:
    with everwhen.open_store("memory:", events=[Paid]) as store:
        bus: Any = everwhen.CommandBus(store, Decisions())
        with pytest.raises(DeclarationError, match=r"this is of everwhen\.aio"):
            AsyncReactionRunner(bus, [])
        with pytest.raises(DeclarationError, match="expected a CommandBus"):
            ReactionRunner(store, [])  # type: ignore[arg-type]


def test_an_opening_that_was_not_awaited() -> None:
    async def run() -> None:
        opening: Any = aio.open_store("memory:", events=[Paid])
        with pytest.raises(AttributeError, match=r"append: .* await it first"):
            opening.append("till-1", [Paid(1)])
        assert not hasattr(opening, "read"), "it is asked for what it isn't, and answers"
        for place in PLACES.values():
            with pytest.raises(DeclarationError, match="await it first"):
                place(aio, opening)
        store = await opening
        assert await store.version("till-1") == 0
        await store.close()
        with pytest.raises(TypeError, match="async with"), aio.open_store("memory:"):
            pass

    asyncio.run(run())
