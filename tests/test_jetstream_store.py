"""A store on a JetStream server: replicas, who writes, what goes through the log, and what doesn't."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

import apsw
import pytest
from tests.nats_cluster import NatsCluster, nats_cluster
from tests.patience import PATIENCE_SECONDS
from tests.read_elsewhere import bytes_of

from everwhen import Commit, Event, Query, Store, UnknownEvent, Write, open_store
from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.backends.jetstream.engine import JetStreamEngine
from everwhen.backends.jetstream.follower import ReplicaFollower
from everwhen.backends.locations import shown
from everwhen.errors import (
    BeyondEndError,
    ConflictError,
    CorruptStoreError,
    InvalidQueryError,
    NotAStoreError,
    ReadOnlyError,
    StaleReplicaError,
    StorageError,
)
from everwhen.privacy import KeyFile, Personal, Vault
from everwhen.vocabulary.contract import (
    Checkpoint,
    EncodedCommit,
    EncodedSlice,
    Receipt,
    Snapshot,
)
from everwhen.vocabulary.erasures import PURGE_DUE

pytestmark = pytest.mark.slow


def engine_of(store: Store) -> JetStreamEngine:
    found = store.kernel.backend
    while not isinstance(getattr(found, "engine", None), JetStreamEngine):
        found = found._inner  # type: ignore[attr-defined]
    engine = found.engine  # type: ignore[attr-defined]
    assert isinstance(engine, JetStreamEngine)
    return engine


class Nodes:
    """Stores that are one, each with a replica of its own."""

    def __init__(self, nats: NatsCluster, folder: Path) -> None:
        self.name = nats.new_name()
        self._nats = nats
        self._folder = folder
        self._opened = ExitStack()

    def url(self, replica: str, **options: str) -> str:
        return self._nats.url(self.name, self._folder / f"{replica}.db", **options)

    def open(
        self,
        replica: str,
        *,
        events: Iterable[type[Event]] = (),
        vault: Vault | None = None,
        **options: str,
    ) -> Store:
        url = self.url(replica, **options)
        return self._opened.enter_context(open_store(url, events=events, vault=vault))

    def close(self) -> None:
        self._opened.close()


@pytest.fixture
def nodes(nats: NatsCluster, tmp_path: Path) -> Iterator[Nodes]:
    with closing(Nodes(nats, tmp_path)) as found:
        yield found


def _event(number: int) -> UnknownEvent:
    return UnknownEvent("Counted", {"number": number})


def test_what_was_written_elsewhere_can_be_waited_for(nodes: Nodes) -> None:
    one, two = nodes.open("one"), nodes.open("two")
    for number in range(20):
        receipt = one.append("game-1", [_event(number)])
        assert two.wait_for(receipt.position, timeout=PATIENCE_SECONDS).position >= number + 1
        assert two.version("game-1") == number + 1
    with pytest.raises(StaleReplicaError, match="is at position 20 here, asked for position 21"):
        two.wait_for(21, timeout=0)
    assert two.wait_for(0, timeout=0) == one.head()
    with pytest.raises(InvalidQueryError, match="use a position"):
        two.wait_for(-1)


def test_what_nobody_was_told_of_is_found_all_the_same(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = nodes.open("one"), nodes.open("two")
    one.append("game-1", [_event(1)])
    two.wait_for(1, timeout=PATIENCE_SECONDS)
    monkeypatch.setattr(ReplicaFollower, "tell", lambda *_, **__: None)
    for position in (2, 3):
        one.append("game-1", [_event(position)])
        two.wait_for(position, timeout=PATIENCE_SECONDS)


def test_a_commit_is_said_to_be_unknown_only_by_the_newest(nodes: Nodes) -> None:
    one, two = nodes.open("one"), nodes.open("two")
    engine_of(two)._follower.stop()
    receipt = one.append("game-1", [_event(1)])
    assert two.head().position == 0
    assert two.receipt(receipt.commit_id) == receipt


def _rows(path: Path) -> dict[str, list[object]]:
    """What two replicas of one log have alike, byte for byte."""
    tables = ("slices", "streams", "terms", "marks")
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        return {
            table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr)
            for table in tables
        }


def test_replicas_are_equal_whoever_wrote(nodes: Nodes, tmp_path: Path) -> None:
    stores = [nodes.open(name) for name in "abc"]

    def work(number: int, store: Store) -> None:
        for turn in range(30):
            store.append(f"own-{number}", [_event(turn)])
            store.append("shared-1", [_event(turn), _event(-turn)])

    threads = [
        threading.Thread(target=work, args=(number, store))
        for number, store in enumerate(stores * 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    late = nodes.open("late")
    assert late.head().position == 6 * 30 * 3
    for store in stores:
        store.wait_for(540, timeout=PATIENCE_SECONDS)
        assert store.version("shared-1") == 360
        assert store.check() == []
    nodes.close()
    first, *others = [_rows(tmp_path / f"{name}.db") for name in ("a", "b", "c", "late")]
    assert first["slices"]
    for other in others:
        assert other == first


def test_the_node_that_wrote_last_writes_for_the_others(nodes: Nodes) -> None:
    one, two = nodes.open("one"), nodes.open("two")
    one.append("game-1", [_event(1)])
    two.wait_for(1, timeout=PATIENCE_SECONDS)
    end = time.monotonic() + PATIENCE_SECONDS
    while not (receipts := _handed_over(one, two)):
        assert time.monotonic() < end
    for position, recorded in receipts:
        assert two.head().position >= position  # it reads its own writes
        assert recorded <= position
    with pytest.raises(ConflictError) as refused:
        two.append("game-1", [_event(0)], expected=1)
    assert refused.value.actual == two.version("game-1")


def _handed_over(one: Store, two: Store) -> list[tuple[int, int]]:
    """Positions that ``two`` was given for what ``one`` wrote for it."""
    forwarding = engine_of(two)._forwarding
    one.append("game-1", [_event(1)])
    found = []
    for _ in range(5):
        other = forwarding.other_writer()
        receipt = two.append("game-1", [_event(2)])
        if other == engine_of(one)._forwarding.node == forwarding._writer:
            found.append((receipt.position, receipt.versions["game-1"]))
    return found


def test_a_node_that_is_gone_is_not_waited_for_long(nodes: Nodes) -> None:
    one, two = nodes.open("one"), nodes.open("two")
    for number in range(20):
        one.append("game-1", [_event(number)])
    two.wait_for(20, timeout=PATIENCE_SECONDS)
    one.close()
    receipt = two.append("game-1", [_event(20)], expected=20)
    assert (receipt.position, receipt.repeated) == (21, False)


def test_commits_larger_than_a_message_go_through_the_object_store(nodes: Nodes) -> None:
    one, two = nodes.open("one"), nodes.open("two")
    events = [UnknownEvent("Stored", {"text": random.randbytes(7 << 20).hex()}) for _ in range(2)]
    receipt = one.append("file-1", events)
    two.wait_for(receipt.position, timeout=PATIENCE_SECONDS)
    assert [event.event for event in two.read(Query().stream("file-1"))] == events
    assert engine_of(one)._large.names() != []
    late = nodes.open("late")
    assert late.version("file-1") == 2
    assert late.append("file-1", events, commit_id=receipt.commit_id).repeated


def test_what_goes_together_into_the_log_is_cut_where_a_message_would_be_too_large(
    nodes: Nodes,
) -> None:
    store = nodes.open("one")
    texts = [random.randbytes(300_000).hex() for _ in range(40)]
    commits = [
        Commit([Write(f"file-{number}", [UnknownEvent("Stored", {"text": text})])])
        for number, text in enumerate(texts)
    ]
    receipts = store.commit_batch(commits)
    assert [receipt.position for receipt in receipts] == list(range(1, 41))
    assert engine_of(store)._large.names() == []


def test_shared_checkpoints_are_the_same_everywhere_and_local_ones_are_not(nodes: Nodes) -> None:
    one, two = nodes.open("one"), nodes.open("two", consistency="fresh")
    one.append("game-1", [_event(1)])
    with one.transaction() as transaction:
        transaction.save_checkpoint(Checkpoint("shared", 1, b"a"))
        transaction.save_checkpoint(Checkpoint("own", 1), local=True)
    assert two.checkpoint("shared") == Checkpoint("shared", 1, b"a")
    assert two.checkpoint("own") is None
    assert [kept.name for kept in two.checkpoints()] == ["shared"]
    with two.transaction() as transaction:
        transaction.delete_checkpoint("shared")
    with nodes.open("three") as three:
        assert three.checkpoints() == []


def test_a_transaction_that_is_overtaken_takes_effect_all_the_same(nodes: Nodes) -> None:
    one, two = nodes.open("one"), nodes.open("two")
    one.append("game-1", [_event(1)])
    two.wait_for(1, timeout=PATIENCE_SECONDS)
    with two.transaction() as transaction:
        assert transaction.checkpoint("place") is None
        one.append("game-1", [_event(2)])
        transaction.save_checkpoint(Checkpoint("place", 1))
    assert two.head().position == 2
    assert two.check() == []


def test_a_transaction_doesnt_take_effect_where_another_node_changed_what_it_rests_on(
    nodes: Nodes,
) -> None:
    one, two = nodes.open("one"), nodes.open("two")

    def overtaken() -> None:
        with two.transaction() as transaction:
            seen = transaction.checkpoint("lease")
            with one.transaction() as other:
                other.save_checkpoint(Checkpoint("lease", 1, b"one"))
            assert seen is None
            transaction.save_checkpoint(Checkpoint("lease", 1, b"two"))

    with pytest.raises(StorageError, match="another node has changed the checkpoint 'lease'"):
        overtaken()
    assert two.checkpoint("lease") in {None, Checkpoint("lease", 1, b"one")}


def test_a_function_that_is_overtaken_runs_again(nodes: Nodes) -> None:
    one, two = nodes.open("one"), nodes.open("two")
    seen: list[int] = []

    def count(store: Store, other: Store | None) -> None:
        def work(transaction: object) -> None:
            before = transaction.checkpoint("count")  # type: ignore[attr-defined]
            seen.append(0 if before is None else before.position)
            if other is not None and len(seen) == 1:
                count(other, None)
            transaction.save_checkpoint(Checkpoint("count", seen[-1] + 1))  # type: ignore[attr-defined]

        store.kernel.backend.transact(work)

    count(two, one)
    assert seen == [0, 0, 1]
    assert two.checkpoint("count") == Checkpoint("count", 2)


def test_who_is_further_than_a_replica_waits_for_it(nodes: Nodes) -> None:
    one, two = nodes.open("one"), nodes.open("two")
    backend = two.kernel.backend
    with two.transaction() as transaction:  # which keeps the replica from taking anything in
        transaction.checkpoint("c")
        position = one.append("a", [_event(1)]).position
        assert backend.wait(position, 0) is False
    two.wait_for(position, timeout=PATIENCE_SECONDS)
    assert backend.wait(position, 0) is False
    with pytest.raises(BeyondEndError):
        backend.wait(position + 1, 0)


def test_a_branch_is_one_on_all_nodes(nodes: Nodes) -> None:
    one, two = nodes.open("one"), nodes.open("two", consistency="fresh")
    one.append("game-1", [_event(1)])
    one.append("game-1", [_event(2)])
    branch = one.create_branch("what-if", at=1)
    branch.append("game-1", [_event(3)])
    with two.branch("what-if") as found:
        assert [event.event for event in found.read()] == [_event(1), _event(3)]
        found.append("game-1", [_event(4)])
    assert branch.append("game-1", [_event(5)]).versions == {"game-1": 4}
    branch.close()
    two.delete_branch("what-if")
    assert one.append("game-1", [_event(6)]).position == 3
    nodes.close()


def test_who_shares_a_connection_and_a_file_hands_nothing_over(nodes: Nodes) -> None:
    engine = engine_of(nodes.open("one"))
    with ExitStack() as opened:
        first, second = (
            opened.enter_context(closing(engine.open_log("beside", None))) for _ in "12"
        )
        for number in range(4):
            writing, reading = (first, second) if number % 2 else (second, first)
            part = EncodedSlice("game-1", 1, b'[["Counted",1,{}]]', ("Counted",), ())
            commit = EncodedCommit(uuid4().bytes, (part,), (("game-1", number),))
            with writing.lock.turn(), writing.lock.mutex:
                (receipt,) = writing.write([commit])
            assert isinstance(receipt, Receipt)
            assert reading.head().position == number + 1
            assert reading._log.last()  # and what the servers had said before that is heard
            assert reading._forwarding.other_writer() is None


_FORGETFUL = """
import sys
from everwhen import UnknownEvent, open_store
store = open_store(sys.argv[1])
print(store.append("game-1", [UnknownEvent("Counted", {})]).position)
"""


class Joined(Event):
    data_subject: ClassVar[str] = "player"

    player: str
    name: Personal[str]


def _traces(folder: Path, word: bytes) -> list[str]:
    """The files that have the word."""
    files = [path for path in folder.rglob("two*") if path.is_file()]
    return [path.name for path in files if word in bytes_of(path)]


def test_each_replica_purges_its_files_when_somebody_is_forgotten(
    nodes: Nodes, tmp_path: Path
) -> None:
    snapshot = Snapshot("people", 1, "fold", 1, b"ada-lovelace" * 100)
    with Vault(tmp_path / "vault", KeyFile.create(tmp_path / "key")) as vault:
        one = nodes.open("one", events=[Joined], vault=vault)
        two = nodes.open("two")
        one.append("player-1", [Joined("1", "Ada Lovelace")])
        two.wait_for(1, timeout=PATIENCE_SECONDS)
        branch = two.create_branch("what-if")
        for store in (two, branch):
            with store.transaction() as transaction:
                transaction.save_snapshot(snapshot)
        assert _traces(tmp_path, b"ada-lovelace")
        one.forget("1")
        end = time.monotonic() + PATIENCE_SECONDS
        while _traces(tmp_path, b"ada-lovelace") or two.checkpoint(PURGE_DUE) is not None:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert two.check() == []
        branch.close()


def test_a_program_that_closes_nothing_ends(nodes: Nodes) -> None:
    command = [sys.executable, "-c", _FORGETFUL, nodes.url("one")]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("1\n", "", 0)


def test_a_store_that_nobody_uses_any_more_leaves_no_thread_behind(nodes: Nodes) -> None:
    before = threading.active_count()
    store = open_store(nodes.url("one"))
    assert threading.active_count() > before
    del store
    end = time.monotonic() + PATIENCE_SECONDS
    while threading.active_count() > before:
        gc.collect()
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_replica_is_written_by_its_log_alone(nodes: Nodes, tmp_path: Path) -> None:
    with nodes.open("one") as store:
        store.append("game-1", [_event(1)])
    path = tmp_path / "one.db"
    with pytest.raises(ReadOnlyError, match="is a replica of a log on a cluster"):
        open_store(path)
    with open_store(path, read_only=True) as store:
        assert store.version("game-1") == 1


def test_a_store_of_its_own_becomes_no_replica(nodes: Nodes, tmp_path: Path) -> None:
    with open_store(tmp_path / "own.db") as own:
        own.append("game-1", [_event(1)])
    with pytest.raises(
        NotAStoreError, match=r"or of a store of its own, .* everwhen copy .*own\.db"
    ):
        nodes.open("own")
    nodes.open("one")
    with pytest.raises(NotAStoreError, match="is a store of its own"):
        nodes.open("own")


def test_a_replica_follows_no_other_history(
    nats: NatsCluster, nodes: Nodes, tmp_path: Path
) -> None:
    with nodes.open("one") as store:
        store.append("game-1", [_event(1)])
    name = nats.new_name()
    open_store(nats.url(name, tmp_path / "another.db")).close()
    with pytest.raises(CorruptStoreError, match="another history"):
        open_store(nats.url(name, tmp_path / "one.db"))


def test_a_store_that_is_opened_to_read_writes_nothing_into_the_log(nodes: Nodes) -> None:
    with pytest.raises(ReadOnlyError, match="has no store of that name"):
        open_store(nodes.url("one"), read_only=True)
    writing = nodes.open("one")
    writing.append("game-1", [_event(1)])
    with open_store(nodes.url("two"), read_only=True) as reading:
        assert reading.version("game-1") == 1
        with pytest.raises(ReadOnlyError, match="open it for writing"):
            reading.append("game-1", [_event(2)])
        writing.append("game-1", [_event(2)])
        reading.wait_for(2, timeout=PATIENCE_SECONDS)


def test_no_password_is_shown() -> None:
    url = "nats://ada:sesame@one:4222,two/shop?replica=a.db"
    assert shown(url) == "nats://one:4222,two:4222/shop?replica=a.db"
    assert "sesame" not in repr(ClusterAddress.parsed(url))


@contextmanager
def _lazy_server() -> Iterator[NatsCluster]:
    with nats_cluster(1, sync='"10s"') as lazy:
        yield lazy


def test_a_server_that_syncs_now_and_then_is_refused(tmp_path: Path) -> None:
    with _lazy_server() as lazy:
        url = lazy.url("shop", tmp_path / "one.db")
        with pytest.raises(StorageError, match="isn't certain that every server"):
            open_store(url)
        with open_store(url + "&assume_durable=yes") as store:
            store.append("game-1", [_event(1)])
        silent = url.replace("monitor=", "monitor=127.0.0.1:1,")
        with pytest.raises(StorageError, match="monitor=host1:8222"):
            open_store(silent)


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_store_is_opened_while_a_server_is_gone_though_it_cant_be_asked(
    role: str, tmp_path: Path
) -> None:
    with nats_cluster(3) as cluster:
        one, two = (cluster.url("shop", tmp_path / name) for name in ("one.db", "two.db"))
        with open_store(one) as store:
            store.append("game-1", [_event(1)])
        leader = cluster.leader("shop")
        follower = next(node for node in cluster.nodes if node is not leader)
        gone = leader if role == "leader" else follower
        unasked = [node for node in cluster.nodes if node is not gone]
        monitors = ",".join(f"127.0.0.1:{node.monitor}" for node in unasked)
        with pytest.raises(StorageError, match="nobody spoke for"):
            open_store(two.partition("&monitor=")[0] + f"&monitor={monitors}")
        gone.kill()
        for url in (one, two):
            with open_store(url, busy_timeout=PATIENCE_SECONDS) as store:
                store.append("game-1", [_event(2)])
        gone.start()
        gone.wait()
        with open_store(two, busy_timeout=PATIENCE_SECONDS) as store:
            assert store.head().position == 3


def test_a_store_isnt_opened_where_a_server_that_doesnt_sync_is_beside_one_that_is_gone(
    tmp_path: Path,
) -> None:
    with nats_cluster(3) as cluster:
        url = cluster.url("shop", tmp_path / "one.db")
        open_store(url).close()
        lazy, gone, _ = cluster.nodes
        lazy.stop()
        file = lazy.folder / "nats.conf"
        file.write_text(file.read_text().replace("sync_interval: always", 'sync_interval: "10s"'))
        lazy.start()
        lazy.wait()
        gone.kill()
        with pytest.raises(StorageError, match=f"{lazy.name} doesn't"):
            open_store(url, busy_timeout=PATIENCE_SECONDS)
