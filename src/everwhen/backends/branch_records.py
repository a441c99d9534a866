"""A branch as the store keeps it: where it forks off, and the checkpoint that registers it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from everwhen.backends.commit_checks import LONG_AGO
from everwhen.backends.engine import EngineView
from everwhen.vocabulary.contract import Checkpoint
from everwhen.vocabulary.errors import CorruptStoreError
from everwhen.vocabulary.microseconds import from_micros

if TYPE_CHECKING:
    from everwhen.vocabulary.notebook_html import TableRow

MAIN: Final = "main"
"""The name of the store itself, as the root of its branches."""
BRANCH_PREFIX: Final = "branch/"
"""What the names of the checkpoints begin with that register branches."""
_ID: Final = re.compile(r"[0-9a-f]{32}")


class Fork(msgspec.Struct, frozen=True):
    """The last position that a branch shares with its parent, and when that was recorded."""

    position: int = 0
    recorded_at: int = LONG_AGO

    @property
    def not_before(self) -> datetime | None:
        """The moment that nothing on the branch is recorded before."""
        return from_micros(self.recorded_at) if self.position else None


class BranchInfo(msgspec.Struct, frozen=True):
    """A branch: its name, that of its parent, and where it forks off.

    ``position`` is the last one that it shares with its parent, ``head`` its newest: what lies
    between them was written on the branch itself. ``id`` stays the same under every name.
    """

    name: str
    parent: str
    position: int
    head: int
    created_at: datetime
    id: str

    def _html_row_(self) -> TableRow:
        from everwhen.vocabulary.notebook_html import TableRow, element

        columns = ("branch", "of", "forked at", "head", "own events", "created")
        names = element("bdi", self.name), element("bdi", self.parent)
        own = self.head - self.position
        return TableRow(columns, (*names, self.position, self.head, own, self.created_at))

    def _repr_html_(self) -> str:
        from everwhen.vocabulary.notebook_html import card, heading, rows_table

        return card(heading("Branch", self.name), rows_table([self], "branch"))


class Registered(msgspec.Struct, frozen=True):
    """A branch as the root store knows it. ``parent`` is its id, empty for the root."""

    name: str
    id: str
    parent: str
    fork: Fork
    created_at: int


class _Kept(msgspec.Struct, frozen=True):
    id: str
    parent: str
    recorded_at: int
    created_at: int


_kept: Final = msgspec.json.Decoder(_Kept).decode


def registration(branch: Registered) -> Checkpoint:
    """How the root store keeps a branch."""
    kept = _Kept(branch.id, branch.parent, branch.fork.recorded_at, branch.created_at)
    return Checkpoint(BRANCH_PREFIX + branch.name, branch.fork.position, msgspec.json.encode(kept))


def registered(checkpoint: Checkpoint) -> Registered:
    """The branch that a checkpoint registers. Raises `CorruptStoreError`."""
    name = checkpoint.name.removeprefix(BRANCH_PREFIX)
    try:
        kept = _kept(checkpoint.data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(name, str(error)) from error
    if _ID.fullmatch(kept.id) is None:
        raise _damaged(name, f"{kept.id!r} is not an id")
    fork = Fork(checkpoint.position, kept.recorded_at)
    return Registered(name, kept.id, kept.parent, fork, kept.created_at)


def _damaged(name: str, why: str) -> CorruptStoreError:
    return CorruptStoreError(
        f"the registration of branch {name!r} is damaged ({why}); delete the checkpoint "
        f"{BRANCH_PREFIX + name!r}, or restore the store from a backup"
    )


def branches_in(view: EngineView) -> dict[str, Registered]:
    """Every branch by its name, as a transaction or a look sees them."""
    found = map(registered, view.checkpoints(BRANCH_PREFIX))
    return {branch.name: branch for branch in found}
