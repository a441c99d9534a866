"""Branches that are kept elsewhere: what a client asks its server for."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from everwhen.backends.branch_records import BranchInfo
from everwhen.backends.engine import Engine


@runtime_checkable
class BranchServer(Protocol):
    """An engine whose branches are kept by a server, which is asked for them by name."""

    def open_branch(self, name: str) -> tuple[BranchInfo, Engine]:
        """The branch of that name, opened. Raises `UnknownBranchError`."""
        ...

    def create_branch(self, name: str, parent: str | None, position: int) -> None:
        """Make a branch of that parent, or of the store itself, from a position on.

        Raises `BranchError`.
        """
        ...

    def branches(self) -> list[BranchInfo]:
        """Every branch, the oldest first."""
        ...

    def rename_branch(self, name: str, new_name: str) -> None:
        """Give a branch another name. Raises `BranchError`."""
        ...

    def delete_branch(self, name: str, *, with_children: bool) -> None:
        """Delete a branch. Raises `BranchError`."""
        ...
