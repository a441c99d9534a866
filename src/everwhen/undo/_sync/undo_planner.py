# Generated from src/everwhen/undo/_async/undo_planner.py by tools/unasync.py: edit that, then run `make sync`.
"""How the plan of an undo is made: everything that it has to look at in the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from everwhen.backends._sync.concurrency import sleep
from everwhen.codec.audit_marks import is_entry
from everwhen.codec.recorded_events import (
    RecordedEvent,
    codec_of,
    entries_of,
    index_in_slice,
    is_upcast,
    recorded_events,
    stored_slice,
)
from everwhen.state.differences import Change, diff
from everwhen.store._sync.store import Store
from everwhen.store.page_decoding import by_position
from everwhen.system.interrupts import is_interrupt
from everwhen.undo.compensations import Compensations
from everwhen.undo.dependents import Dependents
from everwhen.undo.plan_arithmetic import Planner, Scope, States, UndoItem
from everwhen.undo.undo_plan import ByDifference, UndoPlan
from everwhen.undo.undo_status import UNDO_TAG, UndoStatuses, named_in, naming, place_in, ref_of
from everwhen.undo.undo_targets import Meant, UndoTarget, described, where_to_look
from everwhen.vocabulary.errors import EverwhenError, InvalidQueryError, StorageError, UndoError
from everwhen.vocabulary.query import Query

_TURN_ITEMS: Final = 200
"""After as many, others in the event loop get a turn."""
_FEW_ORIGINALS: Final = 20
"""For no more than these a query by tags is cheaper than reading all undos."""


class Planning:
    """One plan in the making."""

    def __init__(
        self,
        store: Store,
        compensations: Compensations,
        target: UndoTarget,
        by_difference: ByDifference[Any] | None,
        max_events: int,
    ) -> None:
        self._store = store
        self._compensations = compensations
        self._max_events = max_events
        self._target = target
        self._by_difference = by_difference
        self._named = described(target)
        self._originals: dict[str, tuple[RecordedEvent[Any], ...]] = {}
        self._wanted: dict[str, bool] = {}
        self._last: dict[str, tuple[UUID, int]] = {}
        self._ranks: dict[UUID, int] = {}
        self._already: list[RecordedEvent[Any]] = []
        self._entries: list[RecordedEvent[Any]] = []

    def plan(self, dependents: int, *, redo: bool) -> UndoPlan:
        """The plan, with at most that many dependents listed."""
        head = (self._store.head()).position
        events = self._events(head)
        for these in by_position(events):
            if is_entry(these[0]):
                self._entries.append(these[0])
            else:
                self._take(these[0], redo=redo)
        self._find_originals()
        versions = self._versions()
        statuses = self._statuses(every=dependents > 0)
        items = self._items(statuses)
        if self._by_difference is not None:
            items = self._with_differences(items, self._by_difference)
        states = self._states(items, versions, head)
        planner = Planner(
            self._compensations, self._store.kernel.codec, states, self._by_difference
        )
        for number, item in enumerate(items):
            planner.take(item)
            if number % _TURN_ITEMS == _TURN_ITEMS - 1:
                sleep(0)
        what = f"{'redo' if redo else 'undo'} of {self._named}"
        plan = planner.plan(what, head, versions, self._already, self._entries)
        if not dependents or not plan.undone + plan.redone:
            return plan
        return self._with_dependents(plan, items, statuses, dependents)

    # ------------------------------------------------------------ what it is about

    def _events(self, head: int) -> list[RecordedEvent[Any]]:
        """The target's events in the order of the store, every part of each."""
        found: list[RecordedEvent[Any]] = []
        for event in self._matching(head):
            if found and found[-1].position == event.position:
                continue
            found.append(event)
            if len(found) > self._max_events:
                raise UndoError(
                    f"undo of {self._named}: these are more than {self._max_events:,} events",
                    "undo them in parts, the newest first, or raise max_events",
                )
        return sorted(found, key=lambda event: event.position)

    def _matching(self, head: int) -> Iterator[RecordedEvent[Any]]:
        where, meant = where_to_look(self._target, head), Meant(self._target)
        if isinstance(where, UUID):
            for event in self._store.commit_events(where):
                if meant.has(event):
                    yield event
            return
        for events in self._store.read_pages(where):
            for event in events:
                if meant.has(event):
                    yield event
            sleep(0)

    def _take(self, event: RecordedEvent[Any], *, redo: bool) -> None:
        """How the event's original is to stand: as before the first of the target, or in effect."""
        named = named_in(event.tags)
        if not named:
            self._originals[ref_of(event)] = _whole(event)
        for is_redo, ref in named or [(True, ref_of(event))]:
            self._wanted.setdefault(ref, redo or (bool(named) and not is_redo))
            self._last[ref] = event.commit_id, event.position
        self._ranks[event.commit_id] = event.position

    def _find_originals(self) -> None:
        """The events that undos and redos in the target name."""
        missing: dict[UUID, set[str]] = {}
        for ref in self._wanted.keys() - self._originals.keys():
            missing.setdefault(place_in(ref)[0], set()).add(ref)
        for commit_id, refs in missing.items():
            for event in self._store.commit_events(commit_id):
                ref = ref_of(event)
                if ref in refs:
                    self._originals[ref] = (*self._originals.get(ref, ()), event)
        lost = self._wanted.keys() - self._originals.keys()
        if lost:
            raise UndoError(
                f"undo of {self._named}: it names event {min(lost)}, which is not in this store",
                "undo it where that event is",
            )

    # ------------------------------------------------------------ how things stand

    def _versions(self) -> dict[str, int]:
        """The streams' versions; whatever is looked at later is as new, or newer."""
        streams = {parts[0].stream for parts in self._originals.values()}
        return {stream: self._store.version(stream) for stream in sorted(streams)}

    def _statuses(self, *, every: bool) -> UndoStatuses:
        """How the events stand, and with ``every`` all those that came after them too."""
        statuses = UndoStatuses(self._originals)
        if self._originals:
            first = min(parts[0].position for parts in self._originals.values())
            few = not every and len(self._originals) <= _FEW_ORIGINALS
            query = (naming(self._originals) if few else Query().tags(UNDO_TAG)).after(first)
            for events in self._store.read_pages(query):
                for event in events:
                    statuses.take(event)
                sleep(0)
        return statuses

    def _items(self, statuses: UndoStatuses) -> list[UndoItem]:
        """What there is to do, in the order in which it has to be done."""
        items: list[UndoItem] = []
        for ref, in_effect in self._wanted.items():
            original, status = self._originals[ref], statuses.of(ref)
            if (status is None or status.in_effect) is in_effect:
                self._already.append(original[0])
                continue
            present = tuple(status.events) if status is not None else ()
            times = 0 if status is None else status.times
            items.append(UndoItem(ref, original, present or original, in_effect, times))
        if all(item.redo for item in items):
            items.sort(key=lambda item: item.original[0].position)
        else:
            items.sort(key=self._order)
        return items

    def _order(self, item: UndoItem) -> tuple[int, int]:
        """The newest first; but what one undo has undone, in the order it once had."""
        commit_id, _ = self._last[item.ref]
        position = item.original[0].position
        return -self._ranks[commit_id], position if item.redo else -position

    # ------------------------------------------------------------ what compensations rest on

    def _states(self, items: Sequence[UndoItem], versions: dict[str, int], head: int) -> States:
        states = States()
        for item in items:
            for scope in self._scopes(item):
                if scope not in states:
                    self._load(states, scope, versions, head)
        return states

    def _scopes(self, item: UndoItem) -> Iterator[Scope]:
        """The states that an item needs. What fails here is reported when the item is planned."""
        compensations, by_difference = self._compensations, self._by_difference
        for part in item.original if item.redo else item.present:
            try:
                if item.differences is not None and by_difference is not None:
                    yield by_difference.fold, by_difference.where(part)
                    continue
                event = part.event
                found = (
                    compensations.for_redo(event) if item.redo else compensations.for_undo(event)
                )
                if found is not None and found.given is not None:
                    yield found.given, found.where(part)
            except Exception as error:
                if isinstance(error, StorageError) or is_interrupt(error):
                    raise
                continue  # user code; it is asked again, and answered for

    def _load(self, states: States, scope: Scope, versions: dict[str, int], head: int) -> None:
        fold, of = scope
        try:
            if isinstance(of, str):
                if of not in versions:
                    versions[of] = self._store.version(of)
                query = Query().stream(of).to_version(versions[of])
            else:
                query = _unbounded(of).up_to(head)
            states.add(scope, self._store.fold(fold, query))
        except Exception as error:
            if isinstance(error, StorageError) or is_interrupt(error):
                raise
            states.fail(scope, f"fold {fold.name!r}: {_text_of(error)}")

    def _with_differences(
        self, items: list[UndoItem], by_difference: ByDifference[Any]
    ) -> list[UndoItem]:
        """The items, those without a compensation with the differences that they made."""
        wanted: dict[Query | str, set[int]] = {}
        why: dict[str, str] = {}
        for item in items:
            try:
                if not item.redo and not any(
                    self._compensations.for_undo(part.event) for part in item.present
                ):
                    for part in item.present:
                        where = by_difference.where(part)
                        wanted.setdefault(where, set()).add(part.position)
                    why[item.ref] = ""
            except Exception as error:
                if isinstance(error, StorageError) or is_interrupt(error):
                    raise
                why[item.ref] = _text_of(error)
        changes: dict[int, list[Change]] = {}
        for where, positions in wanted.items():
            failure = self._compare(by_difference, where, positions, changes)
            for item in items:
                if failure and any(part.position in positions for part in item.present):
                    why[item.ref] = failure
        return [_with_changes(item, why, changes) for item in items]

    def _compare(
        self,
        by_difference: ByDifference[Any],
        where: Query | str,
        positions: set[int],
        changes: dict[int, list[Change]],
    ) -> str | None:
        """Find out what each of the positions changed in one state; a text says why it can't be."""
        fold = by_difference.fold
        try:
            query = Query().stream(where) if isinstance(where, str) else _unbounded(where)
            state = fold.initial()
            for events in self._store.read_pages(query.up_to(max(positions))):
                for these in by_position(events):
                    if these[0].position not in positions:
                        state = fold.advance(state, these)
                        continue
                    before = fold.copied(state)
                    state = fold.advance(state, these)
                    changes[these[0].position] = list(diff(before, fold.copied(state)))
                sleep(0)
        except Exception as error:
            if isinstance(error, StorageError) or is_interrupt(error):
                raise
            return f"fold {fold.name!r}: {_text_of(error)}"
        return None

    # ------------------------------------------------------------ what rests on it

    def _with_dependents(
        self, plan: UndoPlan, items: Sequence[UndoItem], statuses: UndoStatuses, listed: int
    ) -> UndoPlan:
        """The plan, with what has happened since and may rest on what it undoes."""
        going = {event.position for event in plan.undone + plan.redone}
        touched = [
            event
            for item in items
            if item.original[0].position in going
            for event in (*item.original, *item.present)
        ]
        left_out = {event.position for event in touched}
        dependents = Dependents(touched, left_out, statuses, listed)
        since = Query().after(min(left_out)).up_to(plan.position)
        for events in self._store.read_pages(since):
            dependents.take(events)
            sleep(0)
        return msgspec.structs.replace(
            plan, dependents=tuple(dependents.found), dependent_count=dependents.count
        )


def _whole(event: RecordedEvent[Any]) -> tuple[RecordedEvent[Any], ...]:
    """The event with all parts that an upcast made of it."""
    if not is_upcast(event):
        return (event,)
    stored = stored_slice(event)
    return tuple(
        recorded_events(stored, entries_of(stored), (index_in_slice(event),), codec_of(event))
    )


def _with_changes(
    item: UndoItem, why: dict[str, str], changes: dict[int, list[Change]]
) -> UndoItem:
    reason = why.get(item.ref)
    if reason is None:
        return item
    if reason:
        return msgspec.structs.replace(item, why=reason)
    positions: Iterable[int] = dict.fromkeys(part.position for part in reversed(item.present))
    return msgspec.structs.replace(
        item, differences=tuple(changes.get(position, ()) for position in positions)
    )


def _unbounded(of: object) -> Query:
    if isinstance(of, Query) and of == Query(of.selectors):
        return of
    raise InvalidQueryError(
        f"{of!r} is neither a stream's name nor a query without bounds, limit and direction"
    )


def _text_of(error: Exception) -> str:
    own = isinstance(error, EverwhenError)
    return str(error) if own else f"{type(error).__name__}: {error}"
