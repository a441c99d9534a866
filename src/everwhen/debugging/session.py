"""A session: a place in history, the ways from it, and what is to be seen there."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Final, Literal, TypeAlias

import msgspec

from everwhen.backends.branch_records import BranchInfo
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.debugging.breakpoints import (
    Breakpoint,
    Breakpoints,
    EventTrigger,
    PathTrigger,
    StateTrigger,
    Trigger,
    ValueTrigger,
)
from everwhen.debugging.command_parsing import condition_of
from everwhen.debugging.searching import InterruptedSearchError, Searcher
from everwhen.expressions.expression import Expression, Variables
from everwhen.expressions.unknown_parts import UnknownPart, unknown_in_events
from everwhen.state.differences import Diff, diff
from everwhen.state.paths import MISSING, Path, existing_path, path_of, value_at
from everwhen.state.short_values import sketch
from everwhen.store._sync.store import Store
from everwhen.travel._sync.time_machine import TimeMachine
from everwhen.travel.destinations import Explanation, Step, Written
from everwhen.travel.what_if import EventFilter
from everwhen.undo._sync.undo import Undo
from everwhen.undo.compensations import Compensations
from everwhen.undo.undo_plan import UndoPlan
from everwhen.vocabulary.errors import (
    DeclarationError,
    DecodeError,
    EverwhenError,
    ExpressionError,
    FoldError,
    InvalidPathError,
    InvalidQueryError,
    ReadOnlyError,
)
from everwhen.vocabulary.moments import HEAD, Moment
from everwhen.vocabulary.query import Query

Writable: TypeAlias = Callable[[], AbstractContextManager[Store]]
"""Opens the same store, or branch, to be written to for a moment."""
StepProgress: TypeAlias = Callable[[int], None]
Which: TypeAlias = Literal["first", "last", "next", "previous"]

_OF_FOLDS: Final = (FoldError, DecodeError, DeclarationError)
_Reason: TypeAlias = Literal["entry", "step", "goto", "breakpoint", "exception", "start", "end"]
_MAX_LOG_LINES: Final = 1_000
"""Of one movement: more would hold it up, and nobody reads them."""

_BRACES: Final = re.compile(r"\{([^{}]+)\}")
_ABOUT_EVENTS: Final = frozenset({"state", "before", "event", "recorded"})


class LogLine(msgspec.Struct, frozen=True):
    """The text of a breakpoint's message at a position."""

    position: int
    text: str


class Stop(msgspec.Struct, frozen=True):
    """Where a movement ended and why.

    ``hits`` are the breakpoints there; ``error`` is what the fold raised on the event there;
    ``logs`` are the messages of breakpoints on the way.
    """

    reason: _Reason
    position: int
    hits: tuple[Breakpoint, ...] = ()
    error: Exception | None = None
    logs: tuple[LogLine, ...] = ()


class WithoutEvent(msgspec.Struct, frozen=True):
    """What would be different now, had the event at a position not happened."""

    event: RecordedEvent[Any]
    changes: Diff


