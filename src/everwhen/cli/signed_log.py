"""The signed log of a store: where it lies, and which key it is trusted by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

from everwhen import Store
from everwhen.backends.locations import shown
from everwhen.cli.exit_codes import NO_INPUT, USAGE, CommandStop, say
from everwhen.cli.output import counted
from everwhen.cli.signing_keys import known_key, needs_trust
from everwhen.cli.store_opening import path_of
from everwhen.system.bounded_files import MAX_TRUST_BYTES, read_file
from everwhen_verify.errors import MemoryFileError

if TYPE_CHECKING:
    from everwhen.merkle import MerkleLog
    from everwhen_verify.memory import Memory

_KEY_FILE: Final = "-signer"

LogOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--log", metavar="FOLDER", help="The log's folder. [default: STORE-log]"),
]
KnownKeyOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--key", metavar="VKEY", help="The log's public key, if you know it."),
]


@dataclass(frozen=True)
class TrustOptions:
    """Where a log lies, and what it is verified against."""

    key: KnownKeyOption = None
    log: LogOption = None
    memory: Annotated[
        Path | None,
        typer.Option(
            "--memory",
            metavar="FOLDER",
            help="Remember what was verified in this folder. [default: in your XDG_STATE_HOME]",
        ),
    ] = None

    def open(self, store: str, opened: Store) -> tuple[MerkleLog, str | None]:
        """The log of an open store, and why what was verified can't be remembered, if it can't."""
        remembering, unable = memory_of(self.memory)
        tiles = log_folder(store, opened, self.log)
        known = None if self.key is None else known_key(self.key, "--key")
        log: MerkleLog = merkle().MerkleLog(opened, tiles, key=known, memory=remembering)
        return log, unable


def proving(store: str, opened: Store, trust: TrustOptions) -> MerkleLog:
    """The log of a store that reads are proven by; stderr says up to where, and by whose key."""
    log, unable = trust.open(store, opened)
    until, report = log.proven()
    words = {"given": "the key given", "remembered": "the key remembered"}
    whose = words.get(
        report.key_from, "the key that the log's folder itself names; give --key to be sure"
    )
    say(f"proven up to position {until:,}, {counted(report.size, 'commit')} signed by {whose}")
    say_not_remembered(unable or report.not_remembered)
    return log


def say_not_remembered(why: str | None) -> None:
    """Say on stderr that what was verified can't be remembered, if there is a reason."""
    if why is not None:
        say(f"what was verified could not be remembered: {why}; give --memory FOLDER")


def memory_of(folder: Path | None) -> tuple[Memory | None, str | None]:
    """The memory in a folder, or this user's; or why there is none."""
    from everwhen_verify.memory import Memory

    try:
        return Memory(folder), None
    except MemoryFileError as error:
        return None, str(error)


def merkle() -> Any:
    """The room of Merkle logs. Raises `CommandStop` where the library that it needs is missing."""
    needs_trust()
    import everwhen.merkle

    return everwhen.merkle


def _file_of(store: str) -> Path:
    path = path_of(store)
    if path is None:
        raise CommandStop(
            f"{shown(store)}: this store has no file, so a log has no place beside it; name a file",
            USAGE,
        )
    return path


def signing_key_file(store: str, opened: Store) -> Path:
    """The signing key's file beside the store's, or beside that of its branch."""
    tiles = merkle().TileFolder.beside(_file_of(store), opened.branch_info)
    return Path(f"{str(tiles.path).removesuffix('-log')}{_KEY_FILE}")


def log_folder(store: str, opened: Store, log: Path | None) -> Any:
    """The folder of the log: the one that is named, or the one beside the store or its branch."""
    if log is not None:
        return merkle().TileFolder(log)
    return merkle().TileFolder.beside(_file_of(store), opened.branch_info)


def content_of(path: Path, what: str = "a checkpoint") -> bytes:
    """What is in a small file. Raises `CommandStop` where it can't be read."""
    try:
        return read_file(path, MAX_TRUST_BYTES)
    except OSError as error:
        raise CommandStop(f"{path}: {error.strerror}; name a file with {what}", NO_INPUT) from error
