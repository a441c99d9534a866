"""The command bus: from a command to the events that were decided on, written once."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol
from uuid import UUID
from weakref import WeakValueDictionary

import msgspec

from everwhen.backends._async.concurrency import Lock, home, sleep
from everwhen.backends.commit_checks import receipt_of
from everwhen.codec.commits import Commit, Write, given_id
from everwhen.codec.recorded_events import entries_of, recorded_events
from everwhen.commands.decisions import (
    Belief,
    Decision,
    Decisions,
    RecordedCommand,
    StateOf,
    beside_of,
    command_place,
    extras_with,
    recorded_with,
    writes_of,
)
from everwhen.commands.recent_writes import Known, RecentWrites
from everwhen.commands.remembered_states import Remembered
from everwhen.privacy.failure_texts import shown_failure
from everwhen.state.aggregate import opened_for_changes
from everwhen.state.snapshots import (
    NOTHING,
    Adaptive,
    Loaded,
    Place,
    ReplayCost,
    Retention,
    SnapshotStrategy,
    check_strategy,
)
from everwhen.store._async.repository import Repository
from everwhen.store._async.store import Store, check_store
from everwhen.system.interrupts import is_interrupt
from everwhen.system.limits import SHORTEST_PAUSE_SECONDS
from everwhen.vocabulary.contract import Receipt, recorded_micros
from everwhen.vocabulary.errors import (
    CommitIdError,
    ConditionError,
    ConflictError,
    DeclarationError,
    InvalidCommandError,
    RefusedError,
    StorageError,
)
from everwhen.vocabulary.events import typed_of
from everwhen.vocabulary.metadata import CommitMetadata, current_metadata
from everwhen.vocabulary.query import Query

_LOG: Final = logging.getLogger("everwhen")
_BY_DEFAULT: Final = Adaptive()
_KEPT: Final = Retention()
_LONGEST_PAUSE_SECONDS: Final = 0.05  # a caller hardly notices it


class Envelope(msgspec.Struct, frozen=True):
    """A command on its way, as middleware sees it.

    ``id`` becomes the commit's id, and makes the command take effect once. ``metadata`` goes over
    what the context provides. ``beside`` makes writes that go into the command's own commit,
    after the events that were decided, which it is given; it is called anew for each attempt.
    """

    command: Any
    id: UUID | None = None
    metadata: CommitMetadata | None = None
    beside: tuple[Callable[[tuple[Any, ...]], Write], ...] = ()

    @property
    def user_id(self) -> str | None:
        """Who sends it, by its own metadata or the context's."""
        own = self.metadata.user_id if self.metadata is not None else None
        return own if own is not None else current_metadata().user_id


class CommandResult(msgspec.Struct, frozen=True):
    """What became of a command: the typed events, and the receipt of their commit.

    Where it was decided that nothing needs to happen, there are no events and no receipt.
    ``attempts`` counts how many times it was decided; 0 for a repeat that was known before that.
    """

    events: tuple[Any, ...]
    receipt: Receipt | None
    attempts: int

    @property
    def position(self) -> int:
        """Where a read model must have come to show it: see `QueryBus.ask`."""
        return self.receipt.position if self.receipt is not None else 0

    @property
    def repeated(self) -> bool:
        """Whether the command's id was known, and nothing was written."""
        return self.receipt is not None and self.receipt.repeated


class CallNext(Protocol):
    """The way on, from a layer of middleware to what lies within."""

    async def __call__(self, envelope: Envelope, /) -> CommandResult:
        """Send the envelope on."""
        ...


class Middleware(Protocol):
    """A layer around the handling of commands: a function, say."""

    async def __call__(self, envelope: Envelope, proceed: CallNext, /) -> CommandResult:
        """Do something before or after ``await proceed(envelope)``, or raise instead."""
        ...


