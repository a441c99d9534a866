"""Servers end while a copy of a replica is put on them, or fetched: it is whole all the same."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.faults.faults_ledger import Entry, entries
from tests.nats_cluster import NatsCluster, NatsNode, nats_cluster
from tests.patience import PATIENCE_SECONDS

from everwhen import open_store
from everwhen.cluster import (
    ReplicaProgress,
    bootstrap_replica,
    offer_replica,
    offering,
    verify_replicas,
)


class KilledLeader:
    """Kills the server that leads the objects once a stage has come to some parts."""

    def __init__(self, cluster: NatsCluster, stage: str) -> None:
        self._cluster, self._stage = cluster, stage
        self._parts = 0
        self.killed: NatsNode | None = None

    def __call__(self, progress: ReplicaProgress) -> None:
        if progress.stage == self._stage:
            self._parts += 1
            if self._parts == 2:
                self.killed = self._leader()
                self.killed.kill()

    def _leader(self) -> NatsNode:
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            for node in self._cluster.nodes:
                if node.leader("OBJ_EW_shop") == node.name:
                    return node
        raise RuntimeError("nobody leads the objects")

    def start_again(self) -> None:
        assert self.killed is not None
        self.killed.start()
        self.killed.wait()


def test_a_copy_is_offered_and_fetched_whole_while_the_leader_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offering, "_PART_BYTES", 50_000)
    with nats_cluster(3) as cluster:
        one, two = (cluster.url("shop", tmp_path / f"{name}.db") for name in ("one", "two"))
        with open_store(one, events=[Entry]) as store:
            for number in range(60):
                store.append(f"s-{number}", entries(f"k{number}", 2, 5_000))
        killing = KilledLeader(cluster, "offering")
        offered = offer_replica(one, busy_timeout=PATIENCE_SECONDS, progress=killing)
        killing.start_again()
        killing = KilledLeader(cluster, "fetching")
        made = bootstrap_replica(two, busy_timeout=PATIENCE_SECONDS, progress=killing)
        killing.start_again()
        assert made.copied == offered.message
        assert offered.bytes > 10 * 50_000
        found = verify_replicas(one, [tmp_path / "two.db"], busy_timeout=PATIENCE_SECONDS)
        assert [file.problems for file in found] == [[], []]
        again = offer_replica(one, busy_timeout=PATIENCE_SECONDS)
        assert again.deleted == -(-offered.bytes // 50_000) + 1, "nothing else was left there"
