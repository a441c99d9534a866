"""Small event types that the contract suite writes."""

from __future__ import annotations

from typing import Final

from everwhen.vocabulary.events import Event, UnknownEvent


class Deposited(Event):
    """Money came in; tagged with the account."""

    tag_fields = ("account",)

    account: int
    amount: int


class Withdrawn(Event):
    """Money went out; tagged with the account."""

    tag_fields = ("account",)

    account: int
    amount: int


class Noted(Event):
    """A remark, without tags of its own."""

    text: str


TYPES: Final = (Deposited, Withdrawn, Noted)


def notes(count: int, first: int = 1) -> list[Noted]:
    """That many events, each different."""
    return [Noted(f"note {number}") for number in range(first, first + count)]


def plain(type_name: str, version: int = 1, **data: object) -> UnknownEvent:
    """An event without a class."""
    return UnknownEvent(type_name, dict(data), version)
