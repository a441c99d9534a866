"""Where the stores of a test are, beside the kinds that the fixture ``location`` has anyway."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

import pytest

if TYPE_CHECKING:
    from tests.postgres_server import PostgresServer

EVERYWHERE: Final = ["memory", "sqlite", "postgresql"]
everywhere = pytest.mark.parametrize("location", EVERYWHERE, indirect=True)
"""For a test that is worth it in memory, too."""


class Places:
    """Where one test makes many stores of a kind, one after the other."""

    def __init__(self, kind: str, server: PostgresServer | None) -> None:
        self.kind = kind
        self._server = server

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """Where there is no store yet; what was made there is deleted afterwards."""
        if self._server is not None:
            with self._server.schema() as url:
                yield url
        elif self.kind == "memory":
            yield "memory:"
        else:
            with tempfile.TemporaryDirectory(prefix="everwhen-test-") as folder:
                yield str(Path(folder) / "store.db")


def logs_beside(location: str) -> list[str]:
    """What a store that isn't in memory has beside its own log: a file or a schema for each."""
    if not location.startswith("postgresql:"):
        path = parse_qs(urlsplit(location).query).get("replica", [location])[0]
        found = Path(path).parent.glob("*-branches/*")
        return list({path.name.partition(".db")[0] for path in found})
    import psycopg

    url, _, schema = location.partition("?schema=")
    with psycopg.connect(url) as session:
        rows = session.execute(
            "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)", (f"{schema}.",)
        )
        return [name for (name,) in rows]


def tables_of(location: str) -> list[str]:
    """What a store in PostgreSQL has in the tables of its own log and those beside it, as text."""
    if not location.startswith("postgresql:"):
        return []
    import psycopg
    from psycopg import sql

    url, _, schema = location.partition("?schema=")
    with psycopg.connect(url) as session:
        tables = session.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE starts_with(schemaname, %s)",
            (schema,),
        ).fetchall()
        found = []
        for table in tables:
            statement = sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(*table))
            with session.cursor().copy(statement) as copy:
                found.append(b"".join(map(bytes, copy)).decode())
        return found


def save_copy(location: str, path: Path) -> Path:
    """A backup of a store that is open, with its branches: a file's, or a dump of its schemas."""
    if not location.startswith("postgresql:"):
        from everwhen import open_store

        with open_store(location, read_only=True) as store:
            store.backup(path)
        return path
    url, _, schema = location.partition("?schema=")
    _run("pg_dump", "-Fc", "-n", schema, "-n", f'"{schema}."*', "-f", path, "-d", url)
    return path


def restore(copy: Path, location: str) -> None:
    """Put the backup in the place of the store, which nobody has open."""
    if not location.startswith("postgresql:"):
        from everwhen.store import restore_store

        restore_store(copy, location, overwrite=True)
        return
    url, _, _ = location.partition("?schema=")
    _run("pg_restore", "--clean", "--if-exists", "--exit-on-error", "-d", url, copy)


def _run(program: str, *words: object) -> None:
    from tests.postgres_server import installed_programs

    command = [str(installed_programs() / program), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
