"""The command that finds moments: ``when``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Annotated, Any, TypeAlias

import typer

from everwhen import RecordedEvent, TimeMachine
from everwhen.cli.exit_codes import NO, USAGE, CommandStop
from everwhen.cli.local_time import given_moment_of
from everwhen.cli.option_groups import expanded
from everwhen.cli.options import (
    JsonOption,
    LimitOption,
    StoreArgument,
)
from everwhen.cli.output import Output
from everwhen.cli.progress_bars import shown
from everwhen.cli.store_opening import give_vault, vault_words
from everwhen.cli.time_machines import StateOptions, machine_over
from everwhen.cli.travel_views import VisitView
from everwhen.exchange import ExchangeProgress
from everwhen.expressions import Expression
from everwhen.travel import Processes, StateAt

Tell: TypeAlias = Callable[[ExchangeProgress], None]


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(expanded(when))


@dataclass(frozen=True)
class MomentOptions:
    """Which of the moments at which a condition holds are wanted."""

    last: Annotated[
        bool, typer.Option("--last", help="The last moment at which it held, not the first.")
    ] = False
    every: Annotated[
        bool, typer.Option("--all", help="Every moment at which it held: one for each event.")
    ] = False
    changes: Annotated[
        bool, typer.Option("--changes", help="Each moment at which it became true or false.")
    ] = False

    def check(self) -> None:
        """Raises `CommandStop` for more than one wish."""
        if self.last + self.every + self.changes > 1:
            raise CommandStop("--last, --all and --changes exclude each other; choose one", USAGE)


@dataclass(frozen=True)
class SearchOptions:
    """Where a condition is searched for, and how."""

    start: Annotated[
        str, typer.Option("--from", metavar="MOMENT", help="Search from this moment on.")
    ] = "start"
    end: Annotated[
        str, typer.Option("--to", metavar="MOMENT", help="Search up to this moment.")
    ] = "head"
    count: Annotated[
        int | None,
        typer.Option(
            "--processes",
            min=1,
            metavar="N",
            help="Evaluate it after every event, in N processes.",
        ),
    ] = None

    def search(self, store: str, of: StateOptions, tell: Tell | None) -> dict[str, Any]:
        """How a time machine searches: the keywords of its methods."""
        machines = partial(_elsewhere, vault_words(), store, of)
        return {
            "start": given_moment_of(self.start),
            "end": given_moment_of(self.end),
            "progress": None if tell is None else _told_as_events(tell),
            "processes": None if self.count is None else Processes(machines, self.count),
        }


def when(
    store: StoreArgument,
    condition: Annotated[
        str,
        typer.Argument(
            metavar="CONDITION",
            help="A condition on the state, such as 'players.hedy.balance > 1000'.",
        ),
    ],
    *,
    wanted: MomentOptions,
    search: SearchOptions,
    limit: LimitOption = None,
    of: StateOptions,
    json: JsonOption = False,
) -> None:
    """Find when a condition on the state held: the first moment, or all of them.

    The condition is written in CEL, the Common Expression Language: it uses the fields of the state
    by name, as in 'total > 100 && "hedy" in players'. Where it uses something that does not exist,
    it does not hold.

    It is evaluated again only where something that it uses has changed. --processes is for
    conditions that use everything, where that does not help; each process searches a part of
    history, from the nearest snapshot that time travel has left in the store.

    Columns in a pipe: position, recorded_at, stream and type of the event; with --changes also
    true or false. Exit code 1 means that it never held.
    """
    wanted.check()
    expression = Expression(condition)
    if {"event", "recorded", "before"} & set(expression.names):
        raise CommandStop(
            f"{condition}: event, recorded and before are for the debugger; use fields of the "
            f"state",
            USAGE,
        )
    out = Output(json=json)
    with machine_over(store, of) as machine, shown("Searching") as tell:
        how = search.search(store, of, tell)
        holds = expression.holds_for
        if wanted.changes:
            held = 0
            for transition in islice(machine.transitions(holds, **how), limit):
                _changed(out, machine, transition.at, holds=transition.holds)
                held += transition.holds
        else:
            found: Iterable[StateAt[Any]]
            if wanted.every:
                found = islice(machine.find_all(holds, **how), limit)
            else:
                one = machine.find_when(holds, last=wanted.last, **how)
                found = [] if one is None else [one]
            held = out.list(_with_events(machine, found), VisitView())
        if not held:
            unknown = map(str, machine.unknown_parts(expression, progress=how["progress"]))
            raise CommandStop("; ".join([f"it never held: {condition}", *unknown]), NO)


@contextmanager
def _elsewhere(
    vault: tuple[str | None, str | None], store: str, of: StateOptions
) -> Iterator[TimeMachine[Any]]:
    """The same time machine, in another process."""
    give_vault(*vault)
    with machine_over(store, of) as machine:
        yield machine


def _told_as_events(tell: Tell) -> Callable[[int, int], None]:
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
