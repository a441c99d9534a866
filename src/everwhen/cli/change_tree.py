"""Changes as a tree, for people: each below the parts of the state that it is in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

from rich.text import Text
from rich.tree import Tree

from everwhen.cli import formatting
from everwhen.debugging import sketch
from everwhen.state import MISSING, Change
from everwhen.state.paths import Path, text_of

_VALUE: Final = 48


def change_tree(changes: Sequence[Change], most: int | None = None) -> Iterator[Tree | Text]:
    """A tree for each part at the top; parts with a single part below share its line.

    At most ``most`` changes are shown; the others are counted.
    """
    nested: dict[Any, Any] = {}
    for change in islice(changes, most):
        if not change.path:
            yield Text.assemble("state  ", change_sketch(change))
            continue
        node = nested
        for key in change.path[:-1]:
            node = node.setdefault(key, {})
        node[change.path[-1]] = change
    for label, node in _collapsed(nested):
        yield _grown(label, node)
    if most is not None and len(changes) > most:
        yield Text(f"… {len(changes) - most:,} more changes", "dim")


def change_sketch(change: Change) -> Text:
    """One change in a few characters: what came in green, what went in red."""
    if change.before is MISSING:
        return Text.assemble(("+ ", "green"), (sketch(change.after, _VALUE), "green"))
    if change.after is MISSING:
        return Text.assemble(("- ", "red"), (sketch(change.before, _VALUE), "red"))
    return Text.assemble(
        (sketch(change.before, _VALUE), "red"),
        (" → ", "dim"),
        (sketch(change.after, _VALUE), "green"),
    )


def _collapsed(nested: dict[Any, Any]) -> Iterator[tuple[Text, Any]]:
    for key, below in nested.items():
        path: Path = (key,)
        node = below
        while isinstance(node, dict) and len(node) == 1:
            ((last, node),) = node.items()
            path = (*path, last)
        label = Text(formatting.shown_name(text_of(path)))
        if isinstance(node, Change):
            yield Text.assemble(label, "  ", change_sketch(node)), None
        else:
            yield label, node


def _grown(label: Text, node: Any) -> Tree:
    tree = Tree(label, guide_style="dim")
    for part, below in _collapsed(node or {}):
        tree.children.append(_grown(part, below))
    return tree
