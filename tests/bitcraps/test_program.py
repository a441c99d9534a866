"""``python -m bitcraps``, as people start it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.patience import PATIENCE_SECONDS

from everwhen import StorageError, open_store

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(EXAMPLES)}


def bitcraps(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bitcraps", *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_a_night_in_a_pipe(tmp_path: Path) -> None:
    path = str(tmp_path / "night.db")
    done = bitcraps(path, "--tables", "2", "--players", "8", "--rolls", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    for said in (
        "money conserved at every position: yes (",
        ", 0 forged",
        "The luckiest",
        "At half time",
        "was richest",
        "step by step: game-1.",
        "history is as it was signed",
        "The night is put away",
        "In 91 days it is in the archive",
        "the branch from half time",
        "1 of 1 proofs of rolls still hold",
        "are in no file",
        f"everwhen verify {path}",
        f"everwhen info {path}",
    ):
        assert said in done.stdout
    assert done.stdout.count("✓ all as before") == 2, "sealed, and in the archive"
    assert "✗" not in done.stdout


def has_begun(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        with open_store(path, read_only=True) as store:
            return store.head().position > 0
    except StorageError:  # it is just being made
        return False


def test_ctrl_c_ends_the_night_cleanly(tmp_path: Path) -> None:
    path = tmp_path / "night.db"
    arguments = [sys.executable, "-m", "bitcraps", str(path), "--tables", "2", "--players", "4"]
    running = subprocess.Popen(
        [*arguments, "--seconds", "60"], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    while not has_begun(path):
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=PATIENCE_SECONDS)
    assert running.returncode == 0
    assert "money conserved at every position: yes" in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--tables", "0"], 2, "0: give a whole number from 1 to 1,000"),
        (["--players", "many"], 2, "many: give a whole number from 1 to 10,000"),
        (["--rolls", "5", "--seconds", "5"], 2, "not allowed with"),
        (["no/such/folder/night.db"], 1, "bitcraps: "),
        ([str(EXAMPLES / "bitcraps" / "dice.py")], 1, "bitcraps: "),
    ],
)
def test_bad_input_is_told_kindly(arguments: list[str], code: int, said: str) -> None:
    done = bitcraps(*arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_without_rich_it_says_what_to_install() -> None:
    code = (
        "import runpy, sys; sys.modules['rich.console'] = None;"
        " runpy.run_module('bitcraps', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "bitcraps: rich is needed to show a night; pip install 'everwhen[cli]'\n"