class Session:
    """One who walks through a time machine's history, event by event or from stop to stop.

    The position is that of an event, whose effect the state has; before the first one it is 0.
    Searches may be cut short from another thread or a signal handler, by `interrupt`: then the
    position stays what it was. Otherwise a session is for one thread at a time.

    ``writable`` is needed to set bookmarks and to branch.
    """

    def __init__(
        self,
        machine: TimeMachine[Any],
        *,
        writable: Writable | None = None,
        compensations: Compensations | None = None,
    ) -> None:
        self.machine = machine
        self.breakpoints = Breakpoints()
        self.compensations = compensations
        self.position = 0
        self.error: Exception | None = None
        self.progress: StepProgress | None = None
        self._writable = writable
        self._interrupted = threading.Event()
        self._searcher = Searcher(machine, self._tell)

    @property
    def store(self) -> Store:
        """The store, or branch, that is looked at."""
        return self.machine.store

    @property
    def head(self) -> int:
        """The newest event's position."""
        return self.store.head().position

    @property
    def state(self) -> Any:
        """The state here; where the fold raised, the state before."""
        position = self.position - 1 if self.error is not None else self.position
        return self.machine.travel_to(position).state

    @property
    def event(self) -> RecordedEvent[Any] | None:
        """The event here; None before the first one."""
        if not self.position:
            return None
        query = self.machine.of.after(self.position - 1).up_to(self.position)
        return next(iter(self.store.read(query)), None)

    @property
    def step_here(self) -> Step[Any] | None:
        """The event here and what it did; None before the first one, and where the fold raised."""
        if not self.position or self.error is not None:
            return None
        return self.machine.step_at(self.position)

    def interrupt(self) -> None:
        """Cut short the search that is going on, and those to come until `forget_interrupt`.

        From any thread, or a signal handler.
        """
        self._interrupted.set()

    def forget_interrupt(self) -> None:
        """Let searches go on again."""
        self._interrupted.clear()

    def renew(self) -> None:
        """Begin anew at the same place, after something was broken off anywhere at all."""
        old = self.machine
        self.machine = TimeMachine(old.store, old.fold, old.of, keep=False)
        self._searcher = Searcher(self.machine, self._tell)

    def start(self, moment: Moment = HEAD) -> Stop:
        """Begin at a moment."""
        stop = self.goto(moment)
        return stop if stop.error else msgspec.structs.replace(stop, reason="entry")

    def step(self, events: int = 1) -> Stop:
        """So many events on, however many breakpoints there are on the way."""
        return self._moved(events, "end")

    def back(self, events: int = 1) -> Stop:
        """So many events back."""
        return self._moved(-events, "start")

    def goto(self, moment: Moment) -> Stop:
        """To a moment; a relative one counts from here."""
        until = self.machine.position_of(moment, here=self.position)
        try:
            position = self.machine.travel_to(until).position
        except Exception as error:  # noqa: BLE001 (looked into there)
            return self._failed(until, error)
        return self._arrived(position, "goto")

    def resume(self) -> Stop:
        """On to the next breakpoint, or else to the newest event."""
        here, head = self.position, self.head
        stop = self._stopped(self._found(here, head), head, "end")
        logs = self._logs(here, stop.position - (stop.error is not None))
        return msgspec.structs.replace(stop, logs=tuple(logs))

    def reverse(self) -> Stop:
        """Back to the last breakpoint before here, or else to before the first event."""
        here = self.position
        stop = self._stopped(self._nearest_before(here), 0, "start")
        logs = self._logs(max(0, stop.position - 1), here - 1) if here else []
        return msgspec.structs.replace(stop, logs=tuple(logs[::-1]))

    def find(self, expression: Expression, which: Which = "first") -> Stop | None:
        """To the first or last moment at which a condition holds, or the next or previous.

        None where there is none. What is next or previous is where it begins to hold; a
        condition about events is looked for among them.
        """
        trigger = condition_of(expression, self.machine)
        if isinstance(trigger, EventTrigger) or which in ("next", "previous"):
            if which in ("first", "next"):
                start = 0 if which == "first" else self.position
                found = self._searcher.after(trigger, start, self.head)
            else:
                before = self.position if which == "previous" else self.head + 1
                found = self._searcher.before(trigger, before)
        else:
            visit = self.machine.find_when(
                self._searcher.condition(expression), last=which == "last", progress=self._told
            )
            found = None if visit is None else visit.position
        return None if found is None else self._arrived(found, "goto")

    def unknown(self, asked: Trigger | Expression | str) -> list[UnknownPart]:
        """The parts, named by what was asked for, that no state or none of the events ever had.

        Of states there are those before the first event that the fold raises on.
        """
        query: Query | None = self.machine.of
        meant: Expression | str | Path
        match asked:
            case EventTrigger(condition=condition):
                query = asked.query(self.machine.of)
                meant = condition or ()
            case StateTrigger(condition=condition):
                meant = condition
            case PathTrigger(path):
                meant = path
            case ValueTrigger(expression):
                meant = expression
            case _:
                meant = asked
        found: list[UnknownPart] = []
        if isinstance(meant, Expression) and query is not None:
            found += unknown_in_events(meant, self._told_of(self.store.read(query.backwards())))
        try:
            return found + self.machine.unknown_parts(meant, progress=self._told)
        except InterruptedSearchError:
            raise
        except Exception as error:  # noqa: BLE001 (the fold's own, told of where one gets there)
            last = self._failing(self.head, error) - 1
            return found + self.machine.unknown_parts(meant, end=last, progress=self._told)

    def next_write(self, path: str | Path) -> Stop | None:
        """To the next event that changes a part of the state; None where there is none."""
        step = self.machine.next_write(path, self.position, progress=self._told)
        return None if step is None else self._arrived(step.position, "goto")

    def last_write(self, path: str | Path) -> Stop | None:
        """To the last event before here that changed a part of the state; None for none."""
        if self.position <= 1:
            return None
        step = self.machine.last_write(path, self.position - 1, progress=self._told)
        return None if step is None else self._arrived(step.position, "goto")

    def evaluate(self, text: str) -> Any:
        """The part of the state here at a path, or the value of an expression.

        Beside the state an expression sees ``before``, ``event`` and ``recorded``. Raises
        `InvalidPathError` or `ExpressionError`.
        """
        state = self.state
        try:
            path = path_of(text)
        except InvalidPathError:
            path = None
        if path is not None and (found := value_at(state, path)) is not MISSING:
            return found
        try:
            return Expression(text)(self.variables())
        except ExpressionError:
            if path and path[0] not in _ABOUT_EVENTS:
                existing_path(state, path)
            raise

    def variables(self) -> Variables:
        """What names mean in expressions, here."""
        event = self.event
        if event is None:
            return Variables(self.state)
        if self.error is not None:
            return Variables(self.state, event=event)
        step = self.machine.step_at(self.position)
        return Variables(step.after, event=event, before=step.before)

    def around(self, before: int, after: int) -> tuple[list[RecordedEvent[Any]], int]:
        """Some events around here, and how many of them are not after it."""
        of, here = self.machine.of, self.position
        past = list(self.store.read(of.up_to(here).backwards().limit(before + 1)))[::-1]
        return past + list(self.store.read(of.after(here).limit(after))), len(past)

    def explain(self) -> Explanation | None:
        """What led to the event here, and what it led to; None before the first event."""
        event = self.event
        return None if event is None else self.machine.explain(event)

    def blame(self, path: str | Path = ()) -> dict[Path, RecordedEvent[Any] | None]:
        """For each leaf in a part of the state here, the event that last wrote it."""
        return self.machine.blame(path, self.position)

    def history(self, path: str | Path) -> Iterator[Written]:
        """Each value that a part of the state has had, ever."""
        return self.machine.history(path)

    def diff(self, before: Moment, after: Moment | None = None) -> Diff:
        """What differs between two moments; without a second one, between one and here."""
        first = self.machine.position_of(before, here=self.position)
        if after is None:
            return diff(self.machine.travel_to(first).state, self.state)
        return self.machine.diff(first, after)

    def what_if(self) -> WithoutEvent | None:
        """What would be different now without the event here; None before the first one."""
        event = self.event
        if event is None:
            return None
        altered = self.machine.altered(without=EventFilter(positions=frozenset({event.position})))
        return WithoutEvent(event, altered.diff())

    def undo_plan(self) -> UndoPlan:
        """What undoing the event here would append. Nothing is written.

        Raises `InvalidQueryError` where there is no event or no compensations were given.
        """
        event = self.event
        if event is None:
            raise InvalidQueryError("there is no event here to undo; step to one")
        if self.compensations is None:
            raise InvalidQueryError("there are no compensations; give them with --compensations")
        return Undo(self.store, self.compensations).plan(event)

    def set_bookmark(self, name: str) -> int:
        """Give the place here a name, for everyone who travels in this store."""
        with self._written() as store:
            machine = TimeMachine(store, self.machine.fold, self.machine.of, keep=False)
            return machine.set_bookmark(name, self.position)

    def delete_bookmark(self, name: str) -> None:
        """Forget a bookmark."""
        with self._written() as store:
            machine = TimeMachine(store, self.machine.fold, self.machine.of, keep=False)
            machine.delete_bookmark(name)

    def create_branch(self, name: str) -> BranchInfo:
        """A branch of the store that begins with what is here, all events up to this one."""
        with self._written() as store, store.create_branch(name, self.position) as branch:
            info = branch.branch_info
        assert info is not None  # noqa: S101 (it was made as one)
        return info

    def _written(self) -> AbstractContextManager[Store]:
        if self._writable is None:
            raise ReadOnlyError("this session only reads; open the store for writing")
        return self._writable()

    def _moved(self, events: int, at_end: Literal["start", "end"]) -> Stop:
        if self.error is not None and events > 0:
            return Stop("exception", self.position, error=self.error)
        try:
            position = self.machine.moved(self.position, events)
        except Exception as error:  # noqa: BLE001 (looked into there)
            return self._failed(self.position + events, error)
        if position == self.position:
            return Stop(at_end, position)
        return self._arrived(position, "step")

    def _arrived(self, position: int, reason: _Reason) -> Stop:
        """Be at an event's position, where the state is proven to be there."""
        try:
            if position:
                self.machine.step_at(position)
        except Exception as error:  # noqa: BLE001 (looked into there)
            return self._failed(position, error)
        self.position, self.error = position, None
        return Stop(reason, position)

    def _failed(self, until: int, error: Exception) -> Stop:
        """Be at the event that the fold can't take. Raises the error if it is not the fold's."""
        if isinstance(error, EverwhenError) and not isinstance(error, _OF_FOLDS):
            raise error
        position = self._failing(min(until, self.head), error)
        self.position, self.error = position, error
        return Stop("exception", position, error=error)

    def _failing(self, until: int, error: Exception) -> int:
        """The first position that the fold raises at, by bisection."""
        if self._has_state(until):
            raise error
        works = self.position - 1 if self.error is not None else self.position
        works = works if 0 < works < until and self._has_state(works) else 0
        while until - works > 1:
            middle = (works + until) // 2
            if self._has_state(middle):
                works = middle
            else:
                until = middle
        return until

    def _has_state(self, position: int) -> bool:
        self._tell(position)
        try:
            self.machine.travel_to(position)
        except Exception:  # noqa: BLE001 (whatever the user's fold raises)
            return False
        return True

    def _found(self, here: int, last: int) -> _Found | Stop | None:
        """The nearest place after here at which to stop, or the event that the fold can't take."""
        if self.error is not None:
            return Stop("exception", here, error=self.error)
        try:
            return self._nearest(here, last)
        except Exception as error:  # noqa: BLE001 (looked into there)
            failed = self._failed(last, error)
        found = self._nearest(here, failed.position - 1)
        return found or failed

    def _nearest(self, here: int, last: int) -> _Found | None:
        found: _Found | None = None
        for one in self._stopping():
            place = self._searcher.after(one.trigger, here, last)
            if place is not None:
                also = found.breakpoints if found is not None and found.position == place else ()
                found, last = _Found(place, (*also, one)), place
        return found

    def _nearest_before(self, here: int) -> _Found | None:
        found: _Found | None = None
        for one in self._stopping():
            first = found.position - 1 if found is not None else 0
            place = self._searcher.before(one.trigger, here, first)
            if place is not None:
                also = found.breakpoints if found is not None and found.position == place else ()
                found = _Found(place, (*also, one))
        return found

    def _stopping(self) -> list[Breakpoint]:
        """The breakpoints that stop; those first whose places are found at once."""
        stopping = [one for one in self.breakpoints if one.is_enabled and one.message is None]
        return sorted(stopping, key=lambda one: _cost(one.trigger))

    def _stopped(self, found: _Found | Stop | None, otherwise: int, reason: _Reason) -> Stop:
        if isinstance(found, Stop):
            return found
        if found is None:
            stop = self.goto(otherwise)
            return stop if stop.error else msgspec.structs.replace(stop, reason=reason)
        for one in found.breakpoints:
            one.hits += 1
        stop = self._arrived(found.position, "breakpoint")
        return msgspec.structs.replace(stop, hits=found.breakpoints)

    def _logs(self, first: int, last: int) -> list[LogLine]:
        """What the breakpoints with a message say in ``(first, last]``, the first of it."""
        found: list[LogLine] = []
        for one in self.breakpoints:
            if not one.is_enabled or one.message is None:
                continue
            place = self._searcher.after(one.trigger, first, last)
            for _ in range(_MAX_LOG_LINES):
                if place is None:
                    break
                found.append(LogLine(place, self._message(one.message, place)))
                place = self._searcher.after(one.trigger, place, last)
        return sorted(found, key=lambda line: line.position)[:_MAX_LOG_LINES]

    def _message(self, message: str, position: int) -> str:
        step = self.machine.step_at(position)
        variables = Variables(step.after, event=step.event, before=step.before)

        def value(match: re.Match[str]) -> str:
            try:
                return sketch(Expression(match[1])(variables))
            except EverwhenError as error:
                return f"{{{match[1]}: {str(error).partition(chr(10))[0]}}}"

        return _BRACES.sub(value, message)

    def _tell(self, position: int) -> None:
        if self._interrupted.is_set():
            raise InterruptedSearchError(
                f"interrupted; still at position {self.position}, nothing has changed"
            )
        if self.progress is not None and position:
            self.progress(position)

    def _told_of(self, events: Iterable[RecordedEvent[Any]]) -> Iterator[RecordedEvent[Any]]:
        for event in events:
            self._tell(event.position)
            yield event

    def _told(self, position: int, _: int) -> None:
        self._tell(position)


class _Found(msgspec.Struct, frozen=True):
    position: int
    breakpoints: tuple[Breakpoint, ...]


def _cost(trigger: Trigger) -> int:
    match trigger:
        case EventTrigger(condition=None):
            return 0
        case PathTrigger():
            return 1
        case EventTrigger():
            return 2
        case _:
            return 3
