"""Where a Merkle log lies: a folder in the layout of C2SP tlog-tiles, or memory.

checkpoint      the newest signed checkpoint
tile/…          the tree's tiles
checkpoints     every signed checkpoint there has been, an empty line after each
rollovers       where one key handed over to the next
timestamps/…    an authority's timestamp of a checkpoint, by its size
positions       the last position of each full tile's commits, 8 bytes each
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from everwhen.backends.branch_records import BranchInfo
from everwhen.system.durable_files import locked_folder, sync_folder
from everwhen.vocabulary.errors import ReadOnlyError, StorageError

CHECKPOINT: Final = "checkpoint"
CHECKPOINTS: Final = "checkpoints"
ROLLOVERS: Final = "rollovers"
POSITIONS: Final = "positions"
KEY: Final = "vkey"

_MAX_OPEN_FILES: Final = 64
"""Written before the first is synced; far fewer than a process may have open."""


class TileStore(Protocol):
    """Named files of bytes. ``blocking`` says whether its calls may wait for a disk.

    Raises `StorageError` where the medium fails.
    """

    blocking: bool

    def read(self, name: str, start: int = 0, count: int = -1) -> bytes | None:
        """The file from a byte on, as many as asked for or there are; None where there is none."""
        ...

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write these files as a whole, durably when this returns."""
        ...

    def write_at(self, name: str, start: int, data: bytes) -> None:
        """Write after the file's first ``start`` bytes, as its new end, durably."""
        ...

    def replace(self, name: str, data: bytes) -> None:
        """Put other content in a file's place: readers and crashes find the old or the new."""
        ...

    def remove(self, names: list[str]) -> None:
        """Delete files, or folders with all that is in them, where they are there."""
        ...

    def lock(self) -> AbstractContextManager[None]:
        """Held by one at a time, over threads and processes."""
        ...


class TileFolder(TileStore):
    """A folder on a disk; made at the first write."""

    blocking = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @classmethod
    def beside(cls, store: str | os.PathLike[str], branch: BranchInfo | None = None) -> TileFolder:
        """Where the log of a store's file lies if nobody says otherwise, or that of its branch."""
        if branch is not None:
            return cls(f"{os.fspath(store)}-branches/{branch.id}.db-log")
        return cls(f"{os.fspath(store)}-log")

    def __repr__(self) -> str:
        return f"TileFolder({str(self.path)!r})"

    def read(self, name: str, start: int = 0, count: int = -1) -> bytes | None:
        try:
            with open(self.path / name, "rb", buffering=0) as file:  # noqa: PTH123  often called
                if start:
                    file.seek(start)
                return file.read(count)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _failed(self.path / name, "read", error) from error

    def written_at(self, name: str) -> datetime | None:
        """When the file was last written, as the disk says; None where there is none."""
        try:
            return datetime.fromtimestamp((self.path / name).stat().st_mtime, UTC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _failed(self.path / name, "read", error) from error

    def write(self, files: Mapping[str, bytes]) -> None:
        with self._writing():
            root = os.fspath(self.path)
            folders = {os.path.dirname(f"{root}/{name}") for name in files}  # noqa: PTH120  often called
            for folder in folders:
                _make(Path(folder))
            _write(0, {f"{root}/{name}": data for name, data in files.items()})
            for folder in folders:
                sync_folder(folder)

    def write_at(self, name: str, start: int, data: bytes) -> None:
        with self._writing():
            _make(self.path)
            _write(start, {self.path / name: data})
            sync_folder(self.path)

    def replace(self, name: str, data: bytes) -> None:
        with self._writing():
            _make(self.path)
            new = self.path / f"{name}.new"
            _write(0, {new: data})
            new.replace(self.path / name)
            sync_folder(self.path)

    def remove(self, names: list[str]) -> None:
        with self._writing():
            for name in names:
                path = self.path / name
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        with ExitStack() as held:
            with self._writing():
                _make(self.path)
                held.enter_context(locked_folder(self.path))
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise ReadOnlyError(
                f"{self.path}: can't be written to ({error}); check its permissions"
            ) from error
        except OSError as error:
            raise _failed(self.path, "written to", error) from error


def _make(folder: Path) -> None:
    """Make the folder and those above it, so that they are there after a power loss."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def _write(start: int, files: Mapping[str | Path, bytes]) -> None:
    """Write the new ends of files, durably, and cut each off after that only then.

    A tile that was written before gets the same bytes again, so it stays whole at every moment,
    whoever reads it or is killed meanwhile. All are on their way before the first is waited for.
    """
    left = list(files.items())
    while left:
        with ExitStack() as stack:
            descriptors: list[int] = []
            for path, data in left[:_MAX_OPEN_FILES]:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
                stack.callback(os.close, descriptor)
                descriptors.append(descriptor)
                _write_end(descriptor, start, data)
            for descriptor in descriptors:
                os.fsync(descriptor)
        left = left[_MAX_OPEN_FILES:]


def _write_end(descriptor: int, start: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(descriptor, left, start)
        start += written
        left = left[written:]
    os.ftruncate(descriptor, start)


def _failed(path: Path, what: str, error: OSError) -> StorageError:
    return StorageError(f"{path}: can't be {what} ({error}); check the disk, and sign again")


class MemoryTiles(TileStore):
    """Nothing but memory, for stores that are too."""

    blocking = False

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def read(self, name: str, start: int = 0, count: int = -1) -> bytes | None:
        data = self.files.get(name)
        if data is None:
            return None
        return data[start:] if count < 0 else data[start : start + count]

    def write(self, files: Mapping[str, bytes]) -> None:
        self.files.update(files)

    def write_at(self, name: str, start: int, data: bytes) -> None:
        self.files[name] = self.files.get(name, b"")[:start] + data

    def replace(self, name: str, data: bytes) -> None:
        self.files[name] = data

    def remove(self, names: list[str]) -> None:
        for gone in names:
            for name in [n for n in self.files if n == gone or n.startswith(f"{gone}/")]:
                with contextlib.suppress(KeyError):
                    del self.files[name]

    @contextmanager
    def lock(self) -> Iterator[None]:
        with self._lock:
            yield
