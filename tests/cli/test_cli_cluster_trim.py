"""Dropping from a log what is archived, while no replica needs it any more."""

from __future__ import annotations

import os
import random
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from nats.aio.msg import Msg
from tests.cli.everwhen_shell import Shell
from tests.nats_cluster import NatsCluster
from tests.patience import PATIENCE_SECONDS

from everwhen import Event, Store, open_store
from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.backends.jetstream.connection import Connection
from everwhen.backends.jetstream.large_messages import LargeMessages
from everwhen.backends.jetstream.registration import question_subject
from everwhen.backends.jetstream.subject_log import SubjectLog
from everwhen.cluster import (
    ReplicaStatus,
    TrimmedLog,
    bootstrap_replica,
    cluster_status,
    forget_replica,
    offer_replica,
    rebuild_replica,
    trim_log,
    verify_replicas,
)
from everwhen.cluster.replica_copies import ReplicaCopying
from everwhen.cluster.replica_files import opened_file, state_of_file
from everwhen.errors import (
    CorruptStoreError,
    DeclarationError,
    StorageError,
    TrimmedLogError,
)
from everwhen.tiers import HistoryManager, HistoryPolicy

pytestmark = pytest.mark.slow


class Paid(Event):
    who: str
    amount: int
    note: str = ""


class Shop:
    """A store on a server with nodes, of which ``a`` has an archive."""

    def __init__(self, nats: NatsCluster, folder: Path) -> None:
        self._nats = nats
        self._folder = folder
        self.name = nats.new_name()
        self.archive = folder / "archive"

    def file(self, node: str) -> Path:
        return self._folder / node / "shop.db"

    def url(self, node: str) -> str:
        return self._nats.url(self.name, self.file(node))

    def open(self, node: str, **options: Any) -> Store:
        return open_store(self.url(node), events=[Paid], **options)

    def fill(self, count: int, node: str = "a", note: str = "") -> None:
        with self.open(node) as store:
            for number in range(count):
                store.append(f"account-{number % 3}", [Paid("x", number, note)])

    def archived(self, **policy: Any) -> None:
        """All that there is, or what the policy says."""
        with self.open("a") as store:
            self.archived_by(store, self.archive, **policy)

    @staticmethod
    def archived_by(store: Store, archive: Path, **policy: Any) -> None:
        zero = timedelta(0)
        given = {"hot_duration": zero, "archive_after": zero, "small_segments": True, **policy}
        HistoryManager(store, HistoryPolicy(**given), archive=archive).age()

    def trim(self) -> TrimmedLog:
        return trim_log(self.url("a"))

    def messages(self) -> int:
        return cluster_status(self.url("a")).messages or 0

    def replicas(self) -> list[ReplicaStatus]:
        return cluster_status(self.url("a")).replicas

    def copy(self, name: str) -> Path:
        copy = self._folder / name
        with self.open("a") as store:
            store.backup(copy)
        return copy


@pytest.fixture
def shop(nats: NatsCluster, tmp_path: Path) -> Shop:
    return Shop(nats, tmp_path)


def history(store: Store) -> list[object]:
    return [
        (
            event.position,
            event.stream,
            event.version,
            event.event_id,
            event.recorded_at,
            event.event,
        )
        for event in store.read()
    ]


def test_what_is_archived_is_dropped_and_read_as_before(shop: Shop) -> None:
    shop.fill(20)
    with shop.open("b") as other:
        before = history(other)
        shop.archived()
        shop.fill(5)
        done = shop.trim()
        assert (done.position, done.held_by) == (20, "archive")
        assert done.dropped == 2 + 19, "the 20th stays, the two replicas' registrations don't"
        other.wait_for(25, timeout=PATIENCE_SECONDS)
        other.append("account-9", [Paid("y", 9)])
        with shop.open("a") as one:
            for store in (one, other):
                store.wait_for(26, timeout=PATIENCE_SECONDS)
                assert history(store)[:20] == before
                assert store.check() == []
        again = shop.trim()
        assert (again.dropped, again.begins, again.position) == (0, done.begins, 20)
        shop.archived()
        further = shop.trim()
        assert further.dropped > 0
        assert (further.position, further.held_by) == (26, "")


