"""Moves of history on PostgreSQL that are cut off, meet another, or are damaged afterwards."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.faults.faults_ledger import Entry
from tests.faults.faults_moving import move_among_each_other, moved, prepared_for
from tests.faults.faults_sealing import Answers, answers, fill, pages, run, seal_all
from tests.postgres_server import PostgresServer

from everwhen import Query, open_store
from everwhen.backends import segment_packing
from everwhen.backends.engine import Engine
from everwhen.backends.postgres import segment_tables
from everwhen.backends.postgres.engine import PostgresEngine
from everwhen.backends.postgres.segment_tables import PostgresTables
from everwhen.backends.postgres.statements import PostgresSession, statements
from everwhen.errors import BusyError, CorruptStoreError, ReadOnlyError, RetiredError, StorageError
from everwhen.system import compression
from everwhen.system.object_storage import ObjectStorage, object_url
from everwhen.vocabulary.contract import Evict, Move, Retire, Seal, SegmentSize, Sweep

SIZE = SegmentSize(slices=10, frame=2, frames=2)
MOVES = ("archive and read back", "evict", "restore", "merge", "sweep", "retire")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A move is many steps, and has a dictionary, however little there is."""
    monkeypatch.setattr(segment_packing, "STEP_BYTES", 500)
    monkeypatch.setattr(segment_tables, "STEP_ROWS", 6)
    monkeypatch.setattr(segment_tables, "GROUP_EVENTS", 20)
    monkeypatch.setattr(compression, "DICTIONARY_BYTES", 1_024)


