"""Compensations: what is appended to undo an event, declared per type. Pure.

    compensations = Compensations()

    @compensations.on(Deposited)
    def _(event: Deposited) -> Withdrawn:
        return Withdrawn(event.amount)

A function returns one event, or a list of them; `NewEvent` around one gives it tags or a time of
its own. An empty list says that nothing needs to be done, so that the event counts as undone.
None says that it can't be undone this time, and so does whatever the function raises, in its own
words. What is appended must be a real inverse: folded after the event, it leads back to the state
before it, apart from what has happened in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, overload

import msgspec

from everwhen.codec.recorded_events import RecordedEvent
from everwhen.state.fold import Fold
from everwhen.vocabulary.errors import DeclarationError
from everwhen.vocabulary.query import Query
from everwhen.vocabulary.validation import check_plain

E = TypeVar("E")
S = TypeVar("S")


class Compensation(msgspec.Struct, frozen=True):
    """How events of one type are undone, or done again."""

    function: Callable[..., Any]
    wants_record: bool = False
    given: Fold[Any] | None = None
    of: Callable[[Any], Query | str] | None = None

    def where(self, recorded: RecordedEvent[Any]) -> Query | str:
        """Whose state it is given: that of the event's stream, unless declared otherwise."""
        return recorded.stream if self.of is None else self.of(recorded.event)

    def ask(self, recorded: RecordedEvent[Any], *state: Any) -> Any:
        """What the function says. Whatever it raises comes through."""
        return self.function(recorded if self.wants_record else recorded.event, *state)


class Compensations:
    """Which function undoes which type of event.

    ``given`` lets a function see a fold's state, as it is when the undo is planned, with what the
    plan itself appends before. It is the state of the event's own stream, or of what ``of`` leads
    to: a stream's name, or a query without bounds. Nothing may have changed it when the undo is
    written, or the undo is refused.
    """

    def __init__(self) -> None:
        self._undo: dict[type[Any], Compensation] = {}
        self._redo: dict[type[Any], Compensation] = {}

    @overload
    def on(self, event_type: type[E], /) -> Callable[[Callable[[E], Any]], Callable[[E], Any]]: ...
    @overload
    def on(
        self,
        event_type: type[E],
        /,
        *,
        given: Fold[S],
        of: Callable[[E], Query | str] | None = None,
    ) -> Callable[[Callable[[E, S], Any]], Callable[[E, S], Any]]: ...

    def on(
        self,
        event_type: type[Any],
        /,
        *,
        given: Fold[Any] | None = None,
        of: Callable[[Any], Query | str] | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare what undoes an event of this class, from the event, and the state if given."""
        return _declares(self._undo, event_type, wants_record=False, given=given, of=of)

    @overload
    def on_recorded(
        self, event_type: type[E], /
    ) -> Callable[
        [Callable[[RecordedEvent[E]], Any]],
        Callable[[RecordedEvent[E]], Any],
    ]: ...
    @overload
    def on_recorded(
        self,
        event_type: type[E],
        /,
        *,
        given: Fold[S],
        of: Callable[[E], Query | str] | None = None,
    ) -> Callable[
        [Callable[[RecordedEvent[E], S], Any]],
        Callable[[RecordedEvent[E], S], Any],
    ]: ...

    def on_recorded(
        self,
        event_type: type[Any],
        /,
        *,
        given: Fold[Any] | None = None,
        of: Callable[[Any], Query | str] | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """The same, for a function that is given the event as recorded, with its metadata."""
        return _declares(self._undo, event_type, wants_record=True, given=given, of=of)

    @overload
    def redo(
        self, event_type: type[E], /
    ) -> Callable[[Callable[[E], Any]], Callable[[E], Any]]: ...
    @overload
    def redo(
        self,
        event_type: type[E],
        /,
        *,
        given: Fold[S],
        of: Callable[[E], Query | str] | None = None,
    ) -> Callable[[Callable[[E, S], Any]], Callable[[E, S], Any]]: ...

    def redo(
        self,
        event_type: type[Any],
        /,
        *,
        given: Fold[Any] | None = None,
        of: Callable[[Any], Query | str] | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare what does an undone event of this class again, where the event itself doesn't.

        At least one event has to be returned; None says that it can't be done again this time.
        """
        return _declares(self._redo, event_type, wants_record=False, given=given, of=of)

    def include(self, others: Compensations) -> None:
        """Take in another module's compensations."""
        for mine, theirs in ((self._undo, others._undo), (self._redo, others._redo)):
            for event_type, compensation in theirs.items():
                _add(mine, event_type, compensation)

    def for_undo(self, event: object) -> Compensation | None:
        """What is declared to undo an event of this class."""
        return self._undo.get(type(event))

    def for_redo(self, event: object) -> Compensation:
        """What does an event again: what is declared for its class, or else the event itself."""
        return self._redo.get(type(event), AGAIN)


def _same(event: E) -> E:
    return event


AGAIN: Final = Compensation(_same)
"""Doing an event again by appending it again."""


def _declares(
    by_class: dict[type[Any], Compensation],
    event_type: type[Any],
    *,
    wants_record: bool,
    given: Fold[Any] | None,
    of: Callable[[Any], Query | str] | None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    if not isinstance(event_type, type):
        raise DeclarationError(f"expected a class of events, got {event_type!r}")
    what = f"compensation of {event_type.__name__}"
    if given is not None and not isinstance(given, Fold):
        raise DeclarationError(f"{what}: given: expected a Fold, got {given!r}")
    if of is not None and (given is None or not callable(of)):
        raise DeclarationError(
            f"{what}: of={of!r} leads from the event to a stream's name or a query, and goes with "
            f"given=…"
        )

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        check_plain(function, what)
        _add(by_class, event_type, Compensation(function, wants_record, given, of))
        return function

    return declare


def _add(
    by_class: dict[type[Any], Compensation], event_type: type[Any], compensation: Compensation
) -> None:
    if event_type in by_class:
        raise DeclarationError(f"there are two compensations of {event_type.__name__}; keep one")
    by_class[event_type] = compensation
