"""A store's files, copied as they were at one moment, and put in place as a whole.

The branches have files of their own, and what one of them says of another has to be true in the
copy: a merge names positions of the other branch. So all are read from one and the same moment.

They take their names one after the other, and a crash may come between. A branch may be ahead of
the store then, but not behind it; and a signed checkpoint is never ahead of what it speaks of.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol

import apsw

from everwhen.backends.branch_records import branches_in
from everwhen.backends.engine import EngineView
from everwhen.backends.sqlite import lookups
from everwhen.backends.sqlite.connection import is_outdated
from everwhen.backends.sqlite.error_translation import translation
from everwhen.backends.sqlite.files import make_folder, remove
from everwhen.backends.sqlite.schema import APPLICATION_ID
from everwhen.backends.sqlite.structural_check import structural_problems
from everwhen.system.durable_files import locked_folder, sync_file, sync_folder
from everwhen.system.file_backups import (
    BackupListener,
    BackupProgress,
    BackupReport,
    BackupTask,
    check_apart,
    copy_pages,
    destination,
    left_beside,
    opened_copy,
    place,
    taken,
    workplace,
)
from everwhen.vocabulary.contract import Head
from everwhen.vocabulary.errors import (
    BackupError,
    BusyError,
    CorruptStoreError,
    EverwhenError,
    StorageError,
)

_OWN_FILES: Final = ("", "-wal", "-shm", "-journal", "-signer")
"""The suffixes of the files that belong to a store: no copy of it may take one's place."""

_OWN_FOLDERS: Final = ("-branches", "-log")
"""The suffixes of its folders."""

_DAMAGED_IN_READING: Final = (
    apsw.SQLITE_IOERR_READ,
    apsw.SQLITE_IOERR_SHORT_READ,
    apsw.SQLITE_IOERR_CORRUPTFS,
)


class _Files(Protocol):
    """What of an engine a backup needs: its files, and connections that read them."""

    path: Path
    vfs: str | None
    busy_timeout: float

    def file_of(self, log: str) -> Path: ...

    def has_log(self, log: str) -> bool: ...

    def connection_to(self, path: Path) -> apsw.Connection: ...

    def seen_by(self, connection: apsw.Connection) -> EngineView: ...


class _Part:
    """One file of the store: where it is, as a transaction sees it, and where its copy goes."""

    def __init__(self, source: Path, connection: apsw.Connection, target: Path, copy: Path) -> None:
        self.source = source
        self.connection = connection
        self.target = target
        self.copy = copy
        self.copied_log = Path(f"{copy}-log")
        self.head = Head(0, None)
        self.size = 0

    def pin(self) -> None:
        """From here on the connection sees the file as it is now."""
        self.connection.execute("BEGIN")
        self.head = lookups.head(self.connection)
        self.size = self.connection.pragma("page_count") * self.connection.pragma("page_size")


def backed_up(engine: _Files, task: BackupTask, listener: BackupListener) -> BackupReport:
    """Copy the engine's files to the task's path.

    Raises `BackupError`, `BusyError` or another `StorageError`: nothing has another content then
    than before, unless the disk fails while the copies take their names. Raises what ``listener``
    and ``task.before`` raise, likewise.
    """
    source = engine.path.resolve()
    _check_not_its_own(task.path, source)
    final = destination(task.path, overwrite=task.overwrite)
    _check_nothing_left(final, task)
    with workplace(final) as folder:
        with ExitStack() as opened:
            logs = _copied_logs(engine, source, final, folder, task) if task.logs != "none" else []
            parts = _pinned(engine, source, final, folder, opened)
            _copy(engine, parts, listener)
        for part in parts:
            _check(engine, part, listener)
        if task.before is not None:
            task.before()
        report = BackupReport(
            str(final),
            parts[0].head.position,
            parts[0].head.recorded_at,
            len(parts) - 1,
            sum(part.copy.stat().st_size for part in parts),
            len(logs),
        )
        with ExitStack() as held:
            _place(parts, [p for p in parts if p.copied_log in logs], final, folder, held)
    sync_folder(final.parent)
    return report


def _check_not_its_own(given: str, source: Path) -> None:
    """Raises `BackupError` for a place that is the store's, whatever links lead there."""
    check_apart(given, *(f"{source}{suffix}" for suffix in _OWN_FILES))
    for suffix in _OWN_FOLDERS:
        if Path(given).resolve().is_relative_to(Path(f"{source}{suffix}").resolve()):
            raise BackupError(given, "this is in a folder of the store's own; name another place")


