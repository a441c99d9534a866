"""Making a log's schema, and seeing that it is one that this version reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from psycopg import errors

from everwhen.backends.postgres.statements import (
    PostgresSession,
    StatementFile,
    in_schema,
    quoted,
    statements,
)
from everwhen.vocabulary.errors import NewerStoreError, NotAStoreError, ReadOnlyError, StorageError

_STEPS: Final[tuple[StatementFile, ...]] = ("schema", "schema_2")
"""What makes each version of the tables out of the one before."""
VERSION: Final = len(_STEPS)
_MIN_SERVER: Final = 150_000

_TABLES: Final = {"checkpoints", "marks", "meta", "slices", "snapshots", "streams"}
_TIERS: Final = {
    "archived",
    "chunks",
    "dictionaries",
    "mover",
    "objects",
    "retired",
    "retired_commits",
    "segments",
}
"""Those that the second version adds."""
_OTHERS: Final = """
SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = %s LIMIT 1
"""
_FOUND: Final = "SELECT tablename FROM pg_tables WHERE schemaname = %s"
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('everwhen'), hashtext(%s))"


def prepare(session: PostgresSession, schema: str, place: str, *, read_only: bool) -> None:
    """Make the schema where there is none. Raises `StorageError` where it isn't a log's."""
    if session.info.server_version < _MIN_SERVER:
        raise StorageError(
            f"{place}: the server is PostgreSQL {session.info.server_version // 10_000}; Everwhen "
            f"needs 15 or newer"
        )
    ((encoding,),) = session.execute("SHOW server_encoding").fetchall()
    if encoding != "UTF8":
        raise StorageError(f"{place}: the database's encoding is {encoding}; make one with UTF8")
    if not _is_made(session, schema, place):
        if read_only:
            raise StorageError(f"{place}: there is no such log; check the schema's name")
        _make(session, schema, place)
    version = _version(session, schema, place)
    if version < VERSION and read_only:
        raise ReadOnlyError(
            f"{place}: its tables are of format {version}, and this version of Everwhen reads "
            f"format {VERSION}; open it once for writing, as the role that owns them"
        )
    if version < VERSION:
        _migrate(session, schema, place)


def drop(session: PostgresSession, schema: str) -> None:
    """Delete a log, with all that is in its schema; nothing happens where there is none."""
    session.execute(f"DROP SCHEMA IF EXISTS {quoted(schema)} CASCADE")


def exists(session: PostgresSession, schema: str) -> bool:
    """Whether there is a schema of that name."""
    found = session.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,))
    return found.fetchone() is not None


def missing_tables(session: PostgresSession, schema: str) -> set[str]:
    """Those of a log's tables that a schema hasn't."""
    return (_TABLES | _TIERS) - _found(session, schema)


def _found(session: PostgresSession, schema: str) -> set[str]:
    return {name for (name,) in session.execute(_FOUND, (schema,)).fetchall()}


def _is_made(session: PostgresSession, schema: str, place: str) -> bool:
    missing = _TABLES - _found(session, schema)
    if missing and missing != _TABLES:
        raise NotAStoreError(
            f"{place}: the schema has other tables than a log's ({', '.join(sorted(missing))} "
            f"missing); give another schema"
        )
    if missing and session.execute(_OTHERS, (schema,)).fetchone() is not None:
        raise NotAStoreError(f"{place}: the schema has other tables; give another schema")
    return not missing


def _make(session: PostgresSession, schema: str, place: str) -> None:
    with session.transaction():
        session.execute(_LOCK, (schema,))
        if not _is_made(session, schema, place):
            if not exists(session, schema):
                session.execute(f"CREATE SCHEMA {quoted(schema)}")
            _run(session, schema, _STEPS)


def _migrate(session: PostgresSession, schema: str, place: str) -> None:
    """Make the newest version of an older one's tables; whoever owns them can."""
    try:
        with session.transaction():
            session.execute(_LOCK, (schema,))
            version = _version(session, schema, place)
            _run(session, schema, _STEPS[version:])
    except errors.InsufficientPrivilege as error:
        raise ReadOnlyError(
            f"{place}: its tables are of format {version}, and this version of Everwhen writes "
            f"format {VERSION}; open it once as the role that owns them"
        ) from error


def _run(session: PostgresSession, schema: str, steps: Sequence[StatementFile]) -> None:
    for step in steps:
        for statement in statements(step, schema).values():
            session.execute(statement)


def _version(session: PostgresSession, schema: str, place: str) -> int:
    try:
        rows: list[Any] = session.execute(
            in_schema("SELECT version FROM log.meta", schema)
        ).fetchall()
    except errors.UndefinedColumn:
        rows = []
    if len(rows) != 1:
        raise NotAStoreError(f"{place}: the schema isn't a log's; give another schema")
    version = int(rows[0][0])
    if version > VERSION:
        raise NewerStoreError(
            f"{place}: made by a newer version of Everwhen (format {version}, this one knows "
            f"{VERSION}); upgrade Everwhen"
        )
    return version
