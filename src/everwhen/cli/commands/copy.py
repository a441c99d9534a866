"""The command ``copy``."""

from __future__ import annotations

from typing import Annotated

import typer

from everwhen.cli.exit_codes import say
from everwhen.cli.options import JsonOption
from everwhen.cli.output import Output, counted
from everwhen.cli.output_files import check_output
from everwhen.cli.progress_bars import shown
from everwhen.cli.store_opening import existing, made_when_written
from everwhen.exchange import CopyReport, copy_store


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(copy)


def copy(
    source: Annotated[
        str, typer.Argument(metavar="FROM", help="The store: a file, or the URL of a log.")
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TO", help="The copy: a file to make, the URL of a log, or an unfinished copy."
        ),
    ],
    *,
    json: JsonOption = False,
) -> None:
    """Copy a store to another place: from a file to PostgreSQL, back, or to another of its kind.

    The copy has the same commits at the same positions, with the same times, ids and bytes, so the
    same proofs hold for it; and the branches, bookmarks, and how far reactions and imports have
    come. Read models and snapshots are made anew. What is encrypted stays encrypted; no vault is
    needed. All of it is compared in the end.

    TO must be new or empty, or a copy of the same store: after an interruption, or when the store
    has gone on, run the same command again. A target with other history ends it before anything
    is written, with exit code 1. Let nobody write to TO until it is done.
    """
    check_output(target, source)
    with (
        existing(source, keys=False) as opened,
        made_when_written(target, keys=False) as made,
        shown("Copying") as progress,
    ):
        report = copy_store(opened, made, progress=progress)
    _say(report, json=json)


def _say(report: CopyReport, *, json: bool) -> None:
    out = Output(json=json)
    if out.is_terminal:
        branches = f", {report.branches} branches" if report.branches else ""
        already = f", {report.repeated:,} were already there" if report.repeated else ""
        out.console.print(
            f"Copied {counted(report.written, 'event')}{already}: up to position "
            f"{report.position:,}{branches}. All are the same."
        )
    else:
        out.fields(
            {
                "events": report.events,
                "written": report.written,
                "repeated": report.repeated,
                "newer": report.newer,
                "branches": report.branches,
                "position": report.position,
                "recorded_at": report.recorded_at,
            }
        )
    if report.newer:
        say(
            f"{counted(report.newer, 'event')} came meanwhile and are not in the copy; run the "
            f"command again to copy them"
        )
