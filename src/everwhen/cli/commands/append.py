"""The command that writes one event: ``append``."""

from __future__ import annotations

import json as json_
import sys
from typing import Annotated, Any, Final, NoReturn, TypeAlias
from uuid import UUID

import typer

from everwhen import ANY, EXISTS, NO_STREAM, NewEvent, UnknownEvent
from everwhen.cli import completion
from everwhen.cli.exits import BAD_DATA, USAGE, CommandStop
from everwhen.cli.local_time import given_moment
from everwhen.cli.opening import existing
from everwhen.cli.options import (
    ActorOption,
    BranchOption,
    EventsOption,
    JsonOption,
    SourceOption,
    StoreArgument,
)
from everwhen.cli.own_code import event_types
from everwhen.cli.terminal import Output
from everwhen.cli.views import utc
from everwhen.vocabulary import CommitMetadata, ExpectedVersion, Receipt
from everwhen.vocabulary.contract import MAX_EVENT_BYTES

_BELIEFS: Final = {"any": ANY, "none": NO_STREAM, "exists": EXISTS}


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(append)


StreamArgument: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="STREAM", help="The stream's name.", autocompletion=completion.streams),
]
TypeArgument: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="TYPE", help="The event's type.", autocompletion=completion.types),
]
DataArgument: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="[DATA|-]", help="The event's data, a JSON object; - reads stdin."),
]
ExpectedOption: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="N|none|exists|any",
        help="The version that the stream has to have, or nothing is written.",
    ),
]
AppendTagOption: TypeAlias = Annotated[
    list[str] | None, typer.Option(metavar="TAG", help="Tag the event. Repeat for several.")
]
IdOption: TypeAlias = Annotated[
    UUID | None,
    typer.Option(
        "--id", metavar="UUID", help="The commit's id. The same id is never written twice."
    ),
]
OccurredAtOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="When it happened, if not now; see read --help."),
]
SchemaVersionOption: TypeAlias = Annotated[
    int, typer.Option(min=1, metavar="N", help="The schema version of the data.")
]
CreateOption: TypeAlias = Annotated[
    bool, typer.Option("--create", help="Create the store if there is none.")
]


def append(
    store: StoreArgument,
    stream: StreamArgument,
    type_: TypeArgument,
    data: DataArgument = "{}",
    *,
    expected: ExpectedOption = "any",
    tag: AppendTagOption = None,
    id_: IdOption = None,
    user: ActorOption = None,
    source: SourceOption = None,
    occurred_at: OccurredAtOption = None,
    schema_version: SchemaVersionOption = 1,
    events: EventsOption = None,
    create: CreateOption = False,
    branch: BranchOption = None,
    json: JsonOption = False,
) -> None:
    """Append one event to a stream.

    It is durable when the command returns. Exit code 1 says that the store refused it, and that
    nothing was written. With --events the data has to fit the type's class.
    """
    event = NewEvent(
        event=UnknownEvent(type_, _data(data), schema_version),
        tags=tuple(tag or ()),
        occurred_at=None if occurred_at is None else given_moment(occurred_at),
    )
    belief = _belief(expected)
    types = event_types(events)
    with existing(
        store, branch=branch, write=True, create=create, new_vault=True, events=types
    ) as opened:
        receipt = opened.append(
            stream,
            [event],
            expected=belief,
            commit_id=id_,
            metadata=CommitMetadata(user_id=user, source=source),
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
                "recorded_at": utc(receipt.recorded_at),
                "commit_id": str(receipt.commit_id),
                "repeated": receipt.repeated,
            }
        )
        return
    from rich.text import Text

    from everwhen.cli import formatting

    deed = "was there already" if receipt.repeated else "appended"
    out.console.print(
        Text.assemble(
            ("✓ ", "bold green"),
            formatting.type_look(type_),
            f" {deed} in " if receipt.repeated else f" {deed} to ",
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
    raise CommandStop(f"--expected {text}: use a version (0, 1, 2 …), none, exists or any", USAGE)


def _data(text: str) -> dict[str, Any]:
    """The JSON object, read strictly: what it says twice or can't mean exactly is refused."""
    where = "DATA"
    if text == "-":
        where, text = "stdin", sys.stdin.read(MAX_EVENT_BYTES + 1)
        if len(text) > MAX_EVENT_BYTES:
            raise CommandStop(f"stdin: an event has at most {MAX_EVENT_BYTES:,} bytes", BAD_DATA)
    try:
        found = json_.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise CommandStop(f"{where}: not a JSON object: {error}", BAD_DATA) from error
    if not isinstance(found, dict):
        raise CommandStop(f"""{where}: give a JSON object, such as '{{"amount": 5}}'""", BAD_DATA)
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"expected a JSON number, got {name}")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {repeated!r} is given twice")
    return found
