"""The objects of an archive, in a folder, in a file or at a URL, as they are found there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from everwhen.backends.archive_objects import ObjectReader
from everwhen.exchange.archive_ranges import ArchivedGroup
from everwhen.exchange.errors import ExchangeFileError, ImportFormatError
from everwhen.system.object_storage import MissingObjectError, ObjectStorage, object_url
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.errors import CorruptStoreError

_SUFFIX: Final = ".parquet"


def is_archive(location: str) -> bool:
    """Whether a location, by its name or for it is a folder, can only be an archive."""
    return "://" in location or location.endswith(_SUFFIX) or Path(location).is_dir()


class ArchiveFiles:
    """The Parquet files at a location. Safe from any thread, one at a time; it blocks.

    ``passed_over`` counts the files in it that aren't Parquet by their names.

    Raises `ExchangeFileError` where there are none, `StorageError` where the place doesn't answer,
    `DeclarationError` for a URL of an unknown kind, and `UnsupportedError` without the extra.
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        self.name = os.fspath(location)
        folder, only = _place_of(self.name)
        self._storage = ObjectStorage(folder)
        self.objects: list[tuple[str, int]] = []
        self.passed_over = 0
        try:
            if only is not None:
                self.objects.append((only, self._storage.size(only)))
            else:
                names = self._storage.names()
                self.objects += [one for one in names if one[0].endswith(_SUFFIX)]
                self.passed_over = len(names) - len(self.objects)
        except MissingObjectError as error:
            raise ExchangeFileError(self.name, "there is no such file; check the path") from error
        if not self.objects:
            raise ExchangeFileError(
                self.name, "there is no archived object (.parquet) in it; check the path"
            )
        self._is_only = only is not None
        self._sizes = dict(self.objects)
        self._reader: tuple[str, ObjectReader] | None = None

    def groups(self, name: str) -> list[ArchivedGroup] | None:
        """An object's row groups; None for somebody else's Parquet file in a folder.

        Raises `ImportFormatError` for such a file that was named, and for what is damaged.
        """
        try:
            record = self._reader_of(name).own_record()
        except CorruptStoreError as error:
            raise ImportFormatError(self.name, 0, str(error)) from error
        if record is None and self._is_only:
            raise ImportFormatError(
                self.name, 0, "it isn't an object of an archive: its footer isn't Everwhen's"
            )
        if record is None:
            return None
        return [ArchivedGroup(name, number, one) for number, one in enumerate(record.groups)]

    def slices(self, group: ArchivedGroup) -> list[StoredSlice]:
        """The slices of a row group. Raises `CorruptStoreError` where they aren't what it says."""
        return self._reader_of(group.object).slices(group.number, group.record.sha256)

    def _reader_of(self, name: str) -> ObjectReader:
        """Of the object that was read last, the footer is kept."""
        if self._reader is None or self._reader[0] != name:
            self._reader = name, ObjectReader.stored(self._storage, name, self._sizes[name])
        return self._reader[1]


def _place_of(location: str) -> tuple[str, str | None]:
    """The URL of a folder, and the name of the only object in it that is meant, if it is one."""
    url = object_url(location)
    parts = urlsplit(url)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        if path.is_dir():
            return url, None
        if not path.exists():
            raise ExchangeFileError(location, "there is no such folder or file; check the path")
        return object_url(path.parent), path.name
    folder, _, name = url.rpartition("/")
    return (folder, name) if name.endswith(_SUFFIX) and parts.path.strip("/") else (url, None)
