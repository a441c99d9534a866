"""Files that somebody made up: nothing in them makes a store hang, or take all memory."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import apsw
import pytest
from tests.faults.faults_ledger import Entry, entries

from everwhen import Condition, Query, Store, TimeMachine, documents, open_store
from everwhen.backends.sqlite.connection import open_connection
from everwhen.backends.sqlite.schema import migrations
from everwhen.backends.sqlite.schema_check import SchemaDifference, schema_differences
from everwhen.errors import CorruptStoreError, InvalidCommitError
from everwhen.merkle import MerkleLog, TileFolder, tamper_diagnosis
from everwhen.merkle.leaf_hashes import Leaves
from everwhen.merkle.tamper_diagnosis import FaultKind
from everwhen.projections import projection_statuses
from everwhen.vocabulary import Checkpoint, Snapshot
from everwhen.vocabulary.contract import MAX_KEPT_BYTES, MAX_STORED_BYTES, StoredSlice
from everwhen_verify.entries import FIRST, leaf_of
from everwhen_verify.notes import Signer

_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"
_COLUMNS = (
    "i AS position, 1 AS stream, i AS version, 1 AS count, 1 AS recorded_at, x'00' AS commit_id,"
    " 0 AS first_index, NULL AS metadata, x'5b5d' AS body"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store.db"
    with open_store(path, events=[Entry]) as store:
        for number in range(5):
            store.append("a-1", entries(f"k{number}", 2))
    return path


def _altered(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for sql in statements:
            connection.execute(sql)


def _opened(path: Path, *, read_only: bool) -> Store:
    return open_store(path, read_only=read_only, events=[Entry])


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    ("statements", "named"),
    [
        (
            [
                "DROP TABLE streams",
                f"CREATE VIEW streams AS {_ENDLESS} i AS id, 'a-' || i AS name FROM n",
            ],
            "view 'streams'",
        ),
        (
            [
                "DROP TABLE slices",
                f"CREATE VIEW slices AS {_ENDLESS} {_COLUMNS} FROM n",
            ],
            "view 'slices'",
        ),
        (["DROP TABLE snapshots"], "table 'snapshots'"),
        (["ALTER TABLE marks ADD COLUMN more INTEGER"], "table 'marks'"),
        (["DROP VIEW events", f"CREATE VIEW events AS {_ENDLESS} i FROM n"], "view 'events'"),
        (["CREATE TABLE json_each (value)"], "table 'json_each'"),
        (
            ["CREATE TRIGGER t AFTER INSERT ON slices BEGIN DELETE FROM marks; END"],
            "trigger 't'",
        ),
        (
            [
                "CREATE TABLE mine (x)",
                'CREATE TRIGGER t AFTER INSERT ON mine BEGIN DELETE FROM "Slices"; END',
            ],
            "trigger 't'",
        ),
    ],
)
def test_a_schema_that_isnt_ours_is_refused(
    path: Path, statements: Sequence[str], named: str, read_only: bool
) -> None:
    _altered(path, *statements)
    with pytest.raises(CorruptStoreError, match=named):
        _opened(path, read_only=read_only)


def test_what_happens_to_the_schema_of_an_open_store_is_found_by_check(path: Path) -> None:
    with _opened(path, read_only=False) as store:
        with store.transaction() as transaction:
            transaction.execute("CREATE TRIGGER t AFTER INSERT ON marks BEGIN SELECT 1; END")
            transaction.execute("DROP INDEX slices_by_commit")
        assert [str(problem) for problem in store.check()]
        assert {problem.where for problem in store.check()} == {
            "schema, trigger 't'",
            "schema, index 'slices_by_commit'",
        }


def test_a_missing_index_is_told_and_the_store_still_opens(path: Path) -> None:
    _altered(path, "DROP INDEX slices_by_commit")
    with _opened(path, read_only=True) as store:
        (problem,) = store.check()
        assert "slices_by_commit" in problem.where
        assert len(list(store.read())) == 10


def test_what_is_beside_the_store_is_listed_and_harmless(path: Path) -> None:
    _altered(
        path,
        "CREATE TABLE sales__1_1 (x INTEGER PRIMARY KEY, y TEXT)",
        "CREATE INDEX sales__1_1_by_y ON sales__1_1 (y)",
        'CREATE VIEW "sales" AS SELECT * FROM sales__1_1',
        "CREATE TABLE balance (account TEXT PRIMARY KEY)",
        "CREATE INDEX mine ON slices (recorded_at)",
        "CREATE VIEW shown AS SELECT * FROM balance",
        "ANALYZE",
    )
    connection = open_connection(path, read_only=True, busy_timeout=1)
    found = list(schema_differences(connection, migrations()))
    connection.close()
    own = {"balance", "sqlite_autoindex_balance_1", "mine", "shown"}
    assert {one.name for one in found} == own
    assert not any(one.is_ours or one.is_fatal for one in found)
    with _opened(path, read_only=False) as store:
        store.append("a-1", entries("last", 1))
        assert store.check() == []


def test_a_fresh_file_has_no_differences(path: Path) -> None:
    connection = open_connection(path, read_only=True, busy_timeout=1)
    assert list(schema_differences(connection, migrations())) == []
    assert list(schema_differences(apsw.Connection(":memory:"), migrations())) == []
    without = list(schema_differences(connection, []))
    connection.close()
    assert SchemaDifference("table", "slices", "is not ours", is_ours=False, is_fatal=False) in (
        without
    )


@pytest.mark.parametrize("column", ["body", "metadata"])
def test_a_value_that_nobody_writes_is_named_and_not_read(path: Path, column: str) -> None:
    size = MAX_STORED_BYTES + (100 << 20)
    _altered(path, f"UPDATE slices SET {column} = zeroblob({size}) WHERE position = 4")
    with _opened(path, read_only=False) as store:
        apsw.memory_high_water(True)
        for query in (Query(), Query().types("Entry"), Query().stream("a-1").backwards()):
            with pytest.raises(CorruptStoreError, match="position 4"):
                list(store.read(query))
        with pytest.raises(CorruptStoreError, match="position 4"):
            store.append("b", entries("b", 1), condition=Condition(Query().types("None"), 1))
        (problem,) = store.check()
        assert problem.where == "position 4"
        assert [e.position for e in store.read(Query().up_to(2))] == [1, 2]
        assert store.append("b", entries("b", 1)).position == 11
        assert apsw.memory_high_water() < 64 << 20


def test_what_is_no_event_may_be_large(path: Path) -> None:
    size = MAX_STORED_BYTES + 1
    with _opened(path, read_only=False) as store:
        with store.transaction() as transaction:
            transaction.execute("CREATE TABLE large__1_1 (x BLOB)")
            transaction.execute(f"INSERT INTO large__1_1 VALUES (zeroblob({size}))")
            transaction.save_checkpoint(Checkpoint("large", 1, bytes(size)))
            ((x,),) = transaction.execute("SELECT x FROM large__1_1")
        kept = store.checkpoint("large")
        assert kept is not None
        assert len(x) == len(kept.data) == size
        assert store.check() == []


_HUGE: Final = MAX_KEPT_BYTES + (1 << 20)
_LONG: Final = 100 << 20
_TOO_LARGE: Final = {
    "the name of stream 1": f"UPDATE streams SET name = printf('%.*c', {_LONG}, 'x') WHERE id = 1",
    "the name of term 1": f"UPDATE terms SET name = printf('%.*c', {_LONG}, 'x') WHERE id = 1",
    "checkpoint 'k'": f"INSERT INTO checkpoints VALUES ('k', 1, zeroblob({_HUGE}))",
    "the name of a checkpoint at position 7": (
        f"INSERT INTO checkpoints VALUES (printf('%.*c', {_LONG}, 'x'), 7, x'')"
    ),
    "the snapshot at position 7": (
        f"INSERT INTO snapshots VALUES ('s', 7, 'f', 1, zeroblob({_HUGE}))"
    ),
    "the name of a snapshot at position 7": (
        f"INSERT INTO snapshots VALUES ('s', 7, printf('%.*c', {_LONG}, 'x'), 1, x'')"
    ),
    "position 4": f"UPDATE slices SET commit_id = zeroblob({_HUGE}) WHERE position = 4",
}


@pytest.mark.parametrize("where", _TOO_LARGE)
def test_no_column_is_read_without_a_bound(path: Path, where: str) -> None:
    _altered(path, _TOO_LARGE[where])
    calls: list[Callable[[Store], object]] = [
        lambda store: [(stream.name, store.head()) for stream in store.streams()],
        lambda store: list(store.read()),
        lambda store: list(store.read(Query().types("None"))),
        lambda store: store.checkpoints(),
        lambda store: store.checkpoint("k"),
        projection_statuses,
        lambda store: store.branches(),
        lambda store: store.kernel.backend.snapshots("s", None, 5),
        lambda store: TimeMachine(store, documents).bookmarks(),
    ]
    with _opened(path, read_only=False) as store:
        apsw.memory_high_water(True)
        told = list[str]()
        for call in calls:
            try:
                call(store)
            except CorruptStoreError as error:
                told.append(str(error))
        (problem,) = store.check()
        assert problem.where == where
        assert all(where in one or "characters are stored" in one for one in told)
        assert bool(told) == (not where.startswith(("the name of term", "the snapshot")))
        # SQLite compares what lies in its b-trees whole: it may hold that once, and nothing of ours
        assert apsw.memory_high_water() < path.stat().st_size + (64 << 20)


def test_what_would_be_too_large_is_refused(path: Path) -> None:
    large = bytes(MAX_KEPT_BYTES + 1)
    for name in (f"sqlite:///{path}", "memory:"):
        with open_store(name) as store:
            with pytest.raises(InvalidCommitError, match="the limit is"), store.transaction() as tx:
                tx.save_checkpoint(Checkpoint("k", 1, large))
            with pytest.raises(InvalidCommitError, match="the limit is"), store.transaction() as tx:
                tx.save_snapshot(Snapshot("s", 1, "f", 1, large))
            assert store.checkpoint("k") is None


def _slices(count: int) -> list[StoredSlice]:
    body = b"[" + b" " * 150 + b"]"
    return [StoredSlice(i + 1, f"s-{i}", 1, 1, 5, b"i" * 16, i, None, body) for i in range(count)]


def test_a_commit_of_many_slices_is_hashed_in_one_go() -> None:
    slices = _slices(20_000)  # copied for each slice again, these 3.6 MB took a minute
    leaves, found = Leaves(), list[bytes]()
    for start in range(0, len(slices), 1_999):
        found += leaves.take(slices[start : start + 1_999])
    found += leaves.take((), end=True)
    assert found == [leaf_of(0, FIRST, slices)]
    assert (leaves.size, leaves.position) == (1, 20_000)


def test_what_became_of_a_large_commit_is_tried_out_within_bounds(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each explanation hashes the commit anew; there are tens of thousands of them."""
    signer = Signer.generate("example.org/crafted")
    budget, hashed = 16 << 20, list[int]()

    def counted(index: int, previous: bytes, slices: Sequence[StoredSlice]) -> bytes:
        hashed.append(sum(len(stored.body) for stored in slices))
        return leaf_of(index, previous, slices)

    monkeypatch.setattr(tamper_diagnosis, "_TRIED_BYTES", budget)
    monkeypatch.setattr(tamper_diagnosis, "leaf_of", counted)
    tiles = TileFolder.beside(path)
    with _opened(path, read_only=False) as store:
        store.append("large", [Entry(commit="large", index=0, total=1, padding="x" * 3_000_000)])
        for number in range(100):
            store.append("a-1", entries(f"after{number}", 1))
        MerkleLog(store, tiles, signer, key=signer.verifier).sign()
    changed = "CAST(replace(body, 'xxx', 'xxz') AS BLOB)"
    _altered(path, f"UPDATE slices SET body = {changed} WHERE position = 11")
    with _opened(path, read_only=True) as store:
        report = MerkleLog(store, tiles, key=signer.verifier).verify()
    assert report.fault is not None
    assert (report.fault.kind, report.fault.position) == (FaultKind.CHANGED, 11)
    assert hashed
    assert sum(hashed) <= 4 * budget
