"""The schema of a store's file: telling what a file is, and bringing it up to date.

Each file of ``migrations/`` leads from one version of the schema to the next, and runs once, whole
or not at all. A file is looked at before SQLite works with it, and its tables before they are used.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Final

import apsw

from everwhen.backends.sqlite.error_translation import ANEW, corrupt, not_a_store, not_writable
from everwhen.backends.sqlite.files import beside
from everwhen.backends.sqlite.schema_check import SchemaDifference, schema_differences
from everwhen.system.sqlite_connection import patience, transact
from everwhen.vocabulary.errors import CorruptStoreError, NewerStoreError, NotAStoreError

APPLICATION_ID: Final = 0x45766572
""""Ever": the mark of our files in SQLite's header, so that no other program's is taken for one."""

MAX_LOG_BYTES: Final = 16 << 20
"""What is left of the write-ahead log when it begins anew after a reader kept it from doing so."""

WITH_PAGE_MAP: Final = "PRAGMA auto_vacuum = incremental"
"""Before a file is made, or written anew."""

_MIGRATION: Final = re.compile(r"(\d{4})_\w+\.sql")
_SQLITE_MAGIC: Final = b"SQLite format 3\x00"
_HEADER_BYTES: Final = 100
"""How long SQLite's header is: a file that ends within it was cut short."""


@lru_cache(1)
def migrations() -> list[tuple[int, str]]:
    """Every schema change as (version, SQL), in order; the last version is the current one."""
    found = [
        (int(match[1]), entry.read_text("utf-8"))
        for entry in (resources.files("everwhen.backends.sqlite") / "migrations").iterdir()
        if (match := _MIGRATION.fullmatch(entry.name))
    ]
    return sorted(found)


def prepare(
    connection: apsw.Connection,
    path: Path,
    *,
    read_only: bool,
    durable: bool,
    busy_timeout: float,
) -> None:
    """Checks that the file is a store and makes or migrates its schema.

    Raises `NotAStoreError`, `NewerStoreError` or `CorruptStoreError`.
    """
    _check_header(connection, path)
    version = _schema_version(connection, path)
    steps = migrations()
    latest = steps[-1][0]
    if version > latest:
        raise NewerStoreError(
            f"{path}: has schema version {version}, this Everwhen knows versions up to {latest}; "
            f"upgrade Everwhen"
        )
    if read_only:
        if version < latest:
            raise NotAStoreError(
                f"{path}: has schema version {version} and needs {latest}; "
                f"open it once for writing to bring it up to date"
            )
        return
    if connection.readonly("main"):  # SQLite falls back to this without a word
        raise not_writable(path, "the file is read-only")
    _use_wal(connection, busy_timeout, is_new=not version)
    connection.execute(f"PRAGMA synchronous = {'full' if durable else 'normal'}")
    connection.execute(f"PRAGMA journal_size_limit = {MAX_LOG_BYTES}")
    if version < latest:
        migrate(connection, steps)


def _use_wal(connection: apsw.Connection, busy_timeout: float, *, is_new: bool) -> None:
    """Write-ahead logging; SQLite doesn't wait by itself while another opener switches it on.

    A file that is made gets a map of its pages, by which `compaction` gives them back in steps.
    """
    waits = patience(busy_timeout)
    for attempt in itertools.count():
        try:
            if is_new:
                connection.execute(WITH_PAGE_MAP)
            connection.execute("PRAGMA journal_mode = wal")
        except apsw.BusyError:
            if not waits(attempt):
                raise
        else:
            return


def migrate(connection: apsw.Connection, steps: list[tuple[int, str]]) -> None:
    """Runs the steps that are still missing, all in one transaction."""

    def work() -> None:
        present = connection.pragma("user_version")
        for version, sql in steps:
            if version > present:
                connection.execute(sql)
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", max(present, steps[-1][0]))

    transact(connection, work)


def _schema_version(connection: apsw.Connection, path: Path) -> int:
    connection.execute("BEGIN")  # one snapshot: another process may be making the schema right now
    try:
        application = connection.pragma("application_id")
        version = connection.pragma("user_version")
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
        if application == APPLICATION_ID and 0 < version <= migrations()[-1][0]:
            check_schema(connection, path)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    if application == APPLICATION_ID:
        return int(version)
    if tables or application:
        raise not_a_store(path, "but another program's SQLite file")
    if connection.readonly("main"):
        raise not_a_store(path, "it is empty")
    return 0


def wrong_schema(connection: apsw.Connection) -> Iterator[SchemaDifference]:
    """What of the store's own schema isn't as it should be."""
    return (found for found in schema_differences(connection, migrations()) if found.is_ours)


def check_schema(connection: apsw.Connection, path: Path) -> None:
    """Raises `CorruptStoreError` where the store's own tables aren't what they should be."""
    wrong = next((found for found in wrong_schema(connection) if found.is_fatal), None)
    if wrong is not None:
        raise CorruptStoreError(
            f"{path}: its schema is not one that Everwhen makes: {wrong}; find out who changed it, "
            f"and {ANEW}"
        )


def _check_header(connection: apsw.Connection, path: Path) -> None:
    """Tells a foreign or shortened file from a store before SQLite works with it.

    Reads through the connection: closing a file of our own would drop the locks that every other
    connection of this process holds on it (POSIX).
    """
    size = path.stat().st_size
    if not size:
        return
    header = connection.read("main", 0, 0, _HEADER_BYTES)[1][:size]
    wal = beside(path, "-wal")
    has_wal = wal.exists() and wal.stat().st_size > 0
    size = path.stat().st_size  # last: a log that is gone by now has been taken over in full
    if not header.startswith(_SQLITE_MAGIC[: len(header)]):
        raise not_a_store(path, "it is not a SQLite file")
    if len(header) < _HEADER_BYTES:
        raise corrupt(path, "it ends within its header")
    page_size = int.from_bytes(header[16:18], "big")
    page_size = 65536 if page_size == 1 else page_size
    pages = int.from_bytes(header[28:32], "big")
    if size < pages * page_size and not has_wal:
        raise corrupt(
            path, f"it should hold {pages:,} pages of {page_size:,} bytes and has {size:,} bytes"
        )
