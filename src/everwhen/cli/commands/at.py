"""The command that travels: ``at``, the state at a moment."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from everwhen import Query, Store, TimeMachine, document, documents
from everwhen.cli.exit_codes import NO, USAGE, CommandStop, say
from everwhen.cli.local_time import given_moment_of
from everwhen.cli.option_groups import expanded
from everwhen.cli.options import (
    JsonOption,
    StoreArgument,
)
from everwhen.cli.output import Output
from everwhen.cli.store_opening import existing
from everwhen.cli.time_machines import StateOptions
from everwhen.cli.unknown_names import unknown_stream, warn_of_unknown
from everwhen.cli.user_code import event_types, fold
from everwhen.cli.views import DocumentView
from everwhen.exchange.json_forms import utc_text
from everwhen.state import Document, plain
from everwhen.travel import AsOf, Moment


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(expanded(at))


def at(
    store: StoreArgument,
    moment: Annotated[
        str,
        typer.Argument(
            metavar="[MOMENT]", help="A moment: a time, a position, a version or a bookmark."
        ),
    ] = "head",
    *,
    occurred: Annotated[
        bool,
        typer.Option(
            "--occurred", help="Use the times when events happened, not when they were recorded."
        ),
    ] = False,
    of: StateOptions,
    json: JsonOption = False,
) -> None:
    """Show the state as it was at a moment; without a moment, as it is now.

    Without code of yours, a stream's state is a document: the data of its events, where later
    fields replace earlier ones. With --fold it is what your fold makes of the events; --events
    gives their classes.

    A MOMENT is a time in ISO 8601 (2013-05-01, '2013-05-01 14:00', 2013-05-01T12:00Z), or '2h ago',
    '3 days ago', yesterday, now. Without a zone it is local time; a date alone means the start of
    that day. It can also be a position (5877), a version of the STREAM (v12) or of another one
    (order-3@12), a bookmark (@lunch), start or head; or, counted from the newest event, '5 back' or
    '2h before'.

    Columns in a pipe: stream, version, type and recorded_at of its last event, data. Exit code 1
    means that the stream had no events yet.
    """
    out = Output(json=json)
    stream, category = of.stream, of.category
    own = None if of.fold_ is None else fold(of.fold_)
    with existing(store, branch=of.branch, events=event_types(of.events)) as opened:
        place = given_moment_of(moment)
        query = _until(opened, stream, place, occurred=occurred)
        _say_where_time_ends(opened, moment, place)
        if category is not None:
            query = query.category(category)
            warn_of_unknown(opened, categories=[category])
        if stream is not None:
            query = query.stream(stream)
        if own is not None:
            _own_state(out, opened.fold(own, query))
            return
        states = opened.fold(documents, query)
        if stream is None:
            out.list(sorted(states.items()), DocumentView())
        elif stream in states:
            _document(out, stream, states[stream])
        else:
            raise CommandStop(_absence(opened, stream, moment), NO)


def _until(store: Store, stream: str | None, moment: Moment, *, occurred: bool) -> Query:
    if isinstance(moment, AsOf):
        return Query().as_of(moment.time)
    if isinstance(moment, datetime):
        return Query().as_of(moment) if occurred else Query().as_at(moment)
    if occurred:
        raise CommandStop(
            "--occurred needs a MOMENT that is a time; give one, such as yesterday", USAGE
        )
    machine = TimeMachine(store, document, Query() if stream is None else stream, keep=False)
    return Query().up_to(machine.position_of(moment))


def _say_where_time_ends(store: Store, text: str, place: Moment) -> None:
    """That a moment lies before all events, or hasn't come yet: the state alone can't tell."""
    time = place.time if isinstance(place, AsOf) else place
    if isinstance(time, datetime) and time > datetime.now(UTC):
        say(f"{text} is in the future; this is the state now")
        return
    first = next(iter(store.read(Query().skipping_retired().limit(1))), None)
    if first is None:
        return
    if place == 0 or (isinstance(place, datetime) and place < first.recorded_at):
        say(
            f"{text} is before the first event, which was recorded at {utc_text(first.recorded_at)}"
        )


def _absence(store: Store, stream: str, moment: str) -> str:
    first = next(iter(store.read(Query().stream(stream).skipping_retired().limit(1))), None)
    if first is None:
        return unknown_stream(store, stream)
    return (
        f"stream {stream!r} has no events at {moment}; its first one is at position "
        f"{first.position}, recorded at {utc_text(first.recorded_at)}"
    )


def _document(out: Output, name: str, document: Document) -> None:
    """One stream's document: its fields one under another."""
    if out.json:
        out.line(DocumentView().record((name, document)))
    elif out.is_terminal:
        _draw(out, name, document)
    else:
        fields: dict[str, object] = {
            "stream": name,
            "version": document.version,
            "position": document.position,
            "type": document.type,
            "recorded_at": utc_text(document.recorded_at),
        }
        out.fields(fields | {f"data.{field}": value for field, value in document.data.items()})


def _draw(out: Output, name: str, document: Document) -> None:
    from rich.text import Text

    from everwhen.cli import formatting

    recorded = formatting.time_look(document.recorded_at)
    out.console.print(
        Text.assemble(
            formatting.stream_look(name),
            f"  version {document.version:,}  ",
            formatting.type_look(document.type),
            "  ",
            recorded,
        )
    )
    out.console.print(formatting.fields_look(document.data))


def _own_state(out: Output, state: Any) -> None:
    """A fold's state: as JSON where it can be, which is easiest to read and to pass on."""
    value = plain(state)
    if out.is_terminal:
        from everwhen.cli import formatting

        look = formatting.fields_look if isinstance(value, dict) else formatting.value_look
        out.console.print(look(value))
    else:
        out.line(value)
