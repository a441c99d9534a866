"""The file: opening it, telling what it is, bringing it up to date, and naming what went wrong."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import apsw
import msgspec

from everwhen.backends.sqlite.schema_check import SchemaDifference, schema_differences
from everwhen.system.durable_files import sync_folder
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.contract import MAX_KEPT_BYTES, MAX_NAME_BYTES, MAX_STORED_BYTES
from everwhen.vocabulary.errors import (
    BusyError,
    CorruptStoreError,
    EverwhenError,
    NewerStoreError,
    NotAStoreError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
)

MAX_STORED_NAME_BYTES: Final = 64 << 10
"""More than any name of a checkpoint, or of what a snapshot is of, takes."""

LOG_BYTES: Final = 16 << 20
"""What is left of the write-ahead log when it begins anew after a reader kept it from doing so."""

_Connection = TypeVar("_Connection", bound=apsw.Connection)

APPLICATION_ID: Final = 0x45766572  # "Ever", the mark of our files in SQLite's header
_MIGRATION: Final = re.compile(r"(\d{4})_\w+\.sql")
_SQLITE_MAGIC: Final = b"SQLite format 3\x00"


@lru_cache(1)
def migrations() -> list[tuple[int, str]]:
    """Every schema change as (version, SQL), in order; the last version is the current one."""
    found = [
        (int(match[1]), entry.read_text("utf-8"))
        for entry in (resources.files("everwhen.backends.sqlite") / "migrations").iterdir()
        if (match := _MIGRATION.fullmatch(entry.name))
    ]
    return sorted(found)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns SQLite's errors into ours, naming the file."""
    try:
        yield
    except apsw.Error as error:
        raise translation(error, path) from error


@contextmanager
def reached(path: Path) -> Iterator[None]:
    """The same, and the system's errors too: not for around other people's code."""
    with translated(path):
        try:
            yield
        except OSError as error:
            if is_interrupt(error):
                raise
            if isinstance(error, PermissionError):
                raise _read_only(path, _words_of(error)) from error
            raise StorageError(f"{path}: the system reports {_words_of(error)}") from error


@contextmanager
def judged(path: Path) -> Iterator[None]:
    """The same around what only works with stored values: they are at fault for what else fails."""
    with reached(path):
        try:
            yield
        except _NONSENSE as error:
            if is_interrupt(error):
                raise
            raise _corrupt(path, f"a stored value makes no sense: {error}") from error


_NONSENSE: Final = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    msgspec.MsgspecError,
)


def _words_of(error: OSError) -> str:
    return f"{error.strerror or error}" + (f" at {error.filename}" if error.filename else "")


def translation(error: apsw.Error, path: Path) -> EverwhenError:
    """SQLite's error as one of ours, naming the file and the mend."""
    match error:
        case apsw.BusyError() | apsw.LockedError():
            return BusyError(
                f"{path}: another process held the write lock for too long; find out who writes, "
                f"or open the store with a larger busy_timeout"
            )
        case apsw.FullError():
            return StorageFullError(
                f"{path}: no space left to write; free some and try again, "
                f"everything acknowledged before is safe"
            )
        case apsw.ReadOnlyError() | apsw.PermissionsError():
            return _read_only(path, str(error))
        case apsw.NotADBError():
            return _not_a_store(path, "it is not a SQLite file")
        case apsw.CorruptError():
            return _corrupt(path, str(error))
        case apsw.SQLError() if str(error).startswith(("no such column", "no such table")):
            return _corrupt(path, f"its tables are not those that Everwhen makes: {error}")
        case apsw.TooBigError():
            return _corrupt(path, "a value is larger than any that a store writes; see check()")
        case apsw.CantOpenError():
            if path.parent.is_dir() and not os.access(path.parent, os.W_OK):
                return _read_only(path, "its folder can't be written to")
            return StorageError(
                f"{path}: can't be opened ({error}); check that the folder exists and may be used, "
                f"and that this process has not too many files open (ulimit -n)"
            )
        case _:
            return StorageError(f"{path}: SQLite reports {type(error).__name__}: {error}")


def _read_only(path: Path, why: str) -> ReadOnlyError:
    return ReadOnlyError(
        f"{path}: can't be written to ({why}); check the permissions of the file and its folder, "
        f"or open it with read_only=True"
    )


