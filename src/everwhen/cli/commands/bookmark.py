"""The command that gives moments names: ``bookmark``."""

from __future__ import annotations

from typing import Annotated

import typer

from everwhen import EventTypes, Query, TimeMachine, document
from everwhen.cli.exit_codes import say
from everwhen.cli.local_time import given_moment_of
from everwhen.cli.options import (
    BranchOption,
    JsonOption,
    StoreArgument,
)
from everwhen.cli.output import Output
from everwhen.cli.store_opening import existing


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(bookmark)


def bookmark(
    store: StoreArgument,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The bookmark; without a name, list all.")
    ] = None,
    moment: Annotated[
        str, typer.Argument(metavar="[MOMENT]", help="The moment that it marks.")
    ] = "head",
    *,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the bookmark.")] = False,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Give a moment a name, to be used as @NAME in place of the moment; or list the names.

    Columns in a pipe: name, position.
    """
    out = Output(json=json)
    with existing(store, write=name is not None, branch=branch, events=EventTypes()) as opened:
        machine = TimeMachine(opened, document, Query(), keep=False)
        if name is None:
            marks = sorted(machine.bookmarks().items(), key=lambda item: item[1])
        elif delete:
            machine.delete_bookmark(name)
            return
        else:
            before = machine.bookmarks().get(name)
            marks = [(name, machine.set_bookmark(name, given_moment_of(moment)))]
            if before is not None and before != marks[0][1]:
                say(f"bookmark {name} was position {before:,} until now")
    for mark, position in marks:
        if json:
            out.line({"name": mark, "position": position})
        else:
            out.row(mark, str(position))
