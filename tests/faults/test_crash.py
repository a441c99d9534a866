"""A writer is killed at random moments, many times: what it had acknowledged is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("EVERWHEN_KILLS", "96"))


def test_what_was_acknowledged_survives_being_killed(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.faults.faults_crash", tmp_path, str(KILLS), "seed"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    kills, judged, commits = map(int, run.stdout.split())
    assert kills == KILLS
    assert judged > KILLS / 2, "most children found a file to judge"
    assert commits > KILLS, "the children got to write something"
