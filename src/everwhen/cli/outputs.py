"""The files that commands write: never one that the store itself, or trust in it, rests on."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from everwhen.cli.exits import USAGE, Stop
from everwhen.cli.opening import key_file, path_of, vault_file

_BESIDE_THE_STORE: Final = ("", "-wal", "-shm", "-signer")


def check_output(file: str | Path, store: str) -> None:
    """Raises `Stop` for a file that is the store's own, its signer's, its vault's or the key's."""
    path = path_of(store)
    own = [] if path is None else [Path(f"{path}{end}") for end in _BESIDE_THE_STORE]
    for needed in (*own, vault_file(), key_file()):
        if needed is not None and _is_same(Path(file), needed):
            raise Stop(f"{file}: the store needs this file as it is; name another", USAGE)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.resolve() == other.resolve() or one.samefile(other)
    except OSError:
        return False
