"""SQL in the store's own process: questions only, the store's locks stay, and tools can take it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from everwhen import StorageError, Store, UnknownEvent, aio, open_store
from everwhen.errors import StatementError, StoreClosedError, UnsupportedError
from everwhen.store import SqlConnection

WRITE_ONCE = """
import sys
from everwhen import BusyError, UnknownEvent, open_store
try:
    with open_store(sys.argv[1], busy_timeout=0.1) as store:
        store.append("other", [UnknownEvent("Noted", {})])
except BusyError:
    print("busy")
else:
    print("written")
"""
PLACED = "SELECT position, data ->> 'price' AS price FROM events WHERE type = 'Placed'"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "shop.db") as store:
        for price in (40, 90, 15):
            store.append("order", [UnknownEvent("Placed", {"price": price, "item": "lämp"})])
        yield store


@pytest.fixture
def connection(store: Store) -> Iterator[SqlConnection]:
    with store.sql_connection() as connection:
        yield connection


def test_rows_as_they_are_asked_for(connection: SqlConnection) -> None:
    assert connection.cursor().description is None
    cursor = connection.cursor()
    assert cursor.execute(f"{PLACED} ORDER BY position") is cursor
    assert cursor.description == (
        ("position", None, None, None, None, None, None),
        ("price", None, None, None, None, None, None),
    )
    assert cursor.fetchone() == (1, 40)
    assert cursor.fetchmany() == [(2, 90)]
    assert cursor.fetchmany(5) == [(3, 15)]
    assert cursor.fetchmany(5) == cursor.fetchall() == []
    assert cursor.fetchone() is None
    assert list(cursor.execute(PLACED)) == [(1, 40), (2, 90), (3, 15)]
    with connection.execute(PLACED) as other:
        assert len(other.fetchall()) == 3
    assert cursor.rowcount == -1


def test_columns_are_known_where_no_row_is(connection: SqlConnection) -> None:
    cursor = connection.execute("SELECT position, stream FROM events WHERE 0")
    assert [column[0] for column in cursor.description or ()] == ["position", "stream"]
    assert cursor.fetchall() == []
    assert [c[0] for c in cursor.description or ()] == ["position", "stream"], "afterwards, too"


@pytest.mark.parametrize(
    ("where", "given"), [("?", (20,)), ("?", [20]), (":least", {"least": 20}), ("?1", (20,))]
)
def test_parameters_by_place_and_by_name(where: str, given: Any, connection: SqlConnection) -> None:
    found = connection.execute(f"{PLACED} AND price > {where}", given).fetchall()
    assert found == [(1, 40), (2, 90)]


@pytest.mark.parametrize(
    ("sql", "given"),
    [
        ("SELEC 1", ()),
        ("SELECT nothing FROM events", ()),
        ("SELECT 1; SELECT 2", ()),
        ("SELECT ?", ()),
        ("SELECT ?", (1, 2)),
        ("SELECT :name", {"nam": 1}),
        ("SELECT ?", (object(),)),
        ("SELECT ?", (1 << 70,)),
        ("SELECT json('{')", ()),
        ("SELECT load_extension('x')", ()),
        ("SELECT writefile('x', 'y')", ()),
    ],
)
def test_mistakes_are_named(sql: str, given: Any, connection: SqlConnection) -> None:
    with pytest.raises(StatementError) as caught:
        connection.execute(sql, given).fetchall()
    assert sql in str(caught.value)
    assert connection.execute("SELECT 1").fetchall() == [(1,)], "and it goes on"


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM slices",
        "UPDATE checkpoints SET position = 0",
        "CREATE TABLE mine (x)",
        "CREATE TEMP TABLE mine (x)",
        "PRAGMA query_only = 0",
        "PRAGMA journal_mode = delete",
        "PRAGMA wal_checkpoint(truncate)",
        "PRAGMA writable_schema = 1",
        "VACUUM",
        "VACUUM INTO 'copy.db'",
        "ATTACH 'other.db' AS other",
        "BEGIN IMMEDIATE",
        "BEGIN",
    ],
)
def test_it_only_reads(
    sql: str, connection: SqlConnection, store: Store, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StatementError, match="only a SELECT"):
        connection.execute(sql)
    assert not [name for name in os.listdir() if not name.startswith("shop.db")]  # noqa: PTH208
    assert store.check() == []
    assert store.head().position == 3


def test_tables_of_read_models_and_what_there_is(store: Store, connection: SqlConnection) -> None:
    with store.transaction() as transaction:
        transaction.execute("CREATE TABLE sales (item TEXT, sum INTEGER)")
        transaction.execute("INSERT INTO sales VALUES ('lamp', 145)")
    assert connection.execute("SELECT * FROM sales").fetchall() == [("lamp", 145)]
    columns = connection.execute("PRAGMA table_info(sales)").fetchall()
    assert [column[1] for column in columns] == ["item", "sum"]
    counted = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION SELECT x + 1 FROM n WHERE x < 5) SELECT x FROM n"
    )
    assert len(connection.execute(counted).fetchall()) == 5


def test_the_locks_of_the_store_stay(store: Store, tmp_path: Path) -> None:
    """What Python's own sqlite3 breaks: closing the file drops them, and another process writes."""

    def other() -> str:
        done = subprocess.run(
            [sys.executable, "-c", WRITE_ONCE, str(tmp_path / "shop.db")],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        return done.stdout.strip()

    with store.transaction():
        with store.sql_connection() as connection:
            assert len(connection.execute(PLACED).fetchall()) == 3
        assert other() == "busy"
    assert other() == "written"


def test_it_sees_what_is_committed_meanwhile(store: Store, connection: SqlConnection) -> None:
    assert len(connection.execute(PLACED).fetchall()) == 3
    store.append("order", [UnknownEvent("Placed", {"price": 1})])
    assert len(connection.execute(PLACED).fetchall()) == 4


def test_from_many_threads(connection: SqlConnection) -> None:
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(50):
                assert len(connection.execute(PLACED).fetchall()) == 3
        except BaseException as failure:  # noqa: BLE001  told below
            failures.append(failure)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_ctrl_c_ends_a_long_question(connection: SqlConnection) -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    timer = threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        connection.execute(endless).fetchall()
    assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_closed_is_closed(store: Store) -> None:
    connection = store.sql_connection()
    cursor = connection.execute(PLACED)
    assert cursor.fetchone() == (1, 40)
    cursor.close()
    cursor.close()
    with pytest.raises(StoreClosedError):
        cursor.fetchone()
    other = connection.execute(PLACED)
    connection.commit()
    connection.rollback()
    connection.close()
    connection.close()
    assert repr(connection) == "<SqlConnection, closed>"
    for call in (connection.cursor, other.fetchone, lambda: connection.execute("SELECT 1")):
        with pytest.raises(StoreClosedError):
            call()
    store.close()
    with pytest.raises(StoreClosedError):
        store.sql_connection()


def test_where_there_is_none(store: Store) -> None:
    with open_store("memory:") as memory, pytest.raises(UnsupportedError, match="has no SQL"):
        memory.sql_connection()
    with store.create_branch("b") as branch, pytest.raises(UnsupportedError, match="two files"):
        branch.sql_connection()


def test_a_read_only_store_and_the_async_flavour_have_it_too(store: Store, tmp_path: Path) -> None:
    with (
        open_store(tmp_path / "shop.db", read_only=True) as other,
        other.sql_connection() as connection,
    ):
        assert len(connection.execute(PLACED).fetchall()) == 3

    async def ask() -> int:
        async with aio.open_store(tmp_path / "shop.db") as opened:
            with opened.sql_connection() as connection:
                rows = await asyncio.to_thread(lambda: connection.execute(PLACED).fetchall())
                return len(rows)

    assert asyncio.run(ask()) == 3


def test_a_missing_parameter_in_a_transaction_is_a_mistake_too(store: Store) -> None:
    with store.transaction() as transaction, pytest.raises(StatementError, match="name"):
        transaction.execute("SELECT :name", {"nam": 1})


_IS_IN_USE = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 128)  # what SQLite locks while it is
    except BlockingIOError:
        print("in use")
"""


def is_in_use(path: Path) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", _IS_IN_USE, f"{path}-shm"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout == "in use\n"


def test_it_may_outlive_its_store_and_takes_nobodys_locks_along(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with open_store(path) as store:
        store.append("a", [UnknownEvent("T", {})])
        asked = store.sql_connection()
    assert is_in_use(path)
    assert asked.execute("SELECT count(*) FROM events").fetchone() == (1,)
    with open_store(path) as store:
        asked.close()
        assert is_in_use(path)
        assert store.append("a", [UnknownEvent("T", {})]).position == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_does_not_take_it_along(tmp_path: Path) -> None:
    with open_store(tmp_path / "s.db") as store:
        store.append("a", [UnknownEvent("T", {})])
        asked = store.sql_connection()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                asked.execute("SELECT 1")
            except StorageError:
                asked.close()
                with open_store(tmp_path / "s.db") as mine:
                    code = mine.append("a", [UnknownEvent("T", {})]).position - 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert asked.execute("SELECT count(*) FROM events").fetchone() == (2,)
        assert store.append("a", [UnknownEvent("T", {})]).position == 3
        asked.close()
