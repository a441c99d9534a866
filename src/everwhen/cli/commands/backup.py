"""The commands ``backup`` and ``restore``."""

from __future__ import annotations

from typing import Annotated

import typer

from everwhen.cli.exits import NO_INPUT, USAGE, CommandStop, say
from everwhen.cli.formatting import bytes_look
from everwhen.cli.opening import existing, path_of, vault_file
from everwhen.cli.options import JsonOption, StoreArgument
from everwhen.cli.outputs import check_output
from everwhen.cli.progress import shown
from everwhen.cli.terminal import Output, counted
from everwhen.store import BackupReport, restore_store


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(backup)
    app.command()(restore)


def backup(
    store: StoreArgument,
    dest: Annotated[str, typer.Argument(metavar="DEST", help="The file to make.")],
    *,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an older backup there.")
    ] = False,
    log: Annotated[
        bool,
        typer.Option("--with-log", help="Also copy the signed logs beside the store."),
    ] = False,
    vault_to: Annotated[
        str | None,
        typer.Option(
            "--vault-to",
            metavar="FILE",
            help="Also copy the vault that --vault names to this file, best on another disk.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Copy a store, with its branches, while others go on reading and writing it.

    DEST is a store again, as it was at one moment; its branches are in the folder DEST-branches.
    It is checked before it gets its name, and there is nothing new where that fails or is broken
    off. Signing keys, the vault and its key are not part of it: whoever has an old copy of a vault,
    and its key, can read what belongs to people who were forgotten since.
    """
    if vault_to is not None and vault_file() is None:
        raise CommandStop("say where the vault is: everwhen --vault FILE backup …", USAGE)
    for file in (dest, vault_to):
        if file is not None:
            check_output(file, store)
    with existing(store) as opened, shown(f"Backing up to {dest}") as progress:
        report = opened.backup(
            dest, overwrite=overwrite, log=log, vault=vault_to, progress=progress
        )
    _say(report, "Backed up", json=json)
    if log and not report.logs:
        say(
            f"no signed log lies beside the store, at {store}-log, so none is part of the backup; "
            f"copy it yourself if it is elsewhere"
        )


def restore(
    backup: Annotated[str, typer.Argument(metavar="BACKUP", help="The backup: a file.")],
    dest: Annotated[str, typer.Argument(metavar="DEST", help="Where the store is to be.")],
    *,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the store there, unless it is open.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Put a backup, with its branches, in a store's place, once it has been checked.

    A signed log beside the backup is put in place where DEST has none. Vaults are not touched:
    keep using the newest there is, or people who were forgotten since the backup come back.
    """
    path = path_of(backup)
    if path is not None and not path.exists():
        raise CommandStop(f"{path}: there is no such backup; check the path", NO_INPUT)
    check_output(dest, backup)
    with shown(f"Restoring {dest}") as progress:
        report = restore_store(backup, dest, overwrite=overwrite, progress=progress)
    _say(report, "Restored", json=json)


def _say(report: BackupReport, what: str, *, json: bool) -> None:
    out = Output(json=json)
    if out.is_terminal:
        branches = f", {report.branches} branches" if report.branches else ""
        logs = f", {counted(report.logs, 'signed log')}" if report.logs else ""
        out.console.print(
            f"{what} {report.path}: up to position {report.position:,}{branches}{logs}, "
            f"{bytes_look(report.bytes)}."
        )
        return
    out.fields(
        {
            "path": report.path,
            "position": report.position,
            "recorded_at": report.recorded_at,
            "branches": report.branches,
            "bytes": report.bytes,
            "logs": report.logs,
        }
    )
