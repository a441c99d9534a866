"""The command that writes one event: ``append``."""

from __future__ import annotations

import json as json_
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Final, NoReturn
from uuid import UUID

import typer

from everwhen import ANY, EXISTS, NO_STREAM, NewEvent, UnknownEvent
from everwhen.cli import completion
from everwhen.cli.exit_codes import BAD_DATA, USAGE, CommandStop
from everwhen.cli.local_time import given_moment
from everwhen.cli.option_groups import expanded
from everwhen.cli.options import (
    BranchOption,
    EventsOption,
    JsonOption,
    OriginOptions,
    StoreArgument,
)
from everwhen.cli.output import Output
from everwhen.cli.store_opening import existing
from everwhen.cli.user_code import event_types
from everwhen.exchange.json_forms import utc_text
from everwhen.vocabulary import ExpectedVersion, Receipt
from everwhen.vocabulary.contract import MAX_EVENT_BYTES

_BELIEFS: Final = {"any": ANY, "none": NO_STREAM, "exists": EXISTS}


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(expanded(append))


@dataclass(frozen=True)
class EventOptions:
    """What an event has besides its type and data."""

    tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Tag the event. Repeat for several.")
    ] = None
    occurred_at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When it happened, if not now; see read --help."),
    ] = None
    schema_version: Annotated[
        int, typer.Option(min=1, metavar="N", help="The schema version of the data.")
    ] = 1

    def new_event(self, type_: str, data: str) -> NewEvent[UnknownEvent]:
        """The event, with its data in JSON, or ``-`` for standard input."""
        return NewEvent(
            event=UnknownEvent(type_, _data(data), self.schema_version),
            tags=tuple(self.tag or ()),
            occurred_at=None if self.occurred_at is None else given_moment(self.occurred_at),
        )


def append(
    store: StoreArgument,
    stream: Annotated[
        str,
        typer.Argument(
            metavar="STREAM", help="The stream's name.", autocompletion=completion.streams
        ),
    ],
    type_: Annotated[
        str,
        typer.Argument(metavar="TYPE", help="The event's type.", autocompletion=completion.types),
    ],
    data: Annotated[
        str,
        typer.Argument(
            metavar="[DATA|-]", help="The event's data, a JSON object; - to read it from stdin."
        ),
    ] = "{}",
    *,
    expected: Annotated[
        str,
        typer.Option(
            metavar="N|none|exists|any",
            help="The version you expect the stream to have. If it has another, nothing is "
            "written.",
        ),
    ] = "any",
    event: EventOptions,
    id_: Annotated[
        UUID | None,
        typer.Option(
            "--id",
            metavar="UUID",
            help="The commit's id. If the same id is given again, nothing is written twice.",
        ),
    ] = None,
    origin: OriginOptions,
    events: EventsOption = None,
    create: Annotated[
        bool, typer.Option("--create", help="Create the store if it does not exist.")
    ] = False,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Append one event to a stream.

    The event is on disk when the command returns. Exit code 1 means that the store rejected it
    and nothing was written. With --events, the data must fit the type's class.
    """
    new = event.new_event(type_, data)
    belief = _belief(expected)
    types = event_types(events)
    with existing(
        store,
        branch=branch,
        write=True,
        create=create,
        new_vault=True,
        events=types,
        fix="create it with --create",
    ) as opened:
        receipt = opened.append(
            stream,
            [new],
            expected=belief,
            commit_id=id_,
            metadata=origin.metadata(),
        )
    _report(Output(json=json), receipt, stream, type_)


def _report(out: Output, receipt: Receipt, stream: str, type_: str) -> None:
    version = receipt.versions[stream]
    if not out.is_terminal:
        out.fields(
            {
                "stream": stream,
                "version": version,
                "position": receipt.position,
                "recorded_at": utc_text(receipt.recorded_at),
                "commit_id": str(receipt.commit_id),
                "repeated": receipt.repeated,
            }
        )
        return
    from rich.text import Text

    from everwhen.cli import formatting

    done = "was already there" if receipt.repeated else "appended"
    out.console.print(
        Text.assemble(
            ("✓ ", "bold green"),
            formatting.type_look(type_),
            f" {done} in " if receipt.repeated else f" {done} to ",
            formatting.stream_look(stream),
            (f"  version {version:,}, position {receipt.position:,}", ""),
            (f"\n  commit {receipt.commit_id}", "dim"),
        )
    )


def _belief(text: str) -> ExpectedVersion:
    if text.lower() in _BELIEFS:
        return _BELIEFS[text.lower()]
    if text.isascii() and text.isdecimal():
        return int(text)
    raise CommandStop(
        f"--expected {text}: this is not a version; use 0, 1, 2 …, none, exists or any", USAGE
    )


def _data(text: str) -> dict[str, Any]:
    """The JSON object, read strictly: repeated fields and numbers that JSON lacks are rejected."""
    where = "DATA"
    if text == "-":
        where, text = "stdin", sys.stdin.read(MAX_EVENT_BYTES + 1)
        if len(text) > MAX_EVENT_BYTES:
            raise CommandStop(
                f"stdin: the data is too long; an event has at most {MAX_EVENT_BYTES:,} bytes",
                BAD_DATA,
            )
    try:
        found = json_.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise CommandStop(f"{where}: not a JSON object: {error}", BAD_DATA) from error
    if not isinstance(found, dict):
        raise CommandStop(
            f"""{where}: not a JSON object; give one, such as '{{"amount": 5}}'""", BAD_DATA
        )
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {repeated!r} is given twice")
    return found
