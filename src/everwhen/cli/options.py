"""The arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from everwhen.cli import completion

StoreArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="STORE", help="The store: a file, such as shop.db.")
]
BranchOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--branch",
        metavar="NAME",
        help="On this branch of the store.",
        autocompletion=completion.branches,
    ),
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Write JSON, one object a line.")
]
StreamOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--stream",
        "-s",
        metavar="NAME",
        help="Only this stream. Repeat for several.",
        autocompletion=completion.streams,
    ),
]
CategoryOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--category",
        "-c",
        metavar="NAME",
        help="Only streams whose name up to the first - is this. Repeat for several.",
        autocompletion=completion.categories,
    ),
]
TypeOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        "-t",
        metavar="TYPE",
        help="Only events of this type. Repeat for several.",
        autocompletion=completion.types,
    ),
]
TagOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="TAG",
        help="Only events with this tag, such as player:7. Repeat to ask for all of several.",
    ),
]
FromVersionOption: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=0, metavar="N", help="Only events with at least this version in their stream."
    ),
]
ToVersionOption: TypeAlias = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="Only events with at most this version."),
]
AfterOption: TypeAlias = Annotated[
    int | None,
    typer.Option(min=0, metavar="POSITION", help="Only events after this position."),
]
OneStreamArgument: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="[STREAM]",
        help="Only this stream's state; else that of all streams.",
        autocompletion=completion.streams,
    ),
]
OneCategoryOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--category",
        "-c",
        metavar="NAME",
        help="Only streams whose name up to the first - is this.",
        autocompletion=completion.categories,
    ),
]
FoldOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--fold", metavar="MODULE:NAME", help="Derive the state with your own fold."),
]
EventsOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--events",
        metavar="MODULE:NAME",
        help="Your event types: an EventTypes, a class, or a list of classes, imported as if "
        "from the current directory.",
    ),
]
ActorOption: TypeAlias = Annotated[
    str | None, typer.Option("--user", metavar="ID", help="The user who does it.")
]
ApplyOption: TypeAlias = Annotated[
    bool, typer.Option("--apply", help="Do it. Without this, only the plan is shown.")
]
LimitOption: TypeAlias = Annotated[
    int | None, typer.Option("--limit", "-n", min=0, metavar="N", help="At most N results.")
]
OutputFileArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="FILE", help="The file; - for standard output.")
]
OverwriteOption: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Replace the file.")]
SourceOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="The program or service that writes.")
]
