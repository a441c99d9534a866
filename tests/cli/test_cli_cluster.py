"""The commands of ``cluster``, and the functions below them."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from tests.cli.everwhen_shell import Shell
from tests.nats_cluster import NatsCluster, nats_cluster
from tests.patience import PATIENCE_SECONDS
from tests.replayed_elsewhere import Paid

from everwhen import Store, open_store
from everwhen.cluster import (
    ReplicaProgress,
    bootstrap_replica,
    cluster_status,
    rebuild_replica,
    verify_replicas,
)
from everwhen.errors import BackupError, BusyError, CorruptStoreError, NotAStoreError, StorageError

SECRET = "s3cret"  # noqa: S105


@pytest.fixture(scope="module")
def three() -> Iterator[NatsCluster]:
    with nats_cluster(3) as running:
        yield running


@pytest.fixture
def name(nats: NatsCluster) -> str:
    return nats.new_name()


@pytest.fixture
def url(nats: NatsCluster, name: str, tmp_path: Path) -> str:
    """A store with forty events and a branch, whose replica is closed."""
    found = nats.url(name, tmp_path / "a" / "shop.db")
    with open_store(found, events=[Paid]) as store:
        fill(store, 40)
        with store.create_branch("what-if") as branch:
            branch.append("b", [Paid("x", 1)])
    return found


def fill(store: Store, count: int) -> None:
    for number in range(count):
        store.append(f"a-{number % 5}", [Paid("x", number)])


def edited(path: Path, statement: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(statement)
    connection.close()


# Status


def test_status_of_three_servers(three: NatsCluster, shell: Shell, tmp_path: Path) -> None:
    url = three.url(three.new_name(), tmp_path / "shop.db")
    with open_store(url, events=[Paid]) as store:
        fill(store, 7)
        found = cluster_status(url)
    assert found.is_well, found
    assert sorted(one.role for one in found.servers) == ["current", "current", "leader"]
    assert [one.name for one in found.servers] == ["n1", "n2", "n3"]
    assert all(one.syncs and one.version for one in found.servers)
    (log,) = found.logs
    assert (log.log, log.messages, log.behind) == ("main", found.messages, 0)
    assert log.message == found.messages == 8, "one more, by which the replica registered"
    done = shell("cluster", "status", url, "--json")
    assert done.code == 0
    assert done.records[0]["leader"] == found.leader
    assert done.records[0]["is_well"] is True
    looked = shell.terminal("cluster", "status", url)
    assert "leader" in looked.out
    rows = shell("cluster", "status", url).rows
    assert [row[0] for row in rows] == ["server"] * 3 + ["log", "replica"]
    (replica,) = found.replicas
    assert (replica.path, replica.message) == (str(tmp_path / "shop.db"), 8)
    assert (replica.answers, replica.is_registered) == (True, True)
    (closed,) = cluster_status(url).replicas
    assert (closed.id, closed.message, closed.answers) == (replica.id, 8, False)


def test_status_while_servers_are_gone(shell: Shell, tmp_path: Path) -> None:
    with nats_cluster(3) as cluster:
        url = cluster.url("shop", tmp_path / "shop.db")
        with open_store(url, events=[Paid]) as store:
            fill(store, 3)
        cluster.nodes[0].kill()
        found = cluster_status(url, busy_timeout=PATIENCE_SECONDS)
        gone = [one for one in found.servers if one.problem]
        assert {one.monitor for one in gone} <= {None, f"127.0.0.1:{cluster.nodes[0].monitor}"}
        assert "n1" in {one.name for one in gone}
        assert not found.is_well
        cluster.nodes[1].kill()
        until = time.monotonic() + PATIENCE_SECONDS
        while (found := cluster_status(url, busy_timeout=1)).problem is None:
            assert not found.is_well, "who leads hasn't noticed yet that nobody follows"
            assert time.monotonic() < until
        assert not found.is_well
        assert [one.problem is None for one in found.servers].count(True) == 1
        assert found.logs[0].message == 4
        cluster.nodes[2].kill()
        done = shell("cluster", "status", url)
        assert (done.code, done.err) == (1, "")
        assert "no server could be reached" in done.out


def test_status_makes_nothing(nats: NatsCluster, shell: Shell, tmp_path: Path) -> None:
    url = nats.url(nats.new_name(), tmp_path / "none" / "shop.db")
    found = cluster_status(url)
    assert "stream not found" in (found.problem or "")
    assert not (tmp_path / "none").exists()
    assert "stream not found" in (cluster_status(url).problem or "")
    assert shell("cluster", "status", url).code == 1


def test_status_says_how_far_a_replica_is_behind(
    nats: NatsCluster, url: str, name: str, tmp_path: Path
) -> None:
    with open_store(nats.url(name, tmp_path / "b" / "shop.db"), events=[Paid]) as other:
        fill(other, 5)
    logs = {log.log: log for log in cluster_status(url).logs}
    assert logs["main"].behind == 7, "the branch's message is between, and the other's registration"
    assert len(logs) == 2


# Verifying


def test_replicas_that_are_what_the_log_says(
    nats: NatsCluster, shell: Shell, url: str, name: str, tmp_path: Path
) -> None:
    other = tmp_path / "b" / "shop.db"
    seen: list[ReplicaProgress] = []
    with open_store(nats.url(name, other), events=[Paid]) as store:
        fill(store, 10)
        found = verify_replicas(url, [other], progress=seen.append)
    assert [one.problems for one in found] == [[]] * 3
    main = [one for one in found if one.log == "main"]
    assert [one.position for one in main] == [40, 50]
    assert main[0].digest != main[1].digest
    assert seen[-1].done == seen[-1].total
    with open_store(url):
        pass
    done = shell("cluster", "verify", url, "--with", other, "--json")
    assert done.code == 0
    one, two = [record for record in done.records if record["log"] == "main"]
    assert one["path"] != two["path"]
    assert (one["digest"], one["contents"]) == (two["digest"], two["contents"])
    assert len(one["contents"]) == 64
    assert not list((tmp_path / "a").glob(".*"))
    assert "none" in shell.terminal("cluster", "verify", url).out


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        (
            "UPDATE slices SET body = (SELECT body FROM slices WHERE position = 17) WHERE position = 18",
            "position 18: isn't what the log says",
        ),
        ("DELETE FROM slices WHERE position = 18", "position 18: is missing"),
        ("DELETE FROM slices WHERE position = 40", "position 40: is missing"),
        ("DELETE FROM marks WHERE term = 1", "shop.db"),
        (
            "INSERT INTO checkpoints VALUES ('mine', 3, x'00')",
            "checkpoint 'mine': isn't what the log says",
        ),
        (
            "UPDATE checkpoints SET position = 30 WHERE name = '$replica'",
            "another message 30 than the log",
        ),
        ("UPDATE checkpoints SET position = 999 WHERE name = '$replica'", "message 999 of the log"),
    ],
    ids=["body", "slice", "last", "index", "checkpoint", "message", "after"],
)
def test_a_replica_that_is_not_what_the_log_says(
    shell: Shell, url: str, tmp_path: Path, statement: str, what: str
) -> None:
    edited(tmp_path / "a" / "shop.db", statement)
    done = shell("cluster", "verify", url)
    assert done.code == 1
    assert what in done.out
    assert not re.search(r"\t[0-9a-f]{64}\t", done.out.splitlines()[0])


def test_a_damaged_replica_is_found_and_made_anew(shell: Shell, url: str, tmp_path: Path) -> None:
    path = tmp_path / "a" / "shop.db"
    path.write_bytes(b"x" * 20_000)
    done = shell("cluster", "verify", url)
    assert done.code != 0
    seen: list[ReplicaProgress] = []
    made = rebuild_replica(url, progress=seen.append)
    assert (made.position, made.path) == (40, str(path))
    assert seen[-1].done == seen[-1].total == made.message
    aside, branches = made.put_aside
    assert Path(aside).read_bytes() == b"x" * 20_000
    assert re.fullmatch(r"shop\.db\.broken-\d{8}T\d{6}\.\d{6}Z", Path(aside).name)
    assert Path(branches).is_dir()
    assert shell("cluster", "verify", url).code == 0
    with open_store(url, events=[Paid]) as store:
        assert [info.name for info in store.branches()] == ["what-if"]
        with store.branch("what-if") as branch:
            assert branch.head().position == 41
        assert store.check() == []


def test_rebuild_by_the_command_line(shell: Shell, url: str, tmp_path: Path) -> None:
    before = verify_replicas(url)[0]
    (made,) = shell("cluster", "rebuild", url, "--json").records
    assert made["message"] == before.message
    assert verify_replicas(url)[0].contents == before.contents
    assert ".broken-" in shell.terminal("cluster", "rebuild", url).out


def test_an_open_replica_is_not_made_anew(url: str, tmp_path: Path) -> None:
    with open_store(url, events=[Paid]) as store:
        with pytest.raises(BusyError, match="close it there first"):
            rebuild_replica(url)
        fill(store, 1)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "shop.db", "shop.db-branches"
    ]  # fmt: skip


def test_a_replica_that_is_not_there_is_made(
    nats: NatsCluster, url: str, name: str, tmp_path: Path
) -> None:
    made = rebuild_replica(nats.url(name, tmp_path / "new" / "shop.db"))
    assert (made.position, made.put_aside) == (40, [])


# From a copy


def test_a_new_node_begins_with_a_copy(
    nats: NatsCluster, shell: Shell, url: str, name: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.db"
    assert shell("backup", url, copy).code == 0
    with open_store(url, events=[Paid]) as store:
        fill(store, 10)
    other = nats.url(name, tmp_path / "b" / "shop.db")
    seen: list[ReplicaProgress] = []
    made = bootstrap_replica(other, copy, progress=seen.append)
    assert made.position == 50
    assert made.message - made.copied == 11
    assert {one.stage for one in seen} == {"copying", "checking", "reading the log"}
    found = verify_replicas(url, [tmp_path / "b" / "shop.db"])
    assert not any(one.problems for one in found)
    assert len({one.contents for one in found if one.log == "main"}) == 1
    with open_store(other, events=[Paid]) as store:
        assert [info.name for info in store.branches()] == ["what-if"]
        fill(store, 1)


def test_bootstrap_by_the_command_line(
    nats: NatsCluster, shell: Shell, url: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "a" / "shop.db"
    copy = tmp_path / "copy.db"
    assert shell("backup", path, copy).code == 0
    other = nats.url(name, tmp_path / "b" / "shop.db")
    (made,) = shell("cluster", "bootstrap", other, "--from", copy, "--json").records
    assert made["position"] == 40
    again = shell("cluster", "bootstrap", other, "--from", copy)
    assert again.code == 73
    assert "already exists" in again.err


def test_a_copy_of_another_history_is_refused(nats: NatsCluster, url: str, tmp_path: Path) -> None:
    path, new = tmp_path / "a" / "shop.db", tmp_path / "new.db"
    foreign = nats.url(nats.new_name(), tmp_path / "c" / "shop.db")
    with open_store(foreign, events=[Paid]) as store:
        fill(store, 3)
    with pytest.raises(CorruptStoreError, match="of a stream that was made at"):
        bootstrap_replica(foreign.replace("/c/shop.db", "/new.db"), path)
    target = url.replace("/a/shop.db", "/new.db")
    for position, what in (
        (30, "is another one than the cluster's"),
        (999, "the cluster's hasn't"),
    ):
        shutil.copy(path, tmp_path / "edited.db")
        edited(
            tmp_path / "edited.db",
            f"UPDATE checkpoints SET position = {position} WHERE name = '$replica'",
        )
        with pytest.raises(CorruptStoreError, match=what):
            bootstrap_replica(target, tmp_path / "edited.db")
    with open_store(tmp_path / "own.db", events=[Paid]) as store:
        fill(store, 1)
    with pytest.raises(NotAStoreError, match="no replica of a log"):
        bootstrap_replica(target, tmp_path / "own.db")
    with pytest.raises(StorageError, match="no such file"):
        bootstrap_replica(target, tmp_path / "missing.db")
    with pytest.raises(BackupError, match=r"already exists; .everwhen cluster rebuild"):
        bootstrap_replica(url, path)
    assert not new.exists()


def test_a_new_log_is_made_from_a_replica_when_all_servers_are_lost(
    shell: Shell, tmp_path: Path
) -> None:
    """With their disks; as the guide says."""
    replicas = [tmp_path / name / "shop.db" for name in "ab"]
    with nats_cluster(3) as lost:
        with open_store(lost.url("shop", replicas[0]), events=[Paid]) as store:
            fill(store, 3)
        with open_store(lost.url("shop", replicas[1]), events=[Paid]) as store:
            fill(store, 37)
            with store.create_branch("what-if") as branch:
                branch.append("b", [Paid("x", 1)])
            before = list(store.read())
    come_to = [shell("info", replica, "--json").records[0]["position"] for replica in replicas]
    assert come_to == [3, 40]
    with nats_cluster(3) as new:
        url = new.url("shop2", tmp_path / "a" / "shop2.db")
        assert shell("copy", replicas[1], url).code == 0
        with open_store(url, events=[Paid]) as store:
            assert list(store.read()) == before
            assert [info.name for info in store.branches()] == ["what-if"]
            fill(store, 1)
        assert shell("cluster", "verify", url).code == 0
        done = shell("info", new.url("shop2", replicas[0]))
        assert done.code == 74
        assert "another history" in done.err


# The command line


@pytest.mark.parametrize(
    "command", ["status", "verify", "rebuild", "bootstrap --from x", "bootstrap", "offer", "sweep"]
)
@pytest.mark.parametrize(
    "url", ["shop.db", f"postgresql://me:{SECRET}@h/db", f"http://u:{SECRET}@h/"]
)
def test_another_url_is_refused_and_not_quoted(shell: Shell, command: str, url: str) -> None:
    name, *rest = command.split()
    done = shell("cluster", name, url, *rest)
    assert (done.code, done.out) == (2, "")
    assert "nats://host1" in done.err
    assert SECRET not in done.err


def test_no_command_shows_a_password(shell: Shell, tmp_path: Path) -> None:
    more = f'authorization {{ user: "shop", password: "{SECRET}" }}\n'
    with nats_cluster(1, more=more) as cluster:
        url = cluster.url("shop", tmp_path / "shop.db", login=f"shop:{SECRET}")
        with open_store(url, events=[Paid]) as store:
            fill(store, 2)
        shell("backup", url, "copy.db")
        for words in (
            ["info"], ["info", "--json"], ["check"], ["read"], ["tiers", "status"], ["sign"],
            ["audit", "list"], ["export"], ["projections"], ["cluster", "status"],
            ["cluster", "status", "--json"], ["cluster", "verify"], ["cluster", "rebuild"],
            ["cluster", "bootstrap", "--from", "copy.db"], ["cluster", "bootstrap"],
            ["cluster", "offer"], ["cluster", "rebuild", "--from-offered"], ["cluster", "sweep"],
            ["copy", "x.db"],
        ):  # fmt: skip
            first = 2 if words[0] in {"tiers", "audit", "cluster"} else 1
            for run in (shell, shell.terminal):
                done = run(*words[:first], url, *words[first:])
                assert SECRET not in done.out + done.err, done
        wrong = url.replace(SECRET, f"{SECRET}no")
        done = shell("info", wrong)
        assert done.code == 74
        assert "authorization violation" in done.err.lower()
        assert SECRET not in done.err
