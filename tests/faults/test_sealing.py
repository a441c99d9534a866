"""Sealing that is cut off, disturbed, or damaged afterwards: all of history stays, and says so."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.faults.faults_disk import Faulty, Recording, losses, no_room
from tests.faults.faults_ledger import Entry, faults_in
from tests.faults.faults_sealing import (
    OTHER,
    QUERIES,
    SMALL,
    Answers,
    all_readings,
    answers,
    answers_of,
    fill,
    leftovers,
    matching,
    pages,
    ranged,
    run,
    seal_all,
)
from tests.patience import PATIENCE_SECONDS

from everwhen import EventTypes, EverwhenError, Query, Store, open_store
from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.chunks import chunk_of
from everwhen.backends.engine import Engine
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.backends.sqlite.segments import Segments
from everwhen.codec.frames import packed
from everwhen.errors import BusyError, CorruptStoreError, StorageFullError
from everwhen.system import compression
from everwhen.system.compression import Compressor
from everwhen.vocabulary.contract import Seal, SegmentSize

pytestmark = pytest.mark.usefixtures("small_steps")

ROUNDS = int(os.environ.get("EVERWHEN_SEALING_ROUNDS", "20"))
SEED = os.environ.get("EVERWHEN_SEED", "seed")


@pytest.fixture(scope="module")
def unsealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed store of a few hundred events, of which nothing is sealed."""
    path = tmp_path_factory.mktemp("sealing") / "store.db"
    with open_store(path, events=[Entry]) as store:
        fill(store, 90)
    return path


@pytest.fixture(scope="module")
def said(unsealed: Path) -> Answers:
    """What it says."""
    return answers_of(unsealed)


