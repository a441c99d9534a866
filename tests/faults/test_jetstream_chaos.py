"""Clients of a cluster whose servers, network and processes fail: what was promised holds.

``EVERWHEN_SEED`` gives a schedule again, ``EVERWHEN_CLUSTER_FAULTS`` how many faults there are.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.cut_off_hosts import cut_off_cluster
from tests.faults.jetstream_chaos import CUTS, ON_LOOPBACK, Chaos, Report
from tests.nats_cluster import nats_cluster

SEED = int(os.environ.get("EVERWHEN_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
FAULTS = int(os.environ.get("EVERWHEN_CLUSTER_FAULTS", "0"))


def schedule(kinds: tuple[str, ...]) -> list[str]:
    """Each kind once, or as many as are asked for, in the seed's order."""
    chance = random.Random(SEED)
    if FAULTS:
        return [chance.choice(kinds) for _ in range(FAULTS)]
    return chance.sample(kinds, len(kinds))


def check(report: Report) -> None:
    assert report.wrong == [], f"EVERWHEN_SEED={report.seed}: {report.faults}"
    kinds = {operation.result for operation in report.operations}
    assert kinds >= {"written", "conflict", "condition", "read", "saved"}
    assert len({operation.client for operation in report.operations}) == 3


def test_killed_and_frozen_servers_and_clients_break_no_promise(tmp_path: Path) -> None:
    with nats_cluster(3) as cluster, Chaos(cluster, tmp_path, SEED) as chaos:
        for kind in schedule(ON_LOOPBACK):
            chaos.inject(kind)
        check(chaos.report())


def test_servers_that_are_cut_off_break_no_promise(tmp_path: Path) -> None:
    with (
        cut_off_cluster(3) as (hosts, cluster),
        Chaos(cluster, tmp_path, SEED, hosts) as chaos,
    ):
        for kind in schedule(CUTS):
            chaos.inject(kind)
        check(chaos.report())
