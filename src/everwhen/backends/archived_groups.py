"""Sealed slices that are in objects elsewhere: fetched, checked, and remembered for a while."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from everwhen.backends.archive_objects import ObjectReader
from everwhen.backends.engine import NotFetchedError
from everwhen.backends.remembering import remember
from everwhen.codec.frames import Frame
from everwhen.system.object_storage import MissingObjectError, ObjectStorage, object_url
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.errors import CorruptStoreError, DeclarationError

_GROUPS_REMEMBERED: Final = 12
"""Each of some 4 MB."""
_OBJECTS_REMEMBERED: Final = 64
"""The footers of objects: some 10 to 100 KB each."""
MAX_URL_BYTES: Final = 4_096
"""Of what a store believes to be a URL, or a name of an object."""


class GroupPlace(NamedTuple):
    """Where a row group is, and what its slices must be."""

    last: int
    row_group: int
    sha256: bytes
    url: str
    name: str
    size: int


class ArchivedGroups:
    """The row groups of one log's archive. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._storages: dict[str, ObjectStorage] = {}
        self._readers: OrderedDict[tuple[str, str], ObjectReader] = OrderedDict()
        self._fetching: dict[GroupPlace, threading.Lock] = {}
        self._fetched: OrderedDict[GroupPlace, list[StoredSlice] | CorruptStoreError] = (
            OrderedDict()
        )
        self._frames: OrderedDict[GroupPlace, list[Frame]] = OrderedDict()

    def clear(self) -> None:
        """Forget all: what is read next is what is there."""
        with self._lock:
            self._readers.clear()
            self._fetched.clear()
            self._frames.clear()

    def storage(self, url: str) -> ObjectStorage:
        """The objects at a URL."""
        with self._lock:
            found = self._storages.get(url)
            if found is None:
                found = self._storages[url] = ObjectStorage(url)
            return found

    def frames(
        self, place: GroupPlace, made: Callable[[list[StoredSlice]], list[Frame]], *, waits: bool
    ) -> list[Frame]:
        """The slices of a row group, as ``made`` makes frames of them.

        Unless it ``waits``, raises `NotFetchedError` for one that has to be fetched. Raises
        `CorruptStoreError` for an object that is missing or damaged, and `StorageError` where the
        storage doesn't answer.
        """
        with self._lock:
            frames = self._frames.get(place)
            if frames is not None:
                self._frames.move_to_end(place)
                return frames
            found = self._fetched.pop(place, None)
        if found is None:
            if not waits:
                raise NotFetchedError(partial(self._fetch, place))
            found = self.read(place)
        elif isinstance(found, CorruptStoreError):
            raise found
        frames = made(found)
        with self._lock:
            remember(self._frames, place, frames, _GROUPS_REMEMBERED)
        return frames

    def _fetch(self, place: GroupPlace) -> None:
        """Read a row group, and keep it for whoever asks for its frames next.

        That it is missing is kept as well: by then others may have moved it, and nobody asks.
        """
        with self._lock:
            one_fetch = self._fetching.setdefault(place, threading.Lock())
        with one_fetch:
            if place in self._fetched or place in self._frames:
                return
            found: list[StoredSlice] | CorruptStoreError
            try:
                found = self.read(place)
            except CorruptStoreError as error:
                if not isinstance(error.__cause__, MissingObjectError):
                    raise
                found = error
            finally:
                with self._lock:
                    self._fetching.pop(place, None)
            with self._lock:
                remember(self._fetched, place, found, _GROUPS_REMEMBERED)

    def read(self, place: GroupPlace) -> list[StoredSlice]:
        """The slices of a row group, compared with their digest."""
        try:
            return self.reader(place).slices(place.row_group, place.sha256)
        except MissingObjectError as error:
            raise CorruptStoreError(
                f"{error}: it holds events up to position {place.last}; put it there again from a "
                f"backup of the archive"
            ) from error

    def reader(self, place: GroupPlace) -> ObjectReader:
        """The object that a row group is in."""
        storage, key = self.storage(place.url), (place.url, place.name)
        with self._lock:
            found = self._readers.get(key)
            if found is None:
                found = ObjectReader.stored(storage, place.name, place.size)
                remember(self._readers, key, found, _OBJECTS_REMEMBERED)
            return found


def is_archive_url(url: str) -> bool:
    """Whether it is a URL as a store writes it."""
    try:
        return object_url(url) == url
    except DeclarationError:
        return False
