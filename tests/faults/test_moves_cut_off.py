"""Moves to an archive and back that are killed, that lose power or find no room, or meet another."""

from __future__ import annotations

import itertools
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
from tests.faults.faults_disk import Faulty, Recording, losses, no_room
from tests.faults.faults_moving import move_among_each_other, moved, prepared_for
from tests.faults.faults_sealing import (
    Answers,
    answers,
    leftovers,
    pages,
)
from tests.patience import PATIENCE_SECONDS
from tests.small_disks import fill as fill_disk
from tests.small_disks import small_disk

from everwhen import Query
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.errors import (
    RetiredError,
    StorageError,
    StorageFullError,
)
from everwhen.system.object_storage import object_url
from everwhen.vocabulary.contract import (
    Archive,
    Evict,
    Merge,
    Move,
    Restore,
    Retire,
    Sweep,
)

pytestmark = pytest.mark.usefixtures("small_steps")

MOVES = ("archive", "archive and read back", "evict", "restore", "merge", "sweep", "retire")


class Prepared:
    """A folder with a store, its archive, and a move that can be made."""

    def __init__(self, sealed: Path, folder: Path, name: str) -> None:
        self.path = Path(shutil.copy(sealed, folder / "whole.db"))
        self.archive = folder / "archive"
        self.url = object_url(self.archive)
        self.move = prepared_for(partial(SqliteEngine, self.path), self.url, name)
        self.archive.mkdir(exist_ok=True)
        self.objects = self.stored()

    def stored(self) -> dict[str, bytes]:
        """The objects as they are."""
        return {one.name: one.read_bytes() for one in self.archive.iterdir()}

    def restore(self, objects: dict[str, bytes]) -> None:
        """Put these objects in the place of others."""
        shutil.rmtree(self.archive, ignore_errors=True)
        self.archive.mkdir()
        for name, data in objects.items():
            (self.archive / name).write_bytes(data)


def _is_whole(path: Path, said: Answers, prepared: Prepared) -> None:
    """It says what it said; the move comes to its end; then nothing is left of what was cut off."""
    move = prepared.move
    engine = SqliteEngine(path)
    try:
        _says_the_same(engine, said, move)
        assert list(engine.check()) == []
        moved(engine, move)
        moved(engine, Sweep(1 << 60))
        _says_the_same(engine, said, move, is_done=True)
        assert list(engine.check()) == []
        used = {one.object.name for one in engine.segments() if one.object is not None}
        assert used == set(prepared.stored())
    finally:
        engine.close()
    assert leftovers(path) == {}


def _says_the_same(
    engine: SqliteEngine, said: Answers, move: Move, *, is_done: bool = False
) -> None:
    if not isinstance(move, Retire):
        assert pages(engine.read, Query()) == said.slices
        assert not is_done or answers(engine) == said
        return
    rest = [stored for stored in said.slices if stored.position > move.last]
    assert pages(engine.read, Query().after(move.last)) == rest
    assert engine.streams(None, "", 1_000) == said.streams
    try:
        found = pages(engine.read, Query())
    except RetiredError:
        connection = engine._transactions.connection
        if is_done:
            left = "SELECT count(*) FROM chunks WHERE last <= ?"
            assert connection.execute(left, (move.last,)).get == 0
    else:
        assert not is_done
        assert found == said.slices


@pytest.mark.parametrize("name", MOVES)
def test_killed_at_each_point(sealed: Path, said: Answers, tmp_path: Path, name: str) -> None:
    """After each step, before and after each request, and before some of the statements."""
    prepared = Prepared(sealed, tmp_path, name)
    (tmp_path / "move").write_bytes(msgspec.json.encode(prepared.move))
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.faults_moving", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    killed = sorted(tmp_path.glob("[0-9]*.db"))
    assert len(killed) > 8
    for path in killed:
        shutil.rmtree(prepared.archive, ignore_errors=True)
        path.with_suffix(".archive").rename(prepared.archive)
        _is_whole(path, said, prepared)


# Power loss and full disks


