"""From the STORE argument to an open store. Nothing here creates a file unasked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from everwhen import EventTypes, KeyFile, Store, Vault, open_store
from everwhen.backends._sync.backend import Backend, BackendWrapper, Transaction
from everwhen.backends._sync.embedded import EmbeddedBackend
from everwhen.backends.engine import EngineTransaction
from everwhen.backends.locations import shown
from everwhen.backends.memory import MemoryEngine
from everwhen.cli.exit_codes import NO_INPUT, USAGE, CommandStop
from everwhen.errors import ReadOnlyError
from everwhen.privacy import KeyFromEnvironment
from everwhen.vocabulary.contract import EncodedCommit, Outcome

T = TypeVar("T")

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)


def path_of(location: str) -> Path | None:
    """The file of an embedded store; None for a location of another kind."""
    match = _SCHEME.fullmatch(location)
    if match is None:
        return Path(location)
    return Path(match[2]) if match[1].lower() == "sqlite" else None


def file_of(location: str) -> Path:
    """The file of an embedded store. Raises `CommandStop` for a location of another kind."""
    path = path_of(location)
    if path is None:
        raise CommandStop(
            f"{shown(location)}: this is no file, and one is needed here; name one", USAGE
        )
    return path


@contextmanager
def existing(
    location: str,
    *,
    branch: str | None = None,
    write: bool = False,
    create: bool = False,
    new_vault: bool = False,
    keys: bool = True,
    events: EventTypes | None = None,
    fix: str = "check the path",
) -> Iterator[Store]:
    """The store at the location: read-only unless asked, and made only with ``create``.

    With ``branch`` that branch of it; ``new_vault`` as in `given_vault`, and without ``keys`` the
    given one isn't used; ``fix`` is what to do where there is no store. Raises `CommandStop` in
    that case, `UnknownBranchError`, and what `open_store` raises.
    """
    check_exists(location, create=create, fix=fix)
    with ExitStack() as held:
        vault = given_vault(create=new_vault) if keys else None
        if vault is not None:
            held.enter_context(vault)
        store = held.enter_context(
            open_store(location, read_only=not write, events=events or (), vault=vault)
        )
        yield held.enter_context(existing_branch(store, branch))


def check_exists(location: str, *, create: bool = False, fix: str = "check the path") -> None:
    """Raises `CommandStop` where a store could only be made there, unless it may be."""
    if location.lower().startswith("memory:"):
        raise CommandStop(
            f"{location}: a store in memory ends with the command; name a file", USAGE
        )
    path = path_of(location)
    if path is not None and not create and not path.exists():
        raise CommandStop(f"{path}: there is no such store; {fix}", NO_INPUT)


@contextmanager
def writable_if_allowed(location: str, *, branch: str | None = None) -> Iterator[Store]:
    """The store at the location, to be written to where that is allowed. Raises as `existing`."""
    path = path_of(location)
    with ExitStack() as held:
        try:
            write = path is None or path.exists()
            store = held.enter_context(existing(location, branch=branch, write=write))
        except ReadOnlyError:
            store = held.enter_context(existing(location, branch=branch))
        yield store


@contextmanager
def made_when_written(
    location: str, *, branch: str | None = None, keys: bool = True
) -> Iterator[Store]:
    """The store at the location, to write to; where there is none, one that is made once needed.

    Its file appears with the first that is written, or at the end, where all went well. Raises as
    `existing` does.
    """
    path = path_of(location)
    if path is None or path.exists() or branch is not None:
        with existing(
            location, branch=branch, write=True, create=branch is None, new_vault=True, keys=keys
        ) as store:
            yield store
        return
    with ExitStack() as held:
        vault = given_vault(create=True) if keys else None
        if vault is not None:
            held.enter_context(vault)
        backend = _MadeWhenWritten(lambda: open_store(location, vault=vault))
        yield held.enter_context(Store(backend, events=EventTypes(), vault=vault))
        backend.make()


class _MadeWhenWritten(BackendWrapper):
    """An empty store in memory, until something is written: then the one that it stands for."""

    def __init__(self, opening: Callable[[], Store]) -> None:
        super().__init__(EmbeddedBackend(MemoryEngine()))
        self._opening: Callable[[], Store] | None = opening

    def __repr__(self) -> str:
        return repr(self._inner)

    def make(self) -> None:
        """Open the store, where it isn't yet."""
        opening, self._opening = self._opening, None
        if opening is not None:
            try:
                self._inner = opening().kernel.backend
            except BaseException:
                self._opening = opening
                raise

    def append(self, commits: Sequence[EncodedCommit], connection: object = None) -> list[Outcome]:
        self.make()
        return super().append(commits, connection)

    def transaction(self) -> AbstractContextManager[Transaction]:
        self.make()
        return super().transaction()

    def transact(self, work: Callable[[EngineTransaction], T]) -> T:
        self.make()
        return super().transact(work)

    def open_log(self, log: str, not_before: datetime | None) -> Backend:
        self.make()
        return super().open_log(log, not_before)


def give_vault(vault: str | None, key: str | None) -> None:
    """Say where this command finds the keys of personal data: a vault, and its key's place."""
    _VAULT.set((vault, key))


def vault_words() -> tuple[str | None, str | None]:
    """What `give_vault` was given."""
    return _VAULT.get()


def given_vault(*, create: bool = False) -> Vault | None:
    """The vault that ``--vault`` names, opened; None where none is named.

    It is made only with ``create``, for what writes: a wrong path must not look like a vault in
    which nobody has keys. Raises `VaultError` where it, or its key, can't be used.
    """
    path = vault_file()
    if path is None:
        return None
    scheme, _, variable = _key_of(path).partition(":")
    keys = KeyFromEnvironment(variable) if scheme == "env" else KeyFile(_key_of(path))
    return Vault(path, keys, create=create)


def vault_file() -> Path | None:
    """Where the vault lies that is given, if one is."""
    path, _ = _VAULT.get()
    return None if path is None else Path(path)


def key_file() -> Path | None:
    """Where the key of the given vault lies, if it is in a file."""
    path = vault_file()
    key = None if path is None else _key_of(path)
    return None if key is None or key.startswith("env:") else Path(key)


def _key_of(vault: Path) -> str:
    _, key = _VAULT.get()
    return key if key is not None else f"{vault}.key"


_VAULT: Final = ContextVar[tuple[str | None, str | None]]("everwhen_vault", default=(None, None))


@contextmanager
def existing_branch(store: Store, name: str | None) -> Iterator[Store]:
    """The store's branch of that name, or the store itself. Raises `UnknownBranchError`."""
    if name is None or name == store.name:
        yield store
    else:
        with store.branch(name) as opened:
            yield opened
