"""What a replica does when somebody was forgotten elsewhere: its files keep no trace of it.

Personal data in events is encrypted, and the key is gone. What is left is what was derived from it
before: snapshots, and what was deleted in the files' gaps.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from everwhen.backends.jetstream.messages import LoggedCommit
from everwhen.backends.sqlite.engine import SqliteEngine
from everwhen.vocabulary.erasures import ERASURES


class ReplicaAlone(SqliteEngine):
    """The file of a replica, without its log."""

    is_replica = True


def record_an_erasure(commits: Iterable[LoggedCommit]) -> bool:
    """Whether one of the commits says that somebody was forgotten."""
    return any(part.stream == ERASURES for commit in commits for part in commit.slices)


def purge_beside(folder: Path, busy_timeout: float) -> None:
    """Purge the replicas of all logs beside the main one. Raises `StorageError`."""
    for path in sorted(folder.glob("*.db")):
        branch = ReplicaAlone(path, durable=False, busy_timeout=busy_timeout)
        try:
            with branch.lock.turn(), branch.lock.mutex:
                branch.purge()
                branch.empty_journal()
        finally:
            branch.close()
