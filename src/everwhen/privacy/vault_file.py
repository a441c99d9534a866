"""The vault's file: who may open it, how it is written, and what is said where that fails.

What is deleted from it is overwritten, and each transaction is on the disk when it ends, its
journal's deletion included. It is loaded with the first vault that is opened.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import apsw

from everwhen.system.forks import keep
from everwhen.system.sqlite_connection import connect, transact
from everwhen.vocabulary.errors import MissingKeyError, VaultError

T = TypeVar("T")

_APPLICATION_ID: Final = 0x4576654B
""""EveK": the mark of vaults in SQLite's header, so that no other file is taken for one."""

_FORMAT: Final = 1
"""The version of the schema in ``vault.sql``."""

_OTHERS_MODE: Final = 0o007
"""The permissions of everybody else, of which a vault has none."""

_MAX_VALUE_BYTES: Final = 1 << 20
"""Far more than a wrapped key takes, wherever keys are kept: no crafted vault fills the memory."""


class VaultFile:
    """The file of a vault, and its one connection, which is used under ``lock``.

    Made where there is none, unless ``create`` is False: then that raises `MissingKeyError`.
    ``:memory:`` is no file. Raises `VaultError` for one that can't be used, or that everybody may.
    """

    def __init__(self, path: Path, *, create: bool, busy_timeout: float) -> None:
        self.path = path
        self.lock = threading.RLock()
        self.is_closed = False
        self._busy_timeout = busy_timeout
        self._process = os.getpid()
        with self.translated():
            self.connection = self.connect(create=create)

    @property
    def is_in_memory(self) -> bool:
        """Whether there is no file, and it is gone with its process."""
        return str(self.path) == ":memory:"

    @property
    def is_foreign(self) -> bool:
        """Whether it was opened by another process, of which this one is a fork."""
        return os.getpid() != self._process

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turns SQLite's errors into a `VaultError`. Raises one for a vault that is closed, too."""
        if self.is_closed:
            raise VaultError(f"{self.path}: the vault is closed; open it again")
        if self.is_foreign:
            raise VaultError(
                f"{self.path}: this vault was opened by process {self._process}; open it again in "
                f"the child"
            )
        try:
            yield
        except (apsw.CorruptError, UnicodeDecodeError) as error:
            raise VaultError(
                f"{self.path}: the vault is damaged, {error}; restore it from its newest backup"
            ) from error
        except apsw.Error as error:
            raise VaultError(f"{self.path}: the vault can't be used: {error}") from error

    def prepare(self, fill: Callable[[], object]) -> None:
        """Checks that it is a vault. One that is new is made, and filled, in one transaction."""
        execute = self.connection.execute

        def make() -> None:
            if execute("SELECT count(*) FROM sqlite_schema").get:
                return
            execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            execute(f"PRAGMA user_version = {_FORMAT}")
            execute((resources.files("everwhen.privacy") / "vault.sql").read_text("utf-8"))
            fill()

        with self.translated():
            execute("PRAGMA secure_delete = ON")
            execute("PRAGMA synchronous = EXTRA")
            execute("PRAGMA temp_store = MEMORY")
            self.transact(make)
            if self.connection.pragma("application_id") != _APPLICATION_ID:
                raise VaultError(f"{self.path}: that is not a vault; check the path")
            if self.connection.pragma("user_version") > _FORMAT:
                raise VaultError(f"{self.path}: a newer Everwhen made this vault; use that one")

    def rows(self, made: Callable[..., T], sql: str, bounds: tuple[Any, ...] = ()) -> list[T]:
        """What is made of each row."""
        with self.translated(), self.lock:
            return [made(*row) for row in self.connection.execute(sql, bounds)]

    def run(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a statement, as they are."""
        return self.rows(lambda *row: row, sql)

    def transact(self, work: Callable[[], T]) -> T:
        """Run it in one durable transaction."""
        with self.translated(), self.lock:
            return transact(self.connection, work)

    def connect(self, *, create: bool = False) -> apsw.Connection:
        """Another connection to the file; see the class for what it raises."""
        name = str(self.path)
        if self.is_in_memory:
            return self._connected("create", None)
        if self._mode() & _OTHERS_MODE:
            raise VaultError(
                f"{name}: everybody may read or change this vault; chmod 600 it, and rotate its "
                f"key with --drop-old if somebody may have copied it"
            )
        if self.path.exists():
            return self._connected("write", self.path)
        if not create:
            raise MissingKeyError(f"{name}: the vault is missing; check the path")
        try:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            pass
        except OSError as error:
            raise VaultError(f"{name}: no vault can be made there: {error}") from error
        return self._connected("create", self.path)

    def _connected(self, mode: Literal["write", "create"], path: Path | None) -> apsw.Connection:
        return connect(path, mode, busy_timeout=self._busy_timeout, largest_bytes=_MAX_VALUE_BYTES)

    def _mode(self) -> int:
        try:
            return self.path.stat().st_mode
        except OSError:
            return 0  # opening it says why

    def close(self) -> None:
        """Release the file. Hold the lock; calling it again does nothing."""
        if not self.is_closed:
            self.is_closed = True
            self.connection.close()

    # Forks

    def hold(self, seconds: float) -> bool:
        """Keep everybody out; whether nobody is inside within ``seconds``."""
        if self.is_foreign or not self.lock.acquire(timeout=seconds):
            return False
        if self.is_closed or not self.connection.in_transaction:
            return True
        self.lock.release()
        return False

    def resume(self) -> None:
        """Let them in again."""
        self.lock.release()

    def forked(self, *, quiet: bool) -> None:
        """In a child the connection is taken apart in memory, and never used again."""
        if quiet and not self.is_closed:
            self.connection.close(True)
        elif not quiet:
            keep([self.connection])
