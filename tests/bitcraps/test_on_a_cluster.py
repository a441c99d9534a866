"""The example of a casino on three nodes, one of whose servers is killed."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from tests.bitcraps.test_program import ENVIRONMENT
from tests.nats_cluster import server_program
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.slow


def test_three_nodes_agree_though_the_leader_was_killed() -> None:
    server_program()
    done = subprocess.run(
        [sys.executable, "-m", "cluster", "--seconds", "6", "--tables", "3", "--players", "9"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert re.search(r"n[123] leads, and is killed\nn[123] leads; .* play on\n", done.stdout)
    books = re.findall(r"node [123]: ([\d,]+ events, books balanced at each: .*)", done.stdout)
    assert len(books) == 3
    assert len(set(books)) == 1
    contents = re.findall(r"replica-[123]\.db: (\w{16}) is what the log says", done.stdout)
    assert len(contents) == 3
    assert len(set(contents)) == 1
