"""Every SQLite file of ours is opened with the same care."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from everwhen.backends.sqlite.connection import Immutable, open_connection
from everwhen.privacy.vault_file import VaultFile
from everwhen.system.file_backups import opened_copy
from everwhen.system.sqlite_connection import connect, patience, transact
from everwhen.witness.cosigning import _opened


def _copy(path: Path) -> apsw.Connection:
    connect(path, "create", busy_timeout=1, largest_bytes=None).close()
    return opened_copy(path, lambda: None)


def _read_only(path: Path) -> apsw.Connection:
    _written(path)
    return open_connection(path, read_only=True, busy_timeout=1)


def _written(path: Path) -> None:
    with contextlib.closing(open_connection(path, read_only=False, busy_timeout=1)) as made:
        made.execute("CREATE TABLE t (x)")


def _immutable(path: Path) -> apsw.Connection:
    _written(path)
    return Immutable(path, (0, 0, 0, 0), None)


BOUNDED: dict[str, Callable[[Path], apsw.Connection]] = {
    "store": lambda path: open_connection(path, read_only=False, busy_timeout=1),
    "reader": _read_only,
    "vault": lambda path: VaultFile(path, create=True, busy_timeout=1).connection,
    "witness": _opened,
}


@pytest.mark.parametrize("opened", [*BOUNDED.values(), _copy], ids=[*BOUNDED, "copy"])
def test_a_schema_is_not_trusted(opened: Callable[[Path], apsw.Connection], tmp_path: Path) -> None:
    with contextlib.closing(opened(tmp_path / "file.db")) as connection:
        assert connection.pragma("trusted_schema") == 0


@pytest.mark.parametrize("opened", BOUNDED.values(), ids=BOUNDED)
def test_no_value_is_read_that_none_of_us_writes(
    opened: Callable[[Path], apsw.Connection], tmp_path: Path
) -> None:
    with contextlib.closing(opened(tmp_path / "file.db")) as connection:
        with pytest.raises(apsw.TooBigError):
            connection.execute("SELECT zeroblob(999000000)").fetchall()


@pytest.mark.parametrize("name", ["a?mode=memory", "b#c", "d%41", "e f", "file:g", ":memory:h"])
@pytest.mark.parametrize("opened", [*BOUNDED.values(), _copy, _immutable])
def test_a_path_is_a_path(
    opened: Callable[[Path], apsw.Connection], name: str, tmp_path: Path
) -> None:
    with contextlib.closing(opened(tmp_path / name)) as connection:
        assert Path(connection.filename) == (tmp_path / name).resolve()
    assert name in {file.name for file in tmp_path.iterdir()}


def test_waiting_ends() -> None:
    waits = patience(0)
    assert waits(0)
    assert not waits(1)
    assert waits(0)  # for the next lock
    waits = patience(1_000)
    assert all(waits(attempt) for attempt in range(3))


def test_what_fails_in_a_transaction_leaves_nothing(tmp_path: Path) -> None:
    with contextlib.closing(
        connect(tmp_path / "file.db", "create", busy_timeout=0, largest_bytes=None)
    ) as connection:
        connection.execute("CREATE TABLE t (x)")

        def failing() -> None:
            connection.execute("INSERT INTO t VALUES (1)")
            raise LookupError

        with pytest.raises(LookupError):
            transact(connection, failing)
        assert not connection.in_transaction
        assert transact(connection, lambda: connection.execute("SELECT * FROM t").fetchall()) == []
        transact(connection, lambda: connection.execute("INSERT INTO t VALUES (2)"))
        assert connection.execute("SELECT x FROM t").get == 2


def test_who_writes_is_alone(tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    first = connect(path, "create", busy_timeout=0, largest_bytes=None)
    second = connect(path, "write", busy_timeout=0, largest_bytes=None)
    with contextlib.closing(first), contextlib.closing(second):
        with pytest.raises(apsw.BusyError):
            transact(first, lambda: transact(second, lambda: None))
        assert not first.in_transaction
        transact(second, lambda: None)
