"""The commands that tell how a state came about: ``history`` and ``blame``."""

from __future__ import annotations

from typing import Annotated

import typer

from everwhen.cli.exit_codes import NO, CommandStop
from everwhen.cli.local_time import given_moment_of
from everwhen.cli.option_groups import expanded
from everwhen.cli.options import (
    JsonOption,
    StoreArgument,
)
from everwhen.cli.output import Output
from everwhen.cli.time_machines import PeriodOptions, StateOptions, machine_over
from everwhen.cli.travel_views import BlameView, WrittenView
from everwhen.exchange.travel_forms import BlameEntry
from everwhen.state.paths import value_at


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(expanded(history))
    app.command()(expanded(blame))


def history(
    store: StoreArgument,
    path: Annotated[
        str,
        typer.Argument(metavar="PATH", help="A part of the state: players.hedy.balance, bets[0]."),
    ],
    *,
    period: PeriodOptions,
    of: StateOptions,
    json: JsonOption = False,
) -> None:
    """List each value that a part of the state has had, with the event that wrote it.

    Columns in a pipe: position, recorded_at, stream, type, user, the value before and after. Exit
    code 1 means that nothing ever wrote it.
    """
    with machine_over(store, of) as machine:
        start, end = period.moments()
        writes = machine.history(path, start=start, end=end)
        if not Output(json=json).list(writes, WrittenView()):
            unknown = [str(part) for part in machine.unknown_parts(path)]
            raise CommandStop("; ".join([f"nothing wrote {path}", *unknown]), NO)


def blame(
    store: StoreArgument,
    path: Annotated[
        str, typer.Argument(metavar="[PATH]", help="Only this part of the state.")
    ] = "",
    *,
    moment: Annotated[
        str, typer.Option("--at", metavar="MOMENT", help="The state as it was then.")
    ] = "head",
    of: StateOptions,
    json: JsonOption = False,
) -> None:
    """Show who last wrote each field of the state: by which event, when, on which command.

    Columns in a pipe: path, value, position, recorded_at, type, user, command.
    """
    with machine_over(store, of) as machine:
        visit = machine.travel_to(given_moment_of(moment))
        found = machine.blame(path, visit.until)
        entries = (
            BlameEntry(leaf, value_at(visit.state, leaf), event) for leaf, event in found.items()
        )
        Output(json=json).list(entries, BlameView())
