"""What a merge would do: commit by commit, what comes of each and why.

A branch's commits are taken over one after the other. One that was decided on a command is decided
again on the target's present state; one that only states facts is compared with it in three ways,
on the parts of the state that it touches. All problems are reported before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec

from everwhen.codec.commits import Write
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.state.paths import Path, text_of
from everwhen.vocabulary.errors import BranchError

if TYPE_CHECKING:
    from everwhen.vocabulary.notebook_html import TableRow

_SHOWN_CONFLICTS: Final = 5
"""Of one commit, in a notebook; the others are counted."""
Strategy: TypeAlias = Literal["fail", "ours", "theirs", "redecide"]
MergeOutcome: TypeAlias = Literal["same", "redecided", "rejected", "conflict"]


class PathConflict(msgspec.Struct, frozen=True):
    """A part of the state that both sides have changed, each in its way."""

    path: Path
    base: Any
    ours: Any
    theirs: Any

    def __str__(self) -> str:
        where = text_of(self.path) or "state"
        return f"{where} was {self.base!r}, is {self.ours!r} here and {self.theirs!r} there"


class MergeItem(msgspec.Struct, frozen=True):
    """What becomes of one commit of the branch.

    ``outcome`` is *same* where it comes out as it was (or is there already), *redecided* where its
    command leads to other events now, *rejected* where it is refused now, and *conflict* where
    facts contradict what is there, or an invariant would break. ``reason`` says why. ``writes`` is
    what is taken over; ``is_settled`` is False where the strategy leaves it to a person.
    """

    commit_id: UUID
    position: int
    events: tuple[RecordedEvent[Any], ...]
    command: str | None
    outcome: MergeOutcome
    writes: tuple[Write, ...]
    is_settled: bool
    reason: str = ""
    conflicts: tuple[PathConflict, ...] = ()

    def _html_row_(self) -> TableRow:
        from everwhen.vocabulary.notebook_html import (
            BAD,
            GOOD,
            WARNING,
            TableRow,
            element,
            joined,
            listed,
            looking,
        )

        looks = {"same": "", "redecided": GOOD, "rejected": WARNING, "conflict": BAD}
        types = list(dict.fromkeys(event.type for event in self.events))
        why = [element("div", self.reason)] if self.reason else []
        why += [element("div", str(one)) for one in self.conflicts[:_SHOWN_CONFLICTS]]
        left_out = len(self.conflicts) - _SHOWN_CONFLICTS
        cells = (
            looking(looks[self.outcome], self.outcome),
            self.position,
            element("bdi", self.command or ""),
            element("bdi", listed(types, 3)),
            sum(len(write.events) for write in self.writes),
            joined(*why, f"… {left_out:,} more" if left_out > 0 else ""),
        )
        return TableRow(("outcome", "position", "command", "events", "writes", "why"), cells)

    def _repr_html_(self) -> str | None:
        from everwhen.state.value_html import in_notebook
        from everwhen.vocabulary.notebook_html import card, heading, rows_table

        title = "settled" if self.is_settled else "unsettled"
        return in_notebook(lambda: card(heading("Merge item", title), rows_table([self], "commit")))


def item_of(
    events: Sequence[RecordedEvent[Any]],
    command: str | None,
    outcome: MergeOutcome,
    writes: tuple[Write, ...],
    reason: str = "",
    conflicts: tuple[PathConflict, ...] = (),
    *,
    settled: bool = False,
) -> MergeItem:
    """What becomes of the commit that wrote these events."""
    return MergeItem(
        events[0].commit_id,
        events[0].position,
        tuple(events),
        command,
        outcome,
        writes,
        settled,
        reason,
        conflicts,
    )


class MergePlan(msgspec.Struct, frozen=True):
    """What a merge would do: nothing of it has been written.

    ``after`` and ``up_to`` are the positions on the branch between which commits are taken over,
    ``on`` the position of the target that all of it was decided on.
    """

    source: str
    target: str
    after: int
    up_to: int
    on: int
    items: tuple[MergeItem, ...]

    @property
    def unsettled(self) -> list[MergeItem]:
        """Those that stand in the way."""
        return [item for item in self.items if not item.is_settled]

    @property
    def writes(self) -> list[Write]:
        """What is written, in the order in which it happened on the branch."""
        return [write for item in self.items for write in item.writes if write.events]

    @property
    def counts(self) -> dict[str, int]:
        """How many commits came out how."""
        found: dict[str, int] = {}
        for item in self.items:
            found[item.outcome] = found.get(item.outcome, 0) + 1
        return found

    def _repr_html_(self) -> str | None:
        from everwhen.state.value_html import in_notebook

        return in_notebook(self._card)

    def _card(self) -> str:
        """What stands in the way comes first."""
        from everwhen.vocabulary.notebook_html import (
            BAD,
            card,
            counted,
            element,
            heading,
            looking,
            rows_table,
        )

        unsettled = self.unsettled
        ordered = sorted(self.items, key=lambda item: item.is_settled)
        counts = [f"{count:,} {outcome}" for outcome, count in self.counts.items()]
        places = f"positions {self.after + 1:,} to {self.up_to:,}, decided on {self.on:,}"
        title = f"{self.source} → {self.target}"
        warning = looking(BAD, f"{counted(len(unsettled), 'commit')} unsettled")
        return card(
            heading("Merge plan", title, *counts, places if self.items else "nothing to merge"),
            element("div", warning if unsettled else ""),
            rows_table(ordered, "commit"),
        )


Resolver: TypeAlias = Callable[[MergeItem], "Strategy | Sequence[Write]"]
"""Says what to do about one item: by which strategy, or what to write in its place."""


class MergeError(BranchError):
    """A merge in which something is unsettled; nothing was written. ``plan`` says what."""

    def __init__(self, branch: str, target: str, plan: MergePlan) -> None:
        unsettled = plan.unsettled
        first = unsettled[0]
        about = first.command or ", ".join(dict.fromkeys(event.type for event in first.events))
        why = f"position {first.position} ({about}): {first.reason}"
        more = f", and {len(unsettled) - 1} more" if len(unsettled) > 1 else ""
        super().__init__(
            branch,
            f"{len(unsettled)} of {len(plan.items)} commits can't be merged into {target!r} just "
            f"so; {why}{more}. Look at the plan, and choose a strategy or a resolver",
        )
        self.target = target
        self.plan = plan

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.branch, self.target, self.plan)
