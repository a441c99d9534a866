"""SQL over all of history, and events as Arrow: the same rows for everyone, read lazily, closed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everwhen import (
    Commit,
    Event,
    KeyFile,
    NewEvent,
    Personal,
    Query,
    Store,
    UnknownEvent,
    Vault,
    Write,
    aio,
    open_store,
)
from everwhen.codec.arrow_columns import SCHEMA, archive_table
from everwhen.errors import (
    CorruptStoreError,
    DeclarationError,
    InvalidQueryError,
    RetiredError,
    StatementError,
    StatementLimitError,
    StoreClosedError,
)
from everwhen.store import SqlResult
from everwhen.store.event_scans import ArchivedFile, EventScan
from everwhen.store.sql_results import SqlLimits
from everwhen.system.object_storage import object_url
from everwhen.testing import ManualClock
from everwhen.tiers import HistoryManager, HistoryPolicy, SegmentSize
from everwhen.vocabulary import CommitMetadata
from everwhen.vocabulary.contract import (
    Archive,
    Evict,
    Merge,
    Page,
    Restore,
    Retire,
    Seal,
    StoredSlice,
)
from everwhen.vocabulary.query import Query as AnyQuery

START = datetime(2026, 1, 1, tzinfo=UTC)
TEXT = st.text(st.characters(codec="utf-8"), max_size=4)
NAMES = st.sampled_from(["a-1", "a-2", "b", "été-☃", 'it\'s "q"', "b\\x"])
MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
EVENTS = st.builds(
    NewEvent,
    event=st.builds(
        UnknownEvent,
        st.sampled_from(["Placed", "Paid", "Zahlüng"]),
        st.dictionaries(TEXT, st.none() | st.booleans() | st.integers(-9, 9) | TEXT, max_size=2),
        st.integers(1, 3),
    ),
    tags=st.lists(st.sampled_from(["t:1", "t:2", "ü"]), unique=True, max_size=2).map(tuple),
    occurred_at=st.none() | MOMENTS,
    event_id=st.none() | st.sampled_from(["1", "é'\"", "☃" * 9]),
    extras=st.dictionaries(TEXT, TEXT, max_size=1),
)
COMMITS = st.builds(
    Commit,
    st.lists(
        st.tuples(NAMES, st.lists(EVENTS, min_size=1, max_size=3)),
        min_size=1,
        max_size=2,
        unique_by=lambda one: one[0],
    ).map(lambda writes: [Write(name, events) for name, events in writes]),
    metadata=st.none() | st.builds(CommitMetadata, user_id=st.just("ann"), source=st.just("ü")),
)
LIMITS = SqlLimits(None, 60.0, 1 << 28)


def filled(store: Store, clock: ManualClock, commits: list[Commit]) -> None:
    for commit in commits:
        store.commit(commit)
        clock.advance(1.0)


def sealed(store: Store, up_to: int) -> None:
    size = SegmentSize(slices=4, frame=2, frames=2)
    while store.kernel.backend.move(Seal(up_to, size)) is not None:
        pass


def scan_of(
    store: Store, archived: list[ArchivedFile] | None = None, query: AnyQuery | None = None
) -> EventScan:
    scan = store.kernel.event_scan(Query() if query is None else query)
    return EventScan(store.kernel.backend.read_here, scan.query, archived or [])


def archived(store: Store, last: int, folder: Path) -> list[ArchivedFile]:
    """The first events as two Parquet files, each of whole slices."""
    slices = [s for s in every_slice(store) if s.position <= last]
    files = []
    for name, part in (("one", slices[::2][:1]), ("other", slices[1:])):
        these = slices[: len(part)] if name == "one" else part
        if these:
            file = folder / f"it's {name}-{len(os.listdir(folder))}.parquet"  # noqa: PTH208
            pq.write_table(archive_table(these), file, row_group_size=2)
            first = these[0].position - these[0].count + 1
            files.append(ArchivedFile(first, these[-1].position, str(file)))
    return files


def every_slice(store: Store) -> list[StoredSlice]:
    return [s for page, _, _ in store.kernel.pages(Query()) for s in page.slices]


def asked(
    scan: EventScan, statement: str, parameters: Any = (), limits: SqlLimits = LIMITS
) -> list[Any]:
    with SqlResult(scan, statement, parameters, limits) as result:
        return result.fetchall()


def by_sqlite(store: Store) -> list[tuple[Any, ...]]:
    columns = "position, stream, version, type, schema_version, recorded_at, occurred_at, tags, "
    columns += "data, event_id, extras, commit_id, metadata"
    with store.sql_connection() as connection:
        rows = connection.execute(f"SELECT {columns} FROM events ORDER BY position").fetchall()
    return [
        (
            *row[:2],
            row[1].partition("-")[0],
            *row[2:5],
            datetime.fromisoformat(row[5]),
            row[6] and datetime.fromisoformat(row[6]),
            json.loads(row[7]),
            json.loads(row[8]),
            row[9],
            row[10] and json.loads(row[10]),
            bytes.fromhex(row[11]),
            row[12] and json.loads(row[12]),
        )
        for row in rows
    ]


def comparable(rows: Iterator[Any] | list[Any]) -> list[tuple[Any, ...]]:
    return [
        (
            *row[:8],
            list(row[8] or ()),
            json.loads(row[9]),
            row[10],
            row[11] and json.loads(row[11]),
            bytes(row[12]),
            row[13] and json.loads(row[13]),
        )
        for row in rows
    ]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(COMMITS, min_size=1, max_size=6), st.data())
def test_every_reader_sees_the_same_rows(
    tmp_path: Path, commits: list[Commit], data: st.DataObject
) -> None:
    clock = ManualClock(START)
    file = tmp_path / f"{len(os.listdir(tmp_path))}.db"  # noqa: PTH208
    with open_store(file, clock=clock, durable=False) as store:
        filled(store, clock, commits)
        ends = [0, *(s.position for s in every_slice(store))]
        sealed(store, data.draw(st.sampled_from(ends), "sealed"))
        folder = tmp_path / f"archive-{len(os.listdir(tmp_path))}"  # noqa: PTH208
        folder.mkdir()
        scan = scan_of(store, archived(store, data.draw(st.sampled_from(ends), "kept"), folder))
        known = by_sqlite(store)
        assert comparable(asked(scan, "SELECT * FROM events ORDER BY position")) == known
        arrow = store.arrow()
        assert comparable(pl.DataFrame(arrow).rows()) == known
        table = pa.table(arrow)
        assert table.schema.equals(SCHEMA)
        assert comparable(list(zip(*(c.to_pylist() for c in table.columns), strict=True))) == known
        batches = pa.Table.from_batches(scan.batches(SCHEMA.names), SCHEMA)
        assert batches.equals(table.combine_chunks()) or batches.to_pylist() == table.to_pylist()
        assert asked(scan, "SELECT count(*), max(position) FROM events") == [(len(known), ends[-1])]


QUERIES: list[Callable[[AnyQuery], AnyQuery]] = [
    lambda q: q.stream("a-1", "b"),
    lambda q: q.category("a"),
    lambda q: q.types("Paid"),
    lambda q: q.category("a").types("Paid", "Placed") | q.types("Zahlüng"),
    lambda q: q.tags("t:1"),
    lambda q: q.backwards(),
    lambda q: q.stream("a-1").backwards().limit(3),
    lambda q: q.limit(2),
    lambda q: q.limit(0),
    lambda q: q.after(2).up_to(4),
    lambda q: q.from_version(2).to_version(3),
    lambda q: q.as_at(START + timedelta(seconds=2)),
    lambda q: q.as_of(datetime(2000, 1, 1, tzinfo=UTC)),
]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(COMMITS, min_size=1, max_size=6), st.sampled_from(QUERIES))
def test_a_query_gives_what_reading_gives(
    tmp_path: Path, commits: list[Commit], narrowed: Callable[[AnyQuery], AnyQuery]
) -> None:
    clock = ManualClock(START)
    query = narrowed(Query())
    with open_store("memory:", clock=clock) as store:
        filled(store, clock, commits)
        known = [(e.position, e.stream, e.type) for e in store.read(query)]
        columns = ["position", "stream", "type"]
        assert pl.DataFrame(store.arrow(query, columns=columns)).rows() == known
        folder = tmp_path / f"archive-{len(os.listdir(tmp_path))}"  # noqa: PTH208
        folder.mkdir()
        files = archived(store, store.head().position, folder)
        batches = scan_of(store, files, query).batches(columns)
        assert [tuple(row.values()) for b in batches for row in b.to_pylist()] == known


@pytest.fixture
def store() -> Iterator[Store]:
    """9,000 events in streams of ten categories, one a second, two in each commit."""
    clock = ManualClock(START)
    with open_store("memory:", clock=clock) as store:
        for at in range(0, 4_500, 500):
            for n in range(at, at + 500):
                events = [UnknownEvent("Placed", {"n": n}), UnknownEvent("Paid", {"n": n})]
                store.append(f"c{n % 10}-{n}", events)
                clock.advance(1.0)
        yield store


class Counted:
    """A store's pages, and how many slices they had."""

    def __init__(self, store: Store) -> None:
        self._read = store.kernel.backend.read_here
        self.slices = 0

    def __call__(self, query: AnyQuery, events: int) -> Page:
        page = self._read(query, events)
        self.slices += len(page.slices)
        return page


