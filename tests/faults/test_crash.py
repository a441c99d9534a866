"""SIGKILL at any moment costs no acknowledged commit, and leaves no half of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import apsw
from faults_ledger import Entry, count_up, entries, faults_in

from everwhen import open_store

KILLS = int(os.environ.get("EVERWHEN_KILLS", "200"))
PROGRAM = Path(__file__).with_name("faults_crash.py")


def test_killed_while_writing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, tmp_path, str(KILLS), os.environ.get("EVERWHEN_SEED", "7")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60 + KILLS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    kills, judged, commits = map(int, done.stdout.split())
    assert kills == KILLS
    assert judged > kills / 2
    assert commits > kills


def test_the_judgement_finds_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with open_store(path, events=[Entry]) as store:
        store.append("a-1", entries("whole", 2))
        store.append("a-2", entries("torn", 3)[:2])
        n = count_up(store)
        assert faults_in(store, ["whole"], n) == ["torn: commit torn has events [0, 1] of 3"]
        faults = faults_in(store, ["whole", "gone"], n + 1)
    assert "lost: commit gone" in faults
    assert f"lost: the read model says {n}, acknowledged was {n + 1}" in faults
    file = apsw.Connection(str(path))
    file.execute("UPDATE tally SET n = 9; DELETE FROM slices WHERE position = 2")
    file.close()
    with open_store(path, events=[Entry]) as store:
        faults = faults_in(store, ["whole"], 1)
    assert "lost: commit whole" in faults
    assert "the read model says 9, its checkpoint 1" in faults
    assert any(fault.startswith("check: position 4: a gap") for fault in faults)
