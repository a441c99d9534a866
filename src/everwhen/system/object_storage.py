"""Objects in a folder, in memory or in a cloud: all that is known of the library obstore is here.

Needs the libraries of the extra ``everwhen[archive]``. Credentials are where the cloud's own tools
have them: in the environment, or with the machine. None are in a URL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlsplit

from everwhen.system.durable_files import sync_folder
from everwhen.vocabulary.errors import DeclarationError, StorageError, UnsupportedError

if TYPE_CHECKING:
    from types import ModuleType

_FOLDER: Final = "file"
_MEMORY: Final = "memory"
_CLOUDS: Final = frozenset({"s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "https"})
_TIMEOUTS: Final = {"connect_timeout": "10s", "timeout": "60s"}
"""Of one request: an object is some megabytes."""
_RETRIES: Final = {"max_retries": 3, "retry_timeout": timedelta(seconds=90)}


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
    no such object.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._library = _library()
        self._folder: Path | None = None
        if urlsplit(url).scheme == _FOLDER:
            self._folder = Path(unquote(urlsplit(url).path))
        self._inner: Any = None

    def put(self, name: str, data: bytes) -> None:
        """Store an object, durably. Raises `StorageError` also where there is one of that name."""
        with self._explained("write", name):
            self._store(makes=True)
            self._library.put(self._inner, name, data, mode="create")
            if self._folder is not None:
                _sync(self._folder / name)

    def read(self, name: str, start: int, size: int) -> bytes:
        """These bytes of an object, or as many of them as there are."""
        with self._explained("read", name):
            found = self._library.get_range(self._store(), name, start=start, length=size)
            return bytes(found)

    def size(self, name: str) -> int:
        """How many bytes an object has."""
        with self._explained("find", name):
            return int(self._library.head(self._store(), name)["size"])

    def delete(self, name: str) -> None:
        """Delete an object; nothing happens where there is none."""
        with self._explained("delete", name):
            try:
                self._library.delete(self._store(), name)
            except FileNotFoundError:
                return

    def names(self) -> list[tuple[str, int]]:
        """All objects: their names, in order, and sizes."""
        with self._explained("list", "objects"):
            found = [one for some in self._library.list(self._store()) for one in some]
        return sorted((str(one["path"]), int(one["size"])) for one in found)

    def _store(self, *, makes: bool = False) -> Any:
        if self._inner is None:
            self._inner = self._opened(makes=makes)
        return self._inner

    def _opened(self, *, makes: bool) -> Any:
        store = self._library.store
        if self._folder is not None:
            if not makes and not self._folder.is_dir():
                raise FileNotFoundError(f"there is no folder {self._folder}")
            return store.LocalStore(prefix=self._folder, mkdir=True)
        if urlsplit(self.url).scheme == _MEMORY:
            return _memory(self.url)
        return store.from_url(self.url, client_options=_TIMEOUTS, retry_config=_RETRIES)

    @contextmanager
    def _explained(self, what: str, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise MissingObjectError(f"{self.url}: there is no {name}") from error
        except (OSError, ValueError, self._library.exceptions.BaseError) as error:
            why = str(error).partition("\n")[0]
            raise StorageError(f"{self.url}: can't {what} {name}: {why}") from error


@cache
def _memory(url: str) -> Any:
    """The objects of this process at a URL."""
    del url
    return _library().store.MemoryStore()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


def _library() -> ModuleType:
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError as error:
        raise UnsupportedError(
            "archived history needs the libraries obstore and pyarrow: "
            "pip install 'everwhen[archive]'"
        ) from error
    return obstore