def _check_nothing_left(final: Path, task: BackupTask) -> None:
    """Raises `BackupError` where parts of another store lie around the place, unasked."""
    if task.overwrite:
        return
    left = left_beside(final)
    folders = [Path(f"{final}-branches")] + ([Path(f"{final}-log")] if task.logs == "all" else [])
    if left is None:
        left = next((folder for folder in folders if folder.exists()), None)
    if left is not None:
        raise BackupError(
            str(left),
            f"this is left over from another {final.name}; give another name, or overwrite it "
            f"(--overwrite)",
            True,
        )


# Copying


@contextlib.contextmanager
def _reading(engine: _Files, file: Path) -> Iterator[apsw.Connection]:
    connection = engine.connection_to(file)
    try:
        yield connection
    finally:
        _let_go(connection)


def _let_go(connection: apsw.Connection) -> None:
    """Close what has only read: whatever SQLite can't tidy up then is its writers' to tidy up."""
    with contextlib.suppress(apsw.Error):
        connection.close()


def _log_ids(engine: _Files, connection: apsw.Connection) -> list[str]:
    """The ids of the branches that are registered and have a file."""
    known = branches_in(engine.seen_by(connection)).values()
    return [branch.id for branch in known if engine.has_log(branch.id)]


def _copied_logs(
    engine: _Files, source: Path, final: Path, folder: Path, task: BackupTask
) -> list[Path]:
    """Copy the Merkle logs; they come first, so that none is ahead of its store.

    Returns the copies, each named as the copy of its store is.
    """
    with _reading(engine, source) as connection:
        ids = _log_ids(engine, connection)
    wanted = [(source, final, folder / "store")]
    wanted += [(engine.file_of(i), _branch(final, i), folder / f"branch-{i}") for i in ids]
    copies: list[Path] = []
    for file, target, copy in wanted:
        log, made = Path(f"{file}-log"), Path(f"{copy}-log")
        if not log.is_dir() or (task.logs == "missing" and Path(f"{target}-log").exists()):
            continue
        with _signing_waits(log):
            shutil.copytree(log, made, ignore=shutil.ignore_patterns("lock", "*.new"))
        _sync_all(made)
        copies.append(made)
    return copies


@contextlib.contextmanager
def _signing_waits(log: Path) -> Iterator[None]:
    """Keeps the Merkle log from being signed meanwhile, where its folder may be written to."""
    if os.access(log, os.W_OK):
        with ExitStack() as held:
            try:
                held.enter_context(locked_folder(log))
            except OSError as error:
                raise StorageError(
                    f"{log}: can't be locked ({error}); check the disk, and back up again"
                ) from error
            yield
    else:
        yield


def _sync_all(folder: Path) -> None:
    for where, _, files in os.walk(folder):
        for name in files:
            sync_file(Path(where, name))
        sync_folder(where)


def _branch(final: Path, log: str) -> Path:
    return Path(f"{final}-branches", f"{log}.db")


def _pinned(
    engine: _Files, source: Path, final: Path, folder: Path, opened: ExitStack
) -> list[_Part]:
    """The store and its branches, all as at one moment; the store comes first."""
    deadline = time.monotonic() + engine.busy_timeout
    while True:
        with ExitStack() as trying:
            try:
                parts = _tried(engine, source, final, folder, trying)
            except apsw.CantOpenError:  # a branch that has just been deleted
                if engine.path.exists() and time.monotonic() < deadline:
                    continue
                raise
            if parts is not None:
                opened.push(trying.pop_all())
                return parts
        if time.monotonic() > deadline:
            raise BusyError(
                f"{source}: its branches are written so often that no moment was found that all of "
                f"them can be read at; try again"
            )


def _tried(
    engine: _Files, source: Path, final: Path, folder: Path, trying: ExitStack
) -> list[_Part] | None:
    """All parts; None where a branch was written just when the store's moment was settled."""

    def part(file: Path, target: Path, copy: Path) -> _Part:
        connection = trying.enter_context(_reading(engine, file))
        return _Part(file, connection, target, copy)

    main = part(source, final, folder / "store")
    ids = _log_ids(engine, main.connection)
    branches = [part(engine.file_of(i), _branch(final, i), folder / f"branch-{i}") for i in ids]
    branches = [branch for branch in branches if _is_made(branch.connection)]
    seen = [_changes(branch.connection) for branch in branches]
    main.pin()
    for branch in branches:
        branch.pin()
    if seen != [_changes(branch.connection) for branch in branches]:
        return None
    if _log_ids(engine, main.connection) != ids:
        return None
    return [main, *branches]


