"""What a reader remembers: the newest checkpoint of each log that was verified here.

A reader that looks twice notices by it that a log was set back or forked. It is kept beside the
reader and not with the log, where somebody who changes the one could change the other: a file for
each place
that logs were looked at, in ``$XDG_STATE_HOME/everwhen/remembered``, of JSON with the signed
checkpoint, the key that signed it, and when a log was verified there first and last.

A file that is damaged, or that others may change, is never taken for one that isn't there.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from everwhen_verify.checkpoints import Checkpoint, parse_checkpoint
from everwhen_verify.errors import MemoryFileError, VerifyError
from everwhen_verify.notes import MAX_NOTE, Verifier, open_note

FORMAT: Final = "everwhen-remembered/v1"
_SUFFIX: Final = ".json"
_MAX_FILE: Final = 2 * MAX_NOTE + 100_000
"""A note with every character escaped, and the rest."""
_MOST_FILES: Final = 10_000
_TYPES: Final = {"place": str, "key": str, "note": str, "first": int, "last": int}
_MAX_TIME: Final = 253_402_300_799


@dataclass(frozen=True, slots=True)
class Remembered:
    """A checkpoint that was verified: where, signed by which key, and since when one is known.

    ``first`` and ``last`` are when a log was verified at that place first, and when this
    checkpoint was, in seconds since 1970.
    """

    place: str
    key: str
    note: str
    first: int
    last: int

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint in the note."""
        return parse_checkpoint(self.note.rpartition("\n\n")[0] + "\n")


class Memory:
    """The checkpoints that a reader remembers, in a folder that only they may change."""

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        """``folder`` is made when it is first needed.

        Raises `MemoryFileError` where none is given and nothing says where this user's lies.
        """
        self.folder = _usual() if folder is None else Path(folder)

    def __repr__(self) -> str:
        return f"Memory({str(self.folder)!r})"

    def path_of(self, place: str) -> Path:
        """The file of a place."""
        name = sha256(place.encode(errors="surrogateescape")).hexdigest()[:40]
        return self.folder / f"{name}{_SUFFIX}"

    def recall(self, place: str) -> Remembered | None:
        """What was verified last at a place; None where nothing ever was.

        Raises `MemoryFileError` for a file that can't be read, is damaged, or that others may
        change.
        """
        path = self.path_of(place)
        data = _read(path)
        if data is None:
            return None
        found = _parsed(path, data)
        if found.place != place:
            raise _damaged(path, f"it belongs to {found.place!r}")
        return found

    def others(self, key: str, place: str) -> list[Remembered]:
        """What a key has signed at other places. A file that is damaged counts only at its own."""
        found: list[Remembered] = []
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            for path in sorted(self.folder.iterdir())[:_MOST_FILES]:
                if path.suffix == _SUFFIX:
                    with contextlib.suppress(MemoryFileError):
                        data = _read(path)
                        one = None if data is None else _parsed(path, data)
                        if one is not None and one.key == key and one.place != place:
                            found.append(one)
        return found

    def keep(self, place: str, note: bytes, key: Verifier, now: int) -> Remembered:
        """Remember a checkpoint that was verified just now, durably, and what is remembered then.

        That is another one where a process beside this has kept one that isn't smaller, which
        remains to be compared. Raises `MemoryFileError` where it can't be kept.
        """
        one = Remembered(place, key.vkey, note.decode(), now, now)
        with self._changing(place) as path:
            before = self.recall(place)
            if before is not None:
                old, new = before.checkpoint, one.checkpoint
                if old.size > new.size or (old.size == new.size and old.root != new.root):
                    return before
                one = Remembered(place, one.key, one.note, before.first, max(now, before.last))
            _replace(path, json.dumps({"format": FORMAT, **asdict(one)}, indent=1).encode())
        return one

    def forget(self, place: str) -> bool:
        """Forget what was verified at a place; whether anything was remembered.

        Raises `MemoryFileError` where the file can't be deleted.
        """
        with self._changing(place) as path:
            try:
                path.unlink()
            except FileNotFoundError:
                return False
            _sync(self.folder)
        return True

    @contextlib.contextmanager
    def _changing(self, place: str) -> Iterator[Path]:
        """The file of a place, while nobody else changes any."""
        path = self.path_of(place)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_owned(self.folder, self.folder.stat())
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield path
            finally:
                os.close(lock)
        except OSError as error:
            where = str(error.filename or path)
            raise MemoryFileError(where, error.strerror or str(error)) from error


def _usual() -> Path:
    """The folder of this user. A relative ``XDG_STATE_HOME`` is ignored, as its standard says."""
    state = os.environ.get("XDG_STATE_HOME", "")
    if not Path(state).is_absolute():
        try:
            state = str(Path.home() / ".local" / "state")
        except RuntimeError:
            state = ""
        if not Path(state).is_absolute():
            raise MemoryFileError(
                "XDG_STATE_HOME", "it isn't set, and this user has no home directory"
            )
    return Path(state) / "everwhen" / "remembered"


def _read(path: Path) -> bytes | None:
    """The file, through no link; None where there is none. Raises `MemoryFileError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise MemoryFileError(str(path), error.strerror or str(error)) from error
    try:
        _check_owned(path.parent, path.parent.stat())
        _check_owned(path, os.fstat(descriptor))
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise MemoryFileError(str(path), "it is not a file")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise MemoryFileError(str(path), error.strerror or str(error)) from error
    finally:
        os.close(descriptor)
    if len(data) > _MAX_FILE:
        raise _damaged(path, f"it is too large; the maximum is {_MAX_FILE:,} bytes")
    return data


def _check_owned(path: Path, found: os.stat_result) -> None:
    if found.st_uid not in {os.geteuid(), 0} or stat.S_IMODE(found.st_mode) & 0o022:
        raise MemoryFileError(
            str(path), "other users can change it; make it yours, and chmod go-w it"
        )


def _parsed(path: Path, data: bytes) -> Remembered:
    """What a file says, once its checkpoint is signed as it says. Raises `MemoryFileError`."""
    try:
        fields: dict[str, Any] = json.loads(data)
        if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT:
            raise _damaged(path, f"it does not have the format {FORMAT}")
        if {name: type(value) for name, value in fields.items()} != _TYPES:
            raise _damaged(path, f"it does not have exactly the fields {', '.join(_TYPES)}")
        found = Remembered(**fields)
        key = Verifier.parse(found.key)
        checkpoint = parse_checkpoint(open_note(found.note.encode(), [key]).text)
    except MemoryFileError:
        raise
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, VerifyError) else "it is not JSON"
        raise _damaged(path, why) from None
    if checkpoint.origin != key.name:
        raise _damaged(path, f"its key does not belong to the log {checkpoint.origin!r}")
    if not 0 <= found.first <= found.last <= _MAX_TIME:
        raise _damaged(path, "its times contradict each other")
    return found


def _damaged(path: Path, why: str) -> MemoryFileError:
    return MemoryFileError(
        str(path),
        f"the file is damaged ({why}); restore it from a copy, or forget what it remembers with "
        f"--forget-remembered",
    )


def _replace(path: Path, data: bytes) -> None:
    """Put other content in the file's place: a crash leaves the old or the new. Raises OSError."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