def test_power_loss(sealed: Path, said: Answers, tmp_path: Path) -> None:
    """At any moment of moves to the archive, within it and back, and of what deletes objects."""
    disk = Recording("everwhen-moves-recording")
    objects: dict[str, bytes] = {}
    there: list[tuple[int, set[str]]] = []
    prepared = Prepared(sealed, tmp_path, "archive")
    path = tmp_path / "store.db"

    def look() -> None:
        now = prepared.stored()
        objects.update(now)
        there.append((len(disk.steps), set(now)))

    try:
        engine = SqliteEngine(path, vfs=disk.name)
        engine._transactions.connection.wal_autocheckpoint(12)
        source = SqliteEngine(sealed)
        connections = (one._transactions.connection for one in (engine, source))
        with next(connections).backup("main", next(connections), "main") as copying:
            copying.step()
        source.close()
        lasts = [segment.last for segment in engine.segments()]
        look()
        before = len(disk.steps)
        disk.acknowledge("all")
        moves: tuple[Move, ...] = (
            *(Archive(last, prepared.url) for last in lasts),
            *(Evict(last) for last in lasts),
            Merge((lasts[0], lasts[1]), prepared.url),
            Restore(lasts[2]),
            Sweep(1 << 60),
        )
        for move in moves:
            for step in engine.moving(move).steps():
                with engine.lock.mutex:
                    step()
                look()
            look()
        engine.close()
        look()
    finally:
        disk.unregister()
    tried = 0
    for loss in losses(disk.steps, random.Random(5), between=0.0):
        if loss.moment <= before or (loss.moment + len(loss.variant)) % 5:
            continue
        names = next(found for moment, found in there if moment >= loss.moment)
        prepared.restore({name: objects[name] for name in names})
        loss.restore(tmp_path / "after")
        _is_whole(tmp_path / "after" / "store.db", said, prepared)
        shutil.rmtree(tmp_path / "after")
        tried += 1
    assert tried > 40


@pytest.fixture
def faulty() -> Iterator[Faulty]:
    disk = Faulty("everwhen-moves-faulty")
    yield disk
    disk.unregister()


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("name", MOVES)
def test_full_disk(
    sealed: Path, said: Answers, tmp_path: Path, faulty: Faulty, name: str, *, lasting: bool
) -> None:
    """Any write of a move may find no room: it ends there, and goes on once there is room."""
    prepared = Prepared(sealed, tmp_path, name)
    failed = 0
    for number in itertools.count(0, 3):
        prepared.restore(prepared.objects)
        path = Path(shutil.copy(prepared.path, tmp_path / f"store-{number}.db"))
        engine = SqliteEngine(path, vfs=faulty.name)
        faulty.fault = no_room(number, lasting=lasting)
        try:
            moved(engine, prepared.move)
        except StorageFullError:
            failed += 1
        else:
            break
        finally:
            faulty.fault = None
            engine.close()
        _is_whole(path, said, prepared)
    assert failed > 2


@pytest.mark.parametrize("name", ["archive", "merge"])
def test_full_disk_of_the_archive(sealed: Path, said: Answers, tmp_path: Path, name: str) -> None:
    """The move says which object found no room where; it is made once there is."""
    prepared = Prepared(sealed, tmp_path, name)
    with small_disk(tmp_path, megabytes=1) as disk:
        full = disk / "full"
        url = object_url(disk / "objects")
        move = msgspec.structs.replace(prepared.move, url=url)
        (disk / "objects").mkdir()
        fill_disk(full, leaving=0)
        engine = SqliteEngine(prepared.path)
        with pytest.raises(StorageError, match=r"can't write .*\.parquet: .*No space left"):
            moved(engine, move)
        assert answers(engine) == said
        assert list(engine.check()) == []
        assert not [*(disk / "objects").iterdir()]
        full.unlink()
        segment = moved(engine, move)
        assert segment is not None
        assert segment.object is not None
        assert segment.object.url == url
        moved(engine, Sweep(1 << 60))
        assert answers(engine) == said
        engine.close()


# Two movers


@pytest.mark.parametrize("seed", range(12))
def test_two_movers_among_each_others_moves(
    sealed: Path, said: Answers, tmp_path: Path, seed: int
) -> None:
    """All along, and after, everything is there once."""
    path = Path(shutil.copy(sealed, tmp_path / "store.db"))
    url = object_url(tmp_path / "archive")
    reader = SqliteEngine(path, read_only=True)
    move_among_each_other(partial(SqliteEngine, path), reader, url, said, seed)
    engine = SqliteEngine(path)
    moved(engine, Sweep(1 << 60))
    assert answers(engine) == said
    assert list(engine.check()) == []
    used = {one.object.name for one in engine.segments() if one.object is not None}
    assert used == {one.name for one in (tmp_path / "archive").iterdir()}
    engine.close()
    assert leftovers(path) == {}
