"""at, info, check, tail: looking at a store without changing it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.cli.everwhen_shell import Shell
from tests.patience import PATIENCE_SECONDS

from everwhen import UnknownEvent, open_store
from everwhen.testing import ManualClock

CODE = """
from everwhen import Event, Fold

class BetPlaced(Event):
    player: int
    amount: int

class GameWon(Event):
    player: int
    note: str

events = [BetPlaced, GameWon]
staked = Fold("staked", dict)

@staked.on(BetPlaced)
def _(state, event):
    return {**state, event.player: state.get(event.player, 0) + event.amount}
"""


@pytest.fixture
def year(tmp_path: Path) -> Path:
    """A store with an event in each month of 2025."""
    clock = ManualClock()
    with open_store(tmp_path / "year.db", clock=clock) as store:
        for month in range(1, 13):
            clock.set(datetime(2025, month, 1, 12, tzinfo=UTC))
            store.append("sun", [UnknownEvent("Rose", {"month": month, "last": month == 12})])
    return tmp_path / "year.db"


@pytest.mark.parametrize(
    ("moment", "month"),
    [
        ("5", 5),
        ("2025-05-01T12:00Z", 5),
        ("2025-05-01T11:59:59Z", 4),
        ("2025-05-01 14:00", 5),  # Berlin, in summer
        ("2025-05-01 13:59", 4),
        ("2025-06", 5),
        ("now", 12),
        ("@1735732800", 1),
    ],
)
def test_at_finds_the_moment(shell: Shell, year: Path, moment: str, month: int) -> None:
    done = shell("at", year, moment, "sun", "--json")
    assert done.code == 0
    (told,) = done.records
    assert told["data"] == {"month": month, "last": month == 12}
    assert (told["version"], told["type"]) == (month, "Rose")
    assert shell("at", year, moment, "sun").fields["data.month"] == str(month)


def test_at_before_anything(shell: Shell, year: Path) -> None:
    assert shell("at", year, "2024-12-31").out == ""
    done = shell("at", year, "2024-12-31", "sun")
    assert done.code == 1
    assert "sun" in done.err


def test_at_by_a_fold_of_ones_own(shell: Shell, shop: Path) -> None:
    (shell.folder / "casino.py").write_text(CODE)
    words = ("--fold", "casino:staked", "--events", "casino:events")
    done = shell("at", shop, "now", *words, "--json")
    assert done.code == 0, done.err
    assert done.records[-1] == {"7": 6, "8": 50_000}
    early = shell("at", shop, "1", *words, "--json")
    assert early.records[-1] == {"7": 5}
    for fold, says in (
        ("casino:nothing", "nothing"),
        ("casino", "module:name"),
        ("nowhere:x", "no module"),
        ("casino:CODE", "CODE"),
    ):
        wrong = shell("at", shop, "now", "--fold", fold)
        assert wrong.code == 2
        assert says in wrong.err
        assert "Traceback" not in wrong.err


def test_info_adds_up(shell: Shell, shop: Path) -> None:
    told = shell("info", shop, "--json").records[0]
    assert (told["events"], told["position"], told["streams"]) == (5, 5, 3)
    assert told["types"] == {"BetPlaced": 3, "GameWon": 2}
    assert told["categories"] == {"game": 2, "player": 1}
    done = shell("info", shop)
    assert done.fields["events"] == "5"
    look = shell.terminal("info", shop, columns=60)
    assert look.code == 0
    assert max(map(len, look.out.splitlines())) < 150, "with colours, within the terminal"


def test_check_says_what_is_wrong_and_where(shell: Shell, shop: Path) -> None:
    done = shell("check", shop)
    assert (done.code, done.err) == (0, "")
    # As any other program might damage it: in a process of its own, with another SQLite.
    program = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.execute(sys.argv[2]); d.commit(); d.close()"
    harm = "UPDATE slices SET version = version + 1 WHERE position = 3"
    subprocess.run([sys.executable, "-c", program, str(shop), harm], check=True)
    bad = shell("check", shop)
    assert bad.code == 1
    assert "game-2" in bad.out + bad.err
    told = shell("check", shop, "--json")
    assert told.code == 1
    assert any("version" in str(record) for record in told.records)


@pytest.mark.parametrize("command", ["read", "streams", "info", "check", "tail"])
def test_what_only_looks_creates_nothing(shell: Shell, command: str) -> None:
    (shell.folder / "notes.txt").write_text("hello")
    for path, code in (("none.db", 66), ("notes.txt", 66), (".", 66)):
        done = shell(command, path)
        assert (done.code, done.out) == (code, "")
        assert done.err.startswith("everwhen: ")
        assert done.err.count("\n") == 1
    assert [p.name for p in shell.folder.iterdir()] == ["notes.txt"]


def test_tail_follows_other_processes_until_it_is_interrupted(shell: Shell, shop: Path) -> None:
    child = shell.started("tail", shop, "--json", "--category", "game")
    assert child.stdout is not None
    with child, contextlib.ExitStack() as ending:
        ending.callback(child.kill)  # or a failed assertion would wait for it for ever
        seen = [child.stdout.readline() for _ in range(4)]
        assert all(b'"stream":"game-' in line for line in seen)
        with open_store(shop) as store:
            store.append("player-7", [UnknownEvent("Left", {})])
            store.append("game-3", [UnknownEvent("Opened", {"live": True})])
        assert b'"live":true' in child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert child.stdout.read() == b""
        assert child.stderr is not None
        assert child.stderr.read() == b""
        assert child.wait(PATIENCE_SECONDS) == 130


def test_at_by_when_events_happened_takes_them_in_that_order(shell: Shell) -> None:
    for day, address in ((20, "Rose Lane"), (10, "Mill Road")):
        data = f'{{"address": "{address}"}}'
        shell(
            *("append", "--create", "homes.db", "ann", "Moved", data),
            *("--occurred-at", f"2026-01-{day}T00:00Z"),
        )
    for moment, address in (("15", "Mill Road"), ("25", "Rose Lane")):
        for asked in (("--occurred", f"2026-01-{moment}"), (f"of 2026-01-{moment}",)):
            assert f"data.address\t{address}" in shell("at", "homes.db", *asked, "ann").out
    assert "data.address\tMill Road" in shell("at", "homes.db", "head", "ann").out
