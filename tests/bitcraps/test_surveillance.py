"""The audit log of a night: who sat down, what was paid, and what was refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bitcraps.casino import Casino, open_casino
from bitcraps.commands import Deposit, OpenAccount, PlaceBet, RollDice
from bitcraps.events import BetWon, DiceRolled, PlayerJoined
from bitcraps.night import Night, Plan
from bitcraps.surveillance import HOUSE, INSPECTOR
from everwhen import Query, RecordedEvent, Vault
from everwhen.audit import AuditAction, AuditEntry, AuditFilter, AuditResult
from everwhen.commands import command_of
from everwhen.errors import NotAllowedError

pytestmark = pytest.mark.slow

SHORT = Plan(tables=3, players=24, rolls=4)


@asynccontextmanager
async def a_night(tmp_path: Path, vault: Vault) -> AsyncIterator[Night]:
    async with open_casino(tmp_path / "night.db", vault, durable=False) as casino:
        night = Night(casino, SHORT)
        await night.play()
        yield night


async def _commits_with(casino: Casino, kind: type[Any]) -> list[list[RecordedEvent[Any]]]:
    found = [recorded async for recorded in casino.store.read(Query().types(kind))]
    return [await casino.store.commit_events(recorded.commit_id) for recorded in found]


async def test_payouts_are_in_the_commit_of_their_roll(tmp_path: Path, vault: Vault) -> None:
    async with a_night(tmp_path, vault) as night:
        commits = await _commits_with(night.casino, DiceRolled)
        assert commits
        paid = 0
        for commit in commits:
            *events, entry = [recorded.event for recorded in commit]
            assert isinstance(entry, AuditEntry)
            assert (entry.user, entry.action) == (HOUSE, AuditAction.UPDATE)
            assert entry.resource == f"games/{events[0].game}/payouts"
            payouts = [[e.player, e.bet, e.payout] for e in events if isinstance(e, BetWon)]
            assert entry.details.get("payouts", []) == payouts
            paid += len(payouts)
        assert paid == sum([1 async for _ in night.casino.store.read(Query().types(BetWon))]) > 0


async def test_who_sits_down_has_logged_in(tmp_path: Path, vault: Vault) -> None:
    async with a_night(tmp_path, vault) as night:
        commits = await _commits_with(night.casino, PlayerJoined)
        assert len(commits) >= 24
        for commit in commits:
            joined, entry = [recorded.event for recorded in commit]
            assert (entry.user, entry.action) == (joined.player, AuditAction.LOGIN)
            assert entry.resource == f"games/{joined.game}"


async def test_each_refusal_has_its_entry(tmp_path: Path, vault: Vault) -> None:
    async with a_night(tmp_path, vault) as night:
        failures = AuditFilter(result=AuditResult.FAILURE)
        entries = [record.entry async for record in night.casino.audit.read(failures, by=INSPECTOR)]
        reasons = Counter(str(entry.reason).partition(":")[0] for entry in entries)
        assert reasons == night.refusals
        assert reasons.total() > 0


async def test_no_entry_names_a_player(tmp_path: Path, vault: Vault) -> None:
    async with a_night(tmp_path, vault) as night:
        people = [person for table in night.tables for person in table.seats]
        async for record in night.casino.audit.read(by=INSPECTOR):
            said = repr(record.entry)
            assert not any(person.name in said or person.email in said for person in people)


async def test_players_see_what_they_did_and_no_more(tmp_path: Path, vault: Vault) -> None:
    async with a_night(tmp_path, vault) as night:
        audit = night.casino.audit
        records = [record async for record in audit.read(AuditFilter(user="ada"), by="ada")]
        assert {record.entry.user for record in records} == {"ada"}
        for wanted in (AuditFilter(), AuditFilter(user=HOUSE)):
            with pytest.raises(NotAllowedError):
                await audit.query(wanted, by="ada")


async def test_entries_are_no_part_of_what_was_decided(tmp_path: Path, vault: Vault) -> None:
    """The entry goes along with the roll, and the roll's command knows nothing of it."""
    async with a_night(tmp_path, vault) as night:
        (commit, *_) = await _commits_with(night.casino, DiceRolled)
        command = command_of(commit[0])
        assert command is not None
        assert command.type == RollDice.__name__
        assert "payouts" not in command.data


async def test_commands_that_are_refused_write_nothing_else(tmp_path: Path, vault: Vault) -> None:
    async with open_casino(tmp_path / "night.db", vault, durable=False) as casino:
        await casino.bus.send(OpenAccount("ann", "Somebody", "a@example.org"))
        night = Night(casino, SHORT)
        before = (await casino.store.head()).position
        for command in (
            OpenAccount("ann", "Somebody", "a@example.org"),
            Deposit("bob", 5),
            PlaceBet("g", "ann", "field", 5),  # type: ignore[arg-type]
        ):
            with pytest.raises(Exception, match=r"account|field|game"):
                await night.send(command)
        after = casino.store.read(Query().after(before))
        assert {type(recorded.event) async for recorded in after} == {AuditEntry}