def _is_made(connection: apsw.Connection) -> bool:
    """Whether a branch's file has its tables; one without them has nothing in it."""
    return bool(connection.pragma("application_id") == APPLICATION_ID)


def _changes(connection: apsw.Connection) -> int:
    """A number that is another one once somebody has written to the file."""
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    return connection.data_version()


def _copy(engine: _Files, parts: list[_Part], listener: BackupListener) -> None:
    total = sum(part.size for part in parts)
    before = 0
    for part in parts:

        def tell(done: int, before: int = before) -> None:
            listener(BackupProgress("copying", before + done, total))

        try:
            copy_pages(part.connection, part.copy, tell, engine.vfs)
        except apsw.Error as error:
            raise _named(error, part) from error
        if is_outdated(part.connection):
            raise BusyError(
                f"{part.source}: it was written while it was copied, from where no lock can be "
                f"taken; try again"
            )
        before += part.size
        _let_go(part.connection)


def _named(error: apsw.Error, part: _Part) -> EverwhenError:
    """SQLite's error, naming the file that it is about."""
    damaged = isinstance(error, apsw.CorruptError | apsw.NotADBError)
    if damaged or getattr(error, "extendedresult", None) in _DAMAGED_IN_READING:
        return translation(error, part.source)
    return translation(error, part.target)


def _check(engine: _Files, part: _Part, listener: BackupListener) -> None:
    """Raises `CorruptStoreError` or `StorageError` where the copy isn't sound, and the store's."""

    def tell() -> None:
        listener(BackupProgress("checking", part.size, None))

    tell()
    try:
        with contextlib.closing(opened_copy(part.copy, tell, engine.vfs)) as connection:
            problem = next(iter(structural_problems(connection)), None)
            if problem is None:
                found = lookups.head(connection)
    except apsw.Error as error:
        raise translation(error, part.source) from error
    if problem is not None:
        raise CorruptStoreError(
            f"{part.source}: its copy has a fault ({problem.where}: {problem.what}), so none was "
            f"made; run 'everwhen check' to see whether the file itself has it"
        )
    if found.position != part.head.position:
        raise StorageError(
            f"{part.target}: the copy doesn't end at position {part.head.position}, as the store "
            f"does; check the disk, and try again"
        )


# Putting in place


def _place(
    parts: list[_Part], with_logs: list[_Part], final: Path, folder: Path, held: ExitStack
) -> None:
    """Give all copies their names. Nobody may have one of the files open that they replace."""
    main, *branches = parts
    replaces = final.exists()
    ahead = {
        part.target: _is_ahead(part, held.enter_context(taken(part.target, folder)))
        for part in parts
    }
    beside = Path(f"{final}-branches")
    targets = {part.target for part in parts}
    strangers = [file for file in beside.glob("*.db") if file not in targets]
    for file in strangers:
        held.enter_context(taken(file, folder))
    if branches:
        make_folder(beside)
    if not replaces:
        _place_logs(with_logs, folder)
    for branch in branches:
        if ahead[branch.target]:
            place(branch.copy, branch.target, branch.source)
    place(main.copy, final, main.source)
    for branch in branches:
        if not ahead[branch.target]:
            place(branch.copy, branch.target, branch.source)
    for file in strangers:
        remove(file)
    if replaces:
        _place_logs(with_logs, folder)


def _is_ahead(part: _Part, existing: apsw.Connection | None) -> bool:
    """Whether a copy has come at least as far as the file that it replaces."""
    if existing is None:
        return True
    try:
        found = lookups.head(existing)
    except apsw.Error:
        return True
    return part.head.position >= found.position


def _place_logs(parts: list[_Part], folder: Path) -> None:
    for part in parts:
        target = Path(f"{part.target}-log")
        target.parent.mkdir(exist_ok=True)
        if target.exists():
            target.rename(folder / f"replaced-{target.name}")
        part.copied_log.rename(target)
        sync_folder(target.parent)
