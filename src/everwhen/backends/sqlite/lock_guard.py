"""Whether the file is still the one that was opened, and SQLite's locks on it still hold.

POSIX drops all locks of a process on a file as soon as the process closes *any* descriptor of it:
Python's own `sqlite3` in the same process will do, or a copy by `shutil`. SQLite never learns of
it. Two processes may then write at once, delete the log of changes under one another, or cut off
the index that the other has mapped, and acknowledged commits are lost.

A guard stands beside SQLite's connections for each file that is open in this process, with
descriptors of its own. On Linux it takes locks of *open file descriptions*, which nobody else's
`close` can drop. The two that SQLite keeps as long as a store is open it holds once more, so that
nobody takes the file for unused: the file's from before SQLite opens it, and, once locks were
dropped, until the process ends. Writers hold one more while they write, so that those who lose
SQLite's write lock in the middle of a commit keep the others out all the same.

And it can see the loss: a lock of the POSIX kind on a byte that only it knows (the mark) goes with
them. It is asked for before a commit, and once more before that is acknowledged. A store whose
mark is gone at once, or whose files are, is not opened.

Elsewhere there are no such locks, and only moved, deleted and replaced files are noticed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, Protocol, cast

from everwhen.system.forks import Inside, register
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.errors import LocksLostError, StorageError, StoreMovedError

try:
    import fcntl
except ImportError:  # pragma: no cover (Windows: it has no such locks)
    _HAS_OPEN_FILE_LOCKS = False
else:
    _HAS_OPEN_FILE_LOCKS = sys.platform == "linux" and sys.maxsize > 1 << 32
    _GETLK: Final = getattr(fcntl, "F_OFD_GETLK", 36)
    _SETLK: Final = getattr(fcntl, "F_OFD_SETLK", 37)
    _HELD: Final = struct.pack("@h", fcntl.F_WRLCK)
    _FREE: Final = struct.pack("@h", fcntl.F_UNLCK)

_FLOCK: Final = struct.Struct("@hhqqi4x")
"""The kernel's ``struct flock``: type, whence, start, length, process."""

_PROCESS_BYTES: Final = slice(24, 28)
"""Where the process stands in it."""

_SHARED_BYTES: Final = 0x4000_0002, 510
"""Start and length of SQLite's shared locks on the file, which are held for good."""

_IN_USE_BYTE: Final = 128
"""The byte of the ``-shm`` file that everybody who has it open keeps locked, for good."""

_WRITE_BYTE: Final = 120
"""The byte of the ``-shm`` file that a writer locks."""

_ALONE_BYTE: Final = (1 << 40) - 1
"""The byte of the file that our own writers lock besides: SQLite locks none beyond its first
gigabyte, and no mark is there."""

_MARK_BYTES: Final = 1 << 40, 1 << 62
"""Between which bytes marks lie: far from all of SQLite's own, and so many that nobody else's lock
is on the one that is drawn."""

_FORMATS_BYTE: Final = 18
"""Where the file's header says, in two bytes, how it is written and read."""

_POLL_SECONDS: Final = 0.001
"""How often somebody who holds the file alone is asked for: about as long as closing takes."""

_GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""What the system says of a file that was moved or deleted."""

Key = tuple[int, int]


class Guard:
    """Watches one file for all connections of this process. Get it by `Hold`."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.holders = 0
        self._descriptors: list[int] = []
        self._file = self._index = self._log = -1
        self._reserved: set[object] = set()
        self._watched: set[object] = set()
        self._writing: dict[None, object] = {}  # who does, of those in this process
        self.is_spoiled = False
        self._marked = False
        self._own_process = b""
        self._asked_for_mark: Callable[[], bytes]
        self._asked_for_write: Callable[[], bytes]

    def reserve(self, path: str, by: object) -> bool:
        """Before SQLite opens the file: nobody is to delete its log until that is held.

        False while somebody is about to do so, and holds the file alone.
        """
        if self._file < 0:
            self._file = self._opened(path)
        if _is_logged(self._file, path) and not self._hold(self._file, *_SHARED_BYTES, "F_RDLCK"):
            return False
        self._reserved.add(by)
        if not self._watched:
            self._index = self._at(f"{path}-shm", self._index)
            if self._index >= 0 and self._is_in_use():
                self._hold(self._index, _IN_USE_BYTE, 1, "F_RDLCK")
        return True

    def take(self, path: str, by: object) -> bool:
        """SQLite has the file open, and keeps locks as long as it has. Whether they are guarded.

        Not where the files beside it were deleted since SQLite opened them.
        """
        if self._file < 0:
            self._file = self._opened(path)
        if not self._hold(self._file, *_SHARED_BYTES, "F_RDLCK"):
            return False
        if not self._watched:
            self._index = self._at(f"{path}-shm", self._index)
            self._log = self._at(f"{path}-wal", self._log)
            if self._index < 0 or self._log < 0 or not self._set_mark():
                return False
        self._hold(self._index, _IN_USE_BYTE, 1, "F_RDLCK")
        self._watched.add(by)
        return True

    def let_go(self, by: object) -> None:
        """What this holds no longer stands in the way of SQLite's own closing.

        Unless locks were dropped: what did that in this process may close as the last one just
        when SQLite does, both of them would delete the log, and one of them another's.
        """
        self._reserved.discard(by)
        self._watched.discard(by)
        if self._watched:
            return
        self._marked = False
        if not self._reserved and not self.is_spoiled:
            self._hold(self._file, *_SHARED_BYTES, "F_UNLCK")
            self._hold(self._index, _IN_USE_BYTE, 1, "F_UNLCK")
            self._index = self._log = -1

    def close(self) -> bool:
        """Close the descriptors, but for those that others are to take the file for used by.

        Only when no connection of the process is open any more. Whether all are closed.
        """
        kept = {self._file, self._index, self._log} if self.is_spoiled else set()
        for descriptor in [one for one in self._descriptors if one not in kept]:
            self._descriptors.remove(descriptor)
            os.close(descriptor)
        return not self._descriptors

    def begin_writing(self, by: object) -> bool:
        """Whether nobody else writes to the file from now on, until ``end_writing``.

        Of the open file, too: who has lost SQLite's write lock in the middle of a commit keeps out
        those who believe that nobody has it. One that was cut off may begin anew.
        """
        if self._writing.setdefault(None, by) is not by:
            return False
        if self._hold(self._file, _ALONE_BYTE, 1, "F_WRLCK"):
            return True
        self._writing.clear()
        return False

    def end_writing(self, by: object) -> None:
        """Let others write; nothing happens to one that doesn't."""
        if self._writing.get(None) is by:
            self._hold(self._file, _ALONE_BYTE, 1, "F_UNLCK")
            self._writing.clear()

    def check_place(self, path: str) -> None:
        """Raises `StoreMovedError` where the path no longer leads to the file and its log."""
        try:
            found = os.stat(path)  # noqa: PTH116  often asked
        except OSError as error:
            if is_interrupt(error) or error.errno is None:
                raise
            if error.errno in _GONE:
                raise StoreMovedError(path, "the file was moved or deleted") from None
            raise StorageError(f"{path}: the system reports {error.strerror}") from error
        if (found.st_dev, found.st_ino) != self.key:
            raise StoreMovedError(path, "another file has taken its place")
        for descriptor, suffix in ((self._log, "-wal"), (self._index, "-shm")):
            if descriptor >= 0 and not os.fstat(descriptor).st_nlink:
                raise StoreMovedError(path, f"the file beside it with {suffix} was deleted")

    @property
    def has_lost_locks(self) -> bool:
        """Whether SQLite's locks were dropped behind its back."""
        if self._marked and self._asked_for_mark()[:2] != _HELD:
            self.is_spoiled = True
            return True
        return False

    def check_before_commit(self, path: str) -> None:
        """Raises `LocksLostError`, for a commit that can still be rolled back.

        The write lock is to be this process's own: if it isn't, SQLite works with an index that
        was deleted, and another process locks the one that is there.
        """
        if self._marked and (self.has_lost_locks or not self._is_own(self._asked_for_write())):
            raise LocksLostError(path, committed=False)

    def check_after_commit(self, path: str) -> None:
        """Raises `LocksLostError`, for a commit that others may have collided with."""
        if self.has_lost_locks:
            raise LocksLostError(path, committed=True)

    def _is_in_use(self) -> bool:
        """Whether somebody has the index open. If nobody has, SQLite is to make it anew."""
        if not _HAS_OPEN_FILE_LOCKS:
            return False
        try:
            return self._asking(_IN_USE_BYTE)()[:2] != _FREE
        except OSError as error:
            if error.errno is None or is_interrupt(error):
                raise
            return False  # no such locks here

    def _set_mark(self) -> bool:
        """False where it was dropped at once."""
        if not _HAS_OPEN_FILE_LOCKS:
            return True
        start, end = _MARK_BYTES
        at = start + secrets.randbelow(end - start)
        try:
            fcntl.lockf(self._index, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)
            self._asked_for_mark = self._asking(at)
            answer = self._asked_for_mark()
        except OSError as error:
            if error.errno is None or is_interrupt(error):
                raise
            return True  # no such locks here, or opened for reading only
        self._asked_for_write = self._asking(_WRITE_BYTE)
        self._own_process = answer[_PROCESS_BYTES]
        self._marked = answer[:2] == _HELD
        self.is_spoiled = self.is_spoiled or not self._marked
        return self._marked

    def _is_own(self, answer: bytes) -> bool:
        return answer[:2] == _HELD and answer[_PROCESS_BYTES] == self._own_process

    def _asking(self, at: int) -> Callable[[], bytes]:
        """Asks who holds a byte; as an open file, which is somebody else than the process."""
        question = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, at, 1, 0)
        return cast("Callable[[], bytes]", partial(fcntl.fcntl, self._index, _GETLK, question))

    def _at(self, path: str, known: int) -> int:
        """A descriptor of the file that is there: the one that is known, if it is of that."""
        try:
            found = os.stat(path)  # noqa: PTH116
            if known >= 0 and os.path.samestat(os.fstat(known), found):
                return known
        except FileNotFoundError:
            return -1
        return self._opened(path)

    def _opened(self, path: str) -> int:
        for how in (os.O_RDWR, os.O_RDONLY):
            try:
                descriptor = os.open(path, how | os.O_CLOEXEC)
            except OSError:
                continue
            self._descriptors.append(descriptor)
            return descriptor
        return -1

    def _hold(self, descriptor: int, start: int, length: int, how: str) -> bool:
        """False where somebody else's lock is in the way."""
        if descriptor >= 0 and _HAS_OPEN_FILE_LOCKS:
            lock = _FLOCK.pack(getattr(fcntl, how), os.SEEK_SET, start, length, 0)
            try:
                fcntl.fcntl(descriptor, _SETLK, lock)
            except OSError as error:
                if error.errno is None or is_interrupt(error):
                    raise
                return error.errno not in {errno.EAGAIN, errno.EACCES}
        return True