@pytest.mark.parametrize(
    ("where", "rows", "most"),
    [
        ("position > 8990", 10, 10),
        ("position = 4000", 1, 10),
        ("position BETWEEN 100 AND 109", 10, 10),
        ("position IN (7, 8995)", 2, 1_100),
        ("position < 5 OR position > 8996", 8, 1_100),
        ("recorded_at >= TIMESTAMPTZ '2026-01-01 01:14:50+00'", 20, 60),
        ("recorded_at < TIMESTAMPTZ '2026-01-01 00:00:10+00' AND type = 'Paid'", 10, 60),
        ("recorded_at > TIMESTAMPTZ '2027-01-01 00:00:00+00'", 0, 60),
        ("stream = 'c3-13'", 2, 1),
        ("stream IN ('c3-13', 'c4-14') AND type = 'Paid'", 2, 2),
        ("category = 'c3' AND position < 101", 10, 5),
        ("position > 3 AND position < 3", 0, 1),
        ("stream LIKE 'c3-1%' AND position <= 100", 2, 50),
        ("data ->> 'n' = '7'", 2, 4_500),
    ],
)
def test_bounds_are_pushed_down(store: Store, where: str, rows: int, most: int) -> None:
    counted = Counted(store)
    scan = EventScan(counted, Query().up_to(store.head().position))
    found = asked(scan, f"SELECT position FROM events WHERE {where}")
    assert len(found) == rows
    assert counted.slices <= most


