"""Copies of a replica in the cluster's object store: offered by one node, taken by another."""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from nats.js import JetStreamContext
from tests.cli.everwhen_shell import Shell
from tests.nats_cluster import NatsCluster
from tests.nats_proxy import nats_proxy
from tests.patience import PATIENCE_SECONDS
from tests.replayed_elsewhere import Paid
from tests.small_disks import fill, small_disk

from everwhen import Store, UnknownEvent, open_store
from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.backends.jetstream.connection import Connection
from everwhen.backends.jetstream.large_messages import LargeMessages
from everwhen.backends.jetstream.messages import new_reference
from everwhen.cluster import (
    ReplicaProgress,
    bootstrap_replica,
    offer_replica,
    offering,
    rebuild_replica,
    sweep_objects,
    verify_replicas,
)
from everwhen.errors import (
    BackupError,
    BusyError,
    CorruptStoreError,
    DeclarationError,
    NewerStoreError,
    StorageError,
    StorageFullError,
)

ROOT = Path(__file__).parents[2]


class Nodes:
    """One store with a replica on each node, and its objects."""

    def __init__(self, nats: NatsCluster, folder: Path) -> None:
        self._nats, self._folder = nats, folder
        self._name = nats.new_name()
        address = ClusterAddress.parsed(self.url("none"))
        self._connection = Connection(address, PATIENCE_SECONDS)
        self.objects = LargeMessages(self._connection, address.stream, 1, PATIENCE_SECONDS)
        self.references = self.objects.references("replica")

    def file(self, node: str) -> Path:
        return self._folder / node / "shop.db"

    def url(self, node: str, port: int | None = None) -> str:
        direct = self._nats.url(self._name, self.file(node))
        return direct.replace(f":{self._nats.nodes[0].port}/", f":{port}/") if port else direct

    def open(self, node: str) -> Store:
        return open_store(self.url(node), events=[Paid])

    def left(self, node: str) -> list[str]:
        """What is in the folder of the node besides its replica and branches."""
        kept = {"shop.db", "shop.db-branches", "shop.db-wal", "shop.db-shm"}
        folder = self.file(node).parent
        return [path.name for path in folder.iterdir() if path.name not in kept]

    def copies(self) -> list[str]:
        """The names of all copies that something is there of."""
        found = {name.rpartition("/")[0] for name in self.objects.names() if "/" in name}
        return sorted(found)

    def check(self, *nodes: str) -> None:
        """Their replicas are equal, and what the log says."""
        one, *others = nodes
        found = verify_replicas(self.url(one), [self.file(other) for other in others])
        assert not any(file.problems for file in found)
        assert len({file.contents for file in found if file.log == "main"}) == 1

    def limit_objects(self, most: int) -> None:
        """Have the servers take only so many bytes of them."""

        async def limited(context: JetStreamContext) -> None:
            config = (await context.stream_info(f"OBJ_{self.objects.bucket}")).config
            await context.update_stream(config.evolve(max_bytes=most))

        self._connection.in_jetstream(limited)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def nodes(nats: NatsCluster, tmp_path: Path) -> Iterator[Nodes]:
    """With forty events and a branch, in the replica of node a, which is closed."""
    with closing(Nodes(nats, tmp_path)) as found:
        with found.open("a") as store:
            fill_with(store, 40)
            with store.create_branch("what-if") as branch:
                branch.append("b", [Paid("x", 1)])
        yield found


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offering, "_PART_BYTES", 10_000)


def fill_with(store: Store, count: int) -> None:
    for number in range(count):
        store.append(f"a-{number % 5}", [Paid("x", number)])


# Offering, and beginning with what is offered


@pytest.mark.usefixtures("small_parts")
def test_a_new_node_begins_with_what_another_one_offers(nodes: Nodes) -> None:
    seen: list[ReplicaProgress] = []
    with nodes.open("a") as store:  # which may be written meanwhile
        offered = offer_replica(nodes.url("a"), progress=seen.append)
        fill_with(store, 10)
    assert (offered.position, offered.branches, offered.deleted) == (40, 1, 0)
    assert [*dict.fromkeys(one.stage for one in seen)] == ["copying", "checking", "offering"]
    assert seen[-1].done == seen[-1].total == offered.bytes
    seen.clear()
    made = bootstrap_replica(nodes.url("b"), progress=seen.append)
    assert (made.position, made.copied, made.message - made.copied) == (50, offered.message, 11)
    assert [*dict.fromkeys(one.stage for one in seen)] == [
        "fetching", "copying", "checking", "reading the log"
    ]  # fmt: skip
    assert nodes.left("a") == nodes.left("b") == []
    nodes.check("a", "b")
    with nodes.open("b") as store:
        with store.branch("what-if") as branch:
            assert branch.head().position == 41
        fill_with(store, 1)


