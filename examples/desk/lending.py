"""What happens at the desk, and what may happen: pure functions, without web or database."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from everwhen import Decisions, Event, Fold, Refusal, StateOf

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class Borrowed(Event):
    """A member took a book home."""

    tag_fields = ("member",)

    book: str
    member: str


class Returned(Event):
    """A member brought it back."""

    tag_fields = ("member",)

    book: str
    member: str


EVENTS: Final = (Borrowed, Returned)

holder: Final[Fold[str | None]] = Fold("holder", lambda: None)
"""Who has a book; nobody where it is on its shelf."""


@holder.on(Borrowed)
def _(_state: str | None, event: Borrowed) -> str | None:
    return event.member


@holder.on(Returned)
def _(_state: str | None, _event: Returned) -> str | None:
    return None


class Borrow(msgspec.Struct, frozen=True):
    """A member wants a book."""

    book: Name
    member: Name


class Return(msgspec.Struct, frozen=True):
    """A member brings it back."""

    book: Name
    member: Name


class OnLoanError(Refusal):
    """Somebody has the book."""

    def __init__(self, book: str, member: str) -> None:
        self.book = book
        self.member = member
        super().__init__(f"{book} is with {member} at the moment; ask for another one")


class NotOnLoanError(Refusal):
    """They can't bring back what they don't have."""

    def __init__(self, book: str, member: str) -> None:
        self.book = book
        self.member = member
        super().__init__(f"{book} isn't with {member}; check the name of the book")


decisions: Final = Decisions()


def stream_of(command: Borrow | Return) -> str:
    """The book's stream."""
    return f"book-{command.book}"


@decisions.on(Borrow, StateOf(holder, stream_of))
def _(command: Borrow, state: str | None) -> list[Event]:
    if state is not None:
        raise OnLoanError(command.book, state)
    return [Borrowed(command.book, command.member)]


@decisions.on(Return, StateOf(holder, stream_of))
def _(command: Return, state: str | None) -> list[Event]:
    if state != command.member:
        raise NotOnLoanError(command.book, command.member)
    return [Returned(command.book, command.member)]
