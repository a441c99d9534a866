"""What a policy asks for now: which segments move, one move after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Literal

from everwhen.backends.commit_checks import LONG_AGO
from everwhen.store._async.store import Store
from everwhen.tiers._async.hot_border import hot_border
from everwhen.tiers._async.retiring import finished, retired, surveyed
from everwhen.tiers.history_policy import (
    Duration,
    HeldBack,
    HistoryPlan,
    HistoryPolicy,
    MovedSegment,
)
from everwhen.tiers.retirement_records import LossError
from everwhen.vocabulary.contract import Archive, Evict, Seal, Segment, Sweep
from everwhen.vocabulary.errors import DeclarationError, EverwhenError
from everwhen.vocabulary.microseconds import to_micros
from everwhen.vocabulary.query import Query


class Aging:
    """The moves of one store's history, by a policy, to an archive at a URL."""

    def __init__(self, store: Store, policy: HistoryPolicy, url: str | None) -> None:
        self._store = store
        self._policy = policy
        self._url = url
        self._backend = store.kernel.backend

    async def plan(self) -> HistoryPlan:
        """What would be moved now."""
        segments = await self._backend.segments()
        sealed = segments[-1].last if segments else 0
        last, held = await hot_border(self._store, self._policy, sealed) or (None, None)
        least = self._policy.segment_size.least  # slices, of which each has an event or more
        end, more = await self._retired_up_to(segments)
        retirement = None if end is None else (await surveyed(self._store, end))[1]
        kept = [one for one in segments if one.last > (end or 0)]
        archive, others = await self._to_archive(kept)
        evict = self._to_evict(kept)
        if self._policy.warm_duration is None:
            evict = sorted([*evict, *archive], key=lambda one: one.last)
        return HistoryPlan(
            None if last is None or last - sealed < least else (sealed + 1, last),
            tuple((one.first, one.last) for one in archive),
            tuple((one.first, one.last) for one in evict),
            retirement,
            tuple(filter(None, (held, others, more))),
        )

    async def moves(self, *, allow_loss: bool) -> AsyncIterator[MovedSegment]:
        """Move what there is to move; each segment, once it is moved.

        Raises `LossError`, after all else was moved, where something would be lost that wasn't said
        to be.
        """
        segments = await self._backend.segments()
        rest = await finished(self._store, segments)
        if rest is not None:
            yield MovedSegment("retired", rest)
        async for segment in self._sealed(segments[-1].last if segments else 0):
            yield MovedSegment("sealed", segment)
        lost: EverwhenError | None = None
        try:
            rest = await self._retired(allow_loss=allow_loss)
            if rest is not None:
                yield MovedSegment("retired", rest)
        except (LossError, DeclarationError) as error:
            lost = error  # which keeps nothing else from moving
        async for one in self._archived():
            yield one
        if lost is not None:
            raise lost

    async def _archived(self) -> AsyncIterator[MovedSegment]:
        for one in (await self._to_archive(await self._backend.segments()))[0]:
            found = await self._backend.move(Archive(one.last, self._archive()))
            if found is not None:
                yield MovedSegment("archived", found)
        for one in self._to_evict(await self._backend.segments()):
            found = await self._backend.move(Evict(one.last))
            if found is not None:
                yield MovedSegment("evicted", found)
        if self._policy.archive_after is not None or self._policy.delete_after is not None:
            await self._backend.move(Sweep(self._micros_ago(self._policy.unused_duration)))

    async def _sealed(self, sealed: int) -> AsyncIterator[Segment]:
        found = await hot_border(self._store, self._policy, sealed)
        while found is not None:
            segment = await self._backend.move(Seal(found[0], self._policy.segment_size))
            if segment is None:
                return
            yield segment

    async def _to_archive(
        self, segments: Sequence[Segment]
    ) -> tuple[list[Segment], HeldBack | None]:
        """Those that are old enough for each of their categories, and what holds another back."""
        found: list[Segment] = []
        first: HeldBack | None = None
        for segment in segments:
            if segment.is_cold and segment.object is None:
                if not self._is_older(segment, self._policy.archive_after):
                    break
                held = await self._held(segment, "archive")
                first = first or held
                if held is None:
                    found.append(segment)
        return found, first

    def _to_evict(self, segments: Sequence[Segment]) -> list[Segment]:
        """Those that are in the archive, and were to stay here beside that for long enough."""
        archived = [one for one in segments if one.is_cold and one.object is not None]
        if self._policy.archive_after is None:
            return []
        age = self._policy.archive_after + (self._policy.warm_duration or timedelta())
        return [one for one in archived if self._is_older(one, age)]

    async def _retired_up_to(
        self, segments: Sequence[Segment]
    ) -> tuple[int | None, HeldBack | None]:
        """The end of the first segments that are all old enough, for each of their categories."""
        last = None
        for segment in segments:
            if segment.retired_at is not None:
                continue
            if not self._is_older(segment, self._policy.delete_after):
                break
            held = await self._held(segment, "retire")
            if held is not None:
                return last, held
            last = segment.last
        return last, None

    async def _retired(self, *, allow_loss: bool) -> Segment | None:
        last, _ = await self._retired_up_to(await self._backend.segments())
        if last is None:
            return None
        if not allow_loss:
            forks = [one for one in await self._store.branches() if one.position <= last]
            if forks:
                raise DeclarationError(
                    f"branch {forks[0].name!r} begins at position {forks[0].position}, and history "
                    f"would be retired up to {last}; delete the branch, or say allow_loss=True"
                )
        survey, retirement = await surveyed(self._store, last)
        if retirement.lost and not allow_loss:
            raise LossError(last, retirement.lost)
        return await retired(self._store, survey, retirement, allow_loss=allow_loss)

    async def _held(self, segment: Segment, move: Literal["archive", "retire"]) -> HeldBack | None:
        """What keeps a segment from being moved, that is old enough otherwise."""
        duration: Duration = "archive_after" if move == "archive" else "delete_after"
        for category, longer in self._policy.kept_longer(duration):
            if not self._is_older(segment, longer):
                position = await self._first_of(category, segment.first - 1, segment.last)
                if position is not None:
                    return HeldBack(move, category, position)
        return None

    async def _first_of(self, category: str, after: int, last: int) -> int | None:
        """The position of a category's first event after one position, up to another."""
        query = Query().category(category).after(after).up_to(last).limit(1)
        async for event in self._store.read(query):
            return event.position
        return None

    def _is_older(self, segment: Segment, age: timedelta | None) -> bool:
        if age is None:
            return False
        before = self._ago(age)
        return before is not None and segment.last_time <= to_micros(before)

    def _ago(self, age: timedelta | None) -> datetime | None:
        try:
            return None if age is None else self._store.clock() - age
        except OverflowError:  # before the year 1
            return None

    def _micros_ago(self, age: timedelta) -> int:
        before = self._ago(age)
        return LONG_AGO if before is None else to_micros(before)

    def _archive(self) -> str:
        if self._url is None:
            raise DeclarationError("archive_after needs an archive: give its folder or URL")
        return self._url
