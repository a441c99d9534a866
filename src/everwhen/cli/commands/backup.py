"""The commands ``backup`` and ``restore``."""

from __future__ import annotations

from typing import Annotated

import typer

from everwhen.cli.exit_codes import NO_INPUT, USAGE, CommandStop, say
from everwhen.cli.formatting import bytes_look
from everwhen.cli.options import JsonOption, StoreArgument
from everwhen.cli.output import Output, counted
from everwhen.cli.output_files import check_output
from everwhen.cli.progress_bars import shown
from everwhen.cli.store_opening import existing, file_of, vault_file
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
        bool, typer.Option("--overwrite", help="Replace an older backup at DEST.")
    ] = False,
    log: Annotated[
        bool,
        typer.Option("--with-log", help="Include the signed logs beside the store."),
    ] = False,
    vault_to: Annotated[
        str | None,
        typer.Option(
            "--vault-to",
            metavar="FILE",
            help="Also copy the vault that --vault names to this file, ideally on another disk.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Copy a store, with its branches, while others continue to read and write it.

    DEST is again a store, as it was at one moment; its branches are in the folder DEST-branches.
    The copy is checked before it gets its name; if that fails or is interrupted, there is no new
    file. Signing keys, the vault and its key are not included: anyone with an old copy of a vault
    and its key can read the data of people who were forgotten since.
    """
    if vault_to is not None and vault_file() is None:
        raise CommandStop(
            "--vault-to: no vault is named; name it: everwhen --vault FILE backup …", USAGE
        )
    file_of(dest)
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
            f"{store}-log: there is no signed log beside the store, so the backup has none; if the "
            f"log is in another folder, copy it yourself"
        )


def restore(
    backup: Annotated[str, typer.Argument(metavar="BACKUP", help="The backup's file.")],
    dest: Annotated[
        str, typer.Argument(metavar="DEST", help="The store's file to make or replace.")
    ],
    *,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the store at DEST, unless it is open.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Check a backup, with its branches, and put it in the place of a store.

    A signed log beside the backup is restored, too, if DEST has none. Vaults are not changed: keep
    using the newest one, or people who were forgotten since the backup become readable again.
    """
    path = file_of(backup)
    if not path.exists():
        raise CommandStop(f"{path}: there is no such backup; check the path", NO_INPUT)
    file_of(dest)
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