def _is_logged(descriptor: int, path: str) -> bool:
    """Whether the file has a write-ahead log; without one SQLite has to hold it alone at times."""
    return (
        descriptor >= 0
        and os.pread(descriptor, 2, _FORMATS_BYTE) == b"\2\2"
        and not os.path.exists(f"{path}-journal")  # noqa: PTH110
    )


class Unclosed(Protocol):
    """What nobody refers to any more, though it wasn't closed."""

    def close(self) -> None:
        """Close its connections; calling it again does nothing."""
        ...

    def forked(self, *, quiet: bool) -> None:
        """In a child; see `everwhen.system.forks.Forkable`."""
        ...


class _Guards:
    """The guards of this process, by device and inode."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_key: dict[Key, Guard] = {}
        self.openings = Inside()
        self.torn: set[Key] = set()
        self.forgotten: deque[Unclosed] = deque()

    def of(self, key: Key) -> Guard:
        """The guard of that file."""
        guard = self.by_key.get(key)
        if guard is None:
            guard = self.by_key[key] = Guard(key)
        return guard

    def sweep(self) -> None:
        """Close what nobody needs any more, unless a connection may be about to need it."""
        if not self.openings:
            for guard in [guard for guard in self.by_key.values() if not guard.holders]:
                if guard.close():
                    del self.by_key[guard.key]

    def close_forgotten(self) -> None:
        """Close what was forgotten meanwhile; not while this thread has the lock."""
        some: list[Unclosed] = []  # closing them comes here again, and is to find none
        try:
            with contextlib.suppress(IndexError):  # there are no more, or another thread has them
                while True:
                    some.append(self.forgotten.popleft())
            while some:
                with contextlib.suppress(Exception):
                    some[-1].close()
                some.pop()
        finally:
            self.forgotten.extend(some)


_guards = _Guards()


class Reservation:
    """A connection is about to be opened; until it is held, the file is reserved for it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard: Guard | None = None

    def reserve(self, seconds: float) -> None:
        """Reserve the file if it is there, waiting at most that long for who holds it alone."""
        until = time.monotonic() + seconds
        while not self._try() and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)

    def _try(self) -> bool:
        key = _key_of(self._path)
        if key is None or not self._path.is_file():
            return True
        with _guards.lock:
            guard = _guards.of(key)
            self._guard = guard  # first: to let go of what isn't reserved does no harm
            return guard.reserve(str(self._path), self)

    def end(self) -> None:
        """It is held, or won't be; calling it again does nothing."""
        with _guards.lock:
            if self._guard is not None:
                self._guard.let_go(self)
                self._guard = None


