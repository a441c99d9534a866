"""Where a time machine goes, and what it finds there: values, without a store.

A *moment* is given as a position, a recorded time, or one of the forms here; `moment_from` reads
those that people type::

    5877                        a position
    2013-05-01 14:00, 2h ago    a recorded time, as `everwhen.vocabulary.written_moments`
    of 2013-05-01               what had happened by then, whenever it was recorded
    v12                         the twelfth version of the stream
    order-3@12                  the twelfth version of that stream
    @lunch                      a bookmark
    5 back, 5 on                that many events from here
    2h before, 10 min after     that much time from here
    start, head                 before the first event; the newest one
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from everwhen.codec.recorded_events import RecordedEvent
from everwhen.state.differences import Diff, diff
from everwhen.state.paths import Path, plain
from everwhen.vocabulary.moments import HEAD, AsOf, Back, Before, Bookmark, Moment, Version
from everwhen.vocabulary.written_moments import moment_of, place_of

if TYPE_CHECKING:
    from everwhen.vocabulary.notebook_html import TableRow

S = TypeVar("S")


_BACK: Final = re.compile(r"(\d{1,18})(?: events?)? (back|on)")
_BOOKMARK: Final = re.compile(r"@([^\W\d][\w.-]{0,99})")
_STREAM_VERSION: Final = re.compile(r"(\S+)@(\d{1,18})")
_VERSION: Final = re.compile(r"v(?:ersion ?)?(\d{1,18})")


def moment_from(text: str, *, now: datetime, zone: tzinfo) -> Moment:
    """The moment that the text means, seen from ``now`` in ``zone``.

    Raises `InvalidQueryError` for what isn't understood.
    """
    words = " ".join(text.split())
    lower = words.lower()
    if lower == "start":
        return 0
    if lower == "head":
        return HEAD
    if match := _BACK.fullmatch(lower):
        return Back(int(match[1]) if match[2] == "back" else -int(match[1]))
    if match := _BOOKMARK.fullmatch(words):
        return Bookmark(match[1])
    if match := _VERSION.fullmatch(lower):
        return Version(int(match[1]))
    if match := _STREAM_VERSION.fullmatch(words):
        return Version(int(match[2]), match[1])
    if lower.startswith("of "):
        return AsOf(moment_of(words[3:], now=now, zone=zone).time)
    for ending, sign in ((" before", 1), (" after", -1)):
        if lower.endswith(ending):
            then = moment_of(f"{words[: -len(ending)]} ago", now=now, zone=zone).time
            return Before(sign * (now - then))
    place = place_of(words, now=now, zone=zone)
    return place if isinstance(place, int) else place.time


class StateAt(msgspec.Struct, Generic[S], frozen=True):
    """The state at a moment. ``position`` is that of the last event in it, 0 before any.

    ``version`` is that event's in its stream, ``recorded_at`` when it was recorded; ``until`` is
    the position that was asked for: no event that concerns the state lies between the two.
    """

    state: S
    position: int
    version: int
    recorded_at: datetime | None
    until: int

    def _html_row_(self) -> TableRow:
        from everwhen.state.value_html import value_cell
        from everwhen.vocabulary.notebook_html import TableRow

        columns = ("position", "recorded", "version", "state")
        return TableRow(
            columns, (self.position, self.recorded_at, self.version, value_cell(self.state))
        )

    def _repr_html_(self) -> str | None:
        return _state_card("State", self)


class Transition(msgspec.Struct, Generic[S], frozen=True):
    """A moment at which a condition began to hold, or ceased to."""

    at: StateAt[S]
    holds: bool

    def _html_row_(self) -> TableRow:
        from everwhen.vocabulary.notebook_html import TableRow, looking

        row = self.at._html_row_()
        words = looking("white-space:nowrap", self._words)
        return TableRow(("condition", *row.columns), (words, *row.cells))

    @property
    def _words(self) -> str:
        return "holds" if self.holds else "doesn't hold"

    def _repr_html_(self) -> str | None:
        return _state_card(f"The condition {self._words}", self.at)


def _state_card(kind: str, at: StateAt[Any]) -> str | None:
    from everwhen.state.value_html import in_notebook
    from everwhen.travel.notebook_cards import state_card
    from everwhen.vocabulary.notebook_html import time_text

    title = f"after position {at.position:,}" if at.position else "before the first event"
    facts = (
        f"version {at.version:,}" if at.version else "",
        "" if at.recorded_at is None else f"recorded {time_text(at.recorded_at)}",
        f"unchanged until position {at.until:,}" if at.until > at.position else "",
    )
    return in_notebook(lambda: state_card(kind, title, at.state, *facts))


class Step(msgspec.Struct, Generic[S], frozen=True):
    """One event, and what it did: the state before and after it.

    An event that an upcast splits is one step with several ``events``; ``event`` is the first.
    """

    events: Sequence[RecordedEvent[Any]]
    before: S
    after: S

    @property
    def event(self) -> RecordedEvent[Any]:
        """What happened."""
        return self.events[0]

    @property
    def position(self) -> int:
        """The event's position."""
        return self.event.position

    @property
    def changes(self) -> Diff:
        """What the event changed."""
        return diff(self.before, self.after)

    def _html_row_(self) -> TableRow:
        from everwhen.travel.notebook_cards import step_row

        return step_row(self.event, self.changes)

    def _repr_html_(self) -> str | None:
        from everwhen.state.value_html import in_notebook
        from everwhen.travel.notebook_cards import step_card

        return in_notebook(lambda: step_card("Step", self.events, self.changes))


