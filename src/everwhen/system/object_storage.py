"""Objects in a folder, in memory or in a cloud: all that is known of the library obstore is here.

Needs the libraries of the extra ``everwhen[archive]``. Credentials are where the cloud's own tools
have them: in the environment, or with the machine. None are in a URL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlsplit

from everwhen.system.durable_files import NewFile, sync_folder
from everwhen.vocabulary.errors import DeclarationError, StorageError, UnsupportedError

if TYPE_CHECKING:
    from types import ModuleType

LIBRARIES_NEEDED: Final = (
    "archived history needs the libraries obstore and pyarrow: pip install 'everwhen[archive]'"
)
"""What is said where one of them is missing."""

_FOLDER: Final = "file"
_MEMORY: Final = "memory"
_CLOUDS: Final = frozenset({"s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "https"})
_TIMEOUTS: Final = {"connect_timeout": "10s", "timeout": "60s"}
"""Of one request: an object is some megabytes."""
_ALLOW_HTTP: Final = ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP")
_YES: Final = frozenset({"1", "true", "yes", "on"})
_RETRIES: Final = {"max_retries": 3, "retry_timeout": timedelta(seconds=90)}
_NOT_SO_LONG: Final = " 416 "
"""The status with which a range is answered that begins after an object's end."""


class MissingObjectError(StorageError):
    """There is no such object."""


def object_url(location: str | os.PathLike[str]) -> str:
    """The URL of a place for objects: as it is given, or of a local folder.

    Raises `DeclarationError` for a URL of an unknown kind, or one that has a password.
    """
    text = os.fspath(location)
    scheme = urlsplit(text).scheme
    if len(scheme) < 2:  # of a path, or a drive
        return f"{_FOLDER}://{quote(str(Path(text).resolve()))}"
    if scheme not in {_FOLDER, _MEMORY} | _CLOUDS:
        raise DeclarationError(
            f"{text}: unknown kind of URL; give a folder, or one of "
            f"{', '.join(sorted({_FOLDER, _MEMORY} | _CLOUDS))}"
        )
    parts = urlsplit(text)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise DeclarationError(
            f"{scheme}://…: leave credentials and parameters out of the URL, it is stored and "
            f"shown; put them where the cloud's own tools look, such as AWS_SECRET_ACCESS_KEY"
        )
    return text.rstrip("/") if parts.path.strip("/") else text


