"""Projection runners are killed hundreds of times: each event takes effect on the rows once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.patience import PATIENCE_SECONDS

KILLS = int(os.environ.get("EVERWHEN_RUNNER_KILLS", "200"))


@pytest.mark.parametrize("seed", [1, 2])
def test_rows_are_a_fresh_fold_however_often_runners_die(tmp_path: Path, seed: int) -> None:
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.faults.faults_runner",
            str(tmp_path / "bank.db"),
            str(KILLS // 2),
            str(seed),
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stderr
