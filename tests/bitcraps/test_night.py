"""A night over a real file: what the read models say, what the inspector says, and what comes again."""

from __future__ import annotations

import asyncio
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from tests.bitcraps.table import HASH
from tests.bitcraps.test_house_edges import PUBLISHED

from bitcraps.bets import BetKind
from bitcraps.casino import Casino, open_books, open_casino
from bitcraps.commands import Deposit, JoinGame, OpenAccount, PlaceBet, StartGame
from bitcraps.events import BetWon, DiceRolled
from bitcraps.inspection import inspect_store
from bitcraps.ledger import ledger
from bitcraps.night import Night, Plan
from bitcraps.players import statistics
from bitcraps.projections import house_edge, leaderboard
from bitcraps.questions import (
    AccountOf,
    EdgesSeen,
    GamesInPlay,
    LedgerTotal,
    NetOf,
    StatisticsOf,
    TopPlayers,
)
from bitcraps.summary import TRUE_EDGES
from everwhen import Query, Vault
from everwhen.aio import CommandBus, Store
from everwhen.audit import AuditEntry

SHORT = Plan(tables=4, players=16, rolls=6)


async def streams_of(store: Store) -> dict[str, list[Any]]:
    """What every stream holds; of the audit log, which has times in it, who did what how often."""
    found: dict[str, list[Any]] = {}
    done: Counter[tuple[Any, ...]] = Counter()
    async for recorded in store.read():
        entry = recorded.event
        if isinstance(entry, AuditEntry):
            said = repr((entry.result, entry.reason, entry.details, entry.session))
            done[entry.user, entry.action, entry.resource, said] += 1
            continue
        found.setdefault(recorded.stream, []).append(recorded.event)
    return {**found, "audit": sorted(done.items(), key=repr)}


async def played(folder: Path, vault: Vault, plan: Plan) -> dict[str, list[Any]]:
    async with open_casino(folder / f"{plan.seed}.db", vault, durable=False) as casino:
        await Night(casino, plan).play()
        return await streams_of(casino.store)


async def test_a_night_is_well_kept(tmp_path: Path, vault: Vault) -> None:
    async with open_casino(tmp_path / "night.db", vault, durable=False) as casino:
        night = Night(casino, SHORT)
        await night.play()
        assert all(table.rolls >= 6 for table in night.tables)
        await _inspected(casino, night)
        await _read_models_equal_fresh_folds(casino, night)
        await _players_believe_what_is_true(casino, night)


async def _inspected(casino: Casino, night: Night) -> None:
    findings = await inspect_store(casino.store)
    assert findings.all_is_well
    assert findings.positions == night.last_position
    assert findings.rolls == sum(table.rolls for table in night.tables)
    assert await casino.store.check() == []


async def _read_models_equal_fresh_folds(casino: Casino, night: Night) -> None:
    store, end = casino.store, night.last_position

    async def answer(query: Any) -> Any:
        result = await casino.asks.ask(query, at_least=end)
        assert (result.position, result.is_stale) == (end, False)
        return result.data

    assert await answer(LedgerTotal()) == await store.fold(ledger)
    assert await answer(EdgesSeen()) == await store.fold(house_edge)
    assert await answer(GamesInPlay()) == {}
    nets, records = await store.fold(leaderboard), await store.fold(statistics)
    wagered: dict[str, int] = {}
    async for recorded in store.read():
        if stake := getattr(recorded.event, "stake", 0):
            wagered[recorded.event.player] = wagered.get(recorded.event.player, 0) + stake
    rows = await answer(TopPlayers(100))
    assert {row.player for row in rows} == set(records.players)
    assert [row.net for row in rows] == sorted((row.net for row in rows), reverse=True)
    for row in rows:
        record = records.players[row.player]
        assert await answer(StatisticsOf(row.player)) == record
        assert row.net == nets.get(row.player, 0) == await answer(NetOf(row.player))
        assert row.wagered == wagered.get(row.player, 0)
        assert (row.won, row.games) == (record.total_won, record.games_played)


async def _players_believe_what_is_true(casino: Casino, night: Night) -> None:
    for table in night.tables:
        for person in table.seats:
            account = (await casino.asks.ask(AccountOf(person.id))).data
            assert account == person.account
            assert account.at_stake == 0


