"""Putting a backup back in a store's place."""

from __future__ import annotations

import os

from everwhen.backends._async.embedded import EmbeddedBackend
from everwhen.backends.locations import check_file, engine_for
from everwhen.system.file_backups import BackupListener, BackupReport, BackupTask
from everwhen.vocabulary.clock import system_clock


async def restore_store(
    backup: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: BackupListener | None = None,
) -> BackupReport:
    """Copy a backup, with its branches, to where the store is to be.

    It is checked first, and appears at ``path`` as a whole or not at all. With ``overwrite`` it
    replaces the store that is there, and what SQLite has left beside that, unless somebody has it
    open. A Merkle log beside the backup is put in place where there is none; one that is there
    stays, for it knows what has come after the backup.

    Raises `NotAStoreError` or `CorruptStoreError` where the backup is of no use, `BackupError` for
    a place that can't be used, such as a URL, `BusyError` where the store is open, or another
    `StorageError`.
    """
    check_file(path)
    engine = engine_for(backup, clock=system_clock, read_only=True, durable=True, busy_timeout=30.0)
    backend = EmbeddedBackend(engine)
    try:
        return await backend.backup(
            BackupTask(os.fspath(path), overwrite, logs="missing"), progress
        )
    finally:
        await backend.close()
