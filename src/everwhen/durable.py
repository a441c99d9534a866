"""Files that are there after a power loss, and secrets that only their owner can read."""

from __future__ import annotations

import os
from typing import Final

OWNER_ONLY: Final = 0o600


def write_secret(path: str | os.PathLike[str], data: bytes, *, replaces: bool = False) -> None:
    """Write a file for its owner's eyes only, and sync it.

    Raises ``FileExistsError`` where there is one already, unless it ``replaces`` that, or another
    ``OSError``.
    """
    how = os.O_TRUNC if replaces else os.O_EXCL
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | how, OWNER_ONLY), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make a folder's own list of files durable. Raises ``OSError``."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