def _not_a_store(path: Path, why: str) -> NotAStoreError:
    return NotAStoreError(f"{path}: not an Everwhen store, {why}; give another path")


def _corrupt(path: Path, why: str) -> CorruptStoreError:
    return CorruptStoreError(
        f"{path}: the file is damaged ({why}); keep a copy of it, and restore it from a backup"
    )


def open_connection(
    path: Path, *, read_only: bool, busy_timeout: float, vfs: str | None = None
) -> apsw.Connection:
    """A connection to an existing or, unless read-only, a new file.

    Beside a file that nobody has open, SQLite makes two others, even to read it. Where that can't
    be done, for want of permission or of space, the connection is an `Immutable` one.
    """
    if path.is_dir():
        raise _not_a_store(path, "it is a folder")
    flags = apsw.SQLITE_OPEN_READONLY
    if not read_only:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    flags |= apsw.SQLITE_OPEN_NOMUTEX | apsw.SQLITE_OPEN_URI
    name = path.resolve().as_uri()
    if not read_only:
        return _bounded(apsw.Connection(name, flags, vfs), busy_timeout)
    waits = patience(min(busy_timeout, OPENING_SECONDS))
    for attempt in itertools.count():
        try:
            return _reading_connection(path, name, flags, busy_timeout, vfs)
        except (apsw.CantOpenError, apsw.ReadOnlyError):
            if not _beside(path.resolve(), "-wal").exists() or not waits(attempt):
                raise
    raise AssertionError  # pragma: no cover (it counts for ever)


def _bounded(connection: _Connection, busy_timeout: float) -> _Connection:
    """The connection, with bounds on how long it waits and how large a value is that it reads."""
    connection.set_busy_handler(patience(busy_timeout))
    connection.limit(apsw.SQLITE_LIMIT_LENGTH, MAX_KEPT_BYTES + MAX_STORED_NAME_BYTES)
    return connection


OPENING_SECONDS: Final = 1.0
"""How long a writer that opens or closes the file may leave a log there that can't be read yet."""


def _reading_connection(
    path: Path, name: str, flags: int, busy_timeout: float, vfs: str | None
) -> apsw.Connection:
    connection = _bounded(apsw.Connection(name, flags, vfs), busy_timeout)
    try:
        connection.pragma("schema_version")
    except (apsw.CantOpenError, apsw.IOError, apsw.FullError, apsw.ReadOnlyError):
        connection.close()
        try:
            seen = _settled(path)
        except OSError:
            seen = None
        if seen is None:
            raise
        immutable = Immutable(f"{name}?immutable=1", flags, vfs)
        immutable.file, immutable.seen = path, seen
        return _bounded(immutable, busy_timeout)
    except apsw.Error:  # told by whoever reads what is wrong with the file
        return connection
    return connection


@contextmanager
def limited(connection: apsw.Connection, most: int = MAX_STORED_BYTES) -> Iterator[None]:
    """Reads no value of the file that is larger; unless said, than any slice that is written."""
    limit = connection.limit(apsw.SQLITE_LIMIT_LENGTH, most)
    try:
        yield
    finally:
        with contextlib.suppress(apsw.ConnectionClosedError):  # by an interrupt, before this ended
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, limit)


def too_large(connection: apsw.Connection, path: Path, error: Exception) -> EverwhenError | None:
    """What is to be said where a value is so large that SQLite refused to read it."""
    if not isinstance(error, apsw.TooBigError):
        return None
    found = next(oversized(connection), None)
    if found is None:
        return None
    where, size, limit = found
    return _corrupt(path, f"{size:,} bytes at {where}: no store writes more than {limit:,} there")


def oversized(connection: apsw.Connection) -> Iterator[tuple[str, int, int]]:
    """Where values are larger than any that is written, with their sizes and the limits.

    None of them is read: a value's size stands before it.
    """
    for of, sql, limit in _SIZES:
        for key, size in connection.execute(f"{sql} WHERE size > {limit}"):
            yield f"{of} {key}", size, limit


def _sized(table: str, key: str, *columns: str) -> str:
    size = " + ".join(f"coalesce(octet_length({name}), 0)" for name in columns)
    return f"SELECT {key}, {size} AS size FROM {table}"


