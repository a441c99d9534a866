"""Merging: a branch's commits decided again, or compared, on another one, and written as one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec

from everwhen.codec.commits import Commit, new_commit_id
from everwhen.codec.recorded_events import (
    RecordedEvent,
    entries_of,
    recorded_events,
)
from everwhen.commands.decisions import Decisions
from everwhen.merging._async.merge_planner import MergePlanner, id_of
from everwhen.merging.invariants import Invariant
from everwhen.merging.merge_plan import MergeError, MergePlan, Resolver, Strategy
from everwhen.merging.merge_records import NEEDLE, came_from, metadata_again, record_in
from everwhen.merging.merge_rules import MergeRules
from everwhen.merging.three_way import contents
from everwhen.state.fold import Fold
from everwhen.store._async.store import Store
from everwhen.vocabulary.contract import Receipt
from everwhen.vocabulary.errors import (
    BranchError,
    CommitIdError,
    ConditionError,
    ConflictError,
)
from everwhen.vocabulary.metadata import CommitMetadata
from everwhen.vocabulary.paging import PAGE_EVENTS, next_page
from everwhen.vocabulary.query import Query


class Merging:
    """Takes a branch's commits over to another branch, or to the store itself.

    Commits that were decided on a command are decided again by ``decisions``; those of commands
    that it doesn't know, and those of none, are facts: compared in three ways on the parts that
    they touch of the state of ``compared_on``. ``invariants`` have to hold after each of them.

    Audit entries go along with what is taken over of their commit. They are compared with nothing,
    and what is written to the log meanwhile is in no merge's way.
    """

    def __init__(
        self,
        target: Store,
        decisions: Decisions | None = None,
        *,
        compared_on: Fold[Any] = contents,
        invariants: Sequence[Invariant[Any]] = (),
        attempts: int = 10,
    ) -> None:
        self.target = target
        self.decisions = decisions if decisions is not None else Decisions()
        self.compared_on = compared_on
        self.invariants = tuple(invariants)
        self._attempts = attempts

    async def plan(
        self,
        source: Store,
        *,
        strategy: Strategy = "fail",
        resolver: Resolver | None = None,
        commits: Sequence[UUID] | None = None,
    ) -> MergePlan:
        """What merging the source would do. Nothing is written.

        ``strategy`` says what is done with commits that don't come out the same: *fail* leaves
        them unsettled, *ours* leaves them out, *theirs* takes their events over as they were, and
        *redecide* takes what their commands lead to now, nothing if that is a refusal; facts in
        conflict it leaves unsettled. A ``resolver`` is asked for each of them first. An invariant
        that would break is unsettled in any case but *ours*. ``commits`` picks some of the
        source's commits, which may have been merged before, and leaves out all others.
        """
        async with self._planned(source, strategy, resolver, commits) as planned:
            return planned.plan()

    async def merge(
        self,
        source: Store,
        *,
        strategy: Strategy = "fail",
        resolver: Resolver | None = None,
        commits: Sequence[UUID] | None = None,
        metadata: CommitMetadata | None = None,
        approve: Callable[[MergePlan], object] | None = None,
    ) -> Receipt | None:
        """Merge the source, in one commit. None where there is nothing to write.

        Safe to repeat, also after a failure: a merge is written once. It is planned again where
        others have written meanwhile what it rests on. Raises `MergeError`, with the plan, where
        something is unsettled; nothing was written then. ``approve`` is given each plan before it
        is written: what it raises ends the merge, with nothing written.
        """
        for attempt in range(1, self._attempts + 1):
            async with self._planned(source, strategy, resolver, commits) as planned:
                plan = _settled(planned.plan())
                known = await self.target.receipt(planned.id)
                if known is not None:
                    return msgspec.structs.replace(known, repeated=True)
                if approve is not None:
                    approve(plan)
                if not plan.writes:
                    return None
                commit = await planned.commit(plan, metadata)
            try:
                return await self.target.commit(commit)
            except (ConflictError, ConditionError):
                if attempt == self._attempts:
                    raise
            except CommitIdError:
                return await self.target.receipt(planned.id)
        raise AssertionError  # pragma: no cover (the last attempt returns or raises)

    async def cherry_pick(
        self,
        source: Store,
        commit_id: UUID,
        *,
        strategy: Strategy = "fail",
        resolver: Resolver | None = None,
        metadata: CommitMetadata | None = None,
    ) -> Receipt | None:
        """Take over one commit of the source, as `merge` does with all of them."""
        return await self.merge(
            source, strategy=strategy, resolver=resolver, commits=[commit_id], metadata=metadata
        )

    async def rebase(
        self, source: Store, *, strategy: Strategy = "fail", resolver: Resolver | None = None
    ) -> Store:
        """Begin the source anew, from the target as it is now; returns it, opened.

        Its commits are taken over one by one, each with its own metadata and command. It keeps its
        name; what it was until now stays, as ``<name>.until-<its head>``. Raises as `merge` does;
        until the last moment nothing of the source has changed then.
        """
        async with self._planned(source, strategy, resolver, None) as planned:
            plan = _settled(planned.plan())
        name, target = source.name, self.target
        making = f"{name}.rebasing"
        if any(info.name == making for info in await target.branches()):
            await target.delete_branch(making)  # left over when one was interrupted
        async with target.create_branch(making, plan.on) as made:
            for item in plan.items:
                if any(write.events for write in item.writes):
                    commit_id = UUID(bytes=new_commit_id())
                    metadata = metadata_again(item.events[0], commit_id)
                    await made.commit(Commit(item.writes, None, commit_id, metadata))
        await target.rename_branch(name, f"{name}.until-{plan.up_to}")
        await target.rename_branch(making, name)
        return await target.branch(name)

    @asynccontextmanager
    async def _planned(
        self,
        source: Store,
        strategy: Strategy,
        resolver: Resolver | None,
        commits: Sequence[UUID] | None,
    ) -> AsyncIterator[MergePlanner]:
        """A merge of the source, planned on the target as it is now."""
        rules = MergeRules(self.decisions, self.compared_on, self.invariants, strategy, resolver)
        rules.check(source.name)
        base = await self.target.shared_with(source)
        head = (await source.head()).position
        up_to, known = await self._merged_before(source, base)
        after = up_to if commits is None else base
        wanted = None if commits is None else set(commits)
        async with self.target.scratch_branch() as scratch:
            planner = MergePlanner(rules, source, self.target, scratch, after, head, known)
            await planner.begin()
            async for events in _commits(source, after, head):
                commit_id = events[0].commit_id
                if wanted is None:
                    await planner.take(events)
                elif commit_id in wanted:
                    wanted.discard(commit_id)
                    await planner.take(events)
                    planner.picked.append(commit_id)
            if wanted:
                missing = next(iter(wanted))
                raise BranchError(source.name, f"commit {missing} was not written on it")
            yield planner

    async def _merged_before(self, source: Store, base: int) -> tuple[int, set[str]]:
        """How far the source has been merged already, and which commits have been taken over."""
        own, codec = id_of(source), self.target.kernel.codec
        found, commits, query = base, set[str](), Query().after(base)
        while True:
            page = await self.target.kernel.backend.read(query, PAGE_EVENTS)
            for stored in page.slices:
                record = record_in(stored)
                if record is not None and record.id == own and record.commits == 0:
                    found = max(found, record.up_to)
                if NEEDLE in stored.body:
                    events = recorded_events(stored, entries_of(stored), None, codec)
                    commits.update(filter(None, map(came_from, events)))
            if page.end:
                return found, commits
            query = next_page(query, page)


def _settled(plan: MergePlan) -> MergePlan:
    """The plan. Raises `MergeError` where something in it is unsettled."""
    if plan.unsettled:
        raise MergeError(plan.source, plan.target, plan)
    return plan


async def _commits(source: Store, after: int, head: int) -> AsyncIterator[list[RecordedEvent[Any]]]:
    """The source's commits after a position, each with all of its events."""
    commit: list[RecordedEvent[Any]] = []
    async for event in source.read(Query().after(after).up_to(head)):
        if commit and event.commit_id != commit[0].commit_id:
            yield commit
            commit = []
        commit.append(event)
    if commit:
        yield commit
