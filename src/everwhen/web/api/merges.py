"""Merges: planned, looked at, and then done as planned."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

import msgspec
from starlette.responses import Response

from everwhen.exchange.json_forms import ReceiptForm, receipt_form
from everwhen.merging import MergePlan, Merging
from everwhen.merging.merge_forms import MergePlanForm, merge_item_form, merge_plan_form
from everwhen.merging.merge_plan import Strategy
from everwhen.vocabulary import CommitMetadata, Receipt
from everwhen.web.answers import json_answer
from everwhen.web.api.plans import check_named, check_same, plan_id
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.hosting import MAIN
from everwhen.web.problems import INVALID, MERGE_CONFLICT, PLAN_CHANGED


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
        method="POST",
        path="/merges",
        handle=merge,
        scope="operate",
        body=MergeAsked,
        answers={200: PlannedMerge | ReceiptForm, 201: ReceiptForm, 204: None},
        problems=(PLAN_CHANGED, MERGE_CONFLICT, INVALID),
    ),
)
