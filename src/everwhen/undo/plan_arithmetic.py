"""From events to what undoes them: the plan's arithmetic. Pure.

An event that was done again is undone by what compensates the events that did it again. Whatever
goes wrong with one event is the reason why it is left out, and never an error of the plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid5

import msgspec

from everwhen.codec.codec import Codec
from everwhen.codec.commits import Write
from everwhen.codec.recorded_events import RecordedEvent, own_metadata
from everwhen.state.differences import Change
from everwhen.state.fold import Fold
from everwhen.state.paths import MISSING, text_of, value_at
from everwhen.system.interrupts import is_interrupt
from everwhen.undo.compensations import Compensation, Compensations
from everwhen.undo.undo_plan import ByDifference, Uncompensated, UndoPlan, ranges_of
from everwhen.undo.undo_status import UNDO_TAG, naming, naming_tag, own_tags
from everwhen.vocabulary.contract import Condition
from everwhen.vocabulary.errors import RefusedError, StorageError
from everwhen.vocabulary.events import NewEvent, UnknownEvent
from everwhen.vocabulary.metadata import CommitMetadata
from everwhen.vocabulary.query import Query, Selector

_NAMESPACE: Final = UUID("6e0b5dc4-3f5f-5f0c-9d6b-0b8f1c1f5a3e")
_MAX_SELECTORS: Final = 100
"""Where more events than this write nothing, the condition has one selector for every undo instead
of one for each: quick to check, though it may refuse a plan that would still hold."""

Scope: TypeAlias = tuple[Fold[Any], Query | str]
"""Of which fold, and of what, a state is."""


class UndoItem(msgspec.Struct, frozen=True):
    """One position to be undone, or done again.

    ``original`` is its event, several where an upcast split it; ``present`` is what has its effect
    now: the same, or the events that did it again. ``times`` counts the undos and redos so far.
    ``differences`` are the changes that each of the positions in ``present`` made, newest first.
    ``why`` says that it can't be.
    """

    ref: str
    original: tuple[RecordedEvent[Any], ...]
    present: tuple[RecordedEvent[Any], ...]
    redo: bool
    times: int
    differences: tuple[Sequence[Change], ...] | None = None
    why: str | None = None


class Impossible(Exception):  # noqa: N818 (an answer, not a failure)
    """Why an event can't be undone."""


class _Given(msgspec.Struct):
    """A state as it will be after what is planned so far."""

    state: Any = None
    why: str | None = None


class States:
    """The states that compensations are given, brought along with what the plan appends."""

    def __init__(self) -> None:
        self._given: dict[Scope, _Given] = {}
        self._by_stream: dict[str, set[Scope]] = {}
        self._by_query: set[Scope] = set()

    def __contains__(self, scope: Scope) -> bool:
        return scope in self._given

    def add(self, scope: Scope, state: Any) -> None:
        """Take in a state as it is in the store."""
        self._given[scope] = _Given(state)
        if isinstance(scope[1], str):
            self._by_stream.setdefault(scope[1], set()).add(scope)
        else:
            self._by_query.add(scope)

    def fail(self, scope: Scope, why: str) -> None:
        """Take in why there is no such state."""
        self._given[scope] = _Given(why=why)

    def at(self, scope: Scope) -> Any:
        """The state, safe from what becomes of it. Raises `Impossible` where there is none."""
        given = self._given[scope]
        if given.why is not None:
            raise Impossible(given.why)
        return scope[0].copied(given.state)

    def after(self, stream: str, news: Sequence[_Encoded]) -> dict[Scope, Any]:
        """Those states that the events change, and what becomes of them."""
        changed: dict[Scope, Any] = {}
        for scope in (*self._by_stream.get(stream, ()), *self._by_query):
            events = [n.event for n in news if _matches(scope[1], stream, n)]
            if events and self._given[scope].why is None:
                changed[scope] = scope[0].apply(self._given[scope].state, events)
        return changed

    def become(self, changed: Mapping[Scope, Any]) -> None:
        """The states that they become."""
        for scope, state in changed.items():
            self._given[scope].state = state


class _Encoded(msgspec.Struct, frozen=True):
    """An event to be appended, proven to be one that can be."""

    new: NewEvent[Any]
    type: str
    tags: tuple[str, ...]

    @property
    def event(self) -> Any:
        return self.new.event


def _matches(of: Query | str, stream: str, new: _Encoded) -> bool:
    return of == stream if isinstance(of, str) else of.selects(stream, new.type, new.tags)