_ROW: Final = "CASE WHEN octet_length(name) > 512 THEN '' ELSE quote(name) END"
_SIZES: Final = (
    ("position", _sized("slices", "position", "body", "metadata"), MAX_STORED_BYTES),
    ("position", _sized("slices", "position", "commit_id"), MAX_STORED_BYTES),
    ("the name of stream", _sized("streams", "id", "name"), MAX_NAME_BYTES),
    ("the name of term", _sized("terms", "id", "name"), MAX_NAME_BYTES),
    (
        "the name of a checkpoint at position",
        _sized("checkpoints", "position", "name"),
        MAX_STORED_NAME_BYTES,
    ),
    ("checkpoint", _sized("checkpoints", _ROW, "data"), MAX_KEPT_BYTES),
    (
        "the name of a snapshot at position",
        _sized("snapshots", "position", "subject", "fold"),
        MAX_STORED_NAME_BYTES,
    ),
    ("the snapshot at position", _sized("snapshots", "position", "state"), MAX_KEPT_BYTES),
)


class Immutable(apsw.Connection):
    """A connection that takes no locks: it is only right as long as nobody writes to the file."""

    file: Path
    seen: _Seen

    @property
    def is_outdated(self) -> bool:
        """Whether the file has changed, so that what was read of it may be old, or torn."""
        try:
            return _seen(self.file) != self.seen
        except OSError:  # it is gone, or out of reach
            return True


def is_outdated(connection: apsw.Connection) -> bool:
    """Whether the connection is an immutable one of a file that has changed."""
    return isinstance(connection, Immutable) and connection.is_outdated


_Seen: TypeAlias = tuple[int, int, int, int]
_TICK_SECONDS: Final = 0.05  # what files' times are rounded to, at most


def _seen(path: Path) -> _Seen:
    """What tells one state of the file from another: a writer's log appears before all else."""
    try:
        log = _beside(path.resolve(), "-wal").stat().st_size
    except FileNotFoundError:
        log = 0
    file = path.stat()
    return file.st_ino, file.st_size, file.st_mtime_ns, log


def _settled(path: Path) -> _Seen | None:
    """What the file looks like, where all that was written is in it; None where it isn't.

    Two writes within one tick of the clock leave the same time, so that tick is waited for.
    """
    while (seen := _seen(path))[3] == 0:
        age = time.time() - seen[2] / 1e9
        if not 0 <= age < _TICK_SECONDS:
            return seen
        time.sleep(_TICK_SECONDS - age)
    return None


def patience(seconds: float) -> Callable[[int], bool]:
    """Waits for a lock with short sleeps: SQLite's own grow to 100 ms and starve many writers."""
    began = 0.0

    def wait(attempts: int) -> bool:
        nonlocal began
        now = time.monotonic()
        if attempts == 0:
            began = now
        elif now - began > seconds:
            return False
        time.sleep(min(0.0002 * (attempts + 1), 0.005))
        return True

    return wait


def prepare(
    connection: apsw.Connection,
    path: Path,
    *,
    read_only: bool,
    durable: bool,
    busy_timeout: float,
) -> None:
    """Checks that the file is a store and makes or migrates its schema.

    Raises `NotAStoreError`, `NewerStoreError` or `CorruptStoreError`.
    """
    _check_header(connection, path)
    version = _schema_version(connection, path)
    steps = migrations()
    latest = steps[-1][0]
    if version > latest:
        raise NewerStoreError(
            f"{path}: has schema version {version}, this Everwhen knows versions up to {latest}; "
            f"upgrade Everwhen"
        )
    if read_only:
        if version < latest:
            raise NotAStoreError(
                f"{path}: has schema version {version} and needs {latest}; "
                f"open it once for writing to bring it up to date"
            )
        return
    if connection.readonly("main"):  # SQLite falls back to this without a word
        raise _read_only(path, "the file is read-only")
    _use_wal(connection, busy_timeout)
    connection.execute(f"PRAGMA synchronous = {'full' if durable else 'normal'}")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    if version < latest:
        migrate(connection, steps)


