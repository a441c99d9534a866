# Generated from src/everwhen/tiers/_async/history_manager.py by tools/unasync.py: edit that, then run `make sync`.
"""Moving history: what a policy asks for, planned, shown and done."""

from __future__ import annotations

from collections.abc import Callable

from everwhen.backends._sync.backend import CompactionListener
from everwhen.store._sync.store import Store
from everwhen.tiers.history_policy import HistoryPlan, HistoryPolicy, HistoryStatus
from everwhen.vocabulary.contract import Compaction, Seal, Segment


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
        return HistoryStatus(segments[-1].last if segments else 0, head.position, tuple(segments))

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
        ``progress`` is called with each; what it raises ends the work between two segments. Raises
        `BusyError` where another process begins to move this store's history, `ReadOnlyError`,
        `CorruptStoreError` for what can't be packed since it is damaged, and `UnsupportedError`
        for a branch, a store in memory, or without the extra ``everwhen[tiers]``.
        """
        made: list[Segment] = []
        up_to = self._sealed_up_to()
        while up_to is not None:
            size = self._policy.segment_size
            segment = self._store.kernel.backend.move(Seal(up_to, size))
            if segment is None:
                break
            made.append(segment)
            if progress is not None:
                progress(segment)
        return made

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
