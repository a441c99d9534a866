"""The plan of an undo: a value, to be looked at before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from uuid import UUID

import msgspec

from everwhen.codec.commits import Commit, Write
from everwhen.codec.recorded_events import RecordedEvent, shown_event
from everwhen.state.differences import Change
from everwhen.state.fold import Fold
from everwhen.undo.dependents import Dependent
from everwhen.vocabulary.contract import Condition
from everwhen.vocabulary.errors import DeclarationError, UndoError
from everwhen.vocabulary.metadata import CommitMetadata, merged
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.validation import check_plain

if TYPE_CHECKING:
    from everwhen.vocabulary.notebook_html import Cell, Html

S = TypeVar("S")

_MAX_RANGES: Final = 100
"""In a commit's extras, which every reader of it carries; the last ones are joined."""


class ByDifference(Generic[S]):
    """Undoing events without a compensation, by the difference that they made to a state.

    The fold's state before and after an event is compared, that of the event's stream or of what
    ``of`` leads to. Where each value that the event changed is still what the event made of it,
    ``restore`` is asked for the events that put it back: it is given the changes, from the value
    now to the value to restore, and the event as recorded. That they do put it back is proven
    with the fold before they are written.
    """

    def __init__(
        self,
        fold: Fold[S],
        restore: Callable[[Sequence[Change], RecordedEvent[Any]], Any],
        *,
        of: Callable[[Any], Query | str] | None = None,
    ) -> None:
        if not isinstance(fold, Fold):
            raise DeclarationError(f"expected a Fold, got {fold!r}")
        check_plain(restore, f"restoring by fold {fold.name!r}")
        self.fold = fold
        self.restore = restore
        self.of = of

    def where(self, recorded: RecordedEvent[Any]) -> Query | str:
        """Whose state the event changed."""
        return recorded.stream if self.of is None else self.of(recorded.event)


class Uncompensated(msgspec.Struct, frozen=True):
    """An event that can't be undone, or done again, and why."""

    event: RecordedEvent[Any]
    reason: str


class UndoPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What an undo or a redo would do, as things stood at ``position``.

    ``undone`` and ``redone`` are the events that it undoes and does again, in that order;
    ``appended`` what it writes to each stream, and at which version it expects it. ``already``
    are events of the target that are as wanted without it. ``audit_entries`` are those of the
    target: they say what was done, so they stay, whatever is undone. ``dependents`` are the first
    of ``dependent_count`` events that came since and may rest on what is undone.

    ``commit_id`` follows from what is undone and how often that was undone or redone before, so
    that the same undo sent twice is written once.
    """

    what: str
    position: int
    commit_id: UUID
    undone: tuple[RecordedEvent[Any], ...] = ()
    redone: tuple[RecordedEvent[Any], ...] = ()
    appended: tuple[Write, ...] = ()
    uncompensated: tuple[Uncompensated, ...] = ()
    already: tuple[RecordedEvent[Any], ...] = ()
    audit_entries: tuple[RecordedEvent[Any], ...] = ()
    dependents: tuple[Dependent, ...] = ()
    dependent_count: int = 0
    metadata: CommitMetadata = CommitMetadata()
    guards: tuple[Write, ...] = ()
    condition: Condition | None = None

    @property
    def is_complete(self) -> bool:
        """Whether nothing of the target is left out, but audit entries."""
        return not self.uncompensated

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not self.appended

    def _repr_html_(self) -> str | None:
        from everwhen.state.value_html import in_notebook

        return in_notebook(lambda: _plan_card(self))

    def check(self, *, allow_partial: bool) -> None:
        """Raises `UndoError` where there is nothing to do, or something would be left out."""
        if self.uncompensated and not (allow_partial and self.appended):
            first = self.uncompensated[0]
            more = len(self.uncompensated) - 1
            raise UndoError(
                f"{self.what}: position {first.event.position} ({first.event.type}) can't be: "
                f"{first.reason}" + (f" (and {more} more)" if more else ""),
                "look at the plan, and allow a partial one to leave out what can't be"
                if self.appended
                else "declare a compensation, undo by difference, or correct it by hand",
            )
        if self.appended:
            return
        if self.undone or self.redone:
            raise UndoError(
                f"{self.what}: nothing needs to be appended for it", "leave it as it is"
            )
        if self.already:
            raise UndoError(
                f"{self.what}: it was done before, position {self.already[0].position} is so "
                f"already",
                "to go back, redo what was undone, or undo what was done again",
            )
        if self.audit_entries:
            raise UndoError(
                f"{self.what}: these are audit entries, which stay",
                "undo the events that they speak of",
            )
        raise UndoError(f"{self.what}: there are no such events", "look for them with a read")

    def commit(
        self, metadata: CommitMetadata | None = None, beside: Sequence[Write] = ()
    ) -> Commit:
        """The one commit that does it all, with other writes ``beside`` it.

        The plan's own metadata goes over what is given.
        """
        return Commit(
            (*self.appended, *self.guards, *beside),
            self.condition,
            self.commit_id,
            merged(self.metadata, metadata) if metadata is not None else self.metadata,
        )


def _plan_card(plan: UndoPlan) -> str:
    """What goes, what comes, what stays, and what rests on it."""
    from everwhen.vocabulary.notebook_html import (
        BAD,
        DIM,
        GOOD,
        WARNING,
        card,
        element,
        heading,
        joined,
    )

    why = [(one.event, one.reason) for one in plan.uncompensated]
    rest = [(one.event, one.why) for one in plan.dependents]
    return card(
        heading("Undo plan", plan.what, f"as at position {plan.position:,}"),
        _events_part(BAD, "-", "to undo", plan.undone),
        _events_part(GOOD, "↻", "to do again", plan.redone),
        _writes_part(plan.appended),
        _reasons_part(WARNING, "!", "that can't be undone", why, len(why)),
        _events_part(DIM, "=", "already in the wanted state", plan.already),
        _events_part(DIM, "=", "of the audit, which stay", plan.audit_entries),
        _reasons_part(DIM, "·", "since that may depend on it", rest, plan.dependent_count),
        joined(*([element("div", "nothing to write", look=DIM)] if plan.is_empty else [])),
    )


def _events_part(look: str, sign: str, what: str, events: Sequence[RecordedEvent[Any]]) -> Html:
    from everwhen.codec.event_html import EVENT_COLUMNS, event_cells

    rows = (event_cells(shown_event(event)) for event in events)
    return _part(look, sign, what, EVENT_COLUMNS, rows, len(events))


def _writes_part(writes: Sequence[Write]) -> Html:
    from everwhen.state.value_html import new_event_cells
    from everwhen.vocabulary.notebook_html import GOOD, element

    columns = ("stream", "type", "data")
    news = ((write, new) for write in writes for new in write.events)
    rows = ((element("bdi", write.stream), *new_event_cells(new)) for write, new in news)
    count = sum(len(write.events) for write in writes)
    return _part(GOOD, "+", "to append", columns, rows, count)


def _reasons_part(
    look: str, sign: str, what: str, found: Sequence[tuple[RecordedEvent[Any], str]], count: int
) -> Html:
    from everwhen.codec.event_html import EVENT_COLUMNS, event_cells

    rows = ((*event_cells(shown_event(event))[:4], why) for event, why in found)
    return _part(look, sign, what, (*EVENT_COLUMNS[:4], "why"), rows, count)


def _part(
    look: str,
    sign: str,
    what: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    count: int,
) -> Html:
    from everwhen.vocabulary.notebook_html import counted, element, joined, looking, table

    if not count:
        return joined()
    title = looking(look, f"{sign} {counted(count, 'event')} {what}")
    return joined(
        element("div", title, look="margin-top:.6em"), table(columns, rows, count, "event")
    )


def ranges_of(positions: Iterable[int]) -> dict[str, Any]:
    """Positions in a few words, for a commit's extras: how many, and where they lie."""
    ordered = sorted(positions)
    ranges: list[list[int]] = []
    for position in ordered:
        if ranges and position == ranges[-1][1] + 1:
            ranges[-1][1] = position
        else:
            ranges.append([position, position])
    if len(ranges) > _MAX_RANGES:
        ranges = [*ranges[: _MAX_RANGES - 1], [ranges[_MAX_RANGES - 1][0], ordered[-1]]]
    return {"events": len(ordered), "positions": ranges}
