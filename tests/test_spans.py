"""What is known of a part, span by span, against a list that has its value at every position."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from everwhen.state.read_sets import Read
from everwhen.travel.value_history import PartHistory, Span, stops_of

VALUES = st.lists(st.integers(0, 2), min_size=2, max_size=40)
PIECES = st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=12)


def seen(values: list[int], start: int, until: int) -> Span:
    span = Span(start, values[start])
    for position in range(start + 1, until + 1):
        span.note(position, values[position])
    span.until = until
    return span


@given(VALUES, PIECES)
def test_spans_that_touch_are_one_and_know_what_both_knew(
    values: list[int], pieces: list[tuple[int, int]]
) -> None:
    last = len(values) - 1
    part = PartHistory(Read(("x",)))
    known: set[int] = set()
    for one, other in pieces:
        start, until = sorted((min(one, last), min(other, last)))
        part.add(seen(values, start, until))
        known.update(range(start + 1, until + 1))
        for after in range(last):
            for end in range(after + 1, last + 1):
                wanted = set(range(after + 1, end + 1))
                gap = part.gap(after, end)
                if gap is None:
                    assert wanted <= known
                    changes = [p for p in sorted(wanted) if values[p] != values[p - 1]]
                    assert list(part.changes(after, end)) == changes
                    assert list(stops_of([part, part], after, end)) == changes
                    assert [part.at(p) for p in range(after, end + 1)] == values[after : end + 1]
                else:
                    unknown = wanted - known
                    assert unknown
                    assert gap == (min(unknown) - 1, max(unknown))


def test_what_changes_with_every_event_or_in_place_is_not_worth_remembering() -> None:
    span = seen([0, 1] * 600, 0, 1_199)
    assert span.is_busy
    assert not seen([0] * 1_200, 0, 1_199).is_busy
    mutable: list[Any] = []
    assert Span(0, mutable).is_busy
    late = Span(0, None)
    late.note(1, mutable)
    assert late.is_busy
    part = PartHistory(Read(("x",)))
    part.add(span)
    assert part.is_busy
