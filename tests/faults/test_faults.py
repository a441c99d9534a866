"""A disk that fills up or fails, a file that is locked or can't be written, a clock that jumps."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from tests.faults.faults_disk import Faulty
from tests.faults.faults_ledger import Entry, count_up, entries, faults_in

from everwhen import (
    BusyError,
    Commit,
    EventTypes,
    StorageError,
    Store,
    UnknownEvent,
    Write,
    aio,
    open_store,
)
from everwhen.backends._async.embedded import EmbeddedBackend as AsyncBackend
from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.errors import ReadOnlyError, StorageFullError
from everwhen.testing import ManualClock

TYPES = EventTypes(Entry)


@pytest.fixture
def disk() -> Iterator[Faulty]:
    disk = Faulty("everwhen-faulty")
    yield disk
    disk.unregister()


def _store_on(disk: Faulty, path: Path) -> Store:
    return Store(EmbeddedBackend(SqliteEngine(path, vfs=disk.name)), events=TYPES)


def _full_after(budget: int) -> Callable[[str, str, int], None]:
    """A disk with so many bytes left."""
    left = budget

    def fault(what: str, file: str, size: int) -> None:
        nonlocal left
        left -= size
        if left < 0 and what == "write":
            raise apsw.FullError("the disk is full")

    return fault


class _Failing:
    """A disk whose operation number ``at``, or every one from there on, fails."""

    def __init__(self, at: int, *, lasting: bool) -> None:
        self._at = at
        self._lasting = lasting
        self.done = 0

    def __call__(self, what: str, file: str, size: int) -> None:
        self.done += 1
        if self.done == self._at or (self._lasting and self.done > self._at):
            raise apsw.IOError("the disk failed")

    @property
    def has_failed(self) -> bool:
        return self.done >= self._at


# A full disk


def _fill(store: Store, acknowledged: list[str]) -> None:
    for i in range(100):
        store.append(f"a-{i}", entries(f"k{i}", 2, 700))
        acknowledged.append(f"k{i}")


def _fill_by_sql(store: Store) -> None:
    with store.transaction() as transaction:
        for i in range(100):
            transaction.execute(f"CREATE TABLE filler{i} AS SELECT zeroblob(9000)")


@pytest.mark.parametrize("budget", [0, 100, 4_096, 9_000, 50_000])
def test_full_disk(tmp_path: Path, disk: Faulty, budget: int) -> None:
    path = tmp_path / "store.db"
    with _store_on(disk, path) as store:
        keys = ["before"]
        store.append("a-1", entries("before", 3))
        disk.fault = _full_after(budget)
        with pytest.raises(StorageFullError, match="no space left"):
            _fill(store, keys)
        assert {e.event.commit for e in store.read()} >= set(keys), "reading goes on"
        with pytest.raises(StorageFullError):
            _fill_by_sql(store)
        disk.fault = None
        store.append("a-1", entries("after", 2))
        assert faults_in(store, [*keys, "after"], count_up(store)) == []
    with open_store(path, events=[Entry]) as store:
        assert faults_in(store, [*keys, "after"], 1) == []


async def test_full_disk_under_many_tasks(tmp_path: Path, disk: Faulty) -> None:
    import asyncio

    path = tmp_path / "store.db"
    engine = SqliteEngine(path, vfs=disk.name)
    async with aio.Store(AsyncBackend(engine), events=TYPES) as store:
        disk.fault = _full_after(60_000)
        outcomes = await asyncio.gather(
            *(store.append(f"a-{i}", entries(f"k{i}", 1, 3_000)) for i in range(40)),
            *(store.append(f"b-{i}", entries(f"m{i}", 1)) for i in range(40)),
            return_exceptions=True,
        )
        refused = [o for o in outcomes if isinstance(o, BaseException)]
        assert refused
        assert {type(o) for o in refused} == {StorageFullError}
        disk.fault = None
        await store.append("a-1", entries("after", 2))
    with open_store(path, events=[Entry]) as again:
        assert faults_in(again, ["after"], 0) == []


# A disk that fails

# Closing has no caller to tell of a log that couldn't be taken over: it stays, and nothing is lost.
failures_in_close = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def _small_workload(store: Store, acknowledged: list[str]) -> int:
    """A bit of everything; what was acknowledged goes into the list. Returns the count."""
    for i in range(2):
        store.append("a-1", entries(f"single{i}", 2))
        acknowledged.append(f"single{i}")
    counted = count_up(store)
    batch = [Commit([Write(f"b-{i}", entries(f"batch{i}", 3, 3_000))]) for i in range(3)]
    store.commit_batch(batch)
    acknowledged += [f"batch{i}" for i in range(3)]
    return counted


@failures_in_close
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
def test_io_error_at_every_operation(tmp_path: Path, disk: Faulty, lasting: bool) -> None:
    failures: list[str] = []
    for at in range(1, 200):
        path = tmp_path / f"store-{at}.db"
        acknowledged: list[str] = []
        counted = 0
        disk.fault = failing = _Failing(at, lasting=lasting)
        try:
            with _store_on(disk, path) as store:
                try:
                    counted = _small_workload(store, acknowledged)
                finally:
                    disk.fault = None
                    store.append("a-1", entries("after", 1))
                    acknowledged.append("after")
                    assert faults_in(store, acknowledged, counted) == []
                    disk.fault = failing
        except StorageError as error:
            failures.append(str(error))
        finally:
            disk.fault = None
        with open_store(path, events=[Entry]) as store:
            assert faults_in(store, acknowledged, counted) == [], f"failed at operation {at}"
        if not failing.has_failed:
            break
    else:
        pytest.fail("the workload never came to its end")
    assert len(failures) > 10
    assert all(str(tmp_path / "store-") in failure for failure in failures)


@failures_in_close
async def test_io_error_at_every_operation_async(tmp_path: Path, disk: Faulty) -> None:
    failures: list[str] = []
    for at in range(1, 40, 2):
        path = tmp_path / f"store-{at}.db"
        acknowledged: list[str] = []
        async with aio.Store(
            AsyncBackend(SqliteEngine(path, vfs=disk.name)), events=TYPES
        ) as store:
            disk.fault = _Failing(at, lasting=False)
            for i in range(4):
                try:
                    await store.append("a-1", entries(f"k{i}", 2))
                    acknowledged.append(f"k{i}")
                except StorageError as error:
                    failures.append(str(error))
        disk.fault = None
        assert all(str(tmp_path) in failure for failure in failures)
        assert len(acknowledged) >= 3, "one failure costs one append"
        with open_store(path, events=[Entry]) as again:
            assert faults_in(again, acknowledged, 0) == []


def test_repeating_a_commit_after_a_failed_sync_is_safe(tmp_path: Path, disk: Faulty) -> None:
    """After a StorageError the outcome is open; the commit id settles it."""
    from uuid import uuid4

    with _store_on(disk, tmp_path / "store.db") as store:
        store.append("a-1", entries("first", 1))
        for at in range(1, 8):
            commit = Commit([Write("a-1", entries(f"k{at}", 2))], id=uuid4())
            disk.fault = _Failing(at, lasting=True)
            try:
                store.commit(commit)
            except StorageError:
                disk.fault = None
                store.commit(commit)
            disk.fault = None
            assert store.commit(commit).repeated
        assert store.version("a-1") == 15
        assert store.check() == []


# A file or folder that can't be written


NOBODY = 65_534


def as_nobody(code: Callable[[], None]) -> None:
    """Run it in a child without privileges, where this process has some."""
    if os.geteuid():
        code()
        return
    pid = os.fork()
    if not pid:
        status = 1
        try:
            _without_privileges()
            code()
            status = 0
        except BaseException as error:  # noqa: BLE001  shown, and told by the status
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def _without_privileges() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def test_read_only_file(open_path: Path) -> None:
    path = open_path / "store.db"
    with open_store(path, events=[Entry]) as store:
        store.append("a-1", entries("k", 1))
    path.chmod(0o444)

    def code() -> None:
        with pytest.raises(ReadOnlyError, match="permissions"):
            open_store(path)
        with open_store(path, read_only=True, events=[Entry]) as store:
            assert store.head().position == 1
            with pytest.raises(ReadOnlyError, match="read_only"):
                store.append("a-1", entries("k", 1))

    as_nobody(code)
    path.chmod(0o644)


def test_read_only_folder(open_path: Path) -> None:
    path = open_path / "store.db"
    with open_store(path, events=[Entry]) as store:
        store.append("a-1", entries("k", 1))
    path.chmod(0o666)
    open_path.chmod(0o555)

    def code() -> None:
        with pytest.raises(StorageError, match=r"permissions|folder"):
            open_store(path)
        with pytest.raises(StorageError, match="folder"):
            open_store(open_path / "new.db")
        with open_store(path, read_only=True, events=[Entry]) as store:
            assert [e.event.commit for e in store.read()] == ["k"]
            assert store.check() == []

    as_nobody(code)


class _Reader:
    """A child without privileges that reads a store again whenever it is asked to.

    Where ``run`` returns something, that is what went wrong.
    """

    def __init__(self, code: Callable[[Callable[[], None]], None]) -> None:
        self._asked, self._asks = os.pipe()
        self._told, self._tells = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(self._asks)
            os.close(self._told)
            try:
                _without_privileges()
                code(self._turn)
                os.write(self._tells, b".")
            except BaseException as error:  # noqa: BLE001  shown, and told by the end of the pipe
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
            finally:
                os._exit(0)
        os.close(self._asked)
        os.close(self._tells)
        self.wait()

    def _turn(self) -> None:
        """Tell the parent that all is well so far, and wait until it has done its part."""
        os.write(self._tells, b".")
        assert os.read(self._asked, 1) == b"."

    def wait(self) -> None:
        assert os.read(self._told, 1) == b".", "the reader failed"

    def goes_on(self) -> None:
        os.write(self._asks, b".")
        self.wait()

    def end(self) -> None:
        os.waitpid(self._pid, 0)
        os.close(self._asks)
        os.close(self._told)


needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="a writer and a reader with fewer rights need root to be made"
)


@needs_root
@pytest.mark.parametrize("flavour", ["sync", "async"])
def test_a_reader_who_cant_write_to_the_folder_sees_what_is_new(
    open_path: Path, flavour: str
) -> None:
    path = open_path / "store.db"
    with open_store(path, events=[Entry]) as store:
        store.append("a-1", entries("first", 200))
    open_path.chmod(0o755)

    def code(turn: Callable[[], None]) -> None:
        with open_store(path, read_only=True, events=[Entry]) as store:
            following = store.subscribe()
            assert len(list(itertools.islice(following, 200))) == store.head().position == 200
            for count in (201, 3_201, 3_202, 3_202):
                turn()
                assert store.head().position == count
                assert [e.position for e in store.read()] == [*range(1, count + 1)]
                assert store.check() == []
            assert len(list(itertools.islice(following, 3_002))) == 3_002

    async def by_tasks(turn: Callable[[], None]) -> None:
        async with aio.open_store(path, read_only=True, events=[Entry]) as store:
            for count in (200, 201, 3_201, 3_202, 3_202):
                assert (await store.head()).position == count
                assert len([event async for event in store.read()]) == count
                turn()

    reader = _Reader(code if flavour == "sync" else lambda turn: asyncio.run(by_tasks(turn)))
    with open_store(path, events=[Entry]) as store:
        store.append("a-1", entries("second", 1))
        reader.goes_on()
    with open_store(path, events=[Entry]) as store:
        for number in range(3):
            store.append(f"b-{number}", entries(f"b-{number}", 1_000, 500))
    reader.goes_on()
    with open_store(path, events=[Entry]) as store:
        store.append("a-1", entries("last", 1))
        reader.goes_on()
    reader.goes_on()
    if flavour == "async":
        reader.goes_on()
    reader.end()


class _MeetsAWriter(apsw.Connection):
    """A reader's connection that SQLite makes nothing of, since a writer just opens or closes."""

    def execute(self, *given: Any, **named: Any) -> Any:
        raise apsw.ReadOnlyError("attempt to write a readonly database")

    def pragma(self, *given: Any, **named: Any) -> Any:
        return self.execute()


