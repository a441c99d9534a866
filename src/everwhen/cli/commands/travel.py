"""The commands that travel between moments: ``diff``, ``history``, ``blame`` and ``replay``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Annotated, Any, TypeAlias

import typer

from everwhen import Query, RecordedEvent, Store, TimeMachine, document, documents
from everwhen.cli import completion
from everwhen.cli.exits import NO, USAGE, CommandStop, say
from everwhen.cli.known import unknown_stream, warn_of_unknown
from everwhen.cli.local_time import given_moment_of
from everwhen.cli.opening import existing
from everwhen.cli.options import (
    BranchOption,
    EventsOption,
    FoldOption,
    JsonOption,
    OneCategoryOption,
    OneStreamArgument,
    StoreArgument,
    TypeOption,
)
from everwhen.cli.own_code import event_types, fold
from everwhen.cli.terminal import Output, counted
from everwhen.cli.travel_views import BlameEntry, BlameView, StepView, WrittenView, tell_changes
from everwhen.errors import DecodeError, ExpressionError
from everwhen.expressions import Expression
from everwhen.expressions.expression import Variables
from everwhen.expressions.unknown_parts import unknown_in_events
from everwhen.state import diff as differing
from everwhen.state.paths import value_at
from everwhen.travel import HEAD, EventFilter, WhatIf


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(diff)
    app.command()(history)
    app.command()(blame)
    app.command()(replay)


def diff(
    store: StoreArgument,
    before: Annotated[
        str | None, typer.Argument(metavar="[FROM]", help="A moment; else head, for two streams.")
    ] = None,
    after: Annotated[
        str | None,
        typer.Argument(
            metavar="[TO]",
            help="Another moment; '5 on' counts from the first. Else head; for two streams, FROM.",
        ),
    ] = None,
    stream: OneStreamArgument = None,
    *,
    streams: Annotated[
        list[str] | None,
        typer.Option(
            "--stream",
            "-s",
            metavar="NAME",
            help="Only this stream's state. Twice: compare the first one's with the second's.",
            autocompletion=completion.streams,
        ),
    ] = None,
    category: OneCategoryOption = None,
    fold_: FoldOption = None,
    events: EventsOption = None,
    branch: BranchOption = None,
    patch: Annotated[
        bool, typer.Option("--patch", help="Write one JSON Patch (RFC 6902) instead.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show what differs between the states at two moments, or between those of two streams.

    A moment is a position (5877), a time ('2013-05-01 14:00', '2h ago', yesterday), a version of
    the STREAM (v12), a bookmark (@lunch), start, head, or relative: '5 back', '2h before'.

    Of two streams, the first is looked at as it was FROM, the second as it was TO.

    Columns in a pipe: path, kind (added, removed, changed), the value before and after; people get
    a tree. Exit code 1 says that nothing differs.
    """
    named = [*([] if stream is None else [stream]), *(streams or ())]
    if len(named) > 2:
        raise CommandStop("compare two streams at a time", USAGE)
    if before is None and len(named) < 2:
        raise CommandStop(
            "name the moment FROM which to compare, or two streams by --stream", USAGE
        )
    with existing(store, branch=branch, events=event_types(events)) as opened:
        machines = [_machine(opened, one, category, fold_) for one in named or (None,)]
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