def test_a_parameter_is_a_bound_as_well(store: Store) -> None:
    counted = Counted(store)
    scan = EventScan(counted, Query().up_to(9_000))
    assert asked(scan, "SELECT count(*) FROM events WHERE position > ?", [8_998]) == [(2,)]
    assert counted.slices <= 2
    named = "SELECT count(*) FROM events WHERE position > $low AND type = $type"
    assert asked(scan, named, {"low": 8_996, "type": "Paid"}) == [(2,)]


def test_events_are_read_as_rows_are_asked_for(store: Store) -> None:
    counted = Counted(store)
    scan = EventScan(counted, Query().up_to(9_000))
    batches = scan.batches(["position"])
    assert counted.slices == 0
    assert next(batches).num_rows == 2_000
    assert counted.slices == 1_000
    assert len(list(scan.batches(["type"]))) == 5


def test_archived_files_are_read_instead_of_pages(store: Store, tmp_path: Path) -> None:
    files = archived(store, 8_000, tmp_path)
    counted = Counted(store)
    scan = EventScan(counted, Query().up_to(9_000), files)
    by_type = asked(scan, "SELECT type, count(*) FROM events GROUP BY 1 ORDER BY 1")
    assert by_type == [("Paid", 4_500), ("Placed", 4_500)]
    assert counted.slices == 500
    assert asked(scan, "SELECT data ->> 'n' FROM events WHERE position = 20") == [("9",)]
    assert counted.slices == 500
    assert sum(b.num_rows for b in scan.batches(["data"])) == 9_000
    assert counted.slices == 1_000


