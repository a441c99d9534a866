"""Backups that are killed, run out of room or may not write: nothing half under a store's name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from tests.faults.faults_disk import Faulty
from tests.faults.test_faults import _full_after, as_nobody

from everwhen import BusyError, EventTypes, StorageError, Store, UnknownEvent, open_store
from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.errors import ReadOnlyError, StorageFullError
from everwhen.store import restore_store

KILLED = """
import os, signal, sys
from everwhen import open_store
from everwhen.store import restore_store
from everwhen.backends.sqlite import backup
what, source, copy, moment, number = sys.argv[1:]
left = int(number)

def strike():
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

def hear(word):
    if word.stage == moment:
        strike()

for name in ("place", "remove"):
    def killed(*arguments, do=getattr(backup, name)):
        if moment == "placing":
            strike()
        do(*arguments)
    setattr(backup, name, killed)

if what == "backup":
    with open_store(source) as store:
        store.backup(copy, overwrite=True, log=True, progress=hear)
else:
    restore_store(source, copy, overwrite=True, progress=hear)
print("done")
"""


def killed(*arguments: object) -> bool:
    """Whether it was killed before it came to its end."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.fixture
def path(request: pytest.FixtureRequest) -> Path:
    """A store with two branches, each of some megabytes, so that copying takes its steps."""
    folder = "open_path" if "open_path" in request.fixturenames else "tmp_path"
    path: Path = request.getfixturevalue(folder) / "store.db"
    with open_store(path) as store:
        fill(store, "old", 30)
        for name in ("b", "c"):
            with store.create_branch(name) as branch:
                fill(branch, "old", 30)
    return path


def fill(store: Store, key: str, count: int) -> None:
    for number in range(count):
        store.append("a-1", [UnknownEvent("Noted", {"key": f"{key}.{number}", "x": "x" * 50_000})])


def heads(path: Path) -> dict[str, int]:
    """Where the store and its branches stand; all of it is sound."""
    with open_store(path, read_only=True) as store:
        assert store.check() == []
        found = {"main": store.head().position}
        assert found["main"] == sum(1 for _ in store.read())
        for info in store.branches():
            with store.branch(info.name) as branch:
                assert branch.check() == []
                found[info.name] = sum(1 for _ in branch.read())
        return found


def partial(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if "partial" in path.name]


@pytest.mark.parametrize("moment", ["copying", "checking", "placing"])
def test_killed_in_the_first_backup(moment: str, path: Path, tmp_path: Path) -> None:
    copy, whole = tmp_path / "copy.db", heads(path)
    number = 0
    while killed("backup", path, copy, moment, number):
        if copy.exists():
            assert heads(copy) == whole
        stores = {found.name for found in tmp_path.iterdir() if found.name[0] != "."}
        assert stores <= {"store.db", "store.db-branches", "copy.db", "copy.db-branches"} | {
            f"store.db{end}" for end in ("-wal", "-shm")
        }
        assert partial(tmp_path) == [".copy.db.everwhen-partial"], "what it was at"
        number += 1 if moment != "copying" else 4
    assert number >= 3
    assert heads(copy) == whole
    assert partial(tmp_path) == [], "the next one has cleared away what the killed ones left"


@pytest.mark.parametrize("what", ["backup", "restore"])
def test_killed_while_it_replaces_one(what: str, path: Path, tmp_path: Path) -> None:
    """At every moment there is a store, and no branch is behind what the store knows of it."""
    old, older = tmp_path / "old.db", heads(path)
    with open_store(path) as store:
        store.backup(old)
        fill(store, "new", 3)
        with store.branch("b") as branch:
            fill(branch, "new", 2)
        store.delete_branch("c")
        with store.create_branch("d") as branch:
            fill(branch, "new", 1)
    newer, kept = heads(path), tmp_path / "newer.db"
    restore_store(path, kept)
    source, target, after = (path, old, newer) if what == "backup" else (old, path, older)
    seen: list[dict[str, int]] = []
    number = 0
    while killed(what, source, target, "placing", number):
        found = heads(target)
        assert set(found) in ({"main", "b", "c"}, {"main", "b", "d"})
        assert found["main"] in (older["main"], newer["main"])
        assert found["b"] >= (older if found["main"] == older["main"] else newer)["b"]
        seen.append(found)
        number += 1
        if what == "restore":  # start from the newer store again
            restore_store(kept, path, overwrite=True)
    assert len(seen) >= 3
    assert heads(target) == after
    assert partial(tmp_path) == []


