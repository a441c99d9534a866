"""The commands that list what is there: ``read``, ``streams`` and ``tail``."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, islice
from typing import Annotated

import typer

from everwhen import Query
from everwhen.cli.exit_codes import INTERRUPTED, USAGE, CommandStop
from everwhen.cli.local_time import given_moment
from everwhen.cli.option_groups import expanded
from everwhen.cli.options import (
    AfterOption,
    BranchOption,
    EventsOption,
    JsonOption,
    LimitOption,
    OneCategoryOption,
    SelectionOptions,
    SkipRetiredOption,
    StoreArgument,
)
from everwhen.cli.output import Output
from everwhen.cli.signed_log import TrustOptions, proving
from everwhen.cli.store_opening import existing
from everwhen.cli.unknown_names import warn_of_unknown
from everwhen.cli.user_code import event_types
from everwhen.cli.views import EventView, StreamView


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(expanded(read))
    app.command()(streams)
    app.command()(expanded(tail))


@dataclass(frozen=True)
class BoundOptions:
    """From where to where events are listed."""

    from_version: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Only events with at least this version in their stream."
        ),
    ] = None
    to_version: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Only events with at most this version."),
    ] = None
    after: AfterOption = None
    up_to: Annotated[
        int | None,
        typer.Option(min=0, metavar="POSITION", help="Only events at or before this position."),
    ] = None
    as_at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only what had been recorded by then."),
    ] = None
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Only what had happened by then, even if it was recorded later."
        ),
    ] = None

    def apply(self, query: Query) -> Query:
        """The query within these bounds."""
        if self.from_version is not None:
            query = query.from_version(self.from_version)
        if self.to_version is not None:
            query = query.to_version(self.to_version)
        if self.after is not None:
            query = query.after(self.after)
        if self.up_to is not None:
            query = query.up_to(self.up_to)
        if self.as_at is not None:
            query = query.as_at(given_moment(self.as_at))
        return query if self.as_of is None else query.as_of(given_moment(self.as_of))


def read(
    store: StoreArgument,
    *,
    selection: SelectionOptions,
    bounds: BoundOptions,
    backwards: Annotated[
        bool, typer.Option("--backwards", "-r", help="From the newest event to the oldest.")
    ] = False,
    limit: LimitOption = None,
    skip_retired: SkipRetiredOption = False,
    proven: Annotated[
        bool,
        typer.Option(
            "--proven",
            help="Only signed events, with proof that they are unchanged and that none is missing.",
        ),
    ] = False,
    trust: TrustOptions,
    events: EventsOption = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """List events, in the order they were recorded.

    Columns in a pipe: position, recorded_at, stream, version, type, data. If nothing in the store
    has the stream, category, type or tag that you name, stderr says so; the exit code is still 0.

    A TIME is ISO 8601 (2013-05-01, '2013-05-01 14:00', 2013-05-01T12:00Z), or '2h ago',
    '3 days ago', yesterday, now. Without a zone it is local time.

    With --proven, the whole log is verified first, as verify does. Then the events up to the newest
    signed commit are listed, and stderr says up to which position. The first fault ends the command
    with exit code 1.
    """
    if not proven and trust != TrustOptions():
        raise CommandStop("--key, --log and --memory need --proven; add it", USAGE)
    query = bounds.apply(selection.query())
    if backwards:
        query = query.backwards()
    if skip_retired:
        query = query.skipping_retired()
    if limit is not None:
        query = query.limit(limit)
    with existing(store, branch=branch, events=event_types(events)) as opened:
        signed = proving(store, opened, trust) if proven else None
        Output(json=json).list(opened.read(query, proven=signed), EventView())
        selection.warn_of_unknown(opened)


def streams(
    store: StoreArgument,
    *,
    category: OneCategoryOption = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """List streams with their versions, by name.

    Columns in a pipe: stream, version, position and recorded_at of its last event.
    """
    with existing(store, branch=branch) as opened:
        if not Output(json=json).list(opened.streams(category), StreamView()) and category:
            warn_of_unknown(opened, categories=[category])


def tail(
    store: StoreArgument,
    *,
    selection: SelectionOptions,
    after: AfterOption = None,
    last: Annotated[
        int,
        typer.Option("--last", "-n", min=0, metavar="N", help="Begin with the newest N events."),
    ] = 10,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after N events.")
    ] = None,
    events: EventsOption = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Follow events as they are written.

    Shows each event that any process appends, once and in order. Begins with the newest 10, or
    after the position of --after. Goes on until Ctrl-C, which ends it with exit code 130, or until
    --limit. The columns are those of read.
    """
    query = selection.query()
    with existing(store, branch=branch, events=event_types(events)) as opened:
        selection.warn_of_unknown(opened)
        if after is not None:
            known, begin = [], after
        else:
            begin = opened.head().position
            known = list(
                opened.read(query.up_to(begin).backwards().limit(last).skipping_retired())
            )[::-1]
        followed = chain(known, opened.subscribe(query.after(begin)))
        try:
            Output(json=json).list(islice(followed, limit), EventView(), live=len(known[:limit]))
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
