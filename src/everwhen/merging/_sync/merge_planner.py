# Generated from src/everwhen/merging/_async/merge_planner.py by tools/unasync.py: edit that, then run `make sync`.
"""A merge in the making: each commit decided again, or compared, on a scratch branch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from everwhen.backends.branch_records import MAIN
from everwhen.codec.audit_marks import is_entry, is_log
from everwhen.codec.commits import Commit, Write
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.commands._sync.command_bus import for_decision
from everwhen.commands.decisions import Belief, RecordedCommand, command_of, writes_of
from everwhen.merging.invariants import InvariantStates
from everwhen.merging.merge_plan import MergeItem, MergePlan, item_of
from everwhen.merging.merge_records import (
    MERGED_EXTRA,
    MergeRecord,
    came_from,
    decided_anew,
    merge_id,
    original_writes,
)
from everwhen.merging.merge_rules import MergeRules
from everwhen.merging.three_way import conflicts_of, contents, is_so_already
from everwhen.state.differences import Change, diff
from everwhen.state.fold import Fold
from everwhen.state.snapshots import Loaded
from everwhen.store._sync.repository import Repository
from everwhen.store._sync.store import Store
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.contract import Condition
from everwhen.vocabulary.errors import InvalidCommandError, RefusedError
from everwhen.vocabulary.events import typed_of
from everwhen.vocabulary.metadata import CommitMetadata
from everwhen.vocabulary.query import Query, query_of


class MergePlanner:
    """Plans a merge of the source, on a scratch branch of the target that nobody else sees.

    The source's commits up to the position ``up_to`` are given to ``take`` in order, those behind
    ``after``; the ids that ``known`` holds were taken over before. ``picked`` are the ids of the
    commits that the merge is of, where it isn't of all.
    """

    def __init__(
        self,
        rules: MergeRules,
        source: Store,
        target: Store,
        scratch: Store,
        after: int,
        up_to: int,
        known: set[str],
    ) -> None:
        self._rules = rules
        self._source, self._target, self._scratch = source, target, scratch
        self._after, self._up_to = after, up_to
        self._known = known
        self._items: list[MergeItem] = []
        self._invariants = InvariantStates(())
        self._beliefs: list[Query | str] = []
        self._here, self._there = _States(scratch), _States(source)
        self._on = 0 if scratch.branch_info is None else scratch.branch_info.position
        self.picked: list[UUID] = []

    def begin(self) -> None:
        """Look up what has to hold of the target as it is now."""
        invariants = self._rules.invariants
        states = [(one, self._scratch.fold(one.fold, one.of)) for one in invariants]
        self._invariants = InvariantStates(states)
        self._beliefs += [invariant.of for invariant in invariants]

    @property
    def record(self) -> MergeRecord:
        """What the merge's commit will say of itself."""
        source = self._source
        return MergeRecord(source.name, id_of(source), self._up_to, len(self.picked))

    @property
    def id(self) -> UUID:
        """The id of the merge's commit."""
        return merge_id(self.record, id_of(self._target), self.picked)

    def plan(self) -> MergePlan:
        """All that was found."""
        names = self._source.name, self._target.name
        return MergePlan(*names, self._after, self._up_to, self._on, tuple(self._items))

    def commit(self, plan: MergePlan, metadata: CommitMetadata | None) -> Commit:
        """What is written: it takes effect only if all that it rests on is still as it was."""
        streams = {belief for belief in self._beliefs if isinstance(belief, str)}
        streams.update(write.stream for write in plan.writes if not is_log(write.stream))
        guards = [Write(name, (), self._version_before(name)) for name in sorted(streams)]
        writes = [*guards, *(Write(write.stream, write.events) for write in plan.writes)]
        selectors = [s for q in self._beliefs if isinstance(q, Query) for s in q.selectors]
        condition = (
            Condition(Query(tuple(dict.fromkeys(selectors))), plan.on) if selectors else None
        )
        own = metadata if metadata is not None else CommitMetadata()
        extras = {**own.extras, MERGED_EXTRA: msgspec.to_builtins(self.record)}
        kept = msgspec.structs.replace(own, extras=extras)
        return Commit(writes, condition, self.id, kept)

    def _version_before(self, stream: str) -> int:
        """The version at which a stream of the target stood, before the merge."""
        query = Query().stream(stream).up_to(self._on).backwards().limit(1)
        for event in self._scratch.read(query):
            return event.version
        return 0

    def take(self, events: list[RecordedEvent[Any]]) -> None:
        """Find out what becomes of a commit, and let the scratch branch have it."""
        recorded = command_of(events[0])
        if self._is_there(events):
            name = None if recorded is None else recorded.type
            self._items.append(
                item_of(events, name, "same", (), "it was merged before", settled=True)
            )
            return
        found = self._found(events, recorded)
        item = self._rules.settled(found, self._source.name)
        broken = self._impossible(item.writes) or self._invariants.broken_by(item.writes)
        if broken:
            reason = f"{item.reason}; " if item.reason else ""
            item = msgspec.structs.replace(
                item,
                outcome="conflict",
                writes=(),
                is_settled=self._rules.strategy == "ours",
                reason=f"{reason}{broken}",
            )
        elif any(write.events for write in item.writes):
            writes = [Write(write.stream, write.events) for write in item.writes]
            self._scratch.commit(Commit(writes))
        self._items.append(item)

    def _found(
        self, events: list[RecordedEvent[Any]], recorded: RecordedCommand | None
    ) -> MergeItem:
        """How a commit comes out: that is asked of its deeds, and its audit entries go along."""
        deeds = [event for event in events if not is_entry(event)]
        name = None if recorded is None else recorded.type
        if not deeds:
            return item_of(events, name, "same", original_writes(events))
        item = None if recorded is None else self._decided_again(deeds, recorded)
        if item is None:
            item = self._compared(deeds, name)
        if len(deeds) == len(events):
            return item
        entries = original_writes([event for event in events if is_entry(event)])
        writes = (*item.writes, *entries) if any(w.events for w in item.writes) else ()
        position = events[0].position
        return msgspec.structs.replace(item, position=position, events=tuple(events), writes=writes)

    def _is_there(self, events: Sequence[RecordedEvent[Any]]) -> bool:
        """Whether a commit was taken over before, or comes from the target itself."""
        if str(events[0].commit_id) in self._known:
            return True
        for origin in {came_from(event) for event in events} - self._known:
            if origin is None or self._target.receipt(UUID(origin)) is None:
                return False
        return True

    def _decided_again(
        self, events: list[RecordedEvent[Any]], recorded: RecordedCommand
    ) -> MergeItem | None:
        """The commit's command, decided on the scratch branch; None where nothing decides on it."""
        decisions = self._rules.decisions
        try:
            command = decisions.restored(recorded)
            decision = decisions.for_command(command)
        except InvalidCommandError:
            return None
        states: list[Any] = []
        beliefs: list[Belief] = []
        for needed in decision.states:
            of = needed.where(command)
            loaded = self._here.load(needed.fold, of)
            states.append(for_decision(needed.fold, loaded))
            at = loaded.version if isinstance(of, str) else loaded.read_until
            beliefs.append(Belief(of, at))
            self._beliefs.append(of)
        try:
            decided = decision.events(command, states)
            writes, _ = writes_of(decision, command, decided, beliefs)
        except RefusedError as error:
            reason = str(error) or type(error).__name__
            return item_of(events, recorded.type, "rejected", (), reason)
        new = decided_anew(writes, events[0])
        if _facts(new) == _facts(original_writes(events)):
            return item_of(events, recorded.type, "same", new)
        return item_of(events, recorded.type, "redecided", new, "it leads to other events now")

    def _compared(self, events: list[RecordedEvent[Any]], command: str | None) -> MergeItem:
        """The commit's events, compared in three ways on the parts of the state that they touch."""
        here = self._state_here(events)
        changes = self._changes_there(events)
        if is_so_already(here, changes):
            return item_of(events, command, "same", (), "it is so already")
        conflicts = conflicts_of(here, changes)
        if conflicts:
            reason = "; ".join(map(str, conflicts[:3]))
            return item_of(events, command, "conflict", (), reason, conflicts)
        return item_of(events, command, "same", original_writes(events))

    def _state_here(self, events: Sequence[RecordedEvent[Any]]) -> Any:
        """The state on the scratch branch that a commit's facts are compared with."""
        fold = self._rules.compared_on
        if fold is contents:
            streams = {event.stream for event in events}
            self._beliefs.extend(streams)
            return self._scratch.fold(fold, Query().stream(*streams))
        self._beliefs.append(Query())
        return (self._here.load(fold, Query())).state

    def _changes_there(self, events: list[RecordedEvent[Any]]) -> list[Change]:
        """What the commit changed on its own branch."""
        fold, until = self._rules.compared_on, events[0].position - 1
        if fold is contents:
            streams = {event.stream for event in events}
            before = self._source.fold(fold, Query().stream(*streams).up_to(until))
        else:
            before = (self._there.load(fold, Query(), up_to=until)).state
        return list(diff(before, fold.state_of(events, before)))

    def _impossible(self, writes: Sequence[Write]) -> str:
        """Which state, of those that decisions rest on, can't take the writes; empty for none."""
        by_stream: dict[str, list[Any]] = {}
        for write in writes:
            by_stream.setdefault(write.stream, []).extend(map(typed_of, write.events))
        for fold, of in self._here.known():
            if isinstance(of, str) and of in by_stream and not fold.needs_records:
                loaded = self._here.load(fold, of)
                try:
                    fold.apply(loaded.state, by_stream[of])
                except Exception as error:
                    if is_interrupt(error):
                        raise
                    return f"the state of {of!r} can't take them: {error!r}"
        return ""


class _States:
    """States of a store; each is brought up to now when it is asked for again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loaded: dict[tuple[Fold[Any], Query | str], Loaded[Any]] = {}

    def known(self) -> list[tuple[Fold[Any], Query | str]]:
        """Those that have been asked for."""
        return [*self._loaded]

    def load(self, fold: Fold[Any], of: Query | str, *, up_to: int | None = None) -> Loaded[Any]:
        """The state; ``up_to`` a position that never goes back."""
        repository, known = Repository(self._store, fold), self._loaded.get((fold, of))
        query = of if up_to is None else query_of(of).up_to(up_to)
        loaded = repository.load(query) if known is None else repository.advance(known, query)
        self._loaded[fold, of] = loaded
        return loaded


def id_of(store: Store) -> str:
    """The id that a merge knows a store by: its branch's."""
    info = store.branch_info
    return MAIN if info is None else info.id


def _facts(writes: Sequence[Write]) -> list[tuple[str, Any]]:
    return [(write.stream, typed_of(event)) for write in writes for event in write.events]
