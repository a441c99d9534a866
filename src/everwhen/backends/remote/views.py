"""Looks and transactions of a client: what was read is compared once more when they end.

So nobody holds a lock on the server while a client computes. Changes are gathered and sent in one
request, which takes effect if everything that was read is still so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

from everwhen.backends.remote.messages import (
    DeleteCheckpoint,
    DeleteSnapshots,
    SaveCheckpoint,
    SaveSnapshot,
    Seen,
    SideChange,
    digest_of,
)
from everwhen.backends.sql_dialect import SqlDialect
from everwhen.vocabulary.contract import Checkpoint, Page, Snapshot
from everwhen.vocabulary.errors import UnsupportedError
from everwhen.vocabulary.query import Query

NO_SQL: Final = (
    "a store over HTTP has no SQL in its transactions and no tables of its own; run the projection "
    "where the store is, or keep its rows in memory"
)


class _Log(Protocol):
    """What is looked at: a client's engine."""

    def checkpoint(self, name: str) -> Checkpoint | None: ...

    def checkpoints_with(self, prefix: str) -> list[Checkpoint]: ...

    def read(self, query: Query, events: int) -> Page: ...


class ClientView:
    """A look at a store, which knows what it has seen."""

    def __init__(self, log: _Log) -> None:
        self._log = log
        self._names: dict[str, Checkpoint | None] = {}
        self._prefixes: dict[str, list[Checkpoint]] = {}

    @property
    def seen(self) -> list[Seen]:
        """What was read of the checkpoints."""
        return [
            *(Seen("name", name, digest_of(found)) for name, found in self._names.items()),
            *(Seen("prefix", text, digest_of(found)) for text, found in self._prefixes.items()),
        ]

    @property
    def dialect(self) -> SqlDialect:
        raise UnsupportedError(NO_SQL)

    def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[tuple[Any, ...]]:
        del sql, parameters
        raise UnsupportedError(NO_SQL)

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        del sql
        raise UnsupportedError(NO_SQL)

    def checkpoint(self, name: str) -> Checkpoint | None:
        if name not in self._names:
            self._names[name] = self._log.checkpoint(name)
        return self._names[name]

    def checkpoints(self, prefix: str) -> list[Checkpoint]:
        if prefix not in self._prefixes:
            self._prefixes[prefix] = self._log.checkpoints_with(prefix)
        return self._prefixes[prefix]

    def read(self, query: Query, events: int) -> Page:
        """A page; the log only grows, so it stays true."""
        return self._log.read(query, events)


class ClientTransaction(ClientView):
    """Changes that are sent together at the end."""

    def __init__(self, log: _Log) -> None:
        super().__init__(log)
        self.changes: list[SideChange] = []
        self._written: dict[str, Checkpoint | None] = {}

    def checkpoint(self, name: str) -> Checkpoint | None:
        return self._written[name] if name in self._written else super().checkpoint(name)

    def checkpoints(self, prefix: str) -> list[Checkpoint]:
        found = {checkpoint.name: checkpoint for checkpoint in super().checkpoints(prefix)}
        for name, written in self._written.items():
            if name.startswith(prefix):
                found.pop(name, None)
                if written is not None:
                    found[name] = written
        return [found[name] for name in sorted(found)]

    def save_checkpoint(self, checkpoint: Checkpoint, *, local: bool = False) -> None:
        self._written[checkpoint.name] = checkpoint
        self.changes.append(SaveCheckpoint(checkpoint, local))

    def delete_checkpoint(self, name: str, *, local: bool = False) -> None:
        self._written[name] = None
        self.changes.append(DeleteCheckpoint(name, local))

    def save_snapshot(self, snapshot: Snapshot) -> None:
        self.changes.append(SaveSnapshot(snapshot))

    def delete_snapshots(self, subject: str, positions: Sequence[int] | None = None) -> None:
        positions = None if positions is None else [p for p in positions if 0 <= p < 1 << 63]
        self.changes.append(DeleteSnapshots(subject, positions))