@pytest.mark.parametrize(
    "look",
    [
        lambda store: store.head().position == 1,
        lambda store: store.check() == [],
        lambda store: store.kernel.backend.find_hidden(0) == [],
        lambda store: store.kernel.backend.check_schema() is None,
        lambda store: store.kernel.backend.view(lambda view: view.checkpoint("none")) is None,
        lambda store: store.kernel.backend.view(lambda view: [*view.rows("SELECT 1")]) == [(1,)],
    ],
    ids=["head", "check", "hidden", "schema", "view", "rows"],
)
def test_a_reader_that_meets_a_writer_looks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[[Store], bool]
) -> None:
    with open_store(tmp_path / "store.db", events=[Entry]) as store:
        store.append("a-1", entries("k", 1))
        engine = store.kernel.backend._engine  # type: ignore[attr-defined]
        while engine._reader.idle:
            engine._reader.idle.pop().close()
        connect, meetings = engine._reader._connect, [1, 2]

        def meeting() -> apsw.Connection:
            if not meetings:
                return connect()  # type: ignore[no-any-return]
            meetings.pop()
            return _MeetsAWriter(str(tmp_path / "store.db"), apsw.SQLITE_OPEN_READONLY)

        monkeypatch.setattr(engine._reader, "_connect", meeting)
        assert look(store)
        assert not meetings


