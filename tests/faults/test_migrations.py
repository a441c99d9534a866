"""Schema changes: whole or not at all, and the same as a fresh start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from tests.faults.faults_ledger import Entry, count_up, entries, faults_in
from tests.patience import PATIENCE_SECONDS

from everwhen import StorageError, open_store
from everwhen.backends.sqlite import schema
from everwhen.backends.sqlite.connection import open_connection
from everwhen.backends.sqlite.schema import migrate, migrations
from everwhen.errors import NewerStoreError, NotAStoreError

LATER = """
CREATE TABLE later (id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;
ALTER TABLE snapshots ADD COLUMN taken_at INTEGER;
CREATE INDEX later_by_size ON later (length(body));
"""


def _schema(path: Path) -> set[tuple[str, str, str | None]]:
    connection = open_connection(path, read_only=True, busy_timeout=1)
    try:
        return set(connection.execute("SELECT type, name, sql FROM sqlite_schema"))
    finally:
        connection.close()


def _fresh(path: Path, steps: list[tuple[int, str]]) -> None:
    connection = open_connection(path, read_only=False, busy_timeout=1)
    migrate(connection, steps)
    connection.close()


def _with_data(path: Path) -> None:
    with open_store(path, events=[Entry]) as store:
        for i in range(30):
            store.append(f"a-{i % 4}", entries(f"k{i}", 3, 200))
        count_up(store)


def _sound(path: Path) -> bool:
    with open_store(path, events=[Entry]) as store:
        return faults_in(store, [f"k{i}" for i in range(30)], 1) == []


@pytest.fixture
def steps() -> list[tuple[int, str]]:
    """The real steps, and one that is still to come."""
    return [*migrations(), (migrations()[-1][0] + 1, LATER)]


def test_steps_are_numbered_without_gaps() -> None:
    assert [version for version, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_store_has_the_schema_of_its_steps(tmp_path: Path) -> None:
    open_store(tmp_path / "store.db").close()
    _fresh(tmp_path / "steps.db", migrations())
    assert _schema(tmp_path / "store.db") == _schema(tmp_path / "steps.db")


def test_every_way_up_ends_in_the_same_schema(tmp_path: Path, steps: list[tuple[int, str]]) -> None:
    _fresh(tmp_path / "fresh.db", steps)
    for length in range(1, len(steps)):
        path = tmp_path / f"from-{length}.db"
        _fresh(path, steps[:length])
        _fresh(path, steps)
        assert _schema(path) == _schema(tmp_path / "fresh.db")


def test_a_store_with_data_is_brought_up_to_date(
    tmp_path: Path, steps: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    _with_data(path)
    monkeypatch.setattr(schema, "migrations", lambda: steps)
    with pytest.raises(NotAStoreError, match="bring it up to date"):
        open_store(path, read_only=True)
    with open_store(path, events=[Entry]) as store:
        store.append("a-1", entries("new", 1))
        with store.transaction() as transaction:
            assert transaction.execute("PRAGMA user_version") == [(steps[-1][0],)]
            assert transaction.execute("SELECT count(*) FROM later") == [(0,)]
        assert faults_in(store, ["new"], 1) == []
    with open_store(path, read_only=True) as store:
        assert store.head().position == 91


def test_a_failing_migration_changes_nothing(
    tmp_path: Path, steps: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.db"
    _with_data(path)
    before = _schema(path)
    broken = [*steps, (steps[-1][0] + 1, "DROP TABLE checkpoints; CREATE TABLE slices (n)")]
    with monkeypatch.context() as patch:
        patch.setattr(schema, "migrations", lambda: broken)
        with pytest.raises(StorageError, match="slices already exists"):
            open_store(path)
    assert _schema(path) == before
    assert _sound(path)


def test_a_migration_cut_short_changes_nothing(
    tmp_path: Path, steps: list[tuple[int, str]]
) -> None:
    """The process ends somewhere inside: after each statement of the steps in turn."""
    fresh = tmp_path / "fresh.db"
    _with_data(fresh)
    before = _schema(fresh)
    program = (
        "import os, sys, apsw; from everwhen.backends.sqlite.connection import *;"
        "from everwhen.backends.sqlite.schema import *;"
        "c = open_connection(Path(sys.argv[1]), read_only=False, busy_timeout=1); left = [{n}];\n"
        "def trace(cursor, sql, bindings):\n"
        "    left[0] -= 1\n"
        "    if left[0] < 0: os.kill(os.getpid(), 9)\n"
        "    return True\n"
        "c.exec_trace = trace; migrate(c, {steps!r})"
    )
    survived = 0
    for n in range(40):
        path = tmp_path / f"cut-{n}.db"
        path.write_bytes(fresh.read_bytes())
        code = program.format(n=n, steps=steps)
        done = subprocess.run([sys.executable, "-c", code, path], check=False)
        if done.returncode == 0:
            assert _schema(path) != before
            survived += 1
            break
        assert done.returncode == -9
        assert _schema(path) == before
        assert _sound(path)
    assert survived


def test_an_older_everwhen_never_lowers_the_version(
    tmp_path: Path, steps: list[tuple[int, str]]
) -> None:
    """Another process may have migrated further between our look and our lock."""
    path = tmp_path / "store.db"
    _fresh(path, steps)
    _fresh(path, steps[:1])
    connection = open_connection(path, read_only=True, busy_timeout=1)
    assert connection.pragma("user_version") == steps[-1][0]
    connection.close()
    with pytest.raises(NewerStoreError):
        open_store(path)


OPENER = """
import sys, time
from everwhen import open_store, UnknownEvent
time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
with open_store(sys.argv[1]) as store:
    for i in range(5):
        store.append("a-" + sys.argv[3], [UnknownEvent("Opened", {"i": i})])
"""


def test_processes_that_open_a_new_file_at_once(tmp_path: Path) -> None:
    import time

    for attempt in range(4):
        path = tmp_path / f"store-{attempt}.db"
        start = time.time() + 0.6
        openers = [
            subprocess.Popen(
                [sys.executable, "-c", OPENER, str(path), str(start), str(number)],
                stderr=subprocess.PIPE,
            )
            for number in range(4)
        ]
        for opener in openers:
            _, err = opener.communicate(timeout=PATIENCE_SECONDS)
            assert (opener.returncode, err.decode()) == (0, "")
        with open_store(path) as store:
            assert store.head().position == 20
            assert [info.version for info in store.streams()] == [5, 5, 5, 5]
            assert store.check() == []


def test_threads_that_open_a_new_file_at_once(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    for attempt in range(20):
        path = tmp_path / f"store-{attempt}.db"

        def opened(number: int, path: Path = path) -> int:
            with open_store(path, events=[Entry]) as store:
                return store.append(f"a-{number}", entries("k", 1)).position

        with ThreadPoolExecutor(8) as threads:
            assert sorted(threads.map(opened, range(8))) == list(range(1, 9))


def test_a_foreign_table_named_like_ours_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "foreign.db"
    foreign = apsw.Connection(str(path))
    foreign.execute("CREATE TABLE slices (n)")
    foreign.close()
    with pytest.raises(NotAStoreError):
        open_store(path)