class Written(msgspec.Struct, frozen=True):
    """A part of the state that an event wrote: `MISSING` stands for a part that wasn't there."""

    event: RecordedEvent[Any]
    before: Any
    after: Any

    @property
    def position(self) -> int:
        """The event's position."""
        return self.event.position

    def _html_row_(self) -> TableRow:
        from everwhen.travel.notebook_cards import written_row

        return written_row(self.event, self.before, self.after)

    def _repr_html_(self) -> str | None:
        from everwhen.state.value_html import in_notebook
        from everwhen.vocabulary.notebook_html import card, heading, rows_table

        return in_notebook(lambda: card(heading("Written", ""), rows_table([self], "value")))


class Blame(dict[Path, RecordedEvent[Any] | None]):
    """For each leaf of a state, by its path, the event that last wrote it.

    None stands for what no event wrote. ``state`` is the state that they are the leaves of.
    """

    def __init__(self, found: Mapping[Path, RecordedEvent[Any] | None], state: Any) -> None:
        super().__init__(found)
        self.state = state

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (dict(self), self.state)

    def _repr_html_(self) -> str | None:
        from everwhen.state.value_html import in_notebook
        from everwhen.travel.notebook_cards import blame_card

        return in_notebook(lambda: blame_card(self, self.state))


class Divergence(msgspec.Struct, Generic[S], frozen=True):
    """Where two folds come to different states: after the event, or before any if it is None.

    ``mine`` and ``theirs`` are the states there, ``changes`` lead from the one to the other.
    """

    event: RecordedEvent[Any] | None
    mine: S
    theirs: Any

    @property
    def changes(self) -> Diff:
        """What would have to change in the one state to become the other."""
        return diff(plain(self.mine, ordered=True), plain(self.theirs, ordered=True))

    def _repr_html_(self) -> str | None:
        from everwhen.state.value_html import in_notebook
        from everwhen.travel.notebook_cards import divergence_card

        return in_notebook(lambda: divergence_card(self.event, self.changes))


class Cause(msgspec.Struct, frozen=True):
    """What led to an event: the id that was recorded, and its event where it is in this store."""

    id: str
    event: RecordedEvent[Any] | None


class Explanation(msgspec.Struct, frozen=True):
    """How an event came about, and what it led to.

    ``causes`` go from its own cause back to the first. ``correlated`` are the events of the same
    conversation in order, itself among them; ``is_whole`` is False where there are more of them.
    """

    event: RecordedEvent[Any]
    causes: Sequence[Cause]
    correlated: Sequence[RecordedEvent[Any]]
    is_whole: bool

    @property
    def effects(self) -> list[RecordedEvent[Any]]:
        """The events of the conversation that it led to at once."""
        return [e for e in self.correlated if e.metadata.causation_id == self.event.event_id]

    def _repr_html_(self) -> str:
        from everwhen.travel.notebook_cards import explanation_card

        causes = [(cause.id, cause.event) for cause in self.causes]
        return explanation_card(self.event, causes, self.correlated, is_whole=self.is_whole)
