"""Looks at a branch and changes to it, inside the own log's transactions.

They read the branch's events, by ``read``; checkpoints and read models are the own log's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from everwhen.backends.engine import EngineTransaction, EngineView, Inline
from everwhen.backends.sql_dialect import SqlDialect
from everwhen.branches.joined_snapshots import deleted
from everwhen.vocabulary.contract import Checkpoint, Page, Snapshot
from everwhen.vocabulary.errors import StatementError
from everwhen.vocabulary.paging import ReadPage
from everwhen.vocabulary.query import Query


class BranchView(EngineView):
    """A look at the own log, which shows the branch's events."""

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


class UnwrittenView(BranchView):
    """A look at a branch that has no own log yet, by one at its parent."""

    def __init__(self, view: EngineView, read: ReadPage, *, has_sql: bool) -> None:
        super().__init__(view, read)
        self._has_sql = has_sql

    def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        if not self._has_sql:
            return self._view.execute(sql, parameters)  # which says so
        raise StatementError(
            f"the branch has no read models yet; let a runner make them first: {sql}"
        )

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        return iter(self.execute(sql))

    def checkpoint(self, name: str) -> Checkpoint | None:
        del name
        return None

    def checkpoints(self, prefix: str) -> list[Checkpoint]:
        del prefix
        return []


class BranchChanges(BranchView, EngineTransaction):
    """A transaction of the own log; what it deletes of the parent's snapshots is gone from here.

    ``fork`` is the position that the branch forks off at.
    """

    def __init__(self, transaction: EngineTransaction, read: ReadPage, fork: int) -> None:
        super().__init__(transaction, read)
        self._transaction = transaction
        self._fork = fork

    def save_checkpoint(self, checkpoint: Checkpoint, *, local: bool = False) -> None:
        self._transaction.save_checkpoint(checkpoint, local=local)

    def delete_checkpoint(self, name: str, *, local: bool = False) -> None:
        self._transaction.delete_checkpoint(name, local=local)

    def save_snapshot(self, snapshot: Snapshot) -> None:
        self._transaction.save_snapshot(snapshot)

    def delete_snapshots(self, subject: str, positions: Sequence[int] | None = None) -> None:
        self._transaction.delete_snapshots(subject, positions)
        for gone in deleted(subject, positions, self._fork):
            self._transaction.save_snapshot(gone)


class BranchInline(msgspec.Struct, frozen=True):
    """What runs in each append's transaction on the own log. Equal to another of the same."""

    inline: Inline
    changes: Callable[[EngineTransaction], BranchChanges]

    def __call__(self, transaction: EngineTransaction) -> None:
        self.inline(self.changes(transaction))