@needs_root
def test_a_healthy_file_is_never_found_damaged_by_a_reader(open_path: Path) -> None:
    """The writer opens, fills, checkpoints and closes again and again, beside the reader."""
    path = open_path / "store.db"
    with open_store(path, events=[Entry]) as store:
        store.append("a-1", entries("k", 100, 1_000))
    open_path.chmod(0o755)

    def code(turn: Callable[[], None]) -> None:
        with open_store(path, read_only=True, events=[Entry]) as store:
            position = store.head().position
            turn()
            while position < 4_100:
                head = store.head().position
                assert head >= position
                position = head
                found = [e.position for e in store.read()]
                assert found == [*range(1, len(found) + 1)]
                assert len(found) >= position
                assert store.check() == []

    reader = _Reader(code)
    os.write(reader._asks, b".")
    for number in range(40):
        with open_store(path, events=[Entry]) as store:
            store.append(f"s-{number}", entries("k", 100, 1_000))
    reader.wait()
    reader.end()


@needs_root
def test_what_a_reader_left_beside_the_file_does_no_harm(open_path: Path) -> None:
    path = open_path / "store.db"
    store = open_store(path, events=[Entry])
    store.append("a-1", entries("first", 1))
    open_path.chmod(0o755)

    def code(turn: Callable[[], None]) -> None:
        with open_store(path, read_only=True, events=[Entry]) as reading:
            turn()
            assert reading.head().position == 1
        with open_store(path, read_only=True, events=[Entry]) as reading:
            assert reading.head().position == 1

    reader = _Reader(code)
    store.close()  # the reader is still there, so the log stays
    reader.goes_on()
    reader.end()
    with open_store(path, events=[Entry]) as store:
        store.append("a-1", entries("second", 1))
        assert store.check() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    done = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mounted], check=False
    )
    if not done or done.returncode:
        pytest.skip("mounting a small file system needs Linux, and root")
    yield mounted
    subprocess.run(["umount", mounted], check=True)


