"""Merging: a branch's commits decided again, or compared, on another one, and written as one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

import msgspec

from everwhen.backends._async.embedded import EmbeddedBackend
from everwhen.backends.branch_records import MAIN, Fork
from everwhen.backends.memory import MemoryEngine
from everwhen.branches._async.branch_backend import BranchBackend
from everwhen.branches._async.own_log import OwnLog
from everwhen.codec.audit_marks import is_entry, is_log
from everwhen.codec.commits import Commit, Write
from everwhen.codec.recorded_events import (
    RecordedEvent,
    commit_metadata,
    entries_of,
    recorded_events,
)
from everwhen.commands._async.command_bus import for_decision
from everwhen.commands.decisions import (
    Belief,
    Decisions,
    RecordedCommand,
    command_of,
    moved_command,
    writes_of,
)
from everwhen.merging.merge_plan import (
    MERGED_EXTRA,
    NEEDLE,
    Invariant,
    MergeError,
    MergeItem,
    MergeOutcome,
    MergePlan,
    MergeRecord,
    PathConflict,
    Resolver,
    Strategy,
    came_from,
    contents,
    merge_id,
    origin_of,
    record_in,
    taken_over,
)
from everwhen.state.differences import Change, diff
from everwhen.state.fold import Fold
from everwhen.state.paths import value_at
from everwhen.state.snapshots import Loaded
from everwhen.store._async.repository import Repository
from everwhen.store._async.store import Store
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.contract import Condition, Receipt
from everwhen.vocabulary.errors import (
    BranchError,
    CommitIdError,
    ConditionError,
    ConflictError,
    InvalidCommandError,
    RefusedError,
)
from everwhen.vocabulary.events import NewEvent
from everwhen.vocabulary.metadata import CommitMetadata
from everwhen.vocabulary.microseconds import to_micros
from everwhen.vocabulary.paging import PAGE_EVENTS, next_page
from everwhen.vocabulary.query import Query

_STRATEGIES: Final = ("fail", "ours", "theirs", "redecide")


class Merging:
    """Takes a branch's commits over to another branch, or to the store itself.

    Commits that were decided on a command are decided again by ``decisions``; those of commands
    that it doesn't know, and those of none, are facts: compared in three ways on the parts that
    they touch of the state of ``compared_on``. ``invariants`` have to hold after each of them.

    Audit entries go along with what is taken over of their commit. They are compared with nothing,
    and what is written to the log meanwhile is in no merge's way.
    """

    def __init__(
        self,
        target: Store,
        decisions: Decisions | None = None,
        *,
        compared_on: Fold[Any] = contents,
        invariants: Sequence[Invariant[Any]] = (),
        attempts: int = 10,
    ) -> None:
        self.target = target
        self.decisions = decisions if decisions is not None else Decisions()
        self.compared_on = compared_on
        self.invariants = tuple(invariants)
        self._attempts = attempts

    async def plan(
        self,
        source: Store,
        *,
        strategy: Strategy = "fail",
        resolver: Resolver | None = None,
        commits: Sequence[UUID] | None = None,
    ) -> MergePlan:
        """What merging the source would do. Nothing is written.

        ``strategy`` says what is done with commits that don't come out the same: *fail* leaves
        them unsettled, *ours* leaves them out, *theirs* takes their events over as they were, and
        *redecide* takes what their commands lead to now, nothing if that is a refusal; facts in
        conflict it leaves unsettled. A ``resolver`` is asked for each of them first. An invariant
        that would break is unsettled in any case but *ours*. ``commits`` picks some of the
        source's commits, which may have been merged before, and leaves out all others.
        """
        return (await self._planned(source, strategy, resolver, commits)).plan()

    async def merge(
        self,
        source: Store,
        *,
        strategy: Strategy = "fail",
        resolver: Resolver | None = None,
        commits: Sequence[UUID] | None = None,
        metadata: CommitMetadata | None = None,
    ) -> Receipt | None:
        """Merge the source, in one commit. None where there is nothing to write.

        Safe to repeat, also after a failure: a merge is written once. It is planned again where
        others have written meanwhile what it rests on. Raises `MergeError`, with the plan, where
        something is unsettled; nothing was written then.
        """
        for attempt in range(1, self._attempts + 1):
            planned = await self._planned(source, strategy, resolver, commits)
            plan = planned.plan()
            if plan.unsettled:
                raise MergeError(plan.source, plan.target, plan)
            known = await self.target.receipt(planned.id)
            if known is not None:
                return msgspec.structs.replace(known, repeated=True)
            if not plan.writes:
                return None
            try:
                return await self.target.commit(planned.commit(plan, metadata))
            except (ConflictError, ConditionError):
                if attempt == self._attempts:
                    raise
            except CommitIdError:
                return await self.target.receipt(planned.id)
        raise AssertionError  # pragma: no cover (the last attempt returns or raises)

    async def cherry_pick(
        self,
        source: Store,
        commit_id: UUID,
        *,
        strategy: Strategy = "fail",
        resolver: Resolver | None = None,
        metadata: CommitMetadata | None = None,
    ) -> Receipt | None:
        """Take over one commit of the source, as `merge` does with all of them."""
        return await self.merge(
            source, strategy=strategy, resolver=resolver, commits=[commit_id], metadata=metadata
        )

    async def rebase(
        self, source: Store, *, strategy: Strategy = "fail", resolver: Resolver | None = None
    ) -> Store:
        """Begin the source anew, from the target as it is now; returns it, opened.

        Its commits are taken over one by one, each with its own metadata and command. It keeps its
        name; what it was until now stays, as ``<name>.until-<its head>``. Raises as `merge` does;
        until the last moment nothing of the source has changed then.
        """
        planned = await self._planned(source, strategy, resolver, None)
        plan = planned.plan()
        if plan.unsettled:
            raise MergeError(plan.source, plan.target, plan)
        name, target = source.name, self.target
        making = f"{name}.rebasing"
        if any(info.name == making for info in await target.branches()):
            await target.delete_branch(making)  # left behind when one was cut off
        async with target.create_branch(making, plan.on) as made:
            for item in plan.items:
                if any(write.events for write in item.writes):
                    commit_id = UUID(bytes=made._new_id())
                    metadata = _metadata_of(item.events[0], commit_id)
                    await made.commit(Commit(item.writes, None, commit_id, metadata))
        await target.rename_branch(name, f"{name}.until-{plan.up_to}")
        await target.rename_branch(making, name)
        return await target.branch(name)

    async def _planned(
        self,
        source: Store,
        strategy: Strategy,
        resolver: Resolver | None,
        commits: Sequence[UUID] | None,
    ) -> _Planning:
        if strategy not in _STRATEGIES:
            raise BranchError(source.name, f"strategy={strategy!r}; use {', '.join(_STRATEGIES)}")
        base = await self.target.shared_with(source)
        head = (await source.head()).position
        up_to, known = await self._merged_before(source, base)
        after = base if commits is not None else up_to
        planning = await _Planning.begun(self, source, after, head, strategy, resolver, known)
        wanted = None if commits is None else {commit_id.bytes for commit_id in commits}
        async for events in _commits(source, base if wanted is not None else after, head):
            if wanted is None or events[0]._slice.commit_id in wanted:
                await planning.take(events)
                if wanted is not None:
                    wanted.discard(events[0]._slice.commit_id)
                    planning.picked.append(events[0].commit_id)
        if wanted:
            missing = UUID(bytes=next(iter(wanted)))
            raise BranchError(source.name, f"commit {missing} was not written on it")
        return planning

    async def _merged_before(self, source: Store, base: int) -> tuple[int, set[str]]:
        """How far the source has been merged already, and which commits have been taken over."""
        own, codec = _id_of(source), self.target._codec
        found, commits, query = base, set[str](), Query().after(base)
        while True:
            page = await self.target._backend.read(query, PAGE_EVENTS)
            for stored in page.slices:
                record = record_in(stored)
                if record is not None and record.id == own and record.commits == 0:
                    found = max(found, record.up_to)
                if NEEDLE in stored.body:
                    events = recorded_events(stored, entries_of(stored), None, codec)
                    commits.update(filter(None, map(came_from, events)))
            if page.end:
                return found, commits
            query = next_page(query, page)


class _Planning:
    """A merge in the making, on a scratch branch in memory that nobody else sees."""

    def __init__(
        self,
        merging: Merging,
        source: Store,
        scratch: Store,
        after: int,
        up_to: int,
        strategy: Strategy,
        resolver: Resolver | None,
        known: set[str],
    ) -> None:
        self._merging = merging
        self._known = known
        self._source = source
        self._scratch = scratch
        self._after, self._up_to = after, up_to
        self._strategy, self._resolver = strategy, resolver
        self._items: list[MergeItem] = []
        self._invariants: list[tuple[Invariant[Any], Any]] = []
        self._beliefs: list[Query | str] = []
        self._states: dict[tuple[Fold[Any], Query | str], Loaded[Any]] = {}
        self._here: Loaded[Any] | None = None
        self._there: Loaded[Any] | None = None
        self._versions: dict[str, int] = {}
        self.on = 0
        self.picked: list[UUID] = []

    @classmethod
    async def begun(
        cls,
        merging: Merging,
        source: Store,
        after: int,
        up_to: int,
        strategy: Strategy,
        resolver: Resolver | None,
        known: set[str],
    ) -> _Planning:
        """Planning on the target as it is now."""
        target = merging.target
        scratch = await _scratch_of(target)
        self = cls(merging, source, scratch, after, up_to, strategy, resolver, known)
        self.on = (await scratch.head()).position
        for invariant in merging.invariants:
            state = await scratch.fold(invariant.fold, invariant.of)
            self._invariants.append((invariant, state))
            self._beliefs.append(invariant.of)
        return self

    @property
    def record(self) -> MergeRecord:
        """What the merge's commit will say of itself."""
        source = self._source
        return MergeRecord(source.name, _id_of(source), self._up_to, len(self.picked))

    @property
    def id(self) -> UUID:
        """The id of the merge's commit."""
        return merge_id(self.record, _id_of(self._merging.target), self.picked)

    def plan(self) -> MergePlan:
        """All that was found."""
        names = self._source.name, self._merging.target.name
        return MergePlan(*names, self._after, self._up_to, self.on, tuple(self._items))

    def commit(self, plan: MergePlan, metadata: CommitMetadata | None) -> Commit:
        """What is written: it takes effect only if all that it rests on is still as it was."""
        streams = {belief for belief in self._beliefs if isinstance(belief, str)}
        streams.update(write.stream for write in plan.writes if not is_log(write.stream))
        guards = [Write(name, (), self._versions[name]) for name in sorted(streams)]
        writes = [*guards, *(Write(write.stream, write.events) for write in plan.writes)]
        selectors = [s for q in self._beliefs if isinstance(q, Query) for s in q.selectors]
        condition = (
            Condition(Query(tuple(dict.fromkeys(selectors))), plan.on) if selectors else None
        )
        own = metadata if metadata is not None else CommitMetadata()
        extras = {**own.extras, MERGED_EXTRA: msgspec.to_builtins(self.record)}
        kept = msgspec.structs.replace(own, extras=extras)
        return Commit(writes, condition, self.id, kept)

    async def take(self, events: list[RecordedEvent[Any]]) -> None:
        """Find out what becomes of a commit, and let the scratch branch have it."""
        recorded = command_of(events[0])
        if await self._is_there(events):
            name = None if recorded is None else recorded.type
            self._items.append(
                _item(events, name, "same", (), "it was merged before", settled=True)
            )
            return
        item = self._settled(await self._found(events, recorded))
        broken = await self._impossible(item.writes) or self._broken(item.writes)
        if broken:
            reason = f"{item.reason}; " if item.reason else ""
            item = msgspec.structs.replace(
                item,
                outcome="conflict",
                writes=(),
                is_settled=self._strategy == "ours",
                reason=f"{reason}{broken}",
            )
        elif any(write.events for write in item.writes):
            await self._apply(item.writes)
        self._items.append(item)

    async def _found(
        self, events: list[RecordedEvent[Any]], recorded: RecordedCommand | None
    ) -> MergeItem:
        """How a commit comes out: that is asked of its deeds, and its audit entries go along."""
        deeds = [event for event in events if not is_entry(event)]
        name = None if recorded is None else recorded.type
        if not deeds:
            return _item(events, name, "same", _original(events))
        item = None if recorded is None else await self._decided_again(deeds, recorded)
        if item is None:
            item = await self._compared(deeds, name)
        if len(deeds) == len(events):
            return item
        entries = _original([event for event in events if is_entry(event)])
        writes = (*item.writes, *entries) if any(w.events for w in item.writes) else ()
        position = events[0].position
        return msgspec.structs.replace(item, position=position, events=tuple(events), writes=writes)

    async def _is_there(self, events: Sequence[RecordedEvent[Any]]) -> bool:
        """Whether a commit was taken over before, or comes from the target itself."""
        if str(events[0].commit_id) in self._known:
            return True
        for origin in {came_from(event) for event in events} - self._known:
            if origin is None or await self._merging.target.receipt(UUID(origin)) is None:
                return False
        return True

    async def _decided_again(
        self, events: list[RecordedEvent[Any]], recorded: RecordedCommand
    ) -> MergeItem | None:
        """The commit's command, decided on the scratch branch; None where nothing decides on it."""
        decisions = self._merging.decisions
        try:
            command = decisions.restored(recorded)
            decision = decisions.for_command(command)
        except InvalidCommandError:
            return None
        states: list[Any] = []
        beliefs: list[Belief] = []
        for needed in decision.states:
            of = needed.where(command)
            known = self._states.get((needed.fold, of))
            loaded = await _gone_on(self._scratch, needed.fold, known, of)
            self._states[needed.fold, of] = loaded
            states.append(for_decision(needed.fold, loaded))
            at = loaded.version if isinstance(of, str) else loaded.read_until
            beliefs.append(Belief(of, at))
            self._beliefs.append(of)
            await self._know([of] if isinstance(of, str) else [])
        try:
            decided = decision.events(command, states)
            writes, _ = writes_of(decision, command, decided, beliefs)
        except RefusedError as error:
            reason = str(error) or type(error).__name__
            return _item(events, recorded.type, "rejected", (), reason)
        new = tuple(
            Write(w.stream, [_marked(event, events[0]) for event in w.events])
            for w in writes
            if w.events
        )
        if _told(new) == _told(_original(events)):
            return _item(events, recorded.type, "same", new)
        return _item(events, recorded.type, "redecided", new, "it leads to other events now")

    async def _compared(self, events: list[RecordedEvent[Any]], command: str | None) -> MergeItem:
        """The commit's events, compared in three ways on the parts of the state that they touch."""
        here = await self._state_here(events)
        changes = await self._changes_there(events)
        if changes and all(_is(here, change.path, change.after) for change in changes):
            return _item(events, command, "same", (), "it is so already")
        conflicts = tuple(
            PathConflict(c.path, c.before, value_at(here, c.path), c.after)
            for c in changes
            if not _is(here, c.path, c.before) and not _is(here, c.path, c.after)
        )
        if conflicts:
            reason = "; ".join(map(str, conflicts[:3]))
            return _item(events, command, "conflict", (), reason, conflicts)
        return _item(events, command, "same", _original(events))

    async def _state_here(self, events: Sequence[RecordedEvent[Any]]) -> Any:
        """The state on the scratch branch that a commit's facts are compared with."""
        fold, streams = self._merging.compared_on, {event.stream for event in events}
        await self._know(streams)
        if fold is contents:
            self._beliefs.extend(streams)
            return await self._scratch.fold(fold, Query().stream(*streams))
        if self._here is None:
            self._beliefs.append(Query())
        self._here = await _gone_on(self._scratch, fold, self._here, Query())
        return self._here.state

    async def _changes_there(self, events: list[RecordedEvent[Any]]) -> list[Change]:
        """What the commit changed on its own branch."""
        fold, start = self._merging.compared_on, events[0].position - 1
        if fold is contents:
            streams = {event.stream for event in events}
            before = await self._source.fold(fold, Query().stream(*streams).up_to(start))
        else:
            until = Query().up_to(start)
            self._there = await _gone_on(self._source, fold, self._there, until)
            before = self._there.state
        return list(diff(before, fold.state_of(events, before)))

    def _settled(self, item: MergeItem) -> MergeItem:
        """The item with what is done about it."""
        if item.outcome == "same":
            return msgspec.structs.replace(item, is_settled=True)
        chosen: Any = self._strategy if self._resolver is None else self._resolver(item)
        if not isinstance(chosen, str):
            return msgspec.structs.replace(item, writes=tuple(chosen), is_settled=True)
        if chosen not in _STRATEGIES:
            raise BranchError(
                self._source.name,
                f"the resolver said {chosen!r}; use {', '.join(_STRATEGIES)}, or a list of writes",
            )
        settled = chosen in {"ours", "theirs"}
        settled = settled or (chosen == "redecide" and item.outcome != "conflict")
        writes = item.writes
        if chosen != "redecide":
            writes = _original(item.events) if chosen == "theirs" else ()
        return msgspec.structs.replace(item, writes=writes, is_settled=settled)

    async def _impossible(self, writes: Sequence[Write]) -> str:
        """Which state, of those that decisions rest on, can't take the writes; empty for none."""
        by_stream: dict[str, list[Any]] = {}
        for write in writes:
            by_stream.setdefault(write.stream, []).extend(map(_typed, write.events))
        for (fold, of), known in list(self._states.items()):
            if isinstance(of, str) and of in by_stream and not fold.needs_records:
                loaded = self._states[fold, of] = await _gone_on(self._scratch, fold, known, of)
                try:
                    fold.apply(loaded.state, by_stream[of])
                except Exception as error:
                    if is_interrupt(error):
                        raise
                    return f"the state of {of!r} can't take them: {error!r}"
        return ""

    def _broken(self, writes: Sequence[Write]) -> str:
        """Which invariant the writes would break; empty where they break none."""
        typed = [(w.stream, _typed(event)) for w in writes for event in w.events]
        after: list[tuple[Invariant[Any], Any]] = []
        for invariant, state in self._invariants:
            mine = [e for name, e in typed if any(s.reaches(name) for s in invariant.of.selectors)]
            try:
                new = invariant.fold.apply(state, mine)
                is_kept = invariant.holds(new)
            except Exception as error:
                if is_interrupt(error):
                    raise
                return f"whether {invariant.name} can't be told: {error!r}"
            if not is_kept:
                return f"{invariant.name} would no longer hold"
            after.append((invariant, new))
        self._invariants = after
        return ""

    async def _apply(self, writes: Sequence[Write]) -> None:
        """Write to the scratch branch."""
        await self._know([write.stream for write in writes])
        await self._scratch.commit(Commit([Write(write.stream, write.events) for write in writes]))

    async def _know(self, streams: Sequence[str] | set[str]) -> None:
        """Remember at what version the target's streams stand, before the merge."""
        for name in streams:
            if name not in self._versions:
                self._versions[name] = await _version_at(self._scratch, name, self.on)


