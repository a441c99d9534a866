"""Which state a command is about, from when to when, and a time machine that derives it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from everwhen import Query, Store, TimeMachine, document, documents
from everwhen.cli import completion
from everwhen.cli.exit_codes import NO, USAGE, CommandStop
from everwhen.cli.local_time import given_moment_of
from everwhen.cli.options import BranchOption, EventsOption, FoldOption, OneCategoryOption
from everwhen.cli.store_opening import existing
from everwhen.cli.unknown_names import unknown_stream, warn_of_unknown
from everwhen.cli.user_code import event_types, fold
from everwhen.travel import Moment


@dataclass(frozen=True)
class StateOptions:
    """Which state is meant: of which streams, on which branch, and by which fold."""

    stream: Annotated[
        str | None,
        typer.Argument(
            metavar="[STREAM]",
            help="Only this stream's state; otherwise that of all streams.",
            autocompletion=completion.streams,
        ),
    ] = None
    category: OneCategoryOption = None
    fold_: FoldOption = None
    events: EventsOption = None
    branch: BranchOption = None


@dataclass(frozen=True)
class PeriodOptions:
    """From when to when."""

    start: Annotated[
        str, typer.Option("--from", metavar="MOMENT", help="Only what was written after it.")
    ] = "start"
    end: Annotated[
        str, typer.Option("--to", metavar="MOMENT", help="Only what was written up to it.")
    ] = "head"

    def moments(self) -> tuple[Moment, Moment]:
        """The moment after which it begins, and the one with which it ends."""
        return given_moment_of(self.start), given_moment_of(self.end)


@contextmanager
def machine_over(store: str, of: StateOptions) -> Iterator[TimeMachine[Any]]:
    """A time machine over a state, with the user's fold or one that needs none.

    It writes nothing: the snapshots that make it faster stay in memory.
    """
    with existing(store, branch=of.branch, events=event_types(of.events)) as opened:
        yield machine_in(opened, of)


def machine_in(opened: Store, of: StateOptions) -> TimeMachine[Any]:
    """The same, in a store that is open already."""
    stream, category = of.stream, of.category
    if stream is not None and category is not None:
        raise CommandStop("a stream and a category are named; name only one of them", USAGE)
    selected = Query() if category is None else Query().category(category)
    if stream is not None:
        selected = Query().stream(stream)
        if opened.stream(stream) is None:
            raise CommandStop(unknown_stream(opened, stream), NO)
    if category is not None:
        warn_of_unknown(opened, categories=[category])
    own: Any = fold(of.fold_) if of.fold_ is not None else document if stream else documents
    return TimeMachine(opened, own, selected, keep=False)
