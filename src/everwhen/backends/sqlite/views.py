"""What work inside a transaction is given: a look at one moment, and a transaction that writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw

from everwhen.backends.sqlite import lookups
from everwhen.backends.sqlite.dialect import DIALECT
from everwhen.backends.sqlite.error_translation import judged, translated
from everwhen.backends.sqlite.pages import StreamNames, read_page
from everwhen.backends.sqlite.query_plan import searchable
from everwhen.backends.sqlite.segments import Segments
from everwhen.backends.sqlite.statements import statements
from everwhen.backends.sqlite.user_statements import executed, explaining, streamed
from everwhen.backends.sqlite.value_sizes import too_large
from everwhen.vocabulary.contract import Checkpoint, Page, Snapshot
from everwhen.vocabulary.query import Query

_SQL: Final = statements("writing")


class SqliteView:
    """A connection inside a transaction, so that all it reads is of one moment."""

    dialect = DIALECT

    def __init__(
        self, connection: apsw.Connection, path: Path, names: StreamNames, segments: Segments
    ) -> None:
        self._connection = connection
        self._path = path
        self._names = names
        self._segments = segments
        self._explained = explaining(path)

    def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        return executed(self._connection, sql, parameters, self._explained)

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        return streamed(self._connection, sql, self._explained)

    def checkpoint(self, name: str) -> Checkpoint | None:
        with self._judged():
            return lookups.checkpoint(self._connection, name)

    def checkpoints(self, prefix: str) -> list[Checkpoint]:
        with self._judged():
            return lookups.checkpoints(self._connection, prefix)

    def read(self, query: Query, events: int) -> Page:
        with self._judged():
            return read_page(self._connection, query, events, self._names, self._segments)

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """Each call for itself: its user may handle what it raises, inside the transaction."""
        with judged(self._path):
            try:
                yield
            except apsw.TooBigError as error:
                raise too_large(self._connection, self._path, error) or error from error


class SqliteTransaction(SqliteView):
    """The writer's connection, inside a transaction."""

    def __init__(self, connection: apsw.Connection, path: Path, segments: Segments) -> None:
        # names of its own: it sees streams that may be rolled back
        super().__init__(connection, path, StreamNames(), segments)

    def save_checkpoint(self, checkpoint: Checkpoint, *, local: bool = False) -> None:
        del local  # there is one replica
        row = (checkpoint.name, checkpoint.position, checkpoint.data)
        self._run("save_checkpoint", row)

    def delete_checkpoint(self, name: str, *, local: bool = False) -> None:
        del local
        self._run("delete_checkpoint", (searchable(name),))

    def save_snapshot(self, snapshot: Snapshot) -> None:
        row = (
            snapshot.subject,
            snapshot.position,
            snapshot.fold,
            snapshot.fold_version,
            snapshot.state,
        )
        self._run("save_snapshot", row)

    def delete_snapshots(self, subject: str, positions: Sequence[int] | None = None) -> None:
        if positions is None:
            self._run("delete_snapshots_of_subject", (subject,))
        for position in positions or ():
            self._run("delete_snapshot", (subject, position))

    def _run(self, statement: str, bounds: tuple[Any, ...]) -> None:
        with translated(self._path):
            self._connection.execute(_SQL[statement], bounds)
