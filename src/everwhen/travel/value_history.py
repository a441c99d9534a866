"""What parts of a state were, in those spans of history that somebody has looked through.

A search keeps what it has seen, piece by piece, wherever it began and however it ended: so
what lies near is found at the cost of what lies between, and nothing is looked through twice.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import merge
from itertools import groupby
from typing import Any, Final

from everwhen.state.fold import is_immutable
from everwhen.state.paths import MISSING
from everwhen.state.read_sets import Predicate, Read, answer_from, looked_at
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.nesting import deep_copy

_MANY_CHANGES: Final = 1_000
"""Up to here a part is worth remembering, however often it changes."""
_EVENTS_PER_CHANGE: Final = 16
"""Above that, one that changes with every 16th event is as slow as asking after each."""


class Span:
    """What a read saw in ``(start, until]``: its values, and the positions at which they changed.

    The first value is that at ``start``. It ``is_busy`` where it isn't worth remembering: it
    changes so often that asking after each event is as fast, or in place, which
    doesn't show.
    """

    __slots__ = ("is_busy", "positions", "start", "until", "values")

    def __init__(self, start: int, value: Any) -> None:
        self.start = self.until = start
        self.positions = array("q")
        self.values = [value]
        self.is_busy = not _is_fixed(value)

    def note(self, position: int, value: Any) -> None:
        """Remember what is there from a position on, if it is another value."""
        if _is_same(value, self.values[-1]):
            return
        self.positions.append(position)
        self.values.append(value)
        many = _MANY_CHANGES + (position - self.start) // _EVENTS_PER_CHANGE
        self.is_busy = self.is_busy or len(self.positions) > many or not _is_fixed(value)

    def count_at(self, position: int) -> int:
        """How many of the changes lie at or before the position."""
        return bisect_right(self.positions, position)

    def at(self, position: int) -> Any:
        """What was there at a position in the span, or at its start."""
        return self.values[self.count_at(position)]


class PartHistory:
    """The spans in which a read is known, in order; where they would touch they are one."""

    def __init__(self, read: Read) -> None:
        self.look: Callable[[Any], Any] = looked_at(read)
        self.is_busy = False
        self._spans: list[Span] = []

    def span(self, position: int) -> Span | None:
        """What is known about the position and some before or after it."""
        return next((s for s in self._spans if s.start <= position <= s.until), None)

    def gap(self, start: int, until: int) -> tuple[int, int] | None:
        """The least piece of ``(start, until]`` outside of which all is known."""
        for span in self._spans:
            if span.start <= start < span.until:
                start = span.until
            if span.start < until <= span.until:
                until = span.start
        return (start, until) if start < until else None

    def add(self, new: Span) -> None:
        """Remember what was seen."""
        if new.is_busy:
            self.is_busy = True
        if new.until == new.start:
            return
        touching = [s for s in self._spans if s.start <= new.until and new.start <= s.until]
        rest = [s for s in self._spans if s not in touching]
        if touching and touching[0].start < new.start:
            new = _joined(touching[0], new)
        if touching and touching[-1].until > new.until:
            new = _joined(new, touching[-1])
        self._spans = sorted([*rest, new], key=lambda span: span.start)

    def at(self, position: int) -> Any:
        """What was there at a position that is known."""
        span = self.span(position)
        assert span is not None  # noqa: S101 (whoever asks has made it known)
        return span.at(position)

    def changes(self, after: int, until: int) -> array[int]:
        """The places in ``(after, until]``, which is known, at which it changed."""
        span = self.span(after)
        if span is None:
            return array("q")
        return span.positions[span.count_at(after) : span.count_at(until)]


def _joined(one: Span, other: Span) -> Span:
    """Two spans that touch; what both know is taken from the second."""
    count = one.count_at(other.start)
    found = Span(one.start, one.values[0])
    found.until = other.until
    found.positions = one.positions[:count] + other.positions
    found.values = one.values[:count] + other.values
    return found


def stops_of(parts: Iterable[PartHistory], after: int, until: int) -> Iterator[int]:
    """The places in ``(after, until]`` at which any of the parts changed, in order."""
    for stop, _ in groupby(merge(*(part.changes(after, until) for part in parts))):
        yield stop


def next_stop(
    condition: Predicate, parts: Mapping[Read, PartHistory], after: int, until: int, *, held: bool
) -> int | None:
    """The next place at which, by its parts, the condition may have another answer."""
    for stop in stops_of(parts.values(), after, until):
        try:
            if (
                answer_from(condition, {read: part.at(stop) for read, part in parts.items()})
                is held
            ):
                continue
        except Exception as error:
            if is_interrupt(error):
                raise
            # unknown from the parts: the real state decides
        return stop
    return None


class Watched:
    """A part of a state, and the last value that it was seen with."""

    def __init__(self, read: Read, state: Any) -> None:
        self._look = looked_at(read)
        self.value = self._kept(state)

    def has_changed(self, state: Any) -> bool:
        """Whether it is another value now."""
        return not _is_same(self._look(state), self.value)

    def update(self, state: Any) -> tuple[Any, Any]:
        """See it anew; the value before, and now."""
        before, self.value = self.value, self._kept(state)
        return before, self.value

    def _kept(self, state: Any) -> Any:
        value = self._look(state)
        return value if _is_fixed(value) else deep_copy(value, "the value")


def _is_same(value: Any, other: Any) -> bool:
    return value is other or (type(value) is type(other) and bool(value == other))


def _is_fixed(value: Any) -> bool:
    """Whether a value that was seen stays as it is."""
    return value is MISSING or isinstance(value, type) or is_immutable(value)
