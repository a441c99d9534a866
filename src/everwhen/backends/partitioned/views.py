"""Looks and transactions beside the log: they read the partitions' events, up to one moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from everwhen.backends.engine import EngineTransaction, EngineView
from everwhen.backends.sql_dialect import SqlDialect
from everwhen.vocabulary.contract import Checkpoint, Page, Snapshot
from everwhen.vocabulary.paging import ReadPage
from everwhen.vocabulary.query import Query


class PartitionedView(EngineView):
    """A look at the state beside the log, and at the log by ``read``."""

    def __init__(self, view: EngineView, read: ReadPage) -> None:
        self._view = view
        self._read = read

    @property
    def dialect(self) -> SqlDialect:
        return self._view.dialect

    def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        return self._view.execute(sql, parameters)

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        return self._view.rows(sql)

    def checkpoint(self, name: str) -> Checkpoint | None:
        return self._view.checkpoint(name)

    def checkpoints(self, prefix: str) -> list[Checkpoint]:
        return self._view.checkpoints(prefix)

    def read(self, query: Query, events: int) -> Page:
        return self._read(query, events)


class PartitionedTransaction(PartitionedView, EngineTransaction):
    """A transaction of the state beside the log."""

    def __init__(self, transaction: EngineTransaction, read: ReadPage) -> None:
        super().__init__(transaction, read)
        self._transaction = transaction

    def save_checkpoint(self, checkpoint: Checkpoint, *, local: bool = False) -> None:
        self._transaction.save_checkpoint(checkpoint, local=local)

    def delete_checkpoint(self, name: str, *, local: bool = False) -> None:
        self._transaction.delete_checkpoint(name, local=local)

    def save_snapshot(self, snapshot: Snapshot) -> None:
        self._transaction.save_snapshot(snapshot)

    def delete_snapshots(self, subject: str, positions: Sequence[int] | None = None) -> None:
        self._transaction.delete_snapshots(subject, positions)
