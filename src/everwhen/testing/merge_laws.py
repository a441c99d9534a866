"""The laws of a fold's `Fold.merge`, tried on events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations_with_replacement
from typing import Any, Final, Generic, TypeVar

from everwhen.codec.recorded_events import RecordedEvent
from everwhen.state.differences import diff
from everwhen.state.fold import Fold
from everwhen.vocabulary.errors import DeclarationError

S = TypeVar("S")

_MOST_CUTS: Final = 24
"""Every pair of cuts is tried: some 300."""


def check_merge(fold: Fold[S], events: Iterable[Any]) -> None:
    """Try whether a fold's merge gives what one fold gives, wherever the events are cut.

    ``events`` are typed events, or events as recorded; they are those of one history, in order.
    Wherever these are cut in two, ``merge(fold(a), fold(b))`` has to be ``fold(a + b)``; an empty
    piece changes nothing; and cut in three, it doesn't matter which two are merged first. Of more
    than 24 events, 24 cuts are tried, spread evenly: give many short histories, as Hypothesis
    makes them, and a real one.

    Raises `AssertionError`, which shows the cut and how the states differ, and `DeclarationError`
    for a fold without a merge, and for typed events where a function takes them as recorded.
    States are the same where they have the same parts, so sums of floats seldom are: add up
    integers, or decimals.
    """
    given = list(events)
    if not isinstance(fold, Fold) or not fold.has_merge:
        raise DeclarationError(f"{fold!r:.80} has no merge to check; declare it: @fold.merge")
    if fold.needs_records and not all(isinstance(event, RecordedEvent) for event in given):
        raise DeclarationError(
            f"fold {fold.name!r} has a function for events as recorded; give what a store reads"
        )
    _Laws(fold, given).check()


class _Laws(Generic[S]):
    def __init__(self, fold: Fold[S], events: Sequence[Any]) -> None:
        self._fold = fold
        self._events = events
        size = len(events)
        count = min(size, _MOST_CUTS)
        self._cuts = sorted(
            {size * number // count for number in range(count + 1)} if size else {0}
        )
        self._pieces = {cut: self._states_from(cut) for cut in self._cuts}

    def _states_from(self, start: int) -> dict[int, S]:
        """The state of each piece that begins there, by where it ends."""
        fold, found = self._fold, {}
        state, at = fold.initial(), start
        for end in (cut for cut in self._cuts if cut >= start):
            piece = self._events[at:end]
            if piece and isinstance(piece[0], RecordedEvent):
                state = fold.state_of(piece, state)
            else:
                state = fold.apply(state, piece)
            found[end], at = state, end
        return found

    def _piece(self, start: int, end: int) -> S:
        return self._fold.copied(self._pieces[start][end])

    def check(self) -> None:
        """Raises `AssertionError`."""
        merged, end = self._fold.merged, len(self._events)
        for cut in self._cuts:
            both = merged(self._piece(0, cut), self._piece(cut, end))
            self._same(
                self._piece(0, end),
                both,
                f"merge(fold(a), fold(b)) is not fold(a + b), {self._at(cut)}",
            )
        for one, other in combinations_with_replacement(self._cuts, 2):
            pieces = (0, one), (one, other), (other, end)
            first, second, third = (self._piece(*piece) for piece in pieces)
            left = merged(merged(first, second), third)
            first, second, third = (self._piece(*piece) for piece in pieces)
            right = merged(first, merged(second, third))
            self._same(
                left,
                right,
                f"merge(merge(a, b), c) is not merge(a, merge(b, c)), {self._at(one)}, "
                f"and {self._at(other)}",
            )

    def _at(self, cut: int) -> str:
        """Where a cut is, in words."""
        if cut == len(self._events):
            return f"cut after all {cut} events"
        event = self._events[cut]
        where = f", position {event.position}" if isinstance(event, RecordedEvent) else ""
        return f"cut before event {cut + 1} of {len(self._events)}{where}: {event!r:.200}"

    def _same(self, wanted: S, found: S, law: str) -> None:
        changes = diff(wanted, found)
        if changes:
            raise AssertionError(
                f"fold {self._fold.name!r}: {law}\n{changes}\n"
                f"the first is {wanted!r:.500}\nthe other {found!r:.500}"
            )