def history(
    store: StoreArgument,
    path: Annotated[
        str,
        typer.Argument(metavar="PATH", help="A part of the state: players.hedy.balance, bets[0]."),
    ],
    stream: OneStreamArgument = None,
    *,
    start: Annotated[
        str,
        typer.Option("--from", metavar="MOMENT", help="Only what was written after this moment."),
    ] = "start",
    end: Annotated[
        str, typer.Option("--to", metavar="MOMENT", help="Only up to this moment.")
    ] = "head",
    category: OneCategoryOption = None,
    fold_: FoldOption = None,
    events: EventsOption = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """List each value that a part of the state has had, with the event that wrote it.

    Columns in a pipe: position, recorded_at, stream, type, user, the value before and after. Exit
    code 1 says that nothing ever wrote it.
    """
    with machine_over(store, stream, category, fold_, events, branch) as machine:
        writes = machine.history(path, start=given_moment_of(start), end=given_moment_of(end))
        if not Output(json=json).list(writes, WrittenView()):
            unknown = [str(part) for part in machine.unknown_parts(path)]
            raise CommandStop("; ".join([f"nothing wrote {path}", *unknown]), NO)


def blame(
    store: StoreArgument,
    path: Annotated[
        str, typer.Argument(metavar="[PATH]", help="Only this part of the state.")
    ] = "",
    stream: OneStreamArgument = None,
    *,
    moment: Annotated[
        str, typer.Option("--at", metavar="MOMENT", help="The state as it was then.")
    ] = "head",
    category: OneCategoryOption = None,
    fold_: FoldOption = None,
    events: EventsOption = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Show who last wrote each field of the state: by which event, when, on which command.

    Columns in a pipe: path, value, position, recorded_at, type, user, command.
    """
    with machine_over(store, stream, category, fold_, events, branch) as machine:
        visit = machine.travel_to(given_moment_of(moment))
        found = machine.blame(path, visit.until)
        entries = (
            BlameEntry(leaf, value_at(visit.state, leaf), event) for leaf, event in found.items()
        )
        Output(json=json).list(entries, BlameView())


ReplayStartOption: TypeAlias = Annotated[
    str, typer.Option("--from", metavar="MOMENT", help="Begin after this moment.")
]
ReplayEndOption: TypeAlias = Annotated[
    str, typer.Option("--to", metavar="MOMENT", help="End with this moment.")
]
ReplayTagOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--tag", metavar="TAG", help="Only events with this tag. Repeat to ask for all of several."
    ),
]
ReplayUserOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--user", metavar="ID", help="Only what this user did.")
]
ReplayCorrelationOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--correlation", metavar="ID", help="Only events of this correlation."),
]
WhichOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Only events for which this holds, such as 'event.amount > 50'.",
    ),
]
WithoutOption: TypeAlias = Annotated[
    bool, typer.Option("--without", help="Replay all events except the chosen ones.")
]
ReplayLimitOption: TypeAlias = Annotated[
    int | None, typer.Option("--limit", "-n", min=0, metavar="N", help="At most N steps.")
]


def replay(
    store: StoreArgument,
    stream: OneStreamArgument = None,
    *,
    start: ReplayStartOption = "start",
    end: ReplayEndOption = "head",
    type_: TypeOption = None,
    tag: ReplayTagOption = None,
    user: ReplayUserOption = None,
    correlation: ReplayCorrelationOption = None,
    which: WhichOption = None,
    without: WithoutOption = False,
    limit: ReplayLimitOption = None,
    category: OneCategoryOption = None,
    fold_: FoldOption = None,
    events: EventsOption = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Replay history step by step: each event, and what it changed in the state.

    With --type, --tag, --user, --correlation or --where the replay is filtered: it tells the state
    as it would be if only those events had happened (or, with --without, all the others), and says
    what was left out. The condition of --where sees event and recorded.

    Columns in a pipe: position, recorded_at, stream, version, type, changes as JSON Patch. With
    --json each step of a filtered replay says how many events were left_out before it.
    """
    where = _where(type_, tag, user, correlation, which)
    if where is None and without:
        raise CommandStop(
            "--without goes with --type, --tag, --user, --correlation or --where", USAGE
        )
    with machine_over(store, stream, category, fold_, events, branch) as machine:
        warn_of_unknown(machine.store, types=type_, tags=tag)
        out = Output(json=json)
        first, last = given_moment_of(start), given_moment_of(end)
        if where is None:
            out.list(islice(machine.replay(first, last), limit), StepView())
            return
        altered = machine.altered(without=where) if without else machine.altered(only=where)
        steps = altered.replay(first, last)
        if limit is not None:
            shown = list(islice(steps, limit))
            last = shown[-1].position if shown else first
            steps = iter(shown)
        if not out.list(steps, StepView()) and which:
            newest = machine.store.read(machine.of.backwards())
            for part in unknown_in_events(Expression(which), newest):
                say(f"{which}: {part}")
        _say_left_out(altered.travel_to(last))


def _say_left_out(supposed: WhatIf[Any]) -> None:
    left_out = supposed.left_out
    count = sum(left_out.values())
    kinds = ", ".join(f"{count:,} {name}" for name, count in sorted(left_out.items()))
    say(
        f"this is not what happened: {counted(count, 'event')} {'was' if count == 1 else 'were'} "
        f"left out" + (f" ({kinds})" if kinds else "")
    )


def _where(
    types: list[str] | None,
    tags: list[str] | None,
    users: list[str] | None,
    correlations: list[str] | None,
    which: str | None,
) -> EventFilter | None:
    if not (types or tags or users or correlations or which):
        return None
    return EventFilter(
        types=frozenset(types or ()),
        tags=frozenset(tags or ()),
        users=frozenset(users or ()),
        correlations=frozenset(correlations or ()),
        predicate=_predicate(which) if which else None,
    )


def _predicate(text: str) -> Callable[[RecordedEvent[Any]], bool]:
    """Whether a condition holds for an event. Where it can't be evaluated it doesn't."""
    condition = Expression(text)
    others = condition.names - {"event", "recorded"}
    if others:
        raise CommandStop(
            f"--where sees only event and recorded, not {', '.join(sorted(others))}",
            USAGE,
        )

    def holds(event: RecordedEvent[Any]) -> bool:
        try:
            return condition.condition(Variables(None, event=event))
        except (ExpressionError, DecodeError):
            return False

    return holds


@contextmanager
def machine_over(
    store: str,
    stream: str | None,
    category: str | None,
    named: str | None,
    events: str | None,
    branch: str | None,
) -> Iterator[TimeMachine[Any]]:
    """A time machine over what the arguments say, with the user's fold or one that needs none.

    Nothing is written; what it leaves to travel faster stays in memory.
    """
    with existing(store, branch=branch, events=event_types(events)) as opened:
        yield _machine(opened, stream, category, named)


def _machine(
    opened: Store, stream: str | None, category: str | None, named: str | None
) -> TimeMachine[Any]:
    if stream is not None and category is not None:
        raise CommandStop("name a stream or a --category, not both", USAGE)
    of = Query() if category is None else Query().category(category)
    if stream is not None:
        of = Query().stream(stream)
        if opened.stream(stream) is None:
            raise CommandStop(unknown_stream(opened, stream), NO)
    if category is not None:
        warn_of_unknown(opened, categories=[category])
    own: Any = fold(named) if named is not None else document if stream else documents
    return TimeMachine(opened, own, of, keep=False)
