"""Files that are there after a power loss, whole or not at all, and secrets of their owner."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

OWNER_ONLY_MODE: Final = 0o600
"""The owner may read and write, nobody else may do anything."""
_DESCRIPTORS: Final = "/proc/self/fd"
_NO_SUCH_FILES: Final = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class NewFile:
    """A file that gets its name once it is complete, or else leaves nothing.

    Where the system can, it has no name at all until then, so that even a killed process leaves
    nothing; elsewhere it is a ``.partial`` beside its place. Raises ``OSError``.
    """

    def __init__(self, path: Path, *, mode: int = 0o666) -> None:
        self._path = path
        self._beside = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.partial")
        descriptor = _unnamed(path.parent, mode)
        self._is_named = descriptor is None
        if descriptor is None:
            descriptor = os.open(self._beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        self.file: BinaryIO = os.fdopen(descriptor, "wb")

    def finish(self, *, replaces: bool) -> None:
        """Sync the file and name it. Raises ``FileExistsError`` unless it may replace another."""
        self.file.flush()
        os.fsync(self.file.fileno())
        try:
            self._name(replaces=replaces)
        finally:
            self.abandon()
        sync_folder(self._path.parent)

    def _name(self, *, replaces: bool) -> None:
        if replaces and (self._is_named or self._path.exists()):
            if not self._is_named:
                self._link(self._beside)
                self._is_named = True
            self._beside.replace(self._path)
        else:
            self._link(self._path)

    def _link(self, path: Path) -> None:
        if self._is_named:
            try:
                os.link(self._beside, path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY_MODE))
                self._beside.replace(path)
            return
        with _folder(self._path.parent) as folder:  # given one, Python follows the link
            os.link(
                f"{_DESCRIPTORS}/{self.file.fileno()}",
                path,
                src_dir_fd=folder,
                follow_symlinks=True,
            )

    def abandon(self) -> None:
        """Leave nothing half-written; after ``finish`` it does nothing."""
        with contextlib.suppress(OSError):
            self.file.close()
        if self._is_named:
            with contextlib.suppress(OSError):
                self._beside.unlink(missing_ok=True)


def write_secret(path: str | os.PathLike[str], data: bytes, *, replaces: bool = False) -> None:
    """Write a file for its owner's eyes only, whole or not at all, and sync it.

    Raises ``FileExistsError`` where there is one already with anything in it, unless it
    ``replaces`` that, or another ``OSError``. No symbolic link is replaced, nor followed: either
    would leave another secret under one of the two names.
    """
    with contextlib.suppress(FileNotFoundError):
        found = os.lstat(path)
        if not replaces and not (stat.S_ISREG(found.st_mode) and not found.st_size):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(path))
        if stat.S_ISLNK(found.st_mode):
            raise OSError(
                errno.ELOOP, "it is a symbolic link; name the file that it leads to", path
            )
        replaces = True
    new = NewFile(Path(path), mode=OWNER_ONLY_MODE)
    try:
        new.file.write(data)
        new.finish(replaces=replaces)
    finally:
        new.abandon()


def state_folder() -> Path:
    """Where the user's own state is kept, apart from data. Raises ``RuntimeError`` without a home.

    It is ``everwhen`` in ``$XDG_STATE_HOME``, or else in ``~/.local/state``; it need not be there.
    """
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    if given.is_absolute():  # the specification has others ignored
        return given / "everwhen"
    return Path.home() / ".local" / "state" / "everwhen"


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make a folder's own list of files durable. Raises ``OSError``."""
    with _folder(folder) as descriptor:
        os.fsync(descriptor)


@contextlib.contextmanager
def _folder(folder: str | os.PathLike[str]) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _unnamed(folder: Path, mode: int) -> int | None:
    """A file without a name; None where the system or the file system has no such."""
    how = getattr(os, "O_TMPFILE", None)
    if how is None or not Path(_DESCRIPTORS).is_dir():
        return None
    try:
        return os.open(folder, os.O_WRONLY | how, mode)
    except OSError as error:
        if error.errno in _NO_SUCH_FILES and folder.is_dir():
            return None
        raise


def sync_file(path: str | os.PathLike[str]) -> None:
    """Make a file's content durable. Raises ``OSError``. No SQLite file that is open here."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked_folder(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the file ``lock`` in a folder, one at a time over threads and processes.

    Raises ``OSError``.
    """
    descriptor = os.open(Path(folder, "lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
