"""The command that takes back: ``undo``, a plan until it is told to apply it."""

from __future__ import annotations

import re
from typing import Annotated, Final
from uuid import UUID

import typer

from everwhen import EventTypes, Undo
from everwhen.cli.exit_codes import USAGE, CommandStop
from everwhen.cli.option_groups import expanded
from everwhen.cli.options import (
    ApplyOption,
    BranchOption,
    EventsOption,
    JsonOption,
    OriginOptions,
    StoreArgument,
)
from everwhen.cli.output import Output
from everwhen.cli.store_opening import existing
from everwhen.cli.undo_views import drawn, rows
from everwhen.cli.user_code import compensations, event_types
from everwhen.exchange.json_forms import utc_text
from everwhen.exchange.undo_forms import undo_plan_form
from everwhen.undo import Correlation, Positions, UndoPlan, UndoTarget
from everwhen.vocabulary import Receipt

_RANGE: Final = re.compile(r"(\d+)(?:-|\.\.)(\d*)", re.ASCII)


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(expanded(undo))


def undo(
    store: StoreArgument,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A position (7), a range of positions (7-12, or 7- to the end), a commit's id, an "
            "event's id, or correlation:ID.",
        ),
    ],
    compensations_: Annotated[
        str,
        typer.Option(
            "--compensations",
            metavar="MODULE:NAME",
            help="Your Compensations: which event undoes which other.",
        ),
    ],
    *,
    events: EventsOption = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="USER", help="With a range: only what this user did."),
    ] = None,
    redo: Annotated[
        bool, typer.Option("--redo", help="Redo what was undone, instead of undoing.")
    ] = False,
    apply: ApplyOption = False,
    allow_partial: Annotated[
        bool,
        typer.Option("--allow-partial", help="Leave out what can't be undone, and undo the rest."),
    ] = False,
    dependents: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="List at most N events that may depend on it."),
    ] = 10,
    branch: BranchOption = None,
    origin: OriginOptions,
    json: JsonOption = False,
) -> None:
    """Show what undoing something would do, and with --apply do it.

    Nothing is deleted from the store: events that compensate the others are appended, in one commit
    that names them. What is already undone can't be undone again; --redo does it again, and so does
    undoing the undo.

    In a pipe, each line of the plan begins with its kind (undone, redone, append, cannot, already,
    stays, dependent); then come position, stream, type, and the data or the reason. Exit code 1
    means that it can't be done, or only in part.
    """
    out = Output(json=json)
    meant = _target(target, by)
    types, own = event_types(events), compensations(compensations_)
    with existing(store, branch=branch, write=apply, events=types) as opened:
        undoing = Undo(opened, own)
        make = undoing.plan_redo if redo else undoing.plan
        plan = make(meant, dependents=dependents)
        _show(out, plan, opened.event_types, applied=apply)
        plan.check(allow_partial=allow_partial)
        if apply:
            receipt = undoing.undo(
                plan,
                allow_partial=allow_partial,
                metadata=origin.metadata(),
            )
            _report(out, receipt)


def _target(text: str, by: str | None) -> UndoTarget:
    found = _RANGE.fullmatch(text)
    if found is not None:
        return Positions(int(found[1]), int(found[2]) if found[2] else None, by)
    if by is not None:
        raise CommandStop(
            "--by needs a range of positions; give one, such as 1- for all of them", USAGE
        )
    if text.isascii() and text.isdecimal():
        return int(text)
    kind, colon, id_ = text.partition(":")
    if colon and kind == "correlation":
        return Correlation(id_)
    try:
        return UUID(text)
    except ValueError:
        return text


def _show(out: Output, plan: UndoPlan, types: EventTypes, *, applied: bool) -> None:
    if out.json:
        out.line(undo_plan_form(plan, types))
    elif out.is_terminal:
        for part in drawn(plan, types, applied=applied):
            out.console.print(part, no_wrap=True, overflow="ellipsis")
    else:
        for row in rows(plan, types):
            out.row(*row)


def _report(out: Output, receipt: Receipt) -> None:
    if not out.is_terminal:
        out.fields(
            {
                "commit_id": str(receipt.commit_id),
                "position": receipt.position,
                "recorded_at": utc_text(receipt.recorded_at),
                "repeated": receipt.repeated,
            }
        )
        return
    from rich.text import Text

    deed = "was done already" if receipt.repeated else "done"
    out.console.print(
        Text.assemble(
            ("✓ ", "bold green"),
            f"{deed}, up to position {receipt.position:,}",
            (f"\n  commit {receipt.commit_id}; undo that to go back", "dim"),
        )
    )
