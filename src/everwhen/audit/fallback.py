"""The audit log's fallback: a local file for entries that the store can't take just now.

A line is a JSON object::

    {"n":1,"commit":{…},"previous":"…","hash":"…","mac":"…"}

``commit`` is what would have gone into the store, byte for byte, so what is encrypted there is
encrypted here. ``hash`` is SHA-256 over the previous line's hash, the number and the commit's exact
bytes; ``mac`` is HMAC-SHA256 of the hash under the fallback's key. Line 0 opens the chain with a
random name, so that no line of another file fits in. Whatever is changed, left out, put in or moved
is found. That whole lines are missing at the end can't be seen from the file alone.

A line counts once its newline is on the disk. What stands after the last newline was torn by a
crash before it was acknowledged; it is cut off.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import itertools
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from everwhen.codec.json_encoding import encode_json
from everwhen.system.bounded_files import MAX_KEY_FILE_BYTES, ExposedError, read_secret
from everwhen.system.durable_files import OWNER_ONLY_MODE, sync_folder, write_secret
from everwhen.vocabulary.contract import EncodedCommit, EncodedSlice
from everwhen.vocabulary.errors import AuditFallbackError, DeclarationError

_DOMAIN: Final = b"everwhen-audit-fallback/v1\n"
_MAC_DOMAIN: Final = b"everwhen-audit-fallback-mac/v1\n"
_FIRST_HASH: Final = bytes(32)
"""What the first line's hash is chained to."""
_MIN_KEY_BYTES: Final = 16
"""128 bits can't be guessed."""
_MAX_LINE_BYTES: Final = 1 << 20
"""The largest entry is far shorter, so a longer line isn't one."""
_BEGINNING: Final = b'{"n":0,"commit":{"everwhen_audit_fallback":'
_MARK: Final = b'"everwhen_audit_fallback"'


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    n: int
    commit: msgspec.Raw
    previous: str
    hash: str
    mac: str


class _Opening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    everwhen_audit_fallback: int
    chain: str


class _Commit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    stream: str
    types: tuple[str, ...]
    tags: tuple[str, ...]
    metadata: msgspec.Raw
    body: msgspec.Raw


class FallbackState(msgspec.Struct, frozen=True):
    """How many entries a fallback file holds, and the last line's hash: its head.

    ``torn`` counts the bytes after the last whole line. ``damaged_line`` is the first line that
    doesn't count, and none after it does, where that was asked for rather than an error.
    """

    count: int
    head: str
    torn: int = 0
    damaged_line: int | None = None


class PendingFallback:
    """A fallback file that was set aside to be recovered; it is deleted in the end, or kept."""

    def __init__(self, fallback: AuditFallback, path: Path) -> None:
        self._fallback = fallback
        self.path = path
        self.kept: Path | None = None
        """Where the file goes in the end, if it isn't deleted."""

    def state(self, *, salvage: bool = False) -> FallbackState:
        """See `AuditFallback.state`."""
        return self._fallback.state(self.path, salvage=salvage)

    def commits(self, count: int) -> Iterator[EncodedCommit]:
        """The first ``count`` entries."""
        return self._fallback._commits(self.path, count)

    def keep(self) -> Path:
        """Keep the file, under the first name that is free."""
        plain = self._fallback.path
        names = (f"{plain.name}.damaged{f'-{n}' if n else ''}" for n in itertools.count())
        self.kept = next(p for p in map(plain.with_name, names) if not p.exists())
        return self.kept


