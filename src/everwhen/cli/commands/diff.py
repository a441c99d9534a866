"""The command that compares states: ``diff``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from everwhen.cli import completion
from everwhen.cli.exit_codes import NO, USAGE, CommandStop
from everwhen.cli.local_time import given_moment_of
from everwhen.cli.option_groups import expanded
from everwhen.cli.options import (
    JsonOption,
    StoreArgument,
)
from everwhen.cli.output import Output
from everwhen.cli.store_opening import existing
from everwhen.cli.time_machines import StateOptions, machine_in
from everwhen.cli.travel_views import tell_changes
from everwhen.cli.user_code import event_types
from everwhen.state import diff as differing
from everwhen.travel import HEAD


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(expanded(diff))


def diff(
    store: StoreArgument,
    before: Annotated[
        str | None,
        typer.Argument(metavar="[FROM]", help="A moment. [default: head, for two streams]"),
    ] = None,
    after: Annotated[
        str | None,
        typer.Argument(
            metavar="[TO]",
            help="Another moment; '5 on' counts from FROM. [default: head; for two streams, FROM]",
        ),
    ] = None,
    *,
    streams: Annotated[
        list[str] | None,
        typer.Option(
            "--stream",
            "-s",
            metavar="NAME",
            help="Only this stream's state. Give it twice to compare two streams.",
            autocompletion=completion.streams,
        ),
    ] = None,
    of: StateOptions,
    patch: Annotated[
        bool, typer.Option("--patch", help="Write one JSON Patch (RFC 6902) instead.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show what differs between the states at two moments, or between those of two streams.

    A moment is a position (5877), a time ('2013-05-01 14:00', '2h ago', yesterday), a version of
    the STREAM (v12), a bookmark (@lunch), start, head, or relative: '5 back', '2h before'.

    If two streams are compared, the first one's state is that at FROM, the second one's that at TO.

    Columns in a pipe: path, kind (added, removed, changed), the value before and after; a terminal
    shows a tree. Exit code 1 means that nothing differs.
    """
    named = [*([] if of.stream is None else [of.stream]), *(streams or ())]
    if len(named) > 2:
        raise CommandStop(f"{len(named)} streams are named; name at most two", USAGE)
    if before is None and len(named) < 2:
        raise CommandStop(
            "nothing to compare is named; name a moment FROM, or two streams with --stream", USAGE
        )
    with existing(store, branch=of.branch, events=event_types(of.events)) as opened:
        machines = [machine_in(opened, replace(of, stream=one)) for one in named or (None,)]
        first = given_moment_of(before or "head")
        visit = machines[0].travel_to(first)
        if after is not None:
            other = machines[-1].travel_to(given_moment_of(after), here=visit.until)
        else:
            other = machines[-1].travel_to(first if len(named) == 2 else HEAD)
        changes = differing(visit.state, other.state)
        out = Output(json=json)
        if patch:
            out.line(changes.patch())
        else:
            tell_changes(out, changes)
        if not changes:
            raise typer.Exit(NO)
