"""The files and folders of a store: making, deleting, and whether there is room for more."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path

from everwhen.backends.sqlite.error_translation import not_writable
from everwhen.system.durable_files import sync_folder
from everwhen.vocabulary.errors import StorageError, StorageFullError


def check_room(path: Path, size: int, folder: Path | None = None) -> None:
    """Raises `StorageFullError` where that many bytes more find no room beside the file.

    ``folder`` is where they are written, if it is elsewhere.
    """
    folder = path.parent if folder is None else folder
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, max(size, 1))
    except PermissionError as error:
        raise not_writable(path, str(error)) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageError(f"{path}: no file can be made beside it ({error})") from error
        raise StorageFullError(
            f"{path}: this takes {size:,} bytes in {folder}, {_missing(folder, size):,} more than "
            f"are free there; free some and try again, nothing was changed"
        ) from error


def _missing(folder: Path, size: int) -> int:
    """How many bytes more than are free; at least one, for it was tried."""
    with contextlib.suppress(OSError):
        return max(1, size - shutil.disk_usage(folder).free)
    return size


def temporary_folder() -> Path:
    """Where SQLite writes what it needs for a while."""
    named = [os.environ.get(name) for name in ("SQLITE_TMPDIR", "TMPDIR")]
    for folder in (*filter(None, named), "/var/tmp", "/usr/tmp", "/tmp"):  # noqa: S108  its own list
        if Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK):
            return Path(folder)
    return Path(tempfile.gettempdir())


def make_folder(folder: Path) -> None:
    """Make the folder, so that it is there after a power loss too. Raises `StorageError`."""
    try:
        folder.mkdir(exist_ok=True)
        if os.name == "posix":
            sync_folder(folder.parent)
    except PermissionError as error:
        raise not_writable(folder, str(error)) from error
    except OSError as error:
        raise StorageError(
            f"{folder}: can't be made ({error}); check that nothing else has that name"
        ) from error


def remove(path: Path) -> None:
    """Delete the file and what SQLite keeps beside it. Raises `StorageError`."""
    try:
        for suffix in ("", "-wal", "-shm"):
            beside(path, suffix).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path}: can't be deleted ({error}); delete it by hand, nothing refers to it any more"
        ) from error


def beside(path: Path, suffix: str) -> Path:
    """The file that SQLite keeps beside it under this suffix, such as ``-wal``."""
    return path.with_name(path.name + suffix)
