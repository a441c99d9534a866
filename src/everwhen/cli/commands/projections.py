"""The command that says how read models keep up: ``projections``."""

from __future__ import annotations

from typing import Annotated

import typer

from everwhen.cli.exit_codes import NO, CommandStop
from everwhen.cli.options import BranchOption, JsonOption, StoreArgument
from everwhen.cli.output import Output
from everwhen.cli.projection_views import ParkedView, StatusView
from everwhen.cli.store_opening import existing
from everwhen.cli.unknown_names import unknown_name
from everwhen.projections import parked_events, projection_statuses


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(projections)


def projections(
    store: StoreArgument,
    *,
    parked: Annotated[
        str | None,
        typer.Option(
            "--parked", metavar="NAME", help="List the events that this projection has parked."
        ),
    ] = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Show how far projections and reactions have come, and what went wrong.

    LAG is how many positions are not processed yet; RATE is in events per second, when it last
    worked; HEARD is when its runner last gave a sign of life. A new build that readers don't see
    yet is 'building'. One that is 'beyond' stands after the newest event, so the store was restored
    to an earlier moment than it: it has no lag, and has to be rebuilt.

    Columns in a pipe: name, kind, version, build, state, position, lag, rate, parked, skipped,
    heard, error or notice; with --parked: position, stream, type, parked at, error. Exit code 1
    means that one has halted or is beyond the end, or that none has that name.
    """
    out = Output(json=json)
    with existing(store, branch=branch) as opened:
        found = projection_statuses(opened)
        if parked is not None:
            if parked not in {status.name for status in found}:
                names = [status.name for status in found]
                raise CommandStop(unknown_name("projection", parked, names), NO)
            out.list(parked_events(opened, parked), ParkedView())
            return
    if not found and out.is_terminal and not json:
        out.console.print("There are no projections or reactions in this store.")
        return
    out.list(found, StatusView())
    if any(status.state in ("halted", "beyond") for status in found):
        raise typer.Exit(NO)
