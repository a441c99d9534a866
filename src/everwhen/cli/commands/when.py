"""The command that finds moments: ``when``. Also ``bookmark``, which gives them names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Annotated, Any, TypeAlias

import typer

from everwhen import EventTypes, Query, RecordedEvent, TimeMachine, document
from everwhen.cli.exits import NO, USAGE, CommandStop, say
from everwhen.cli.local_time import given_moment_of
from everwhen.cli.opening import existing, give_vault, vault_words
from everwhen.cli.options import (
    BranchOption,
    EventsOption,
    FoldOption,
    JsonOption,
    LimitOption,
    OneCategoryOption,
    OneStreamArgument,
    StoreArgument,
)
from everwhen.cli.progress import shown
from everwhen.cli.terminal import Output
from everwhen.cli.travel_views import VisitView
from everwhen.cli.travelling import machine_over
from everwhen.exchange import ExchangeProgress
from everwhen.expressions import Expression
from everwhen.travel import Processes, StateAt


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(when)
    app.command()(bookmark)


ConditionArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="CONDITION",
        help="A condition on the state, such as 'players.hedy.balance > 1000'.",
    ),
]
LastOption: TypeAlias = Annotated[
    bool, typer.Option("--last", help="The last moment at which it held, not the first.")
]
WhenEveryOption: TypeAlias = Annotated[
    bool, typer.Option("--all", help="Every moment at which it held: one for each event.")
]
ChangesOption: TypeAlias = Annotated[
    bool, typer.Option("--changes", help="Each moment at which it began or stopped holding.")
]
WhenStartOption: TypeAlias = Annotated[
    str, typer.Option("--from", metavar="MOMENT", help="Search from this moment on.")
]
WhenEndOption: TypeAlias = Annotated[
    str, typer.Option("--to", metavar="MOMENT", help="Search up to this moment.")
]
CountOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--processes", min=1, metavar="N", help="Ask after every event, in N processes."),
]


def when(
    store: StoreArgument,
    condition: ConditionArgument,
    stream: OneStreamArgument = None,
    *,
    last: LastOption = False,
    every: WhenEveryOption = False,
    changes: ChangesOption = False,
    start: WhenStartOption = "start",
    end: WhenEndOption = "head",
    limit: LimitOption = None,
    count: CountOption = None,
    category: OneCategoryOption = None,
    fold_: FoldOption = None,
    events: EventsOption = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Find when a condition on the state held: the first moment, or all of them.

    The condition is written in CEL, the Common Expression Language: the fields of the state by
    their names, 'total > 100 && "hedy" in players'. What it looks up in vain makes it not hold.

    It is asked again where something that it looks at has changed. --processes is for conditions
    that look at everything, where that is no help; each process searches a piece of history,
    from the nearest waypoint on that travelling has left in the store.

    Columns in a pipe: position, recorded_at, stream and type of the event; with --changes also
    true or false. Exit code 1 says that it never held.
    """
    if last + every + changes > 1:
        raise CommandStop("choose one of --last, --all and --changes", USAGE)
    expression = Expression(condition)
    if {"event", "recorded", "before"} & set(expression.names):
        raise CommandStop(
            "a condition is on the state; event, recorded and before are for the debugger", USAGE
        )
    out = Output(json=json)
    with (
        machine_over(store, stream, category, fold_, events, branch) as machine,
        shown("Searching") as tell,
    ):
        progress = None if tell is None else _told_as_events(tell)
        words = (store, stream, category, fold_, events, branch)
        how: dict[str, Any] = {
            "start": given_moment_of(start),
            "end": given_moment_of(end),
            "progress": progress,
            "processes": None
            if count is None
            else Processes(partial(_elsewhere, vault_words(), *words), count),
        }
        holds = expression.holds_for
        if changes:
            found = machine.transitions(holds, **how)
            held = 0
            for transition in islice(found, limit):
                _changed(out, machine, transition.at, holds=transition.holds)
                held += transition.holds
        elif every:
            visits = machine.find_all(holds, **how)
            held = out.list(_with_events(machine, islice(visits, limit)), VisitView())
        else:
            one = machine.find_when(holds, last=last, **how)
            held = out.list(_with_events(machine, [] if one is None else [one]), VisitView())
        if not held:
            unknown = [str(part) for part in machine.unknown_parts(expression, progress=progress)]
            raise CommandStop("; ".join([f"it never held: {condition}", *unknown]), NO)


def bookmark(
    store: StoreArgument,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The bookmark; else all are listed.")
    ] = None,
    moment: Annotated[
        str,
        typer.Argument(metavar="[MOMENT]", help="The moment it stands for; else the newest event."),
    ] = "head",
    *,
    delete: Annotated[bool, typer.Option("--delete", help="Delete the bookmark.")] = False,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Give a moment a name, which then stands for it as @NAME; or list the names.

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


@contextmanager
def _elsewhere(vault: tuple[str | None, str | None], *words: Any) -> Iterator[TimeMachine[Any]]:
    """The same time machine, in another process."""
    give_vault(*vault)
    with machine_over(*words) as machine:
        yield machine


def _told_as_events(tell: Callable[[ExchangeProgress], None]) -> Callable[[int, int], None]:
    return lambda position, last: tell(ExchangeProgress("reading", position, last, "events"))


def _with_events(
    machine: TimeMachine[Any], visits: Iterable[StateAt[Any]]
) -> Iterator[tuple[StateAt[Any], RecordedEvent[Any] | None]]:
    for visit in visits:
        yield visit, machine.step_at(visit.position).event if visit.position else None


def _changed(out: Output, machine: TimeMachine[Any], visit: StateAt[Any], *, holds: bool) -> None:
    """One moment at which it began or ceased to hold."""
    view = VisitView()
    ((_, event),) = _with_events(machine, [visit])
    if out.json:
        record: Any = view.record((visit, event))
        out.line({"holds": holds, **record})
    elif out.is_terminal:
        from rich.text import Text

        line = Text("holds  " if holds else "ceases ", "green" if holds else "red")
        for cell in view.cells((visit, event)):
            line.append_text(cell).append("  ")
        out.console.print(line)
    else:
        out.row(*view.plain((visit, event)), "true" if holds else "false")
