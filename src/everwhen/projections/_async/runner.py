"""The runner: one reader of the log, and many projections that follow it."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from everwhen.backends._async.concurrency import sleep
from everwhen.projections._async.followers import Follower, Moved
from everwhen.projections._async.log_following import Following
from everwhen.projections._async.memory_projections import StateFollower
from everwhen.projections._async.statuses import projection_statuses
from everwhen.projections._async.table_projections import TableFollower
from everwhen.projections.projections import Projection, TableProjection
from everwhen.store._async.store import Store
from everwhen.store.projection_records import ParkedEvent, ProjectionStatus, builds_of, record_of
from everwhen.system.limits import LOOK_SECONDS, NEWS_SECONDS
from everwhen.vocabulary.errors import DeclarationError, InlineError, LeaseError

S = TypeVar("S")
T = TypeVar("T")

_LOG: Final = logging.getLogger("everwhen")


class ProjectionRunner(Following):
    """Keeps projections up to date: as a context manager in the background, or with `catch_up`.

    The log is read once for all that stand at the same place. Those in memory are each process's
    own. Those in tables are kept by one runner at a time, over all processes: the others stand by,
    and one takes over when the lease of ``lease`` seconds has run out (at once, where the runner
    was closed). ``inline`` names table projections that are kept in each append's own transaction
    instead, once this runner has caught up and until it is closed: they are never behind what this
    process writes. An event that they fail on is refused with `InlineError`, unless ``on_error``
    says to skip or to park it.

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
        super().__init__(store, lease)
        self._inline = list(inline)
        self._attached: list[TableFollower] = []
        self._followers: dict[str, StateFollower[Any] | TableFollower] = {}
        self._beside: list[TableFollower] = []
        self._brought = 0.0
        for projection in [*projections, *self._inline]:
            follower = self._follower(projection)
            if follower.name in self._followers:
                raise DeclarationError(f"there are two projections {follower.name!r}; keep one")
            self._followers[follower.name] = follower

    @property
    def projections(self) -> dict[str, Projection[Any] | TableProjection]:
        """Its projections, by name, also those that are kept inline."""
        return {name: follower.projection for name, follower in self._followers.items()}

    def is_inline(self, projection: Projection[Any] | TableProjection) -> bool:
        """Whether a projection is kept in each append's own transaction, once it has caught up."""
        return projection in self._inline

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

    async def _lag_behind(self, goal: int) -> bool:
        if self._attached:
            await self._bring_up()
        if any(True for _ in self._outdated()):
            return True
        behind = min([await self._position(name) for name in self._followers], default=goal)
        return behind < goal or len(self._attached) < len(self._inline)

    async def _bring_up(self) -> None:
        """Let inline projections take what other processes wrote. Raises `InlineError`."""
        self._brought = time.monotonic()
        head = (await self.store.head()).position
        for follower in self._attached:
            if await self._position(follower.name) < head:
                await self.store.kernel.backend.transact(follower.inline)

    async def _position(self, name: str) -> int:
        """How far a projection is, whoever works on it; 0 where readers don't see it yet.

        Raises `LeaseError` where readers see a newer version.
        """
        follower = self._followers[name]
        if isinstance(follower, StateFollower):
            return follower.position if follower.is_active else 0
        if follower.is_active and follower.is_live:
            return follower.position
        builds = builds_of(await self.store.checkpoints(), name)
        live = {b.version: kept for b, kept in builds.items() if record_of(kept).is_live}
        if max(live, default=0) > follower.projection.version:
            raise LeaseError(name)
        mine = live.get(follower.projection.version)
        return 0 if mine is None else mine.position

    def _all(self) -> Iterable[Follower]:
        return self._followers.values()

    def _everyone(self) -> Sequence[Follower]:
        return [f for f in self._followers.values() if f not in self._attached] + [*self._beside]

    async def _settle(self) -> None:
        """Put builds that have become live in their place, and attach what is kept inline."""
        await self._settle_builds()
        for projection in self._inline:
            follower = self._followers[projection.name]
            if not isinstance(follower, TableFollower) or follower in self._attached:
                continue
            ready = follower.is_live if follower.is_active else await follower.adopt()
            if ready:
                await self.store.kernel.backend.attach(follower.inline)
                self._attached.append(follower)
                await follower.stop()
                follower.is_inline = True
        if self._attached and time.monotonic() - self._brought > NEWS_SECONDS:
            try:
                await self._bring_up()
            except InlineError as error:
                _LOG.error("%s", error)
            except LeaseError as error:
                _LOG.info("%s", error)

    async def _settle_builds(self) -> None:
        """Put builds that have become live in their place; begin those that erasures ask for."""
        for built in [follower for follower in self._beside if follower.is_live]:
            self._beside.remove(built)
            before = self._followers[built.name]
            if isinstance(before, TableFollower) and before in self._attached:
                await self.store.kernel.backend.detach(before.inline)
                self._attached.remove(before)
            await before.stop()
            self._followers[built.name] = built
        for known in [*self._outdated()]:
            if all(built.name != known.name for built in self._beside):
                built = TableFollower(self.store, known.projection, lease=self._lease, fresh=True)
                if await built.start():
                    self._beside.append(built)

    def _outdated(self) -> Iterator[TableFollower]:
        """Those whose readers see what was known of somebody before they were forgotten."""
        for follower in self._followers.values():
            if not isinstance(follower, TableFollower) or not follower.is_live:
                continue
            if follower.is_outdated and (follower.is_active or follower in self._attached):
                yield follower

    async def ask(self, projection: Projection[S], question: Callable[[S], T]) -> tuple[T, int]:
        """What a function says of a state in memory, and the position that it holds at.

        Raises `StaleError` before the state is loaded.
        """
        follower = self._followers.get(projection.name)
        if not isinstance(follower, StateFollower) or follower.projection is not projection:
            raise DeclarationError(f"{projection!r} is not among this runner's projections")
        return await follower.ask(question)

    async def rebuild(
        self,
        projection: TableProjection,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Build a table projection anew beside what readers see, and switch when it has caught up.

        A rebuild that was interrupted goes on where it was, and so does the first build where it
        hasn't caught up yet. ``progress`` is called with the
        position it has come to and the newest one. Raises `ProjectionError` where it halts, and
        `LeaseError` where another runner builds it, or readers see a newer version already.
        """
        if projection.name not in self._followers:
            raise DeclarationError(f"{projection!r} is not among this runner's projections")
        if projection in self._inline:
            raise DeclarationError(f"{projection!r} is inline; rebuild it by a runner that follows")
        async with self._lock:
            built = self._being_built(projection.name)
            if built is None:
                built = TableFollower(self.store, projection, lease=self._lease, fresh=True)
                if not await built.start():
                    raise LeaseError(projection.name)
                self._beside.append(built)
        try:
            while not built.is_live and built.error is None:
                async with self._lock:
                    moved = await self._step()
                if progress is not None:
                    progress(built.position, (await self.store.head()).position)
                if not moved:
                    await sleep(LOOK_SECONDS)
        finally:
            if built in self._beside:
                self._beside.remove(built)
                await built.stop()
        if built.error is not None:
            raise built.error

    def _being_built(self, name: str) -> TableFollower | None:
        """The build of that name that this runner is at work on and readers don't see yet."""
        for known in [*self._beside, self._followers[name]]:
            if not isinstance(known, TableFollower) or known.name != name:
                continue
            if known.is_active and not known.is_live:
                return known
        return None

    async def parked(self, projection: Projection[Any] | TableProjection) -> list[ParkedEvent]:
        """The events that a projection has left out for later, in order."""
        return await self._known(projection).parked()

    async def retry_parked(self, projection: Projection[Any] | TableProjection) -> int:
        """Try the parked events again, each stream's in order; how many are still parked then.

        Raises `LeaseError` where another runner works on the projection.
        """
        async with self._at_work(projection) as follower:
            return await follower.retry()

    async def skip_parked(self, projection: Projection[Any] | TableProjection) -> int:
        """Leave the parked events out for good; how many those were.

        They count as skipped from then on, and later events of their streams are taken again. A
        rebuild tries all events anew, and so does a `Projection`, which is in memory, when it is
        started. Raises `LeaseError` where another runner works on the projection.
        """
        async with self._at_work(projection) as follower:
            return await follower.skip()

    @asynccontextmanager
    async def _at_work(
        self, projection: Projection[Any] | TableProjection
    ) -> AsyncIterator[StateFollower[Any] | TableFollower]:
        """The projection's follower, with its lease. Raises `LeaseError`."""
        follower = self._known(projection)
        async with self._lock:
            is_ready = follower.is_active or follower in self._attached
            if not is_ready and not await follower.start():
                raise LeaseError(projection.name)
            try:
                yield follower
            except Moved:
                await follower.stop()
                raise LeaseError(projection.name) from None

    def _known(
        self, projection: Projection[Any] | TableProjection
    ) -> StateFollower[Any] | TableFollower:
        follower = self._followers.get(projection.name)
        if follower is None:
            raise DeclarationError(f"{projection!r} is not among this runner's projections")
        return follower

    async def status(self) -> list[ProjectionStatus]:
        """Where each projection of this runner stands, and each build of theirs."""
        tables = [s for s in await projection_statuses(self.store) if s.kind == "projection"]
        found = [status for status in tables if status.name in self._followers]
        states = [f for f in self._followers.values() if isinstance(f, StateFollower)]
        head = (await self.store.head()).position
        return found + [await follower.status(head) for follower in states]

    async def _stop(self) -> None:
        for attached in self._attached:
            await self.store.kernel.backend.detach(attached.inline)
            attached.is_inline = False
        self._attached.clear()
        await super()._stop()

    async def __aenter__(self) -> ProjectionRunner:
        await self._begin()
        return self
