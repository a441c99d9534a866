"""A casino that is not trusted: rolls are proven, tampering is found, and players are forgotten."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bitcraps.casino import open_books, open_casino
from bitcraps.events import AccountOpened, BetWon
from bitcraps.forgetting import forgotten
from bitcraps.inspection import inspect_store
from bitcraps.night import Night, Plan
from bitcraps.people import person
from bitcraps.places import Places
from bitcraps.proving import ProvenRoll, checked, prove_roll
from bitcraps.questions import TopPlayers
from everwhen import Query
from everwhen.errors import MissingKeyError
from everwhen.merkle import LogReport
from everwhen.privacy import Erased
from everwhen_verify.errors import VerifyError

pytestmark = pytest.mark.slow

PLAN = Plan(tables=2, players=8, rolls=4)
ADA = person(0, PLAN.seed, 1)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "casino").mkdir()
    return Places(tmp_path / "casino" / "casino.db")


async def played(places: Places) -> ProvenRoll:
    with places.open_vault() as vault:
        async with (
            open_casino(places.store, vault, durable=False) as casino,
            places.log_of(casino.store) as log,
        ):
            await Night(casino, PLAN).play()
            proven = await prove_roll(casino.store, log, places, 0)
    assert proven is not None
    return proven


async def verified(places: Places) -> LogReport:
    with places.open_vault() as vault:
        async with open_books(places.store, vault) as store:
            return await places.log_of(store).verify()


def files_with(folder: Path, *texts: str) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(text.encode() in path.read_bytes() for text in texts)]


async def test_a_roll_is_proven_by_the_stand_alone_verifier(places: Places) -> None:
    proven = await played(places)
    assert proven.log.is_sound
    assert proven.log.unsigned == 0
    assert proven.file.name == f"{proven.roll.game}-{proven.roll.roll}.tlog-proof"
    command = [sys.executable, "-m", "everwhen_verify", str(proven.file), str(places.policy)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("yes: ")
    assert f"game-{proven.roll.game}" in done.stdout
    assert proven.roll.seed in done.stdout


async def test_no_other_roll_is_proven_by_that(places: Places) -> None:
    proven = await played(places)
    lines = proven.file.read_text().splitlines(keepends=True)
    for at in range(1, len(lines)):
        if lines[at].strip() and not lines[at].startswith("—"):
            forged = [*lines[:at], lines[at].replace("A", "B", 1).replace("1", "2", 1)]
            proven.file.write_text("".join([*forged, *lines[at + 1 :]]))
            if forged[at] != lines[at]:
                with pytest.raises(VerifyError):
                    checked(proven.file, places.policy)


async def test_a_payout_that_was_raised_is_found_by_the_log(places: Places) -> None:
    """The books balance all the same, since the house's loss is the player's gain."""
    await played(places)
    with places.open_vault() as vault:
        async with open_books(places.store, vault) as store:
            won = [recorded async for recorded in store.read(Query().types(BetWon))]
            raised = won[len(won) // 2]
            position = (await store.commit_events(raised.commit_id))[0].position
    one, other = (f'"payout":{raised.event.payout}{end}'.encode() for end in ("}", "0}"))
    with closing(sqlite3.connect(places.store)) as connection, connection:
        (at, body) = connection.execute(
            "SELECT position, body FROM slices WHERE position >= ? ORDER BY position LIMIT 1",
            (position,),
        ).fetchone()
        assert one in body
        raised_body = body.replace(one, other, 1)
        connection.execute("UPDATE slices SET body = ? WHERE position = ?", (raised_body, at))
    report = await verified(places)
    assert report.fault is not None
    assert (str(report.fault.kind), report.fault.commit_id) == ("changed", raised.commit_id)


async def test_a_player_is_forgotten_and_nobody_else(places: Places) -> None:
    proven = await played(places)
    account = Query().stream(f"account-{ADA.id}").types(AccountOpened)
    with places.open_vault() as vault:
        async with open_casino(places.store, vault, durable=False) as casino:
            (before,) = [recorded.event async for recorded in casino.store.read(account)]
            assert before == AccountOpened(ADA.id, ADA.name, ADA.email)
            ranks = (await casino.asks.ask(TopPlayers(100))).data
            await casino.store.forget(ADA.id)
            await casino.runner.catch_up()
            (after,) = [recorded.event async for recorded in casino.store.read(account)]
            assert after == AccountOpened(ADA.id, Erased(ADA.id), Erased(ADA.id))
            now = (await casino.asks.ask(TopPlayers(100))).data
            assert [row.name for row in now if row.player == ADA.id] == [None]
            others = [row for row in ranks if row.player != ADA.id]
            assert [row for row in now if row.player != ADA.id] == others
            assert (await inspect_store(casino.store)).all_is_well
            night = Night(casino, PLAN)  # who was forgotten may come back, as a nickname
            await night.play()
            assert (await inspect_store(casino.store)).all_is_well
    assert (await verified(places)).is_sound
    assert checked(proven.file, places.policy) == proven.verdict
    assert files_with(places.store.parent, ADA.name, ADA.email) == []


async def test_names_are_in_no_file_at_any_time_but_in_the_leaderboard(places: Places) -> None:
    """Which is what the house reads; `forget` builds it anew."""
    await played(places)
    assert files_with(places.store.parent, ADA.email) == []
    assert {path.name for path in files_with(places.store.parent, ADA.name)} == {"casino.db"}


async def test_it_is_tried_out_on_a_copy(places: Places) -> None:
    await played(places)
    everything = {
        path: path.read_bytes() for path in places.store.parent.rglob("*.db*") if path.is_file()
    }
    aftermath = await forgotten(places, ADA.id)
    assert aftermath.all_is_well
    assert aftermath.name == ADA.name
    assert (aftermath.proofs, aftermath.proofs_hold) == (1, 1)
    assert {path: path.read_bytes() for path in everything} == everything
    assert (await forgotten(places, ADA.id)).all_is_well


async def test_a_casino_without_its_vault_is_not_opened(places: Places) -> None:
    await played(places)
    places.vault.unlink()
    with pytest.raises(MissingKeyError):
        places.open_vault()
    assert not places.vault.exists()
