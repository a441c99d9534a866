# Generated from src/everwhen/projections/_async/followers.py by tools/unasync.py: edit that, then run `make sync`.
"""What follows the log, page by page: what they have in common, and the lease on a position."""

from __future__ import annotations

import logging
import time
from typing import Any, Final, Protocol
from uuid import uuid4

import msgspec

from everwhen.backends.engine import EngineTransaction, EngineView
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.privacy.erasure_marks import NO_VAULT, ErasureMark
from everwhen.privacy.failure_texts import shown_failure, stored_failure
from everwhen.projections.projections import OnError
from everwhen.store._sync.store import Store
from everwhen.store.projection_records import (
    Build,
    BuildRecord,
    ParkedEvent,
    kept,
    parked_checkpoint,
    parked_of,
    read_back_in,
    record_of,
)
from everwhen.vocabulary.contract import Page
from everwhen.vocabulary.errors import (
    BeyondEndError,
    EverwhenError,
    ProjectionError,
    StorageError,
)
from everwhen.vocabulary.microseconds import from_micros
from everwhen.vocabulary.query import Query

_LOG: Final = logging.getLogger("everwhen")
_NEWEST: Final = Query().backwards().skipping_retired()
_UNKEPT_SECONDS: Final = 0.2  # what a crash repeats; less would be a sync at each look


class Follower(Protocol):
    """One projection's way along the events."""

    name: str
    of: Query
    position: int
    is_active: bool
    error: EverwhenError | None

    def start(self) -> bool:
        """Try to become active; False where another runner is."""
        ...

    def take(self, page: Page) -> None:
        """Let the page's events after ``position`` take effect, and come to the page's end."""
        ...

    def stay(self, *, at_end: bool) -> None:
        """Remain active, though nothing happens."""
        ...

    def halt_beyond(self, beyond: BeyondEndError) -> None:
        """Stop: it stands after the end of the log."""
        ...

    def stop(self) -> None:
        """Give way to others."""
        ...


def now_micros() -> int:
    return time.time_ns() // 1_000


def newest_position(view: EngineView) -> int:
    """The newest event's position, as the view has it; 0 where there is none."""
    slices = view.read(_NEWEST, 1).slices
    return slices[0].position if slices else 0


class Pace:
    """How many events a second, over a second or more."""

    def __init__(self) -> None:
        self.rate = 0.0
        self._since = time.monotonic()
        self._events = 0

    def add(self, events: int) -> float:
        self._events += events
        seconds = time.monotonic() - self._since
        if seconds >= 1.0:
            self.rate = round(self._events / seconds, 1)
            self._since, self._events = time.monotonic(), 0
        return self.rate


class Moved(Exception):  # noqa: N818 (not an error: another runner has the build now)
    """The lease has gone to another runner, or the build has gone."""


