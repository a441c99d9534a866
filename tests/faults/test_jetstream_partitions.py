"""A leader that is cut off from the others, and doesn't know it yet, is not believed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.cut_off_hosts import cut_off_hosts
from tests.faults.faults_ledger import Entry, entries
from tests.nats_cluster import nats_cluster
from tests.patience import PATIENCE_SECONDS

from everwhen import Store, open_store
from everwhen.errors import StorageError


def test_what_is_asked_through_a_leader_that_was_cut_off_is_new_or_an_error(
    tmp_path: Path,
) -> None:
    """It says what it has for up to 20 s, while the others have elected one and go on."""
    with (
        cut_off_hosts(3) as hosts,
        nats_cluster(3, hosts=[host.host for host in hosts]) as cluster,
    ):
        name = cluster.new_name()
        with open_store(cluster.url(name, tmp_path / "first.db"), events=[Entry]) as store:
            store.append("a", entries("before", 1))
        old = cluster.leader(name)
        others = [node for node in cluster.nodes if node is not old]
        fresh = cluster.url_through([old], name, tmp_path / "old.db", consistency="fresh")
        going_on = cluster.url_through(others, name, tmp_path / "new.db")
        with (
            open_store(fresh, events=[Entry], busy_timeout=1.0) as cut_off,
            open_store(going_on, events=[Entry]) as store,
        ):
            host = hosts[cluster.nodes.index(old)]
            host.cut(only_from_hosts=True)
            receipt = store.append("a", entries("meanwhile", 1))
            with pytest.raises(StorageError, match="see that a majority"):
                cut_off.head()
            with pytest.raises(StorageError, match="see that a majority"):
                cut_off.receipt(receipt.commit_id)
            with pytest.raises(StorageError, match=r"see that a majority|the outcome is open"):
                cut_off.append("a", entries("refused", 1), expected=5)
            host.mend()
            assert _newest(cut_off) == receipt.position
            assert cut_off.receipt(receipt.commit_id) == receipt
            assert [event.event.commit for event in store.read()] == ["before", "meanwhile"]


def _newest(store: Store) -> int:
    """The newest position, once it can be asked for."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return store.head().position
        except StorageError:
            assert time.monotonic() < until