def _program(*words: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.faults_sealing", *map(str, words)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _is_whole(path: Path, said: Answers) -> None:
    """It says what it said, before and after the rest of it is sealed."""
    engine = SqliteEngine(path)
    try:
        assert answers(engine) == said, path.name
        assert list(engine.check()) == [], path.name
        seal_all(engine, OTHER)
        assert engine.segments()[-1].last == engine.head().position
        assert answers(engine) == said, path.name
        assert list(engine.check()) == [], path.name
    finally:
        engine.close()
    assert leftovers(path) == {}, path.name


# Cut off


def test_killed_after_each_step_and_within(unsealed: Path, said: Answers, tmp_path: Path) -> None:
    """The second segment of a file is cut off, where the first has its rows still."""
    engine = SqliteEngine(shutil.copy(unsealed, tmp_path / "whole.db"))
    for step in engine.moving(Seal(engine.head().position, SMALL)).steps():
        with engine.lock.mutex:
            step()
        if engine.segments():
            break
    engine.close()
    steps = int(_program("cut", tmp_path, SEED))
    files = sorted([*tmp_path.glob("step-*.db"), *tmp_path.glob("statement-*.db")])
    assert steps > 12
    assert len(files) > steps + 24
    for path in files:
        _is_whole(path, said)


def test_writer_mover_and_reader_with_kills(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with open_store(path, events=[Entry]) as store:
        fill(store, 10)
    found = json.loads(_program("hammer", path, ROUNDS, SEED))
    acknowledged = found["acknowledged"]
    assert len(acknowledged) > ROUNDS
    assert found["moved"] > 5 * ROUNDS
    with open_store(path, events=[Entry]) as store:
        assert faults_in(store, acknowledged, 0) == []
    _is_whole(path, answers_of(path))


# Two movers, and readers of another moment


class _Mover:
    """One engine that seals, a step at a time, until it is done or stopped."""

    def __init__(self, path: Path, *sizes: Any) -> None:
        self.engine = SqliteEngine(path)
        self._sizes = list(sizes)
        self._steps: Iterator[Callable[[], None]] = iter(())
        self.began = 0
        """How many seals it has begun."""
        self.is_active = False
        self.was_stopped = False

    def go_on(self) -> None:
        """Take one step more; once it is done, or was stopped, of another seal."""
        if not self.is_active:
            size = self._sizes[self.began % len(self._sizes)]
            self._steps = self.engine.moving(Seal(200, size)).steps()
            self.began += 1
            self.is_active = True
        try:
            self.is_active = run(self.engine, self._steps, 1) == 1
        except BusyError:
            self.is_active = False
            self.was_stopped = True


@pytest.mark.parametrize("ahead", [0, 6, 12, 15, 18])
def test_two_movers_in_every_order(
    unsealed: Path, said: Answers, tmp_path: Path, ahead: int
) -> None:
    """The first is so many steps ahead; then both take a few in each order, and go on to the end."""
    stopped = 0
    for order in itertools.product((0, 1), repeat=4):
        path = Path(shutil.copy(unsealed, tmp_path / f"store-{''.join(map(str, order))}.db"))
        movers = _Mover(path, SMALL), _Mover(path, OTHER)
        for _ in range(ahead):
            movers[0].go_on()
        for number in order:
            movers[number].go_on()
        for number in range(2):
            while movers[number].is_active:
                movers[number].go_on()
        stopped += movers[0].was_stopped + movers[1].was_stopped
        assert leftovers(path) == {}
        for mover in movers:
            assert answers(mover.engine) == said
            mover.engine.close()
        _is_whole(path, said)
    assert stopped


def test_the_mover_that_began_last_goes_on(unsealed: Path, tmp_path: Path) -> None:
    """Each step of one, in turn, is followed by the start of another; only the other gets on."""
    path = Path(shutil.copy(unsealed, tmp_path / "store.db"))
    first, second = SqliteEngine(path), SqliteEngine(path)
    steps = first.moving(Seal(200, SMALL)).steps()
    assert run(first, steps, 4) == 4
    other = second.moving(Seal(200, OTHER))
    work = other.steps()
    assert run(second, work, 1) == 1
    with pytest.raises(BusyError, match="another process moves history"):
        run(first, steps, 1)
    run(second, work)
    assert [segment.last for segment in first.segments()] == [other.segment.last]  # type: ignore[union-attr]
    first.close()
    second.close()


def test_a_reader_stays_at_its_moment(unsealed: Path, said: Answers, tmp_path: Path) -> None:
    """Views of every moment of two seals, all of them read once the rows are gone."""
    path = Path(shutil.copy(unsealed, tmp_path / "store.db"))
    engine, elsewhere = SqliteEngine(path), SqliteEngine(path, read_only=True)
    with contextlib.ExitStack() as stack:
        views = [stack.enter_context(view.view()) for view in (engine, elsewhere)]
        for size in (SMALL, OTHER):
            for step in engine.moving(Seal(engine.head().position, size)).steps():
                with engine.lock.mutex:
                    step()
                views += [stack.enter_context(view.view()) for view in (engine, elsewhere)]
        with open_store(path, events=[Entry]) as store:
            fill(store, 5, "later", 1_000)
        seal_all(engine, SMALL)
        assert leftovers(path) == {}
        borders = {view.execute("SELECT max(last) FROM segments")[0] for view in views}
        rows = {view.execute("SELECT count(*) FROM slices")[0] for view in views}
        assert len(borders) == 3
        assert len(rows) > 3
        for view in [*views, *reversed(views)]:
            assert pages(view.read, Query()) == said.slices
            assert pages(view.read, Query().backwards()) == said.backwards
            for query, due in zip(QUERIES, said.by_query, strict=True):
                assert matching(view.read, query) == due
            count = view.execute("SELECT count(*) FROM events")[0][0]
            assert count == said.slices[-1].position
    elsewhere.close()
    engine.close()


def test_a_chunk_that_is_cut_up_anew_at_the_same_size(unsealed: Path, tmp_path: Path) -> None:
    """What is restored or merged may be as large as what was there, with its frames elsewhere."""
    path = Path(shutil.copy(unsealed, tmp_path / "store.db"))
    engine, mover = SqliteEngine(path), apsw.Connection(str(path))
    (segment,) = seal_all(engine, SegmentSize(slices=48, frame=4, frames=48, least=30), 130)
    frames = Segments().frames(mover, 0, segment.last, reverse=False)
    rows = [row for frame in frames for row in frame.rows()]
    layouts: dict[int, bytes] = {}
    for first, second in itertools.combinations(range(1, len(rows)), 2):
        parts = rows[:first], rows[first:second], rows[second:]
        chunk = chunk_of([(part[-1][0], _compressed(part)) for part in parts])
        other = layouts.setdefault(len(chunk), chunk)
        if other is not chunk:
            break
    readings = [ranged(low, low + 3, reverse=False) for low in range(segment.last)]
    plain = SqliteEngine(unsealed, read_only=True)
    due = [(name, read(plain)) for name, read in readings]
    plain.close()
    for data, some in ((other, readings[:1]), (chunk, readings), (other, readings)):
        mover.execute("UPDATE chunks SET dictionary = 0, data = ?", (data,))
        assert [(name, read(engine)) for name, read in some] == due[: len(some)]
    mover.close()
    engine.close()


def _compressed(rows: list[Any]) -> bytes:
    return Compressor().compress(packed(rows, rows[0][0] - rows[0][3]))


# Power loss and full disks


@pytest.fixture
def recording() -> Iterator[Recording]:
    disk = Recording("everwhen-sealing-recording")
    yield disk
    disk.unregister()


@pytest.fixture
def faulty() -> Iterator[Faulty]:
    disk = Faulty("everwhen-sealing-faulty")
    yield disk
    disk.unregister()


def test_power_loss(tmp_path: Path, recording: Recording) -> None:
    path = tmp_path / "store.db"
    engine = SqliteEngine(path, vfs=recording.name)
    engine._transactions.connection.wal_autocheckpoint(12)
    with Store(EmbeddedBackend(engine), events=EventTypes(Entry)) as store:
        fill(store, 40)
        said = answers(engine)
        before = len(recording.steps)
        recording.acknowledge("all")
        seal_all(engine, SegmentSize(slices=60, frame=6, frames=3))
        dictionaries = "SELECT count(*) FROM dictionaries"
        assert engine._transactions.connection.execute(dictionaries).get == 1
    tried = 0
    for loss in losses(recording.steps, random.Random(5), between=0.0):
        if loss.moment <= before or (loss.moment + len(loss.variant)) % 3:
            continue
        loss.restore(tmp_path / "after")
        _is_whole(tmp_path / "after" / "store.db", said)
        shutil.rmtree(tmp_path / "after")
        tried += 1
    assert tried > 40


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
def test_full_disk(
    unsealed: Path, said: Answers, tmp_path: Path, faulty: Faulty, lasting: bool
) -> None:
    """Any write of a seal may find no room: it ends there, and goes on once there is room."""
    failed = 0
    for number in range(0, 10_000, 9):
        path = Path(shutil.copy(unsealed, tmp_path / f"store-{number}.db"))
        engine = SqliteEngine(path, vfs=faulty.name)
        faulty.fault = no_room(number, lasting=lasting)
        try:
            seal_all(engine, SMALL, 200)
        except StorageFullError:
            failed += 1
        else:
            break
        finally:
            faulty.fault = None
        assert answers(engine) == said
        assert list(engine.check()) == []
        if number % 4 == 0:
            seal_all(engine, OTHER, 200)
        engine.close()
        _is_whole(path, said)
    engine.close()
    assert failed > 8


# Damage


@pytest.fixture(scope="module")
def sealed(unsealed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store with its oldest events in two segments, and the newest in rows."""
    path = Path(shutil.copy(unsealed, tmp_path_factory.mktemp("sealed") / "store.db"))
    engine = SqliteEngine(path)
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(compression, "DICTIONARY_BYTES", 1_024)
        seal_all(engine, SegmentSize(slices=60, frame=4, frames=3), 220)
    assert len(engine.segments()) == 2
    engine.close()
    return path


@pytest.fixture(scope="module")
def readings(sealed: Path, said: Answers) -> dict[str, tuple[Callable[[Engine], Any], Any]]:
    """How the store is read, and what it answers while it is whole."""
    engine = SqliteEngine(sealed)
    try:
        assert answers(engine) == said
        return {name: (read, read(engine)) for name, read in all_readings(said)}
    finally:
        engine.close()


class _Damage:
    """What came of a change to a copy of the sealed store."""

    def __init__(self, path: Path, readings: dict[str, Any]) -> None:
        self.failed: list[str] = []
        self.differs: list[str] = []
        engine = SqliteEngine(path)
        self.problems = [f"{problem.where}: {problem.what}" for problem in engine.check()]
        for name, (read, due) in readings.items():
            try:
                if read(engine) != due:
                    self.differs.append(name)
            except CorruptStoreError:
                self.failed.append(name)
        with contextlib.suppress(EverwhenError):
            list(engine.find_hidden(0))
        with contextlib.suppress(EverwhenError):
            seal_all(engine, OTHER)
        with contextlib.suppress(EverwhenError):
            engine.close()


@pytest.fixture
def damaged(sealed: Path, readings: dict[str, Any], tmp_path: Path) -> Callable[..., _Damage]:
    numbers = itertools.count()

    def damaged(sql: str, bindings: tuple[Any, ...] = ()) -> _Damage:
        path = Path(shutil.copy(sealed, tmp_path / f"damaged-{next(numbers)}.db"))
        connection = apsw.Connection(str(path))
        connection.execute(sql, bindings)
        assert connection.changes() > 0
        connection.close()
        return _Damage(path, readings)

    return damaged


def _rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = apsw.Connection(str(path))
    found: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
    connection.close()
    return found


Damages = Callable[..., _Damage]


def _flipped(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def test_chunks_that_are_missing_or_changed(sealed: Path, damaged: Damages) -> None:
    """Whatever reads through them fails, and nothing gives a shorter answer."""
    chance = random.Random(7)
    for last, data in _rows(sealed, "SELECT last, data FROM chunks"):
        others = data[:-1], data[: chance.randrange(40)], data + b"x", b""
        found = [damaged("DELETE FROM chunks WHERE last = ?", (last,))]
        found += [
            damaged("UPDATE chunks SET data = ? WHERE last = ?", (wrong, last))
            for wrong in (_flipped(data, chance), chance.choice(others))
        ]
        for damage in found:
            assert damage.problems
            assert damage.failed
            assert damage.differs == []


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM dictionaries",
        "UPDATE dictionaries SET data = x''",
        "UPDATE dictionaries SET data = x'37a430ec0000'",
        "UPDATE dictionaries SET id = id + 1",
        "UPDATE chunks SET dictionary = dictionary + 1",
        "UPDATE chunks SET dictionary = 0",
        "UPDATE chunks SET last = last + 1 WHERE last = (SELECT min(last) FROM chunks)",
        "UPDATE chunks SET last = last - 1 WHERE last = (SELECT min(last) FROM chunks)",
        "UPDATE chunks SET first_time = first_time - 9000000 WHERE last = 220",
        "UPDATE chunks SET first_time = first_time + 9000000 WHERE last = 220",
    ],
)
def test_what_chunks_need(damaged: Damages, sql: str) -> None:
    damage = damaged(sql)
    assert damage.problems
    assert damage.failed
    assert damage.differs == []


def test_postings_that_are_missing_or_changed(sealed: Path, damaged: Damages) -> None:
    """The check names each. No read goes wrong but by the index: all events are there."""
    chance = random.Random(7)
    stored = _rows(sealed, "SELECT segment, term, places FROM postings")
    for segment, term, places in chance.sample(stored, 6):
        key = (segment, term)
        where = "WHERE segment = ? AND term = ?"
        others = b"", b"\x02", b"\x03\x01", b"\x02\x01\x00\x01\x00", places + b"\xff\xff"
        found = [
            damaged(f"DELETE FROM postings {where}", key),
            damaged(f"UPDATE postings SET version = version + 1 {where}", key),
            *(damaged(f"UPDATE postings SET places = ? {where}", (one, *key)) for one in others),
        ]
        for damage in found:
            assert any("its index doesn't lead to" in problem for problem in damage.problems)
            assert all(name.startswith("Query") for name in [*damage.failed, *damage.differs])


def test_an_index_that_leads_to_another_stream(sealed: Path, damaged: Damages) -> None:
    (stream,) = _rows(sealed, "SELECT id FROM streams WHERE name = 'shared-3'")[0]
    damage = damaged("UPDATE postings SET places = x'020000' WHERE term = ?", (-stream,))
    assert damage.problems
    assert repr(Query().stream("shared-3")) in damage.failed


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("UPDATE sealed_streams SET version = version + 1 WHERE stream = 3", "newest sealed slice"),
        ("UPDATE sealed_streams SET position = position - 1 WHERE stream = 3", "newest sealed"),
        ("UPDATE sealed_streams SET recorded_at = 5 WHERE stream = 3", "newest sealed slice"),
        ("DELETE FROM sealed_streams WHERE stream = 3", "newest sealed slice isn't known"),
        ("DELETE FROM sealed_commits WHERE position = 1", "its commit is not found by its id"),
        ("INSERT INTO sealed_commits VALUES (5, 6)", "commits that aren't sealed"),
        ("UPDATE segments SET first = first + 1", "and has Segment"),
        ("UPDATE segments SET slices = slices + 1", "and has Segment"),
        ("UPDATE segments SET first_time = 0", "and has Segment"),
        ("UPDATE segments SET last_time = 0", "and has Segment"),
        ("UPDATE segments SET bytes = bytes + 1", "and has Segment"),
        ("UPDATE segments SET sha256 = x'00'", "and has Segment"),
        ("UPDATE segments SET last = 138 WHERE last = 137", "and has Segment"),
        ("UPDATE segments SET last = 136 WHERE last = 137", "and has Segment"),
        ("DELETE FROM segments WHERE last = 137", "and has Segment"),
    ],
)
def test_what_stands_beside_chunks(damaged: Damages, sql: str, problem: str) -> None:
    damage = damaged(sql)
    assert any(problem in found for found in damage.problems), damage.problems[:3]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE segments SET last = last + 1 WHERE last = 220",
        "UPDATE segments SET last = last - 1 WHERE last = 220",
        "UPDATE segments SET last = 1000 WHERE last = 220",
        "DELETE FROM segments WHERE last = 220",
        "DELETE FROM segments",
    ],
)
def test_a_border_that_is_wrong_deletes_nothing(
    sealed: Path, damaged: Damages, tmp_path: Path, sql: str
) -> None:
    """The next seal would take rows for sealed ones, or chunks for left over ones."""
    counted = "SELECT (SELECT count(*) FROM chunks), (SELECT count(*) FROM slices)"
    damage = damaged(sql)
    assert damage.problems
    assert _rows(tmp_path / "damaged-0.db", counted) == _rows(sealed, counted)
    with pytest.raises(CorruptStoreError, match="sealed history doesn't end at position"):
        seal_all(SqliteEngine(tmp_path / "damaged-0.db"), OTHER)


def test_rows_before_the_border_mean_nothing_and_are_compared(
    unsealed: Path, sealed: Path, damaged: Damages
) -> None:
    """A row that should be deleted, and that has become nonsense: no read shows it."""
    columns = "position, stream, version, count, 5, x'00', 0, x'00', x'00'"
    for row in _rows(unsealed, f"SELECT {columns} FROM slices WHERE position <= 220")[::15]:
        damage = damaged("INSERT INTO slices VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        assert (damage.failed, damage.differs) == ([], [])
        (problem,) = damage.problems
        assert f"position {row[0]}" in problem
        assert "its row isn't what was sealed there" in problem
    for row in _rows(unsealed, "SELECT * FROM slices WHERE position <= 220")[::15]:
        damage = damaged("INSERT INTO slices VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        assert (damage.problems, damage.failed, damage.differs) == ([], [], [])


_numbers = st.integers(0, 60) | st.integers(0, (1 << 63) - 1)
_columns = st.lists(_numbers, min_size=1, max_size=4)
_frames = st.tuples(
    st.just(202) | _numbers,
    _numbers,
    _columns,
    _columns,
    st.none() | _columns,
    st.none() | _columns,
    _columns,
    st.binary(min_size=16, max_size=48),
    st.none() | _columns,
    st.none() | st.lists(st.none() | st.binary(max_size=3), max_size=3),
    _columns,
    st.binary(max_size=20) | st.just(b'["Entry",1,{}]'),
)


@st.composite
def _chunks(draw: st.DrawFn) -> bytes:
    """Bytes, or what may be a chunk up to position 220."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=60))
    data = msgspec.msgpack.encode(draw(_frames)) if draw(st.booleans()) else draw(st.binary())
    frame = compression.Compressor().compress(data)
    return chunk_of([(draw(st.just(220) | st.integers(0, 300)), frame)])


@settings(max_examples=50)
@given(_chunks())
def test_nonsense_in_a_chunk(
    sealed: Path, said: Answers, tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    _used_with(
        sealed,
        tmp_path_factory.mktemp("nonsense"),
        said,
        "UPDATE chunks SET data = ?, dictionary = 0 WHERE last = 220",
        data,
    )


@settings(max_examples=25)
@given(st.binary(max_size=20) | st.binary(max_size=20).map(lambda data: b"\x08" + data))
def test_nonsense_in_postings(
    sealed: Path, said: Answers, tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    sql = "UPDATE postings SET places = ? WHERE segment = 220"
    _used_with(sealed, tmp_path_factory.mktemp("nonsense"), said, sql, data)


def _used_with(sealed: Path, folder: Path, said: Answers, sql: str, data: bytes) -> None:
    """Only an EverwhenError may come out, and the check reports what it finds."""
    path = Path(shutil.copy(sealed, folder / "store.db"))
    connection = apsw.Connection(str(path))
    connection.execute(sql, (data,))
    connection.close()
    engine = SqliteEngine(path)
    assert list(engine.check())
    last = said.slices[-1]
    calls: list[Callable[[], Any]] = [
        *(lambda query=query: matching(engine.read, query) for query in QUERIES),
        lambda: pages(engine.read, Query()),
        lambda: pages(engine.read, Query().after(210).up_to(219)),
        lambda: pages(engine.read, Query().after(150).backwards()),
        lambda: engine.position_at(last.recorded_at),
        lambda: engine.position_at(said.slices[60].recorded_at),
        lambda: [engine.stored_commit(stored.commit_id) for stored in said.slices[::20]],
        lambda: list(engine.find_hidden(0)),
        lambda: seal_all(engine, OTHER),
    ]
    for call in calls:
        with contextlib.suppress(EverwhenError):
            call()
    engine.close()
    shutil.rmtree(folder)
