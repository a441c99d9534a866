"""Power loss: what was acknowledged had been synced, and nothing else is needed to recover."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.faults_disk import Loss, Recording, losses
from tests.faults.faults_ledger import Entry, count_up, faults_in, some_commit

from everwhen import EventTypes, Store, open_store
from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.sqlite.engine import SqliteEngine

SMALL_WAL = 12
"""Pages after which the log is taken over into the main file: soon, so that it happens often."""


@pytest.fixture
def disk() -> Iterator[Recording]:
    disk = Recording("everwhen-recording")
    yield disk
    disk.unregister()


def _worked_on(path: Path, disk: Recording, *, durable: bool, rounds: int) -> None:
    """The recorded workload: every kind of commit, in two lives of the store."""
    chance = random.Random(11)
    for life in range(2):
        engine = SqliteEngine(path, vfs=disk.name, durable=durable)
        engine._transactions.connection.wal_autocheckpoint(SMALL_WAL)
        with Store(EmbeddedBackend(engine), events=EventTypes(Entry)) as store:
            for i in range(rounds):
                key = f"{life}.{i}"
                if i % 5 == 4:
                    disk.acknowledge(f"count {count_up(store)}")
                elif i % 5 == 3:
                    keys = [f"{key}.{j}" for j in range(4)]
                    store.commit_batch([some_commit(k, chance) for k in keys])
                    for k in keys:
                        disk.acknowledge(k)
                else:
                    store.commit(some_commit(key, chance))
                    disk.acknowledge(key)


def _faults_after(loss: Loss, folder: Path) -> list[str]:
    loss.restore(folder)
    counts = [int(a.split()[1]) for a in loss.acknowledged if a.startswith("count ")]
    commits = [a for a in loss.acknowledged if not a.startswith("count ")]
    try:
        with open_store(folder / "store.db", events=[Entry]) as store:
            return faults_in(store, commits, max(counts, default=0))
    finally:
        shutil.rmtree(folder)


def _described(loss: Loss, faults: list[str]) -> str:
    return f"power lost at step {loss.moment} ({loss.variant}): {faults[:3]}"


def test_power_loss_at_every_sync(tmp_path: Path, disk: Recording) -> None:
    _worked_on(tmp_path / "store.db", disk, durable=True, rounds=10)
    tried = 0
    for loss in losses(disk.steps, random.Random(5), between=0.03):
        faults = _faults_after(loss, tmp_path / "after")
        assert not faults, _described(loss, faults)
        tried += 1
    syncs = sum(step.what == "sync" for step in disk.steps)
    assert syncs > 40
    assert tried > 5 * syncs
    assert any(
        s.what == "sync" and s.file == "store.db" for s in disk.steps[: len(disk.steps) // 2]
    )


def test_without_syncs_a_power_loss_takes_commits(tmp_path: Path, disk: Recording) -> None:
    """The price of durable=False, and the proof that this test can see a lost commit."""
    _worked_on(tmp_path / "store.db", disk, durable=False, rounds=8)
    lost = torn = 0
    for loss in losses(disk.steps, random.Random(5), between=0.0):
        if loss.variant != "told":
            continue
        faults = _faults_after(loss, tmp_path / "after")
        lost += any(fault.startswith("lost: ") for fault in faults)
        torn += any(not fault.startswith("lost: ") for fault in faults)
    assert lost > 5
    assert not torn
