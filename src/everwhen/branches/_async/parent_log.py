"""A branch's parent, as far as the branch shows it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

from everwhen.backends._async.backend import Backend
from everwhen.backends.branch_records import Fork
from everwhen.backends.commit_checks import check_condition
from everwhen.branches.fork_streams import ForkStreams
from everwhen.branches.page_requests import PageRequest, Steps
from everwhen.vocabulary.contract import Condition, Page, StoredSlice, StreamInfo
from everwhen.vocabulary.paging import PAGE_EVENTS, next_page

T = TypeVar("T")


class ParentLog:
    """The parent up to the fork: nothing of it ever changes, so what was found there holds."""

    def __init__(self, backend: Backend, fork: Fork) -> None:
        self.backend = backend
        self.fork = fork
        self.at_fork = ForkStreams(fork)

    async def answered(self, steps: Steps[T], own: Backend | None = None) -> T:
        """What the steps return, given the pages that they ask for; some ask for ``own`` ones."""
        pages: Any = None
        while True:
            try:
                asked = steps.send(pages)
            except StopIteration as done:
                result: T = done.value
                return result
            pages = await _pages(own if own is not None and asked.of_own else self.backend, asked)

    async def streams(self, names: Collection[str]) -> dict[str, StreamInfo | None]:
        """Where streams stood at the fork; None for those that had no events yet."""
        return await self.answered(self.at_fork.find(names))

    async def versions(self, names: Collection[str]) -> dict[str, int]:
        """The streams' versions at the fork, 0 for those that had no events yet."""
        return await self.answered(self.at_fork.versions(names))

    async def list_streams(self, category: str | None, after: str, limit: int) -> list[StreamInfo]:
        """Streams in the order of their names, as they stood at the fork."""
        found: list[StreamInfo] = []
        position = self.fork.position
        while position and len(found) < limit:
            page = await self.backend.streams(category, after, limit)
            before = await self.streams([info.name for info in page if info.position > position])
            then = [before.get(info.name) if info.name in before else info for info in page]
            found += [info for info in then if info is not None]
            if len(page) < limit:
                break
            after = page[-1].name
        return found

    async def stored_commit(self, commit_id: bytes) -> list[StoredSlice]:
        """The slices of the commit of that id; none where it was not written before the fork."""
        if not self.fork.position:
            return []
        stored = await self.backend.stored_commit(commit_id)
        return stored if stored and stored[-1].position <= self.fork.position else []

    async def check_condition(self, condition: Condition) -> None:
        """Raises `ConditionError` where something before the fork breaks it."""
        query = condition.query.after(condition.after)
        asked = query.up_to(self.fork.position)
        while condition.after < self.fork.position:
            page = await self.backend.read(asked, PAGE_EVENTS)
            check_condition(query, condition.after, page.slices)
            if page.end:
                return
            asked = next_page(asked, page)


async def _pages(log: Backend, asked: PageRequest) -> list[Page]:
    if len(asked.queries) == 1:
        return [await log.read(asked.queries[0], asked.events)]
    return await log.view(lambda view: [view.read(q, asked.events) for q in asked.queries])
