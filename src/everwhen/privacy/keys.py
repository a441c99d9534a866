"""Key-encryption keys: what a vault's data keys are wrapped with, and where it comes from.

A key ring is a text, a line a key, the newest last; the last one wraps, all of them unwrap::

    everwhen-key/v1 3f6c2a9d 2026-11-27T06:30:00Z - qm0M…
                    id       made                 expires (- for never), 32 bytes in base64

`KeyFile` reads it from a file, `KeyFromEnvironment` from an environment variable. A key management
service is anything with the two methods of `KeyProvider`.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from everwhen.system.bounded_files import MAX_KEY_FILE_BYTES, ExposedError, read_secret
from everwhen.system.durable_files import write_secret
from everwhen.vocabulary.clock import Clock, system_clock
from everwhen.vocabulary.errors import ExpiredKeyError, MissingKeyError, VaultError, WrongKeyError

_MARK: Final = "everwhen-key/v1"
KEY_BYTES: Final = 32
"""AES-256."""
_KEYS: Final = re.compile(
    r"PRIVATE\+KEY\+.*|everwhen-key/.*|\b[0-9A-Fa-f]{32,}\b"
    r"|\A(?=.*[0-9])(?=.*[A-Z])(?=.*[a-z])[A-Za-z0-9+/_-]{40,44}=?\Z",
    # 32 or 33 bytes in base64; a path has only one of several slashes in a row.
    re.DOTALL,
)
NONCE_BYTES: Final = 12
"""AES-GCM's own size; others cost security."""


class WrappedKey(msgspec.Struct, frozen=True):
    """A data key as it is kept, and the id of the key that wraps it."""

    key_id: str
    content: bytes


class KeyProvider(Protocol):
    """Wraps data keys, and unwraps them. ``context`` is bound to each: the same for both ways."""

    def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        """Wrap a data key with the present key. Raises `VaultError`."""
        ...

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """The data key. Raises `MissingKeyError` or `WrongKeyError`, or another `VaultError`."""
        ...


class WrappingKey(msgspec.Struct, frozen=True):
    """One key of a ring. ``secret`` never shows in its text."""

    id: str
    made_at: datetime
    expires_at: datetime | None
    secret: bytes

    @property
    def line(self) -> str:
        """The key as a line of a ring's text."""
        expires = "-" if self.expires_at is None else _text(self.expires_at)
        secret = base64.b64encode(self.secret).decode()
        return f"{_MARK} {self.id} {_text(self.made_at)} {expires} {secret}"

    def __repr__(self) -> str:
        return f"WrappingKey({self.id!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """What Rich shows of it, also in tracebacks."""
        return [("id", self.id)]


def without_keys(text: str) -> str:
    """A path or a name for a message, without keys that somebody gave in its place."""
    return _KEYS.sub("\N{HORIZONTAL ELLIPSIS}", text)


def new_key(made_at: datetime, expires_at: datetime | None = None) -> WrappingKey:
    """A fresh key."""
    return WrappingKey(secrets.token_hex(8), made_at, expires_at, secrets.token_bytes(KEY_BYTES))


def keys_in(text: str, where: str) -> list[WrappingKey]:
    """The keys of a ring's text. Raises `VaultError` for a line that is no key, not showing it."""
    found: list[WrappingKey] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            mark, key_id, made_at, expires, secret = line.split()
            key = WrappingKey(
                key_id,
                _moment(made_at),
                None if expires == "-" else _moment(expires),
                base64.b64decode(secret, validate=True),
            )
            fits = mark == _MARK and len(key.secret) == KEY_BYTES
        except (ValueError, binascii.Error):
            fits = False
        if not fits:
            raise VaultError(
                f"{where}, line {number}: that is not a key; make one with everwhen keys new"
            )
        found.append(key)
    if not found:
        raise MissingKeyError(f"{where} has no key; make one with everwhen keys new")
    return found