def _use_wal(connection: apsw.Connection, busy_timeout: float) -> None:
    """Write-ahead logging; SQLite doesn't wait by itself while another opener switches it on."""
    waits = patience(busy_timeout)
    for attempt in itertools.count():
        try:
            connection.execute("PRAGMA journal_mode = wal")
        except apsw.BusyError:
            if not waits(attempt):
                raise
        else:
            return


def migrate(connection: apsw.Connection, steps: list[tuple[int, str]]) -> None:
    """Runs the steps that are still missing, all in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        present = connection.pragma("user_version")
        for version, sql in steps:
            if version > present:
                connection.execute(sql)
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", max(present, steps[-1][0]))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _schema_version(connection: apsw.Connection, path: Path) -> int:
    connection.execute("BEGIN")  # one snapshot: another process may be making the schema right now
    try:
        application = connection.pragma("application_id")
        version = connection.pragma("user_version")
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
        if application == APPLICATION_ID and 0 < version <= migrations()[-1][0]:
            check_schema(connection, path)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    if application == APPLICATION_ID:
        return int(version)
    if tables or application:
        raise _not_a_store(path, "but another program's SQLite file")
    if connection.readonly("main"):
        raise _not_a_store(path, "it is empty")
    return 0


def wrong_schema(connection: apsw.Connection) -> Iterator[SchemaDifference]:
    """What of the store's own schema isn't as it should be."""
    return (found for found in schema_differences(connection, migrations()) if found.is_ours)


def check_schema(connection: apsw.Connection, path: Path) -> None:
    """Raises `CorruptStoreError` where the store's own tables aren't what they should be."""
    wrong = next((found for found in wrong_schema(connection) if found.is_fatal), None)
    if wrong is not None:
        raise CorruptStoreError(
            f"{path}: its schema is not one that Everwhen makes: {wrong}; find out who changed it, "
            f"and restore the file from a backup"
        )


def _check_header(connection: apsw.Connection, path: Path) -> None:
    """Tells a foreign or shortened file from a store before SQLite works with it.

    Reads through the connection: closing a file of our own would drop the locks that every other
    connection of this process holds on it (POSIX).
    """
    size = path.stat().st_size
    if not size:
        return
    header = connection.read("main", 0, 0, 100)[1][:size]
    wal = _beside(path, "-wal")
    has_wal = wal.exists() and wal.stat().st_size > 0
    size = path.stat().st_size  # last: a log that is gone by now has been taken over in full
    if not header.startswith(_SQLITE_MAGIC[: len(header)]):
        raise _not_a_store(path, "it is not a SQLite file")
    if len(header) < 100:
        raise _corrupt(path, "it ends within its header")
    page_size = int.from_bytes(header[16:18], "big")
    page_size = 65536 if page_size == 1 else page_size
    pages = int.from_bytes(header[28:32], "big")
    if size < pages * page_size and not has_wal:
        raise _corrupt(
            path, f"it should hold {pages:,} pages of {page_size:,} bytes and has {size:,} bytes"
        )


def check_room(path: Path, size: int) -> None:
    """Raises `StorageFullError` where that many bytes more find no room beside the file."""
    try:
        with tempfile.TemporaryFile(dir=path.parent) as file:
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(file.fileno(), 0, max(size, 1))
    except PermissionError as error:
        raise _read_only(path, str(error)) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageError(f"{path}: no file can be made beside it ({error})") from error
        raise StorageFullError(
            f"{path}: to write it anew takes {size:,} bytes that the disk doesn't have; free some "
            f"and try again, nothing was changed"
        ) from error


def make_folder(folder: Path) -> None:
    """Make the folder, so that it is there after a power loss too. Raises `StorageError`."""
    try:
        folder.mkdir(exist_ok=True)
        if os.name == "posix":
            sync_folder(folder.parent)
    except PermissionError as error:
        raise _read_only(folder, str(error)) from error
    except OSError as error:
        raise StorageError(
            f"{folder}: can't be made ({error}); see that nothing else has that name"
        ) from error


def remove(path: Path) -> None:
    """Delete the file and what SQLite keeps beside it. Raises `StorageError`."""
    try:
        for suffix in ("", "-wal", "-shm"):
            _beside(path, suffix).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{path}: can't be deleted ({error}); delete it by hand, nothing refers to it any more"
        ) from error


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
