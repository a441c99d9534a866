# Generated from src/everwhen/travel/_async/altered_history.py by tools/unasync.py: edit that, then run `make sync`.
"""Histories that never happened: replayed without some events, or with others in their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from everwhen.codec.commits import Write
from everwhen.codec.recorded_events import RecordedEvent, entries_of, recorded_events, stored_slice
from everwhen.state.differences import Diff, diff
from everwhen.store.page_decoding import by_position
from everwhen.travel._sync.timeline import Timeline
from everwhen.travel.what_if import Alteration, WhatIf, WhatIfStep
from everwhen.vocabulary.contract import StoredSlice
from everwhen.vocabulary.errors import InvalidQueryError
from everwhen.vocabulary.moments import HEAD, Moment

S = TypeVar("S")

_NEVER_COMMITTED: Final = bytes(16)


class MomentPositions(Protocol):
    """Where moments are in the true history: a time machine knows."""

    def position_of(self, moment: Moment) -> int:
        """The position that a moment means."""
        ...

    def between(self, start: Moment, end: Moment) -> tuple[int, int]:
        """The positions that two moments mean; a relative ``end`` counts from the start."""
        ...


class AlteredHistory(Generic[S]):
    """A history that never happened, to be travelled like the true one.

    Its states come as `WhatIf` and `WhatIfStep`, never as `StateAt` and `Step`, and no snapshot
    is ever taken of them. Events that were inserted or edited have the nil UUID as the id of their
    commit.
    """

    def __init__(
        self, positions: MomentPositions, timeline: Timeline[S], alteration: Alteration
    ) -> None:
        self.alteration = alteration
        self._positions = positions
        self._timeline = timeline

    def travel_to(self, moment: Moment = HEAD) -> WhatIf[S]:
        """The state as it would be at a moment."""
        last = self._positions.position_of(moment)
        counts = _Counts()
        fold = self._timeline.fold
        state = (self._timeline.state_at(min(self.alteration.begins, last))).state
        for events in self._events(last, counts):
            state = _after(fold, state, events)
        return WhatIf(state, last, dict(counts.left_out), counts.edited, counts.inserted)

    def replay(self, start: Moment = 0, end: Moment = HEAD) -> Iterator[WhatIfStep[S]]:
        """Each step after the moment ``start``, up to and with the moment ``end``.

        It begins where this history differs from the true one, if that is later.
        """
        first, last = self._positions.between(start, end)
        counts, fold = _Counts(), self._timeline.fold
        state = (self._timeline.state_at(min(self.alteration.begins, last))).state
        for events in self._events(last, counts):
            after = _after(fold, fold.copied(state), events)
            if events[0].position > first or not first:
                yield WhatIfStep(events, state, after, counts.left_out.total())
            state = after

    def diff(self, moment: Moment = HEAD) -> Diff:
        """What would be different from the true state at a moment."""
        position = self._positions.position_of(moment)
        true = self._timeline.state_at(position)
        supposed = self.travel_to(position)
        return diff(true.state, supposed.state)

    def _events(self, last: int, counts: _Counts) -> Iterator[Sequence[RecordedEvent[Any]]]:
        """What is folded after where the alteration begins, step by step."""
        alteration, timeline = self.alteration, self._timeline
        head = (timeline.store.head()).position
        places = (*alteration.edited, *alteration.inserted)
        unused = {p for p in places if 0 < p <= last or p > head}
        begins = min(alteration.begins, last)
        for events in self._inserted(0, counts) if 0 in alteration.inserted else ():
            yield events
        for page in timeline.store.read_pages(timeline.of.after(begins).up_to(last)):
            for events in by_position(page):
                position = events[0].position
                unused.discard(position)
                if not alteration.keeps(events[0]):
                    counts.left_out[events[0].type] += 1
                elif position in alteration.edited:
                    counts.edited += 1
                    write = Write(events[0].stream, list(alteration.edited[position]))
                    for edited in self._made(write, events[0]):
                        yield [edited]
                else:
                    yield events
                for inserted in self._inserted(position, counts, events[0]):
                    yield inserted
        if unused:
            raise InvalidQueryError(
                f"position {min(unused)} has no event of this history that could be edited or "
                f"inserted after"
            )

    def _inserted(
        self, position: int, counts: _Counts, beside: RecordedEvent[Any] | None = None
    ) -> list[list[RecordedEvent[Any]]]:
        made = [
            [event]
            for write in self.alteration.inserted.get(position, ())
            for event in self._made(write, beside)
        ]
        counts.inserted += len(made)
        return made

    def _made(self, write: Write, beside: RecordedEvent[Any] | None) -> list[RecordedEvent[Any]]:
        """Events as if they had been recorded beside another one. Checked as on appending."""
        codec = self._timeline.store.kernel.codec
        made: list[RecordedEvent[Any]] = []
        if not write.events:
            return made
        for encoded in codec.encode(write.stream, list(write.events), _NEVER_COMMITTED, 0):
            stored = StoredSlice(
                beside.position if beside else 0,
                write.stream,
                beside.version if beside and beside.stream == write.stream else 0,
                encoded.count,
                stored_slice(beside).recorded_at if beside else 0,
                _NEVER_COMMITTED,
                0,
                None,
                encoded.body,
            )
            made += recorded_events(stored, entries_of(stored), None, codec)
        return made


class _Counts:
    """What became of the events on the way."""

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self.edited = 0
        self.inserted = 0


def _after(fold: Any, state: Any, events: Sequence[RecordedEvent[Any]]) -> Any:
    try:
        return fold.advance(state, events)
    except Exception as error:
        error.add_note("in an altered history")
        raise