class AuditFallback:
    """A file for entries that the store can't take: appended to, synced, chained, read back once.

    ``key``, of at least 16 bytes, proves that the lines are ours. Keep it away from the file:
    who has both can write what they like. Safe to share between threads, tasks and processes.
    """

    def __init__(self, path: str | os.PathLike[str], key: bytes) -> None:
        if not isinstance(key, bytes) or len(key) < _MIN_KEY_BYTES:
            raise DeclarationError(
                f"the fallback's key has at least {_MIN_KEY_BYTES} random bytes; "
                f"make one with AuditFallback.key_from(path)"
            )
        self.path = Path(path)
        self._key = key
        self._mutex = threading.Lock()

    @staticmethod
    def key_from(path: str | os.PathLike[str]) -> bytes:
        """The key that a file holds as hexadecimal text; made, for its owner only, if need be.

        Raises `AuditFallbackError` for a file that holds none, or that others may read or change.
        """
        with contextlib.suppress(FileExistsError):
            write_secret(path, secrets.token_hex(32).encode() + b"\n")
        try:
            key = bytes.fromhex(read_secret(path, MAX_KEY_FILE_BYTES).decode("ascii"))
        except ExposedError:
            raise AuditFallbackError(
                os.fspath(path), "others may read or change this key; chmod 600 it"
            ) from None
        except ValueError as error:
            raise AuditFallbackError(
                os.fspath(path), "holds no key; it is hexadecimal text, made by key_from()"
            ) from error
        if len(key) < _MIN_KEY_BYTES:
            raise AuditFallbackError(os.fspath(path), "holds too short a key; make another")
        return key

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits to be recovered."""
        return not self.path.exists() and not self._taken.exists()

    @property
    def is_new(self) -> bool:
        """Whether nobody has written or recovered here: the locks of who has stay beside it."""
        locks = map(self._lock, ("lock", "recovery"))
        return self.is_empty and not any(lock.exists() for lock in locks)

    @property
    def _taken(self) -> Path:
        return self.path.with_name(self.path.name + ".recovering")

    def write(self, commit: EncodedCommit) -> None:
        """Append a commit's entry; when this returns it is on the disk.

        Raises `AuditFallbackError` where the file was edited, and ``OSError``.
        """
        payload = payload_of(commit)
        with self._alone("lock"):
            is_new = not self.path.exists()
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY_MODE)
            try:
                number, head, end = self._end(file)
                lines = b""
                if number < 0:
                    opening = encode_json(_Opening(1, secrets.token_hex(16)))
                    number, head, lines = self._line(0, opening, _FIRST_HASH)
                _, _, line = self._line(number + 1, payload, head)
                self._put(file, lines + line, end)
            finally:
                os.close(file)
            if is_new:
                sync_folder(self.path.parent)

    def _put(self, file: int, data: bytes, end: int) -> None:
        """Write after the last whole line and sync; a failure leaves the file as it was."""
        try:
            os.ftruncate(file, end)
            done = 0
            while done < len(data):
                done += os.pwrite(file, data[done:], end + done)
            os.fsync(file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file, end)
            raise

    def _end(self, file: int) -> tuple[int, bytes, int]:
        """The last whole line's number and hash, and where it ends; -1 for a file without one."""
        size = os.fstat(file).st_size
        begin = max(0, size - 2 * _MAX_LINE_BYTES)
        tail = os.pread(file, size - begin, begin)
        end = tail.rfind(b"\n") + 1
        if not end:
            if begin:
                raise AuditFallbackError(
                    str(self.path), "is not a fallback file; keep it elsewhere"
                )
            return -1, _FIRST_HASH, 0
        last = tail[tail.rfind(b"\n", 0, end - 1) + 1 : end]
        line = self._parsed(last, None)
        return line.n, bytes.fromhex(line.hash), begin + end

    def _line(self, number: int, payload: bytes, previous: bytes) -> tuple[int, bytes, bytes]:
        """A line's number, hash and text."""
        digest = hashlib.sha256(_DOMAIN + previous + number.to_bytes(8, "big") + payload).digest()
        mac = hmac.digest(self._key, _MAC_DOMAIN + digest, "sha256")
        text = b'{"n":%d,"commit":%b,"previous":"%b","hash":"%b","mac":"%b"}\n' % (
            number,
            payload,
            previous.hex().encode(),
            digest.hex().encode(),
            mac.hex().encode(),
        )
        return number, digest, text

    def _parsed(self, text: bytes, at: int | None, path: Path | None = None) -> _Line:
        """The line, proven to be one that this key's owner wrote, byte for byte."""
        where = str(path or self.path)
        try:
            line = msgspec.json.decode(text, type=_Line)
            _, digest, exact = self._line(line.n, bytes(line.commit), bytes.fromhex(line.previous))
        except (msgspec.MsgspecError, ValueError, OverflowError, UnicodeDecodeError) as error:
            raise AuditFallbackError(
                where, f"was edited or damaged: it is not a line of a fallback ({error})", at
            ) from error
        if line.hash != digest.hex():
            raise AuditFallbackError(
                where, f"was edited: its hash is {digest.hex()}, but it says {line.hash[:64]}", at
            )
        if not hmac.compare_digest(exact, text):
            raise AuditFallbackError(
                where, "was edited, or written with another key: its MAC is wrong", at
            )
        return line

    @contextmanager
    def recovering(self) -> Iterator[PendingFallback | None]:
        """Set the file aside and give what reads its commits; None where nothing waits.

        Ask for its state first, which proves it as a whole. Without an error the file is deleted
        at the end, or kept where that was asked for; else it stays, and the next recovery begins
        with it. Meanwhile a new file takes new entries. Raises `AuditFallbackError` where another
        recovery runs, and for a file that is no fallback, which stays as it is.
        """
        if self.is_empty:
            yield None
            return
        if not self._taken.exists():
            self._check_is_one()
        with self._alone("recovery", wait=False):
            if not self._taken.exists():
                with self._alone("lock"):
                    if not self.path.exists():
                        yield None
                        return
                    self.path.rename(self._taken)
                sync_folder(self.path.parent)
            waiting = PendingFallback(self, self._taken)
            yield waiting
            if waiting.kept is None:
                self._taken.unlink()
            else:
                self._taken.rename(waiting.kept)
            sync_folder(self.path.parent)

    def _check_is_one(self) -> None:
        """Raises `AuditFallbackError` for a file that neither begins nor ends like a fallback.

        One that was edited, or torn while its first line was written, still is one.
        """
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # another recovery has it
            return
        try:
            beginning = os.pread(file, 2 * len(_BEGINNING), 0)
            if _MARK in beginning or _BEGINNING.startswith(beginning):
                return
            with contextlib.suppress(AuditFallbackError):
                if self._end(file)[0] >= 0:
                    return
        finally:
            os.close(file)
        raise AuditFallbackError(
            str(self.path), "is not a fallback file; name the one that took entries"
        )

    def state(self, path: Path | None = None, *, salvage: bool = False) -> FallbackState:
        """What waits in the file, proven line by line.

        Raises `AuditFallbackError` for the first line that was edited; to ``salvage`` is to take
        what stands before it.
        """
        count, head, torn = -1, _FIRST_HASH.hex(), 0
        source = path or (self._taken if self._taken.exists() else self.path)
        try:
            for line in self._lines(source):
                if isinstance(line, int):
                    torn = line
                else:
                    count, head = line.n, line.hash
        except AuditFallbackError as error:
            if not salvage or error.line is None:
                raise
            return FallbackState(max(count, 0), head, torn, error.line)
        return FallbackState(max(count, 0), head, torn)

    def _commits(self, path: Path, count: int) -> Iterator[EncodedCommit]:
        """The first ``count`` commits; what stands after them isn't looked at."""
        lines = itertools.islice(self._lines(path), count + 1 if count else 0)
        for line in lines:
            if not isinstance(line, int) and line.n:
                yield _commit_of(line, path)

    def _lines(self, path: Path) -> Iterator[_Line | int]:
        """Each line, proven to follow the one before; at last the torn bytes, if there are any."""
        previous = _FIRST_HASH.hex()
        if not path.exists():
            return
        with path.open("rb") as file:
            for number, text in enumerate(iter(lambda: file.readline(2 * _MAX_LINE_BYTES), b"")):
                at = number + 1
                if not text.endswith(b"\n"):
                    if file.read(1):
                        raise AuditFallbackError(str(path), "was edited: it is far too long", at)
                    yield len(text)
                    return
                line = self._parsed(text, at, path)
                if line.n != number:
                    raise AuditFallbackError(
                        str(path),
                        f"lines were taken out, put in or moved: number {number} is expected "
                        f"here, but it is number {line.n}",
                        at,
                    )
                if line.previous != previous:
                    raise AuditFallbackError(
                        str(path),
                        f"doesn't follow from the line before: {previous} is expected as the "
                        f"previous hash, but it is {line.previous}",
                        at,
                    )
                if not number:
                    _check_opening(line, path)
                previous = line.hash
                yield line

    def _lock(self, what: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{what}")

    @contextmanager
    def _alone(self, what: str, *, wait: bool = True) -> Iterator[None]:
        """Hold one of the file's two locks: one to append, one to recover."""
        mutex = self._mutex if wait else contextlib.nullcontext()
        with mutex:
            lock = os.open(self._lock(what), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_ONLY_MODE)
            try:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise AuditFallbackError(
                        str(self.path), "is being recovered by somebody else; let them finish"
                    ) from error
                yield
            finally:
                os.close(lock)


def _check_opening(line: _Line, path: Path) -> None:
    try:
        opening = msgspec.json.decode(line.commit, type=_Opening)
    except msgspec.MsgspecError as error:
        raise AuditFallbackError(str(path), "doesn't begin like a fallback file", 1) from error
    if opening.everwhen_audit_fallback != 1:
        raise AuditFallbackError(str(path), "was written by a newer Everwhen; recover with it")


def payload_of(commit: EncodedCommit) -> bytes:
    """A commit of one entry, as a line holds it."""
    (part,) = commit.slices
    return encode_json(
        _Commit(
            commit.id.hex(),
            part.stream,
            part.types,
            part.tags,
            msgspec.Raw(commit.metadata or b"null"),
            msgspec.Raw(part.body),
        )
    )


def _commit_of(line: _Line, path: Path) -> EncodedCommit:
    try:
        kept = msgspec.json.decode(line.commit, type=_Commit)
        commit_id = bytes.fromhex(kept.id)
    except (msgspec.MsgspecError, ValueError) as error:
        raise AuditFallbackError(str(path), f"holds no entry: {error}", line.n + 1) from error
    metadata, body = bytes(kept.metadata), bytes(kept.body)
    return EncodedCommit(
        commit_id,
        (EncodedSlice(kept.stream, 1, body, kept.types, kept.tags),),
        (),
        metadata=None if metadata == b"null" else metadata,
    )
