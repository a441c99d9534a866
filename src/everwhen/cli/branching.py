"""The commands of ``branch``: ``list``, ``create``, ``rename`` and ``delete``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from everwhen import BranchInfo
from everwhen.cli import completion
from everwhen.cli.here import given_place
from everwhen.cli.opening import existing
from everwhen.cli.options import JsonOption, StoreArgument
from everwhen.cli.terminal import Output
from everwhen.cli.views import utc

if TYPE_CHECKING:
    from rich.tree import Tree

_HELP = """Make, list, rename and delete branches: alternative histories of the store.

What is written on a branch never shows on its parent. Other commands work on one with --branch.
"""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    branch = typer.Typer(help=_HELP, no_args_is_help=True)
    branch.command("list")(list_)
    branch.command()(create)
    branch.command()(rename)
    branch.command()(delete)
    app.add_typer(branch, name="branch")


_Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The branch's name.", autocompletion=completion.branches),
]


def list_(store: StoreArgument, *, json: JsonOption = False) -> None:
    """List the branches, each below the one that it forks off.

    Columns in a pipe: name, parent, the last position that is shared with it, the newest position,
    when it was created. main is the store itself.
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
            out.line(_record(info))
        else:
            places = (str(info.position), str(info.head), utc(info.created_at))
            out.text("\t".join((info.name, info.parent, *places)))


def create(
    store: StoreArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new branch's name.")],
    *,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME|POSITION",
            help="Begin with what was there then; else with what is there now. See read --help.",
        ),
    ] = None,
    parent: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="BRANCH",
            help="Fork off this branch, not off the store itself.",
            autocompletion=completion.branches,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Create a branch. It costs the same at any size."""
    place = None if at is None else given_place(at)
    out = Output(json=json)
    with existing(store, write=True, branch=parent) as opened:
        with opened.create_branch(name, place) as branch:
            info = branch.branch_info
    assert info is not None  # noqa: S101  it was made as one
    if out.is_terminal:
        out.console.print(
            f"[bold green]✓[/] branch [bold]{_plain(name)}[/] begins behind position "
            f"{info.position:,} of {_plain(info.parent)}",
            markup=True,
        )
    else:
        out.fields(_record(info))


def rename(
    store: StoreArgument,
    name: _Name,
    new_name: Annotated[str, typer.Argument(metavar="NEW", help="The name that it gets.")],
) -> None:
    """Rename a branch."""
    with existing(store, write=True) as opened:
        opened.rename_branch(name, new_name)


def delete(
    store: StoreArgument,
    name: _Name,
    *,
    with_children: Annotated[
        bool, typer.Option("--with-children", help="And all that fork off it, if any.")
    ] = False,
) -> None:
    """Delete a branch and all that was written on it.

    Refused, with exit code 1, while other branches fork off it.
    """
    with existing(store, write=True) as opened:
        opened.delete_branch(name, with_children=with_children)


def _record(info: BranchInfo) -> dict[str, object]:
    return {
        "name": info.name,
        "parent": info.parent,
        "position": info.position,
        "head": info.head,
        "created_at": utc(info.created_at),
        "id": info.id,
    }


def _tree(store: str, head: int, found: Sequence[BranchInfo]) -> Tree:
    """The branches below their parents: older ones come before their children."""
    from rich.text import Text
    from rich.tree import Tree

    from everwhen.cli import looks

    label = Text.assemble(
        ("main", "bold"), ("  ", ""), looks.shown_name(store), (f"  position {head:,}", "dim")
    )
    root = Tree(label, guide_style="dim")
    grown = {"main": root}
    waiting = list(found)
    while waiting:
        for info in waiting:
            if info.parent in grown:
                label = Text.assemble(
                    (looks.shown_name(info.name), "bold cyan"),
                    (f"  behind {info.position:,}", "dim"),
                    f"  +{info.head - info.position:,}",
                    ("  ", ""),
                    looks.age_look(info.created_at),
                )
                grown[info.name] = grown[info.parent].add(label)
        waiting = [info for info in waiting if info.name not in grown]
    return root


def _plain(name: str) -> str:
    from rich.markup import escape

    return escape(name)
