# Generated from src/everwhen/projections/_async/table_projections.py by tools/unasync.py: edit that, then run `make sync`.
"""A projection's tables, written exactly once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec

from everwhen.backends._sync.concurrency import sleep
from everwhen.backends.engine import EngineTransaction, EngineView
from everwhen.codec.commits import stored_query
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.privacy.erasure_marks import ErasureMark
from everwhen.projections._sync.followers import (
    LeasedFollower,
    Moved,
    newest_position,
    now_micros,
)
from everwhen.projections.code_fingerprints import has_changed
from everwhen.projections.projections import (
    TableProjection,
    Tables,
    check_names,
    check_schema,
    create_tables,
    is_its_own,
    retire,
    switch,
)
from everwhen.store._sync.store import Store
from everwhen.store.page_decoding import by_position, events_of_page
from everwhen.store.projection_records import (
    RECORDS,
    Build,
    BuildRecord,
    ParkedEvent,
    builds_of,
    kept,
    parked_checkpoint,
    parked_of,
    record_of,
)
from everwhen.vocabulary.contract import Checkpoint, Page
from everwhen.vocabulary.errors import BeyondEndError, InlineError
from everwhen.vocabulary.microseconds import from_micros
from everwhen.vocabulary.paging import PAGE_EVENTS

_LOG: Final = logging.getLogger("everwhen")
_UNKEPT_POSITIONS: Final = 10_000  # some pages: read again in a moment after a crash


class _Failed(Exception):  # noqa: N818 (carries the place of a failure out of a transaction)
    """A function failed on the event at that index."""

    def __init__(self, index: int) -> None:
        self.index = index


class TableFollower(LeasedFollower):
    """Keeps one build of a projection's tables up to date."""

    def __init__(
        self, store: Store, projection: TableProjection, *, lease: float, fresh: bool = False
    ) -> None:
        build = Build(projection.name, projection.version, 0)
        super().__init__(store, projection.name, projection.of, projection.on_error, build, lease)
        self.projection = projection
        self.is_inline = False
        self._fresh = fresh
        self._physical = build.physical(projection.tables)

    @property
    def is_live(self) -> bool:
        """Whether readers see this build."""
        return self._record.is_live

    @property
    def is_outdated(self) -> bool:
        """Whether somebody has been forgotten since the build was begun."""
        return self._record.is_outdated(self._store.vault)

    @property
    def build(self) -> int:
        """Its number."""
        return self._build.number

    def start(self) -> bool:
        """Take the lease of the newest build of this version, or begin one.

        One that readers don't see yet is left where somebody has been forgotten since.

        Raises `DeclarationError` for a table name that is taken, and for tables that don't have
        the columns that are declared.
        """
        checkpoints = self._store.checkpoints()
        builds = builds_of(checkpoints, self.name)
        check_names(self.projection, checkpoints)
        version, vault = self.projection.version, self._store.vault
        records = {build: record_of(known) for build, known in builds.items()}
        if any(record.is_live and b.version > version for b, record in records.items()):
            return False
        mine = {b.number: records[b] for b in records if b.version == version}
        seen = [n for n in sorted(mine) if mine[n].is_live]
        unfinished = [n for n in sorted(mine) if n not in seen and not mine[n].is_outdated(vault)]
        if self._build.number in seen or self._build.number in unfinished:
            number = self._build.number
        elif self._fresh or not seen:
            number = unfinished[-1] if unfinished else max(mine, default=0) + 1
        else:
            number = seen[0]
        self._build = Build(self.name, version, number)
        self._physical = self._build.physical(self.projection.tables)
        return self._take_lease()

    def _create(self, transaction: EngineTransaction) -> None:
        create_tables(transaction, self.projection, self._build)
        erasures, code = ErasureMark.now(self._store.vault).count, self.projection.code
        self._record = BuildRecord(self.projection.tables, erasures=erasures, code=code)
        self.position = self._kept = 0

    def _begin(self, transaction: EngineTransaction) -> bool:
        if transaction.checkpoint(self._build.record) is not None:
            check_schema(transaction, self.projection, self._build)
        if not super()._begin(transaction):
            return False
        before, code = self._record.code, self.projection.code
        if before != code:
            changed = has_changed(before, code)
            if changed:
                _LOG.warning(
                    "projection %s version %d: its functions have changed since they last worked "
                    "on its rows; if they do something else now, raise its version, or rebuild it",
                    self.name,
                    self.projection.version,
                )
            self._keep(transaction, code=code, is_mixed=self._record.is_mixed or changed)
        return True

    def take(self, page: Page) -> None:
        self._mark_now()
        wanted = self.of.after(self.position)
        asked = stored_query(wanted, self._store.kernel.codec)
        events = events_of_page(page, asked, wanted, self._store.kernel.codec, typed=True)
        until = max(self.position, page.cursor)
        if not events and until - self._kept < _UNKEPT_POSITIONS:
            self.position = until  # nothing to do is not worth a transaction
            return
        try:
            self._take(events, until)
        except Moved:
            self.give_way()

    def _take(self, events: list[RecordedEvent[Any]], until: int) -> None:
        while self.is_active:
            before = self.position, self._kept
            try:
                self._backend.transact(partial(self._apply, events=events, until=until))
            except _Failed as failed:
                self.position, self._kept = before
                first, failure = _whole_position(events, failed.index), failed.__cause__
                if first:
                    self._take(events[:first], events[first].position - 1)
                events = self._without(events[first:], failure)
            except BaseException:
                self.position, self._kept = before
                raise
            else:
                self._pace.add(len(events))
                return

    def _apply(
        self, transaction: EngineTransaction, events: list[RecordedEvent[Any]], until: int
    ) -> None:
        self._check_lease(transaction)
        apply, parked = self.projection.apply, self._parked
        with Tables(transaction, self._physical) as tables:
            for index, event in enumerate(events):
                if parked and event.stream in parked:
                    self._park(transaction, event, None)
                    continue
                try:
                    apply(tables, event)
                except Exception as error:
                    if not is_its_own(error):
                        raise
                    raise _Failed(index) from error
        self.position = until
        self._keep(transaction, rate=self._pace.rate)

    def _without(
        self, events: list[RecordedEvent[Any]], failure: BaseException | None
    ) -> list[RecordedEvent[Any]]:
        """Try the first event's position again, and leave it out if the policy says so.

        Returns the events after it; nothing where the projection has halted.
        """
        position = events[0].position
        these = [event for event in events if event.position == position]
        for attempt in range(self.on_error.retries):
            sleep(self._pause(attempt))
            try:
                self._backend.transact(partial(self._apply, events=these, until=position))
            except _Failed as failed:
                failure = failed.__cause__
                self._renew()
            else:
                return events[len(these) :]
        if self.on_error.then == "halt":
            self._halt(position, failure)
            return []
        self._leave_out(these[0], failure)
        return events[len(these) :]

    def _check_lease(self, transaction: EngineView) -> None:
        """Inline, appends move the position, and no lease is held: nobody else's may be, either."""
        if not self.is_inline:
            super()._check_lease(transaction)
            return
        known = transaction.checkpoint(self._build.record)
        if known is None or not self._is_free(record_of(known)):
            raise Moved

    def retry(self) -> int:
        """Apply the parked events, each stream's in order; how many are parked after that."""
        failed: set[str] = set()
        self._mark_now()
        for parked in self.parked():
            if parked.stream in failed:
                continue
            at = self.of.after(parked.position - 1).up_to(parked.position)
            events = [event for event in self._store.read(at)]
            try:
                unpark = partial(self._unpark, events=events, position=parked.position)
                self._backend.transact(unpark)
            except _Failed as failure:
                failed.add(parked.stream)
                why = self._stored(failure.__cause__)
                again = msgspec.structs.replace(parked, error=why, at=from_micros(now_micros()))
                self._backend.transact(partial(self._park_again, parked=again))
        left = self.parked()
        if not self.is_inline:  # there, each append looks for itself
            self._parked = {parked.stream for parked in left}
        return len(left)

    def _count_skipped(self, transaction: EngineTransaction, more: int) -> None:
        """Inline, appends keep the position and the record: only the count is changed."""
        if not self.is_inline:
            super()._count_skipped(transaction, more)
            return
        known = transaction.checkpoint(self._build.record)
        if known is None:
            raise Moved
        record = record_of(known)
        counted = msgspec.structs.replace(record, skipped=record.skipped + more)
        transaction.save_checkpoint(kept(self._build, known.position, counted), local=True)

    def _unpark(
        self, transaction: EngineTransaction, events: list[RecordedEvent[Any]], position: int
    ) -> None:
        self._check_lease(transaction)
        with Tables(transaction, self._physical) as tables:
            for index, event in enumerate(events):
                try:
                    self.projection.apply(tables, event)
                except Exception as error:
                    if not is_its_own(error):
                        raise
                    raise _Failed(index) from error
        transaction.delete_checkpoint(f"{self._build.parked}{position}", local=True)

    def _park_again(self, transaction: EngineTransaction, parked: ParkedEvent) -> None:
        self._check_lease(transaction)
        transaction.save_checkpoint(parked_checkpoint(self._build, parked), local=True)

    def stay(self, *, at_end: bool) -> None:
        """Keep the lease; and once at the end, let readers see this build."""
        if self.is_outdated and not self._record.is_live:
            self.stop()  # to begin anew
        elif at_end and not self._record.is_live:
            self._go_live()
        else:
            self._renew()

    def _go_live(self) -> None:
        """Take the place of older builds, unless one has gone on meanwhile: never back in time."""
        try:
            purges = self._backend.transact(self._replace)
        except Moved:
            self.give_way()
            return
        if purges:
            self._store.kernel.purge()

    def _replace(self, transaction: EngineTransaction) -> bool:
        """Whether the older builds knew somebody who has been forgotten."""
        self._check_lease(transaction)
        older = {
            build: known
            for build, known in builds_of(transaction.checkpoints(RECORDS), self.name).items()
            if build != self._build and build.version <= self._build.version
        }
        further = [known.position for known in older.values() if record_of(known).is_live]
        if self.position < max(further, default=0) <= newest_position(transaction):
            return False
        switch(transaction, self._build, self.projection.tables)
        for build, known in older.items():
            retire(transaction, build, record_of(known), self.projection.tables)
        self._keep(transaction, is_live=True)
        mine = self._record.erasures
        return any(record_of(known).erasures < mine for known in older.values())

    def inline(self, transaction: EngineTransaction) -> None:
        """What is run in each append's transaction: come to its end, or refuse it.

        Raises `InlineError`.
        """
        known = transaction.checkpoint(self._build.record) or self._live(transaction)
        if known is None:
            return
        self._mark_now()
        record, position = record_of(known), known.position
        if self.on_error.then == "park":  # others may have parked and retried meanwhile
            parked = parked_of(transaction.checkpoints(self._build.parked), self._build)
            self._parked = {event.stream for event in parked}
        while True:
            wanted = self.of.after(position)
            asked = stored_query(wanted, self._store.kernel.codec)
            page = transaction.read(asked, PAGE_EVENTS)
            if page.end and page.cursor == position:
                self._check_end_inline(transaction, position)
            events = events_of_page(page, asked, wanted, self._store.kernel.codec, typed=True)
            for these in by_position(events):
                if not self._take_inline(transaction, these):
                    record = msgspec.structs.replace(record, skipped=record.skipped + 1)
            position = page.cursor
            if page.end:
                break
        transaction.save_checkpoint(kept(self._build, position, record), local=True)

    def _check_end_inline(self, transaction: EngineTransaction, position: int) -> None:
        """Raises `InlineError` where it stands after the newest event: it would miss what comes."""
        end = newest_position(transaction)
        if end < position:
            beyond = BeyondEndError(f"projection {self.name}", position, end)
            raise InlineError(self.name, end, str(beyond)) from beyond

    def adopt(self) -> bool:
        """Find the build that readers see, whoever works on it; False where there is none yet."""
        return self._backend.transact(self._live) is not None

    def _live(self, transaction: EngineTransaction) -> Checkpoint | None:
        """The build that took the place of this one, elsewhere; None where its code is newer."""
        for build, known in builds_of(transaction.checkpoints(RECORDS), self.name).items():
            if record_of(known).is_live and build.version == self._build.version:
                self._build, self._record = build, record_of(known)
                self._physical = build.physical(self.projection.tables)
                return known
        return None

    def _take_inline(
        self, transaction: EngineTransaction, these: Sequence[RecordedEvent[Any]]
    ) -> bool:
        """Apply the events of one position, all or none; False where they are skipped."""
        event = these[0]
        if event.stream in self._parked:
            self._park(transaction, event, None)
            return True
        transaction.execute("SAVEPOINT everwhen_inline")
        try:
            with Tables(transaction, self._physical) as tables:
                for one in these:
                    self.projection.apply(tables, one)
        except Exception as error:
            if not is_its_own(error):
                raise
            if self.on_error.then == "halt":
                raise InlineError(self.name, event.position, self._shown(error)) from error
            transaction.execute("ROLLBACK TO everwhen_inline")
            if self.on_error.then == "skip":
                return False
            self._park(transaction, event, self._stored(error))
            self._parked.add(event.stream)
        finally:
            transaction.execute("RELEASE everwhen_inline")
        return True


def _whole_position(events: Sequence[RecordedEvent[Any]], index: int) -> int:
    """The first index with the position of the event at this one: an upcast may have split it."""
    while index and events[index - 1].position == events[index].position:
        index -= 1
    return index
