"""A build of a read model made again in a database of its own, and compared with the one kept.

It takes the same events, in the same order, without those that are parked. The store is read page
by page; only the comparison itself looks at one moment of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from everwhen.backends._async.concurrency import aside
from everwhen.backends.engine import EngineView, Scratch
from everwhen.codec.commits import stored_query
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.projections.code_fingerprints import has_changed
from everwhen.projections.derived_checks import row_problems, schema_problems
from everwhen.projections.projections import TableProjection, Tables, is_its_own
from everwhen.store._async.store import Store
from everwhen.store.page_decoding import by_position, events_of_page
from everwhen.store.projection_records import Build, BuildRecord, parked_of, record_of
from everwhen.vocabulary.contract import Checkpoint, CheckProgress, Page, Problem
from everwhen.vocabulary.paging import PAGE_EVENTS, next_page
from everwhen.vocabulary.query import Query

_LAST_POSITIONS: Final = 5_000  # applied inside the look that compares: a moment of work

CheckListener: TypeAlias = Callable[[CheckProgress], None]


class ReworkedError(Exception):
    """The build isn't what it was when the comparison began."""


class OutdatedError(Exception):
    """The build knows somebody who has been forgotten since."""


class FailedError(Exception):
    """A projection's function failed at that position, which it had passed before."""

    def __init__(self, position: int) -> None:
        self.position = position


class Rebuild:
    """A build's tables, made again in a database of their own."""

    def __init__(
        self, store: Store, projection: TableProjection, build: Build, progress: CheckListener
    ) -> None:
        self._store = store
        self._projection = projection
        self._build = build
        self._progress = progress
        self._position = 0
        self._parked: set[int] = set()
        self._busy = threading.Lock()  # a task that is cancelled leaves a thread at work
        self._physical = build.physical(projection.tables)
        self._scratch: Scratch = store.kernel.backend.scratch()

    def close(self) -> None:
        """Delete it, once nobody works on it any more."""
        self._scratch.interrupt()
        with self._busy:
            self._scratch.close()

    async def problems(self) -> list[Problem]:
        """In what the build differs from what its projection makes of the same events.

        Raises `ReworkedError` where somebody else rebuilds or retries meanwhile, `OutdatedError`
        where it can't be compared, and `FailedError`.
        """
        known = await self._store.checkpoint(self._build.record)
        if known is None:
            return []
        if record_of(known).is_outdated(self._store.vault):
            raise OutdatedError
        self._parked = _positions(await self._store.checkpoints(), self._build)
        await aside(self._begin)
        while True:
            await self._come_to(known.position)
            found = await self._store.kernel.backend.view(self._compared)
            if found is not None:
                return found
            known = await self._store.checkpoint(self._build.record)
            if known is None:
                return []

    def _begin(self) -> None:
        with self._busy:
            for sql in self._projection.schema:
                self._scratch.execute(self._physical(sql))

    async def _come_to(self, position: int) -> None:
        """Take the events up to a position, a page at a time; no lock is held."""
        wanted = self._projection.of.after(self._position).up_to(position)
        asked = stored_query(wanted, self._store.kernel.codec)
        while self._position < position:
            page = await self._store.kernel.backend.read(asked, PAGE_EVENTS)
            await aside(self._take, page, asked, wanted)
            self._position = position if page.end else page.cursor
            asked = next_page(asked, page)
            self._progress(CheckProgress(self._build.projection, self._position, position))

    def _take(self, page: Page, asked: Query, wanted: Query) -> None:
        with self._busy:
            self._take_in(events_of_page(page, asked, wanted, self._store.kernel.codec, typed=True))

    def _take_in(self, events: Iterable[RecordedEvent[Any]]) -> None:
        """Let the events take effect that took effect before, each position's as a whole."""
        scratch = self._scratch
        with scratch.transaction():
            for these in by_position(events):
                if these[0].position in self._parked:
                    continue
                try:
                    with scratch.transaction(), Tables(scratch, self._physical) as tables:
                        for event in these:
                            self._projection.apply(tables, event)
                except Exception as error:
                    if not is_its_own(error):
                        raise
                    if self._projection.on_error.then == "halt":
                        raise FailedError(these[0].position) from error

    def _compared(self, view: EngineView) -> list[Problem] | None:
        """The differences, at one moment; None where it has gone on too far since.

        A few events that have taken effect meanwhile are taken first.
        """
        known = view.checkpoint(self._build.record)
        if known is None:
            return []
        record = record_of(known)
        parked = _positions(view.checkpoints(self._build.parked), self._build)
        before = {position for position in parked if position <= self._position}
        if known.position < self._position or before != self._parked:
            raise ReworkedError
        if known.position - self._position > _LAST_POSITIONS:
            return None
        self._parked = parked
        with self._busy:
            self._catch_up(view, known.position)
            stored, rebuilt, projection = view, self._scratch, self._projection
            return [
                *schema_problems(stored, rebuilt, self._build, projection),
                *row_problems(
                    stored,
                    rebuilt,
                    self._build,
                    projection,
                    self._hint(record),
                    shows_values=self._store.vault is None,
                ),
            ]

    def _catch_up(self, view: EngineView, position: int) -> None:
        while self._position < position:
            wanted = self._projection.of.after(self._position).up_to(position)
            asked = stored_query(wanted, self._store.kernel.codec)
            page = view.read(asked, PAGE_EVENTS)
            self._take_in(events_of_page(page, asked, wanted, self._store.kernel.codec, typed=True))
            self._position = position if page.end else page.cursor

    def _hint(self, record: BuildRecord) -> str:
        """What else than somebody's hand may have made rows differ."""
        if record.is_mixed or has_changed(record.code, self._projection.code):
            return "its functions have changed since they worked on them; rebuild it"
        if self._projection.on_error.then != "halt":
            return (
                "they were altered, or events took effect out of order, after having been parked "
                "or left out; rebuild it"
            )
        return (
            "they were altered, or its functions don't give the same each time they are called; "
            "rebuild it"
        )


def _positions(checkpoints: Iterable[Checkpoint], build: Build) -> set[int]:
    """Where the events stand that a build has parked."""
    return {event.position for event in parked_of(checkpoints, build)}
