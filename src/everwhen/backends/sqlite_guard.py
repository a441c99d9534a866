"""Whether the file is still the one that was opened, and SQLite's locks on it still hold.

POSIX drops all locks of a process on a file as soon as the process closes *any* descriptor of it:
Python's own `sqlite3` in the same process will do, or a copy by `shutil`. SQLite never learns of
it. Two processes may then write at once, delete the log of changes under one another, or cut off
the index that the other has mapped, and acknowledged commits are lost.

A guard stands beside SQLite's connections for each file that is open in this process, with
descriptors of its own. On Linux it does two things. It holds the two locks that SQLite keeps as
long as a store is open once more, as locks of an *open file description*, which nobody else's
`close` can drop: so nobody takes the file for unused. And it can see the loss of the others, of
which the write lock is one: a lock of the POSIX kind on a byte that only it knows (the mark) goes
with them. It is asked for before a commit, and once more before that is acknowledged.

Elsewhere there are no such locks, and only moved, deleted and replaced files are noticed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, cast

from everwhen.errors import LocksLostError, StorageError, StoreMovedError
from everwhen.forking import Inside, register

try:
    import fcntl
except ImportError:  # pragma: no cover (Windows: it has no such locks)
    _HAS_OPEN_FILE_LOCKS = False
else:
    _HAS_OPEN_FILE_LOCKS = sys.platform == "linux" and sys.maxsize > 1 << 32
    _GETLK: Final = getattr(fcntl, "F_OFD_GETLK", 36)
    _SETLK: Final = getattr(fcntl, "F_OFD_SETLK", 37)
    _HELD: Final = struct.pack("@h", fcntl.F_WRLCK)

_FLOCK: Final = struct.Struct("@hhqqi4x")  # type, whence, start, length, process
_FIRST_SHARED, _SHARED_BYTES = 0x4000_0002, 510  # SQLite's shared locks on the file, for good
_IN_USE: Final = 128  # the byte of the -shm file that every opener keeps locked, for good
_WRITE: Final = 120  # and the one that a writer locks
_MARKS: Final = 1 << 40, 1 << 62  # where marks may lie: far from all of SQLite's own

Key = tuple[int, int]


class Guard:
    """Watches one file for all connections of this process. Get it by `hold`."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.holders = 0
        self._descriptors: list[int] = []
        self._file = self._index = self._log = -1
        self._marked = False
        self._asked_for_mark: Callable[[], bytes]
        self._asked_for_write: Callable[[], bytes]

    def take(self, path: str, *, keeps_locks: bool) -> None:
        """One more connection is open. ``keeps_locks``: it keeps some as long as it is."""
        if not self.holders:
            self._open(path)
            if keeps_locks:
                self._set_mark()
        if keeps_locks:
            self._hold(self._file, _FIRST_SHARED, _SHARED_BYTES, "F_RDLCK")
            self._hold(self._index, _IN_USE, 1, "F_RDLCK")
        self.holders += 1

    def let_go(self) -> None:
        """What this holds no longer stands in the way of SQLite's own closing."""
        self._hold(self._file, _FIRST_SHARED, _SHARED_BYTES, "F_UNLCK")
        self._hold(self._index, _IN_USE, 1, "F_UNLCK")

    def close(self) -> None:
        """Close the descriptors. Only when no connection of the process is open any more."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def check_place(self, path: str) -> None:
        """Raises `StoreMovedError` where the path no longer leads to the file and its log."""
        try:
            found = os.stat(path)  # noqa: PTH116  often asked
        except OSError:
            raise StoreMovedError(path, "the file was moved or deleted") from None
        if (found.st_dev, found.st_ino) != self.key:
            raise StoreMovedError(path, "another file has taken its place")
        for descriptor, suffix in ((self._log, "-wal"), (self._index, "-shm")):
            if descriptor >= 0 and not os.fstat(descriptor).st_nlink:
                raise StoreMovedError(path, f"the file beside it with {suffix} was deleted")

    @property
    def has_lost_locks(self) -> bool:
        """Whether SQLite's locks were dropped behind its back."""
        return self._marked and self._asked_for_mark()[:2] != _HELD

    def check_before_commit(self, path: str) -> None:
        """Raises `LocksLostError`, for a commit that can still be rolled back."""
        if self._marked and not (
            self._asked_for_mark()[:2] == _HELD and self._asked_for_write()[:2] == _HELD
        ):
            raise LocksLostError(path, committed=False)

    def check_after_commit(self, path: str) -> None:
        """Raises `LocksLostError`, for a commit that others may have collided with."""
        if self._marked and self._asked_for_mark()[:2] != _HELD:
            raise LocksLostError(path, committed=True)

    def _open(self, path: str) -> None:
        self._marked = False
        if self._file < 0:
            self._file = self._opened(path)
        self._index = self._opened(f"{path}-shm")
        self._log = self._opened(f"{path}-wal")

    def _set_mark(self) -> None:
        if self._index < 0 or not _HAS_OPEN_FILE_LOCKS:
            return
        start, end = _MARKS
        at = start + secrets.randbelow(end - start)
        with contextlib.suppress(OSError):  # no such locks here, or opened for reading only
            fcntl.lockf(self._index, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
            self._asked_for_mark = self._asking(at)
            self._asked_for_write = self._asking(_WRITE)
            self._marked = self._asked_for_mark()[:2] == _HELD

    def _asking(self, at: int) -> Callable[[], bytes]:
        """Asks who holds a byte; as an open file, which is somebody else than the process."""
        question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0)
        return cast("Callable[[], bytes]", partial(fcntl.fcntl, self._index, _GETLK, question))

    def _opened(self, path: str) -> int:
        for how in (os.O_RDWR, os.O_RDONLY):
            try:
                descriptor = os.open(path, how | os.O_CLOEXEC)
            except OSError:
                continue
            self._descriptors.append(descriptor)
            return descriptor
        return -1

    def _hold(self, descriptor: int, start: int, length: int, how: str) -> None:
        if descriptor >= 0 and _HAS_OPEN_FILE_LOCKS:
            lock = _FLOCK.pack(getattr(fcntl, how), os.SEEK_SET, start, length, 0)
            with contextlib.suppress(OSError):  # one more lock is good to have, and no more
                fcntl.fcntl(descriptor, _SETLK, lock)


