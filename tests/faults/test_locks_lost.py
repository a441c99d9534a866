"""A store whose locks somebody in the process drops, or whose files go away while it is open."""

from __future__ import annotations

import copy
import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from tests.patience import PATIENCE_SECONDS

from everwhen import Event, EventTypes, StorageError, Store, open_store
from everwhen.backends import EmbeddedBackend
from everwhen.backends.sqlite import engine as engines
from everwhen.backends.sqlite import lock_guard as guarding
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.errors import LocksLostError, StoreMovedError
from everwhen.vocabulary import Checkpoint

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


def closed_as_the_last(path: Path) -> None:
    """Unless somebody is known to have it open, the log is deleted."""
    other = sqlite3.connect(path)
    other.execute("SELECT count(*) FROM slices").fetchall()
    other.close()


def by_a_copy(path: Path) -> None:
    shutil.copyfile(f"{path}-shm", f"{path}.copy")


def elsewhere(path: Path, program: str) -> None:
    head = (
        "import sys\nfrom everwhen import UnknownEvent, open_store\nstore = open_store(sys.argv[1])"
    )
    subprocess.run(
        [sys.executable, "-c", f"{head}\n{program}", str(path)],
        check=True,
        timeout=PATIENCE_SECONDS,
    )


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
        store.kernel.backend.transact(lambda t: t.save_checkpoint(Checkpoint("c", 1, b"")))
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


class Gap:
    """Something in this process that closes the file just before a store's opening is guarded."""

    def __init__(self, path: Path, patch: pytest.MonkeyPatch, *, times: int = 1) -> None:
        self.times = times
        self._path = path
        self._hold = guarding.Hold
        self.also: Callable[[], object] = lambda: None
        patch.setattr(engines, "Hold", self.hold)

    def hold(self, path: Path, *, keeps_locks: bool) -> guarding.Hold:
        if self.times:
            self.times -= 1
            closed_as_the_last(self._path)
            self.also()
        return self._hold(path, keeps_locks=keeps_locks)


