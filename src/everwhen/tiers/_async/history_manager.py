"""Moving history: what a policy asks for, planned, shown and done."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, Literal

from everwhen.backends._async.backend import CompactionListener
from everwhen.privacy.failure_texts import shown_failure
from everwhen.store._async.store import Store
from everwhen.system.object_storage import object_url
from everwhen.tiers._async.aging import Aging
from everwhen.tiers._async.background_mover import BackgroundMover
from everwhen.tiers._async.mover_lease import MoverLease
from everwhen.tiers.history_policy import (
    HistoryPlan,
    HistoryPolicy,
    HistoryStatus,
    MovedSegment,
    mergeable,
)
from everwhen.tiers.mover_records import MAX_LEASE_SECONDS, MOVER, mover_record_in
from everwhen.vocabulary.contract import Compaction, Merge, Move, Restore, Segment
from everwhen.vocabulary.errors import (
    BusyError,
    DeclarationError,
    EverwhenError,
    StoreClosedError,
    UnsupportedError,
)

_LEASE_SECONDS: Final = 60.0
"""Several times what a full segment takes on a slow machine."""


class HistoryManager:
    """Moves a store's old history out of the way, as a policy says.

    Whatever is moved stays the same history: the same positions, versions, ids and proofs, for
    reads, folds, travel, branches and everything else. Others read and write meanwhile, here and in
    other processes; a kill at any moment loses nothing, and the next run goes on.
    """

    def __init__(
        self,
        store: Store,
        policy: HistoryPolicy,
        *,
        archive: str | os.PathLike[str] | None = None,
    ) -> None:
        """Raises `DeclarationError` for a policy that archives without an ``archive``.

        That is a folder, or a URL (``s3:``, ``gs:``, ``az:``, ``file:``). The store knows where
        its archived segments are: an ``archive`` is where others go.
        """
        if policy.archive_after is not None and archive is None:
            raise DeclarationError("archive_after needs an archive: give its folder or URL")
        self._store = store
        self._policy = policy
        self._url = None if archive is None else object_url(archive)

    async def status(self) -> HistoryStatus:
        """Where history is now."""
        segments = await self._store.kernel.backend.segments()
        head = await self._store.head()
        record = mover_record_in(await self._store.checkpoint(MOVER))
        return HistoryStatus(
            segments[-1].last if segments else 0,
            head.position,
            tuple(segments),
            record.last_run,
            record.error,
        )

    async def plan(self) -> HistoryPlan:
        """What `age` would do now."""
        return await self._aging().plan()

    async def age(
        self, progress: Callable[[MovedSegment], None] | None = None, *, allow_loss: bool = False
    ) -> list[MovedSegment]:
        """Move what the policy asks for; the segments that were moved, in turn.

        What an earlier run that was interrupted has left over is finished, or deleted, first.
        ``progress`` is called with each; what it raises ends the work between two segments. Who
        moves history in the background waits until this has ended.

        Nothing is retired that streams would lose their state by, or branches begin in, unless
        ``allow_loss``: that raises `LossError` and `DeclarationError`, and is retired by no run in
        the background. Raises `BusyError` where another process begins to move this store's
        history, `StorageError` where the archive doesn't answer, `ReadOnlyError`,
        `CorruptStoreError` for what can't be moved since it is damaged, and `UnsupportedError` for
        a branch, a store in memory, or without the extra ``everwhen[tiers]``, or
        ``everwhen[archive]``.
        """
        made: list[MovedSegment] = []
        if self._policy.moves_nothing:
            return made

        def tell(moved: MovedSegment) -> None:
            made.append(moved)
            if progress is not None:
                progress(moved)

        lease = await self._lease()
        await self._move(lease, tell, allow_loss=allow_loss)
        return made

    async def restore(
        self,
        first: int = 1,
        last: int | None = None,
        progress: Callable[[MovedSegment], None] | None = None,
    ) -> list[MovedSegment]:
        """Bring archived segments back into the store: all, or those with events in a range.

        Their objects are no longer used, and are deleted later as the policy says. The
        policy archives the segments again if it asks for that. Raises what `age` raises.
        """
        segments = [
            segment
            for segment in await self._store.kernel.backend.segments()
            if segment.object is not None
            and segment.last >= first
            and (last is None or segment.first <= last)
        ]
        moves = [(Restore(segment.last), segment) for segment in segments]
        return await self._carry_out("restored", moves, progress)

    async def merge(
        self, size: int = 64 << 20, progress: Callable[[MovedSegment], None] | None = None
    ) -> list[MovedSegment]:
        """Put small objects of the archive that follow on one another into larger ones.

        An object gets up to ``size`` bytes. Those that it takes the place of are deleted later, as
        the policy says. Returns the last segment of each new one. Raises what `age` raises.
        """
        if size < 1:
            raise DeclarationError(f"size is {size}; give a number of bytes")
        if self._url is None:
            raise DeclarationError("merging needs an archive: give its folder or URL")
        segments = await self._store.kernel.backend.segments()
        moves = [
            (Merge(tuple(one.last for one in group), self._url), group[-1])
            for group in mergeable(segments, size)
        ]
        return await self._carry_out("merged", moves, progress)

    async def _carry_out(
        self,
        how: Literal["restored", "merged"],
        moves: Sequence[tuple[Move, Segment]],
        progress: Callable[[MovedSegment], None] | None,
    ) -> list[MovedSegment]:
        made: list[MovedSegment] = []
        lease = await self._lease()
        try:
            for move, segment in moves:
                made.append(
                    MovedSegment(how, await self._store.kernel.backend.move(move) or segment)
                )
                if progress is not None:
                    progress(made[-1])
                await lease.renew()
        finally:
            await lease.give_back()
        return made

    def _aging(self) -> Aging:
        return Aging(self._store, self._policy, self._url)

    async def _lease(self) -> MoverLease:
        lease = MoverLease(self._store, _LEASE_SECONDS)
        if self._store.capabilities.seals:
            await lease.take(by_force=True)
        return lease

    async def _move(
        self, lease: MoverLease, tell: Callable[[MovedSegment], None], *, allow_loss: bool = False
    ) -> None:
        """Move what is old enough, with the lease, and give that back.

        Why it fails is kept in the store.
        """
        try:
            async for moved in self._aging().moves(allow_loss=allow_loss):
                tell(moved)
                await lease.renew()
            await lease.end(None)
        except (BusyError, StoreClosedError, UnsupportedError):
            await lease.give_back()
            raise
        except EverwhenError as error:
            await lease.end(shown_failure(error, self._store.vault))
            raise
        except BaseException:
            await lease.give_back()
            raise

    def in_background(
        self,
        every: timedelta,
        *,
        progress: Callable[[MovedSegment], None] | None = None,
        lease: float = _LEASE_SECONDS,
    ) -> BackgroundMover:
        """A context manager: inside, ``age`` is done at once and then again after each ``every``.

        One mover works at a time, over all processes, and others wait for their turn: for the
        next one if it is killed, until its ``lease`` of so many seconds has run out. That should be
        longer than it takes to make a segment. What fails is logged, kept as `HistoryStatus`'s
        ``last_error``, and tried again at the next turn; nothing is raised. ``progress`` is called
        in the background, with each segment. Leaving waits until the segment that is being
        made is done.

        Raises `DeclarationError` for durations that aren't above zero, and `UnsupportedError` for
        a branch or a store in memory.
        """
        if every <= timedelta():
            raise DeclarationError(f"every is {every}; give more than zero")
        if type(lease) not in (int, float) or not 0 < lease <= MAX_LEASE_SECONDS:
            raise DeclarationError(
                f"lease={lease!r}: use a number of seconds above 0; a day at most"
            )
        if not self._store.capabilities.seals:
            raise UnsupportedError(
                f"{self._store!r} can't be sealed: only a store in a file or in PostgreSQL, and no "
                f"branch of it"
            )
        return BackgroundMover(
            self._store,
            self._move,
            progress,
            every_seconds=every.total_seconds(),
            lease_seconds=lease,
        )

    async def compact(self, progress: CompactionListener | None = None) -> Compaction:
        """Make the file smaller: give back the room of rows that were sealed, or deleted.

        Nothing is deleted by it. Others read and write meanwhile; a kill at any moment loses
        nothing. Only a file that was made by an older Everwhen, and wasn't compacted since, is
        written anew, once: others can read meanwhile, but who writes waits, and it takes twice the
        room of what is stored.

        ``progress`` is called with the bytes that were given back so far and how many there are to
        give; what it raises ends the work, and what was given back stays so. Raises
        `StorageFullError` before it begins where the disk has no room for what it takes,
        `BusyError` where others write, or read what was there before, for longer than the store
        waits, `ReadOnlyError`, and `UnsupportedError` for a store in memory. On a branch it is
        about the branch's own file.
        """
        return await self._store.kernel.backend.compact(progress)
