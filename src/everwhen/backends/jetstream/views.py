"""A transaction on a replica: checkpoints go into the log, and all else stays here."""

from __future__ import annotations

from pathlib import Path

import apsw

from everwhen.backends.jetstream.messages import LoggedCheckpoint
from everwhen.backends.sqlite.segments import Segments
from everwhen.backends.sqlite.views import SqliteTransaction
from everwhen.vocabulary.contract import Checkpoint


class ReplicaTransaction(SqliteTransaction):
    """Remembers what it changed of the checkpoints that all replicas share, and looked at."""

    def __init__(self, connection: apsw.Connection, path: Path, segments: Segments) -> None:
        super().__init__(connection, path, segments)
        self.shared: dict[str, LoggedCheckpoint] = {}
        self._asked: set[str] = set()
        self._prefixes: set[str] = set()

    def checkpoint(self, name: str) -> Checkpoint | None:
        self._asked.add(name)
        return super().checkpoint(name)

    def checkpoints(self, prefix: str) -> list[Checkpoint]:
        self._prefixes.add(prefix)
        return super().checkpoints(prefix)

    def save_checkpoint(self, checkpoint: Checkpoint, *, local: bool = False) -> None:
        super().save_checkpoint(checkpoint, local=local)
        if not local:
            name = checkpoint.name
            self.shared[name] = LoggedCheckpoint(name, checkpoint.position, checkpoint.data)

    def delete_checkpoint(self, name: str, *, local: bool = False) -> None:
        super().delete_checkpoint(name, local=local)
        if not local:
            self.shared[name] = LoggedCheckpoint(name, None)

    def rests_on(self, name: str) -> bool:
        """Whether it would be another one if that checkpoint were another one."""
        return name in self.shared or name in self._asked or name.startswith(tuple(self._prefixes))
