"""A bet that isn't settled within an hour goes back to its player; the hour is the test's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.bitcraps.table import HASH

from bitcraps.bets import BetKind
from bitcraps.casino import Casino, open_casino
from bitcraps.commands import CancelBet, Deposit, JoinGame, OpenAccount, PlaceBet, StartGame
from bitcraps.events import BetPlaced, BetRefunded
from bitcraps.questions import AccountOf
from everwhen import Query, Vault
from everwhen.testing import ManualClock


async def _bets_are_placed(casino: Casino) -> None:
    commands: list[Any] = [
        OpenAccount("ann", "Ann", "a@example.org"),
        Deposit("ann", 100),
        StartGame("g", "table-1", "ann", 5, 100, HASH),
        JoinGame("g", "ann", "seven"),
        PlaceBet("g", "ann", BetKind.PASS, 30),
        PlaceBet("g", "ann", BetKind.FIELD, 20),
        CancelBet("g", "ann", 2),
    ]
    for command in commands:
        await casino.bus.send(command)


async def test_what_is_left_on_the_table_comes_back_after_an_hour(
    tmp_path: Path, vault: Vault
) -> None:
    clock = ManualClock()
    async with open_casino(tmp_path / "night.db", vault, durable=False, clock=clock) as casino:
        await _bets_are_placed(casino)
        await casino.keeper.catch_up()
        clock.advance(3_599)
        await casino.keeper.catch_up()
        assert (await casino.asks.ask(AccountOf("ann"))).data.balance == 70
        clock.advance(1)
        await casino.keeper.catch_up()
        assert (await casino.asks.ask(AccountOf("ann"))).data.balance == 100
        await casino.keeper.catch_up()
        (refunded,) = [e async for e in casino.store.read(Query().types(BetRefunded))]
        (placed, _) = [e async for e in casino.store.read(Query().types(BetPlaced))]
        assert refunded.event.bet == placed.event.bet == 1
        assert refunded.metadata.causation_id == placed.event_id


async def test_a_casino_that_was_closed_refunds_when_it_opens(tmp_path: Path, vault: Vault) -> None:
    clock = ManualClock()
    async with open_casino(tmp_path / "night.db", vault, durable=False, clock=clock) as casino:
        await _bets_are_placed(casino)
        await casino.keeper.catch_up()
    clock.advance(86_400)
    async with open_casino(tmp_path / "night.db", vault, durable=False, clock=clock) as casino:
        await casino.keeper.catch_up()
        assert (await casino.asks.ask(AccountOf("ann"))).data.at_stake == 0