def test_a_new_replica_of_a_trimmed_log_begins_with_a_copy(shop: Shop) -> None:
    shop.fill(5)
    old = shop.copy("old.db")
    shop.fill(5)
    shop.archived()
    copy = shop.copy("copy.db")
    shop.fill(2)
    shop.trim()
    with pytest.raises(TrimmedLogError, match="cluster bootstrap") as trimmed:
        shop.open("new")
    assert (trimmed.value.message, trimmed.value.path) == (0, str(shop.file("new")))
    assert not shop.file("new").exists()
    with pytest.raises(TrimmedLogError):
        rebuild_replica(shop.url("a"))
    with pytest.raises(StorageError, match="give a copy of a replica to begin with"):
        verify_replicas(shop.url("a"))
    with pytest.raises(TrimmedLogError, match=r"old\.db: has come to message"):
        verify_replicas(shop.url("a"), base=old)
    newest = shop.copy("newest.db")
    with pytest.raises(StorageError, match="give an older copy"):
        verify_replicas(shop.url("a"), [copy], base=newest)
    with shop.open("a") as store:
        assert len(history(store)) == 12, "the old one is in its place"
    with pytest.raises(TrimmedLogError, match=r"old\.db: has come to message"):
        bootstrap_replica(shop.url("new"), old)
    assert not shop.file("new").exists()
    bootstrap_replica(shop.url("new"), copy)
    with shop.open("new") as new, shop.open("a") as one:
        new.append("account-1", [Paid("z", 1)])
        one.wait_for(13, timeout=PATIENCE_SECONDS)
        assert history(new) == history(one)
        assert new.check() == []
    replicas = cluster_status(shop.url("new")).replicas
    assert {one.path for one in replicas} == {str(shop.file("a")), str(shop.file("new"))}
    assert len({one.id for one in replicas}) == 2, "a copy has an id of its own"


def test_a_file_that_cant_be_read_is_no_reason_for_an_older_base(shop: Shop) -> None:
    shop.fill(5)
    shop.archived()
    copy = shop.copy("copy.db")
    shop.trim()
    broken = shop.copy("broken.db")
    content = broken.read_bytes()
    broken.write_bytes(content[:4096] + bytes(len(content) - 4096))
    own, other = verify_replicas(shop.url("a"), [broken], base=copy)
    found = {one.path: one.problems for one in (own, other)}
    assert found[str(shop.file("a"))] == []
    assert found[str(broken)] != []


def test_an_offered_copy_that_is_too_old_is_to_be_offered_anew(shop: Shop) -> None:
    shop.fill(5)
    offer_replica(shop.url("a"))
    shop.fill(5)
    shop.archived()
    shop.trim()
    said = r"is offered has come to message \d+, .*; offer a new one"
    with pytest.raises(StorageError, match=said):
        bootstrap_replica(shop.url("new"))
    with pytest.raises(StorageError, match=said):
        rebuild_replica(shop.url("a"), offered=True)
    offer_replica(shop.url("a"))
    assert bootstrap_replica(shop.url("new")).position == 10


def test_what_a_replica_lacks_is_kept_until_it_is_forgotten(shop: Shop, shell: Shell) -> None:
    shop.fill(10)
    with shop.open("b"):
        pass
    shop.fill(10)
    shop.archived()
    first = shell.terminal("cluster", "trim", shop.url("a")).out
    assert "everwhen cluster offer" in first
    done = shop.trim()
    assert (done.held_by, done.position) == ("replicas", 10)
    (asleep,) = [one for one in done.replicas if not one.answers]
    assert asleep.path == str(shop.file("b"))
    said = shell.terminal("cluster", "trim", shop.url("a")).out
    assert asleep.id in said
    assert "isn't open" in said
    assert "nothing to drop" in said
    with shop.open("b") as other:
        other.wait_for(20, timeout=PATIENCE_SECONDS)
        assert shop.trim().position == 20
        with pytest.raises(DeclarationError, match="is open on"):
            forget_replica(shop.url("a"), asleep.id)
    shop.fill(5)
    shop.archived()
    assert shop.trim().held_by == "replicas", "what it had the last time that it answered counts"
    for wrong in ("", "zz"):
        with pytest.raises(DeclarationError, match=f"no replica of the id '{wrong}'; it knows"):
            forget_replica(shop.url("a"), wrong)
    gone = shell("cluster", "forget", shop.url("a"), asleep.id, "--json")
    assert gone.records[0]["path"] == asleep.path
    assert shop.trim().position == 25
    with pytest.raises(TrimmedLogError, match=r"b.shop\.db: has come to message"):
        shop.open("b")


