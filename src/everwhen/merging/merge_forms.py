"""What a merge's plan is in JSON: on the command line and over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from everwhen.codec.event_types import EventTypes
from everwhen.exchange.json_forms import new_event_form
from everwhen.merging.merge_plan import MergeItem, MergeOutcome, MergePlan
from everwhen.state.paths import plain, text_of


class ConflictForm(msgspec.Struct, frozen=True):
    """A part of the state that both sides have changed, as it was and as each has it."""

    path: str
    base: Any
    ours: Any
    theirs: Any


class MergedEventForm(msgspec.Struct, frozen=True):
    """An event that the merge writes."""

    stream: str
    type: str
    data: Any


class MergeItemForm(msgspec.Struct, frozen=True):
    """What becomes of one commit; ``is_settled`` is false where a person has to say."""

    outcome: MergeOutcome
    is_settled: bool
    position: int
    commit_id: str
    command: str | None
    reason: str
    conflicts: Sequence[ConflictForm]
    writes: Sequence[MergedEventForm]


def merge_item_form(item: MergeItem, types: EventTypes) -> MergeItemForm:
    """The form of what becomes of one commit."""
    conflicts = [
        ConflictForm(text_of(one.path), plain(one.base), plain(one.ours), plain(one.theirs))
        for one in item.conflicts
    ]
    writes = [
        MergedEventForm(write.stream, form.type, form.data)
        for write in item.writes
        for form in (new_event_form(new, types) for new in write.events)
    ]
    return MergeItemForm(
        item.outcome,
        item.is_settled,
        item.position,
        str(item.commit_id),
        item.command,
        item.reason,
        conflicts,
        writes,
    )


class MergePlanForm(msgspec.Struct, frozen=True):
    """What a merge would do, commit by commit.

    ``after`` and ``up_to`` are the positions of the source between which commits are taken over,
    ``on`` is the target's position that they were decided on. ``counts`` says how many commits
    came out how, ``unsettled`` how many are in the way.
    """

    source: str
    target: str
    after: int
    up_to: int
    on: int
    counts: dict[str, int]
    unsettled: int
    items: Sequence[MergeItemForm]


def merge_plan_form(plan: MergePlan, types: EventTypes) -> MergePlanForm:
    """The plan's form."""
    return MergePlanForm(
        plan.source,
        plan.target,
        plan.after,
        plan.up_to,
        plan.on,
        plan.counts,
        len(plan.unsettled),
        [merge_item_form(item, types) for item in plan.items],
    )