def without_reserving(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(guarding.Reservation, "reserve", lambda *_: None)


@linux
@pytest.mark.parametrize("case", ["there", "there, held by another", "new"])
def test_what_closes_the_file_while_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    path = tmp_path / "gap.db"
    if case != "new":
        open_store(path).close()
    if case == "there, held by another":
        without_reserving(monkeypatch)
    gap = Gap(path, monkeypatch)
    store, engine = store_at(path)
    assert not gap.times
    assert engine._hold.guard is not None
    assert engine._hold.guard._marked
    store.append("a", [Noted("x")])
    elsewhere(path, "store.append('a', [UnknownEvent('Noted', {'text': 'y'})], expected=1)")
    assert store.append("a", [Noted("z")], expected=2).position == 3
    by_sqlite3(path)
    with pytest.raises(LocksLostError):
        store.append("a", [Noted("z")])
    store.close()
    with open_store(path, events=[Noted]) as again:
        assert [event.event.text for event in again.read()] == ["x", "y", "z"]
        assert again.check() == []


@linux
def test_a_store_that_cannot_be_guarded_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "never.db"
    open_store(path).close()
    with monkeypatch.context() as patch:
        without_reserving(patch)
        gap = Gap(path, patch, times=1_000_000)
        with pytest.raises(LocksLostError, match="nothing was written"):
            open_store(path, busy_timeout=0.05)
        assert gap.times < 1_000_000 - 1
    with open_store(path, events=[Noted]) as store:
        assert store.append("a", [Noted("x")]).position == 1


@linux
def test_a_writer_whose_index_was_deleted_before_it_was_guarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has made new files beside the store; SQLite here works with the old ones."""
    path = tmp_path / "old.db"
    open_store(path).close()
    program = (
        "import sqlite3, sys\nsys.stdin.readline()\nother = sqlite3.connect(sys.argv[1])\n"
        "other.execute('BEGIN IMMEDIATE')\nprint(flush=True)\nsys.stdin.read()"
    )
    without_reserving(monkeypatch)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:

        def open_there() -> None:
            assert other.stdin is not None
            assert other.stdout is not None
            other.stdin.write(b"\n")
            other.stdin.flush()
            other.stdout.readline()

        Gap(path, monkeypatch).also = open_there
        store, _ = store_at(path)
        with pytest.raises(LocksLostError, match="nothing was written"):
            store.append("a", [Noted("x")])
        store.close()
        other.communicate()
    with open_store(path, events=[Noted]) as again:
        assert again.head().position == 0
        assert again.check() == []


@linux
def test_who_loses_its_locks_in_a_commit_keeps_the_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "within.db"
    store, _ = store_at(path)
    store.append("a", [Noted("before")])
    check = guarding.Guard.check_before_commit

    def dropped_after(guard: guarding.Guard, place: str) -> None:
        check(guard, place)
        by_sqlite3(path)
        elsewhere(
            path,
            "store.close()\nfrom everwhen import BusyError\n"
            "store = open_store(sys.argv[1], busy_timeout=0.05)\n"
            "try:\n    store.append('b', [UnknownEvent('T', {})])\n"
            "except BusyError:\n    sys.exit(0)\nsys.exit('it has written')",
        )

    with monkeypatch.context() as patch:
        patch.setattr(guarding.Guard, "check_before_commit", dropped_after)
        with pytest.raises(LocksLostError) as unsure:
            store.append("a", [Noted("within")])
        assert unsure.value.committed
    elsewhere(path, "store.append('b', [UnknownEvent('T', {})], expected=0)")
    store.close()
    with open_store(path, events=[Noted]) as again:
        assert [event.stream for event in again.read()] == ["a", "a", "b"]
        assert again.check() == []


@linux
def test_what_has_dropped_locks_never_deletes_the_log(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    descriptors = len(list(Path("/dev/fd").iterdir()))
    for number in range(5):
        store, _ = store_at(path)
        store.append("a", [Noted("x")])
        by_sqlite3(path)
        with pytest.raises(LocksLostError):
            store.append("a", [Noted("y")])
        store.close()
        closed_as_the_last(path)
        assert path.with_name("kept.db-wal").stat().st_size
        elsewhere(path, f"store.append('b', [UnknownEvent('T', {{}})], expected={number})")
    assert len(list(Path("/dev/fd").iterdir())) <= descriptors + 3
    with open_store(path, events=[Noted]) as again:
        assert again.version("a") == 5
        assert again.version("b") == 5
        assert again.check() == []


def test_a_store_is_closed_while_another_is_opened(tmp_path: Path) -> None:
    """Of the one that closes as the last, nothing is left to the one that opens meanwhile."""
    path = tmp_path / "both.db"
    first, engine = store_at(path)
    first.append("a", [Noted("x")])
    release = engine._hold.release
    opened: list[Store] = []

    def late() -> None:
        opened.append(store_at(path)[0])
        release()

    engine._hold.release = late  # type: ignore[method-assign]
    first.close()
    (second,) = opened
    assert second.append("a", [Noted("y")], expected=1).position == 2
    elsewhere(path, "store.append('a', [UnknownEvent('T', {})], expected=2)")
    assert second.append("a", [Noted("z")], expected=3).position == 4
    second.close()
    assert not path.with_name("both.db-wal").exists()


def test_a_folder_that_cannot_be_asked_is_not_taken_for_a_moved_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "asked.db"
    store, _ = store_at(path)

    def failing(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EIO, "Input/output error", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", failing)
        with pytest.raises(StorageError, match="Input/output error") as failed:
            store.append("a", [Noted("x")])
    assert not isinstance(failed.value, StoreMovedError)
    assert store.append("a", [Noted("x")]).position == 1
    store.close()


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
                store.kernel.backend.transact(lambda t: t.save_checkpoint(Checkpoint("c", 1, b"")))
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
