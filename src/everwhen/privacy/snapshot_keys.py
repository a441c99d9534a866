"""The keys that snapshots are authenticated with, kept apart from every store.

Who can change a store's file could put a state of their own into it, and decisions would rest on
that. So each user has a key file, ``everwhen/snapshots.key`` in their state folder, made when the
first snapshot is taken. From its keys and from where a store lies follow the keys of that store's
snapshots, so that what was taken of an altered copy counts for nothing in the original. A snapshot
that isn't authenticated by one of them costs a replay, and nothing else.

Where no such file can be kept or trusted, the key is the process's own, and gone with it.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Final

import msgspec

from everwhen.privacy.keys import KeyFile, WrappingKey, new_key, without_keys
from everwhen.system.durable_files import state_folder
from everwhen.vocabulary.clock import system_clock
from everwhen.vocabulary.errors import MissingKeyError, VaultError

_LOG: Final = logging.getLogger("everwhen")
_NAME: Final = "snapshots.key"
_OF_A_STORE: Final = b"everwhen-snap/v1"  # BLAKE2b takes at most 16 bytes
_ID: Final = b"everwhen-snap/id"
_ID_BYTES: Final = 8
"""Tells a user's few keys apart."""
_SECRET_BYTES: Final = 32
"""256 bits, like every other key."""
_PRIVATE_MODE: Final = 0o700
"""Nobody but its owner may enter the folder."""


class SnapshotKey(msgspec.Struct, frozen=True):
    """What a store's snapshots are authenticated with. ``secret`` never shows in its text."""

    id: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"SnapshotKey({self.id.hex()!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """What Rich shows of it, also in tracebacks."""
        return [("id", self.id.hex())]


NO_KEY: Final = SnapshotKey(b"", b"")
"""For snapshots that nobody else can write, or that a vault authenticates: a mere checksum."""


class SnapshotKeys:
    """The keys of one store's snapshots, the newest last.

    ``place`` is where the store lies; None for one whose snapshots need no key.
    """

    def __init__(self, place: str | None) -> None:
        self._place = os.fsencode(place or "")
        self._found: tuple[SnapshotKey, ...] = () if place is not None else (NO_KEY,)
        self._path = _path()

    def known(self) -> tuple[SnapshotKey, ...]:
        """The keys that are there; none is made."""
        return self._found or self._look(create=False)

    def newest(self) -> SnapshotKey:
        """The key for new snapshots, made if there is none."""
        return (self._found or self._look(create=True))[-1]

    def _look(self, *, create: bool) -> tuple[SnapshotKey, ...]:
        ring = _users_keys(self._path, create=create)
        self._found = tuple(_derived(key.secret, self._place) for key in ring)
        return self._found


def _derived(secret: bytes, place: bytes) -> SnapshotKey:
    """The key of the store at that place."""
    bound = hashlib.blake2b(place, digest_size=_SECRET_BYTES).digest()
    own = hashlib.blake2b(bound, key=secret, person=_OF_A_STORE, digest_size=_SECRET_BYTES).digest()
    name = hashlib.blake2b(key=own, person=_ID, digest_size=_ID_BYTES).digest()
    return SnapshotKey(name, own)


_known: Final[dict[Path | None, list[WrappingKey]]] = {}
_process_key: Final = [new_key(system_clock())]


def _path() -> Path | None:
    """The user's key file; None where there is no home to keep it in."""
    try:
        return state_folder() / _NAME
    except RuntimeError:
        return None


def _users_keys(path: Path | None, *, create: bool) -> list[WrappingKey]:
    """The user's keys, or the process's own; none where there are none yet."""
    found = _known.get(path, [])
    if found:
        return found
    try:
        found = _read(path, create=create)
    except (OSError, VaultError) as error:
        where = "there is no home folder" if path is None else without_keys(str(error))
        _LOG.warning(
            "snapshots are only used by the process that took them, since the key that "
            "authenticates them can't be kept: %s; set XDG_STATE_HOME to a folder that stays",
            where,
        )
        found = _process_key
    if found:
        _known[path] = found
    return found


def _read(path: Path | None, *, create: bool) -> list[WrappingKey]:
    """Raises `VaultError` or ``OSError`` where there can be no key that only the user knows."""
    if path is None:
        raise MissingKeyError("there is no home folder")
    file = KeyFile(path)
    if create and not path.exists():
        path.parent.mkdir(mode=_PRIVATE_MODE, parents=True, exist_ok=True)
        try:
            KeyFile.create(path)
        except VaultError:
            if not path.exists():  # else another process was faster
                raise
    elif not path.exists():
        return []
    if path.stat().st_uid != os.geteuid():
        raise VaultError(f"{file.where}: it is another user's")
    return file.keys()
