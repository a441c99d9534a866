"""What a witness does: it remembers each log's newest tree, and signs only what grew from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from typing import Final

import apsw

from everwhen.system.sqlite_connection import connect, transact
from everwhen.vocabulary.errors import BusyError, DeclarationError, NotAStoreError, StorageError
from everwhen.witness.messages import SIZE_TYPE, TEXT_TYPE, AddCheckpoint, parse_request
from everwhen_verify.checkpoints import Checkpoint, parse_checkpoint
from everwhen_verify.errors import MalformedError, ProofError, SignatureError
from everwhen_verify.merkle import EMPTY_ROOT, check_consistency
from everwhen_verify.notes import Kind, Note, Signer, Verifier, parse_note
from everwhen_verify.rollover import LogKey, Rollover, handed_over, open_checkpoint

_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS heads (
        origin TEXT PRIMARY KEY,
        hash TEXT NOT NULL UNIQUE,
        size INTEGER NOT NULL,
        root BLOB NOT NULL,
        time INTEGER NOT NULL,
        note BLOB NOT NULL
    ) STRICT, WITHOUT ROWID
"""
_MARK: Final = 0x45_57_57_31
""""EWW1": the mark of witnesses' files in SQLite's header."""

_BUSY_SECONDS: Final = 5.0
"""How long another process that shares the file is waited for: far more than signing takes."""

_MAX_VALUE_BYTES: Final = 4 << 20
"""More than a row takes, a note of a megabyte and in it a name as long: no crafted file fills the
memory."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer over HTTP."""

    status: HTTPStatus
    body: bytes
    content_type: str = TEXT_TYPE


class WitnessService:
    """A witness without its network: a key, the logs it knows, and a file that remembers.

    What it has signed is on disk before anybody gets to see the signature, and asking for the
    newest tree and writing the next one is one transaction: also when several processes share the
    file. ``clock`` gives seconds since 1970. Threads may share one; close it in the end.

    ``logs`` has one key of each log; ``rollovers`` is how it has changed before and since, so that
    it signs for a key only what is that key's to sign. Raises `DeclarationError` for several keys
    of one log that no rollover leads from one to the next.
    """

    def __init__(
        self,
        path: str | Path,
        signer: Signer,
        logs: Iterable[Verifier],
        rollovers: Iterable[Rollover] = (),
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if signer.verifier.kind is not Kind.COSIGNATURE:
            raise DeclarationError(f"{signer.name!r} is not a witness's key; make one with new-key")
        self.signer = signer
        self._logs = _keys_of(logs, rollovers)
        self._clock = clock
        self._path = Path(path)
        self._lock = Lock()
        with self._storage():
            self._db = _opened(self._path)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def add_checkpoint(self, body: bytes) -> Reply:
        """Cosign a checkpoint, or say why not. Raises `StorageError` where it can't remember."""
        try:
            request = parse_request(body)
            note = parse_note(request.note)
            checkpoint = parse_checkpoint(note.text)
        except MalformedError as error:
            return _no(HTTPStatus.BAD_REQUEST, str(error))
        if checkpoint.origin not in self._logs:
            return _no(HTTPStatus.NOT_FOUND, "this log is unknown")
        try:
            opened = open_checkpoint(note, self._logs[checkpoint.origin])
        except SignatureError as error:
            return _no(HTTPStatus.FORBIDDEN, str(error))
        if request.old > checkpoint.size:
            return _no(HTTPStatus.BAD_REQUEST, "the old size is larger than the checkpoint's")
        with self._storage(), self._lock:
            return transact(
                self._db, lambda: self._decided(request, checkpoint, opened.signers, note)
            )

    def checkpoint(self, origin_hash: str) -> Reply:
        """The newest checkpoint of a log, with the log's signature and ours."""
        with self._storage(), self._lock:
            found = self._db.execute(
                "SELECT note FROM heads WHERE hash = ?", (origin_hash,)
            ).fetchone()
        return Reply(HTTPStatus.OK, found[0]) if found else _no(HTTPStatus.NOT_FOUND, "none yet")

    def _decided(
        self,
        request: AddCheckpoint,
        checkpoint: Checkpoint,
        signers: tuple[Verifier, ...],
        note: Note,
    ) -> Reply:
        size, root, newest = self._head(checkpoint.origin)
        if request.old != size:
            return Reply(HTTPStatus.CONFLICT, b"%d\n" % size, SIZE_TYPE)
        if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
            return _no(HTTPStatus.UNPROCESSABLE_ENTITY, "the root of an empty tree is wrong")
        try:
            check_consistency(size, root, checkpoint.size, checkpoint.root, request.path)
        except ProofError as error:
            return _no(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        now = max(int(self._clock()), newest)
        signature = self.signer.sign(checkpoint.text, now)
        logs = {(one.name, one.key_id) for one in signers}
        theirs = tuple(one for one in note.signatures if (one.name, one.key_id) in logs)
        kept = Note(checkpoint.text, (*theirs, signature)).encode()
        self._db.execute(
            "INSERT OR REPLACE INTO heads VALUES (?, ?, ?, ?, ?, ?)",
            (
                checkpoint.origin,
                sha256(checkpoint.origin.encode()).hexdigest(),
                checkpoint.size,
                checkpoint.root,
                now,
                kept,
            ),
        )
        return Reply(HTTPStatus.OK, signature.line.encode())

    def _head(self, origin: str) -> tuple[int, bytes, int]:
        """The newest size, root and time of a log."""
        found = self._db.execute(
            "SELECT size, root, time FROM heads WHERE origin = ?", (origin,)
        ).fetchone()
        return found or (0, EMPTY_ROOT, 1)

    @contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except apsw.NotADBError as error:
            raise NotAStoreError(f"{self._path} is not a witness's file; name another") from error
        except apsw.BusyError as error:
            raise BusyError(f"{self._path}: another process is using it; try again") from error
        except (apsw.Error, OSError) as error:
            raise StorageError(f"{self._path}: {error}; check the disk") from error


def _keys_of(
    logs: Iterable[Verifier], rollovers: Iterable[Rollover]
) -> dict[str, tuple[LogKey, ...]]:
    """The keys of each log, by its origin."""
    try:
        keys = handed_over(map(LogKey, dict.fromkeys(logs)), rollovers)
    except SignatureError as error:
        raise DeclarationError(
            f"{error}; give the rollovers of the logs whose keys you give"
        ) from None
    found: dict[str, tuple[LogKey, ...]] = {}
    for key in keys:
        found[key.verifier.name] = (*found.get(key.verifier.name, ()), key)
    for name, its in found.items():
        if sum(key.last is None for key in its) > 1:
            raise DeclarationError(
                f"log {name!r} has several keys; give only one, and the changes as rollovers"
            )
    return found


def _opened(path: Path) -> apsw.Connection:
    db = connect(path, "create", busy_timeout=_BUSY_SECONDS, largest_bytes=_MAX_VALUE_BYTES)
    try:
        _check_mark(db)
        db.execute("PRAGMA synchronous = EXTRA")
        transact(db, lambda: db.execute(f"PRAGMA application_id = {_MARK}; {_SCHEMA}"))
    except BaseException:
        db.close()
        raise
    return db


def _check_mark(db: apsw.Connection) -> None:
    mark, pages = db.pragma("application_id"), db.pragma("page_count")
    if mark != _MARK and (mark or pages):
        raise apsw.NotADBError  # a database, and not ours


def _no(status: HTTPStatus, why: str) -> Reply:
    return Reply(status, f"{why}\n".encode())
