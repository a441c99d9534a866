"""Compacting that is cut off, disturbed, or finds no room: all of history stays, and the file too."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from tests.faults.faults_disk import Faulty, Recording, losses, no_room
from tests.faults.faults_ledger import Entry
from tests.faults.faults_sealing import (
    SMALL,
    Answers,
    answers,
    answers_of,
    fill,
    in_child,
    seal_all,
)
from tests.patience import PATIENCE_SECONDS
from tests.small_disks import fill as fill_disk
from tests.small_disks import small_disk

from everwhen import Query, UnknownEvent, open_store
from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.sqlite import compaction, schema
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.errors import BusyError, LocksLostError, StorageFullError
from everwhen.testing import ManualClock
from everwhen.vocabulary.contract import Checkpoint, Compaction, Snapshot

UNMAPPED = "PRAGMA auto_vacuum = none"
"""What older versions had their files made with."""


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of a few pages, so that a small file takes many."""
    monkeypatch.setattr(compaction, "_FIRST_PAGES", 2)
    monkeypatch.setattr(compaction, "_MAX_PAGES", 4)
    monkeypatch.setattr(compaction, "_LOG_PAGES", 12)


@pytest.fixture(scope="module", params=["mapped", "unmapped"])
def loose(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store whose rows were sealed, so that most of its pages are free."""
    path = tmp_path_factory.mktemp("compaction") / "store.db"
    with pytest.MonkeyPatch.context() as patches:
        if request.param == "unmapped":
            patches.setattr(schema, "WITH_PAGE_MAP", UNMAPPED)
        engine = SqliteEngine(path, clock=ManualClock())
        with open_store(path, events=[Entry]) as store:
            fill(store, 120)
        seal_all(engine, SMALL)
        with engine.transaction() as transaction:
            transaction.save_checkpoint(Checkpoint("mine", 7, b"kept"))
            transaction.save_snapshot(Snapshot("subject", 7, "fold", 1, b"state"))
        engine.close()
    assert _pragma(path, "auto_vacuum") == (2 if request.param == "mapped" else 0)
    assert _pragma(path, "freelist_count") > 24
    return path


@pytest.fixture(scope="module")
def said(loose: Path) -> Answers:
    return answers_of(loose)


@pytest.fixture
def faulty() -> Iterator[Faulty]:
    disk = Faulty("everwhen-compaction-faulty")
    yield disk
    disk.unregister()


def _pragma(path: Path, name: str) -> int:
    connection = apsw.Connection(str(path))
    try:
        return int(connection.pragma(name))
    finally:
        connection.close()


def _compact(engine: SqliteEngine) -> Compaction:
    return EmbeddedBackend(engine).compact(None)


def _is_whole(path: Path, said: Answers) -> None:
    """It says what it said, before and after it is compacted to the end."""
    engine = SqliteEngine(path)
    try:
        for _ in range(2):
            assert answers(engine) == said, path.name
            assert engine.checkpoint("mine") == Checkpoint("mine", 7, b"kept")
            assert [one.state for one in engine.snapshots("subject", None, 9)] == [b"state"]
            assert list(engine.check()) == [], path.name
            report = _compact(engine)
        assert report.freed == 0
        assert path.stat().st_size == report.size_after
    finally:
        engine.close()
    assert (_pragma(path, "freelist_count"), _pragma(path, "auto_vacuum")) == (0, 2)
    assert path.stat().st_size == _pragma(path, "page_count") * _pragma(path, "page_size")


def test_the_file_gets_smaller_and_nothing_else_changes(
    loose: Path, said: Answers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(shutil.copy(loose, tmp_path / "store.db"))
    size, is_old = path.stat().st_size, not _pragma(path, "auto_vacuum")
    engine, elsewhere = SqliteEngine(path), SqliteEngine(path, read_only=True)
    assert answers(elsewhere) == said
    report = _compact(engine)
    assert report.size_before >= size
    assert report.size_after == path.stat().st_size < size / 2
    assert report.freed == report.size_before - report.size_after
    assert not Path(f"{path}-wal").stat().st_size
    assert answers(elsewhere) == said
    for one in (engine, elsewhere):
        one.close()
    assert ("written anew" in caplog.text) == is_old
    _is_whole(path, said)
    assert caplog.text.count("written anew") == is_old, "only once"


def test_purging_an_older_file_gives_it_a_map(loose: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(loose, tmp_path / "store.db"))
    engine = SqliteEngine(path)
    EmbeddedBackend(engine).purge()
    engine.close()
    assert (_pragma(path, "freelist_count"), _pragma(path, "auto_vacuum")) == (0, 2)


@pytest.mark.slow
def test_killed_before_each_write(
    loose: Path, said: Answers, tmp_path: Path, faulty: Faulty
) -> None:
    """In a child, which dies before one of its writes: to the file, its log, or a temporary one."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.test_compaction", str(loose), str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    files = sorted(tmp_path.glob("killed-*.db"))
    assert len(files) > 5
    for path in files:
        _is_whole(path, said)


def _killed(loose: Path, folder: Path) -> None:
    """Leave a file for some of the writes that a compaction can be killed before."""
    for name, value in (("_FIRST_PAGES", 2), ("_MAX_PAGES", 4), ("_LOG_PAGES", 12)):
        setattr(compaction, name, value)
    disk = Faulty("everwhen-killing")
    for number in itertools.count(0, 13):
        path = Path(shutil.copy(loose, folder / f"killed-{number:05}.db"))

        def work(path: Path = path, number: int = number) -> None:
            left = itertools.count(-number)

            def fault(what: str, file: str, size: int) -> None:
                del size
                if what in {"write", "truncate"} and "-shm" not in file and next(left) == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            engine = SqliteEngine(path, vfs=disk.name)
            disk.fault = fault
            _compact(engine)

        if in_child(work):
            path.unlink()
            break


@pytest.mark.slow
def test_power_loss(loose: Path, said: Answers, tmp_path: Path) -> None:
    disk = Recording("everwhen-compaction-recording")
    path = tmp_path / "store.db"
    try:
        engine = SqliteEngine(path, vfs=disk.name)
        engine._transactions.connection.wal_autocheckpoint(12)
        source = SqliteEngine(loose)
        with contextlib.closing(source._transactions.connection.cursor()):
            copying = engine._transactions.connection.backup(
                "main", source._transactions.connection, "main"
            )
            copying.step()
            copying.finish()
        source.close()
        before = len(disk.steps)
        disk.acknowledge("all")
        _compact(engine)
        engine.close()
    finally:
        disk.unregister()
    tried, each = 0, 17 if _pragma(loose, "auto_vacuum") else 3
    for loss in losses(disk.steps, random.Random(5), between=0.0):
        if loss.moment <= before or (loss.moment + len(loss.variant)) % each:
            continue
        loss.files.pop("temporary", None)
        loss.restore(tmp_path / "after")
        _is_whole(tmp_path / "after" / "store.db", said)
        shutil.rmtree(tmp_path / "after")
        tried += 1
    assert tried > 4


@pytest.mark.slow
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
def test_full_disk(
    loose: Path, said: Answers, tmp_path: Path, faulty: Faulty, *, lasting: bool
) -> None:
    """Any write may find no room: it ends there, and goes on once there is room."""
    failed = 0
    for number in itertools.count(0, 41):
        path = Path(shutil.copy(loose, tmp_path / f"store-{number}.db"))
        engine = SqliteEngine(path, vfs=faulty.name)
        faulty.fault = no_room(number, lasting=lasting)
        try:
            _compact(engine)
        except StorageFullError:
            failed += 1
        else:
            break
        finally:
            faulty.fault = None
        assert answers(engine) == said
        engine.close()
        _is_whole(path, said)
    engine.close()
    assert failed > 1


def test_too_little_room_is_told_before_it_begins(
    loose: Path, said: Answers, tmp_path: Path
) -> None:
    with small_disk(tmp_path, megabytes=8) as disk, pytest.MonkeyPatch.context() as patches:
        patches.setattr(compaction, "temporary_folder", lambda: disk)
        path = Path(shutil.copy(loose, disk / "store.db"))
        engine = SqliteEngine(path)
        content = path.read_bytes()
        fill_disk(disk / "filler", leaving=16_384)
        with pytest.raises(
            StorageFullError, match=r"this takes [\d,]+ bytes in .*more than"
        ) as why:
            _compact(engine)
        words = str(why.value).replace(",", "").split()
        takes, missing = (int(word) for word in words if word.isdigit())
        assert 0 < missing < takes <= missing + 16_384
        assert path.read_bytes() == content
        (disk / "filler").unlink()
        _compact(engine)
        assert path.stat().st_size < len(content) / 2
        engine.close()
        _is_whole(path, said)


def test_who_reads_an_old_state_is_named_and_stays_right(
    loose: Path, said: Answers, tmp_path: Path
) -> None:
    path = Path(shutil.copy(loose, tmp_path / "store.db"))
    engine, elsewhere = SqliteEngine(path, busy_timeout=0.2), SqliteEngine(path, read_only=True)
    with elsewhere.view() as view:
        with pytest.raises(BusyError, match="find out who has the store open"):
            _compact(engine)
        assert path.stat().st_size == loose.stat().st_size
        page = view.read(Query(), 10_000)
        assert list(page.slices) == said.slices
    assert answers(elsewhere) == said
    elsewhere.close()
    engine.close()
    _is_whole(path, said)


def test_others_write_between_two_steps(loose: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(loose, tmp_path / "store.db"))
    engine = SqliteEngine(path)
    work = engine.compaction()
    with open_store(path) as store:
        head = store.head().position
        for number, step in enumerate(work.steps(), 1):
            step()
            store.append("later", [UnknownEvent("Done", {"n": number})])
        assert store.head().position == head + number
        assert [event.data["n"] for event in store.read("later")] == [*range(1, number + 1)]
        assert store.check() == []
    engine.close()


def test_who_holds_the_write_lock_is_waited_for(loose: Path, said: Answers, tmp_path: Path) -> None:
    path = Path(shutil.copy(loose, tmp_path / "store.db"))
    engine, writer = SqliteEngine(path, busy_timeout=0.1), SqliteEngine(path)
    with writer.transaction(), pytest.raises(BusyError, match="held the write lock for too long"):
        _compact(engine)
    assert path.stat().st_size == loose.stat().st_size
    for one in (engine, writer):
        one.close()
    _is_whole(path, said)


@pytest.mark.skipif(sys.platform != "linux", reason="the guard's locks are Linux's")
def test_lost_locks_are_noticed(loose: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(loose, tmp_path / "store.db"))
    engine = SqliteEngine(path)
    for file in tmp_path.glob("store.db*"):
        file.read_bytes()  # which drops them
    with pytest.raises(LocksLostError):
        _compact(engine)
    with contextlib.suppress(LocksLostError):
        engine.close()


if __name__ == "__main__":
    _killed(Path(sys.argv[1]), Path(sys.argv[2]))
