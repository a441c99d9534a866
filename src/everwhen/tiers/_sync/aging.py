# Generated from src/everwhen/tiers/_async/aging.py by tools/unasync.py: edit that, then run `make sync`.
"""What a policy asks for now: which segments move, one move after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from everwhen.store._sync.store import Store
from everwhen.tiers._sync.retiring import finished, retired, surveyed
from everwhen.tiers.history_policy import HistoryPlan, HistoryPolicy, Moved, latest
from everwhen.tiers.retirement_records import LossError, Retirement
from everwhen.vocabulary.contract import Archive, Evict, Seal, Segment, Sweep
from everwhen.vocabulary.errors import DeclarationError
from everwhen.vocabulary.microseconds import to_micros
from everwhen.vocabulary.query import Query


class Aging:
    """The moves of one store's history, by a policy, to an archive at a URL."""

    def __init__(self, store: Store, policy: HistoryPolicy, url: str | None) -> None:
        self._store = store
        self._policy = policy
        self._url = url
        self._backend = store.kernel.backend

    def plan(self) -> HistoryPlan:
        """What would be moved now."""
        segments = self._backend.segments()
        retirement = self._retirement(segments)
        last = 0 if retirement is None else retirement.last
        kept = [one for one in segments if one.last > last]
        archive = [one for one in self._to_archive(kept)]
        evict = self._to_evict(kept)
        if self._policy.warm_duration is None:
            evict += [one for one in archive if one.is_cold]
        return HistoryPlan(
            self._to_seal(segments[-1].last if segments else 0),
            tuple((one.first, one.last) for one in archive),
            tuple((one.first, one.last) for one in sorted(evict, key=lambda one: one.last)),
            retirement,
        )

    def moves(self, *, allow_loss: bool) -> Iterator[Moved]:
        """Move what there is to move; each segment, once it is moved.

        Raises `LossError` where something would be lost that wasn't said to be.
        """
        segments = self._backend.segments()
        rest = finished(self._store, segments)
        if rest is not None:
            yield Moved("retired", rest)
        for segment in self._sealed():
            yield Moved("sealed", segment)
        segment = self._retired(allow_loss=allow_loss)
        if segment is not None:
            yield Moved("retired", segment)
        for one in self._to_archive(self._backend.segments()):
            found = self._backend.move(Archive(one.last, self._archive()))
            if found is not None:
                yield Moved("archived", found)
        for one in self._to_evict(self._backend.segments()):
            found = self._backend.move(Evict(one.last))
            if found is not None:
                yield Moved("evicted", found)
        if segments:
            self._backend.move(Sweep(self._micros_ago(self._policy.unused_duration)))

    def _to_seal(self, sealed: int) -> tuple[int, int] | None:
        last = self._sealed_up_to()
        least = self._policy.segment_size.least  # slices, of which each has an event or more
        return None if last is None or last - sealed < least else (sealed + 1, last)

    def _sealed_up_to(self) -> int | None:
        """The position up to which the policy seals; None where it doesn't."""
        before = self._ago(self._policy.sealed_after)
        return None if before is None else self._store.position_at(before)

    def _sealed(self) -> Iterator[Segment]:
        up_to = self._sealed_up_to()
        while up_to is not None:
            segment = self._backend.move(Seal(up_to, self._policy.segment_size))
            if segment is None:
                return
            yield segment

    def _to_archive(self, segments: Iterable[Segment]) -> Iterator[Segment]:
        """Those that are old enough for each of their categories."""
        before = 0
        for segment in segments:
            if segment.is_cold and segment.object is None:
                age = self._kept_for(segment, before, "archive_after")
                if self._is_older(segment, age):
                    yield segment
            before = segment.last

    def _to_evict(self, segments: Iterable[Segment]) -> list[Segment]:
        """Those that are in the archive, and were to stay here beside that for long enough."""
        archived = [one for one in segments if one.is_cold and one.object is not None]
        if self._policy.archive_after is None:
            return []
        age = self._policy.archive_after + (self._policy.warm_duration or timedelta())
        return [one for one in archived if self._is_older(one, age)]

    def _retirement(self, segments: Iterable[Segment]) -> Retirement | None:
        last = self._retired_up_to(segments)
        return None if last is None else (surveyed(self._store, last))[1]

    def _retired_up_to(self, segments: Iterable[Segment]) -> int | None:
        """The end of the first segments that are all old enough, for each of their categories."""
        last, before = None, 0
        for segment in segments:
            if segment.retired_at is None:
                age = self._kept_for(segment, before, "delete_after")
                if not self._is_older(segment, age):
                    break
                last = segment.last
            before = segment.last
        return last

    def _retired(self, *, allow_loss: bool) -> Segment | None:
        last = self._retired_up_to(self._backend.segments())
        if last is None:
            return None
        if not allow_loss:
            forks = [one for one in self._store.branches() if one.position <= last]
            if forks:
                raise DeclarationError(
                    f"branch {forks[0].name!r} begins at position {forks[0].position}, and history "
                    f"would be retired up to {last}; delete the branch, or say allow_loss=True"
                )
        survey, retirement = surveyed(self._store, last)
        if retirement.lost and not allow_loss:
            raise LossError(last, retirement.lost)
        return retired(self._store, survey, retirement)

    def _kept_for(self, segment: Segment, before: int, duration: str) -> timedelta | None:
        """How long the segment stays as it is; None for ever.

        That is for as long as any of its categories: one can be kept for longer, and not shorter.
        """
        found: timedelta | None = getattr(self._policy, duration)
        for category, policy in self._policy.overrides.items():
            own = getattr(policy, duration)
            longest = latest(found, own)
            if longest != found and self._has(category, before, segment.last):
                found = longest
        return found

    def _has(self, category: str, after: int, last: int) -> bool:
        query = Query().category(category).after(after).up_to(last).limit(1)
        for _ in self._store.read(query):
            return True
        return False

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
        return -(1 << 62) if before is None else to_micros(before)

    def _archive(self) -> str:
        if self._url is None:
            raise DeclarationError("archive_after needs an archive: give its folder or URL")
        return self._url
