# Generated from src/everwhen/tiers/_async/history_manager.py by tools/unasync.py: edit that, then run `make sync`.
"""Moving history: what a policy asks for, planned, shown and done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from everwhen.backends._sync.backend import CompactionListener
from everwhen.privacy.failure_texts import shown_failure
from everwhen.store._sync.store import Store
from everwhen.tiers._sync.background_mover import BackgroundMover
from everwhen.tiers._sync.mover_lease import MoverLease
from everwhen.tiers.history_policy import HistoryPlan, HistoryPolicy, HistoryStatus
from everwhen.tiers.mover_records import MAX_LEASE_SECONDS, MOVER, mover_record_in
from everwhen.vocabulary.contract import Compaction, Seal, Segment
from everwhen.vocabulary.errors import (
    BusyError,
    DeclarationError,
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

    def __init__(self, store: Store, policy: HistoryPolicy) -> None:
        self._store = store
        self._policy = policy

    def status(self) -> HistoryStatus:
        """Where history is now."""
        segments = self._store.kernel.backend.segments()
        head = self._store.head()
        record = mover_record_in(self._store.checkpoint(MOVER))
        return HistoryStatus(
            segments[-1].last if segments else 0,
            head.position,
            tuple(segments),
            record.last_run,
            record.error,
        )

    def plan(self) -> HistoryPlan:
        """What `age` would do now."""
        last = self._sealed_up_to()
        if last is None:
            return HistoryPlan(None)
        sealed = (self.status()).sealed
        least = self._policy.segment_size.least  # slices, of which each has an event or more
        return HistoryPlan((sealed + 1, last) if last - sealed >= least else None)

    def _sealed_up_to(self) -> int | None:
        """The position up to which the policy seals; None where it doesn't."""
        before = self._policy.sealed_before(self._store.clock())
        return None if before is None else self._store.position_at(before)

    def age(self, progress: Callable[[Segment], None] | None = None) -> list[Segment]:
        """Move what the policy asks for; the segments that were made.

        What an earlier run that was interrupted has left over is deleted first.
        ``progress`` is called with each; what it raises ends the work between two segments. Who
        moves history in the background waits until this has ended. Raises `BusyError` where
        another process begins to move this store's history, `ReadOnlyError`, `CorruptStoreError`
        for what can't be packed since it is damaged, and `UnsupportedError` for a branch, a store
        in memory, or without the extra ``everwhen[tiers]``.
        """
        made: list[Segment] = []
        if self._policy.moves_nothing:
            return made

        def sealed(segment: Segment) -> None:
            made.append(segment)
            if progress is not None:
                progress(segment)

        lease = MoverLease(self._store, _LEASE_SECONDS)
        if self._store.capabilities.seals:
            lease.take(by_force=True)
        self._move(lease, sealed)
        return made

    def _move(self, lease: MoverLease, sealed: Callable[[Segment], None]) -> None:
        """Seal what is old enough, with the lease, and give that back."""
        try:
            up_to = self._sealed_up_to()
            while up_to is not None:
                segment = self._seal(lease, up_to)
                if segment is None:
                    break
                sealed(segment)
                lease.renew()
            lease.end(None)
        except BaseException:
            lease.give_back()
            raise

    def _seal(self, lease: MoverLease, up_to: int) -> Segment | None:
        """Make one segment, if there is enough for one. Why it fails is kept in the store."""
        try:
            return self._store.kernel.backend.move(Seal(up_to, self._policy.segment_size))
        except (BusyError, StoreClosedError, UnsupportedError):
            raise
        except Exception as error:
            lease.end(shown_failure(error, self._store.vault))
            raise

    def in_background(
        self,
        every: timedelta,
        *,
        progress: Callable[[Segment], None] | None = None,
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
                f"{self._store!r} can't be sealed: only a store in a file, and no branch of it"
            )
        return BackgroundMover(
            self._store,
            self._move,
            progress,
            every_seconds=every.total_seconds(),
            lease_seconds=lease,
        )

    def compact(self, progress: CompactionListener | None = None) -> Compaction:
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
        return self._store.kernel.backend.compact(progress)