def test_what_is_committed_later_is_not_part_of_it(store: Store) -> None:
    events = store.arrow(columns=["position"])
    result = store.sql("SELECT count(*) FROM events")
    store.append("new", [UnknownEvent("Placed", {})])
    assert pa.table(events).num_rows == pa.table(events).num_rows == 9_000
    assert result.fetchall() == [(9_000,)]
    assert store.sql("SELECT count(*) FROM events").fetchall() == [(9_001,)]


def test_a_result_is_rows_and_arrow(store: Store) -> None:
    statement = "SELECT position, type, recorded_at, sum(position) OVER () AS total FROM events"
    limited = f"{statement} WHERE position <= 3 ORDER BY position"
    with store.sql(limited) as result:
        assert result.columns == ("position", "type", "recorded_at", "total")
        assert result.fetchone() == (1, "Placed", START, 6)
        assert [row[0] for row in result.fetchmany(1)] == [2]
        assert list(result) == [(3, "Placed", START + timedelta(seconds=1), 6)]
        assert result.fetchone() is None
        assert repr(result) == "<SqlResult, closed: position, type, recorded_at, total>"
    frame = pl.DataFrame(store.sql(limited))
    assert frame["position"].to_list() == [1, 2, 3]
    assert pa.table(store.sql(limited)).column("type").to_pylist() == ["Placed", "Paid", "Placed"]
    assert len(duckdb.from_arrow(store.sql(limited)).fetchall()) == 3
    assert store.sql("SELECT 1 AS a, 2 AS a").fetchall() == [(1, 2)]
    assert store.sql("SELECT position FROM events WHERE false").fetchall() == []


def test_arrow_is_for_every_library(store: Store) -> None:
    events = store.arrow(Query().category("c3"), columns=["position", "data"])
    for _ in range(2):
        assert duckdb.from_arrow(events).aggregate("count(*)").fetchall() == [(900,)]
    assert pl.DataFrame(events).columns == events.schema.names == ["position", "data"]
    assert pa.schema(events).equals(events.schema)
    assert events.reader().read_all().num_rows == 900
    assert repr(events) == "<ArrowEvents up to position 9000: position, data>"


@pytest.mark.parametrize("columns", [["positon"], [], ["type", "type"], "no"])
def test_columns_are_checked(store: Store, columns: Any) -> None:
    with pytest.raises(InvalidQueryError, match="columns"):
        store.arrow(columns=columns)


# What a statement may not do

READS = "SELECT * FROM {function}('{folder}/secret.csv')"
ESCAPES = [
    "SELECT * FROM '{folder}/secret.csv'",
    "SELECT * FROM 'https://example.org/x.csv'",
    *(READS.replace("{function}", name) for name in ("read_csv", "read_text", "read_blob", "glob")),
    "SELECT * FROM read_parquet('{folder}/*')",
    "SELECT * FROM sniff_csv('{folder}/secret.csv')",
    "SELECT (SELECT content FROM read_text('{folder}/secret.csv'))",
    "SELECT * FROM query('SELECT * FROM read_text(''{folder}/secret.csv'')')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT * FROM enable_logging(storage = 'file', storage_config = {{'path': '{folder}/log'}})",
    "SELECT * FROM enable_profiling(save_location = '{folder}/profile')",
    "SELECT * FROM system.main.duckdb_secrets()",
    "SELECT * FROM pandas_scan(1)",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM python_map_function(1)",
    "SELECT * FROM local_variable",
    "WITH x AS (SELECT * FROM checkpoint()) SELECT * FROM x",
    "WITH x AS (INSERT INTO events VALUES (1) RETURNING *) SELECT * FROM x",
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/out.csv'",
    "EXPORT DATABASE '{folder}/out'",
    "ATTACH '{folder}/other.db' AS other",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET memory_limit = '100GB'",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
    "CALL pragma_version()",
    "CREATE TABLE mine AS SELECT 1",
    "DROP VIEW events",
    "DELETE FROM events",
    "BEGIN",
    "PREPARE p AS SELECT 1",
    "SELECT 1; COPY (SELECT 1) TO '{folder}/out.csv'",
]


