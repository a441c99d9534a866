# Generated from src/everwhen/tiers/_async/mover_lease.py by tools/unasync.py: edit that, then run `make sync`.
"""The lease on moving a store's history: one mover at a time, and who comes later waits."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from everwhen.backends.engine import EngineTransaction
from everwhen.store._sync.store import Store
from everwhen.tiers.mover_records import (
    MOVER,
    MoverRecord,
    mover_checkpoint,
    mover_record_in,
    now_micros,
)
from everwhen.vocabulary.errors import BusyError, StorageError


class MoverLease:
    """One mover's claim. It keeps movers out of one another's way, and no data safe.

    What is moved is safe anyway: each step of it asks for the token of the one who began last. So
    it does no harm if a mover is wrongly taken for dead, or works for longer than its lease.
    """

    def __init__(self, store: Store, seconds: float) -> None:
        self.owner = uuid4().hex
        self.error: str | None = None
        """Why the last run failed; kept in the store as soon as it can be."""
        self._store = store
        self._seconds = seconds
        self._backend = store.kernel.backend

    def take(self, *, by_force: bool) -> bool:
        """Begin to move; False where another does, unless that one is to be stopped."""

        def take(transaction: EngineTransaction) -> bool:
            record = mover_record_in(transaction.checkpoint(MOVER))
            leases, now = self._store.kernel.leases, now_micros()
            is_free = leases.is_over(MOVER, record, self.owner, now)
            if not is_free and not by_force:
                return False
            if self.error is not None:
                record = record.ended(self.error)
            self._keep(transaction, record)
            return True

        return self._backend.transact(take)

    def renew(self) -> None:
        """Go on. Raises `BusyError` where another has taken over."""

        def renew(transaction: EngineTransaction) -> None:
            record = mover_record_in(transaction.checkpoint(MOVER))
            if record.owner != self.owner:
                raise BusyError("another process moves history now; let it finish")
            self._keep(transaction, record)

        self._backend.transact(renew)

    def _keep(self, transaction: EngineTransaction, record: MoverRecord) -> None:
        record = record.held_by(self.owner, self._seconds)
        transaction.save_checkpoint(mover_checkpoint(record), local=True)

    def end(self, error: str | None) -> None:
        """Let others move. The run came to its end, or failed by that error.

        Where that can't be written down, ``error`` is written at the next run.
        """
        self.error = error

        def end(transaction: EngineTransaction) -> None:
            record = mover_record_in(transaction.checkpoint(MOVER))
            if record.owner == self.owner:
                record = record.given_back()
            transaction.save_checkpoint(mover_checkpoint(record.ended(error)), local=True)

        self._write(end)

    def give_back(self) -> None:
        """Let others move; nothing is said of this run, which was broken off."""

        def give_back(transaction: EngineTransaction) -> None:
            record = mover_record_in(transaction.checkpoint(MOVER))
            if record.owner == self.owner:
                transaction.save_checkpoint(mover_checkpoint(record.given_back()), local=True)

        self._write(give_back)

    def _write(self, work: Callable[[EngineTransaction], None]) -> None:
        try:
            self._backend.transact(work)
        except StorageError:  # the lease runs out
            return
