"""A store whose locks somebody in the process drops, or whose files go away while it is open."""

from __future__ import annotations

import copy
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from everwhen import (
    Checkpoint,
    EmbeddedBackend,
    Event,
    EventTypes,
    LocksLostError,
    StorageError,
    Store,
    StoreMovedError,
    open_store,
)
from everwhen.backends.sqlite import SqliteEngine

linux = pytest.mark.skipif(sys.platform != "linux", reason="no open file description locks")


class Noted(Event):
    text: str


def store_at(path: Path) -> tuple[Store, SqliteEngine]:
    engine = SqliteEngine(path)
    return Store(EmbeddedBackend(engine), events=EventTypes(Noted)), engine


def by_sqlite3(path: Path) -> None:
    other = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    other.execute("SELECT count(*) FROM slices").fetchall()
    other.close()


def by_a_copy(path: Path) -> None:
    shutil.copyfile(f"{path}-shm", f"{path}.copy")


def elsewhere(path: Path, program: str) -> None:
    head = (
        "import sys\nfrom everwhen import UnknownEvent, open_store\nstore = open_store(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", f"{head}\n{program}", str(path)], check=True, timeout=120)


@linux
@pytest.mark.parametrize("drop", [by_sqlite3, by_a_copy])
def test_a_writer_without_its_locks_refuses(tmp_path: Path, drop: Callable[[Path], None]) -> None:
    path = tmp_path / "locks.db"
    store, engine = store_at(path)
    store.append("a", [Noted("before")])
    drop(path)
    for _ in range(2):
        with pytest.raises(LocksLostError, match="nothing was written") as refused:
            store.append("a", [Noted("after")])
        assert not refused.value.committed
        assert refused.value.path == str(path)
    with pytest.raises(LocksLostError), store.transaction() as transaction:
        transaction.save_checkpoint(Checkpoint("c", 1, b""))
    with pytest.raises(LocksLostError):
        store._backend.transact(lambda t: t.save_checkpoint(Checkpoint("c", 1, b"")))
    assert engine._hold.guard is not None
    with pytest.raises(LocksLostError, match="open") as unsure:
        engine._hold.guard.check_after_commit(str(path))
    assert unsure.value.committed
    assert copy.copy(unsure.value).committed  # by what pickle does, too
    assert store.version("a") == 1
    store.close()
    with open_store(path, events=[Noted]) as again:
        assert again.append("a", [Noted("after")]).versions == {"a": 2}
        assert again.checkpoint("c") is None
        assert again.check() == []


@linux
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_nobody_takes_the_file_for_unused_once_its_locks_are_gone(
    tmp_path: Path, suffix: str
) -> None:
    """What another process does on opening and closing: cut off the index, delete the log."""
    path = tmp_path / "used.db"
    store, _ = store_at(path)
    store.append("a", [Noted("x" * 3_000)] * 20)
    shutil.copyfile(f"{path}{suffix}", tmp_path / "copy")
    elsewhere(path, "store.append('b', [UnknownEvent('T', {})])\nstore.close()")
    assert path.with_name("used.db-wal").stat().st_size
    assert store.version("b") == 1
    if suffix == "-shm":
        with pytest.raises(LocksLostError):
            store.append("a", [Noted("y")])
    else:
        store.append("a", [Noted("y")], expected=20)  # these locks were held once more
    store.close()
    with open_store(path, events=[Noted]) as again:
        assert again.check() == []


def test_two_stores_on_one_file_and_one_of_them_closed(tmp_path: Path) -> None:
    path = tmp_path / "two.db"
    first, _ = store_at(path)
    second, _ = store_at(path)
    with open_store(path, read_only=True) as third:
        first.append("a", [Noted("x")])
        assert third.version("a") == 1
    second.append("a", [Noted("y")])
    second.close()
    first.append("a", [Noted("z")])
    elsewhere(path, "store.append('a', [UnknownEvent('T', {})])\nstore.close()")
    assert first.append("a", [Noted("z")]).versions == {"a": 5}
    descriptors = len(list(Path("/dev/fd").iterdir()))
    first.close()
    assert len(list(Path("/dev/fd").iterdir())) < descriptors
    assert not path.with_name("two.db-wal").exists()


def moved(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))


def moved_with_its_log(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").rename(f"{path.with_suffix('.moved')}{suffix}")


def replaced(path: Path) -> None:
    other = path.with_suffix(".other")
    with open_store(other, events=[Noted]) as store:
        store.append("other", [Noted("x")] * 10)
    path.with_suffix(".moved").hardlink_to(path)
    other.replace(path)


@pytest.mark.parametrize("away", [moved, moved_with_its_log, replaced])
@pytest.mark.parametrize("notice", ["append", "transaction", "transact", "close"])
def test_a_file_that_was_moved_is_noticed_and_whole(
    tmp_path: Path, away: Callable[[Path], None], notice: str
) -> None:
    path = tmp_path / "moved.db"
    store, _ = store_at(path)
    store.append("a", [Noted("x")] * 3)
    away(path)
    for _ in range(2):
        if notice == "append":
            with pytest.raises(StoreMovedError, match="nothing was written"):
                store.append("a", [Noted("y")])
        elif notice == "transaction":
            with pytest.raises(StoreMovedError), store.transaction() as transaction:
                transaction.save_checkpoint(Checkpoint("c", 1, b""))
        elif notice == "transact":
            with pytest.raises(StoreMovedError):
                store._backend.transact(lambda t: t.save_checkpoint(Checkpoint("c", 1, b"")))
    store.close()
    with open_store(path.with_suffix(".moved"), events=[Noted]) as again:
        assert again.version("a") == 3
        assert again.checkpoint("c") is None
        assert again.check() == []
    if away is replaced:
        with open_store(path, events=[Noted]) as new:
            assert [info.name for info in new.streams()] == ["other"]
            assert new.check() == []


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_deleted_file_is_noticed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "deleted.db"
    store, _ = store_at(path)
    store.append("a", [Noted("x")])
    Path(f"{path}{suffix}").unlink()
    with pytest.raises(StoreMovedError, match="deleted"):
        store.append("a", [Noted("y")])
    store.close()
    if suffix:
        with open_store(path, events=[Noted]) as again:
            assert again.version("a") == 1
            assert again.check() == []


def test_a_branch_file_that_goes_away_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "root.db"
    store, _ = store_at(path)
    store.append("a", [Noted("x")])
    with store.create_branch("b") as branch:
        branch.append("a", [Noted("y")])
        (file,) = (tmp_path / "root.db-branches").glob("*.db")
        other = file.with_suffix(".other")
        shutil.copyfile(path, other)
        other.replace(file)
        with pytest.raises(StoreMovedError):
            branch.append("a", [Noted("z")])
    store.close()


def test_a_log_that_was_left_behind_is_not_deleted(tmp_path: Path) -> None:
    path = tmp_path / "gone.db"
    store, _ = store_at(path)
    store.append("a", [Noted("x")])
    path.rename(tmp_path / "elsewhere.db")
    with pytest.raises(StorageError, match=r"move the store back"):
        open_store(path)
    assert path.with_name("gone.db-wal").stat().st_size
    (tmp_path / "elsewhere.db").rename(path)
    assert store.append("a", [Noted("y")]).versions == {"a": 2}
    store.close()
