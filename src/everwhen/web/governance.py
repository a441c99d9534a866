"""What an application gives, beside its store, so that people can govern it over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from everwhen.commands.aio import CommandBus
from everwhen.commands.decisions import Decisions
from everwhen.errors import UnsupportedError
from everwhen.merging import Invariant
from everwhen.projections.aio import ProjectionRunner
from everwhen.undo import Compensations

if TYPE_CHECKING:
    from everwhen.merkle.aio import MerkleLog  # needs a library that not everybody has


_OPTIONS: Final = {
    **{name: f"--{name}" for name in ("decisions", "invariants", "compensations", "log")},
    "runner": "--projection",
}
"""What ``everwhen serve`` takes, too."""


class Governance(msgspec.Struct, frozen=True, kw_only=True):
    """What is given can be used; for what isn't, the API answers that it isn't there.

    ``decisions`` and ``invariants`` are what merges go by, ``compensations`` what an undo appends.
    ``runner``, an async one over the same store, retries parked events and rebuilds projections;
    running it (``async with runner``) is the application's. ``commands``, async as well, is what
    commands are sent to, and ``log`` the signed log that proofs are of.
    """

    decisions: Decisions | None = None
    invariants: Sequence[Invariant[Any]] = ()
    compensations: Compensations | None = None
    runner: ProjectionRunner | None = None
    commands: CommandBus | None = None
    log: MerkleLog | None = None


def missing(what: str, option: str) -> UnsupportedError:
    """What is raised where something was not given."""
    more = f", or with {_OPTIONS[option]}" if option in _OPTIONS else ""
    return UnsupportedError(
        f"the server was started without {what}; start it with create_app(store, "
        f"governance=Governance({option}=…)){more}"
    )
