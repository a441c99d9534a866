"""A server that is cut off from the others is not believed, and not waited for."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.cut_off_hosts import cut_off_cluster
from tests.faults.faults_ledger import Entry, entries
from tests.nats_cluster import NatsCluster, NatsNode, nats_cluster
from tests.nats_proxy import NatsProxy, nats_proxy
from tests.patience import PATIENCE_SECONDS

from everwhen import Event, Store, open_store
from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.backends.jetstream.connection import Connection, UnansweredError
from everwhen.errors import StorageError


class Large(Event):
    text: str


JETSTREAM = r"\$JS\..*|ew\.[^.]+\.log\.[^.]+"
ENDLESS = 10**6


def test_what_is_asked_through_a_leader_that_was_cut_off_is_new_or_an_error(
    tmp_path: Path,
) -> None:
    """It says what it has for up to 20 s, while the others have elected one and go on."""
    with cut_off_cluster(3) as (hosts, cluster):
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


def _await(come: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not come():
        assert time.monotonic() < until
        time.sleep(0.02)


@contextmanager
def opened_through(node: NatsNode, nodes: Sequence[NatsNode], url: str) -> Iterator[Store]:
    """The store, by a client that has come upon that server, and by no other."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        _await(lambda: not any(one.clients() for one in nodes))
        with open_store(url, events=[Entry], busy_timeout=PATIENCE_SECONDS) as store:
            if node.clients():
                yield store
                return
    raise AssertionError


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_client_leaves_a_server_that_is_parted_from_the_others(role: str, tmp_path: Path) -> None:
    """It goes on by another one, with its branches, though that server stays parted."""
    with cut_off_cluster(3) as (hosts, cluster):
        name = cluster.new_name()
        url = cluster.url(name, tmp_path / "replica.db", consistency="fresh")
        with open_store(url, events=[Entry]) as store:
            store.append("a", entries("before", 1))
            store.create_branch("b").close()
        leader = cluster.leader(name)
        follower = next(node for node in cluster.nodes if node is not leader)
        parted = leader if role == "leader" else follower
        with opened_through(parted, cluster.nodes, url) as store, store.branch("b") as branch:
            hosts[cluster.nodes.index(parted)].cut(only_from_hosts=True)
            branch.append("a", entries("on the branch", 1))
            store.append("a", entries("meanwhile", 1))
            assert [event.event.commit for event in store.read()] == ["before", "meanwhile"]
            assert [event.event.commit for event in branch.read()] == ["before", "on the branch"]
            _await(lambda: not parted.clients())
            assert sum(node.clients() for node in cluster.nodes) == 1


def test_a_replica_that_is_only_read_follows_though_its_server_is_parted_from_the_others(
    tmp_path: Path,
) -> None:
    """That server goes on to answer, by what it has."""
    with cut_off_cluster(3) as (hosts, cluster):
        name = cluster.new_name()
        url = cluster.url(name, tmp_path / "read.db")
        open_store(url).close()
        leader = cluster.leader(name)
        parted = next(node for node in cluster.nodes if node is not leader)
        others = [node for node in cluster.nodes if node is not parted]
        written = cluster.url_through(others, name, tmp_path / "written.db")
        with opened_through(parted, cluster.nodes, url) as reading:
            hosts[cluster.nodes.index(parted)].cut(only_from_hosts=True)
            with open_store(written, events=[Entry]) as store:
                position = store.append("a", entries("meanwhile", 1)).position
            _await(lambda: reading.head().position == position)


def test_a_large_message_under_way_to_a_server_that_is_cut_off_is_sent_to_another_one(
    tmp_path: Path,
) -> None:
    """More than the system takes on its own; it would go on for a quarter of an hour."""
    with cut_off_cluster(3) as (hosts, cluster):
        url = cluster.url(cluster.new_name(), tmp_path / "replica.db")
        with open_store(url, events=[Large], busy_timeout=PATIENCE_SECONDS) as store:
            store.append("a", [Large("small")])
            (used,) = (node for node in cluster.nodes if node.clients())
            hosts[cluster.nodes.index(used)].cut()
            large = random.Random(1).randbytes(3_000_000).hex()
            assert store.append("a", [Large(large)]).position == 2
            assert [event.event for event in store.read()] == [Large("small"), Large(large)]


class Behind(NamedTuple):
    """Three servers, each behind a proxy of its own."""

    cluster: NatsCluster
    proxies: list[NatsProxy]

    def url(self, name: str, replica: Path) -> str:
        """For a client that knows the proxies only."""
        url = self.cluster.url(name, replica)
        for node, proxy in zip(self.cluster.nodes, self.proxies, strict=True):
            url = url.replace(f":{node.port}", f":{proxy.port}", 1)
        return url

    def used(self) -> NatsProxy:
        """The one that the first connection went through."""
        (found,) = (proxy for proxy in self.proxies if proxy.accepted)
        return found


@pytest.fixture
def behind() -> Iterator[Behind]:
    with ExitStack() as stack:
        cluster = stack.enter_context(nats_cluster(3))
        yield Behind(
            cluster, [stack.enter_context(nats_proxy(node.port)) for node in cluster.nodes]
        )


def test_what_is_listened_to_is_heard_through_the_next_server(
    behind: Behind, tmp_path: Path
) -> None:
    """The one before answers nothing but pings."""
    name = behind.cluster.new_name()
    address = ClusterAddress.parsed(behind.url(name, tmp_path / "replica.db"))
    connection = Connection(address, PATIENCE_SECONDS)
    direct = ClusterAddress.parsed(behind.cluster.url(name, tmp_path / "replica.db"))
    speaking = Connection(direct, PATIENCE_SECONDS)
    try:
        used = behind.used()
        heard = threading.Event()
        connection.listen(address.subject, lambda _: heard.set())
        used.lose("request", JETSTREAM, ENDLESS)
        since = time.monotonic()

        def is_answered() -> bool:
            try:
                return bool(connection.request("$JS.API.INFO", b"", 1.0))
            except UnansweredError:
                connection.pause(0.1, since)
                return False

        _await(is_answered)
        assert used.struck
        assert any(proxy.accepted for proxy in behind.proxies if proxy is not used)

        def is_heard() -> bool:
            speaking.say(address.subject, b"")
            return heard.wait(0.1)

        _await(is_heard)
    finally:
        speaking.close()
        connection.close()


def test_while_a_majority_is_gone_a_client_goes_round_and_writes_once_it_is_back(
    behind: Behind, tmp_path: Path
) -> None:
    url = behind.url(behind.cluster.new_name(), tmp_path / "replica.db")
    with (
        open_store(url, events=[Entry], busy_timeout=PATIENCE_SECONDS) as store,
        ThreadPoolExecutor() as pool,
    ):
        store.append("a", entries("before", 1))
        used = behind.used()
        others = [
            node
            for node, proxy in zip(behind.cluster.nodes, behind.proxies, strict=True)
            if proxy is not used
        ]
        for node in others:
            node.kill()
        writing = pool.submit(store.append, "a", entries("meanwhile", 1))
        _await(lambda: used.accepted > 2)
        assert not writing.done()
        for node in others:
            node.start()
        assert writing.result(PATIENCE_SECONDS).position == 2
        assert [event.event.commit for event in store.read()] == ["before", "meanwhile"]