class CommandBus:
    """Loads, decides, appends; and where somebody else was faster, does it again.

    States are kept at hand (``remembered`` of them at most), so that a command on a stream that
    this bus wrote last needs no read, and neither does one on a query by tags, while nobody else
    writes: the append finds out whether the state was still the newest. Where it wasn't, and
    before a refusal is believed, the state is read again. After ``attempts`` conflicts in a row,
    with growing random pauses in between, the last one is raised.

    The command is recorded with its commit (`command_of`), and its id is the commit's id.
    ``middleware`` is asked in order, the first one outermost. Safe to share between threads and
    tasks.
    """

    def __init__(
        self,
        store: Store,
        decisions: Decisions,
        *,
        middleware: Sequence[Middleware] = (),
        strategy: SnapshotStrategy = _BY_DEFAULT,
        retention: Retention = _KEPT,
        attempts: int = 50,
        remembered: int = 10_000,
    ) -> None:
        if attempts < 1:
            raise DeclarationError(f"attempts={attempts}: a command is decided at least once")
        lacks_vault = check_store(store).kernel.given_vault is None
        unguarded = decisions.with_personal_data() if lacks_vault else []
        if unguarded:
            raise DeclarationError(
                f"command {unguarded[0]} has personal fields, and the store no vault to encrypt "
                f"them by; open it with vault=Vault(…), or vault=PLAINTEXT"
            )
        self.store = check_store(store)
        self.decisions = decisions
        self._attempts = attempts
        self._repositories: dict[int, Repository[Any]] = {}
        self._strategy = check_strategy(strategy)
        self._retention = retention
        self._remembered: Remembered[Loaded[Any]] = Remembered(remembered)
        self._recent_writes = RecentWrites(store.event_types)
        self._locks: WeakValueDictionary[tuple[object, Query | str], Lock] = WeakValueDictionary()
        self._proceed: CallNext = self._handle
        for layer in reversed(middleware):
            self._proceed = _around(self._proceed, layer)

    def __repr__(self) -> str:
        return f"CommandBus({self.store!r}, {self.decisions!r})"

    async def send(
        self,
        command: Any,
        *,
        command_id: UUID | None = None,
        metadata: CommitMetadata | None = None,
    ) -> CommandResult:
        """Decide on the command and write what was decided.

        With a ``command_id`` it is safe to repeat: the second time returns the first result.

        Raises `InvalidCommandError` for a command that is out of bounds, the `Refusal` that the
        decision raised, `CommitIdError` where the id was used for another command, and
        `ConflictError` or `ConditionError` where others were faster each time. After a
        `StorageError` the outcome is open; sending it again with the same id is safe.
        """
        return await self._proceed(Envelope(command, command_id, metadata))

    async def _handle(self, envelope: Envelope) -> CommandResult:
        command = envelope.command
        decision = self.decisions.for_command(command)
        recorded = self.decisions.recorded(command)
        if envelope.id is not None:
            earlier = await self._earlier(envelope.id, recorded)
            if earlier is not None:
                return earlier
        subjects = [_Subject(state, command) for state in decision.states]
        locks = self._locks_for(subjects)
        return await self._decide_alone(locks, decision, envelope, recorded, subjects)

    async def _decide_alone(
        self,
        locks: Sequence[Lock],
        decision: Decision,
        envelope: Envelope,
        recorded: RecordedCommand,
        subjects: Sequence[_Subject],
    ) -> CommandResult:
        """Decide while the locks are held; each in a block of its own, for interrupts."""
        if not locks:
            return await self._decide(decision, envelope, recorded, subjects)
        async with locks[0]:
            return await self._decide_alone(locks[1:], decision, envelope, recorded, subjects)

    async def _decide(
        self,
        decision: Decision,
        envelope: Envelope,
        recorded: RecordedCommand,
        subjects: Sequence[_Subject],
    ) -> CommandResult:
        """Attempt it until nobody else was faster."""
        attempt = 1
        while True:
            try:
                return await self._attempt(decision, envelope, recorded, subjects, attempt)
            except (ConflictError, ConditionError):
                self._forget(subjects)
                if attempt == self._attempts:
                    raise
            except RefusedError:
                if envelope.id is None:
                    raise
                earlier = await self._earlier(envelope.id, recorded)
                if earlier is None:
                    raise
                return earlier
            except StorageError:
                self._forget(subjects)  # it may have been written all the same
                raise
            await sleep(_pause(attempt))
            attempt += 1

    async def _attempt(
        self,
        decision: Decision,
        envelope: Envelope,
        recorded: RecordedCommand,
        subjects: Sequence[_Subject],
        attempt: int,
    ) -> CommandResult:
        """Load, decide, append. Raises `ConflictError` for a no that rests on an old state."""
        loaded = [await self._load(subject) for subject in subjects]
        states = [for_decision(s.fold, found) for s, found in zip(subjects, loaded, strict=True)]
        try:
            decided = decision.events(envelope.command, states)
        except RefusedError:
            await self._check_current(subjects, loaded)
            raise
        beliefs = [s.belief(found) for s, found in zip(subjects, loaded, strict=True)]
        writes, condition = writes_of(decision, envelope.command, decided, beliefs)
        if not any(write.events for write in writes):
            await self._check_current(subjects, loaded)
            earlier = envelope.id and await self._earlier(envelope.id, recorded)
            return earlier or CommandResult((), None, attempt)
        commit_id, encryption = envelope.id, self.store.kernel.codec.encryption
        if encryption is not None and decision.personal is not None:
            commit_id = commit_id or UUID(bytes=self.store.kernel.new_id())
            recorded = self.decisions.encrypted(recorded, command_place(commit_id), encryption)
        events = tuple(typed_of(event) for write in writes for event in write.events)
        beside = [make(events) for make in envelope.beside]
        metadata = _with_command(envelope.metadata, recorded, sum(len(w.events) for w in beside))
        commit = Commit([*writes, *beside], condition, commit_id, metadata)
        receipt = await self.store.commit(commit)
        if not receipt.repeated:
            await self._go_on(subjects, loaded, commit.writes, receipt)
        return CommandResult(events, receipt, attempt)

    async def _load(self, subject: _Subject) -> Loaded[Any]:
        repository = self._repository(subject.fold)
        known = self._remembered.get(subject.name)
        if known is not None and known.mark.is_outdated:
            known = None
        if known is not None and subject.stream is not None:
            return known
        loaded = None if known is None else self._by_heart(subject, known)
        subject.is_read = loaded is None
        if loaded is None and known is not None:
            loaded = await repository.advance(known, subject.of)
        elif loaded is None:
            loaded = await repository.load(subject.of)
        self._remembered.keep(subject.name, loaded)
        return loaded

    def _by_heart(self, subject: _Subject, known: Loaded[Any]) -> Loaded[Any] | None:
        """A query's state, up to what this bus wrote last; None where it has to be read."""
        fold, query = subject.fold, subject.of
        if subject.has_conflict or fold.needs_records or not isinstance(query, Query):
            return None
        found = self._recent_writes.since(query, known.read_until)
        if found is None:
            return None
        typed, end, recorded_at = found
        if not typed:
            return msgspec.structs.replace(known, read_until=end)
        return _gone_on(known, fold.apply(known.state, typed), len(typed), end, recorded_at)

    async def _check_current(
        self, subjects: Sequence[_Subject], loaded: Sequence[Loaded[Any]]
    ) -> None:
        """Raises `ConflictError` or `ConditionError` for a state that is not the newest one.

        A query's state that was read for this attempt is new enough.
        """
        for subject, found in zip(subjects, loaded, strict=True):
            if isinstance(subject.of, str):
                version = await self.store.version(subject.of)
                if version != found.version:
                    raise ConflictError(subject.of, found.version, version)
            elif not subject.is_read:
                newer = subject.of.after(found.read_until).limit(1)
                async for event in self.store.read(newer):
                    raise ConditionError(found.read_until, event.position)

    async def _go_on(
        self,
        subjects: Sequence[_Subject],
        loaded: Sequence[Loaded[Any]],
        writes: Sequence[Write],
        receipt: Receipt,
    ) -> None:
        """Bring the states at hand up to what was just written, and snapshot them where due."""
        written = self._recent_writes.written(writes, receipt)
        if written and self.store.capabilities.dense_positions:
            self._recent_writes.add(written, recorded_micros(receipt))
        for subject, before in zip(subjects, loaded, strict=True):
            now = before
            mine = None if written is None else [k.event for k in written if subject.concerns(k)]
            if mine is None or (mine and subject.fold.needs_records):
                self._remembered.forget(subject.name)
                continue
            try:
                if mine:
                    after = subject.fold.apply(before.state, mine)
                    end, recorded_at = receipt.position, recorded_micros(receipt)
                    now = _gone_on(before, after, len(mine), end, recorded_at)
                if self._strategy.is_due(now.since):
                    now = await self._snapshot(subject)
            except Exception as error:
                if is_interrupt(error):
                    raise
                why = shown_failure(error, self.store.vault)
                _LOG.warning("the state of %s is read again: %s", subject.of, why)
                self._remembered.forget(subject.name)
            else:
                self._remembered.keep(subject.name, now)

    async def _snapshot(self, subject: _Subject) -> Loaded[Any]:
        """A fresh load, kept as a snapshot if it is due by what was measured."""
        repository = self._repository(subject.fold)
        loaded = await repository.load(subject.of)
        if not self._strategy.is_due(loaded.since):
            return loaded
        await repository.snapshot_if_due(loaded)  # if it fails, it is tried when due once more
        return msgspec.structs.replace(loaded, since=NOTHING)

    async def _earlier(self, commit_id: UUID, recorded: RecordedCommand) -> CommandResult | None:
        """What became of the command when it was sent before; None if it wasn't, or was refused."""
        stored = await self.store.kernel.backend.stored_commit(given_id(commit_id))
        if not stored:
            return None
        receipt = msgspec.structs.replace(receipt_of(stored), repeated=True)
        if not self._is_same(
            recorded_with(stored[0], self.store.kernel.codec.encryption), recorded
        ):
            raise CommitIdError(commit_id, receipt.position)
        codec = self.store.kernel.codec
        events = tuple(
            event.event
            for part in stored
            for event in recorded_events(part, entries_of(part), None, codec)
        )
        decided = len(events) - beside_of(stored[0])
        return CommandResult(events[:decided], receipt, 0)

    def _is_same(self, one: RecordedCommand | None, other: RecordedCommand) -> bool:
        """Whether two records are of equal commands; a set's order, say, makes no difference."""
        if one is None or one == other:
            return one == other
        try:
            return bool(self.decisions.restored(one) == self.decisions.restored(other))
        except InvalidCommandError:
            return False

    def _repository(self, fold: Any) -> Repository[Any]:
        known = self._repositories.get(id(fold))
        if known is None:
            known = self._repositories[id(fold)] = Repository(
                self.store, fold, strategy=self._strategy, retention=self._retention
            )
        return known

    def _forget(self, subjects: Iterable[_Subject]) -> None:
        for subject in subjects:
            subject.has_conflict = True
            if subject.stream is not None:
                self._remembered.forget(subject.name)

    def _locks_for(self, subjects: Sequence[_Subject]) -> list[Lock]:
        """Commands on the same states wait for each other here, rather than collide in the store.

        Only a courtesy: other buses and processes don't wait, and the append finds out.
        """
        here = home()
        names = {(here, subject.of) for subject in subjects}
        locks = {self._locks.get(name) or self._locks.setdefault(name, Lock()) for name in names}
        return sorted(locks, key=id)  # everybody takes them in the same order