def test_a_closed_store_on_a_full_disk_is_read(small_disk: Path) -> None:
    path = small_disk / "store.db"
    with open_store(path, events=[Entry]) as store:
        store.append("a-1", entries("first", 100))
    filler = os.open(small_disk / "filler", os.O_CREAT | os.O_WRONLY)
    with contextlib.suppress(OSError):
        while os.write(filler, bytes(512)):
            pass
    os.close(filler)
    for _ in range(2):  # what the first time leaves is in nobody's way
        with open_store(path, read_only=True, events=[Entry]) as store:
            assert len(list(store.read())) == store.head().position == 100
            assert store.check() == []
    for command in ("info", "check", "read"):
        done = subprocess.run(
            [sys.executable, "-c", "import everwhen.cli; everwhen.cli.main()", command, path],
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    with pytest.raises(StorageError, match=r"space|I/O"):
        open_store(path).append("a-1", [UnknownEvent("T", {})])
    (small_disk / "filler").unlink()
    with open_store(path, events=[Entry]) as store:
        store.append("a-1", entries("second", 1))
        assert store.check() == []


def test_unreadable_file(open_path: Path) -> None:
    path = open_path / "store.db"
    open_store(path).close()
    path.chmod(0)

    def code() -> None:
        for read_only in (False, True):
            with pytest.raises(StorageError):
                open_store(path, read_only=read_only)

    as_nobody(code)


# A locked file


def _locked(path: Path) -> apsw.Connection:
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    return other


def test_locked_file(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with open_store(path, events=[Entry], busy_timeout=0.1) as store:
        store.append("a-1", entries("k", 1))
        other = _locked(path)
        with pytest.raises(BusyError, match="busy_timeout"):
            store.append("a-1", entries("lost", 1))
        with pytest.raises(BusyError), store.transaction():
            pytest.fail("it can't begin")
        assert store.version("a-1") == 1, "reading goes on"
        other.execute("COMMIT")
        other.close()
        store.append("a-1", entries("after", 1))
        assert faults_in(store, ["k", "after"], count_up(store)) == []


async def test_locked_file_async(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with aio.open_store(path, events=[Entry], busy_timeout=0.1) as store:
        other = _locked(path)
        with pytest.raises(BusyError):
            await store.append("a-1", entries("lost", 1))
        other.execute("COMMIT")
        other.close()
        assert (await store.append("a-1", entries("k", 1))).position == 1


def test_waits_for_a_lock_that_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with open_store(path, events=[Entry], busy_timeout=20) as store:
        other = _locked(path)
        timer = threading.Timer(0.2, lambda: other.execute("COMMIT"))
        timer.start()
        assert store.append("a-1", entries("k", 1)).position == 1
        timer.join()
        other.close()


def test_a_second_store_in_the_process_leaves_the_locks_alone(tmp_path: Path) -> None:
    """Closing any file descriptor of a file drops all of a process's POSIX locks on it."""
    import subprocess

    path = tmp_path / "store.db"
    shared_bytes = (0x40000002, 510)
    program = (
        "import fcntl, sys; file = open(sys.argv[1], 'r+b');"
        f"fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, {shared_bytes[1]}, {shared_bytes[0]})"
    )
    with open_store(path, events=[Entry]) as store:
        store.append("a-1", entries("k", 1))
        open_store(path).close()
        done = subprocess.run(
            [sys.executable, "-c", program, path], check=False, capture_output=True, text=True
        )
        assert "BlockingIOError" in done.stderr, "SQLite still holds its shared lock"


# A clock that jumps


def test_clock_that_jumps_back(tmp_path: Path) -> None:
    clock = ManualClock()
    path = tmp_path / "store.db"
    with open_store(path, events=[Entry], clock=clock) as store:
        first = store.append("a-1", entries("k0", 1)).recorded_at
        clock.advance(-86_400)
        assert store.append("a-1", entries("k1", 1)).recorded_at == first
    clock.advance(-86_400)
    with open_store(path, events=[Entry], clock=clock) as store:
        assert store.append("a-1", entries("k2", 1)).recorded_at == first
        clock.advance(3 * 86_400)
        later = store.append("a-1", entries("k3", 1)).recorded_at
        assert later > first
        assert store.position_at(first) == 3
        assert store.position_at(clock.advance(-86_400)) == 3
        assert faults_in(store, ["k0", "k1", "k2", "k3"], count_up(store)) == []
