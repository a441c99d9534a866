"""Branches: which there are, made and deleted, and two of them side by side."""

from __future__ import annotations

from itertools import zip_longest
from typing import Annotated, Any, Final

import msgspec
from starlette.responses import Response

from everwhen import Query, RecordedEvent, Store
from everwhen.exchange.json_forms import BranchForm, EventForm, branch_form, event_form
from everwhen.store._async.moments import Moments
from everwhen.web.answers import json_answer
from everwhen.web.api.selection import moment_asked
from everwhen.web.endpoints import ApiCall, Endpoint, NoParameters
from everwhen.web.problems import BRANCH_REFUSED, INVALID, UNKNOWN

_SAME_EVENTS: Final = 10_000
"""How many events of two branches are compared one by one, to find where they part: a second."""


class BranchList(msgspec.Struct, frozen=True):
    """Every branch, the oldest first; ``head`` is the newest position of the store itself."""

    head: int
    branches: list[BranchForm]


async def read_branches(call: ApiCall[NoParameters]) -> Response:
    """Every branch, its parent, where it forks off, and its newest position."""
    store = call.on.store
    head = (await store.head()).position
    return json_answer(BranchList(head, [branch_form(info) for info in await store.branches()]))


class NewBranch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A branch to make; ``at`` is a moment as people write it, where a commit ends."""

    name: str
    at: str = "head"


async def create_branch(call: ApiCall[NoParameters]) -> Response:
    """Make a branch of the store, or of the branch in the path, at a moment.

    It costs the same at any size. What is written on it never appears on its parent.
    """
    given: NewBranch = await call.json()
    moment = moment_asked(call, given.at)
    place = await Moments(call.on.store, Query()).position_of(moment)
    async with await call.on.store.create_branch(given.name, place) as made:
        info = made.branch_info
    assert info is not None  # noqa: S101 (it was made as one)
    return json_answer(branch_form(info), 201)


class BranchDeleted(NoParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether the branches that fork off it are deleted with it."""

    with_children: bool = False


class DeletedBranches(msgspec.Struct, frozen=True):
    """The branches that are no more."""

    deleted: list[BranchForm]


async def delete_branch(call: ApiCall[BranchDeleted]) -> Response:
    """Delete a branch and all that was written on it. Refused while others fork off it."""
    store = call.on.store
    before = await store.branches()
    await store.delete_branch(call.segment("branch"), with_children=call.asked.with_children)
    left = {info.id for info in await store.branches()}
    return json_answer(DeletedBranches([branch_form(one) for one in before if one.id not in left]))


class BranchesCompared(NoParameters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The branch to compare with, and how many events of each are given."""

    with_: str = msgspec.field(name="with")
    limit: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 100


class FirstDifference(msgspec.Struct, frozen=True):
    """The positions of the first two events that differ; null where one side has no more."""

    here: int | None
    there: int | None


class BranchComparison(msgspec.Struct, frozen=True):
    """What each of two branches has after the last position that both share.

    ``more_here`` and ``more_there`` count the events that aren't listed. ``first_divergence`` is
    where the two tell other stories, event by event: other streams, types or data. It is null
    where neither does, or where the first 10,000 events after the fork are the same.
    """

    shared_until: int
    first_divergence: FirstDifference | None
    only_here: list[EventForm]
    only_there: list[EventForm]
    more_here: int
    more_there: int


async def compare_branches(call: ApiCall[BranchesCompared]) -> Response:
    """What a branch has and another one hasn't, and where they first differ."""
    other = await call.hosting.at(call.asked.with_)
    here, there, limit = call.on.blocking, other.blocking, call.asked.limit

    def compared() -> BranchComparison:
        shared = here.shared_with(there)
        (mine, more_mine), (theirs, more_theirs) = (
            _first(one, shared, limit) for one in (here, there)
        )
        return BranchComparison(
            shared, _first_difference(here, there, shared), mine, theirs, more_mine, more_theirs
        )

    return json_answer(await call.hosting.compute(compared))


def _first(store: Store, after: int, limit: int) -> tuple[list[EventForm], int]:
    """The first events after a position, and how many others come then."""
    forms = [event_form(event) for event in store.read(Query().after(after).limit(limit))]
    last = forms[-1].position if forms else after
    return forms, store.head().position - last


def _first_difference(here: Store, there: Store, after: int) -> FirstDifference | None:
    query = Query().after(after).limit(_SAME_EVENTS)
    for mine, theirs in zip_longest(here.read(query), there.read(query)):
        if mine is None or theirs is None or _told(mine) != _told(theirs):
            return FirstDifference(
                None if mine is None else mine.position,
                None if theirs is None else theirs.position,
            )
    return None


def _told(event: RecordedEvent[Any]) -> tuple[str, str, bytes]:
    return event.stream, event.type, event.json


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path="/branches",
        handle=read_branches,
        scope="read",
        answers={200: BranchList},
        of_branch=False,
    ),
    Endpoint(
        method="POST",
        path="/branches",
        handle=create_branch,
        scope="operate",
        body=NewBranch,
        answers={201: BranchForm},
        problems=(BRANCH_REFUSED, INVALID),
    ),
    Endpoint(
        method="DELETE",
        path="/branches/{branch}",
        handle=delete_branch,
        scope="operate",
        parameters=BranchDeleted,
        answers={200: DeletedBranches},
        problems=(BRANCH_REFUSED,),
        of_branch=False,
    ),
    Endpoint(
        method="GET",
        path="/compare",
        handle=compare_branches,
        scope="read",
        parameters=BranchesCompared,
        answers={200: BranchComparison},
        problems=(UNKNOWN, BRANCH_REFUSED),
    ),
)