async def _gone_on(
    store: Store, fold: Fold[Any], loaded: Loaded[Any] | None, of: Query | str
) -> Loaded[Any]:
    """A state that was loaded before, if it was, brought up to now."""
    repository = Repository(store, fold)
    return await (repository.load(of) if loaded is None else repository.advance(loaded, of))


def _metadata_of(event: RecordedEvent[Any], commit_id: UUID) -> CommitMetadata:
    """A commit's metadata, to be written again with another id."""
    metadata, sealing = commit_metadata(event._slice), event._codec.sealing
    if sealing is None:
        return metadata
    extras = moved_command(metadata.extras, event.commit_id, commit_id, sealing)
    return msgspec.structs.replace(metadata, extras=extras)


async def _version_at(store: Store, stream: str, position: int) -> int:
    """The version at which a stream stood at a position."""
    query = Query().stream(stream).up_to(position).backwards().limit(1)
    async for event in store.read(query):
        return event.version
    return 0


async def _scratch_of(target: Store) -> Store:
    """A branch of the target as it is now, in memory, which is gone when nobody holds it."""
    head = await target.head()
    recorded_at = None if head.recorded_at is None else to_micros(head.recorded_at)
    fork = Fork() if recorded_at is None else Fork(head.position, recorded_at)
    own = _InMemory(target._backend, "scratch", "", fork)
    own.opened = EmbeddedBackend(MemoryEngine(clock=target.clock))
    backend = BranchBackend(target._backend, own, fork)
    scratch = Store(
        backend,
        events=target.event_types,
        steps=target._steps,
        vault=target._vault,
        clock=target.clock,
    )
    scratch._snapshot_keys = target._snapshot_keys
    return scratch


