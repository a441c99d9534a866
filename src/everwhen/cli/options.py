"""The arguments and options that several commands share, each with its text, and groups of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

import typer

from everwhen import Query, Store
from everwhen.cli import completion
from everwhen.cli.unknown_names import warn_of_unknown
from everwhen.vocabulary import CommitMetadata

StoreArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="STORE", help="The store: a file, such as shop.db, or a URL.")
]
BranchOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--branch",
        metavar="NAME",
        help="Work on this branch of the store.",
        autocompletion=completion.branches,
    ),
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Write JSON, one object per line.")
]
AfterOption: TypeAlias = Annotated[
    int | None,
    typer.Option(min=0, metavar="POSITION", help="Only events after this position."),
]
SkipRetiredOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--skip-retired", help="Leave out what was retired, instead of ending with an error."
    ),
]
LimitOption: TypeAlias = Annotated[
    int | None, typer.Option("--limit", "-n", min=0, metavar="N", help="At most N results.")
]
DecisionsOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--decisions",
        metavar="MODULE:NAME",
        help="Your Decisions, with which commands are decided, also again in a merge.",
    ),
]
InvariantsOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--invariants",
        metavar="MODULE:NAME",
        help="An Invariant of yours, or a list of them: what must hold after each merged commit.",
    ),
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
FoldOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--fold", metavar="MODULE:NAME", help="Derive the state with your own fold."),
]
OneCategoryOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--category",
        "-c",
        metavar="NAME",
        help="Only streams in this category: their name up to the first -.",
        autocompletion=completion.categories,
    ),
]
ApplyOption: TypeAlias = Annotated[
    bool, typer.Option("--apply", help="Do it. Without this option, only the plan is shown.")
]
OverwriteOption: TypeAlias = Annotated[
    bool, typer.Option("--overwrite", help="Replace the file if it exists.")
]
UserOption: TypeAlias = Annotated[
    str | None, typer.Option("--user", "-u", metavar="ID", help="Record that this user did it.")
]
SourceOption: TypeAlias = Annotated[
    str | None, typer.Option("--source", metavar="NAME", help="Record where it came from.")
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
        help="Only events with this tag, such as player:7. If repeated: with all of the tags.",
    ),
]


@dataclass(frozen=True)
class OriginOptions:
    """Who writes, and from where."""

    user: UserOption = None
    source: SourceOption = None

    def metadata(self) -> CommitMetadata:
        """The same, for a commit."""
        return CommitMetadata(user_id=self.user, source=self.source)


@dataclass(frozen=True)
class SelectionOptions:
    """Which events are meant: those that match each option which is given."""

    stream: Annotated[
        list[str] | None,
        typer.Option(
            "--stream",
            "-s",
            metavar="NAME",
            help="Only this stream. Repeat for several.",
            autocompletion=completion.streams,
        ),
    ] = None
    category: Annotated[
        list[str] | None,
        typer.Option(
            "--category",
            "-c",
            metavar="NAME",
            help="Only streams in this category: their name up to the first -. Repeat for several.",
            autocompletion=completion.categories,
        ),
    ] = None
    type_: TypeOption = None
    tag: TagOption = None

    def query(self) -> Query:
        """The query that they say together."""
        query = Query()
        if self.stream:
            query = query.stream(*self.stream)
        if self.category:
            query = query.category(*self.category)
        if self.type_:
            query = query.types(*self.type_)
        return query.tags(*self.tag) if self.tag else query

    def warn_of_unknown(self, store: Store) -> None:
        """Say on stderr which of the names nothing in the store has."""
        warn_of_unknown(
            store,
            streams=self.stream,
            categories=self.category,
            types=self.type_,
            tags=self.tag,
        )
