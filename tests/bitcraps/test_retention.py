"""Where a night's history is makes no difference to any answer about it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.bitcraps.test_program import EXAMPLES

from bitcraps.accounts import account
from bitcraps.casino import decisions, open_books, open_casino
from bitcraps.commands import Deposit
from bitcraps.corrections import corrections
from bitcraps.events import BetWon, Deposited
from bitcraps.ledger import ledger
from bitcraps.night import Night, Plan
from bitcraps.places import Places
from bitcraps.projections import leaderboard
from bitcraps.proving import prove_roll
from bitcraps.retention import RETENTION, Answers, Moved, answers, seal_night, try_archive
from everwhen import Query, Vault
from everwhen.aio import CommandBus, Store, TimeMachine
from everwhen.errors import CorruptStoreError
from everwhen.tiers.aio import HistoryManager
from everwhen.undo.aio import Undo
from everwhen.vocabulary import system_clock

pytestmark = pytest.mark.slow

PLAN = Plan(tables=2, players=8, rolls=4)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "casino").mkdir()
    return Places(tmp_path / "casino" / "casino.db")


async def played(places: Places) -> Night:
    """A night that is over, signed, with a branch from half time."""
    with places.open_vault() as vault:
        async with (
            open_casino(places.store, vault, durable=False) as casino,
            places.log_of(casino.store) as log,
        ):
            night = Night(casino, PLAN)
            await night.play()
            moment = await half_time(casino.store, night)
            async with await casino.store.create_branch("gift", at=moment) as branch:
                await CommandBus(branch, decisions).send(Deposit("ada", 5))
            assert await prove_roll(casino.store, log, places, 0) is not None
    return night


async def half_time(store: Store, night: Night) -> datetime:
    """A moment, since a branch begins between two commits and not in one."""
    moment = (await TimeMachine(store, ledger).travel_to(night.middle)).recorded_at
    assert moment is not None
    return moment


async def journeys(store: Store, night: Night) -> list[Any]:
    """States at positions and moments, backwards as well, and the history of one of its parts."""
    board, books = TimeMachine(store, leaderboard), TimeMachine(store, ledger)
    found: list[Any] = []
    for share in (3, 1, 2):
        there = await board.travel_to(night.last_position * share // 4)
        assert there.recorded_at is not None
        found += [there, (await books.travel_to(there.recorded_at)).state]
    of_ada = TimeMachine(store, account, Query().tags("player:ada"))
    return [*found, [written async for written in of_ada.history("balance")]]


async def corrected(store: Store, night: Night) -> list[Any]:
    """On branches: a payout is taken back, and a fork deep in the past goes on by itself."""
    (first,) = [event async for event in store.read(Query().types(BetWon).limit(1))]
    of_player = Query().tags(f"player:{first.event.player}")
    async with await store.scratch_branch() as branch:
        await Undo(branch, corrections).undo(first.position)
        undone = await branch.fold(account, of_player)
        now = await store.fold(account, of_player)
        assert undone.balance == now.balance - first.event.payout
        found = [undone, await branch.fold(ledger)]
    async with await store.scratch_branch(at=await half_time(store, night)) as branch:
        await CommandBus(branch, decisions).send(Deposit("ada", 7))
        return [*found, await branch.fold(leaderboard), await branch.fold(ledger)]


async def all_of(store: Store, places: Places, night: Night) -> list[Any]:
    return [
        await answers(store, places, night.middle),
        await journeys(store, night),
        await corrected(store, night),
        [(event, event.metadata) async for event in store.read()],
    ]


async def test_a_night_is_the_same_hot_cold_archived_and_restored(places: Places) -> None:
    night = await played(places)
    with places.open_vault() as vault:
        async with open_books(places.store, vault, durable=False) as store:
            hot = await all_of(store, places, night)
            head = (await store.head()).position
            manager = HistoryManager(store, RETENTION, archive=places.archive)
            assert [moved.how for moved in await manager.age()] == ["sealed"]
            assert (await manager.status()).sealed == head
            assert await all_of(store, places, night) == hot
        async with months_later(places, vault, days=91) as store:
            manager = HistoryManager(store, RETENTION, archive=places.archive)
            assert [moved.how for moved in await manager.age()] == ["archived", "evicted"]
            assert (await manager.status()).size == 0
            assert await all_of(store, places, night) == hot
            assert [moved.how for moved in await manager.restore()] == ["restored"]
            assert (await manager.status()).archived == ()
            assert await all_of(store, places, night) == hot
    assert hot[0].log.is_sound
    assert hot[0].damages == []
    assert len(hot[0].refused) == night.refusals.total()
    assert hot[0].branches["gift"] != hot[0].books


def months_later(places: Places, vault: Vault, *, days: int) -> Any:
    later = timedelta(days=days)
    return open_books(places.store, vault, clock=lambda: system_clock() + later, durable=False)


async def test_the_audit_log_keeps_a_night_out_of_the_archive_for_a_quarter(places: Places) -> None:
    await played(places)
    with places.open_vault() as vault:
        async with months_later(places, vault, days=31) as store:
            manager = HistoryManager(store, RETENTION, archive=places.archive)
            assert [moved.how for moved in await manager.age()] == ["sealed"]
            plan = await manager.plan()
            assert plan.archive == ()
            assert [(held.move, held.category) for held in plan.held] == [("archive", "audit")]


async def test_the_job_says_what_it_came_to(places: Places) -> None:
    night = await played(places)
    sealed = await seal_night(places, night.middle)
    assert sealed.all_is_well
    assert sealed.size_after == places.store.stat().st_size < sealed.size_before
    before = places.store.read_bytes()
    archived = await try_archive(places, night.middle)
    assert archived.all_is_well
    assert archived.status.size == 0 < archived.status.archive_size
    assert archived.size_after < archived.size_before == sealed.size_after
    assert places.store.read_bytes() == before
    assert not places.archive.exists(), "it was tried out on a copy"
    again = await seal_night(places, night.middle)
    assert again.all_is_well, "there is nothing left to do"
    assert again.status.segments == sealed.status.segments


async def test_an_answer_that_is_another_is_named(places: Places) -> None:
    night = await played(places)
    moved = await seal_night(places, night.middle)
    with places.open_vault() as vault:
        async with open_books(places.store, vault, durable=False) as store:
            await store.append("account-ada", [Deposited("ada", 9)])
            now = await answers(store, places, night.middle)
    assert names_of(moved, now) == {"books", "log"}


def names_of(moved: Moved, now: Answers) -> set[str]:
    other = Moved(moved.status, moved.size_before, moved.size_after, moved.before, now)
    assert not other.all_is_well
    return set(other.differing)


async def test_a_night_that_the_archive_lost_is_missed(places: Places) -> None:
    night = await played(places)
    with places.open_vault() as vault:
        async with months_later(places, vault, days=91) as store:
            manager = HistoryManager(store, RETENTION, archive=places.archive)
            await manager.age()
            (lost,) = places.archive.rglob("*.parquet")
        lost.unlink()
        with pytest.raises(CorruptStoreError, match=lost.name):
            async with months_later(places, vault, days=91) as store:
                await answers(store, places, night.middle)


async def test_without_the_archives_libraries_the_program_says_which(places: Places) -> None:
    """The night is sealed all the same."""
    code = (
        "import runpy, sys; sys.modules['obstore'] = None; sys.modules['pyarrow'] = None;"
        f" sys.argv = ['bitcraps', {str(places.store)!r}, '--tables', '2', '--players', '8',"
        " '--rolls', '3']; runpy.run_module('bitcraps', run_name='__main__')"
    )
    command = [sys.executable, "-c", code]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, env={"PYTHONPATH": str(EXAMPLES)}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "The night is put away" in done.stdout
    assert done.stdout.count("all as before") == 1
    assert "not tried out: archived history needs the libraries obstore and pyarrow" in done.stdout
    assert "pip install 'everwhen[archive]'" in done.stdout
