"""The vault: a data key for each subject, and what has been forgotten.

A file of its own, apart from the store, so that a backup of the store alone brings nobody back.
In it each subject has a data key, in versions, wrapped with a key-encryption key that is
elsewhere again (`everwhen.privacy.keys`). To forget a subject is to destroy its keys: whatever was
encrypted with them, wherever it was copied, can't be read any more. A tombstone is left in their
place, so that the absence of a key is never mistaken for a loss.

All processes share the file. What another one has forgotten is noticed within a moment.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from everwhen.privacy.keys import (
    KEY_BYTES,
    NONCE_BYTES,
    Cipher,
    KeyFile,
    KeyProvider,
    WrappedKey,
    cipher,
)
from everwhen.system.file_backups import (
    check_apart,
    copy_pages,
    destination,
    opened_copy,
    place,
    taken,
    workplace,
)
from everwhen.system.forks import register
from everwhen.system.limits import MAX_REMEMBERED, OTHER_PROCESS_SECONDS
from everwhen.system.sqlite_values import stored_bytes, stored_count, stored_text
from everwhen.vocabulary.clock import Clock, micros_by, system_clock
from everwhen.vocabulary.errors import (
    BackupError,
    ErasedSubjectError,
    InvalidEventError,
    MissingKeyError,
    UnfinishedErasureError,
    VaultError,
)
from everwhen.vocabulary.validation import check_text

T = TypeVar("T")

_VERSION_BYTES: Final = 4
"""An encrypted snapshot begins with the version of its key."""

_HEAD_BYTES: Final = _VERSION_BYTES + NONCE_BYTES

_SNAPSHOTS: Final = "/snapshots"
"""The subject of the key that snapshots are encrypted with; no other begins with a slash."""


class SubjectKey(msgspec.Struct, frozen=True):
    """A subject's data key as the vault knows it; the key itself is not in it."""

    subject: str
    version: int
    key_id: str


class Tombstone(msgspec.Struct, frozen=True):
    """What is left of a forgotten subject's keys. ``erased_at`` is in microseconds since 1970."""

    subject: str
    number: int
    erased_at: int


class Forgotten(msgspec.Struct, frozen=True):
    """What forgetting a subject destroyed. ``number`` counts the vault's erasures from 1.

    ``subjects`` are those whose keys went with it; ``repeated`` says that it had been forgotten
    before, and no key was left to destroy.
    """

    subject: str
    number: int
    subjects: tuple[str, ...]
    repeated: bool = False


