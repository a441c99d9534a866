from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.everwhen_shell import Shell

from everwhen import Event, NewEvent, open_store

pytest.importorskip("typer", reason="the command line needs the extra 'cli'")


class BetPlaced(Event):
    tag_fields = ("player",)

    player: int
    amount: int


class GameWon(Event):
    player: int
    note: str


@pytest.fixture
def shell(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.setenv("TZ", "Europe/Berlin")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    time.tzset()
    monkeypatch.setattr(sys, "path", [*sys.path])
    known = set(sys.modules)
    yield Shell(tmp_path, capfd)
    for name in sys.modules.keys() - known:  # a user's own code, of this folder alone
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A store with five events on three streams in two categories."""
    path = tmp_path / "shop.db"
    with open_store(path, events=[BetPlaced, GameWon]) as store:
        store.append("game-1", [BetPlaced(player=7, amount=5), BetPlaced(player=8, amount=50_000)])
        store.append("game-2", [BetPlaced(player=7, amount=1)])
        store.append("game-1", [GameWon(player=8, note="very\tnice \x1b[31mred")])
        store.append("player-7", [NewEvent(event=GameWon(player=7, note="ü"), tags=("vip",))])
    return path