def test_the_newest_copy_is_the_only_one(nodes: Nodes) -> None:
    first = offer_replica(nodes.url("a"))
    (old,) = nodes.copies()
    with nodes.open("a") as store:
        fill_with(store, 3)
    second = offer_replica(nodes.url("a"))
    assert second.message == first.message + 4
    assert second.deleted == 3, "two files, and their list"
    (new,) = nodes.copies()
    assert new != old
    assert sweep_objects(nodes.url("a")) == []
    assert bootstrap_replica(nodes.url("b")).copied == second.message


def test_offer_and_bootstrap_by_the_command_line(nodes: Nodes, shell: Shell) -> None:
    done = shell("cluster", "bootstrap", nodes.url("b"))
    assert (done.code, done.out) == (74, "")
    assert "no copy of a replica is offered there; offer one on a node" in done.err
    assert not nodes.file("b").exists()
    (offered,) = shell("cluster", "offer", nodes.url("a"), "--json").records
    assert (offered["position"], offered["branches"]) == (40, 1)
    assert "with 1 branch, is offered" in shell.terminal("cluster", "offer", nodes.url("a")).out
    (made,) = shell("cluster", "bootstrap", nodes.url("b"), "--json").records
    assert (made["position"], made["copied"]) == (40, offered["message"])
    again = shell("cluster", "bootstrap", nodes.url("b"))
    assert again.code == 73
    assert "already exists" in again.err
    (made,) = shell("cluster", "rebuild", nodes.url("b"), "--from-offered", "--json").records
    assert made["position"] == 40
    assert shell("cluster", "sweep", nodes.url("a")).out == ""
    assert "0 objects deleted" in shell.terminal("cluster", "sweep", nodes.url("a")).out
    name = f"main.1.{uuid4().hex}"
    nodes.objects.put(name, b"1234")
    assert shell("cluster", "sweep", nodes.url("a")).rows == [[name, "4"]]


def test_only_a_replica_of_this_log_is_offered(nats: NatsCluster, nodes: Nodes) -> None:
    with pytest.raises(StorageError, match="no such replica"):
        offer_replica(nodes.url("none"))
    other = nats.url(nats.new_name(), nodes.file("other"))
    with open_store(other, events=[Paid]) as store:
        fill_with(store, 1)
    with pytest.raises(CorruptStoreError, match="is a replica of another history"):
        offer_replica(nodes.url("other"))
    assert nodes.objects.names() == []
    assert nodes.left("other") == []


def test_of_two_that_offer_at_once_one_is_the_newest(nodes: Nodes) -> None:
    bootstrap_replica(nodes.url("b"), nodes.file("a"))
    others: list[int] = []

    def overtake(progress: ReplicaProgress) -> None:
        if progress.stage == "offering" and not others:
            others.append(offer_replica(nodes.url("b")).message)

    with pytest.raises(BusyError, match="another node has offered a copy meanwhile"):
        offer_replica(nodes.url("a"), progress=overtake)
    assert len(nodes.copies()) == 1
    assert bootstrap_replica(nodes.url("c")).copied == others[0]


def test_a_copy_that_is_begun_before_older_ones_are_deleted_stays_whole(
    nats: NatsCluster, nodes: Nodes
) -> None:
    bootstrap_replica(nodes.url("b"), nodes.file("a"))
    with nats_proxy(nats.nodes[0].port) as proxy, ThreadPoolExecutor() as pool:
        held = proxy.hold("answer", r"\$O\..*\.C\.replica\.references")
        first = pool.submit(offer_replica, nodes.url("a", proxy.port))
        held.come()

        def let_it_delete(progress: ReplicaProgress) -> None:
            if progress.stage == "offering":
                held.release()
                first.result(PATIENCE_SECONDS)

        offer_replica(nodes.url("b"), progress=let_it_delete)
    assert len(nodes.copies()) == 1
    assert bootstrap_replica(nodes.url("c")).position == 40


def test_a_copy_that_is_replaced_while_it_is_fetched_is_left_for_the_newer_one(
    nodes: Nodes,
) -> None:
    offer_replica(nodes.url("a"))
    newer: list[int] = []

    def replace(progress: ReplicaProgress) -> None:
        if progress.stage == "fetching" and not newer:
            with nodes.open("a") as store:
                fill_with(store, 5)
            newer.append(offer_replica(nodes.url("a")).message)

    made = bootstrap_replica(nodes.url("b"), progress=replace)
    assert made.copied == newer[0]
    nodes.check("a", "b")


# Broken off, damaged, or made up


OFFERING = """
import sys
from everwhen.cluster import offer_replica
offer_replica(sys.argv[1])
"""


