"""Copies of SQLite files: made aside, proven, and only then given their name.

SQLite itself copies, page by page, from one read transaction that is held for as long as it takes.
So writers are never held up, however many there are, and nothing that they write makes the copying
begin anew, as it would without that transaction. The price is that the write-ahead log grows
meanwhile by what is written. ``VACUUM INTO`` reads from one moment, too, but builds every index
again and can't say how far it has come.

Nothing here opens a database file but through SQLite: to close one that was opened otherwise drops
the locks that this process holds on it (POSIX).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from everwhen.system.durable_files import sync_file, sync_folder
from everwhen.vocabulary.errors import BackupError, BusyError, ReadOnlyError

if TYPE_CHECKING:
    import apsw

_PAGES_PER_STEP: Final = 256
"""After that many pages of a copy progress is reported: a megabyte, some milliseconds."""

_STEPS_PER_CALL: Final = 50_000
"""After that many steps of SQLite's a check reports progress, and may be interrupted."""

_BESIDE: Final = ("-wal", "-shm", "-journal")


class BackupProgress(msgspec.Struct, frozen=True):
    """How far a backup or a restore has come, in bytes. ``total`` is None while it checks."""

    stage: Literal["copying", "checking"]
    done: int
    total: int | None


class BackupReport(msgspec.Struct, frozen=True):
    """What a backup holds: the store up to a position, and the files of ``branches`` branches.

    ``logs`` is how many signed logs went along: none where none lies beside the store.
    """

    path: str
    position: int
    recorded_at: datetime | None
    branches: int
    bytes: int
    logs: int = 0


class BackupTask(msgspec.Struct, frozen=True):
    """What a backend is to do. ``path`` is that of the copy, ``overwrite`` replaces what is there.

    ``logs`` says which Merkle logs go along, from the folders beside the files: none, all, or those
    that the destination has none of. ``before`` is called when the store's moment is settled and
    its copies are proven, before they take their names.
    """

    path: str
    overwrite: bool = False
    logs: Literal["none", "all", "missing"] = "none"
    before: Callable[[], None] | None = None


BackupListener = Callable[[BackupProgress], None]
"""Called with how far a backup has come, now and then. What it raises ends the backup."""