class LeasedFollower:
    """What keeps its position in the store, for as long as it has the lease.

    What it does, its position and the lease change in one transaction, so a runner that was
    believed dead and comes back can't write: its lease is gone.
    """

    def __init__(
        self, store: Store, name: str, of: Query, on_error: OnError, build: Build, lease: float
    ) -> None:
        self.name = name
        self.of = of
        self.on_error = on_error
        self.position = 0
        self.is_active = False
        self.error: EverwhenError | None = None
        self.owner = uuid4().hex
        self._store = store
        self._backend = store.kernel.backend
        self._build = build
        self._record = BuildRecord(())
        self._lease = lease
        self._kept = 0
        self._kept_at = 0.0
        self._has_lease = False
        self._parked: set[str] = set()
        self._pace = Pace()
        self._mark = NO_VAULT

    def _take_lease(self) -> bool:
        """Go on from where it was kept, if nobody else does."""
        self.is_active = self._has_lease = self._backend.transact(self._begin)
        if self.is_active:
            self.error = None
            self._parked = {parked.stream for parked in self.parked()}
        return self.is_active

    def _begin(self, transaction: EngineTransaction) -> bool:
        known = transaction.checkpoint(self._build.record)
        if known is None:
            self._create(transaction)
        else:
            self._record = record_of(known)
            self.position = self._kept = known.position
            if not self._is_free(self._record):
                return False
        self._keep(transaction, error=None)
        return True

    def _create(self, transaction: EngineTransaction) -> None:
        """Begin at the beginning."""
        raise NotImplementedError

    def _keep(self, transaction: EngineTransaction, **changes: Any) -> None:
        """Keep the position and the record, and go on holding the lease."""
        self._record = msgspec.structs.replace(
            self._record,
            owner=self.owner,
            lease=int(self._lease * 1_000_000),
            beat=self._record.beat + 1,
            at=now_micros(),
            **changes,
        )
        self._kept_at = time.monotonic()  # before it is seen: others may believe it for longer
        own = kept(self._build, self.position, self._record)
        transaction.save_checkpoint(own, local=self._build.is_local)
        self._kept = self.position

    def _is_free(self, record: BuildRecord) -> bool:
        """Whether no other runner has the lease."""
        return self._store.kernel.leases.is_free(self._build, record, self.owner, now_micros())

    def _check_lease(self, transaction: EngineView) -> None:
        """Raises `Moved` unless the lease is still ours, and all is as we left it."""
        known = transaction.checkpoint(self._build.record)
        if known is None or record_of(known).owner != self.owner or known.position != self._kept:
            raise Moved
        self._record = record_of(known)

    def _halt(self, position: int, failure: BaseException | None, what: str = "") -> None:
        """Stop here, and say why, until it is started again."""
        error = ProjectionError(self.name, position, what + self._shown(failure))
        error.__cause__ = failure
        _LOG.error("%s", error)
        self._halt_with(error, what + self._stored(failure))

    def _halt_with(self, error: EverwhenError, why: str) -> None:
        def halt(transaction: EngineTransaction) -> None:
            self._check_lease(transaction)
            self._keep(transaction, error=why)

        self._backend.transact(halt)
        self.error = error
        self.is_active = False

    def halt_beyond(self, beyond: BeyondEndError) -> None:
        """Stop; or, where the kept position was restored with the log, go on from there."""
        try:
            self._halt_with(beyond, str(beyond))
            _LOG.error("%s: %s", self.name, beyond)
        except Moved:
            self.give_way()

    def _leave_out(self, event: RecordedEvent[Any], failure: BaseException | None) -> None:
        """Skip or park the event that could not be taken."""
        why = self._stored(failure)
        shown = self._shown(failure)
        _LOG.warning("%s leaves out position %d: %s", self.name, event.position, shown)
        parks = self.on_error.then == "park"

        def leave_out(transaction: EngineTransaction) -> None:
            self._check_lease(transaction)
            if parks:
                self._park(transaction, event, why)
            self.position = event.position
            self._keep(transaction, skipped=self._record.skipped + (not parks))

        self._backend.transact(leave_out)
        if parks:
            self._parked.add(event.stream)

    def _park(
        self, transaction: EngineTransaction, event: RecordedEvent[Any], why: str | None
    ) -> None:
        parked = ParkedEvent(
            event.position, event.stream, event.type, why, from_micros(now_micros())
        )
        left_out = parked_checkpoint(self._build, parked)
        transaction.save_checkpoint(left_out, local=self._build.is_local)

    def parked(self) -> list[ParkedEvent]:
        """The events that wait to be retried, in order."""
        found = parked_of(self._store.checkpoints(), self._build)
        return [read_back_in(parked, self._store.vault) for parked in found]

    def skip(self) -> int:
        """Leave the parked events out for good, as the policy ``skip`` does; how many those were.

        What was parked meanwhile stays parked: nobody has looked at it yet.
        """
        seen = self.parked()

        def skip(transaction: EngineTransaction) -> int:
            self._check_lease(transaction)
            names = [parked_checkpoint(self._build, parked).name for parked in seen]
            gone = [name for name in names if transaction.checkpoint(name) is not None]
            for name in gone:
                transaction.delete_checkpoint(name, local=self._build.is_local)
            self._count_skipped(transaction, len(gone))
            return len(gone)

        count = self._backend.transact(skip)
        self._parked = {parked.stream for parked in self.parked()}
        return count

    def _count_skipped(self, transaction: EngineTransaction, more: int) -> None:
        self._keep(transaction, skipped=self._record.skipped + more)

    @property
    def _is_half_over(self) -> bool:
        """Whether it is time to renew the lease."""
        return time.monotonic() - self._kept_at >= self._lease / 2

    def _renew(self) -> None:
        """Renew the lease before it runs out, and keep a position that has gone on."""
        age_seconds = time.monotonic() - self._kept_at
        unkept = self.position != self._kept and age_seconds > _UNKEPT_SECONDS
        if not unkept and not self._is_half_over:
            return

        def renew(transaction: EngineTransaction) -> None:
            self._check_lease(transaction)
            self._keep(transaction)

        try:
            self._backend.transact(renew)
        except Moved:
            self.give_way()

    def _pause(self, attempt: int) -> float:
        """Seconds before the next attempt; not so long that the lease runs out."""
        return min(self.on_error.pause * float(2**attempt), self._lease / 2)

    def give_way(self) -> None:
        self.is_active = self._has_lease = False
        _LOG.info("another runner works on projection %s now", self.name)

    def stop(self) -> None:
        """Give the lease back, so that another runner need not wait for its end."""
        if not self._has_lease:
            return
        self.is_active = self._has_lease = False
        try:
            self._backend.transact(self._leave)
        except (Moved, StorageError):
            return

    def _leave(self, transaction: EngineTransaction) -> None:
        self._check_lease(transaction)
        record = msgspec.structs.replace(
            self._record, owner=None, lease=0, at=now_micros(), rate=0.0
        )
        own = kept(self._build, self.position, record)
        transaction.save_checkpoint(own, local=self._build.is_local)

    def _shown(self, failure: BaseException | None) -> str:
        """What may be logged of a failure."""
        return shown_failure(failure, self._store.vault)

    def _stored(self, failure: BaseException | None) -> str:
        """What may be kept of a failure on the events that are at hand."""
        return stored_failure(failure, self._mark)

    def _mark_now(self) -> None:
        """Begin to read events: what is kept of failures on them is kept until an erasure."""
        self._mark = ErasureMark.now(self._store.vault)
