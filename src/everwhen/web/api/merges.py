"""Merges: planned, looked at, and then done as planned; and those that were done."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

import msgspec
from starlette.responses import Response

from everwhen import Query
from everwhen.aio import Store as AsyncStore
from everwhen.backends.branch_records import MAIN
from everwhen.exchange.json_forms import ReceiptForm, receipt_form
from everwhen.merging import MergePlan, Merging
from everwhen.merging.merge_forms import MergePlanForm, merge_item_form, merge_plan_form
from everwhen.merging.merge_plan import Strategy
from everwhen.merging.merge_records import record_in
from everwhen.vocabulary import CommitMetadata, Receipt
from everwhen.vocabulary.paging import PAGE_EVENTS, next_page
from everwhen.web.answers import json_answer
from everwhen.web.api.plans import check_named, check_same, plan_id
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.problems import INVALID, MERGE_CONFLICT, PLAN_CHANGED

_LOOKED_AT: Final = 100_000
"""How many events are looked through for merges, all branches together: about a second."""
_MOST_MERGES: Final = 1_000


class MergeDone(msgspec.Struct, frozen=True):
    """A merge: the events up to ``up_to`` of the branch ``source`` were taken over into ``into``.

    ``position`` is that of the last event that it wrote there. ``id`` is the source's own, which
    it keeps under another name. ``commits`` counts those that were picked; 0 is all of them.
    """

    into: str
    position: int
    commit_id: str
    source: str
    id: str
    up_to: int
    commits: int


class MergesDone(msgspec.Struct, frozen=True):
    """The merges between branches, the newest of each first.

    ``is_whole`` is false where the newest 100,000 events were looked through, and there are more.
    """

    merges: list[MergeDone]
    is_whole: bool


async def read_merges(call: ApiCall[NoParameters]) -> Response:
    """What was merged into what, where, and how much of it."""
    main = call.on.store
    branches = await main.branches()
    merges: list[MergeDone] = []
    left = _LOOKED_AT
    for info in branches:
        store = (await call.hosting.at(info.name)).store
        left = await _merges_into(store, info.position, merges, left)
    if branches:
        left = await _merges_into(main, min(info.position for info in branches), merges, left)
    return json_answer(MergesDone(merges[:_MOST_MERGES], left > 0 and len(merges) <= _MOST_MERGES))


async def _merges_into(store: AsyncStore, after: int, found: list[MergeDone], left: int) -> int:
    """Add the merges into a store after a position; returns how many events may be looked at."""
    query = Query().after(after).backwards()
    seen = ""
    while left > 0:
        page = await store.kernel.backend.read(query, PAGE_EVENTS)
        for stored in page.slices:
            left -= stored.count
            record = record_in(stored)
            commit_id = str(UUID(bytes=stored.commit_id))
            if record is not None and commit_id != seen:
                seen = commit_id
                source = (record.branch, record.id, record.up_to, record.commits)
                found.append(MergeDone(store.name, stored.position, commit_id, *source))
        if page.end:
            break
        query = next_page(query, page)
    return left


class MergeAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to merge the branch, and by which strategy; ``commits`` picks some of its own.

    ``limit`` bounds how many commits of a plan are listed.
    """

    into: str = MAIN
    strategy: Strategy = "fail"
    commits: list[UUID] | None = None
    dry_run: bool = False
    plan: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 1_000


class PlannedMerge(MergePlanForm, frozen=True):
    """The plan, and the ``id`` that it is known by; ``more`` counts the commits not listed."""

    id: str
    more: int


async def merge(call: ApiCall[NoParameters]) -> Response:
    """Merge a branch into another one, or into the store itself, in one commit.

    Ask with ``dry_run`` first, look at the plan, and name its ``id`` as ``plan`` to have it done:
    where it would come out otherwise by then, the answer is 409, and nothing is written. 204 where
    there is nothing to write.
    """
    asked: MergeAsked = await call.json()
    target = (await call.hosting.at(asked.into)).blocking
    source, types = call.on.blocking, target.event_types
    given = call.hosting.governance
    merging = Merging(target, given.decisions, invariants=given.invariants)

    def id_of(plan: MergePlan) -> str:
        items = [merge_item_form(item, types) for item in plan.items]
        return plan_id(plan.source, plan.target, plan.after, plan.up_to, asked.strategy, items)

    def planned() -> PlannedMerge:
        plan = merging.plan(source, strategy=asked.strategy, commits=asked.commits)
        first = msgspec.structs.replace(plan, items=plan.items[: asked.limit])
        form = msgspec.structs.asdict(merge_plan_form(first, types))
        whole = {"counts": plan.counts, "unsettled": len(plan.unsettled)}
        more = len(plan.items) - len(first.items)
        return PlannedMerge(**(form | whole), id=id_of(plan), more=more)

    def done(named: str) -> Receipt | None:
        return merging.merge(
            source,
            strategy=asked.strategy,
            commits=asked.commits,
            metadata=CommitMetadata(user_id=call.by.name),
            approve=lambda plan: check_same(named, id_of(plan)),
        )

    if asked.dry_run:
        return json_answer(await call.hosting.compute(planned))
    receipt = await call.hosting.compute(done, check_named(asked.plan))
    if receipt is None:
        return Response(None, 204)
    return json_answer(receipt_form(receipt), 200 if receipt.repeated else 201)


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/merges",
        handle=read_merges,
        scope="read",
        answers={200: MergesDone},
        of_branch=False,
    ),
    Endpoint(
        method="POST",
        path="/merges",
        handle=merge,
        scope="operate",
        body=MergeAsked,
        answers={200: PlannedMerge | ReceiptForm, 201: ReceiptForm, 204: None},
        problems=(PLAN_CHANGED, MERGE_CONFLICT, INVALID),
    ),
)