async def test_the_same_seed_gives_the_same_streams(tmp_path: Path, vault: Vault) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    plan = Plan(tables=3, players=9, rolls=3, seed=1)
    once = await played(tmp_path / "one", vault, plan)
    assert await played(tmp_path / "two", vault, plan) == once
    assert await played(tmp_path / "two", vault, Plan(tables=3, players=9, rolls=3, seed=2)) != once


async def test_a_second_night_goes_on_from_the_first(tmp_path: Path, vault: Vault) -> None:
    async with open_casino(tmp_path / "night.db", vault, durable=False) as casino:
        for number in (1, 2):
            night = Night(casino, Plan(tables=2, players=4, rolls=2))
            await night.play()
            assert night.number == number
        assert (await inspect_store(casino.store)).all_is_well


async def test_a_table_finishes_its_hand_when_the_night_is_closed(
    tmp_path: Path, vault: Vault
) -> None:
    async with open_casino(tmp_path / "night.db", vault, durable=False) as casino:
        night = Night(casino, Plan(tables=2, players=4, rolls=None))
        playing = asyncio.create_task(night.play())
        while not playing.done() and not any(t.rolls for t in night.tables):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        night.close()
        await playing
        books = (await casino.asks.ask(LedgerTotal(), at_least=night.last_position)).data
        assert books.at_stake == 0
        assert sum(table.rolls for table in night.tables) > 0


async def test_what_never_happened_is_found(tmp_path: Path, vault: Vault) -> None:
    path = tmp_path / "night.db"
    async with open_casino(path, vault, durable=False) as casino:
        await Night(casino, Plan(tables=1, players=2, rolls=2)).play()
    async with open_books(path, vault, durable=False) as store:
        (first,) = [e async for e in store.read(Query().types(DiceRolled).limit(1))]
        forged = DiceRolled(first.event.game, 99, 6, 6, first.event.seed, HASH)
        await store.append(first.stream, [forged])
        found = await inspect_store(store)
        assert (found.forged, found.wrong, found.impossible) == (1, (), ())
        paid = BetWon("other", "ada", 1, BetKind.FIELD, None, 5, 10)
        receipt = await store.append("game-other", [paid])
        found = await inspect_store(store)
        assert (found.forged, found.wrong, found.impossible) == (1, (receipt.position,), ("other",))


async def test_two_buses_on_one_table_lose_nothing(tmp_path: Path, vault: Vault) -> None:
    """Eight players bet ten times each, half of them by another bus with another store object."""
    path = tmp_path / "night.db"
    async with (
        open_casino(path, vault, durable=False) as here,
        open_casino(path, vault, durable=False) as there,
    ):
        players = [f"p{number}" for number in range(8)]
        await here.bus.send(StartGame("g", "table-1", "p0", 1, 100, HASH))
        for player in players:
            await here.bus.send(OpenAccount(player, "Somebody", f"{player}@example.org"))
            await here.bus.send(Deposit(player, 15))
            await here.bus.send(JoinGame("g", player, ""))

        async def bet(player: str, bus: CommandBus) -> int:
            for number in range(10):
                await bus.send(PlaceBet("g", player, BetKind.FIELD, 1))
                if number % 4 == 0:
                    await bus.send(Deposit(player, 1))
            return 10

        buses = (here.bus, there.bus)
        sent = await asyncio.gather(*(bet(p, buses[n % 2]) for n, p in enumerate(players)))
        (info,) = [info async for info in there.store.streams("game")]
        assert info.version == 1 + len(players) + sum(sent)
        for player in players:
            account = (await there.asks.ask(AccountOf(player))).data
            assert (account.balance, account.at_stake) == (15 + 3 - 10, 10)
        assert (await inspect_store(here.store)).wrong == ()


@pytest.mark.parametrize("kind", BetKind)
def test_the_summary_knows_the_true_edges(kind: BetKind) -> None:
    edges: set[Fraction] = {edge for known, _, _, edge in PUBLISHED if known is kind}
    assert {min(edges), max(edges)} == set(TRUE_EDGES[kind])