def local_file(url: str, name: str) -> Path | None:
    """The file that an object in a folder is; None for one that is elsewhere."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) / name if parts.scheme == _FOLDER else None


class ObjectStorage:
    """The objects at one URL, by name. Safe from any thread; it blocks.

    What fails raises `StorageError` with the name and the URL, `MissingObjectError` where there is
    no such object. A storage that doesn't answer is given up after some minutes.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        is_folder = parts.scheme == _FOLDER
        self._objects = _Folder(Path(unquote(parts.path))) if is_folder else _Cloud(url)

    def make(self) -> None:
        """See to it that there is a place for objects: a folder is made, a cloud has to have one.

        If a folder is missing later, it is a disk that isn't there.
        """
        with self._explained("make", "the folder"):
            self._objects.make()

    def put(self, name: str, data: bytes) -> None:
        """Store an object, durably. Raises `StorageError` also where another has that name."""
        with self._explained("write", name):
            self._objects.put(name, data)

    def read(self, name: str, start: int, size: int) -> bytes:
        """These bytes of an object, or as many of them as there are."""
        with self._explained("read", name):
            return self._objects.read(name, start, size)

    def size(self, name: str) -> int:
        """How many bytes an object has."""
        with self._explained("find", name):
            return self._objects.size(name)

    def delete(self, name: str) -> None:
        """Delete an object; nothing happens where there is none."""
        with self._explained("delete", name):
            self._objects.delete(name)

    def names(self) -> list[tuple[str, int]]:
        """All objects: their names, in order, and sizes."""
        with self._explained("list", "objects"):
            return sorted(self._objects.names())

    @contextmanager
    def _explained(self, what: str, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise MissingObjectError(f"{self.url}: there is no {name}") from error
        except (OSError, ValueError, *self._objects.errors) as error:
            why = str(error).partition("\n")[0]
            raise StorageError(
                f"{self.url}: can't {what} {name}: {why}; see that the storage can be reached and "
                f"lets us in, then try again"
            ) from error


class _Folder:
    """Objects as files of a folder. They need no library, and can be read in a fork."""

    errors: tuple[type[BaseException], ...] = ()

    def __init__(self, path: Path) -> None:
        self._path = path

    def make(self) -> None:
        _make_folder(self._path)

    def put(self, name: str, data: bytes) -> None:
        self.make()
        new = NewFile(self._file(name))
        try:
            new.file.write(data)
            new.finish(replaces=False)
        finally:
            new.abandon()

    def read(self, name: str, start: int, size: int) -> bytes:
        with self._file(name).open("rb") as file:
            file.seek(start)
            return file.read(size)

    def size(self, name: str) -> int:
        return self._file(name).stat().st_size

    def delete(self, name: str) -> None:
        self._file(name).unlink(missing_ok=True)
        sync_folder(self._path)

    def names(self) -> list[tuple[str, int]]:
        found = [one for one in self._file("").rglob("*") if one.is_file()]
        return [
            (one.relative_to(self._path).as_posix(), one.stat().st_size)
            for one in found
            if not one.name.startswith(".")
        ]

    def _file(self, name: str) -> Path:
        if not self._path.is_dir():  # a disk that isn't there has lost nothing
            raise NotADirectoryError(f"there is no folder {self._path}")
        if name.startswith("/") or ".." in name.split("/"):  # as no store names an object
            raise ValueError(f"{name!r} isn't in the folder")
        return self._path / name


class _Cloud:
    """Objects by the library obstore, whose threads don't survive a fork."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._library = _library()
        self._inner: Any = None
        self.errors = (self._library.exceptions.BaseError,)

    def make(self) -> None:
        """Nothing to do: a bucket is made by whoever pays for it."""

    def put(self, name: str, data: bytes) -> None:
        store = self._store()
        try:
            self._library.put(store, name, data, mode="create")
        except self._library.exceptions.AlreadyExistsError:
            # a request that is answered by an error may have been heard, and is repeated
            if self.read(name, 0, len(data) + 1) != data:
                raise

    def read(self, name: str, start: int, size: int) -> bytes:
        try:
            return bytes(self._library.get_range(self._store(), name, start=start, length=size))
        except self._library.exceptions.GenericError as error:
            if _NOT_SO_LONG in str(error) and self.size(name) <= start:
                return b""
            raise

    def size(self, name: str) -> int:
        return int(self._library.head(self._store(), name)["size"])

    def delete(self, name: str) -> None:
        store = self._store()
        with suppress(FileNotFoundError):
            self._library.delete(store, name)

    def names(self) -> list[tuple[str, int]]:
        found = [one for some in self._library.list(self._store()) for one in some]
        return [(str(one["path"]), int(one["size"])) for one in found]

    def _store(self) -> Any:
        if _forks.is_torn:
            raise OSError(
                "the threads that talk to it are in the process that this one is a fork of; start "
                "the process with multiprocessing's spawn"
            )
        _forks.is_used = True
        if self._inner is None:
            self._inner = self._opened()
        return self._inner

    def _opened(self) -> Any:
        if urlsplit(self._url).scheme == _MEMORY:
            return _memory(self._url)
        options: dict[str, Any] = dict(_TIMEOUTS)
        if any(os.environ.get(name, "").lower() in _YES for name in _ALLOW_HTTP):
            options["allow_http"] = True  # which the library looks for only where none are given
        store = self._library.store
        return store.from_url(self._url, client_options=options, retry_config=_RETRIES)


class _Forks:
    """Whether obstore is used, and was by the process that this one is a fork of."""

    is_used = False
    is_torn = False

    def in_child(self) -> None:
        """All that was begun is torn away."""
        self.is_torn = self.is_used


_forks: Final = _Forks()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forks.in_child)


def _make_folder(path: Path) -> None:
    """Make a folder, and those that it is in, so that they are there after a power loss too."""
    if path.is_dir():
        return
    _make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


@cache
def _memory(url: str) -> Any:
    """The objects of this process at a URL."""
    del url
    return _library().store.MemoryStore()


def _library() -> ModuleType:
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError as error:
        raise UnsupportedError(LIBRARIES_NEEDED) from error
    return obstore
