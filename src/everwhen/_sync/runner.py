# Generated from src/everwhen/_async/runner.py by tools/unasync.py: edit that, then run `make sync`.
"""The runner: one reader of the log, and many projections that follow it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from everwhen._sync.followers import Follower, StateFollower, TableFollower
from everwhen._sync.seam import Background, Lock, sleep
from everwhen._sync.store import Store
from everwhen.commits import stored_query
from everwhen.contract import Page
from everwhen.errors import (
    DeclarationError,
    EverwhenError,
    StaleError,
    StorageError,
    StoreClosedError,
)
from everwhen.projections import (
    ParkedEvent,
    Projection,
    ProjectionStatus,
    TableProjection,
    builds_of,
    record_of,
    statuses_of,
)
from everwhen.query import Query
from everwhen.reading import PAGE_EVENTS

S = TypeVar("S")
T = TypeVar("T")

_LOG: Final = logging.getLogger("everwhen")
_PATIENCE: Final = 0.25
_LOOK: Final = 0.005


class ProjectionRunner:
    """Keeps projections up to date: as a context manager in the background, or with `catch_up`.

    The log is read once for all that stand at the same place. Those in memory are each process's
    own. Those in tables are kept by one runner at a time, over all processes: the others stand by,
    and one takes over when the lease of ``lease`` seconds has run out (at once, where the runner
    was closed). ``inline`` names table projections that are kept in each append's own transaction
    instead, as long as this runner is entered: they are never behind what this process writes,
    and an event that they fail on is refused.

    A version of a table projection that readers don't see yet catches up beside the one they see.
    """

    def __init__(
        self,
        store: Store,
        projections: Iterable[Projection[Any] | TableProjection],
        *,
        inline: Iterable[TableProjection] = (),
        lease: float = 5.0,
    ) -> None:
        self.store = store
        self._lease = lease
        self._inline = list(inline)
        self._attached: list[TableFollower] = []
        self._followers: dict[str, StateFollower[Any] | TableFollower] = {}
        self._beside: list[TableFollower] = []
        self._lock = Lock()
        self._closed = False
        self._background: Background | None = None
        self._looked = 0.0
        for projection in [*projections, *self._inline]:
            follower = self._follower(projection)
            if follower.name in self._followers:
                raise DeclarationError(f"there are two projections {follower.name!r}; keep one")
            self._followers[follower.name] = follower

    def _follower(
        self, projection: Projection[Any] | TableProjection
    ) -> StateFollower[Any] | TableFollower:
        if isinstance(projection, TableProjection):
            if not self.store.capabilities.sql:
                raise DeclarationError(
                    f"projection {projection.name!r} keeps tables, and the "
                    f"{self.store.capabilities.name} backend has no SQL; use a fold's Projection"
                )
            return TableFollower(self.store, projection, lease=self._lease)
        if isinstance(projection, Projection):
            return StateFollower(self.store, projection)
        raise DeclarationError(f"{projection!r}: give a Projection or a TableProjection")

    def run(self) -> None:
        """Follow until closed.

        Raises `ProjectionError` once every projection has halted, and what goes wrong for good.
        While the store is busy or can't be read, it tries again.
        """
        pause = 0.0
        try:
            while not self._closed:
                try:
                    with self._lock:
                        moved = self._step()
                    pause = 0.0
                    if not moved:
                        self._wait()
                except StoreClosedError:
                    return
                except StorageError as error:
                    pause = min(pause * 2 or 0.05, 2.0)
                    _LOG.warning("projections wait for the store: %s", error)
                    sleep(pause)
        finally:
            self._stop()

    def catch_up(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Follow until everything that is in the store now has been taken.

        ``progress`` is called with the position that the last one has come to, and the goal. A
        projection that another runner works on is waited for. Raises `ProjectionError` where one
        has halted.
        """
        goal = (self.store.head()).position
        while True:
            with self._lock:
                moved = self._step()
            positions = [self._position(name) for name in self._followers]
            for follower in self._followers.values():
                if follower.error is not None:
                    raise follower.error
            if progress is not None:
                progress(min([goal, *(f.position for f in self._everyone())]), goal)
            if min(positions, default=goal) >= goal:
                return
            if not moved:
                sleep(_LOOK)

    def _position(self, name: str) -> int:
        """How far a projection is, whoever works on it; 0 where readers don't see it yet."""
        follower = self._followers[name]
        if isinstance(follower, StateFollower):
            return follower.position if follower.is_active else 0
        if follower.is_active and follower.is_live:
            return follower.position
        builds = builds_of(self.store.checkpoints(), name)
        current = [
            checkpoint.position
            for build, checkpoint in builds.items()
            if build.version >= follower.projection.version and record_of(checkpoint).is_live
        ]
        return max(current, default=0)

    def _step(self) -> bool:
        """Start who may start, let those who are furthest behind take a page; False at the end."""
        self._start()
        active = [follower for follower in self._everyone() if follower.is_active]
        if not active:
            halted = [follower.error for follower in self._followers.values() if follower.error]
            if halted and len(halted) == len(self._followers):
                raise halted[0]
            return False
        low = min(follower.position for follower in active)
        behind = [follower for follower in active if follower.position == low]
        ahead = min((f.position for f in active if f.position > low), default=None)
        page = self._page(behind, low, ahead)
        for follower in behind:
            follower.take(page)
        at_end = page.end and ahead is None
        for follower in active:
            if follower.is_active:
                follower.stay(at_end=at_end)
        self._settle()
        return not at_end or page.cursor > low

    def _page(self, behind: Sequence[Follower], low: int, ahead: int | None) -> Page:
        selectors = {selector for follower in behind for selector in follower.of.selectors}
        whole = Query().selectors[0]
        query = Query((whole,) if whole in selectors else tuple(selectors)).after(low)
        if ahead is not None:
            query = query.up_to(ahead)
        asked = stored_query(query, self.store._codec)
        return self.store._backend.read(asked, PAGE_EVENTS)

    def _everyone(self) -> Sequence[Follower]:
        return [f for f in self._followers.values() if f not in self._attached] + [*self._beside]

    def _start(self) -> None:
        """Start those who wait for a lease, every now and then."""
        if time.monotonic() - self._looked < self._lease / 4:
            return
        self._looked = time.monotonic()
        for follower in self._everyone():
            if not follower.is_active and follower.error is None:
                follower.start()

    def _settle(self) -> None:
        """Put builds that have become live in their place, and attach what is kept inline."""
        for built in [follower for follower in self._beside if follower.is_live]:
            self._beside.remove(built)
            self._followers[built.name].stop()
            self._followers[built.name] = built
        for projection in self._inline:
            follower = self._followers[projection.name]
            if not isinstance(follower, TableFollower) or follower in self._attached:
                continue
            if follower.is_active and follower.is_live:
                self.store._backend.attach(follower.inline)
                self._attached.append(follower)
                follower.stop()

    def _wait(self) -> None:
        positions = [f.position for f in self._everyone() if f.is_active]
        if positions:
            self.store._backend.wait(max(positions), min(_PATIENCE, self._lease / 4))
        else:
            sleep(min(_PATIENCE, self._lease / 4))

    def ask(self, projection: Projection[S], question: Callable[[S], T]) -> tuple[T, int]:
        """What a function says of a state in memory, and the position that it holds at.

        Raises `StaleError` before the state is loaded.
        """
        follower = self._followers.get(projection.name)
        if not isinstance(follower, StateFollower) or follower.projection is not projection:
            raise DeclarationError(f"{projection!r} is not among this runner's projections")
        if not follower.is_active and follower.error is None:
            raise StaleError(projection.name, 0, "its state, which is not loaded yet")
        return follower.ask(question)

    def rebuild(
        self,
        projection: TableProjection,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Build a table projection anew beside what readers see, and switch when it has caught up.

        A rebuild that was interrupted goes on where it was. ``progress`` is called with the
        position it has come to and the newest one. Raises `ProjectionError` where it halts.
        """
        if projection.name not in self._followers:
            raise DeclarationError(f"{projection!r} is not among this runner's projections")
        if projection in self._inline:
            raise DeclarationError(f"{projection!r} is inline; rebuild it by a runner that follows")
        built = TableFollower(self.store, projection, lease=self._lease, fresh=True)
        with self._lock:
            built.start()
            self._beside.append(built)
        while not built.is_live:
            if built.error is not None:
                self._beside.remove(built)
                raise built.error
            with self._lock:
                moved = self._step()
            if progress is not None:
                progress(built.position, (self.store.head()).position)
            if not moved:
                sleep(_LOOK)

    def parked(self, projection: Projection[Any] | TableProjection) -> list[ParkedEvent]:
        """The events that a projection has left out for later, in order."""
        return self._known(projection).parked()

    def retry_parked(self, projection: Projection[Any] | TableProjection) -> int:
        """Try the parked events again, each stream's in order; how many are still parked then.

        Raises `StaleError` where another runner works on the projection.
        """
        follower = self._known(projection)
        with self._lock:
            if not follower.is_active and not follower.start():
                raise StaleError(projection.name, 0, "its lease, which another runner has")
            return follower.retry()

    def _known(
        self, projection: Projection[Any] | TableProjection
    ) -> StateFollower[Any] | TableFollower:
        follower = self._followers.get(projection.name)
        if follower is None:
            raise DeclarationError(f"{projection!r} is not among this runner's projections")
        return follower

    def status(self) -> list[ProjectionStatus]:
        """Where each projection of this runner stands, and each build of theirs."""
        head = (self.store.head()).position
        tables = statuses_of(self.store.checkpoints(), head)
        found = [status for status in tables if status.name in self._followers]
        states = [f for f in self._followers.values() if isinstance(f, StateFollower)]
        return found + [follower.status(head) for follower in states]

    def close(self) -> None:
        """Stop following, and give way to others."""
        self._closed = True
        if self._background is not None:
            background, self._background = self._background, None
            background.join()
        self._stop()

    def _stop(self) -> None:
        for attached in self._attached:
            self.store._backend.detach(attached.inline)
        self._attached.clear()
        for follower in self._everyone():
            try:
                follower.stop()
            except EverwhenError as error:
                _LOG.warning("projection %s did not stop properly: %s", follower.name, error)

    def __enter__(self) -> ProjectionRunner:
        with self._lock:
            self._start()
        self._background = Background(self.run)
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()
