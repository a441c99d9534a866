"""A server of a cluster whose disk is full: the others go on, and it catches up once it has room."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Literal

import pytest
from tests.faults.faults_ledger import Entry, entries
from tests.nats_cluster import NatsCluster, NatsNode, nats_cluster
from tests.patience import PATIENCE_SECONDS
from tests.small_disks import fill, small_disk

from everwhen import Store, open_store
from everwhen.cluster import cluster_status, verify_replicas


def moved(node: NatsNode, disk: Path) -> None:
    """Put what a server keeps on another disk."""
    node.stop()
    kept = node.folder / "jetstream"
    shutil.move(kept, disk / "jetstream")
    kept.symlink_to(disk / "jetstream")
    node.start()
    node.wait()


def until_well(url: str) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not (found := cluster_status(url)).is_well:
        assert time.monotonic() < until, found
        time.sleep(0.2)


def victim_of(cluster: NatsCluster, role: Literal["leader", "follower"]) -> NatsNode:
    leader = cluster.leader("shop")
    return leader if role == "leader" else next(one for one in cluster.nodes if one is not leader)


def appended(store: Store, count: int, acknowledged: list[str]) -> None:
    for _ in range(count):
        key = f"k{len(acknowledged)}"
        store.append("s", entries(key, 2))
        acknowledged.append(key)


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_server_whose_disk_is_full_loses_nothing(
    role: Literal["leader", "follower"], tmp_path: Path
) -> None:
    acknowledged: list[str] = []
    with small_disk(tmp_path, megabytes=48) as disk, nats_cluster(3) as cluster:
        url = cluster.url("shop", tmp_path / "one.db")
        with open_store(url, events=[Entry], busy_timeout=PATIENCE_SECONDS) as store:
            appended(store, 20, acknowledged)
            victim = victim_of(cluster, role)
            moved(victim, disk)
            until_well(url)
            while role == "leader" and cluster.leader("shop") is not victim:
                other = cluster.leader("shop")
                other.stop()
                cluster.leader("shop")
                other.start()
                other.wait()
                until_well(url)
            fill(disk / "fill", leaving=0)
            appended(store, 300, acknowledged)
            assert "no space left" in (victim.folder / "log").read_text(), "it met its full disk"
            (disk / "fill").unlink()
            victim.stop()
            victim.start()
            victim.wait()
            until_well(url)
            others = [one for one in cluster.nodes if one is not victim]
            others[0].kill()  # so that the one whose disk was full is one of the majority
            appended(store, 20, acknowledged)
            others[0].start()
            others[0].wait()
            until_well(url)
        with open_store(cluster.url("shop", tmp_path / "two.db"), events=[Entry]) as fresh:
            found = [event.event.commit for event in fresh.read()]
            assert found == [key for key in acknowledged for _ in range(2)]
        for one in verify_replicas(url, [tmp_path / "two.db"]):
            assert one.problems == []
