"""Files that are no store, or no longer one: a clear error or a found problem, never a surprise."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import apsw
import pytest
from tests.faults.faults_ledger import Entry, count_up, entries

from everwhen import EverwhenError, Query, StorageError, aio, open_store
from everwhen.backends.sqlite.schema import APPLICATION_ID
from everwhen.errors import CorruptStoreError, NewerStoreError, NotAStoreError
from everwhen.vocabulary import Problem

FLIPS = int(os.environ.get("EVERWHEN_FLIPS", "300"))


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of a few dozen pages, closed: all of it is in one file."""
    path = tmp_path_factory.mktemp("damage") / "store.db"
    with open_store(path, events=[Entry]) as store:
        for i in range(60):
            store.append(f"a-{i % 7}", entries(f"k{i}", 3, 500))
        count_up(store)
    assert [p.name for p in path.parent.iterdir()] == ["store.db"]
    return path


def _used(path: Path) -> list[Problem]:
    """Do everything one does with a store; what it raises must be an EverwhenError."""
    with open_store(path, events=[Entry]) as store:
        problems = store.check()
        for query in (
            Query(),
            Query().backwards(),
            Query().tags("commit:k3"),
            Query().stream("a-1"),
        ):
            try:
                for recorded in store.read(query):
                    assert recorded.event
                    assert recorded.metadata
                    assert recorded.recorded_at
            except EverwhenError:
                continue
        for call in (
            lambda: list(store.streams()),
            store.head,
            store.checkpoints,
            lambda: store.append("a-1", entries("new", 1)),
            lambda: store.append("new-1", entries("new", 1)),
            lambda: count_up(store),
        ):
            try:
                call()
            except EverwhenError:
                continue
        return problems


def test_flipped_bytes(healthy: Path, tmp_path: Path) -> None:
    chance = random.Random(int(os.environ.get("EVERWHEN_SEED", "3")))
    whole = healthy.read_bytes()
    noticed = 0
    for number in range(FLIPS):
        content = bytearray(whole)
        for _ in range(chance.choice((1, 1, 3, 30))):
            start = 0 if chance.random() < 0.2 else chance.randrange(len(content))
            content[min(start + chance.randrange(120), len(content) - 1)] ^= 1 << chance.randrange(
                8
            )
        path = tmp_path / f"flipped-{number}.db"
        path.write_bytes(content)
        try:
            noticed += bool(_used(path))
        except EverwhenError:
            noticed += 1
        _remove(path)
    assert noticed > FLIPS / 3


def _remove(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def test_truncated_at_many_lengths(healthy: Path, tmp_path: Path) -> None:
    whole = healthy.read_bytes()
    lengths = [1, 15, 16, 17, 50, 99, 100, 101, 511, 512, 4_095, 4_096, 4_097, len(whole) - 1]
    lengths += list(range(4_096, len(whole), 3 * 4_096))
    for length in lengths:
        path = tmp_path / f"cut-{length}.db"
        path.write_bytes(whole[:length])
        with pytest.raises((CorruptStoreError, NotAStoreError), match=path.name):
            open_store(path)
        with pytest.raises((CorruptStoreError, NotAStoreError)):
            open_store(path, read_only=True)
        assert path.read_bytes() == whole[:length], "looking changes nothing"


def test_damaged_log(healthy: Path, tmp_path: Path) -> None:
    """Damage to what was not yet taken over into the main file costs commits, never sanity."""
    source = tmp_path / "source.db"
    shutil.copy(healthy, source)
    chance = random.Random(4)
    with open_store(source, events=[Entry]) as store:
        for i in range(20):
            store.append("w-1", entries(f"w{i}", 2, 300))
        main, log = source.read_bytes(), Path(f"{source}-wal").read_bytes()
    for number in range(30):
        path = tmp_path / f"log-{number}.db"
        damaged = bytearray(log[: chance.randrange(len(log))] if number % 2 else log)
        if damaged:
            damaged[chance.randrange(len(damaged))] ^= 255
        path.write_bytes(main)
        Path(f"{path}-wal").write_bytes(damaged)
        assert _used(path) == []
        with open_store(path, events=[Entry]) as store:
            assert store.version("a-0") == 27
            indexes = [e.event.index for e in store.read("w-1")]
            assert indexes == [0, 1] * (len(indexes) // 2), "whole commits only"
        _remove(path)


def test_a_foreign_database(tmp_path: Path) -> None:
    path = tmp_path / "foreign.db"
    foreign = apsw.Connection(str(path))
    foreign.execute("CREATE TABLE people (name TEXT)")
    foreign.close()
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(NotAStoreError, match="another program's SQLite file"):
            open_store(path, read_only=read_only)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"hello\n", b"x" * 10_000, b"SQLite format 3", b"\0" * 5_000])
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    for read_only in (False, True):
        with pytest.raises((NotAStoreError, CorruptStoreError), match=r"notes\.txt"):
            open_store(path, read_only=read_only)
    assert path.read_bytes() == content


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    path.touch()
    with pytest.raises(NotAStoreError, match="empty"):
        open_store(path, read_only=True)
    with open_store(path, events=[Entry]) as store:
        assert store.append("a-1", entries("k", 1)).position == 1


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_schema(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "newer.db"
    open_store(path).close()
    newer = apsw.Connection(str(path))
    newer.pragma("user_version", 99)
    newer.close()
    with pytest.raises(NewerStoreError, match="upgrade Everwhen"):
        open_store(path, read_only=read_only)


def test_places_where_no_store_can_be(tmp_path: Path) -> None:
    for read_only in (False, True):
        with pytest.raises(StorageError, match="sub"):
            open_store(tmp_path / "no" / "sub" / "store.db", read_only=read_only)
        with pytest.raises(StorageError, match="it is a folder"):
            open_store(tmp_path, read_only=read_only)
    with pytest.raises(StorageError, match="no such file"):
        open_store(tmp_path / "store.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def cut(healthy: Path, tmp_path: Path) -> Path:
    path = tmp_path / "cut.db"
    path.write_bytes(healthy.read_bytes()[:5_000])
    return path


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    return path


async def test_the_same_errors_from_async(cut: Path, notes: Path, tmp_path: Path) -> None:
    with pytest.raises(CorruptStoreError):
        await aio.open_store(cut)
    with pytest.raises(NotAStoreError):
        async with aio.open_store(notes):
            pytest.fail("it can't open")
    with pytest.raises(StorageError):
        await aio.open_store(tmp_path)


def test_fresh_stores_carry_our_mark(healthy: Path) -> None:
    assert int.from_bytes(healthy.read_bytes()[68:72], "big") == APPLICATION_ID