class _Subject:
    """One of the states that a command's decision rests on."""

    __slots__ = ("fold", "has_conflict", "is_read", "name", "of", "stream")

    def __init__(self, state: StateOf[Any, Any], command: Any) -> None:
        self.fold = state.fold
        self.of = state.where(command)
        self.stream = self.of if isinstance(self.of, str) else None
        self.name = (id(state.fold), self.of)
        self.is_read = False
        self.has_conflict = False

    def concerns(self, known: Known) -> bool:
        """Whether the event is one of those that the state is folded from."""
        return known.stream == self.of if isinstance(self.of, str) else known.matches(self.of)

    def belief(self, loaded: Loaded[Any]) -> Belief:
        if self.stream is not None:
            return Belief(self.stream, loaded.version)
        return Belief(self.of, loaded.read_until)


def _around(proceed: CallNext, layer: Middleware) -> CallNext:
    async def through(envelope: Envelope) -> CommandResult:
        return await layer(envelope, proceed)

    return through


def check_bus(given: object) -> CommandBus:
    """The bus. Raises `DeclarationError` for anything else, and for one of the other flavour."""
    if isinstance(given, CommandBus):
        return given
    if type(given).__name__ == "CommandBus":
        check_store(getattr(given, "store", None))
    raise DeclarationError(f"expected a CommandBus, got {given!r:.80}; give CommandBus(store, …)")


