"""Files to read from and to write to, plain or compressed, with bounded memory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, TypeAlias, cast

from everwhen.exchange.errors import DamagedInputError, ExchangeFileError, OutputExistsError
from everwhen.system.durable_files import NewFile

Location: TypeAlias = str | os.PathLike[str] | BinaryIO

STANDARD: Final = "-"
_CHUNK_BYTES: Final = 1 << 17
"""Read or unpacked at once: bounds what a crafted archive can take in memory."""

_GZIP_WINDOW_BITS: Final = 31
"""zlib's number for its largest window, 15, with a gzip header, 16."""


class Source:
    """A file that is being imported: where it has come, and the digest of what was read.

    ``done`` and ``total`` are in bytes as they lie on the disk; ``total`` is None for a pipe.
    Raises `ExchangeFileError` where it can't be opened.
    """

    def __init__(self, location: Location) -> None:
        self.done = 0
        self._digest = hashlib.sha256()
        self._zip: zipfile.ZipFile | None = None
        if isinstance(location, str | os.PathLike):
            self.name = os.fspath(location)
            self._owned = self.name != STANDARD
            if self._owned:
                self._file: BinaryIO = _opened(Path(self.name))
            else:
                self.name, self._file = "<stdin>", sys.stdin.buffer
        else:
            self.name = str(getattr(location, "name", "<file>"))
            self._owned, self._file = False, location
        self._start = self._file.tell() if self.can_repeat else 0
        self.total = _size(self._file) if self.can_repeat else None

    @property
    def can_repeat(self) -> bool:
        """Whether it can be read a second time."""
        try:
            return self._file.seekable()
        except (AttributeError, OSError):
            return False

    @property
    def digest(self) -> bytes:
        """SHA-256 of the bytes read so far."""
        return self._digest.digest()

    def chunks(self) -> Iterator[bytes]:
        """The content, decompressed where the name ends in ``.gz`` or ``.zip``.

        Raises `DamagedInputError` where the compressed data is damaged or ends early.
        """
        try:
            if self.name.endswith(".zip"):
                yield from self._unzipped()
            elif self.name.endswith(".gz"):
                yield from _gunzipped(self._raw(self._file))
            else:
                yield from self._raw(self._file)
        except OSError as error:
            raise ExchangeFileError(
                self.name, f"reading failed: {error.strerror or error}; try again"
            ) from error

    def repeat(self) -> None:
        """Go back to the beginning."""
        self._file.seek(self._start)
        self._digest = hashlib.sha256()
        self.done = 0

    def close(self) -> None:
        """Close what was opened here."""
        if self._owned:
            self._file.close()

    def _raw(self, file: IO[bytes]) -> Iterator[bytes]:
        while chunk := file.read(_CHUNK_BYTES):
            self.done += len(chunk)
            self._digest.update(chunk)
            yield chunk

    def _unzipped(self) -> Iterator[bytes]:
        try:
            with zipfile.ZipFile(self._file) as archive:
                members = [item for item in archive.infolist() if not item.is_dir()]
                if len(members) != 1:
                    raise DamagedInputError(
                        f"the archive holds {len(members)} files; unpack it and name one"
                    )
                if members[0].flag_bits & 1:
                    raise DamagedInputError("the zip archive is encrypted; unpack it first")
                self.total = members[0].file_size
                with archive.open(members[0]) as file:
                    yield from self._raw(file)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise DamagedInputError(
                f"the zip archive is damaged ({error}); get it again"
            ) from error


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise ExchangeFileError(str(path), "no such file; check the path") from error
    except IsADirectoryError as error:
        raise ExchangeFileError(str(path), "this is a folder; name a file in it") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExchangeFileError(str(path), f"it can't be opened: {reason}") from error