def test_nothing_is_dropped_that_isnt_archived(shop: Shop) -> None:
    shop.fill(5)
    before = shop.messages()
    done = shop.trim()
    assert (done.dropped, done.position, done.held_by) == (0, 0, "archive")
    with shop.open("a") as store:
        sealed = HistoryPolicy(hot_duration=timedelta(0), small_segments=True)
        HistoryManager(store, sealed).age()
    done = shop.trim()
    assert (done.dropped, done.position, done.held_by) == (0, 0, "archive")
    assert shop.messages() >= before


def test_nothing_is_dropped_that_the_archive_has_otherwise(shop: Shop) -> None:
    shop.fill(6)
    shop.archived()
    before = shop.messages()
    (object_,) = [path for path in shop.archive.rglob("*") if path.is_file()]
    content = object_.read_bytes()
    object_.write_bytes(content[: len(content) // 2])
    with pytest.raises(StorageError):
        shop.trim()
    object_.unlink()
    with pytest.raises(StorageError):
        shop.trim()
    assert shop.messages() == before
    object_.write_bytes(content)
    assert shop.trim().position == 6


def test_nothing_is_dropped_that_the_replica_has_otherwise(shop: Shop) -> None:
    shop.fill(6)
    with closing(apsw.Connection(str(shop.file("a")))) as connection:
        other = "(SELECT body FROM slices WHERE position = 5)"
        connection.execute(f"UPDATE slices SET body = {other} WHERE position = 2")
    shop.archived()
    before = shop.messages()
    said = r"position 2: isn't what the log says; nothing was dropped"
    with pytest.raises(CorruptStoreError, match=said):
        shop.trim()
    assert shop.messages() == before


def test_what_was_retired_is_dropped(shop: Shop) -> None:
    shop.fill(6)
    shop.archived()
    with shop.open("a") as store:
        over = HistoryPolicy(hot_duration=timedelta(0), delete_after=timedelta(0))
        HistoryManager(store, over, archive=shop.archive).age(allow_loss=True)
    done = shop.trim()
    assert done.position >= 6
    assert done.dropped > 0


def test_it_goes_on_after_it_was_cut_off(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.fill(10)
    shop.archived()

    def cut_off(*_: object, **__: object) -> int:
        raise StorageError("cut off")

    with monkeypatch.context() as patched:
        patched.setattr(SubjectLog, "purge", cut_off)
        with pytest.raises(StorageError, match="cut off"):
            shop.trim()
    done = shop.trim()
    assert (done.dropped, done.position) == (10, 10)
    assert verify_says(shop) == []


def verify_says(shop: Shop) -> list[object]:
    copy = shop.copy("base.db")
    return [
        problem for one in verify_replicas(shop.url("a"), base=copy) for problem in one.problems
    ]


def test_objects_of_large_messages_go_along(shop: Shop, nats: NatsCluster) -> None:
    shop.fill(1)
    noise = random.Random(1)
    with shop.open("a") as store:
        notes = [noise.randbytes(7 << 20).hex() for _ in range(2)]
        store.append("account-0", [Paid("x", 1, note) for note in notes])
    shop.fill(1)
    shop.archived()
    done = shop.trim()
    assert (done.objects, done.position) == (1, 4)
    with shop.open("a") as store:
        assert len(history(store)) == 4
        assert store.check() == []


def test_branches_are_kept_whole(shop: Shop) -> None:
    shop.fill(4)
    with shop.open("a") as store, closing(store.create_branch("what-if")) as branch:
        branch.append("account-1", [Paid("b", 1)])
    shop.archived()
    copy = shop.copy("copy.db")
    shop.trim()
    bootstrap_replica(shop.url("new"), copy)
    with shop.open("new") as new, closing(new.branch("what-if")) as branch:
        assert len(history(branch)) == 5
        branch.append("account-2", [Paid("b", 2)])
        assert branch.check() == []


def test_others_write_on_while_messages_go(shop: Shop) -> None:
    shop.fill(20)
    done = threading.Event()

    def write() -> None:
        with shop.open("b") as store:
            number = 0
            while not done.is_set():
                store.append(f"account-{number % 3}", [Paid("b", number)])
                number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        positions = []
        for _ in range(4):
            shop.archived()
            positions.append(shop.trim().position)
    finally:
        done.set()
        writer.join()
    assert positions[0] >= 20
    assert sorted(set(positions)) == positions, "each time more, while others wrote"
    base = shop.copy("base.db")
    with shop.open("a") as one, shop.open("b") as other:
        one.append("account-0", [Paid("a", 0)])
        other.wait_for(one.head().position, timeout=PATIENCE_SECONDS)
        assert history(one) == history(other)
    found = verify_replicas(shop.url("a"), [shop.file("b")], base=base)
    assert [problem for one in found for problem in one.problems] == []


def test_a_log_none_of_whose_events_may_go_stays_whole(shop: Shop) -> None:
    with shop.open("b"), shop.open("c") as other:
        shop.fill(5)
        other.wait_for(5, timeout=PATIENCE_SECONDS)
        before = shop.messages()
        done = shop.trim()
        assert (done.dropped, done.begins, done.held_by) == (0, 0, "archive")
        assert shop.messages() == before
    with shop.open("new") as new:
        assert len(history(new)) == 5


@pytest.mark.parametrize("is_behind", [True, False], ids=["archived-less", "archived-all"])
def test_two_nodes_trim_at_once(shop: Shop, *, is_behind: bool) -> None:
    shop.fill(205)
    with shop.open("b") as other:
        shop.archived_by(other, shop.file("b").parent / "archive")
        shop.fill(5)
        shop.archived()
        if not is_behind:
            other.wait_for(210, timeout=PATIENCE_SECONDS)
            shop.archived_by(other, shop.file("b").parent / "archive")
        found: list[TrimmedLog] = []

        def meanwhile(_: object) -> None:
            if not found:  # the first page was compared
                found.append(shop.trim())

        with shop.open("a"):
            done = trim_log(shop.url("b"), progress=meanwhile)
    assert found[0].position == 210
    assert (done.begins, done.position) == (found[0].begins, 210)
    for node in ("a", "b"):
        again = trim_log(shop.url(node))
        assert (again.dropped, again.begins) == (0, done.begins)


def test_one_that_registers_meanwhile_is_waited_for(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.fill(5)
    asked: list[str] = []
    ask_all = Connection.ask_all

    def ask_late(self: Connection, subject: str, *rest: Any) -> None:
        if not asked:
            asked.append(subject)
            with shop.open("new"):
                pass
            shop.fill(5)
            shop.archived()
        ask_all(self, subject, *rest)

    with shop.open("a"), monkeypatch.context() as patched:
        patched.setattr(Connection, "ask_all", ask_late)
        shop.trim()
    assert asked
    with shop.open("new") as new:
        assert len(history(new)) == 10


def test_one_that_was_forgotten_meanwhile_stays_forgotten(shop: Shop) -> None:
    shop.fill(5)
    with shop.open("b"):
        pass
    shop.fill(5)
    shop.archived()
    (other,) = [one for one in shop.replicas() if one.path == str(shop.file("b"))]
    with shop.open("b") as store:
        store.wait_for(10, timeout=PATIENCE_SECONDS)
        forgotten: list[ReplicaStatus] = []

        def close_and_forget(_: object) -> None:
            if not forgotten:
                store.close()
                forgotten.append(forget_replica(shop.url("a"), other.id))

        done = trim_log(shop.url("a"), progress=close_and_forget)
    assert done.position == 10
    assert other.id in {one.id for one in done.replicas if one.answers}
    assert other.id not in {one.id for one in shop.replicas()}


def test_what_others_have_is_synced_before_it_is_dropped(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.fill(5)
    shop.archived()
    synced: set[str] = set()
    dropped: list[set[str]] = []
    fsync, purge = os.fsync, SubjectLog.purge

    def note_sync(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    def note_purge(self: SubjectLog, before: int = 0) -> int:
        dropped.append(set(synced))
        return purge(self, before)

    with shop.open("a") as one, shop.open("b") as other:
        one.append("account-0", [Paid("a", 1)])
        other.wait_for(6, timeout=PATIENCE_SECONDS)
        monkeypatch.setattr(os, "fsync", note_sync)
        monkeypatch.setattr(SubjectLog, "purge", note_purge)
        assert shop.trim().position == 5
    assert {f"{shop.file('a')}-wal", f"{shop.file('b')}-wal"} <= dropped[0]


def test_what_no_replica_says_is_no_answer(shop: Shop) -> None:
    shop.fill(5)
    with shop.open("b"):
        pass
    shop.fill(5)
    shop.archived()
    (asleep,) = [one for one in shop.replicas() if one.path == str(shop.file("b"))]
    said = [
        b"",
        b"junk",
        msgspec.msgpack.encode([asleep.id, "host", "path"]),
        msgspec.msgpack.encode([asleep.id, "host", "path", -1]),
        msgspec.msgpack.encode([asleep.id, "host", "path", 1 << 63]),
    ]
    address = ClusterAddress.parsed(shop.url("a"))
    stranger = Connection(address, PATIENCE_SECONDS)

    def answer(question: Msg) -> None:
        for data in said:
            stranger.say(question.reply, data)

    stranger.listen(question_subject(address.subject), answer)
    try:
        done = shop.trim()
    finally:
        stranger.close()
    assert (done.held_by, done.position) == ("replicas", 5)
    assert asleep in done.replicas
    with shop.open("b") as other:
        assert len(history(other)) == 10


def test_a_replica_that_is_moved_stays_registered(shop: Shop) -> None:
    shop.fill(5)
    with shop.open("b"):
        pass
    shop.file("b").parent.rename(shop.file("moved").parent)
    with shop.open("moved"):
        pass
    with shop.open("b"):
        pass
    shop.fill(1)
    found = {one.path: one for one in shop.replicas() if one.is_registered}
    assert found.keys() == {str(shop.file(node)) for node in ("a", "b", "moved")}


def test_a_copy_of_a_replica_has_no_id_before_it_is_opened(shop: Shop) -> None:
    shop.fill(5)
    copy = shop.copy("copy.db")
    shop.file("new").parent.mkdir()
    address = ClusterAddress.parsed(shop.url("new"))
    connection = Connection(address, PATIENCE_SECONDS)
    try:
        ReplicaCopying(connection, address, PATIENCE_SECONDS, None).copy(
            copy, shop.file("new"), logs="none"
        )
    finally:
        connection.close()
    with opened_file(shop.file("new")) as engine, engine.view() as view:
        state = state_of_file(view, shop.file("new"))
    assert (state.id, state.inode) == ("", 0), "an inode elsewhere may have the same number"


def test_what_is_dropped_while_it_is_read_is_no_fault_of_the_log(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.fill(1)
    with shop.open("reader", read_only=True):
        pass
    noise = random.Random(1)
    with shop.open("a") as store:
        notes = [noise.randbytes(7 << 20).hex() for _ in range(2)]
        store.append("account-0", [Paid("x", 1, note) for note in notes])
    shop.fill(1)
    shop.archived()
    get = LargeMessages.get
    trimmed: list[TrimmedLog] = []

    def get_late(self: LargeMessages, *rest: Any) -> bytes:
        if not trimmed:
            with monkeypatch.context() as patched:
                patched.setattr(LargeMessages, "get", get)
                trimmed.append(shop.trim())
        return get(self, *rest)

    monkeypatch.setattr(LargeMessages, "get", get_late)
    with pytest.raises(TrimmedLogError):
        shop.open("reader", read_only=True)
    assert trimmed[0].objects == 1