@contextmanager
def opening(path: Path, patience_seconds: float) -> Iterator[Reservation]:
    """Around opening a connection and its `Hold`: no descriptor is closed meanwhile.

    ``patience_seconds``: how long to wait for somebody who closes the file as the last one.
    Raises `StorageError` for a file that a fork tore away from another thread.
    """
    guards = _guards
    made = Reservation(path)
    try:
        guards.openings.enter(made)
        if guards.torn and _key_of(path) in guards.torn:
            raise StorageError(
                f"{path}: another thread was using this store when the process was forked, so it "
                f"can't be opened in this child; start the process anew (multiprocessing's spawn)"
            )
        made.reserve(patience_seconds)
        yield made
    finally:
        made.end()
        guards.openings.leave(made)
        with guards.lock:
            guards.sweep()
        guards.close_forgotten()


class Hold:
    """What stands for the connections that one store, or one question, has open to a file.

    ``keeps_locks``: SQLite keeps some as long as they are, as it does with a write-ahead log.
    Raises `LocksLostError` where these can't be guarded: something in this process opened and
    closed the file just now.
    """

    def __init__(self, path: Path, *, keeps_locks: bool) -> None:
        self.guard: Guard | None = None
        self.is_held = False
        key = _key_of(path)
        if key is None:
            return
        with _guards.lock:
            guard = _guards.of(key)
            if keeps_locks and not guard.take(str(path), self):
                raise LocksLostError(str(path), committed=False)
            self.guard = guard
            self.is_held = True
            guard.holders += 1

    def let_go(self) -> None:
        """Before closing: let SQLite find the file unused if this was the last to have it open."""
        if self.guard is not None:
            with _guards.lock:
                self.guard.let_go(self)

    def release(self) -> None:
        """The connections are closed; calling it again does nothing."""
        if self.guard is not None:
            with _guards.lock:
                if self.is_held:
                    self.is_held = False
                    self.guard.holders -= 1
                    _guards.sweep()
            _guards.close_forgotten()

    @staticmethod
    def forgotten(owner: Unclosed) -> None:
        """Close the owner of a hold, in its ``__del__``.

        The collector calls that anywhere, even where this thread has the guards' lock, and would
        wait for itself. So while anybody has it, closing is left to the end of what they do: of
        opening a file, or of releasing it.
        """
        _guards.forgotten.append(owner)
        if not _guards.lock.locked():
            _guards.close_forgotten()

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Around closing the connection."""
        self.let_go()
        try:
            yield
        finally:
            self.release()

    def torn(self) -> None:
        """In a child whose fork came while the connection was used."""
        if self.guard is not None:
            tear(self.guard)


def tear(guard: Guard) -> None:
    """In a child: what SQLite remembers of the file in this process is not to be believed."""
    _guards.torn.add(guard.key)


def check_no_stray_log(path: Path) -> None:
    """Raises `StorageError` where a write-ahead log remains of a file that is gone.

    SQLite deletes such a log. It may hold acknowledged commits of a store that was moved away, and
    that is open elsewhere.
    """
    log = path.with_name(f"{path.name}-wal")  # before the file, which is always made first
    if _size(log) and not _size(path):
        raise StorageError(
            f"{path}: it is missing, but {log.name} is there, with commits of a store that was "
            f"moved or deleted; move the store back beside it and open it, or delete {log.name} if "
            f"you want to start again"
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
        while _guards.forgotten:
            _guards.forgotten.popleft().forked(quiet=False)
        for guard in _guards.by_key.values():
            guard.is_spoiled = False
            guard.close()
        _guards.by_key.clear()


_forks: Final = _Forks()
register(_forks)
