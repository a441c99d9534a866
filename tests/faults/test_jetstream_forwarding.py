"""A node that others hand their commits over to hangs: nothing is written twice."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from tests.faults.faults_ledger import Entry, entries
from tests.nats_cluster import NatsCluster
from tests.patience import PATIENCE_SECONDS

from everwhen import open_store


def test_a_commit_that_was_handed_over_to_a_node_that_hangs_is_written_once(
    nats: NatsCluster, tmp_path: Path
) -> None:
    """It is written without that node, which gets to it in the end, and must notice."""
    name = nats.new_name()
    with (
        open_store(nats.url(name, tmp_path / "a.db"), events=[Entry]) as hanging,
        open_store(nats.url(name, tmp_path / "b.db"), events=[Entry]) as store,
    ):
        over = threading.Event()

        def hang() -> None:
            with hanging.transaction():
                assert over.wait(PATIENCE_SECONDS)

        busy = threading.Thread(target=hang)
        written = hanging.append("first", entries("first", 1)).position
        store.wait_for(written, timeout=PATIENCE_SECONDS)
        busy.start()
        time.sleep(0.1)
        receipt = store.append("s", entries("once", 1))
        assert receipt.position == 2
        over.set()
        busy.join()
        # what is handed over now comes after what was handed over then
        written = hanging.append("second", entries("second", 1)).position
        store.wait_for(written, timeout=PATIENCE_SECONDS)
        store.append("s", entries("last", 1))
        keys = [event.event.commit for event in store.read()]
        assert keys == ["first", "once", "second", "last"]