@pytest.mark.parametrize("statement", ESCAPES)
def test_a_statement_reaches_nothing_but_events(
    store: Store, statement: str, tmp_path: Path
) -> None:
    local_variable = pa.table({"x": [1]})
    (tmp_path / "secret.csv").write_text("a\nsecret\n")
    with pytest.raises(StatementError) as caught:
        store.sql(statement.format(folder=tmp_path)).fetchall()
    assert "secret\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]
    assert local_variable.num_rows == 1
    assert store.check() == []


def test_only_archived_files_can_be_read(store: Store, tmp_path: Path) -> None:
    files = archived(store, 100, tmp_path)
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"x": [1]}), other)
    with pytest.raises(StatementError, match="other"):
        asked(scan_of(store, files), f"SELECT * FROM '{other}'")


def test_nothing_is_left_on_a_disk(store: Store, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    limits = SqlLimits(None, None, 32 << 20)
    with pytest.raises(StatementLimitError, match="memory_bytes"):
        asked(scan_of(store), "SELECT a.range FROM range(20000000) a ORDER BY 1 DESC", (), limits)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("statement", "given", "said"),
    [
        ("SELECT typ FROM events", (), "the columns of events are position, stream"),
        ("SELECT * FROM evnts", (), "there is one table, events"),
        ("SELEC 1", (), "syntax error"),
        ("", (), "give one SELECT"),
        ("SELECT 1; SELECT 2", (), "give one SELECT"),
        ("SELECT ?", (), "parameter"),
        ("SELECT ?", (1, 2), "parameter"),
        ("SELECT ?", (object(),), "object"),
        ("SELECT $a", {"b": 1}, "parameter"),
        ("SELECT CAST('x' AS INTEGER)", (), "Could not convert"),
        ("SELECT error('oh') FROM events", (), "oh"),
        ("SELECT range(1000000000)", (), "after FROM"),
        ("SELECT repeat('x', 1000000000) FROM range(9)", (), "after FROM"),
        ("SELECT format('{:>999999999}', 'x')", (), "any size"),
        (7, (), "as text"),
    ],
)
def test_mistakes_are_named(store: Store, statement: Any, given: Any, said: str) -> None:
    with pytest.raises(StatementError) as caught:
        store.sql(statement, given).fetchall()
    assert said in str(caught.value)


def test_a_statement_of_any_depth_is_answered_or_refused(store: Store) -> None:
    with contextlib.suppress(StatementError):
        assert store.sql("SELECT " + "(" * 5_000 + "1" + ")" * 5_000).fetchall() == [(1,)]


def test_what_a_select_can_be(store: Store) -> None:
    def ask(statement: str) -> list[tuple[Any, ...]]:
        return store.sql(statement).fetchall()

    assert [row[0] for row in ask("DESCRIBE events")] == SCHEMA.names
    assert ask("WITH x(n) AS (VALUES (1), (2)) SELECT sum(n) FROM x") == [(3,)]
    assert ask("FROM events SELECT count(*)") == [(9_000,)]
    assert ask("SELECT 1 UNION ALL SELECT 2 ORDER BY 1") == [(1,), (2,)]
    recursive = "WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 5) "
    assert ask(f"{recursive} SELECT max(n) FROM t") == [(5,)]
    joined = "SELECT count(*) FROM events a JOIN events b ON a.position = b.position + 1"
    assert ask(joined) == [(8_999,)]
    assert ask("SELECT list(range ORDER BY range) FROM range(3)") == [([0, 1, 2],)]


