"""States by snapshot and the events after it."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

import msgspec

from everwhen.backends.engine import EngineTransaction
from everwhen.privacy.erasure_marks import ErasureMark
from everwhen.privacy.failure_texts import shown_failure
from everwhen.state.fold import Fold
from everwhen.state.snapshots import (
    NOTHING,
    START,
    Adaptive,
    Loaded,
    OutdatedSnapshotError,
    Place,
    ReplayCost,
    Retention,
    SnapshotStrategy,
    check_strategy,
    is_first_refusal,
    joined,
    opened,
    sealed,
    subject_of,
    surplus,
)
from everwhen.store._async.store import Store, check_store
from everwhen.store.page_decoding import place_of_event, with_page
from everwhen.vocabulary.contract import Snapshot
from everwhen.vocabulary.errors import DeclarationError, SnapshotError, StorageError
from everwhen.vocabulary.query import Query, query_of

S = TypeVar("S")

_LOG: Final = logging.getLogger("everwhen")
_ALL_SNAPSHOTS: Final = 1 << 31  # a limit that none reaches
_SNAPSHOTS_AT_ONCE: Final = 16  # once the newest has failed, others probably fail too
_BY_DEFAULT: Final = Adaptive()
_KEPT: Final = Retention()


class Repository(Generic[S]):
    """A fold's states over a store: of a stream, or of whatever a query gives.

    ``load`` takes the newest snapshot that can be believed and the events after it; one that is
    damaged, of another version of the fold, or ahead of its log is ignored, with a warning in the
    log named ``everwhen``. After a load that was slow by the strategy's measure, `snapshot_if_due`
    takes the next one. ``retention`` says how many are kept.
    """

    def __init__(
        self,
        store: Store,
        fold: Fold[S],
        *,
        strategy: SnapshotStrategy = _BY_DEFAULT,
        retention: Retention = _KEPT,
    ) -> None:
        if not isinstance(fold, Fold):
            raise DeclarationError(f"expected a Fold, got {fold!r}")
        self.store = check_store(store)
        self.fold = fold
        self.strategy = check_strategy(strategy)
        self.retention = retention

    def __repr__(self) -> str:
        return f"Repository({self.store!r}, {self.fold!r})"

    @property
    def _known(self) -> Collection[type[Any]]:
        """The classes of events that the store was opened with."""
        return self.store.event_types.current()

    async def load(self, of: Query | str) -> Loaded[S]:
        """The state of a stream, by its name, or of a query's events, up to its bounds.

        With ``as_of``, events are folded in the order in which they occurred, and the state's
        position is that of the one that occurred last. Raises `InvalidQueryError` for a query that
        leaves out what came before.
        """
        query = await self.store.kernel.resolved(query_of(of))
        if query.occurred_until is None and _bounded_by_place(query):
            return await self.replayed(query, await self.newest_snapshot(query))
        subject_of(self.fold, query)  # is there one?
        if query.occurred_until is not None:
            return await self._as_of(query)
        mark = ErasureMark.now(self.store.vault)
        return await self.replayed(query, Loaded.at(START, self.fold.initial(), None, mark))

    async def advance(self, loaded: Loaded[S], of: Query | str) -> Loaded[S]:
        """The state that was loaded of the same query earlier, brought up to now.

        What was loaded stays as it is. It is loaded anew where somebody has been forgotten since.
        """
        query = query_of(of)
        is_as_of = query.occurred_until is not None  # what is recorded late belongs further back
        if is_as_of or loaded.mark.is_outdated:
            return await self.load(query)
        state = self.fold.copied(loaded.state)
        before = msgspec.structs.replace(loaded, state=state, since=NOTHING)
        newer = await self.replayed(query, before)
        if not newer.since.events:
            return msgspec.structs.replace(newer, since=loaded.since)
        since = ReplayCost(
            loaded.since.events + newer.since.events,
            loaded.since.seconds + newer.since.seconds,
            loaded.since.age + newer.since.age,
        )
        return msgspec.structs.replace(newer, since=since)

    async def snapshot_if_due(self, loaded: Loaded[S]) -> bool:
        """Take a snapshot if the strategy says so; whether it was taken.

        One that can't be taken is warned of, for a fold's states once: it costs speed, and
        nothing else.
        """
        if loaded.subject is None or not self.strategy.is_due(loaded.since):
            return False
        try:
            await self.snapshot(loaded)
        except (SnapshotError, StorageError) as error:
            if isinstance(error, StorageError) or is_first_refusal(self.fold):
                why = shown_failure(error, self.store.vault)
                _LOG.warning("no snapshot of %s: %s", loaded.subject, why)
            return False
        return True

    async def snapshot(self, loaded: Loaded[S]) -> None:
        """Take a snapshot of a loaded state, and delete what is more than the retention allows.

        Raises `SnapshotError` for a state that can't be stored, or that is not of a place in
        history (as of an occurred time, or up to a version).
        """
        subject = loaded.subject
        if subject is None or not loaded.position:
            raise SnapshotError(
                "this state has no place in history: load it up to a "
                "position or a recorded time, and once there are events"
            )
        if loaded.mark.is_outdated:
            raise SnapshotError("somebody has been forgotten since this state was loaded")
        new = self.snapshot_of(subject, loaded)
        stored = await self.store.snapshots(subject, limit=_ALL_SNAPSHOTS)
        others: list[Snapshot] = []
        for snapshot in stored:
            if snapshot.position == new.position:
                new = joined(new, snapshot)
            else:
                others.append(snapshot)
        every = sorted([new, *others], key=_position, reverse=True)
        gone = surplus(every, self.store.kernel.snapshot_keys.known(), self.retention)

        def save(transaction: EngineTransaction) -> None:
            transaction.save_snapshot(new)
            if gone:
                transaction.delete_snapshots(subject, gone)

        await self.store.kernel.backend.transact(save)

    def snapshot_of(self, subject: str, loaded: Loaded[S]) -> Snapshot:
        """The snapshot of a loaded state under a name. Raises `SnapshotError`."""
        key = self.store.kernel.snapshot_keys.newest()
        return self.store.kernel.encrypted(
            sealed(self.fold, subject, loaded.state, loaded.place, self._known, key)
        )

    async def delete_snapshots(self, of: Query | str) -> None:
        """Delete every snapshot of a stream's or a query's state."""
        subject = subject_of(self.fold, query_of(of))
        async with self.store.transaction() as transaction:
            await transaction.delete_snapshots(subject)

    async def newest_snapshot(self, of: Query) -> Loaded[S]:
        """The state of the newest snapshot, without the events after it."""
        mark, subject = ErasureMark.now(self.store.vault), subject_of(self.fold, of)
        state, place = await self.from_snapshot(subject, of)
        return Loaded.at(place, state, subject, mark)

    async def from_snapshot(self, subject: str, query: Query) -> tuple[S, Place]:
        """The newest snapshot that can be believed; the initial state where there is none."""
        bound, limit = query.last_position, 1
        while True:
            found = await self.store.snapshots(subject, up_to=bound, limit=limit)
            for snapshot in found:
                try:
                    snapshot = self.store.kernel.decrypted(snapshot)  # noqa: PLW2901
                    keys = self.store.kernel.snapshot_keys.known()
                    state, place = opened(self.fold, snapshot, self._known, keys)
                    if query.max_version is not None and place.version > query.max_version:
                        continue
                    await self._check_place(place)
                except OutdatedSnapshotError as error:
                    _LOG.debug("the snapshot of %s at %d: %s", subject, snapshot.position, error)
                except SnapshotError as error:
                    at, why = snapshot.position, shown_failure(error, self.store.vault)
                    _LOG.warning("the snapshot of %s at %d is ignored: %s", subject, at, why)
                else:
                    return state, place
            if len(found) < limit:
                return self.fold.initial(), START
            bound, limit = found[-1].position - 1, _SNAPSHOTS_AT_ONCE

    async def _check_place(self, place: Place) -> None:
        """Raises `SnapshotError` unless the event that the state ends with is in the store."""
        at = Query().after(place.position - 1).up_to(place.position)
        for stored in (await self.store.kernel.backend.read(at, 1)).slices:
            version = stored.version - (stored.position - place.position)
            if (stored.commit_id, version) == (place.commit_id, place.version):
                return
        raise SnapshotError("it is ahead of its log, or of another history")

    async def _as_of(self, query: Query) -> Loaded[S]:
        mark, began = ErasureMark.now(self.store.vault), time.perf_counter()
        state, order, until = await self.store.kernel.folded_as_of(self.fold, query)
        place = START if order.last is None else place_of_event(order.last)
        since = ReplayCost(order.count, time.perf_counter() - began, timedelta())
        return Loaded(state, place.version, place.position, until, since, place, None, mark)

    async def replayed(self, query: Query, loaded: Loaded[S]) -> Loaded[S]:
        """What was loaded, and the events after it folded in. The state may be changed in place."""
        codec = self.store.kernel.codec
        async for page, asked, wanted in self.store.kernel.pages(query.after(loaded.read_until)):
            loaded = with_page(loaded, page, asked, wanted, codec, self.fold)
        return loaded


def _position(snapshot: Snapshot) -> int:
    return snapshot.position


def _bounded_by_place(query: Query) -> bool:
    """Whether the query's bounds cut its events at one place in their order, as snapshots do."""
    if query.max_version is None:
        return True
    streams = query.selectors[0].streams
    return len(streams) == 1 and query.selectors == Query().stream(*streams).selectors