class _Guards:
    """The guards of this process, by device and inode."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_key: dict[Key, Guard] = {}
        self.openings = Inside()
        self.torn: set[Key] = set()

    def sweep(self) -> None:
        """Close what nobody needs any more, unless a connection may be about to need it."""
        if not self.openings:
            for key in [key for key, guard in self.by_key.items() if not guard.holders]:
                self.by_key.pop(key).close()


_guards = _Guards()


@contextmanager
def opening(path: Path) -> Iterator[None]:
    """Around opening a connection and `hold`: no descriptor is closed meanwhile.

    Raises `StorageError` for a file that a fork tore away from another thread.
    """
    guards = _guards
    token = object()
    try:
        guards.openings.enter(token)
        if guards.torn and _key_of(path) in guards.torn:
            raise StorageError(
                f"{path}: another thread was using this store when the process was forked, so it "
                f"can't be opened in this child; start the process anew (multiprocessing's spawn)"
            )
        yield
    finally:
        guards.openings.leave(token)
        with guards.lock:
            guards.sweep()


def hold(path: Path, *, keeps_locks: bool) -> Guard | None:
    """The guard of a file that SQLite has open; `release` it when that is closed.

    ``keeps_locks``: SQLite keeps some as long as it is open, as it does with a write-ahead log.
    """
    key = _key_of(path)
    if key is None:
        return None
    with _guards.lock:
        guard = _guards.by_key.get(key)
        if guard is None:
            guard = _guards.by_key[key] = Guard(key)
        guard.take(str(path), keeps_locks=keeps_locks)
    return guard


def before_closing(guard: Guard) -> None:
    """Let SQLite find the file unused if this was the last that has it open here."""
    with _guards.lock:
        if guard.holders == 1:
            guard.let_go()


def release(guard: Guard) -> None:
    """The connections that it was held for are closed."""
    with _guards.lock:
        guard.holders -= 1
        _guards.sweep()


class Hold:
    """What one connection holds, where it may outlive the store that has opened it."""

    def __init__(self, path: Path, *, keeps_locks: bool) -> None:
        self._guard = hold(path, keeps_locks=keeps_locks)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Around closing the connection; once."""
        guard, self._guard = self._guard, None
        if guard is not None:
            before_closing(guard)
        try:
            yield
        finally:
            if guard is not None:
                release(guard)

    def torn(self) -> None:
        """In a child whose fork came while the connection was used."""
        if self._guard is not None:
            tear(self._guard)


def tear(guard: Guard) -> None:
    """In a child: what SQLite remembers of the file in this process is not to be believed."""
    _guards.torn.add(guard.key)


def check_no_stray_log(path: Path) -> None:
    """Raises `StorageError` where a log of changes was left behind by a file that is gone.

    SQLite deletes such a log. It may hold acknowledged commits of a store that was moved away, and
    that is open elsewhere.
    """
    log = path.with_name(f"{path.name}-wal")  # before the file, which is always made first
    if _size(log) and not _size(path):
        raise StorageError(
            f"{path}: not there, but {log.name} is, with commits of a store that was moved or "
            f"deleted; move the store back beside it and open it, or delete {log.name} if you "
            f"mean to begin anew"
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _key_of(path: Path) -> Key | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class _Forks:
    """The child starts with no locks, and closes the descriptors before it can take any."""

    def hold(self, seconds: float) -> bool:
        return _guards.openings.is_left(seconds)

    def resume(self) -> None:
        """Nothing is held: those who come wait for the fork by themselves."""

    def forked(self, *, quiet: bool) -> None:
        del quiet
        _guards.lock = threading.Lock()
        _guards.openings.clear()
        for guard in _guards.by_key.values():
            guard.close()
        _guards.by_key.clear()


_forks: Final = _Forks()
register(_forks)