class Planner:
    """Takes items in the order in which they are undone, and makes the plan of them."""

    def __init__(
        self,
        compensations: Compensations,
        codec: Codec,
        states: States,
        by_difference: ByDifference[Any] | None,
    ) -> None:
        self._compensations = compensations
        self._codec = codec
        self._states = states
        self._by_difference = by_difference
        self._done: list[UndoItem] = []
        self._writes: dict[str, list[NewEvent[Any]]] = {}
        self._quiet: list[UndoItem] = []
        self._used: set[Scope] = set()
        self._uncompensated: list[Uncompensated] = []

    def take(self, item: UndoItem) -> None:
        """Take in the next item."""
        used: set[Scope] = set()
        try:
            news = [self._encoded(item, event) for event in self._events(item, used)]
            changed = self._states.after(item.original[0].stream, news)
        except Exception as error:
            if isinstance(error, StorageError) or is_interrupt(error):
                raise
            self._uncompensated.append(Uncompensated(item.original[0], _reason(error)))
            return
        self._states.become(changed)
        self._used |= used
        self._done.append(item)
        if news:
            stream = item.original[0].stream
            self._writes.setdefault(stream, []).extend(n.new for n in news)
        else:
            self._quiet.append(item)

    def _events(self, item: UndoItem, used: set[Scope]) -> list[Any]:
        """What does the item. Raises why it can't be done."""
        if item.why is not None:
            raise Impossible(item.why)
        if item.redo:
            return [e for part in item.original for e in self._again(part, used)]
        if item.differences is not None:
            return self._restored(item, used)
        return [e for part in reversed(item.present) for e in self._inverse(part, used)]

    def _again(self, recorded: RecordedEvent[Any], used: set[Scope]) -> list[Any]:
        event = recorded.event
        found = self._asked(self._compensations.for_redo(event), recorded, used, "redone")
        if not found:
            raise Impossible("what does it again returned no event")
        if found == [event]:
            metadata = own_metadata(recorded)
            extras = (metadata.extras if metadata is not None else None) or {}
            return [NewEvent(event=event, tags=own_tags(recorded.tags), extras=extras)]
        return found

    def _inverse(self, recorded: RecordedEvent[Any], used: set[Scope]) -> list[Any]:
        event = recorded.event
        compensation = self._compensations.for_undo(event)
        if compensation is None:
            if isinstance(event, UnknownEvent):
                raise Impossible(f"the type {event.type!r} is not known here")
            raise Impossible(f"no compensation is declared for {recorded.type}")
        return self._asked(compensation, recorded, used, "undone")

    def _asked(
        self,
        compensation: Compensation,
        recorded: RecordedEvent[Any],
        used: set[Scope],
        done: str,
    ) -> list[Any]:
        if compensation.given is None:
            said = compensation.ask(recorded)
        else:
            scope = (compensation.given, compensation.where(recorded))
            state = self._states.at(scope)
            used.add(scope)
            said = compensation.ask(recorded, state)
        if said is None:
            raise Impossible(f"its compensation says that it can't be {done} now")
        return _listed(said)

    def _restored(self, item: UndoItem, used: set[Scope]) -> list[Any]:
        """The events that put back what the item's events changed, each proven to do so."""
        assert self._by_difference is not None  # noqa: S101 (only then there are differences)
        fold, restore = self._by_difference.fold, self._by_difference.restore
        found: list[Any] = []
        positions = {e.position: e for e in reversed(item.present)}
        for recorded, changes in zip(positions.values(), item.differences or (), strict=True):
            if not changes:
                continue
            scope = (fold, self._by_difference.where(recorded))
            state = fold.apply(self._states.at(scope), [_bare(e) for e in found])
            used.add(scope)
            back = [_turned(change, state) for change in reversed(changes)]
            events = _listed(restore(back, recorded))
            after = fold.apply(state, [_bare(e) for e in events])
            for change in back:
                if not _is_same(value_at(after, change.path), change.after):
                    raise Impossible(
                        f"{text_of(change.path) or 'the state'} would be "
                        f"{value_at(after, change.path)!r}, not {change.after!r}, after what was "
                        f"given to restore it"
                    )
            found += events
        return found

    def _encoded(self, item: UndoItem, event: Any) -> _Encoded:
        """The event as it is appended, linked to what it undoes. Raises `InvalidEventError`."""
        new = event if isinstance(event, NewEvent) else NewEvent(event=event)
        link = naming_tag(item.ref, redo=item.redo)
        new = msgspec.structs.replace(new, tags=(*own_tags(new.tags), UNDO_TAG, link))
        (made,) = self._codec.encode(item.original[0].stream, [new], bytes(16), 0)
        return _Encoded(new, made.types[0], made.tags)

    def plan(
        self,
        what: str,
        position: int,
        versions: Mapping[str, int],
        already: Sequence[RecordedEvent[Any]],
        audit_entries: Sequence[RecordedEvent[Any]],
    ) -> UndoPlan:
        """The plan, from the store's position and its streams' versions when it was looked at."""
        guarded = {item.original[0].stream for item in self._done}
        guarded.update(of for _, of in self._used if isinstance(of, str))
        return UndoPlan(
            what=what,
            position=position,
            commit_id=self._commit_id(),
            undone=_events_of(self._done, redo=False),
            redone=_events_of(self._done, redo=True),
            appended=self._appended(versions),
            uncompensated=tuple(self._uncompensated),
            already=tuple(already),
            audit_entries=tuple(audit_entries),
            metadata=self._metadata(),
            guards=tuple(
                Write(stream, (), versions[stream])
                for stream in sorted(guarded - self._writes.keys())
            ),
            condition=self._condition(position),
        )

    def _appended(self, versions: Mapping[str, int]) -> tuple[Write, ...]:
        """The writes. Where nothing has to be appended for an event, the first one names it too."""
        tags = tuple(naming_tag(item.ref, redo=item.redo) for item in self._quiet)
        writes: list[Write] = []
        for stream, news in self._writes.items():
            if tags and not writes:
                first = msgspec.structs.replace(news[0], tags=(*news[0].tags, *tags))
                writes.append(Write(stream, (first, *news[1:]), versions[stream]))
            else:
                writes.append(Write(stream, tuple(news), versions[stream]))
        return tuple(writes)

    def _commit_id(self) -> UUID:
        said = sorted(f"{naming_tag(i.ref, redo=i.redo)} {i.times}" for i in self._done)
        return uuid5(_NAMESPACE, "\n".join(said))

    def _condition(self, position: int) -> Condition | None:
        """What the streams' versions don't guard: queried states, and events that write nothing."""
        selectors = [s for _, of in self._used if isinstance(of, Query) for s in of.selectors]
        if len(self._quiet) > _MAX_SELECTORS:
            selectors.append(Selector(tags=frozenset((UNDO_TAG,))))
        else:
            selectors += naming(item.ref for item in self._quiet).selectors
        unique = tuple(dict.fromkeys(selectors))
        return Condition(Query(unique), position) if unique else None

    def _metadata(self) -> CommitMetadata:
        extras: dict[str, Any] = {}
        for key, redo in (("undoes", False), ("redoes", True)):
            positions = {i.original[0].position for i in self._done if i.redo is redo}
            if positions:
                extras[key] = ranges_of(positions)
        if self._uncompensated:
            extras["left_out"] = ranges_of({u.event.position for u in self._uncompensated})
        events = [item.original[0] for item in self._done]
        correlations = {event.metadata.correlation_id for event in events}
        return CommitMetadata(
            causation_id=events[0].event_id if len(events) == 1 else None,
            correlation_id=correlations.pop() if len(correlations) == 1 else None,
            extras=extras,
        )


def _events_of(items: Sequence[UndoItem], *, redo: bool) -> tuple[RecordedEvent[Any], ...]:
    return tuple(item.original[0] for item in items if item.redo is redo)


def _listed(said: Any) -> list[Any]:
    if said is None:
        raise Impossible("its compensation says that it can't be undone now")
    if isinstance(said, list | tuple):
        return list(said)
    return [said]


def _bare(event: Any) -> Any:
    return event.event if isinstance(event, NewEvent) else event


def _turned(change: Change, state: Any) -> Change:
    """The change that puts it back. Raises `Impossible` where it was changed since."""
    now = value_at(state, change.path)
    if not _is_same(now, change.after):
        raise Impossible(
            f"{text_of(change.path) or 'the state'} was {change.before!r} before it and "
            f"{change.after!r} after it, but is {now!r} now"
        )
    return Change(change.path, now, change.before)


def _is_same(one: Any, other: Any) -> bool:
    if one is MISSING or other is MISSING:
        return one is other
    return type(one) is type(other) and bool(one == other)


def _reason(error: Exception) -> str:
    """Why an event can't be undone, in one line."""
    if isinstance(error, Impossible | RefusedError):
        return str(error)
    return f"{type(error).__name__}: {error}"