def test_rows_are_limited(store: Store) -> None:
    with store.sql("SELECT position FROM events ORDER BY 1", max_rows=3) as result:
        with pytest.raises(StatementLimitError, match="more than 3 rows"):
            result.fetchall()
    result = store.sql("SELECT position FROM events ORDER BY 1", max_rows=3)
    assert [result.fetchone() for _ in range(3)] == [(1,), (2,), (3,)]
    with pytest.raises(StatementLimitError, match="max_rows"):
        result.fetchone()
    assert len(store.sql("SELECT 1 FROM range(3)", max_rows=3).fetchall()) == 3
    with pytest.raises(StatementLimitError):
        store.sql("SELECT 1", max_rows=0).fetchall()
    assert store.sql("SELECT 1 WHERE false", max_rows=0).fetchall() == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) FROM range(100000000000) a, range(1000) b",
        "SELECT * FROM range(100000000000) a WHERE range < 0",
    ],
)
def test_time_is_limited(store: Store, statement: str) -> None:
    with pytest.raises(StatementLimitError, match=r"longer than 0\.2 seconds"):
        store.sql(statement, timeout_seconds=0.2).fetchall()


def test_time_is_limited_while_events_are_read(store: Store) -> None:
    read = store.kernel.backend.read_here
    going = threading.Event()

    def slow(query: AnyQuery, events: int) -> Page:
        going.wait(0.3)
        return read(query, 10)

    scan = EventScan(slow, Query().up_to(9_000))
    limits = SqlLimits(None, 0.2, 1 << 28)
    with pytest.raises(StatementLimitError, match=r"0\.2 seconds"):
        asked(scan, "SELECT count(*) FROM events WHERE data = 'rare'", (), limits)


@pytest.mark.parametrize(
    "limits",
    [{"max_rows": -1}, {"max_rows": True}, {"timeout_seconds": 0}, {"memory_bytes": 5}],
)
def test_limits_are_checked(store: Store, limits: Any) -> None:
    (name,) = limits
    with pytest.raises(DeclarationError, match=name):
        store.sql("SELECT 1", **limits)


def test_ctrl_c_ends_it(store: Store) -> None:
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        store.sql("SELECT count(*) FROM range(100000000000) a, range(1000) b").fetchall()
    assert store.sql("SELECT 1").fetchall() == [(1,)]


# What goes wrong below


def failing_after(store: Store, position: int, error: Exception) -> EventScan:
    read = store.kernel.backend.read_here

    def page(query: AnyQuery, events: int) -> Page:
        if query.after_position >= position:
            raise error
        return read(query, events)

    return EventScan(page, Query().up_to(9_000))


def test_a_failure_comes_back_as_what_it_is(store: Store) -> None:
    error = CorruptStoreError("the slice at position 5 is damaged")
    scan = failing_after(store, 4_000, error)
    with pytest.raises(CorruptStoreError) as caught:
        asked(scan, "SELECT count(*) FROM events")
    assert caught.value is error
    with pytest.raises(CorruptStoreError):
        list(scan.batches(["position"]))
    with pytest.raises(Exception, match="position 5 is damaged"):
        pa.table(SqlResult(scan, "SELECT position FROM events", (), LIMITS))
    assert asked(scan, "SELECT count(*) FROM events WHERE position < 4000") == [(3_999,)]


def test_a_damaged_body_is_named(store: Store) -> None:
    read = store.kernel.backend.read_here

    def page(query: AnyQuery, events: int) -> Page:
        found = read(query, events)
        one = found.slices[0]
        bad = msgspec.structs.replace(one, body=b'[["x"')
        return Page([bad], found.cursor, end=True)

    scan = EventScan(page, Query().up_to(9_000))
    with pytest.raises(CorruptStoreError, match=r"position 2.*check\(\)"):
        asked(scan, "SELECT data FROM events")