class Vault:
    """The keys of personal data, in a file. Safe to share between stores, threads and tasks.

    ``keys`` wraps and unwraps them. The file is made if there is none, unless ``create`` is
    False; one that everybody may read or change is refused. ``:memory:`` is a vault that is gone
    with the process. Close it when the stores that use it are closed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        keys: KeyProvider,
        *,
        create: bool = True,
        clock: Clock = system_clock,
        busy_timeout: float = 30.0,
    ) -> None:
        from everwhen.privacy.vault_file import VaultFile

        self.path = Path(path)
        self.keys = keys
        self._now = micros_by(clock)
        self._newest: dict[str, tuple[int, Cipher]] = {}
        self._ciphers: dict[tuple[str, int], Cipher | None] = {}
        self._looked = 0.0
        self._seen = -1
        self._erasures = 0
        self._file = VaultFile(self.path, create=create, busy_timeout=busy_timeout)
        self._execute = self._file.connection.execute
        try:
            self._file.prepare(lambda: self._add_key(_SNAPSHOTS, 1))
        except BaseException:
            self._file.connection.close()
            raise
        self._look()
        register(self._file)

    def __repr__(self) -> str:
        return f"Vault({str(self.path)!r}{', closed' if self._file.is_closed else ''})"

    @property
    def is_in_memory(self) -> bool:
        """Whether it is gone with the process."""
        return self._file.is_in_memory

    # What encrypts and decrypts

    def newest(self, subject: str) -> tuple[int, Cipher]:
        """The version and cipher that a subject's data is encrypted with, made if there is none.

        Raises `ErasedSubjectError` for one that has been forgotten.
        """
        self._look_in_time()
        return self._newest.get(subject) or self._made(subject)

    def cipher(self, subject: str, version: int) -> Cipher | None:
        """A version's cipher; None once the subject has been forgotten.

        Raises `MissingKeyError` where the key should be there, and isn't.
        """
        self._look_in_time()
        try:
            return self._ciphers[subject, version]
        except KeyError:
            return self._found(subject, version)

    @property
    def erasures(self) -> int:
        """How many subjects have been forgotten: what was made of events before may be stale."""
        self._look_in_time()
        return self._erasures

    def seal_snapshot(self, state: bytes, bound: bytes) -> bytes:
        """A snapshot's state, encrypted until the next subject is forgotten."""
        version, encrypt = self.newest(_SNAPSHOTS)
        nonce = secrets.token_bytes(NONCE_BYTES)
        return (
            version.to_bytes(_VERSION_BYTES, "big") + nonce + encrypt.encrypt(nonce, state, bound)
        )

    def open_snapshot(self, sealed: bytes, bound: bytes) -> bytes | None:
        """The state again; None where its key is gone, or it was altered."""
        from cryptography.exceptions import InvalidTag

        version = int.from_bytes(sealed[:_VERSION_BYTES], "big")
        nonce, rest = sealed[_VERSION_BYTES:_HEAD_BYTES], sealed[_HEAD_BYTES:]
        try:
            found = self.cipher(_SNAPSHOTS, version)
            if found is None:
                return None
            return bytes(found.decrypt(nonce, rest, bound))
        except (MissingKeyError, InvalidTag, ValueError):
            return None

    # What is done with keys

    def subjects(self, under: str | None = None) -> list[str]:
        """The subjects that have keys; with ``under`` that one, and those below it."""
        where, bounds = _below(under)
        return self._subjects(where, bounds)

    def subjects_like(self, pattern: str, *, before: str) -> list[str]:
        """The subjects that have keys and fit a pattern, and whose end sorts before a text.

        The pattern is one of SQLite's ``GLOB``, such as ``?*/[0-9]``; the end is as long as the
        text. Every subject is looked at, but only those that fit are kept in memory.
        """
        where = f"subject GLOB ? AND substr(subject, {-len(before)}) < ?"
        return self._subjects(where, (pattern, before))

    def _subjects(self, where: str, bounds: tuple[str, ...]) -> list[str]:
        return self._file.rows(
            stored_text,
            f"SELECT DISTINCT subject FROM keys WHERE {where} AND subject <> ? ORDER BY subject",
            (*bounds, _SNAPSHOTS),
        )

    def subject_keys(self, under: str | None = None) -> list[SubjectKey]:
        """The data keys, by subject and version."""
        where, bounds = _below(under)
        return self._file.rows(
            lambda s, v, k: SubjectKey(stored_text(s), stored_count(v), stored_text(k)),
            f"SELECT subject, version, key_id FROM keys WHERE {where} AND subject <> ? "
            "ORDER BY subject, version",
            (*bounds, _SNAPSHOTS),
        )

    def leftover_keys(self) -> list[SubjectKey]:
        """The data keys of subjects that have been forgotten, by subject and version.

        There are none, unless somebody has put them back past Everwhen, or a tombstone in. They
        are never used; to `forget` the subjects again destroys them.
        """
        return self._file.rows(
            lambda s, v, k: SubjectKey(stored_text(s), stored_count(v), stored_text(k)),
            "SELECT k.subject, k.version, k.key_id FROM stones AS s CROSS JOIN keys AS k "
            "ON k.subject = s.subject UNION "
            "SELECT k.subject, k.version, k.key_id FROM stones AS s CROSS JOIN keys AS k "
            "ON k.subject >= s.subject || '/' AND k.subject < s.subject || '0' ORDER BY 1, 2",
        )

    def is_forgotten(self, subject: str) -> bool:
        """Whether a subject, or one that it lies below, has been forgotten."""
        with self._file.translated(), self._file.lock:
            return self._tombstone(subject) is not None

    def forget(self, subject: str) -> Forgotten:
        """Destroy a subject's keys and those of all subjects below it, for good.

        What was encrypted with them can't be read any more. Safe to repeat: keys that were put back
        since are destroyed too, as an erasure of its own. To have it take effect
        in snapshots and read models too, use the store's ``forget``.
        """
        (forgotten,) = self.forget_all((subject,))
        return forgotten

    def forget_all(self, subjects: Sequence[str]) -> list[Forgotten]:
        """The same for many subjects in one go: all of them or, where that fails, none.

        Raises `UnfinishedErasureError` where the keys are destroyed and the file could not be
        written anew, without the gaps that they have left; `compact` does that later.
        """
        forgotten = self.destroy(subjects)
        try:
            self.compact()
        except VaultError as error:
            raise UnfinishedErasureError(subjects, error) from error
        return forgotten

    def compact(self) -> None:
        """Write the file anew, without the gaps that deleted keys have left."""
        self._file.run("VACUUM")

    def destroy(self, subjects: Sequence[str]) -> list[Forgotten]:
        """What `forget_all` does, but for `compact`."""
        for subject in subjects:
            check_subject(subject)

        def destroy() -> list[Forgotten]:
            before = number = self._count()
            found: list[Forgotten] = []
            for subject in subjects:
                forgotten = self._forget(subject, number + 1)
                number += not forgotten.repeated
                found.append(forgotten)
            if number > before:
                version = max(number, self._last_version(_SNAPSHOTS)) + 1
                self._execute("DELETE FROM keys WHERE subject = ?", (_SNAPSHOTS,))
                self._add_key(_SNAPSHOTS, version)
            return found

        return self._transact(destroy)

    def _forget(self, subject: str, number: int) -> Forgotten:
        """Destroy what keys there are, whatever stands: each tombstone is newer than all it covers.

        Else what was made of events while keys stood beside an older tombstone would pass as up to
        date.
        """
        where, bounds = _below(subject)
        rows = self._execute(
            f"SELECT DISTINCT subject FROM keys WHERE {where} ORDER BY subject", bounds
        ).fetchall()
        known = self._tombstone(subject)
        if known is not None and not rows:
            return Forgotten(subject, known, (), repeated=True)
        self._execute(f"DELETE FROM keys WHERE {where}", bounds)
        self._execute(
            "INSERT OR REPLACE INTO stones VALUES (?, ?, ?)", (subject, number, self._now())
        )
        return Forgotten(subject, number, tuple(stored_text(row[0]) for row in rows))

    def tombstones(self, since: int = 1) -> list[Tombstone]:
        """What has been forgotten, in order, from the erasure of that number on."""
        return self._file.rows(
            lambda s, n, at: Tombstone(stored_text(s), stored_count(n), stored_count(at)),
            "SELECT subject, number, erased_at FROM stones WHERE number >= ? ORDER BY number",
            (since,),
        )

    def rotate(self, subject: str) -> int:
        """Give a subject a new data key for what is written from now on; returns its version.

        What was written before stays as it is, and readable by the older version.
        """
        check_subject(subject)

        def rotate() -> int:
            self._check_not_forgotten(subject)
            return self._add_key(subject, self._last_version(subject) + 1)

        return self._transact(rotate)

    def rewrap(self) -> int:
        """Wrap every data key with the present key-encryption key; returns how many it was.

        The data keys stay the same, and so does all that they have encrypted.
        """

        def rewrap() -> int:
            rows: list[Any] = self._execute(
                "SELECT subject, version, key_id, wrapped FROM keys"
            ).fetchall()
            for subject, version, key_id, wrapped in rows:
                bound = _bound(stored_text(subject), stored_count(version))
                key = self.keys.unwrap(
                    WrappedKey(stored_text(key_id), stored_bytes(wrapped)), bound
                )
                new = self.keys.wrap(key, bound)
                self._execute(
                    "UPDATE keys SET key_id = ?, wrapped = ? WHERE subject = ? AND version = ?",
                    (new.key_id, new.content, subject, version),
                )
            return len(rows)

        count = self._transact(rewrap)
        self.compact()
        return count

    def wrapped_with(self) -> dict[str, int]:
        """How many data keys are wrapped with each key-encryption key, by its id."""
        by_key = "SELECT key_id, count(*) FROM keys GROUP BY key_id"
        return dict(
            self._file.rows(
                lambda key_id, count: (stored_text(key_id), stored_count(count)), by_key
            )
        )

    def backup(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Copy the vault as it is at one moment into a file, which only its owner may read.

        The key-encryption keys are not in it. With them, anyone who holds the copy can read
        data of people who are forgotten later. A file that is there is kept unless ``overwrite``.
        Raises `BackupError` for a place that can't be used, and `VaultError`.
        """
        self.check_apart(path)
        final = destination(path, overwrite=overwrite)
        if self._file.is_in_memory:
            raise BackupError(str(path), "this vault is in memory and has no file to copy")
        with workplace(final) as folder, self._file.translated():
            copy = folder / "vault"
            with contextlib.closing(self._file.connect()) as connection:
                connection.execute("BEGIN")
                connection.execute("SELECT count(*) FROM stones").fetchall()
                copy_pages(connection, copy, lambda _: None)
            with contextlib.closing(opened_copy(copy, lambda: None)) as opened:
                if opened.execute("PRAGMA integrity_check").get != "ok":
                    raise VaultError(f"{self.path}: its copy is damaged, so none was made")
            with taken(final, folder):
                place(copy, final, copy)

    def check_apart(self, path: str | os.PathLike[str]) -> None:
        """Raises `BackupError` for a path that is the vault's, or that of its key."""
        check_apart(path, self.path, self.keys.path if isinstance(self.keys, KeyFile) else None)

    def close(self) -> None:
        """Release the file; calling it again does nothing."""
        if self._file.is_foreign:
            return  # the connection is the parent's
        with self._file.lock:
            if not self._file.is_closed:
                self._newest.clear()
                self._ciphers.clear()
                self._file.close()

    def __enter__(self) -> Vault:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    # Within

    def _look_in_time(self) -> None:
        if time.monotonic() - self._looked > OTHER_PROCESS_SECONDS:
            self._look()

    def _look(self) -> None:
        """Drop what is remembered if the file has changed."""
        with self._file.translated(), self._file.lock:
            seen = self._file.connection.pragma("data_version")
            if seen != self._seen:
                self._newest.clear()
                self._ciphers.clear()
                self._erasures = self._count()
                self._seen = seen
            self._looked = time.monotonic()

    def _made(self, subject: str) -> tuple[int, Cipher]:
        def made() -> int:
            self._check_not_forgotten(subject)
            return self._last_version(subject) or self._add_key(subject, 1)

        with self._file.translated(), self._file.lock:
            self._check_not_forgotten(subject)
            version = self._last_version(subject)
            if not version:
                check_subject(subject)
                version = self._transact(made, changes_known=False)
            found = self._found(subject, version)
            if found is None:
                raise ErasedSubjectError(subject)
            self._newest[subject] = version, found
            return version, found

    def _found(self, subject: str, version: int) -> Cipher | None:
        with self._file.translated(), self._file.lock:
            # A key beside a tombstone never counts, wherever it comes from.
            found = None if self._tombstone(subject) is not None else self._kept(subject, version)
            if len(self._ciphers) >= MAX_REMEMBERED:
                self._ciphers.clear()
                self._newest.clear()
            self._ciphers[subject, version] = found
            return found

    def _kept(self, subject: str, version: int) -> Cipher:
        row = self._execute(
            "SELECT key_id, wrapped FROM keys WHERE subject = ? AND version = ?",
            (subject, version),
        ).get
        if row is None:
            raise MissingKeyError(
                f"{self.path} has no key version {version} of subject {subject!r}, and no "
                f"record that it was forgotten; restore the vault from its newest backup"
            )
        wrapped = WrappedKey(stored_text(row[0]), stored_bytes(row[1]))
        return cipher(self.keys.unwrap(wrapped, _bound(subject, version)))

    def _add_key(self, subject: str, version: int) -> int:
        wrapped = self.keys.wrap(secrets.token_bytes(KEY_BYTES), _bound(subject, version))
        self._execute(
            "INSERT INTO keys VALUES (?, ?, ?, ?, ?)",
            (subject, version, wrapped.key_id, wrapped.content, self._now()),
        )
        return version

    def _last_version(self, subject: str) -> int:
        last = self._execute("SELECT max(version) FROM keys WHERE subject = ?", (subject,)).get
        return stored_count(last or 0)

    def _count(self) -> int:
        return stored_count(self._execute("SELECT max(number) FROM stones").get or 0)

    def _tombstone(self, subject: str) -> int | None:
        """The number under which the subject, or one above it, was forgotten."""
        parts = subject.split("/")
        for end in range(1, len(parts) + 1):
            number = self._execute(
                "SELECT number FROM stones WHERE subject = ?", ("/".join(parts[:end]),)
            ).get
            if number is not None:
                return stored_count(number)
        return None

    def _check_not_forgotten(self, subject: str) -> None:
        if self._tombstone(subject) is not None:
            raise ErasedSubjectError(subject)

    def _transact(self, work: Callable[[], T], *, changes_known: bool = True) -> T:
        """Run it in one durable transaction. ``changes_known``: what is remembered may be stale."""
        with self._file.translated(), self._file.lock:
            if changes_known:
                self._seen = -1  # should an interrupt come before it is dropped
            result = self._file.transact(work)
            if changes_known:
                self._newest.clear()
                self._ciphers.clear()
                self._erasures = self._count()
            return result


def check_subject(subject: object) -> str:
    """A subject: a path of non-empty parts. Raises `InvalidEventError`."""
    text = check_text(subject, "data subject", InvalidEventError)
    if not all(text.split("/")):
        raise InvalidEventError(f"data subject {text!r}: a path's parts are not empty")
    return text


def _below(subject: str | None) -> tuple[str, tuple[str, ...]]:
    """The condition for a subject and all below it."""
    if subject is None:
        return "TRUE", ()
    return "(subject = ? OR subject >= ? AND subject < ?)", (
        subject,
        f"{subject}/",
        f"{subject}0",  # the character after the slash
    )


def _bound(subject: str, version: int) -> bytes:
    """What a wrapped key is bound to."""
    return f"everwhen-vault/v1\n{subject}\n{version}".encode()
