"""The commands of ``branch``: ``list``, ``create``, ``diff``, ``rename`` and ``delete``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from everwhen import Query, RecordedEvent, documents
from everwhen.branches import BranchInfo
from everwhen.cli import completion
from everwhen.cli.exit_codes import NO
from everwhen.cli.local_time import given_place
from everwhen.cli.options import EventsOption, FoldOption, JsonOption, StoreArgument
from everwhen.cli.output import Column, Output
from everwhen.cli.store_opening import existing, existing_branch
from everwhen.cli.travel_views import tell_changes
from everwhen.cli.user_code import event_types, fold
from everwhen.cli.views import EventView
from everwhen.exchange.json_forms import branch_form, event_form, utc_text
from everwhen.state import diff as differing

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

_HELP = """Make, list, rename and delete branches: alternative histories of the store.

What is written on a branch never appears on its parent. Other commands take --branch.
"""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    branch = typer.Typer(help=_HELP, no_args_is_help=True)
    branch.command("list")(list_)
    branch.command()(create)
    branch.command()(diff)
    branch.command()(rename)
    branch.command()(delete)
    app.add_typer(branch, name="branch")


_Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The branch's name.", autocompletion=completion.branches),
]


def list_(store: StoreArgument, *, json: JsonOption = False) -> None:
    """List the branches, each below its parent.

    Columns in a pipe: name, parent, the last position that they share, the newest position, when
    the branch was created. main is the store itself.
    """
    out = Output(json=json)
    with existing(store) as opened:
        found = opened.branches()
        head = opened.head().position
    if out.is_terminal:
        out.console.print(_tree(store, head, found))
        return
    for info in found:
        if json:
            out.line(branch_form(info))
        else:
            places = (str(info.position), str(info.head), utc_text(info.created_at))
            out.row(info.name, info.parent, *places)


def create(
    store: StoreArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new branch's name.")],
    *,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME|POSITION",
            help="Fork off at this moment; see read --help. [default: now]",
        ),
    ] = None,
    parent: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="BRANCH",
            help="Fork off this branch, not the store itself.",
            autocompletion=completion.branches,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Create a branch. The cost is the same for a store of any size."""
    place = None if at is None else given_place(at)
    out = Output(json=json)
    with existing(store, write=True, branch=parent) as opened:
        with opened.create_branch(name, place) as branch:
            info = branch.branch_info
    assert info is not None  # noqa: S101  it was made as one
    if out.is_terminal:
        out.done(f"branch {name} begins after position {info.position:,} of {info.parent}")
    else:
        out.fields(msgspec.structs.asdict(branch_form(info)))


def diff(
    store: StoreArgument,
    name: _Name,
    other: Annotated[
        str | None,
        typer.Argument(
            metavar="[OTHER]",
            help="Compare with this branch. [default: the store itself]",
            autocompletion=completion.branches,
        ),
    ] = None,
    *,
    state: Annotated[
        bool, typer.Option("--state", help="Compare the states, not the events.")
    ] = False,
    fold_: FoldOption = None,
    events: EventsOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a branch has and another branch hasn't, and the other way round.

    Columns in a pipe: the branch that has the event, then the columns of read; with --state: path,
    kind, the value on OTHER, the value on NAME. Exit code 1 means that nothing differs.
    """
    out = Output(json=json)
    own: Any = documents if fold_ is None else fold(fold_)
    types = event_types(events)
    with existing(store, events=types) as root, existing_branch(root, other) as theirs:
        with existing_branch(root, name) as mine:
            shared = mine.shared_with(theirs)
            if state or fold_ is not None:
                changes = differing(theirs.fold(own), mine.fold(own))
                count = len(changes)
                tell_changes(out, changes)
            else:
                later = Query().after(shared)
                found = ((one.name, event) for one in (theirs, mine) for event in one.read(later))
                count = out.list(found, SideView())
    if not count:
        raise typer.Exit(NO)


class SideView:
    """Events that only one of two branches has, as pairs of the branch's name and the event."""

    columns = (Column("BRANCH"), *EventView.columns)

    def record(self, item: tuple[str, RecordedEvent[Any]]) -> object:
        """The branch, and all that is known of the event."""
        name, event = item
        return {"branch": name, **msgspec.structs.asdict(event_form(event))}

    def plain(self, item: tuple[str, RecordedEvent[Any]]) -> Sequence[str]:
        """The branch, and the event's columns."""
        name, event = item
        return name, *EventView().plain(event)

    def cells(self, item: tuple[str, RecordedEvent[Any]]) -> Sequence[Text]:
        """The same, for people."""
        from rich.text import Text

        name, event = item
        return Text(name, "bold cyan"), *EventView().cells(event)


def rename(
    store: StoreArgument,
    name: _Name,
    new_name: Annotated[str, typer.Argument(metavar="NEW", help="The branch's new name.")],
    *,
    json: JsonOption = False,
) -> None:
    """Rename a branch. Prints nothing if it succeeds; with --json, the renamed branch."""
    with existing(store, write=True) as opened:
        opened.rename_branch(name, new_name)
        if json:
            _tell(info for info in opened.branches() if info.name == new_name)


def delete(
    store: StoreArgument,
    name: _Name,
    *,
    with_children: Annotated[
        bool, typer.Option("--with-children", help="Also delete all branches that fork off it.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Delete a branch and everything that was written on it.

    While other branches fork off it, this is rejected with exit code 1. Prints nothing if it
    succeeds; with --json, one line for each deleted branch.
    """
    with existing(store, write=True) as opened:
        before = opened.branches()
        opened.delete_branch(name, with_children=with_children)
        left = {info.id for info in opened.branches()}
    if json:
        _tell(info for info in before if info.id not in left)


def _tell(branches: Iterable[BranchInfo]) -> None:
    out = Output(json=True)
    for info in branches:
        out.line(branch_form(info))


def _tree(store: str, head: int, found: Sequence[BranchInfo]) -> Tree:
    """The branches below their parents: older ones come before their children."""
    from rich.text import Text
    from rich.tree import Tree

    from everwhen.cli import formatting

    label = Text.assemble(
        ("main", "bold"), ("  ", ""), formatting.shown_name(store), (f"  position {head:,}", "dim")
    )
    root = Tree(label, guide_style="dim")
    grown = {"main": root}
    waiting = list(found)
    while waiting:
        for info in waiting:
            if info.parent in grown:
                label = Text.assemble(
                    (formatting.shown_name(info.name), "bold cyan"),
                    (f"  after {info.position:,}", "dim"),
                    f"  +{info.head - info.position:,}",
                    ("  ", ""),
                    formatting.age_look(info.created_at),
                )
                grown[info.name] = grown[info.parent].add(label)
        waiting = [info for info in waiting if info.name not in grown]
    return root
