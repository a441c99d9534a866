"""Sealed slices that are in objects elsewhere: fetched, checked, and remembered for a while."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

import apsw

from everwhen.backends.archive_objects import ObjectReader
from everwhen.backends.engine import NotFetchedError
from everwhen.backends.sqlite.remembering import remember
from everwhen.backends.sqlite.statements import statements
from everwhen.codec.frames import Frame, FrameError, packed
from everwhen.system.object_storage import MissingObjectError, ObjectStorage, object_url
from everwhen.system.sqlite_values import stored_bytes, stored_count, stored_text
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.errors import CorruptStoreError, DeclarationError

_SQL: Final = statements("archived")
_READING: Final = statements("reading")

_GROUPS_REMEMBERED: Final = 12
"""Each of some 4 MB."""
_OBJECTS_REMEMBERED: Final = 64
"""The footers of objects: some 10 to 100 KB each."""
_FRAME: Final = 64
"""How many slices make a frame, as those of a chunk do."""
MAX_URL_BYTES: Final = 4_096


class GroupPlace(NamedTuple):
    """Where a row group is, and what its slices must be."""

    last: int
    row_group: int
    sha256: bytes
    url: str
    name: str
    size: int


def place_of(connection: apsw.Connection, last: int) -> GroupPlace:
    """Where the row group is that ends at this position. Raises ``apsw.CorruptError``."""
    row = connection.execute(_SQL["place"], (last,)).fetchone()
    if row is None:
        raise apsw.CorruptError(f"the object with position {last} isn't known")
    number, digest, url, name, size = row
    return GroupPlace(
        last,
        stored_count(number),
        stored_bytes(digest),
        _checked(stored_text(url, MAX_URL_BYTES)),
        stored_text(name, MAX_URL_BYTES),
        stored_count(size),
    )


class ArchivedGroups:
    """The row groups of one file's archive. Safe from any thread."""

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

    def frames(self, connection: apsw.Connection, last: int, *, waits: bool) -> list[Frame]:
        """The slices of the row group that ends at this position.

        Unless it ``waits``, raises `NotFetchedError` for one that has to be fetched. Raises
        `CorruptStoreError` for an object that is missing or damaged, and `StorageError` where the
        storage doesn't answer.
        """
        place = place_of(connection, last)
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
        frames = frames_of(connection, found)
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


def _checked(url: str) -> str:
    """The URL. Raises ``apsw.CorruptError`` for one that no store writes."""
    try:
        if object_url(url) == url:
            return url
    except DeclarationError as error:
        raise apsw.CorruptError(f"the archive's URL: {error}") from error
    raise apsw.CorruptError(f"{url!r} is no archive's URL")


def frames_of(connection: apsw.Connection, slices: Sequence[StoredSlice]) -> list[Frame]:
    """Slices as frames, their streams by number. Raises ``apsw.CorruptError`` for unknown ones."""
    numbers: dict[str, int] = {}
    for name in {stored.stream for stored in slices}:
        number = connection.execute(_READING["stream_id"], (name,)).get
        if number is None:
            raise apsw.CorruptError(f"an archived slice is of stream {name!r}, which isn't known")
        numbers[name] = number
    frames: list[Frame] = []
    before = slices[0].position - slices[0].count
    for start in range(0, len(slices), _FRAME):
        group = slices[start : start + _FRAME]
        rows = [
            (
                stored.position,
                numbers[stored.stream],
                stored.version,
                stored.count,
                stored.recorded_at,
                stored.commit_id,
                stored.first_index,
                stored.metadata,
                stored.body,
            )
            for stored in group
        ]
        try:
            frames.append(Frame(packed(rows, before)))
        except FrameError as error:
            raise apsw.CorruptError(f"archived slices up to {rows[-1][0]}: {error}") from error
        before = rows[-1][0]
    return frames