def test_a_second_one_to_the_same_place_waits_for_nobody(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with open_store(path) as store, open_store(path) as other:
        refused: list[BusyError] = []

        def meanwhile(_: object) -> None:
            if not refused:
                with pytest.raises(BusyError, match="another backup") as caught:
                    other.backup(copy)
                refused.append(caught.value)

        store.backup(copy, progress=meanwhile)
    assert refused
    assert heads(copy) == heads(path)


@pytest.fixture
def disk() -> Iterator[Faulty]:
    disk = Faulty("everwhen-faulty-backup")
    yield disk
    disk.unregister()


@pytest.mark.parametrize("budget", [0, 100_000, 1_700_000, 3_000_000])
def test_a_full_disk(budget: int, disk: Faulty, path: Path, tmp_path: Path) -> None:
    whole = heads(path)
    with open_store(path) as store:
        store.backup(tmp_path / "copy.db")
        store.append("more", [UnknownEvent("More", {})])
    good = (tmp_path / "copy.db").read_bytes()
    with Store(EmbeddedBackend(SqliteEngine(path, vfs=disk.name)), events=EventTypes()) as one:
        disk.fault = _full_after(budget)
        with pytest.raises(StorageFullError, match="copy"):
            one.backup(tmp_path / "copy.db", overwrite=True)
        disk.fault = None
        assert (tmp_path / "copy.db").read_bytes() == good
        assert partial(tmp_path) == []
        one.backup(tmp_path / "copy.db", overwrite=True)
    assert heads(tmp_path / "copy.db")["main"] == whole["main"] + 1


def test_every_error_of_the_disk(disk: Faulty, path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with Store(EmbeddedBackend(SqliteEngine(path, vfs=disk.name)), events=EventTypes()) as store:
        number = 0
        while True:
            left = number

            def fail(what: str, file: str, size: int) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise apsw.IOError("the disk failed")

            disk.fault = fail
            try:
                store.backup(copy)
            except StorageError:
                assert not copy.exists()
                assert partial(tmp_path) == []
                number += 1 + number // 3
                assert number < 100_000, "it fails without the disk's doing"
                continue
            finally:
                disk.fault = None
            break
        assert number > 20, "it failed often enough"
    assert heads(copy) == heads(path)


def test_a_folder_that_may_not_be_written(path: Path, open_path: Path) -> None:
    place = open_path / "kept"
    place.mkdir()
    open_path.chmod(0o755)
    path.chmod(0o644)
    with open_store(path) as store:
        store.backup(place / "there.db")

        def code() -> None:
            with open_store(path, read_only=True) as mine:
                for name in ("copy.db", "there.db"):
                    with pytest.raises(ReadOnlyError, match="permissions"):
                        mine.backup(place / name, overwrite=True)

        before = sorted(place.iterdir())
        as_nobody(code)
    assert sorted(place.iterdir()) == before


def test_sql_that_may_be_old_says_so(path: Path, open_path: Path) -> None:
    """Where a reader can take no locks, it sees no news, and says so instead."""
    path.chmod(0o644)
    counted = "SELECT count(*) FROM slices"
    here, there = os.pipe()
    again, changed = os.pipe()

    def code() -> None:
        with open_store(path, read_only=True) as store, store.sql_connection() as connection:
            assert connection.execute(counted).fetchall() == [(30,)]
            os.write(there, b"x")
            os.read(again, 1)
            with pytest.raises(BusyError, match="it has changed"):
                connection.execute(counted).fetchall()
            with store.sql_connection() as anew:
                assert anew.execute(counted).fetchall() == [(31,)]

    def write() -> None:
        os.read(here, 1)
        with open_store(path) as store:
            fill(store, "new", 1)
        os.write(changed, b"x")

    open_path.chmod(0o555)
    writing = threading.Thread(target=write)
    writing.start()
    try:
        as_nobody(code)
    finally:
        os.write(there, b"x")  # where the child failed before it asked
        writing.join()
        open_path.chmod(0o777)