def destination(given: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """The place of a copy, with links resolved. Raises `BackupError` where none can be made."""
    path = Path(given).resolve()
    if path.is_dir():
        raise BackupError(str(given), "this is a folder; name a file in it")
    if not path.parent.is_dir():
        raise BackupError(str(given), f"the folder {path.parent} is missing; make it first")
    if path.exists():
        if not path.is_file():
            raise BackupError(str(given), "this is not an ordinary file; name another")
        if not overwrite:
            raise BackupError(
                str(given),
                "it already exists; give another name, or overwrite it (--overwrite)",
                True,
            )
    return path


def check_apart(given: str | os.PathLike[str], *needed: str | os.PathLike[str] | None) -> None:
    """Raises `BackupError` for a path that is one of these, whatever links lead there."""
    path = Path(given).resolve()
    for file in needed:
        if file is not None and is_same(path, Path(file)):
            raise BackupError(str(given), f"{file} is needed as it is; name another file")


def is_same(path: Path, other: Path) -> bool:
    """Whether both lead to the same file, or to the same place for one."""
    try:
        return path.resolve() == other.resolve() or path.samefile(other)
    except OSError:
        return False


@contextmanager
def workplace(final: Path) -> Iterator[Path]:
    """An empty folder beside the destination, for its owner's eyes only, and gone afterwards.

    What a killed process has left in it is deleted. Raises `BusyError` while another one is at
    work there, and `BackupError` where no folder can be made.
    """
    folder = final.with_name(f".{final.name}.everwhen-partial")
    with _explained(final):
        descriptor = _held(folder, final)
        try:
            _empty(folder)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


def _held(folder: Path, final: Path) -> int:
    """The folder's descriptor, locked: a lock that ends with its process, however that ends."""
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                return descriptor
        except FileNotFoundError:  # another one has just ended, and taken the folder with it
            pass
        except BlockingIOError:
            os.close(descriptor)
            raise BusyError(
                f"{final}: another backup or restore to it is at work; wait for its end"
            ) from None
        os.close(descriptor)


def _empty(folder: Path) -> None:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            Path(entry.path).unlink()


@contextmanager
def _explained(final: Path) -> Iterator[None]:
    """Turns the system's errors into ours, naming the destination."""
    try:
        yield
    except PermissionError as error:
        raise ReadOnlyError(
            f"{final}: can't be written ({error}); check the permissions of its folder"
        ) from error
    except OSError as error:
        raise BackupError(
            str(final), f"it can't be written: {error.strerror or error}; see to the disk"
        ) from error


def copy_pages(
    source: apsw.Connection,
    target: Path,
    progress: Callable[[int], None],
    vfs: str | None = None,
) -> None:
    """Copy what the source's open read transaction sees into a new file, and sync that.

    ``progress`` is called with the bytes copied so far. Raises ``apsw.Error``, and what it raises.
    """
    import apsw

    from everwhen.system.sqlite_connection import connect

    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    page_size = source.pragma("page_size")
    connection = connect(target, "write", busy_timeout=0, largest_bytes=None, vfs=vfs)
    try:
        # Nothing has to be rolled back in a file that nobody knows; it is synced as a whole.
        connection.pragma("locking_mode", "exclusive")
        connection.pragma("journal_mode", "off")
        connection.pragma("synchronous", "off")
        with connection.backup("main", source, "main") as copying:
            while not copying.done:
                copying.step(_PAGES_PER_STEP)
                progress((copying.page_count - copying.remaining) * page_size)
        # A single file, which can be read where nothing can be made beside it.
        if connection.pragma("journal_mode", "delete") != "delete":
            raise apsw.IOError(f"{target} can't be made a single file")
    finally:
        connection.close()
    sync_file(target)


def opened_copy(
    copy: Path, progress: Callable[[], None], vfs: str | None = None
) -> apsw.Connection:
    """A connection to a copy that reads from its file, and makes none beside it.

    ``progress`` is called now and then while it works; what it raises stops it.
    """
    from everwhen.system.sqlite_connection import connect

    connection = connect(copy, "immutable", busy_timeout=0, largest_bytes=None, vfs=vfs)

    def go_on() -> bool:
        progress()
        return False

    connection.set_progress_handler(go_on, _STEPS_PER_CALL)
    return connection


@contextmanager
def taken(path: Path, aside: Path) -> Iterator[apsw.Connection | None]:
    """Nobody else has the file open until the block ends, and nothing is left beside it.

    A write-ahead log that lies beside a file that has been replaced would be read into the new one,
    and damage it. So it is taken into the old file first; where that is damaged or gone, it goes
    ``aside``. Yields the connection that holds the file, None for a damaged one or for none. Raises
    `BusyError` where somebody has it open.
    """
    import apsw

    if not path.exists():
        _clear_beside(path, aside)
        yield None
        return
    try:
        connection = _exclusive(path)
    except apsw.BusyError as error:
        raise BusyError(
            f"{path}: it is open, here or in another process, and is not replaced under its users; "
            f"close it there first"
        ) from error
    except (apsw.ReadOnlyError, apsw.CantOpenError, apsw.PermissionsError) as error:
        raise ReadOnlyError(
            f"{path}: can't be replaced ({error}); check the permissions of the file and its folder"
        ) from error
    except apsw.Error:
        with _damaged_taken(path):
            _clear_beside(path, aside)
            yield None
        return
    try:
        _clear_beside(path, aside)
        yield connection
    finally:
        connection.close()


def _exclusive(path: Path) -> apsw.Connection:
    """A connection beside which there is no other, and no write-ahead log."""
    from everwhen.system.sqlite_connection import connect

    connection = connect(path, "write", busy_timeout=0, largest_bytes=None)
    try:
        connection.pragma("locking_mode", "exclusive")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        connection.pragma("journal_mode", "delete")
        connection.execute("BEGIN EXCLUSIVE")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _damaged_taken(path: Path) -> Iterator[None]:
    """Holds the lock of a file that SQLite can't read, without reading it."""
    import apsw

    flags = [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READWRITE, 0]
    file = apsw.VFSFile("", str(path), flags)
    try:
        try:
            file.xLock(apsw.SQLITE_LOCK_SHARED)
            file.xLock(apsw.SQLITE_LOCK_EXCLUSIVE)
        except apsw.BusyError as error:
            raise BusyError(f"{path}: it is open elsewhere; close it there first") from error
        yield
        file.xUnlock(apsw.SQLITE_LOCK_NONE)
    finally:
        file.xClose()


def _clear_beside(path: Path, aside: Path) -> None:
    for suffix in _BESIDE:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(aside / f"replaced-{path.name}{suffix}")


def left_beside(path: Path) -> Path | None:
    """What SQLite has left beside a file that is gone; None where there is nothing."""
    left = (Path(f"{path}{suffix}") for suffix in _BESIDE)
    return next((file for file in left if file.exists()), None)


def place(copy: Path, target: Path, like: Path) -> None:
    """Give a copy its name, and the permissions of the file that it is like."""
    copy.chmod(like.stat().st_mode & 0o777)
    copy.replace(target)
    sync_folder(target.parent)