class KeyRing:
    """Keys out of a text that is read when it is needed: again when a key isn't known."""

    def __init__(self, read: Callable[[], str], where: str, clock: Clock = system_clock) -> None:
        self.where = where
        self._read = read
        self._clock = clock
        self._known: dict[str, WrappingKey] = {}

    def keys(self) -> list[WrappingKey]:
        """All keys, the newest last."""
        found = keys_in(self._read(), self.where)
        self._known = {key.id: key for key in found}
        return found

    def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        """Wrap with the newest key. Raises `ExpiredKeyError` once its time is over."""
        newest = self.keys()[-1]
        if newest.expires_at is not None and newest.expires_at <= self._clock():
            raise ExpiredKeyError(
                f"{self.where}: key {newest.id} expired at {_text(newest.expires_at)}, so it wraps "
                f"nothing new; what it has wrapped stays readable: everwhen keys rotate makes the "
                f"next one"
            )
        nonce = secrets.token_bytes(NONCE_BYTES)
        content = nonce + cipher(newest.secret).encrypt(nonce, key, context)
        return WrappedKey(newest.id, content)

    def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """The data key, unwrapped."""
        known = self._known.get(wrapped.key_id)
        if known is None:
            self.keys()
            known = self._known.get(wrapped.key_id)
        if known is None:
            raise MissingKeyError(
                f"{self.where} doesn't have key {wrapped.key_id}, with which the vault's keys are "
                f"wrapped; give the key file that belongs to the vault"
            )
        from cryptography.exceptions import InvalidTag

        nonce, content = wrapped.content[:NONCE_BYTES], wrapped.content[NONCE_BYTES:]
        try:
            return bytes(cipher(known.secret).decrypt(nonce, content, context))
        except (InvalidTag, ValueError) as error:
            raise WrongKeyError(
                f"{self.where}: key {known.id} doesn't open what is in the vault; the key or the "
                f"vault was altered: restore them from a backup, both of the same time"
            ) from error


class KeyFile(KeyRing):
    """Keys in a file that only its owner may read."""

    def __init__(self, path: str | os.PathLike[str], *, clock: Clock = system_clock) -> None:
        self.path = Path(path)
        super().__init__(self._text, without_keys(str(self.path)), clock)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), clock=self._clock), (self.path,)

    def _text(self) -> str:
        try:
            return read_secret(self.path, MAX_KEY_FILE_BYTES).decode()
        except ExposedError:
            raise VaultError(
                f"{self.where}: others may read this key; chmod 600 it, and think about rotating"
            ) from None
        except FileNotFoundError:
            raise MissingKeyError(
                f"{self.where}: the key file is missing; make one with everwhen keys new"
            ) from None
        except OSError as error:
            raise VaultError(f"{self.where}: the key can't be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise VaultError(f"{self.where}: that is not a key file; it isn't text") from None

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        clock: Clock = system_clock,
        expires_at: datetime | None = None,
    ) -> KeyFile:
        """A new file with a fresh key. Raises `VaultError` where there is one already."""
        file = cls(path, clock=clock)
        text = new_key(clock(), expires_at).line + "\n"
        try:
            write_secret(file.path, text.encode())
        except FileExistsError as error:
            raise VaultError(
                f"{file.where}: is there already; a key is never overwritten, name another file"
            ) from error
        except OSError as error:
            raise VaultError(f"{file.where}: no key can be made there: {error.strerror}") from error
        return file

    def add(self, *, expires_at: datetime | None = None) -> WrappingKey:
        """Add a fresh key, which wraps from now on; the older ones go on unwrapping."""
        known = self.keys()
        key = new_key(self._clock(), expires_at)
        self._replace([*known, key])
        return key

    def keep_only(self, key_id: str) -> None:
        """Drop every other key, once nothing is wrapped with them any more."""
        self._replace([key for key in self.keys() if key.id == key_id])

    def _replace(self, keys: list[WrappingKey]) -> None:
        text = "".join(f"{key.line}\n" for key in keys)
        try:
            write_secret(self.path, text.encode(), replaces=True)
        except OSError as error:
            raise VaultError(
                f"{self.where}: the key file can't be written: {error.strerror}"
            ) from error


class KeyFromEnvironment(KeyRing):
    """Keys in an environment variable, whose text is that of a key file."""

    def __init__(self, name: str, *, clock: Clock = system_clock) -> None:
        self.name = name
        super().__init__(self._text, f"environment variable {without_keys(name)}", clock)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), clock=self._clock), (self.name,)

    def _text(self) -> str:
        text = os.environ.get(self.name)
        if not text:
            raise MissingKeyError(f"{self.where} isn't set; put the key file's text into it")
        return text


class Cipher(Protocol):
    """AES-GCM-SIV (RFC 8452) under one key."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """The ciphertext, and the tag after it."""
        ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """The plaintext. Raises ``cryptography.exceptions.InvalidTag``."""
        ...


def cipher(key: bytes) -> Cipher:
    """The cipher. Raises `VaultError` where the library for it isn't installed."""
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
    except ImportError as error:
        raise VaultError(
            "a vault needs the library cryptography: pip install 'everwhen[trust]'"
        ) from error
    try:
        return AESGCMSIV(key)
    except UnsupportedAlgorithm as error:
        raise VaultError(
            "this build of cryptography has no AES-GCM-SIV; install its wheel, or OpenSSL 3.2"
        ) from error


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment
