"""The command that goes through history step by step: ``replay``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

import typer

from everwhen import RecordedEvent, TimeMachine
from everwhen.cli.exit_codes import USAGE, CommandStop, say
from everwhen.cli.option_groups import expanded
from everwhen.cli.options import (
    JsonOption,
    LimitOption,
    StoreArgument,
    TagOption,
    TypeOption,
)
from everwhen.cli.output import Output, counted
from everwhen.cli.time_machines import PeriodOptions, StateOptions, machine_over
from everwhen.cli.travel_views import StepView
from everwhen.cli.unknown_names import warn_of_unknown
from everwhen.errors import DecodeError, ExpressionError
from everwhen.expressions import Expression
from everwhen.expressions.expression import Variables
from everwhen.expressions.unknown_parts import unknown_in_events
from everwhen.travel import EventFilter, WhatIf


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(expanded(replay))


@dataclass(frozen=True)
class FilterOptions:
    """Which events a replay has: those that match all that is given, or all others."""

    type_: TypeOption = None
    tag: TagOption = None
    user: Annotated[
        list[str] | None, typer.Option("--user", metavar="ID", help="Only what this user did.")
    ] = None
    correlation: Annotated[
        list[str] | None,
        typer.Option("--correlation", metavar="ID", help="Only events of this correlation."),
    ] = None
    which: Annotated[
        str | None,
        typer.Option(
            "--where",
            metavar="CONDITION",
            help="Only events for which this holds, such as 'event.amount > 50'.",
        ),
    ] = None
    without: Annotated[bool, typer.Option("--without", help="Replay all events except those.")] = (
        False
    )

    def filter(self) -> EventFilter | None:
        """The filter that they say together; None where nothing is given."""
        given = (self.type_, self.tag, self.user, self.correlation, self.which)
        if not any(given):
            return None
        return EventFilter(
            types=frozenset(self.type_ or ()),
            tags=frozenset(self.tag or ()),
            users=frozenset(self.user or ()),
            correlations=frozenset(self.correlation or ()),
            predicate=_predicate(self.which) if self.which else None,
        )

    def say_unknown(self, machine: TimeMachine[Any]) -> None:
        """Say on stderr what the condition names that no event has."""
        if self.which:
            newest = machine.store.read(machine.of.backwards())
            for part in unknown_in_events(Expression(self.which), newest):
                say(f"{self.which}: {part}")


def replay(
    store: StoreArgument,
    *,
    period: PeriodOptions,
    filtered: FilterOptions,
    limit: LimitOption = None,
    of: StateOptions,
    json: JsonOption = False,
) -> None:
    """Replay history step by step: each event, and what it changed in the state.

    With --type, --tag, --user, --correlation or --where the replay is filtered: it shows the state
    as it would be if only those events had happened (or, with --without, all others), and says
    what was left out. The condition of --where can use event and recorded.

    Columns in a pipe: position, recorded_at, stream, version, type, changes as JSON Patch. With
    --json each step of a filtered replay also says how many events were left_out before it.
    """
    where = filtered.filter()
    if where is None and filtered.without:
        raise CommandStop(
            "--without needs --type, --tag, --user, --correlation or --where; add one", USAGE
        )
    out, (first, last) = Output(json=json), period.moments()
    with machine_over(store, of) as machine:
        warn_of_unknown(machine.store, types=filtered.type_, tags=filtered.tag)
        if where is None:
            out.list(islice(machine.replay(first, last), limit), StepView())
            return
        if filtered.without:
            altered = machine.altered(without=where)
        else:
            altered = machine.altered(only=where)
        steps = altered.replay(first, last)
        if limit is not None:
            shown = list(islice(steps, limit))
            last = shown[-1].position if shown else first
            steps = iter(shown)
        if not out.list(steps, StepView()):
            filtered.say_unknown(machine)
        _say_left_out(altered.travel_to(last))


def _say_left_out(supposed: WhatIf[Any]) -> None:
    left_out = supposed.left_out
    count = sum(left_out.values())
    kinds = ", ".join(f"{count:,} {name}" for name, count in sorted(left_out.items()))
    say(
        f"this is not what happened: {counted(count, 'event')} {'was' if count == 1 else 'were'} "
        f"left out" + (f" ({kinds})" if kinds else "")
    )


def _predicate(text: str) -> Callable[[RecordedEvent[Any]], bool]:
    """Whether a condition holds for an event. Where it can't be evaluated it doesn't."""
    condition = Expression(text)
    others = condition.names - {"event", "recorded"}
    if others:
        raise CommandStop(
            f"--where: there is no {', '.join(sorted(others))} in an event; use event and recorded",
            USAGE,
        )

    def holds(event: RecordedEvent[Any]) -> bool:
        try:
            return condition.condition(Variables(None, event=event))
        except (ExpressionError, DecodeError):
            return False

    return holds