def test_closing_in_the_middle(store: Store) -> None:
    result = store.sql("SELECT position FROM events")
    assert result.fetchone() is not None
    result.close()
    result.close()
    for again in (lambda: pa.table(result), result.fetchone):
        with pytest.raises(StatementError, match="closed"):
            again()
    for _ in range(20):
        store.sql("SELECT a.data FROM events a JOIN events b USING (position)").close()


def test_closing_the_store_in_the_middle() -> None:
    with open_store("memory:") as store:
        for n in range(3_000):
            store.append("a", [UnknownEvent("T", {"n": n})] * 10)
        events = store.arrow(columns=["position"])
        batches = iter(events)
        next(batches)
    with pytest.raises(StoreClosedError):
        list(batches)


def test_from_many_threads(store: Store) -> None:
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(5):
                counted = store.sql("SELECT type, count(*) FROM events GROUP BY 1 ORDER BY 1")
                assert counted.fetchall() == [("Paid", 4_500), ("Placed", 4_500)]
        except BaseException as failure:  # noqa: BLE001 (shown below)
            failures.append(failure)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


# Every kind of store

COUNTED = "SELECT count(*), max(position), count(DISTINCT stream) FROM events"


def test_branches(tmp_path: Path) -> None:
    with open_store(tmp_path / "s.db") as store:
        for n in range(6):
            store.append("a", [UnknownEvent("T", {"n": n})])
        with store.create_branch("b", at=4) as branch:
            branch.append("own", [UnknownEvent("T", {})])
            assert branch.sql(COUNTED).fetchall() == [(5, 5, 2)]
            assert pa.table(branch.arrow("own")).num_rows == 1
        with store.scratch_branch() as scratch:
            scratch.append("own", [UnknownEvent("T", {})])
            assert scratch.sql(COUNTED).fetchall() == [(7, 7, 2)]
        assert store.sql(COUNTED).fetchall() == [(6, 6, 1)]


def test_read_only_empty_and_within_a_transaction(tmp_path: Path) -> None:
    with open_store(tmp_path / "s.db") as store:
        assert store.sql(COUNTED).fetchall() == [(0, None, 0)]
        assert pa.table(store.arrow()).num_rows == 0
        store.append("a", [UnknownEvent("T", {})])
        with store.transaction() as transaction:
            transaction.execute("CREATE TABLE mine (x)")
            assert store.sql(COUNTED).fetchall() == [(1, 1, 1)]
    with open_store(tmp_path / "s.db", read_only=True) as store:
        assert store.sql(COUNTED).fetchall() == [(1, 1, 1)]


class Joined(Event):
    data_subject = "person"

    person: str
    name: Personal[str]


def test_encrypted_fields_stay_encrypted(tmp_path: Path) -> None:
    KeyFile.create(tmp_path / "k")
    with Vault(tmp_path / "v", KeyFile(tmp_path / "k")) as vault:
        with open_store("memory:", events=[Joined], vault=vault) as store:
            store.append("a", [Joined("p1", "Ann")])
            ((data,),) = store.sql("SELECT data FROM events").fetchall()
            assert "Ann" not in data
            assert json.loads(data)["person"] == "p1"
            assert data == pl.DataFrame(store.arrow(columns=["data"])).item()


def test_the_async_flavour(tmp_path: Path) -> None:
    async def ask() -> tuple[Any, int]:
        async with aio.open_store(tmp_path / "s.db") as store:
            await store.append("a", [UnknownEvent("T", {}), UnknownEvent("U", {})])
            result = await store.sql("SELECT type FROM events ORDER BY 1")
            rows = await asyncio.to_thread(result.fetchall)
            events = await store.arrow(columns=["type"])
            return rows, pa.table(events).num_rows

    assert asyncio.run(ask()) == ([("T",), ("U",)], 2)