@pytest.mark.parametrize("is_first", [True, False])
def test_a_copy_that_is_broken_off_is_none_and_goes_with_the_next(
    nats: NatsCluster, nodes: Nodes, *, is_first: bool
) -> None:
    whole = [] if is_first else [offer_replica(nodes.url("a"))]
    before = nodes.objects.names()
    with nats_proxy(nats.nodes[0].port) as proxy:
        proxy.lose("request", r"\$O\..*\.C\.replica\.references", 10**6)
        command = [sys.executable, "-c", OFFERING, nodes.url("a", proxy.port)]
        with subprocess.Popen(command, cwd=ROOT) as offering_node:
            until = time.monotonic() + PATIENCE_SECONDS
            while not any(name.endswith("/files") for name in {*nodes.objects.names()} - {*before}):
                assert time.monotonic() < until
                assert offering_node.poll() is None
                time.sleep(0.05)
            offering_node.kill()
    assert nodes.left("a") == [".shop.db-offer.everwhen-partial"]
    if is_first:
        with pytest.raises(StorageError, match="no copy of a replica is offered"):
            bootstrap_replica(nodes.url("b"))
    else:
        assert bootstrap_replica(nodes.url("b")).copied == whole[0].message
    again = offer_replica(nodes.url("a"))
    assert again.deleted == (3 if is_first else 6)
    assert nodes.left("a") == []
    assert bootstrap_replica(nodes.url("c")).copied == again.message


def test_a_connection_that_is_cut_off_while_a_copy_is_offered_leaves_nothing(
    nats: NatsCluster, nodes: Nodes
) -> None:
    with nats_proxy(nats.nodes[0].port) as proxy:
        proxy.lose("request", r"\$O\..*\.M\..*", 10**6)
        with pytest.raises(StorageError, match="no answer"):
            offer_replica(nodes.url("a", proxy.port), busy_timeout=1.0)
    assert nodes.objects.names() == []
    assert nodes.left("a") == []


@pytest.mark.parametrize("part", ["0.0", "1.0", "files"])
@pytest.mark.parametrize("is_there", [True, False], ids=["damaged", "deleted"])
def test_a_copy_that_isnt_what_was_offered_is_refused(
    nodes: Nodes, part: str, *, is_there: bool
) -> None:
    offer_replica(nodes.url("a"))
    (name,) = [name for name in nodes.objects.names() if name.endswith(f"/{part}")]
    data = bytearray(nodes.objects.read(name, 1 << 30) or b"")
    data[-1] ^= 1
    nodes.objects.put(name, bytes(data)) if is_there else nodes.objects.delete(name)
    what = "isn't what was offered" if is_there and part != "files" else "isn't complete"
    with pytest.raises(CorruptStoreError, match=what):
        bootstrap_replica(nodes.url("b"))
    assert not nodes.file("b").exists()
    assert nodes.left("b") == []


def made_up(nodes: Nodes, data: bytes) -> None:
    """Refer to a list of files that no node has written."""
    nodes.objects.put("replica/x/files", data)
    last = nodes.references.newest()
    reference = uuid4().bytes
    nodes.references.append(
        reference,
        new_reference(reference, "replica/x/files", data),
        last.seq if last is not None else 0,
    )


@pytest.mark.parametrize(
    ("logs", "what"),
    [
        (["main", "../../../../escaped"], "isn't one of a store and its branches"),
        (["main", "/escaped"], "isn't one of a store and its branches"),
        (["main", "ab" * 16, "ab" * 16], "isn't one of a store and its branches"),
        ([], "isn't one of a store and its branches"),
        (["main", 3], "can't be read"),
    ],
    ids=["above", "absolute", "twice", "none", "number"],
)
def test_a_list_of_files_that_is_made_up_is_refused(
    nodes: Nodes, tmp_path: Path, logs: list[object], what: str
) -> None:
    files = [(log, 1, hashlib.sha256(b"x").digest()) for log in logs]
    for number in range(len(files)):
        nodes.objects.put(f"replica/x/{number}.0", b"x")
    made_up(nodes, b"\x01" + msgspec.msgpack.encode(("replica/x", 1, files)))
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(CorruptStoreError, match=what):
        bootstrap_replica(nodes.url("b"))
    after = sorted(path for path in tmp_path.rglob("*"))
    assert [path for path in after if path not in before] == [nodes.file("b").parent]


def test_a_copy_of_a_newer_everwhen_says_what_to_do(nodes: Nodes) -> None:
    made_up(nodes, b"\x02anything")
    with pytest.raises(NewerStoreError, match="upgrade Everwhen on this node"):
        bootstrap_replica(nodes.url("b"))


