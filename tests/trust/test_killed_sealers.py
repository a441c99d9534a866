"""Sealers that are killed at any moment, two at a time: no false alarm, and the log goes on."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest

from everwhen import Event, StorageError, open_store
from everwhen.merkle import MerkleLog, TileFolder
from everwhen_verify.notes import Signer

KILLS = 200
SIGNER = Signer.generate("example.org/log")


class Noted(Event):
    number: int


def sealing(path: Path) -> None:
    with open_store(path, events=[Noted]) as store:
        log = MerkleLog(store, TileFolder.beside(path), SIGNER, max_delay=timedelta(0))
        for number in range(100_000):
            store.append(f"s-{os.getpid()}", [Noted(number)])
            if number % 3 == 0:
                log.seal()


def forked(path: Path) -> int:
    child = os.fork()
    if child == 0:
        try:
            sealing(path)
        finally:
            os._exit(1)
    return child


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_no_false_alarm(tmp_path: Path) -> None:
    path, dice = tmp_path / "store.db", random.Random(7)
    open_store(path).close()
    size = 0
    for _ in range(KILLS // 2):
        children = [forked(path), forked(path)]
        time.sleep(dice.uniform(0.02, 0.15))
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        with open_store(path) as store:
            log = MerkleLog(store, TileFolder.beside(path), SIGNER)
            if log.checkpoint() is not None:
                assert log.verify().fault is None
            sealed = log.seal().checkpoint
            assert sealed.size >= size
            size = sealed.size
            assert log.verify().fault is None
    assert size > KILLS


def test_a_tile_that_is_written_again_is_whole_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = TileFolder(tmp_path / "log")
    tile = {"tile/1/000.p/1": b"h" * 32}
    tiles.write(tile)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageError):
        tiles.write(tile)
    assert tiles.read("tile/1/000.p/1") == b"h" * 32
