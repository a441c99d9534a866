"""What can be undone: an event, a commit, a correlation, a range, or what a query gives."""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec

from everwhen.codec.recorded_events import RecordedEvent, stored_slice
from everwhen.vocabulary.contract import Receipt, StoredSlice
from everwhen.vocabulary.errors import InvalidQueryError
from everwhen.vocabulary.query import Query

_PLACE: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/\d{1,9}(?:\.\d+)?")
"""The event ids that follow from a commit."""


class Correlation(msgspec.Struct, frozen=True):
    """All events of a correlation. Finding them reads the whole store."""

    id: str


class Positions(msgspec.Struct, frozen=True):
    """The events from one position to another, both included; only a user's, if one is named."""

    first: int
    last: int | None = None
    user_id: str | None = None


UndoTarget: TypeAlias = (
    int | str | RecordedEvent[Any] | UUID | Receipt | Correlation | Positions | Query
)
"""What to undo: an event by its position, its event id or itself; a commit by its id or receipt;
a correlation; a range of positions; or the events of a query."""


def described(target: object) -> str:
    """The target, in words. Raises `InvalidQueryError` for anything else."""
    _check(target)
    match target:
        case bool():
            pass
        case int():
            return f"position {target}"
        case str():
            return f"event {target}"
        case RecordedEvent():
            return f"position {target.position}"
        case UUID():
            return f"commit {target}"
        case Receipt():
            return f"commit {target.commit_id}"
        case Correlation(id=correlation_id):
            return f"correlation {correlation_id}"
        case Positions(first=first, last=last, user_id=user_id):
            until = "the end" if last is None else f"position {last}"
            whose = "" if user_id is None else f", all by {user_id}"
            return f"position {first} to {until}{whose}"
        case Query():
            return "what a query gives"
    raise InvalidQueryError(
        f"{target!r} can't be undone; give a position, an event, a commit's id, a Correlation, "
        f"Positions or a Query"
    )


def where_to_look(target: UndoTarget, head: int) -> Query | UUID:
    """The query or the commit that holds the target's events, up to the store's position."""
    match target:
        case int(position):
            return _between(position, position, head)
        case RecordedEvent(position=position):
            return _between(position, position, head)
        case Positions(first=first, last=last):
            return _between(first, head if last is None else last, head)
        case Query(last_position=last):
            return target.up_to(head if last is None else min(last, head))
        case UUID():
            return target
        case Receipt(commit_id=commit_id):
            return commit_id
        case str() if place := _PLACE.fullmatch(target):
            return UUID(place[1])
        case _:
            return Query().up_to(head)


class Meant:
    """Which of the events that were found there are of the target."""

    def __init__(self, target: UndoTarget) -> None:
        self._target = target
        self._of_commit = isinstance(target, Correlation) or (
            isinstance(target, Positions) and target.user_id is not None
        )
        self._slice: StoredSlice | None = None
        self._is_commit_meant = False

    def has(self, event: RecordedEvent[Any]) -> bool:
        """Whether the event is one of them."""
        if self._of_commit:
            if stored_slice(event) is not self._slice:
                self._slice = stored_slice(event)
                self._is_commit_meant = self._means_commit(event)
            return self._is_commit_meant
        match self._target:
            case str(event_id):
                return event.event_id == event_id
            case RecordedEvent(commit_id=commit_id):
                return event.commit_id == commit_id
            case _:
                return True

    def _means_commit(self, event: RecordedEvent[Any]) -> bool:
        match self._target:
            case Correlation(id=correlation_id):
                return event.metadata.correlation_id == correlation_id
            case Positions(user_id=user_id):
                return event.metadata.user_id == user_id
            case _:
                return True


def _check(target: object) -> None:
    """Raises `InvalidQueryError` for a correlation or a range of what can't be one."""
    match target:
        case Correlation(id=str()):
            return
        case Positions(first=int(), last=int() | None, user_id=str() | None):
            return
        case Correlation() | Positions():
            raise InvalidQueryError(
                f"{target!r}: positions are whole numbers, and ids of users and correlations texts"
            )
        case _:
            return


def _between(first: int, last: int, head: int) -> Query:
    return Query().after(max(first, 1) - 1).up_to(max(0, min(last, head)))
