"""The commands that list what is there: ``read``, ``streams`` and ``tail``."""

from __future__ import annotations

from itertools import chain, islice
from typing import Annotated

import typer

from everwhen import Query
from everwhen.cli.exits import INTERRUPTED, USAGE, CommandStop
from everwhen.cli.known import warn_of_unknown
from everwhen.cli.local_time import given_moment
from everwhen.cli.opening import existing
from everwhen.cli.options import (
    AfterOption,
    BranchOption,
    CategoryOption,
    EventsOption,
    FromVersionOption,
    JsonOption,
    LimitOption,
    OneCategoryOption,
    StoreArgument,
    StreamOption,
    TagOption,
    ToVersionOption,
    TypeOption,
)
from everwhen.cli.own_code import event_types
from everwhen.cli.signing import KnownKeyOption, LogOption, MemoryOption, proving
from everwhen.cli.terminal import Output
from everwhen.cli.views import EventView, StreamView


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(read)
    app.command()(streams)
    app.command()(tail)


def read(
    store: StoreArgument,
    *,
    stream: StreamOption = None,
    category: CategoryOption = None,
    type_: TypeOption = None,
    tag: TagOption = None,
    from_version: FromVersionOption = None,
    to_version: ToVersionOption = None,
    after: AfterOption = None,
    up_to: Annotated[
        int | None,
        typer.Option(min=0, metavar="POSITION", help="Only events at or before this position."),
    ] = None,
    as_at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only what had been recorded by then."),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only what had happened by then, whenever recorded."),
    ] = None,
    backwards: Annotated[
        bool, typer.Option("--backwards", "-r", help="From the newest event to the oldest.")
    ] = False,
    limit: LimitOption = None,
    proven: Annotated[
        bool,
        typer.Option(
            "--proven",
            help="Only what is signed, proven to be unchanged and complete.",
        ),
    ] = False,
    key: KnownKeyOption = None,
    log: LogOption = None,
    memory: MemoryOption = None,
    events: EventsOption = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """List events, in the order they were recorded.

    Columns in a pipe: position, recorded_at, stream, version, type, data. A stream, category, type
    or tag that nothing in the store has is named on stderr; the exit code stays 0.

    A TIME is ISO 8601 (2013-05-01, '2013-05-01 14:00', 2013-05-01T12:00Z), or '2h ago',
    '3 days ago', yesterday, now. Without a zone it is local time.

    With --proven the whole log is gone through first, as verify does: events up to the newest
    signed commit are listed, and stderr says up to where; the first fault ends it with exit code 1.
    """
    if not proven and (key, log, memory) != (None, None, None):
        raise CommandStop("--key, --log and --memory are for --proven; give that as well", USAGE)
    query = _bounded(filtered(stream, category, type_, tag), from_version, to_version, after, up_to)
    if as_at is not None:
        query = query.as_at(given_moment(as_at))
    if as_of is not None:
        query = query.as_of(given_moment(as_of))
    if backwards:
        query = query.backwards()
    if limit is not None:
        query = query.limit(limit)
    with existing(store, branch=branch, events=event_types(events)) as opened:
        signed = proving(store, opened, log, key, memory) if proven else None
        Output(json=json).list(opened.read(query, proven=signed), EventView())
        warn_of_unknown(opened, streams=stream, categories=category, types=type_, tags=tag)


def _bounded(
    query: Query,
    from_version: int | None,
    to_version: int | None,
    after: int | None,
    up_to: int | None,
) -> Query:
    if from_version is not None:
        query = query.from_version(from_version)
    if to_version is not None:
        query = query.to_version(to_version)
    if after is not None:
        query = query.after(after)
    return query if up_to is None else query.up_to(up_to)


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
    stream: StreamOption = None,
    category: CategoryOption = None,
    type_: TypeOption = None,
    tag: TagOption = None,
    after: AfterOption = None,
    last: Annotated[
        int,
        typer.Option("--last", "-n", min=0, metavar="N", help="Begin with the last N events."),
    ] = 10,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after N events.")
    ] = None,
    events: EventsOption = None,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Follow events as they are written.

    Shows what this and every other process appends, once each and in order. Begins with the
    last 10, or after a position with --after, and goes on until Ctrl-C, which ends it with exit
    code 130, or until --limit. Columns are those of read.
    """
    query = filtered(stream, category, type_, tag)
    with existing(store, branch=branch, events=event_types(events)) as opened:
        warn_of_unknown(opened, streams=stream, categories=category, types=type_, tags=tag)
        if after is not None:
            known, reached = [], after
        else:
            reached = opened.head().position
            known = list(opened.read(query.up_to(reached).backwards().limit(last)))[::-1]
        followed = chain(known, opened.subscribe(query.after(reached)))
        try:
            Output(json=json).list(islice(followed, limit), EventView(), live=len(known[:limit]))
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


def filtered(
    streams: list[str] | None,
    categories: list[str] | None,
    types: list[str] | None,
    tags: list[str] | None,
) -> Query:
    """The query that the filters of several commands say together."""
    query = Query()
    if streams:
        query = query.stream(*streams)
    if categories:
        query = query.category(*categories)
    if types:
        query = query.types(*types)
    return query.tags(*tags) if tags else query
