# Generated from src/everwhen/travel/_async/time_machine.py by tools/unasync.py: edit that, then run `make sync`.
"""The time machine: a fold's state at any moment of a store's history."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

from everwhen.backends._sync.concurrency import sleep
from everwhen.codec.commits import Write
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.expressions.expression import Expression
from everwhen.expressions.unknown_parts import (
    IsThere,
    UnknownPart,
    asked_of_states,
    may_be_there,
    unknown_part,
    without_state,
)
from everwhen.state.differences import Diff, are_alike, diff
from everwhen.state.fold import Fold
from everwhen.state.paths import Path, existing_path, path_of, plain, value_at
from everwhen.state.read_sets import Predicate, Read
from everwhen.store._sync.moments import BOOKMARK, Moments
from everwhen.store._sync.store import EVERYTHING, Store
from everwhen.store.page_decoding import by_position
from everwhen.system.limits import OTHER_PROCESS_SECONDS
from everwhen.travel._sync.altered_history import AlteredHistory
from everwhen.travel._sync.provenance import blamed, explained
from everwhen.travel._sync.search import Finder
from everwhen.travel._sync.timeline import Timeline, TravelProgress
from everwhen.travel.destinations import (
    Blame,
    Divergence,
    Explanation,
    StateAt,
    Step,
    Transition,
    Written,
)
from everwhen.travel.parallel_search import AnswerChange, Processes, searching, turning
from everwhen.travel.what_if import Alteration, EventFilter
from everwhen.vocabulary.contract import Checkpoint
from everwhen.vocabulary.errors import InvalidQueryError
from everwhen.vocabulary.moments import (
    HEAD,
    AsOf,
    Moment,
)
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.validation import check_text

S = TypeVar("S")
T = TypeVar("T")


class _Travelled(Moments):
    """Moments by what a journey knows: its windows and waypoints save reading."""

    def __init__(self, timeline: Timeline[Any]) -> None:
        super().__init__(timeline.store, timeline.of)
        self._timeline = timeline

    def moved(self, position: int, steps: int) -> int:
        return self._timeline.moved(position, steps)

    def recorded_at(self, position: int) -> datetime | None:
        return (self._timeline.state_at(position)).recorded_at


class TimeMachine(Generic[S]):
    """Travels through the states of a fold over a stream, or over whatever a query gives.

    A journey begins at the newest waypoint before its end: a state that an earlier journey left
    in memory and, with ``keep``, in the store among its snapshots, so that the cost of
    each journey is bounded however long history gets. `prepare` leaves them everywhere at once.
    Like all snapshots they are disposable, and never believed unless they are of this history,
    of this fold and of its version.

    Safe to share between tasks and threads. States that are given out never change.
    """

    def __init__(
        self, store: Store, fold: Fold[S], of: Query | str = EVERYTHING, *, keep: bool = True
    ) -> None:
        self._timeline = Timeline(store, fold, of, keep=keep)
        self._finder = Finder(self._timeline)
        self.store = store
        self.fold = fold
        self.of = self._timeline.of
        self._moments = _Travelled(self._timeline)

    def __repr__(self) -> str:
        return f"TimeMachine({self.store!r}, {self.fold!r}, of {self._timeline.subject!r})"

    def prepare(self, progress: TravelProgress | None = None) -> None:
        """Leave waypoints all along history, so that every later journey is short.

        ``progress`` is called with the position reached so far, and the last one.
        """
        self._timeline.prepare(progress)

    def travel_to(self, moment: Moment, *, here: int | None = None) -> StateAt[S]:
        """The state at a moment.

        Relative moments (`Back`, `Before`) count from the position ``here``, the newest event's
        unless given. A time before the first event has the initial state, one ahead of the newest
        has the present one. Raises `InvalidQueryError` for a position ahead of the newest, an
        unknown version or bookmark, and whatever the fold raises.
        """
        if isinstance(moment, AsOf):
            return self._as_of(moment)
        return self._timeline.state_at(self.position_of(moment, here=here))

    def position_of(self, moment: Moment, *, here: int | None = None) -> int:
        """The position that a moment means; see `travel_to`."""
        return self._moments.position_of(moment, here=here)

    def between(self, start: Moment, end: Moment) -> tuple[int, int]:
        """The positions that two moments mean; a relative ``end`` counts from the start.

        Raises `InvalidQueryError` where the start lies after the end.
        """
        first = self.position_of(start)
        until = self.position_of(end, here=first)
        if first > until:
            raise InvalidQueryError(f"the start, {first}, is after the end, {until}")
        return first, until

    def step_at(self, position: int) -> Step[S]:
        """The step at an event's position. Raises `InvalidQueryError` where there is none."""
        return self._timeline.step_at(position)

    def moved(self, position: int, steps: int) -> int:
        """Where that many steps lead from a position, backwards if negative, as far as there are.

        A step is an event that concerns the state; before the first one the position is 0.
        """
        return self._timeline.moved(position, steps)

    def replay(self, start: Moment = 0, end: Moment = HEAD) -> Iterator[Step[S]]:
        """Each step after the moment ``start``, up to and with the moment ``end``."""
        first, until = self.between(start, end)
        for step in self._timeline.steps(first, until):
            yield step

    def diff(self, before: Moment, after: Moment) -> Diff:
        """What differs between the states at two moments; a relative ``after`` is from there."""
        first = self.travel_to(before)
        second = self.travel_to(after, here=first.until)
        return diff(first.state, second.state)

    def find_when(
        self,
        condition: Predicate,
        *,
        last: bool = False,
        monotone: bool = False,
        tracked: bool = True,
        start: Moment = 0,
        end: Moment = HEAD,
        progress: TravelProgress | None = None,
        processes: Processes | None = None,
    ) -> StateAt[S] | None:
        """The first moment at which a condition on the state holds, or the ``last``; else None.

        What the condition looks up in vain (`LookupError`) makes it not hold. ``monotone`` says
        that once it holds it never ceases to: then it is bisected. Otherwise it is asked again
        where the parts of the state that it looked at were written; with ``tracked=False``, say
        for a condition that asks for ``type(…)``, after each event that changes the state.
        ``progress`` is called with the position reached so far, and the last one; what it raises
        ends the search. With ``processes`` several of them ask after each event, each in its own
        piece of history; they begin at once where `prepare` has left waypoints.
        """
        first, until = self.between(start, end)
        if processes is not None:
            if monotone:
                raise InvalidQueryError("a bisection needs no processes; leave one of them out")
            return self._found_by(processes, condition, first, until, progress, last=last)
        if last:
            return self._finder.last(condition, first, until, tracked=tracked, progress=progress)
        if monotone:
            return self._finder.bisected(condition, first, until, progress)
        return self._finder.first(condition, first, until, tracked=tracked, progress=progress)

    def transitions(
        self,
        condition: Predicate,
        *,
        tracked: bool = True,
        start: Moment = 0,
        end: Moment = HEAD,
        progress: TravelProgress | None = None,
        processes: Processes | None = None,
    ) -> Iterator[Transition[S]]:
        """Whether a condition holds at the start, and each moment at which that changes.

        The arguments are those of `find_when`.
        """
        first, until = self.between(start, end)
        if processes is not None:
            turns = self._turns_by(processes, condition, first, until, progress)
            for position, holds in turns:
                yield Transition(self._timeline.state_at(position), holds)
            return
        for transition in self._finder.transitions(
            condition, first, until, tracked=tracked, progress=progress
        ):
            yield transition

    def find_all(
        self,
        condition: Predicate,
        *,
        tracked: bool = True,
        start: Moment = 0,
        end: Moment = HEAD,
        progress: TravelProgress | None = None,
        processes: Processes | None = None,
    ) -> Iterator[StateAt[S]]:
        """Every moment at which a condition holds: a state for each event while it does.

        The arguments are those of `find_when`.
        """
        began: StateAt[S] | None = None
        _, until = self.between(start, end)
        for transition in self.transitions(
            condition,
            tracked=tracked,
            start=start,
            end=end,
            progress=progress,
            processes=processes,
        ):
            if began is not None:
                for one in self._states(began, transition.at.position - 1):
                    yield one
            began = transition.at if transition.holds else None
        if began is not None:
            for one in self._states(began, until):
                yield one

    def history(
        self, path: str | Path, *, start: Moment = 0, end: Moment = HEAD
    ) -> Iterator[Written]:
        """Each value that a part of the state has had, with the event that wrote it."""
        first, until = self.between(start, end)
        read = self._read(path, until)
        for position, before, after in self._finder.writes(read, first, until):
            yield Written(self._event_at(position), before, after)

    def values(
        self, path: str | Path, *, start: Moment = 0, end: Moment = HEAD
    ) -> Iterator[tuple[int, Any]]:
        """The value of a part at the start, and each that it gets later: from which position on.

        `MISSING` stands for a part that isn't there. It costs less than `history`, which gives
        the events, too.
        """
        first, until = self.between(start, end)
        read = self._read(path, until)
        yield first, value_at((self._timeline.state_at(first)).state, read.path)
        for position, _, after in self._finder.writes(read, first, until):
            yield position, after

    def last_write(
        self,
        path: str | Path,
        until: Moment = HEAD,
        *,
        start: Moment = 0,
        progress: TravelProgress | None = None,
    ) -> Step[S] | None:
        """The last step up to a moment, and after ``start``, that changed a part of the state.

        ``progress`` is called with the position reached so far, and the last one.
        """
        first, position = self.between(start, until)
        read = self._read(path, position)
        found = self._finder.last_write(read, first, position, progress)
        return None if found is None else self._timeline.step_at(found)

    def next_write(
        self,
        path: str | Path,
        after: Moment = 0,
        *,
        end: Moment = HEAD,
        progress: TravelProgress | None = None,
    ) -> Step[S] | None:
        """The next step after a moment, and up to ``end``, that changes a part of the state.

        ``progress`` is called with the position reached so far, and the last one.
        """
        position, until = self.between(after, end)
        read = self._read(path, until)
        found = self._finder.next_write(read, position, until, progress)
        return None if found is None else self._timeline.step_at(found)

    def blame(
        self, path: str | Path = (), moment: Moment = HEAD, *, limit: int | None = None
    ) -> Blame:
        """For each leaf in a part of the state, the event that last wrote it.

        None stands for what no event wrote. With a ``limit``, only of that many leaves, the first
        ones. Raises `InvalidPathError` for a part that isn't there.
        """
        found = self.travel_to(moment)
        part = without_state(path_of(path), found.state)
        return blamed(self._timeline, found.until, existing_path(found.state, part), limit)

    def unknown_parts(
        self,
        asked: Expression | str | Path,
        *,
        end: Moment = HEAD,
        progress: TravelProgress | None = None,
    ) -> list[UnknownPart]:
        """Those of the parts that a path, or an expression, names that no state has ever had.

        That separates a typo from what never came true: ask where a search found nothing. What a
        state's class declares is known, set or not, and so is what the expression itself asks
        after, as in ``has(a.b)``. States after the moment ``end`` aren't looked at. ``progress``
        is called with the position reached so far, and the last.
        """
        last = self.position_of(end)
        state = (self._timeline.state_at(last)).state
        expression = asked if isinstance(asked, Expression) else None
        found: list[UnknownPart] = []
        for path in asked_of_states(asked):
            known = self._known(without_state(path, state), state, last, progress)
            if known is not None:
                found.append(unknown_part(*known, expression))
        return found

    def _known(
        self, path: Path, state: S, last: int, progress: TravelProgress | None
    ) -> tuple[S, Path, Path] | None:
        """How much of a part there was, and a state with it; None if there was all of it.

        ``state`` is that at the ``last`` position.
        """
        for length in range(1, len(path) + 1):
            if may_be_there(state, path[:length]):
                continue
            there = IsThere(path[:length])
            found = self._finder.first(there, 0, last, progress=progress)
            if found is None:
                return state, path, path[: length - 1]
            state = found.state
        return None

    def _read(self, path: str | Path, until: int) -> Read:
        """A look at a part, which may be named as expressions do, from ``state`` on."""
        keys = path_of(path)
        if keys[:1] == ("state",):
            keys = without_state(keys, (self._timeline.state_at(until)).state)
        return Read(keys)

    def explain(self, event: RecordedEvent[Any] | int) -> Explanation:
        """The causes of an event, given itself or by its position, and its whole conversation."""
        if isinstance(event, int):
            event = self._event_at(event)
        return explained(self.store, event)

    def altered(
        self,
        *,
        only: EventFilter | None = None,
        without: EventFilter | None = None,
        edited: Mapping[int, Sequence[Any]] | None = None,
        inserted: Mapping[int, Sequence[Write]] | None = None,
    ) -> AlteredHistory[S]:
        """The history as it would be with some events only, without some, or with others.

        ``edited`` gives the events that stand at a position in place of its own, ``inserted`` the
        writes that follow a position.
        """
        alteration = Alteration(
            only=only, without=without, edited=edited or {}, inserted=inserted or {}
        )
        return AlteredHistory(self, self._timeline, alteration)

    def compare(self, other: Fold[Any], *, end: Moment = HEAD) -> Divergence[S] | None:
        """Where another fold, say a new version, first comes to another state; None if nowhere.

        States are compared as plain data, so that they may be of different classes.
        """
        until = self.position_of(end)
        mine, theirs = self.fold.initial(), other.initial()
        if diff(plain(mine, ordered=True), plain(theirs, ordered=True)):
            return Divergence(None, mine, theirs)
        for page in self.store.read_pages(self.of.up_to(until)):
            for events in by_position(page):
                after, others = self.fold.state_of(events, mine), other.state_of(events, theirs)
                if not are_alike(diff(mine, after), diff(theirs, others)):
                    return Divergence(events[0], after, others)
                mine, theirs = after, others
        return None

    def probe(
        self,
        look: Callable[[Step[S]], T],
        at: EventFilter,
        *,
        start: Moment = 0,
        end: Moment = HEAD,
    ) -> Iterator[tuple[Step[S], T]]:
        """What a function says of each step at which such an event stands, over all the past."""
        for step in self.replay(start, end):
            if at.fits(step.event):
                yield step, look(step)

    @property
    def identity(self) -> tuple[str, str]:
        """The fold and what it is of, and the store or branch: what must agree elsewhere."""
        return f"{self._timeline.subject} (version {self.fold.version})", self.store.name

    def _found_by(
        self,
        processes: Processes,
        condition: Predicate,
        first: int,
        until: int,
        progress: TravelProgress | None,
        *,
        last: bool,
    ) -> StateAt[S] | None:
        of = self.identity
        with searching(processes, condition, first, until, of=of, last=last) as search:
            try:
                while not search.is_over:
                    if progress is not None:
                        progress(min(first + search.looked_through, until), until)
                    sleep(OTHER_PROCESS_SECONDS)
                found = search.found
            finally:
                while not search.stop():
                    sleep(OTHER_PROCESS_SECONDS)
        if found is None:
            return None
        at_an_end = found.until in (first, until)
        return self._timeline.state_at(found.until if at_an_end else found.position)

    def _turns_by(
        self,
        processes: Processes,
        condition: Predicate,
        first: int,
        until: int,
        progress: TravelProgress | None,
    ) -> Iterator[AnswerChange]:
        """How it is at the start, and each turn after it, as they come in from processes."""
        held: bool | None = None
        with turning(processes, condition, first, until, of=self.identity) as pieces:
            try:
                for index in range(len(pieces)):
                    while (turns := pieces.of_piece(index)) is None:
                        if progress is not None:
                            progress(min(first + pieces.looked_through, until), until)
                        sleep(OTHER_PROCESS_SECONDS)
                    for position, holds in turns:
                        if holds is not held:
                            held = holds
                            yield position, holds
            finally:
                while not pieces.stop():
                    sleep(OTHER_PROCESS_SECONDS)

    def _states(self, first: StateAt[S], last: int) -> Iterator[StateAt[S]]:
        """The state at the first, and one at each event after it up to a position."""
        yield first
        for step in self._timeline.steps(first.until, last):
            event = step.events[-1]
            yield StateAt(
                step.after, event.position, event.version, event.recorded_at, event.position
            )

    def _event_at(self, position: int) -> RecordedEvent[Any]:
        if position > 0:
            query = self.of.after(position - 1).up_to(position)
            for event in self.store.read(query):
                return event
        raise InvalidQueryError(f"position {position} has no event of {self._timeline.subject}")

    def set_bookmark(self, name: str, moment: Moment) -> int:
        """Give a name to a place in history, for everyone who travels in this store."""
        check_text(name, "bookmark", InvalidQueryError)
        position = self.position_of(moment)
        with self.store.transaction() as transaction:
            transaction.save_checkpoint(Checkpoint(BOOKMARK + name, position))
        return position

    def bookmarks(self) -> dict[str, int]:
        """The bookmarks' positions, by name."""
        return self._moments.bookmarks()

    def delete_bookmark(self, name: str) -> None:
        """Forget a bookmark. Raises `InvalidQueryError` where there is none."""
        self._moments.bookmarked(name)
        with self.store.transaction() as transaction:
            transaction.delete_checkpoint(BOOKMARK + name)

    def _as_of(self, moment: AsOf) -> StateAt[S]:
        loaded = self._timeline.repository.load(self.of.as_of(moment.time))
        stands = self._timeline.state_at(loaded.position)
        return StateAt(
            loaded.state, loaded.position, loaded.version, stands.recorded_at, loaded.read_until
        )