class _InMemory(OwnLog):
    """A log that is opened already, and that nobody registered."""

    async def existing(self) -> Any:
        return self.opened

    async def made(self) -> Any:
        return self.opened


async def _commits(source: Store, after: int, head: int) -> AsyncIterator[list[RecordedEvent[Any]]]:
    """The source's commits behind a position, each with all of its events."""
    waiting: list[RecordedEvent[Any]] = []
    async for page in source.read_pages(Query().after(after).up_to(head)):
        for commit_id, found in groupby(page, key=attrgetter("_slice.commit_id")):
            events = list(found)
            if waiting and waiting[0]._slice.commit_id == commit_id:
                waiting += events
                continue
            if waiting:
                yield waiting
            waiting = events
    if waiting:
        yield waiting


def _item(
    events: Sequence[RecordedEvent[Any]],
    command: str | None,
    outcome: MergeOutcome,
    writes: tuple[Write, ...],
    reason: str = "",
    conflicts: tuple[PathConflict, ...] = (),
    *,
    settled: bool = False,
) -> MergeItem:
    return MergeItem(
        events[0].commit_id,
        events[0].position,
        tuple(events),
        command,
        outcome,
        writes,
        settled,
        reason,
        conflicts,
    )


def _original(events: Sequence[RecordedEvent[Any]]) -> tuple[Write, ...]:
    """A commit's events, to be written as they were."""
    streams = groupby(events, key=attrgetter("stream"))
    return tuple(Write(stream, [taken_over(event) for event in found]) for stream, found in streams)


def _marked(event: Any, like: RecordedEvent[Any]) -> NewEvent[Any]:
    """An event that was decided again, with where its command comes from."""
    new = event if isinstance(event, NewEvent) else NewEvent(event=event)
    return msgspec.structs.replace(new, extras={**new.extras, MERGED_EXTRA: origin_of(like)})


def _told(writes: Sequence[Write]) -> list[tuple[str, Any]]:
    return [(write.stream, _typed(event)) for write in writes for event in write.events]


def _typed(event: Any) -> Any:
    return event.event if isinstance(event, NewEvent) else event


def _is(state: Any, path: tuple[Any, ...], value: Any) -> bool:
    found = value_at(state, path)
    return found is value or (type(found) is type(value) and not diff(found, value))


def _id_of(store: Store) -> str:
    info = store.branch_info
    return MAIN if info is None else info.id
