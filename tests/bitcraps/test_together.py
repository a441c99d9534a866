"""A night that several processes play on one store elsewhere: no money is made, none is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bitcraps.test_program import ENVIRONMENT
from tests.nats_cluster import NatsCluster
from tests.patience import PATIENCE_SECONDS
from tests.postgres_server import PostgresServer

from bitcraps.casino import open_books
from bitcraps.events import BetPlaced, DiceRolled
from bitcraps.inspection import inspect_store
from bitcraps.invariants import accounts
from bitcraps.ledger import ledger
from bitcraps.places import Places
from everwhen import Query
from everwhen.aio import Store

pytestmark = pytest.mark.slow


@pytest.fixture(params=["postgresql", "nats"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "nats":
        nats: NatsCluster = request.getfixturevalue("nats")
        yield nats.url("night", tmp_path / "replica.db", login="shop:s3cret")
        return
    postgres: PostgresServer = request.getfixturevalue("postgres")
    with postgres.schema() as location:
        yield location.replace("postgres@", "postgres:s3cret@")


def bitcraps(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bitcraps", *arguments, "--quiet"],
        env=ENVIRONMENT,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


async def test_two_processes_play_a_night(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ("--tables", "4", "--players", "12", "--rolls", "3", "--processes", "2")
    done = bitcraps(tmp_path, url, *plan)
    assert (done.returncode, done.stderr) == (0, "")
    assert "money conserved at every position: yes (" in done.stdout
    assert "1 of 1 proofs of rolls still hold" in done.stdout
    assert "✗" not in done.stdout
    assert "s3cret" not in done.stdout
    monkeypatch.chdir(tmp_path)
    with Places.of(url).open_vault() as vault:
        async with open_books(url, vault) as store:
            await _money_is_conserved(store)
            findings = await inspect_store(store)
            assert findings.all_is_well
            assert findings.rolls >= 4 * 3
            assert await store.check() == []
    until = time.monotonic() + PATIENCE_SECONDS
    while not await _have_dealt_at_once(url):
        assert time.monotonic() < until, "one process always waits for the other"
        assert bitcraps(tmp_path, url, *plan).returncode == 0  # another night, on a busy machine


async def _money_is_conserved(store: Store) -> None:
    """Folds the books and every account, and looks at them at each position."""
    books, purses, positions = ledger.initial(), accounts.initial(), 0
    async for recorded in store.read():
        books = ledger.apply(books, (recorded.event,))
        purses = accounts.apply(purses, (recorded.event,))
        positions += 1
        assert recorded.position == positions
        assert books.total == 0
        assert books.accounts == sum(purse.balance for purse in purses.values())
        assert books.at_stake == sum(purse.at_stake for purse in purses.values())
        assert all(purse.balance >= 0 <= purse.at_stake for purse in purses.values())
    assert positions == (await store.head()).position > 100
    assert await store.fold(ledger) == books
    assert len(purses) == 12


async def _have_dealt_at_once(url: str) -> bool:
    """Whether the tables of one process have played while those of the other did, some night."""
    nights: dict[str, dict[str, list[int]]] = {}
    with Places.of(url).open_vault() as vault:
        async with open_books(url, vault) as store:
            async for recorded in store.read(Query().types(BetPlaced, DiceRolled)):
                night, table = recorded.event.game.split(".")[:2]
                spans = nights.setdefault(night, {})
                spans.setdefault(table, []).append(recorded.position)
    for spans in nights.values():
        assert spans.keys() == {"1", "2", "3", "4"}
        mine, theirs = spans["1"] + spans["3"], spans["2"] + spans["4"]
        if min(mine) < max(theirs) and min(theirs) < max(mine):
            return True
    return False


def test_a_night_in_a_file_can_be_shared_too(tmp_path: Path) -> None:
    plan = ("--tables", "3", "--players", "6", "--rolls", "2", "--processes", "3")
    done = bitcraps(tmp_path, "night.db", *plan)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 tables at once" in done.stdout
    assert "money conserved at every position: yes (" in done.stdout


def test_a_process_that_is_killed_ends_the_night_with_a_sentence(tmp_path: Path) -> None:
    plan = ("--tables", "2", "--players", "4", "--seconds", "3600", "--processes", "2", "--quiet")
    with subprocess.Popen(
        [sys.executable, "-m", "bitcraps", "night.db", *plan],
        env=ENVIRONMENT,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as playing:
        until = time.monotonic() + PATIENCE_SECONDS
        while not (dealing := _dealing(playing.pid)) and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(dealing[0], signal.SIGKILL)
        _, said = playing.communicate(timeout=PATIENCE_SECONDS)
    assert playing.returncode == 1
    assert said.startswith("bitcraps: a process that dealt at tables has failed: ")
    assert said.count("\n") == 1


def _dealing(parent: int) -> list[int]:
    """The processes that another has started to deal."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