def _pause(attempt: int) -> float:
    """Seconds to wait after that many conflicts: random, so that those who collided part."""
    longest = min(_LONGEST_PAUSE_SECONDS, SHORTEST_PAUSE_SECONDS * 2 ** min(attempt, 16))
    return random.uniform(0, longest)  # noqa: S311 (no secret)


def _with_command(
    given: CommitMetadata | None, recorded: RecordedCommand, beside: int
) -> CommitMetadata:
    metadata = given if given is not None else CommitMetadata()
    if not isinstance(metadata, CommitMetadata):
        raise InvalidCommandError(f"metadata={given!r}: use a CommitMetadata")
    return msgspec.structs.replace(metadata, extras=extras_with(recorded, metadata.extras, beside))


def for_decision(fold: Any, loaded: Loaded[Any]) -> Any:
    """A state that a decision may do with as it likes."""
    state = fold.copied(loaded.state)
    opened_for_changes(
        state, lambda aggregate, event: fold.advance_typed(aggregate, (typed_of(event),))
    )
    return state


def _gone_on(
    before: Loaded[Any], state: Any, events: int, position: int, recorded_at: int
) -> Loaded[Any]:
    """A loaded state after that many events more, of which the last was written at a position.

    Enough to decide on and to see that a snapshot is due; the snapshot is taken of a fresh load.
    """
    place, since = before.place, before.since
    each = since.seconds / since.events if since.events else 0.0
    age = timedelta(microseconds=max(0, recorded_at - place.recorded_at))
    version = before.version + events
    return Loaded(
        state,
        version,
        position,
        position,
        ReplayCost(
            since.events + events,
            since.seconds + each * events,
            since.age + age if before.position else since.age,
        ),
        Place(position, version, recorded_at, b""),
        None,
        before.mark,
    )