def test_a_file_that_is_no_replica_is_refused_also_where_it_is_offered(nodes: Nodes) -> None:
    data = random.randbytes(5_000)
    nodes.objects.put("replica/x/0.0", data)
    files = [("main", len(data), hashlib.sha256(data).digest())]
    made_up(nodes, b"\x01" + msgspec.msgpack.encode(("replica/x", 1, files)))
    with pytest.raises(StorageError, match=r"replica\.db"):
        bootstrap_replica(nodes.url("b"))
    assert not nodes.file("b").exists()
    assert nodes.left("b") == []


# No room


def test_a_disk_that_has_no_room_for_a_copy_keeps_nothing_of_it(
    nodes: Nodes, tmp_path: Path
) -> None:
    with nodes.open("a") as store:
        store.append("big", [UnknownEvent("Stored", {"text": os.urandom(600_000).hex()})])
    offer_replica(nodes.url("a"))
    with small_disk(tmp_path, megabytes=4) as disk:
        url = nodes.url("b").replace(str(nodes.file("b")), str(disk / "shop.db"))
        fill(disk / "fill", leaving=400_000)
        with pytest.raises(StorageFullError, match="more than are free there"):
            bootstrap_replica(url)
        assert [path.name for path in disk.iterdir()] == ["fill"]
        (disk / "fill").unlink()
        fill(disk / "fill", leaving=2_000_000)
        with pytest.raises((StorageFullError, BackupError)):
            bootstrap_replica(url)
        assert [path.name for path in disk.iterdir()] == ["fill"]
        (disk / "fill").unlink()


def test_servers_that_have_no_room_for_a_copy_keep_the_one_before(
    nodes: Nodes,
) -> None:
    first = offer_replica(nodes.url("a"))
    before = nodes.objects.names()
    nodes.limit_objects(first.bytes + 500_000)
    with nodes.open("a") as store:
        store.append("big", [UnknownEvent("Stored", {"text": os.urandom(600_000).hex()})])
    with pytest.raises(StorageFullError, match="give it room"):
        offer_replica(nodes.url("a"))
    assert nodes.objects.names() == before
    assert nodes.left("a") == []
    assert bootstrap_replica(nodes.url("b")).copied == first.message


# Rebuilding


@pytest.mark.parametrize("way", ["--from", "--from-offered"])
def test_a_broken_replica_is_made_anew_from_a_copy(nodes: Nodes, shell: Shell, way: str) -> None:
    copy = nodes.file("copy")
    copy.parent.mkdir()
    if way == "--from":
        assert shell("backup", nodes.url("a"), copy).code == 0
    else:
        offer_replica(nodes.url("a"))
    bootstrap_replica(nodes.url("b"), nodes.file("a"))
    with nodes.open("b") as store:
        fill_with(store, 10)
    nodes.file("a").write_bytes(b"x" * 20_000)
    words = [way, copy] if way == "--from" else [way]
    (made,) = shell("cluster", "rebuild", nodes.url("a"), *words, "--json").records
    assert made["position"] == 50
    aside, branches = made["put_aside"]
    assert Path(aside).read_bytes() == b"x" * 20_000
    assert re.fullmatch(r"shop\.db-branches\.broken-.*", Path(branches).name)
    assert len(nodes.left("a")) == 2
    nodes.check("a", "b")
    with nodes.open("a") as store, store.branch("what-if") as branch:
        assert branch.head().position == 41


def test_rebuild_takes_one_copy_and_leaves_the_old_one_where_there_is_none(
    nodes: Nodes, shell: Shell
) -> None:
    before = nodes.file("a").read_bytes()
    done = shell("cluster", "rebuild", nodes.url("a"), "--from", "x.db", "--from-offered")
    assert (done.code, done.out) == (2, "")
    assert "not both" in done.err
    with pytest.raises(DeclarationError, match="not both"):
        rebuild_replica(nodes.url("a"), "x.db", offered=True)
    with pytest.raises(StorageError, match="no copy of a replica is offered"):
        rebuild_replica(nodes.url("a"), offered=True)
    with pytest.raises(StorageError, match="no such file"):
        rebuild_replica(nodes.url("a"), nodes.file("none"))
    assert nodes.file("a").read_bytes() == before
    assert nodes.left("a") == []


def test_a_branch_that_was_deleted_since_stays_behind(nodes: Nodes) -> None:
    bootstrap_replica(nodes.url("b"), nodes.file("a"))
    offer_replica(nodes.url("b"))
    with nodes.open("a") as store:
        store.delete_branch("what-if")
        with store.create_branch("other") as branch:
            branch.append("b", [Paid("x", 1)])
    made = bootstrap_replica(nodes.url("c"))
    assert not [*nodes.file("c").parent.glob("*-branches/*.db")]
    assert made.position == 40
    with nodes.open("c") as store:
        assert [info.name for info in store.branches()] == ["other"]
    assert rebuild_replica(nodes.url("b"), offered=True).position == 40
    nodes.check("a", "b", "c")
