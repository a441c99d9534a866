"""The command that says how read models keep up: ``projections``."""

from __future__ import annotations

from typing import Annotated

import typer

from everwhen.cli.exits import NO, CommandStop
from everwhen.cli.known import unknown_name
from everwhen.cli.opening import existing
from everwhen.cli.options import BranchOption, JsonOption, StoreArgument
from everwhen.cli.projection_views import ParkedView, StatusView
from everwhen.cli.terminal import Output
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
            "--parked", metavar="NAME", help="List the events that this projection has left out."
        ),
    ] = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Show how far projections and reactions have come, and what went wrong.

    LAG is the number of positions still to be applied; RATE is in events a second, when it last
    worked; HEARD is when its runner was last heard of. A build that readers don't see yet is
    'building'.

    Columns in a pipe: name, kind, version, build, state, position, lag, rate, parked, skipped,
    heard, error or notice; with --parked: position, stream, type, parked at, error. Exit code 1
    says that one has halted, or that there is none of that name.
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
        out.console.print("No projection or reaction keeps its position in this store.")
        return
    out.list(found, StatusView())
    if any(status.state == "halted" for status in found):
        raise typer.Exit(NO)
