"""A log on a cluster against the memory model, by two replicas of which one lags."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from tests.nats_cluster import NatsCluster
from tests.test_jetstream_store import engine_of
from tests.test_model import Closed, LogMachine, Opened

from everwhen import EverwhenError, Store, open_store
from everwhen.vocabulary import Checkpoint

pytestmark = pytest.mark.slow


class ClusterMachine(LogMachine):
    """The second replica takes nothing in but when it is asked, or loses a race."""

    nats: NatsCluster

    @initialize()
    def begin(self) -> None:
        self.store = self.nats.new_name()
        self.opening = 0
        super().begin()
        self.opening = 0

    def opened(self) -> Store:
        which, self.opening = self.opening, 1 - self.opening
        url = self.nats.url(self.store, self.path.with_name(f"{which}.db"), consistency="fresh")
        store = open_store(url, events=[Opened, Closed], clock=self.clock)
        if which:
            engine_of(store)._follower.stop()
        return store

    @rule(which=st.integers(0, 1))
    def reopen(self, which: int) -> None:
        self.opening = which
        super().reopen(which)
        self.opening = 0

    @rule(which=st.integers(0, 1), place=st.integers(0, 5), fails=st.booleans())
    def keep_places(self, which: int, place: int, fails: bool) -> None:
        def keep(store: Store) -> None:
            with store.transaction() as transaction:
                transaction.save_checkpoint(Checkpoint(f"c{place % 2}", place))
                if place == 5:
                    transaction.delete_checkpoint("c0")
                if fails:
                    raise EverwhenError("no")

        self.both(which, keep)
        self.both(1 - which, lambda store: store.checkpoints())

    @invariant()
    def heads_agree(self) -> None:
        if hasattr(self, "files"):
            assert self.files[0].head() == self.model.head()


def test_a_cluster_is_the_model(nats: NatsCluster) -> None:
    class Machine(ClusterMachine):
        pass

    Machine.nats = nats
    Machine.TestCase.settings = settings(
        max_examples=30, stateful_step_count=30, deadline=None, print_blob=True
    )
    Machine.TestCase("runTest").debug()
