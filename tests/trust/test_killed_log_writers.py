"""Writers of the log that are killed at any moment, two at a time: no false alarm, and the log goes on."""

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

ROUNDS = 40
SIGNER = Signer.generate("example.org/log")


class Noted(Event):
    number: int


def sealing(path: Path, said: int) -> None:
    """Appends and seals until it is killed, and says when the log was sealed again."""
    with open_store(path, events=[Noted]) as store:
        log = MerkleLog(store, TileFolder.beside(path), SIGNER, max_delay=timedelta(0))
        for number in range(100_000):
            store.append(f"s-{os.getpid()}", [Noted(number)])
            if number % 3 == 0:
                log.sign()
                os.write(said, b".")


def forked(path: Path) -> tuple[int, int]:
    """A child that seals, and the pipe through which it says so."""
    reading, said = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            sealing(path, said)
        finally:
            os._exit(1)
    os.close(said)
    return child, reading


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_no_false_alarm(tmp_path: Path) -> None:
    path, dice = tmp_path / "store.db", random.Random(7)
    open_store(path).close()
    size = 0
    for _ in range(ROUNDS):
        children = [forked(path), forked(path)]
        for _, pipe in children:
            assert os.read(pipe, 1) == b".", "it ended by itself"
        time.sleep(dice.uniform(0, 0.03))
        for child, pipe in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(pipe)
        with open_store(path) as store:
            log = MerkleLog(store, TileFolder.beside(path), SIGNER)
            assert log.verify().fault is None
            sealed = log.sign().checkpoint
            assert sealed.size >= size + 2, "both got to write something"
            size = sealed.size
            assert log.verify().fault is None


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
