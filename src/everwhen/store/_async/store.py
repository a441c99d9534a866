"""The store as applications see it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    Protocol,
    TypeVar,
    overload,
    runtime_checkable,
)
from uuid import UUID

import msgspec

from everwhen.backends._async.backend import Backend, Transaction
from everwhen.backends._async.concurrency import OF_THE_OTHER_FLAVOUR, aside, opens
from everwhen.backends._async.embedded import EmbeddedBackend
from everwhen.backends.branch_records import MAIN, BranchInfo
from everwhen.backends.commit_checks import receipt_of
from everwhen.backends.engine import Engine
from everwhen.backends.locations import check_file, engine_for
from everwhen.backends.sql_connection import SqlConnection
from everwhen.branches._async.branches import SCRATCH
from everwhen.branches.lineage import base_of
from everwhen.codec.commits import Commit, Write, given_id, new_commit_id, stored_query
from everwhen.codec.event_types import EventTypes, declared
from everwhen.codec.pipeline import CodecStep
from everwhen.codec.recorded_events import RecordedEvent, entries_of, recorded_events
from everwhen.privacy.snapshot_keys import SnapshotKeys
from everwhen.privacy.vault import Vault
from everwhen.state.fold import Fold
from everwhen.store._async.erasure import brought_back, carry_out
from everwhen.store._async.kernel import Kernel
from everwhen.store._async.moments import Moments
from everwhen.store._async.replay import replayed
from everwhen.store._async.subscription import Subscription
from everwhen.store.arrow_events import ArrowEvents, check_libraries
from everwhen.store.erasure_records import Erasure, outdated, problems_of
from everwhen.store.record_checks import record_problems
from everwhen.store.replay_parts import By, check_by
from everwhen.store.replay_workers import Runner
from everwhen.store.signed_reads import SignedIndex
from everwhen.store.sql_results import SqlLimits, SqlResult
from everwhen.system.file_backups import (
    BackupListener,
    BackupReport,
    BackupTask,
    check_apart,
    destination,
)
from everwhen.vocabulary.clock import Clock, system_clock
from everwhen.vocabulary.contract import (
    BatchError,
    Capabilities,
    Checkpoint,
    Condition,
    Head,
    Problem,
    Receipt,
    Snapshot,
    StreamInfo,
    TableSize,
)
from everwhen.vocabulary.errors import (
    CorruptStoreError,
    DeclarationError,
    EverwhenError,
    InvalidQueryError,
    OutdatedVaultError,
    StaleReplicaError,
    StorageError,
    UnfinishedErasureError,
    VaultError,
)
from everwhen.vocabulary.events import EventType
from everwhen.vocabulary.metadata import CommitMetadata
from everwhen.vocabulary.microseconds import to_micros
from everwhen.vocabulary.moments import AsOf, Moment
from everwhen.vocabulary.personal_data import Plaintext
from everwhen.vocabulary.query import Query, name_of, query_of
from everwhen.vocabulary.streams import ANY, ExpectedVersion

if TYPE_CHECKING:
    pass

S = TypeVar("S")

EVERYTHING: Final = Query()
_LOG: Final = logging.getLogger("everwhen")
_PAGE_NAMES: Final = 1_000
"""A page of streams or snapshots: names and numbers only, so some 100 KB."""


@opens
async def open_store(
    location: str | os.PathLike[str],
    *,
    events: EventTypes | Iterable[type[Any] | EventType[Any]] = (),
    steps: Sequence[CodecStep] = (),
    vault: Vault | Plaintext | None = None,
    clock: Clock = system_clock,
    read_only: bool = False,
    durable: bool = True,
    busy_timeout: float = 30.0,
) -> Store:
    """Open a store, creating it where there is none.

    ``location`` is a path or ``sqlite:PATH`` for a file, ``memory:`` for nothing but memory,
    ``postgresql://…`` for a database, ``https://…`` for a server's store; a path may also be that
    of a partitioned store, which `everwhen.partitions` makes.
    ``events`` declares the event types; others read as `UnknownEvent`. ``steps`` go between
    events and bytes, see `CodecStep`. ``vault`` has the keys that personal fields are encrypted
    with; event types that have such fields need one, or the explicit ``PLAINTEXT``. It is the
    caller's, to be closed after the store; erasures through another store with the same vault are
    carried out here too, unless ``read_only``. ``busy_timeout``, in seconds, is how long a write
    waits for other processes. ``durable=False`` gives up the sync at each commit: many times faster
    for single appends, and a power loss may take the newest ones.

    Raises `NotAStoreError`, `NewerStoreError`, `CorruptStoreError`, or another `StorageError`, and
    `OutdatedVaultError` for a vault with keys of those whose erasure the store records.
    """
    opening = partial(
        engine_for,
        location,
        clock=clock,
        read_only=read_only,
        durable=durable,
        busy_timeout=busy_timeout,
    )
    return await store_over(
        opening, events=events, steps=steps, vault=vault, clock=clock, read_only=read_only
    )


async def store_over(
    opening: Callable[[], Engine],
    *,
    events: EventTypes | Iterable[type[Any] | EventType[Any]],
    steps: Sequence[CodecStep],
    vault: Vault | Plaintext | None,
    clock: Clock,
    read_only: bool,
) -> Store:
    """A store over the engine that ``opening`` opens; see `open_store`."""
    types = declared(events)
    _check_vault(types, vault)
    engine = opening()
    store = Store(
        EmbeddedBackend(engine),
        events=types,
        steps=steps,
        vault=vault,
        clock=clock,
        place=engine.place,
    )
    try:
        await store._check_vault_is_newest()
        if not read_only:
            await _catch_up_erasures(store)
    except BaseException:
        await store.close()
        raise
    return store


async def _catch_up_erasures(store: Store) -> None:
    """Carry out what was forgotten elsewhere; later, where others are in the way just now."""
    try:
        await store.carry_out_erasures()
    except StorageError as error:
        _LOG.warning("erasures are to be carried out when the store is opened again: %s", error)


def _check_vault(types: EventTypes, vault: Vault | Plaintext | None) -> None:
    personal = types.with_personal_data
    if vault is None and personal:
        raise DeclarationError(
            f"{personal[0]} has personal fields, and the store no vault to encrypt them by; open "
            f"it with vault=Vault(…), or vault=PLAINTEXT to keep them as they are for good"
        )
    if vault is not None and not isinstance(vault, Vault | Plaintext):
        raise DeclarationError(f"vault={vault!r}: give a Vault, or PLAINTEXT")


@runtime_checkable
class SignedLog(Protocol):
    """A log of what was signed of a store, as `everwhen.merkle.MerkleLog` is."""

    @property
    def store(self) -> Store:
        """The store whose log it is."""
        ...

    async def signed_index(self) -> SignedIndex:
        """What reads are checked against: all up to the newest commit that is signed by now.

        Raises `UnprovenError` where the store isn't what was signed.
        """
        ...


async def _index_of(log: SignedLog, store: Store) -> SignedIndex:
    """What was signed of the store. Raises `DeclarationError` for anything but its own log."""
    if not isinstance(log, SignedLog):
        raise DeclarationError(f"proven={log!r:.80}: give the store's MerkleLog")
    if log.store is not store:
        raise DeclarationError(
            f"proven={log!r:.80} is the log of another store; give one made with this store"
        )
    return await log.signed_index()


def check_store(given: object) -> Store:
    """The store. Raises `DeclarationError` for anything else, and for one of the other flavour."""
    if isinstance(given, Store):
        return given
    name = type(given).__name__
    if name == "Opening":
        why = "the store is only being opened; await it first: store = await open_store(…)"
    elif name == "Store":
        why = OF_THE_OTHER_FLAVOUR
    else:
        why = f"expected a store, got {given!r:.80}; open one with open_store(…)"
    raise DeclarationError(why)


class Store:
    """An event store over any backend. Safe to share between threads and tasks.

    Used as a context manager it closes itself.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        events: EventTypes,
        steps: Sequence[CodecStep] = (),
        vault: Vault | Plaintext | None = None,
        clock: Clock = system_clock,
        new_id: Callable[[], bytes] = new_commit_id,
        place: str = "",
    ) -> None:
        _check_vault(events, vault)
        needs_key = not isinstance(vault, Vault) and backend.capabilities.shared_by_processes
        self.kernel = Kernel(
            backend,
            types=events,
            steps=steps,
            vault=vault,
            clock=clock,
            new_id=new_id,
            snapshot_keys=SnapshotKeys(place if needs_key else None),
        )

    @classmethod
    def of(cls, kernel: Kernel) -> Store:
        """A store as its kernel is: for those who extend Everwhen."""
        store = cls.__new__(cls)
        store.kernel = kernel
        return store

    def __repr__(self) -> str:
        return f"Store({self.kernel.backend!r})"

    def _repr_html_(self) -> str | None:
        from everwhen.state.value_html import in_notebook
        from everwhen.store.notebook_card import store_card

        names = [declared.name for declared in self.event_types.current().values()]
        return in_notebook(
            lambda: store_card(
                repr(self.kernel.backend),
                self.capabilities,
                self.branch_info,
                names,
                has_vault=self.vault is not None,
            )
        )

    @property
    def vault(self) -> Vault | None:
        """The vault that has the keys of personal data."""
        return self.kernel.vault

    @property
    def clock(self) -> Clock:
        """What tells the time of commits."""
        return self.kernel.clock

    @property
    def capabilities(self) -> Capabilities:
        """What the backend does beyond the contract."""
        return self.kernel.backend.capabilities

    @property
    def name(self) -> str:
        """The branch's name; ``main`` for the store itself."""
        return MAIN if self.kernel.branch is None else self.kernel.branch.name

    @property
    def branch_info(self) -> BranchInfo | None:
        """The branch that this is, as it stood when it was opened; None for the store itself."""
        return self.kernel.branch

    @property
    def event_types(self) -> EventTypes:
        """The event types this store was opened with."""
        return self.kernel.codec.types

    async def append(
        self,
        stream: str,
        events: Sequence[Any],
        *,
        expected: ExpectedVersion = ANY,
        condition: Condition | None = None,
        commit_id: UUID | None = None,
        metadata: CommitMetadata | None = None,
        connection: object = None,
    ) -> Receipt:
        """Append events to one stream, as one commit; see `commit`."""
        return await self.commit(
            Commit((Write(stream, events, expected),), condition, commit_id, metadata),
            connection=connection,
        )

    async def commit(self, commit: Commit, *, connection: object = None) -> Receipt:
        """Write a commit, all or nothing. When this returns it is durable.

        Raises `ConflictError` where an expected version is wrong, `ConditionError` where the
        condition no longer holds, `CommitIdError` where the id was used for something else,
        `InvalidCommitError` and `InvalidEventError`: nothing was written. After a `StorageError`
        the outcome is open; repeating the commit with the same id is safe.

        ``connection`` is a connection of your own to the database that the store is in: psycopg's
        ``AsyncConnection``, inside a transaction at READ COMMITTED. The commit is then written in
        that transaction, beside your own rows, and is true and durable once you have committed it;
        until then no one else can append. Raises `UnsupportedError` on other databases than
        PostgreSQL, and `DeclarationError` for any other connection.
        """
        (outcome,) = await self.kernel.write((self.kernel.encoded(commit),), connection)
        if isinstance(outcome, EverwhenError):
            raise outcome
        return outcome

    async def commit_batch(
        self, commits: Iterable[Commit], *, connection: object = None
    ) -> list[Receipt]:
        """Write many commits, each on its own terms, made durable together.

        Raises `BatchError` where some were refused, after all others have been written. An
        invalid event or commit is found before anything is written. ``connection`` as in `commit`.
        """
        batch = [self.kernel.encoded(commit) for commit in commits]
        if not batch:
            return []
        outcomes = await self.kernel.write(batch, connection)
        receipts = [o for o in outcomes if isinstance(o, Receipt)]
        if len(receipts) < len(outcomes):
            raise BatchError(outcomes)
        return receipts

    async def read(
        self, query: Query | str = EVERYTHING, *, proven: SignedLog | None = None
    ) -> AsyncIterator[RecordedEvent[Any]]:
        """The query's events, in order; a stream's name stands for all of that stream.

        The store is read page by page: memory stays flat, and no lock is held in between. What is
        committed while reading appears, in order, unless a bound excludes it.

        ``proven`` is the store's Merkle log. Then the reading ends with the newest signed commit,
        everything that it gives is what was signed, and nothing that matches was left out up to
        there; else it raises `UnprovenError`, which names the first fault. The log is gone through
        for it once, and later only what has come since.
        """
        async for events in self.read_pages(query, proven=proven):
            for event in events:
                yield event

    async def read_pages(
        self, query: Query | str = EVERYTHING, *, proven: SignedLog | None = None
    ) -> AsyncIterator[list[RecordedEvent[Any]]]:
        """The query's events as non-empty lists of a page each: for those who want speed.

        ``proven`` as in `read`.
        """
        index = None if proven is None else await _index_of(proven, self)
        async for events in self.kernel.event_pages(query_of(query), index):
            yield events

    async def fold(
        self,
        fold: Fold[S],
        query: Query | str = EVERYTHING,
        *,
        at: Moment | None = None,
        proven: SignedLog | None = None,
    ) -> S:
        """The fold's state after the query's events; a stream's name stands for all of it.

        ``at`` is a moment to have the state of: a position, the time when it was recorded, or what
        `everwhen.travel` has besides, as ``Version(3)`` of the stream, ``AsOf(time)`` by when
        things happened, or ``Bookmark(name)``. A time before the first event has the initial
        state. Whoever wants many moments of one history has a `TimeMachine`, which remembers.

        They are folded in the query's order. With ``as_of`` that is the order in which they
        occurred; of those that occurred at one time, the order in which they were recorded.
        ``proven`` as in `read`. Raises `InvalidQueryError` for a position after the newest event,
        and an unknown version or bookmark.
        """
        if not isinstance(fold, Fold):
            raise DeclarationError(f"expected a Fold, got {fold!r:.80}")
        wanted = query_of(query)
        if at is not None:
            wanted = await self._query_at(wanted, at)
        index = None if proven is None else await _index_of(proven, self)
        if wanted.occurred_until is not None:
            state, _, _ = await self.kernel.folded_as_of(fold, wanted, index)
            return state
        return await self.kernel.folded(fold, wanted, index)

    @overload
    async def replay(
        self,
        fold: Fold[S],
        query: Query | str = ...,
        *,
        at: Moment | None = ...,
        workers: int | Runner | None = ...,
        by: None = ...,
    ) -> S: ...
    @overload
    async def replay(
        self,
        fold: Fold[S],
        query: Query | str = ...,
        *,
        at: Moment | None = ...,
        workers: int | Runner | None = ...,
        by: By,
    ) -> dict[str, S]: ...
    async def replay(
        self,
        fold: Fold[S],
        query: Query | str = EVERYTHING,
        *,
        at: Moment | None = None,
        workers: int | Runner | None = None,
        by: By | None = None,
    ) -> S | dict[str, S]:
        """What `fold` gives, or a state for each stream or category, by several processes at once.

        ``by`` gives a mapping, in the order of names, of each stream or category that has any of
        the query's events to the fold's state after these. Without it there is one state of all, as
        by `fold`, which takes several processes only for a fold that has a `Fold.merge`. The states
        are what one process gives, however many there are. All of them see history as it is when
        this is called.

        ``workers`` are how many processes, or an `everwhen.store.Ray` for those of a cluster.
        Without it, there are as many as there are processors where history is long enough, and it
        is one where something is in the way: ``everwhen``'s logger says what, at level INFO. Each
        process opens the store by its file, for reading, and imports by their names the fold, the
        event classes and what else it needs. So a program that uses them begins with
        ``if __name__ == "__main__":``.

        Where states can be merged, each process reads a piece of history of its own. Else, by
        stream or category, each reads all of it, and makes events only of those that are its own.

        What a fold raises comes back as it is, with a note of the position: of several, the one
        that one process would have met. Raises `DeclarationError` where ``workers`` are asked for
        and the fold has no merge and there is no ``by``, or something can't be sent there, and
        `WorkerError` where a process did not start or was killed.
        """
        if not isinstance(fold, Fold):
            raise DeclarationError(f"expected a Fold, got {fold!r:.80}")
        check_by(by)
        wanted = query_of(query)
        if at is not None:
            wanted = await self._query_at(wanted, at)
        found: S | dict[str, S] = await replayed(self.kernel, fold, wanted, workers, by)
        return found

    async def _query_at(self, query: Query, moment: Moment) -> Query:
        """The query, up to a moment."""
        if isinstance(moment, AsOf):
            return query.as_of(moment.time)
        forwards = msgspec.structs.replace(query, reverse=False, max_events=None)
        position = await Moments(self, forwards).position_of(moment)
        bound = query.last_position
        return query.up_to(position if bound is None else min(position, bound))

    def subscribe(self, query: Query | str = EVERYTHING, *, from_now: bool = False) -> Subscription:
        """The query's events, each once and in order: first those there are, then as they come.

        Begins after the query's ``after`` position. With ``from_now`` it begins after the newest
        event that there is at this call, or after that position if it is later. Raises
        `InvalidQueryError` for a query that ends.
        """
        wanted = query_of(query)
        asked = stored_query(wanted, self.kernel.codec)
        return Subscription(
            self.kernel.backend, self.kernel.codec, wanted, asked, from_now=from_now
        )

    async def receipt(self, commit_id: UUID) -> Receipt | None:
        """The receipt of the commit of that id, as it was given; None where there is none.

        This settles an outcome that was left open, by a `StorageError` or a time-out.
        """
        stored = await self.kernel.backend.stored_commit(given_id(commit_id))
        return receipt_of(stored) if stored else None

    async def commit_events(self, commit_id: UUID) -> list[RecordedEvent[Any]]:
        """What the commit of that id wrote, in order; nothing where there is none."""
        stored = await self.kernel.backend.stored_commit(given_id(commit_id))
        return [
            event
            for part in stored
            for event in recorded_events(part, entries_of(part), None, self.kernel.codec)
        ]

    async def head(self) -> Head:
        """The newest event's position and time."""
        return await self.kernel.backend.head()

    async def wait_for(
        self,
        position: int,
        *,
        timeout: float = 5.0,  # noqa: ASYNC109 (how long to wait for the store, not for the call)
    ) -> Head:
        """Return once reads here show what was written up to a position; the newest event's place.

        At once, unless the store is a replica or a standby that is behind. Raises
        `StaleReplicaError` where that isn't so within ``timeout`` seconds.
        """
        if type(position) is not int or position < 0:
            raise InvalidQueryError(f"wait_for({position!r}): use a position, such as a receipt's")
        backend, deadline = self.kernel.backend, time.monotonic() + timeout
        while True:
            head = await backend.head()
            left = deadline - time.monotonic()
            if head.position >= position:
                return head
            if left <= 0:
                raise StaleReplicaError(head.position, f"position {position}")
            await backend.wait(head.position, left)

    async def position_at(self, moment: datetime) -> int:
        """The last position recorded at or before the moment, 0 if there is none. O(log n)."""
        try:
            return await self.kernel.backend.position_at(to_micros(moment))
        except (ValueError, TypeError, AttributeError) as error:
            raise InvalidQueryError(
                f"position_at({moment!r}): use a datetime with a time zone"
            ) from error

    async def stream(self, name: str) -> StreamInfo | None:
        """Where a stream stands; None where it has no events."""
        return await self.kernel.backend.stream(name_of(name, "stream"))

    async def version(self, stream: str) -> int:
        """The stream's version; 0 where it has no events."""
        info = await self.kernel.backend.stream(name_of(stream, "stream"))
        return info.version if info is not None else 0

    async def streams(self, category: str | None = None) -> AsyncIterator[StreamInfo]:
        """All streams, or a category's, in the order of their names."""
        after = ""
        wanted = None if category is None else name_of(category, "category")
        while True:
            found = await self.kernel.backend.streams(wanted, after, _PAGE_NAMES)
            for info in found:
                yield info
            if len(found) < _PAGE_NAMES:
                return
            after = found[-1].name

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction for checkpoints, snapshots and, by SQL, read models beside the events.

        It holds up appends while it is open, so keep it short.
        """
        return self.kernel.backend.transaction()

    async def checkpoint(self, name: str) -> Checkpoint | None:
        """The checkpoint of that name."""
        return await self.kernel.backend.checkpoint(name_of(name, "checkpoint"))

    async def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints, by name."""
        return await self.kernel.backend.checkpoints()

    async def snapshots(
        self, subject: str, *, up_to: int | None = None, limit: int = 10
    ) -> list[Snapshot]:
        """A subject's snapshots, newest first, at or before the position ``up_to``."""
        return await self.kernel.backend.snapshots(name_of(subject, "subject"), up_to, limit)

    async def forget(self, subject: str) -> Erasure:
        """Erase a data subject, and those whose ids lie below it (``ann/…``), for good.

        Their keys are destroyed, so that what was encrypted with them reads as `Erased` from now
        on, wherever it was copied to. An event in the stream ``everwhen-erasures`` records it.
        Snapshots are deleted, on branches too, and the files purged. Table projections are built
        anew by their runners; states in memory are derived anew when they are next asked for.

        Safe to repeat, also after it was cut off. Raises `DeclarationError` without a vault,
        `VaultError`, and `ReadOnlyError`, `StorageFullError` or another `StorageError` where the
        store can't be written to or there is no room to purge it: no key is destroyed then. What is
        in the way later, after the store's ``busy_timeout``, is an `UnfinishedErasureError`: the
        keys are gone, and the rest is done by calling this again or by opening the store again.
        """
        (erasure,) = await self.forget_all((subject,))
        return erasure

    async def forget_all(self, subjects: Iterable[str]) -> list[Erasure]:
        """Erase many data subjects in one go, at the cost of one; see `forget`.

        All of their keys are destroyed or, where that fails, none.
        """
        if self.vault is None:
            raise DeclarationError(
                "this store has no vault, and nobody's data can be erased; open it with "
                "vault=Vault(…)"
            )
        wanted = list(subjects)
        await self.kernel.branches.probe_purge()
        forgotten = await aside(self.vault.destroy, wanted)
        asked = [one.number for one in forgotten]
        try:
            checkpoints = await self.kernel.branches.root.checkpoints()
            _, positions = await carry_out(self.kernel.branches, self.vault, asked)
            await aside(self.vault.compact)
        except (StorageError, VaultError) as error:
            raise UnfinishedErasureError(wanted, error) from error
        return [
            Erasure(
                one.subject,
                one.number,
                one.subjects,
                positions[one.number],
                outdated(checkpoints, one.number),
                one.repeated,
            )
            for one in forgotten
        ]

    async def carry_out_erasures(self) -> list[str]:
        """Carry out what was forgotten through other stores with the same vault; returns whom.

        As `forget` does it: an event records each, and the files are purged. `open_store` does so;
        it is for stores that stay open. Without a vault there is nothing to do. Raises
        `ReadOnlyError`.
        """
        if self.vault is None:
            return []
        tombstones, _ = await carry_out(self.kernel.branches, self.vault)
        return [tombstone.subject for tombstone in tombstones]

    async def _check_vault_is_newest(self) -> None:
        """Raises `OutdatedVaultError`; keys that count no more are only warned of."""
        if self.vault is None:
            return
        back = await brought_back(self.kernel.branches.root, self.vault)
        if back:
            raise OutdatedVaultError(str(self.vault.path), back)
        leftover = await aside(self.vault.leftover_keys)
        if leftover:
            _LOG.warning(
                "%s has keys of %r, who has been forgotten; they are not used, and forgetting the "
                "subject again destroys them: everwhen check lists all of them",
                self.vault.path,
                leftover[0].subject,
            )

    @opens
    async def create_branch(self, name: str, at: int | datetime | None = None) -> Store:
        """A new branch of this store or branch, opened: a store that begins with what is here.

        It begins with what is here now, up to a position, or as at a moment. What is
        written on it never shows here, and what is written here from now on not there. It costs
        the same at any size. Reactions don't run on it, unless ``on_branches`` is set.

        Raises `BranchError` where the name is taken or not allowed, or where no commit
        ends at the position: a commit is on a branch as a whole or not at all.
        """
        fork = await self.kernel.branches.fork_at(self.kernel.backend, name, at)
        await self.kernel.branches.create(name, self.kernel.branch, fork, to_micros(self.clock()))
        return await self.branch(name)

    @opens
    async def branch(self, name: str) -> Store:
        """The branch of that name, opened. Close it when you are done with it.

        Closing the store itself closes its branches too. Raises `UnknownBranchError`.
        """
        return self._on(*await self.kernel.branches.open(name))

    @opens
    async def scratch_branch(self, at: int | datetime | None = None) -> Store:
        """A new branch of this store or branch, opened, that is in memory and gone once closed.

        It begins as one of `create_branch` does. Nothing is written to the store, which need not be
        writable, and nobody else sees the branch. There is no SQL on it, so no table projections.
        """
        fork = await self.kernel.branches.fork_at(self.kernel.backend, SCRATCH, at)
        return self._on(
            *await self.kernel.branches.open_scratch(
                self.kernel.backend, self.name, fork, self.clock
            )
        )

    def _on(self, info: BranchInfo, backend: Backend) -> Store:
        """A store as this one is, on a branch."""
        return Store.of(self.kernel.beside(backend, info))

    async def branches(self) -> list[BranchInfo]:
        """Every branch of the store, the oldest first, and where it stands."""
        return await self.kernel.branches.list()

    async def shared_with(self, other: Store) -> int:
        """The last position up to which this and another branch of the same store are the same.

        What each of them has after it is what differs. Raises `BranchError` for the same branch,
        or one of another store.
        """
        return base_of(self.branch_info, other.branch_info, await self.branches())

    async def rename_branch(self, name: str, new_name: str) -> None:
        """Give a branch another name. Stores that are open on it go on.

        Raises `UnknownBranchError`, and `BranchError` where the name is taken or not allowed.
        """
        await self.kernel.branches.rename(name, new_name)

    async def delete_branch(self, name: str, *, with_children: bool = False) -> None:
        """Delete a branch and all that was written on it; its parent stays as it is.

        A store that is open on it can't write any more. Raises `UnknownBranchError`, and
        `BranchError` while it has branches of its own, unless they are to go with it.
        """
        await self.kernel.branches.delete(name, with_children=with_children)

    async def arrow(
        self, query: Query | str = EVERYTHING, *, columns: Iterable[str] | None = None
    ) -> ArrowEvents:
        """The query's events as an Arrow stream, one row an event: what data frames take.

        Its events are those that `read` gives now, as they are stored: no upcast runs, so that a
        type has its stored name and version, and personal fields are encrypted. ``columns`` picks
        some of `everwhen.codec.arrow_columns.SCHEMA`; only these are made. Memory stays flat.

        Raises `InvalidQueryError` for an unknown column, and `UnsupportedError` where the library
        pyarrow is missing.
        """
        return ArrowEvents(await self.kernel.event_scan(query_of(query)), columns)

    async def sql(
        self,
        statement: str,
        parameters: Sequence[Any] | Mapping[str, Any] = (),
        *,
        max_rows: int | None = 1_000_000,
        timeout_seconds: float | None = 60.0,
        memory_bytes: int = 1 << 30,
        skip_retired: bool = False,
    ) -> SqlResult:
        """The rows of a SELECT over all of history, run by DuckDB in this process.

        Its one table is ``events``, one row an event as in `arrow`, up to the newest event there is
        now. Bounds on ``position`` and ``recorded_at``, and a ``stream`` or ``category`` that is
        named, are looked up; other than that it reads all events, but only the columns that the
        statement names. Parameters go by place (``?``) or by name (``$name``). A statement can't
        write, and reads no files. ``timeout_seconds`` counts while it runs, not what is done
        between rows.

        Raises `StatementError` for a statement that can't be run, `StatementLimitError` for one
        that takes too much, `RetiredError` where it asks for events that were retired, unless
        ``skip_retired``, and `UnsupportedError` where the library duckdb or pyarrow is missing.
        """
        limits = SqlLimits(max_rows, timeout_seconds, memory_bytes)
        check_libraries("duckdb", "pyarrow")
        wanted = EVERYTHING.skipping_retired() if skip_retired else EVERYTHING
        scan = await self.kernel.event_scan(wanted)
        return await aside(SqlResult, scan, statement, parameters, limits)

    def sql_connection(self) -> SqlConnection:
        """A connection for SQL questions to SQLite, read models included.

        It has the shape that pandas, polars and notebooks take (DB-API 2.0). It only reads: the
        view ``events``, and the tables of read models. Never use Python's ``sqlite3`` for that in a
        process that has the store open, not even to read: it would drop the store's locks. The
        connection blocks its thread, in the async flavour too; close it.

        Raises `UnsupportedError` for a branch or a store in memory.
        """
        return self.kernel.backend.sql_connection()

    async def backup(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        log: bool = False,
        vault: str | os.PathLike[str] | None = None,
        progress: BackupListener | None = None,
    ) -> BackupReport:
        """Copy the store into a file, with its branches beside that, as they are at one moment.

        The file is a store again, as it is. Reading and writing go on meanwhile, here and in other
        processes. The copy is read back and checked before it gets its name: whatever goes wrong,
        and if the process is killed, there is nothing new at ``path``. What is there already is
        kept unless ``overwrite``, and even then while somebody has it open.

        ``log`` takes the Merkle logs along that lie beside the store and its branches. ``vault`` is
        where the vault's copy goes: choose another place than the store's, for a backup with its
        keys beside it brings back everybody who is forgotten later. ``progress`` hears how it comes
        along; what it raises ends the backup, as a task's being cancelled does.

        Raises `BackupError` for a place that can't be used, such as a URL, `BusyError` where
        another process has it open, `CorruptStoreError` where the store is damaged,
        `UnsupportedError` for a branch or a store in memory, or another `StorageError`.
        """
        check_file(path)
        before = None
        if self.vault is not None:
            self.vault.check_apart(path)
        if vault is not None:
            check_file(vault)
            if self.vault is None:
                raise DeclarationError(
                    "this store has no vault to copy; open it with vault=Vault(…)"
                )
            check_apart(vault, path)
            copy = destination(vault, overwrite=overwrite)
            before = partial(self.vault.backup, copy, overwrite=overwrite)
        logs: Literal["all", "none"] = "all" if log else "none"
        return await self.kernel.backend.backup(
            BackupTask(os.fspath(path), overwrite, logs, before), progress
        )

    async def check(self) -> list[Problem]:
        """Read and judge everything that is stored; empty when all is well.

        Each row is checked against what the others say: events, versions, times, the index, the
        schema, and of read models and reactions the positions, tables, views and parked events.
        With a vault its keys are checked against the erasures, too.

        What is derived from the events, snapshots and the rows of read models, is computed again
        and compared by `check_deep`.

        An event's own content is compared with nothing where it isn't signed: text that was
        changed there by hand, and still fits, is found by `MerkleLog.verify`.
        """
        problems = await self.kernel.backend.check()
        try:
            problems += await self._derived_problems()
        except CorruptStoreError as error:
            if not problems:
                problems.append(Problem("store", str(error)))
        if self.vault is not None:
            back = await brought_back(self.kernel.branches.root, self.vault, thorough=True)
            leftover = {key.subject for key in await aside(self.vault.leftover_keys)}
            problems += problems_of(str(self.vault.path), back, sorted(leftover))
        return problems

    async def table_sizes(self) -> list[TableSize]:
        """How large the tables of a store in PostgreSQL are, by name; otherwise an empty list.

        A branch has tables of its own.
        """
        return await self.kernel.backend.table_sizes()

    async def _derived_problems(self) -> list[Problem]:
        """What is wrong with what is kept beside the events, by itself."""
        look = partial(record_problems, sql=self.capabilities.sql)
        problems = await self.kernel.backend.view(look)
        newest = (await self.head()).position
        at = "", -1
        while found := await self.kernel.backend.snapshots_after(*at, _PAGE_NAMES):
            at = found[-1].subject, found[-1].position
            problems += [
                Problem(
                    f"snapshot {info.subject!r} at position {info.position}",
                    f"the newest event is at {newest}; delete it, by Repository.delete_snapshots",
                )
                for info in found
                if not 0 < info.position <= newest
            ]
        return problems

    async def close(self) -> None:
        """Release everything, its branches too; calling it again does nothing."""
        await self.kernel.backend.close()
        if self.kernel.branch is None:
            await self.kernel.branches.close()

    async def __aenter__(self) -> Store:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()
