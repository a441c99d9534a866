"""The files that commands write: never one that the store itself, or trust in it, rests on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from everwhen.cli.exit_codes import USAGE, CommandStop
from everwhen.cli.store_opening import key_file, path_of, vault_file
from everwhen.exchange.sources import STANDARD, Target

_BESIDE_THE_STORE: Final = ("", "-wal", "-shm", "-signer")
_FOLDERS_OF_THE_STORE: Final = ("-log", "-branches")
_KEYS: Final = (b"PRIVATE+KEY+", b"everwhen-signer/v1\n")
"""What the files of signing keys begin with, wherever they lie."""


@contextmanager
def written(file: str | Path, *, overwrite: bool) -> Iterator[Target]:
    """A file, or standard output, to write to: it takes its name only once it is complete.

    Raises `ExchangeFileError` where it exists, unless ``overwrite``, or can't be written.
    """
    target = Target(file, overwrite=overwrite)
    try:
        yield target
        target.finish()
    finally:
        target.abandon()


def check_output(file: str | Path, store: str, log: Path | None = None) -> None:
    """Raises `CommandStop` for a file of the store, its vault or the keys, or a signing key.

    And for one in the folder of its branches, or of its log, which ``log`` is where that lies
    elsewhere.
    """
    if str(file) == STANDARD:
        return
    path = path_of(store)
    own = [] if path is None else [Path(f"{path}{end}") for end in _BESIDE_THE_STORE]
    for needed in (*own, vault_file(), key_file()):
        if needed is not None and _is_same(Path(file), needed):
            raise CommandStop(f"{file}: the store needs this file; name another", USAGE)
    if _is_signing_key(Path(file)):
        raise CommandStop(f"{file}: this is a signing key; name another file", USAGE)
    folders = [] if path is None else [Path(f"{path}{end}") for end in _FOLDERS_OF_THE_STORE]
    for folder in folders if log is None else (*folders, log):
        if Path(file).resolve().is_relative_to(folder.resolve()):
            raise CommandStop(
                f"{file}: the folder {folder} belongs to the store; name another file", USAGE
            )


def _is_signing_key(file: Path) -> bool:
    try:
        if not file.is_file():
            return False
        with file.open("rb") as opened:
            return opened.read(max(map(len, _KEYS))).startswith(_KEYS)
    except OSError:
        return False


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.resolve() == other.resolve() or one.samefile(other)
    except OSError:
        return False