class Databases:
    """Databases of one server: any can be copied as long as nobody has it open."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._names: list[str] = []

    def made(self, template: str = "template0") -> str:
        """The name of a new one, a copy of another."""
        name = f"d{secrets.token_hex(6)}"
        self.run("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        self._names.append(name)
        return name

    def run(self, database: str, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements past us; the rows of the last one."""
        with psycopg.connect(self._server.url(database), autocommit=True) as session:
            for statement in statements:
                cursor = session.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def url(self, database: str) -> str:
        """Where the log of a database is."""
        return self._server.url(database, schema="log")

    def engine(self, database: str, *, read_only: bool = False) -> PostgresEngine:
        """Its log."""
        return PostgresEngine(self.url(database), read_only=read_only)

    def drop(self) -> None:
        for name in self._names:
            self.run("postgres", f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def databases(postgres: PostgresServer) -> Iterator[Databases]:
    made = Databases(postgres)
    yield made
    made.drop()


@pytest.fixture(scope="module")
def unsealed(databases: Databases) -> str:
    """A log of a few hundred events, of which nothing is sealed."""
    name = databases.made()
    with open_store(databases.url(name), events=[Entry]) as store:
        fill(store, 24)
    return name


@pytest.fixture(scope="module")
def said(databases: Databases, unsealed: str) -> Answers:
    """What it says."""
    with closing(databases.engine(unsealed)) as engine:
        return answers(engine)


@pytest.fixture(scope="module")
def sealed(databases: Databases, unsealed: str, said: Answers) -> str:
    """The same with three segments, and the newest events in rows."""
    name = databases.made(unsealed)
    with closing(databases.engine(name)) as engine:
        seal_all(engine, SIZE, said.slices[-1].position - 5)
        assert len(engine.segments()) > 3
    return name


def leftovers(databases: Databases, name: str) -> list[tuple[Any, ...]]:
    """How many rows there are that a move should have deleted, or emptied."""
    return databases.run(
        name,
        """
        WITH ends (sealed, retired) AS (
            SELECT coalesce((SELECT max(last) FROM log.segments), 0),
                coalesce((SELECT max(last) FROM log.retired), 0)
        )
        SELECT
            (SELECT count(*) FROM log.chunks WHERE last > sealed OR last <= retired),
            (SELECT count(*) FROM log.archived WHERE last <= retired),
            (SELECT count(*) FROM log.slices WHERE position <= sealed AND size > 0),
            (SELECT count(*) FROM log.marks WHERE position <= retired),
            (SELECT count(*) FROM log.slices WHERE position <= retired AND version < (
                SELECT max(version) FROM log.slices AS other WHERE other.stream = slices.stream
            ))
        FROM ends
        """,
    )


NOTHING = [(0, 0, 0, 0, 0)]


# Cut off


def test_a_seal_is_cut_off_after_each_step(
    databases: Databases, unsealed: str, said: Answers
) -> None:
    taken = number = 0
    while taken == number:
        number += 1
        name = databases.made(unsealed)
        with closing(databases.engine(name)) as engine:
            taken = run(engine, engine.moving(Seal(40, SIZE)).steps(), number)
        with closing(databases.engine(name)) as engine:
            assert pages(engine.read, Query()) == said.slices
            assert list(engine.check()) == []
            seal_all(engine, SegmentSize(slices=7, frame=3, frames=2))
            assert answers(engine) == said
            assert list(engine.check()) == []
        assert leftovers(databases, name) == NOTHING
    assert number > 5


class CutOff(BaseException):
    """The process that moves history is gone."""


class Points:
    """What a move does, a point for each, at one of which it is cut off."""

    def __init__(self, patches: pytest.MonkeyPatch, at: int) -> None:
        self._left = at
        for name in ("put", "size", "read", "delete"):
            patches.setattr(ObjectStorage, name, self._around(getattr(ObjectStorage, name)))

    def reached(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise CutOff

    def _around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any) -> Any:
            self.reached()
            found = real(*args)
            self.reached()
            return found

        return called

    def make(self, engine: Engine, move: Move) -> bool:
        """Make a move as far as its point; whether that was its end."""
        try:
            for step in engine.moving(move).steps():
                with engine.lock.mutex:
                    step()
                self.reached()
        except CutOff:
            return False
        return True


@pytest.mark.parametrize("kind", MOVES)
def test_a_move_is_cut_off_at_each_point(
    databases: Databases, sealed: str, said: Answers, tmp_path: Path, kind: str
) -> None:
    """After each step, and before and after each request to the archive."""
    prepared, archive, before = databases.made(sealed), tmp_path / "archive", tmp_path / "before"
    move = prepared_for(partial(databases.engine, prepared), object_url(archive), kind)
    archive.mkdir(exist_ok=True)
    shutil.copytree(archive, before)
    is_done, number = False, 0
    while not is_done:
        shutil.rmtree(archive)
        shutil.copytree(before, archive)
        name = databases.made(prepared)
        with pytest.MonkeyPatch.context() as patches, closing(databases.engine(name)) as engine:
            is_done = Points(patches, number).make(engine, move)
        with closing(databases.engine(name)) as engine:
            _says_the_same(engine, said, move)
            moved(engine, move)
            moved(engine, Sweep(1 << 60))
            _says_the_same(engine, said, move)
            used = {one.object.name for one in engine.segments() if one.object is not None}
            assert used == {one.name for one in archive.iterdir()}
        assert leftovers(databases, name) == NOTHING
        number += 1
    assert number > 2


def _says_the_same(engine: Engine, said: Answers, move: Move) -> None:
    retired = 0
    try:
        assert answers(engine) == said
    except RetiredError as error:
        assert isinstance(move, Retire)
        retired = error.last
    rest = [stored for stored in said.slices if stored.position > retired]
    assert pages(engine.read, Query().after(retired)) == rest
    assert engine.streams(None, "", 1_000) == said.streams
    assert list(engine.check()) == []


def test_its_session_is_ended_within_a_step(
    databases: Databases, unsealed: str, said: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = databases.made(unsealed)
    note = PostgresTables._run

    def ended(tables: PostgresTables, session: PostgresSession, name: str, *bounds: object) -> None:
        note(tables, session, name, *bounds)
        if name == "empty_rows":
            session.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with closing(databases.engine(name)) as engine:
        with monkeypatch.context() as patches:
            patches.setattr(PostgresTables, "_run", ended)
            with pytest.raises(StorageError, match="the connection failed"):
                moved(engine, Seal(40, SIZE))
        assert databases.run(name, "SELECT count(*) FROM log.slices WHERE size = 0") == [(0,)]
        assert answers(engine) == said
        seal_all(engine, SIZE)
        assert answers(engine) == said
        assert list(engine.check()) == []
    assert leftovers(databases, name) == NOTHING


# Two movers


def test_whoever_begins_last_goes_on(databases: Databases, unsealed: str, said: Answers) -> None:
    name = databases.made(unsealed)
    with closing(databases.engine(name)) as one, closing(databases.engine(name)) as other:
        stopped = one.moving(Seal(40, SIZE)).steps()
        run(one, stopped, 3)
        seal_all(other, SIZE, 40)
        with pytest.raises(BusyError, match="another process moves history now"):
            run(one, stopped)
        assert answers(one) == said
        assert list(other.check()) == []


@pytest.mark.parametrize("seed", range(2))
def test_two_movers_among_each_others_moves(
    databases: Databases, sealed: str, said: Answers, tmp_path: Path, seed: int
) -> None:
    name = databases.made(sealed)
    opened = partial(databases.engine, name)
    reader = databases.engine(name, read_only=True)
    move_among_each_other(opened, reader, object_url(tmp_path / "archive"), said, seed)
    with closing(opened()) as engine:
        moved(engine, Sweep(1 << 60))
        assert answers(engine) == said
        assert list(engine.check()) == []
        used = {one.object.name for one in engine.segments() if one.object is not None}
        assert used == {one.name for one in (tmp_path / "archive").iterdir()}
    assert leftovers(databases, name) == NOTHING


# Damage, and others


@pytest.mark.parametrize(
    ("change", "found", "reads"),
    [
        ("UPDATE log.segments SET sha256 = 'x'", "it says", True),
        ("UPDATE log.segments SET slices = 7", "it says", True),
        (
            "UPDATE log.slices SET recorded_at = recorded_at + 1 WHERE position < 9",
            "it says",
            True,
        ),
        ("UPDATE log.slices SET body = '[]' WHERE position < 9", "it says", True),
        ("DELETE FROM log.chunks WHERE last < 9", "is missing", False),
        ("UPDATE log.chunks SET data = substr(data, 1, 30) WHERE last < 9", "chunk", False),
        ("UPDATE log.chunks SET data = data || 'x'", "isn't what its head says", False),
        ("UPDATE log.chunks SET dictionary = 7", "dictionary 7 is missing", False),
        ("UPDATE log.slices SET body = ''", "is missing", False),
    ],
)
def test_damage_is_found(
    databases: Databases, sealed: str, change: str, found: str, reads: bool
) -> None:
    name = databases.made(sealed)
    databases.run(name, change)
    with closing(databases.engine(name)) as engine:
        assert any(found in problem.what for problem in engine.check())
        if not reads:
            with pytest.raises(CorruptStoreError, match=found):
                pages(engine.read, Query())


def test_sql_shows_all_or_fails(databases: Databases, unsealed: str) -> None:
    name = databases.made(unsealed)
    with closing(databases.engine(name)) as engine:
        before = databases.run(name, "SELECT count(*) FROM log.events")
        assert before == [(engine.head().position,)]
        seal_all(engine, SIZE, 20)
    for table in ("events", "events WHERE position > 30"):
        with pytest.raises(psycopg.errors.RaiseException, match="sealed or retired"):
            databases.run(name, f"SELECT data FROM log.{table}")


def test_tables_of_an_older_everwhen(databases: Databases, said: Answers) -> None:
    """They are changed by their owner alone; whoever may read the log reads what is new."""
    name = databases.made()
    databases.run(name, "CREATE SCHEMA log", *statements("schema", "log").values())
    for role in ("reader", "writer"):
        databases.run(name, f"CREATE ROLE {name}_{role} LOGIN")
    databases.run(
        name,
        f"GRANT USAGE ON SCHEMA log TO {name}_reader, {name}_writer",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA log TO {name}_reader, {name}_writer",
        f"GRANT INSERT ON log.streams, log.slices, log.marks TO {name}_writer",
    )
    reader = databases.url(name).replace("postgres@", f"{name}_reader@")
    writer = databases.url(name).replace("postgres@", f"{name}_writer@")
    for url, read_only in ((reader, True), (writer, False)):
        with pytest.raises(ReadOnlyError, match="as the role that owns them"):
            PostgresEngine(url, read_only=read_only)
    with open_store(databases.url(name), events=[Entry]) as store:
        fill(store, 10)
    with closing(databases.engine(name)) as engine:
        expected = pages(engine.read, Query())
        seal_all(engine, SIZE)
    with open_store(writer, events=[Entry]) as store:
        fill(store, 1, start=10)
    with closing(PostgresEngine(reader, read_only=True)) as engine:
        assert pages(engine.read, Query().up_to(expected[-1].position)) == expected
        assert engine.head().position > expected[-1].position
        with pytest.raises(ReadOnlyError):
            moved(engine, Evict(expected[-1].position))
    for role in ("reader", "writer"):
        databases.run(name, f"DROP OWNED BY {name}_{role}", f"DROP ROLE {name}_{role}")