def _size(file: BinaryIO) -> int | None:
    try:
        found = os.fstat(file.fileno())
    except (OSError, AttributeError, ValueError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _gunzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Piece by piece, so that a small file that unpacks to a huge one takes no memory."""
    unpacker = zlib.decompressobj(_GZIP_WINDOW_BITS)
    begun = False
    try:
        for chunk in chunks:
            rest = chunk
            while rest:
                if unpacker.eof:
                    rest = rest.lstrip(b"\0")
                    if not rest:
                        break
                    unpacker = zlib.decompressobj(_GZIP_WINDOW_BITS)
                begun = True
                piece = unpacker.decompress(rest, _CHUNK_BYTES)
                rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
                if piece:
                    yield piece
                # The unpacker may hold output back although all input is consumed.
                while not rest and len(piece) == _CHUNK_BYTES and not unpacker.eof:
                    piece = unpacker.decompress(b"", _CHUNK_BYTES)
                    if piece:
                        yield piece
    except zlib.error as error:
        raise DamagedInputError(
            f"the gzip data is damaged ({error}); get the file again"
        ) from error
    if not begun or not unpacker.eof:
        raise DamagedInputError("the gzip data is incomplete; get the whole file")


class Target:
    """A file that is being exported: it takes its name only once it is complete.

    Raises `OutputExistsError` where it exists already and ``overwrite`` is not given, and another
    `ExchangeFileError` where it can't be written.
    """

    def __init__(self, location: Location, *, overwrite: bool) -> None:
        self.bytes = 0
        self._path: Path | None = None
        self._new: NewFile | None = None
        self._overwrite = overwrite
        self._packer: Any = None
        if not isinstance(location, str | os.PathLike):
            self.name = str(getattr(location, "name", "<file>"))
            self._file: BinaryIO = location
            return
        self.name = os.fspath(location)
        if self.name == STANDARD:
            self.name, self._file = "<stdout>", sys.stdout.buffer
            return
        self._path = Path(self.name)
        if self._path.is_dir():
            raise ExchangeFileError(self.name, "this is a folder; name a file in it")
        if not self._path.parent.exists():
            raise ExchangeFileError(
                self.name,
                f"there is no folder {self._path.parent}; create it, or name another",
            )
        if self._path.exists() and not overwrite:
            raise OutputExistsError(
                self.name, "it already exists; give another name, or --overwrite"
            )
        if self.name.endswith(".gz"):
            self._packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP_WINDOW_BITS)
        try:
            if self._path.exists() and not self._path.is_file():  # a pipe or a device
                self._file = cast("BinaryIO", self._path.open("wb"))
                return
            self._new = NewFile(self._path)
        except OSError as error:
            raise ExchangeFileError(
                self.name, f"it can't be written: {error.strerror or error}"
            ) from error
        self._file = self._new.file

    def write(self, text: bytes) -> None:
        """Add to the file."""
        self.bytes += len(text)
        packed = self._packer.compress(text) if self._packer is not None else text
        try:
            self._file.write(packed)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise ExchangeFileError(
                self.name, f"writing failed: {error.strerror or error}; make room and try again"
            ) from error

    def finish(self) -> None:
        """Complete the file and put it in its place."""
        try:
            if self._packer is not None:
                self._file.write(self._packer.flush())
            self._file.flush()
            if self._new is not None:
                self._new.finish(replaces=self._overwrite)
            elif self._path is not None:
                self._file.close()
        except BrokenPipeError:
            raise
        except FileExistsError as error:
            raise ExchangeFileError(
                self.name,
                "another process has created it meanwhile; give another name, or --overwrite",
            ) from error
        except OSError as error:
            raise ExchangeFileError(
                self.name, f"writing failed: {error.strerror or error}; make room and try again"
            ) from error

    def abandon(self) -> None:
        """Delete a file that is half written; after ``finish`` it does nothing."""
        if self._new is not None:
            self._new.abandon()
        elif self._path is not None:
            with contextlib.suppress(OSError):
                self._file.close()