def test_sealed_history_by_a_manager(tmp_path: Path) -> None:
    with open_store(tmp_path / "s.db") as store:
        for n in range(300):
            store.append(f"a-{n % 7}", [UnknownEvent("T", {"n": n}), UnknownEvent("U", {})])
        before = store.sql("SELECT * FROM events ORDER BY position").fetchall()
        HistoryManager(store, HistoryPolicy(hot_duration=timedelta(0), small_segments=True)).age()
        assert store.sql("SELECT * FROM events ORDER BY position").fetchall() == before
        narrow = "SELECT position FROM events WHERE stream = 'a-3' AND position BETWEEN 100 AND 200"
        wanted = [e.position for e in store.read(Query().stream("a-3").after(99).up_to(200))]
        assert [row[0] for row in store.sql(f"{narrow} ORDER BY 1").fetchall()] == wanted


def test_what_is_archived_restored_and_retired(tmp_path: Path) -> None:
    url = object_url(tmp_path / "arch [ive]")
    plain = object_url(tmp_path / "archive")
    asked = "SELECT position, stream, type, data FROM events ORDER BY position"
    with open_store(tmp_path / "s.db") as store:
        for n in range(40):
            store.append(f"a-{n % 7}", [UnknownEvent("T", {"n": n})])
        sealed(store, 36)
        before = store.sql(asked).fetchall()
        backend = store.kernel.backend
        lasts = [segment.last for segment in backend.segments()]
        for last in lasts:
            backend.move(Archive(last, url if last == lasts[3] else plain))
            backend.move(Evict(last))
        assert len(scan_files(store)) == len(lasts) - 1
        assert store.sql(asked).fetchall() == before
        assert all(file.is_whole for file in scan_files(store))
        backend.move(Merge((lasts[0], lasts[1], lasts[2]), plain))
        assert store.sql(asked).fetchall() == before
        assert len(scan_files(store)) == len(lasts) - 3
        backend.move(Restore(backend.segments()[0].last))
        assert store.sql(asked).fetchall() == before
        assert [row[0] for row in pl.DataFrame(store.arrow(columns=["position"])).rows()] == [
            row[0] for row in before
        ]
        backend.move(Retire(lasts[0], recorded=40))
        with pytest.raises(RetiredError):
            store.sql(asked).fetchall()
        left = store.sql(f"SELECT * FROM ({asked}) WHERE position > {lasts[0]}").fetchall()
        assert left == before[lasts[0] :]
        assert store.sql(asked, skip_retired=True).fetchall() == left
        late = f"SELECT count(*) FROM events WHERE recorded_at > '{store.head().recorded_at}'"
        assert store.sql(late).fetchall() == [(0,)]
        with pytest.raises(RetiredError):
            list(store.arrow())
        skipping = store.arrow(Query().skipping_retired())
        assert pa.table(skipping).num_rows == 40 - lasts[0]
        os.truncate(scan_files(store)[-1].path, 100)
        with pytest.raises(CorruptStoreError, match="archive"):
            store.sql(asked)


def test_a_file_may_have_more_than_is_read_of_it(store: Store, tmp_path: Path) -> None:
    (one, other) = archived(store, 8_000, tmp_path)
    parts = [
        ArchivedFile(1, 2, one.path),
        ArchivedFile(3, 100, other.path, is_whole=False),
        ArchivedFile(201, 300, other.path, is_whole=False),
    ]
    counted = Counted(store)
    scan = EventScan(counted, Query().up_to(9_000), parts)
    count = "SELECT count(*), count(DISTINCT position), min(position), max(position) FROM events"
    assert asked(scan, count) == [(9_000, 9_000, 1, 9_000)]
    positions = [row for b in scan.batches(["position"]) for row in b.column(0).to_pylist()]
    assert positions == list(range(1, 9_001))


def scan_files(store: Store) -> list[ArchivedFile]:
    return store.kernel.event_scan(Query()).archived
