"""Timers: commands to be sent later, and how they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import msgspec

from everwhen.codec.recorded_events import RecordedEvent
from everwhen.commands.decisions import RecordedCommand
from everwhen.reactions.reactions import Reaction
from everwhen.vocabulary.contract import Checkpoint
from everwhen.vocabulary.errors import DeclarationError, StorageError
from everwhen.vocabulary.microseconds import from_micros, to_micros
from everwhen.vocabulary.validation import check_text


class Timer(msgspec.Struct, frozen=True):
    """A command to be sent later: ``after`` that much of the store's time, or ``at`` a moment.

    Another timer with the same key takes its place. Raises `DeclarationError` without one of the
    two, with both, and for a moment without a time zone.
    """

    key: str
    command: Any
    after: timedelta | None = None
    at: datetime | None = None

    def __post_init__(self) -> None:
        if (self.after is None) == (self.at is None):
            raise DeclarationError(f"timer {self.key!r}: give either after=… or at=…; got {self!r}")
        if self.after is not None and not isinstance(self.after, timedelta):
            raise DeclarationError(f"timer {self.key!r}: after={self.after!r}: give a timedelta")
        if self.at is not None and (not isinstance(self.at, datetime) or self.at.tzinfo is None):
            raise DeclarationError(
                f"timer {self.key!r}: at={self.at!r}: give a datetime with a time zone"
            )

    def due(self, recorded: RecordedEvent[Any]) -> datetime:
        """When it is due, if the event sets it. Raises `DeclarationError` beyond all calendars."""
        try:
            if self.at is not None:
                return self.at.astimezone(UTC)
            return recorded.recorded_at + (self.after or timedelta())
        except OverflowError as error:
            raise DeclarationError(f"timer {self.key!r}: {self!r} is out of bounds") from error


class CancelTimer(msgspec.Struct, frozen=True):
    """Drops the timer of that key, if it is still set."""

    key: str


class SetTimer(msgspec.Struct, frozen=True):
    """A timer as it is kept, with the event that it goes back to, at ``position``.

    ``due`` is in microseconds since 1970 UTC.
    """

    key: str
    due: int
    command: RecordedCommand
    command_id: UUID
    causation_id: str
    correlation_id: str
    position: int

    @property
    def due_at(self) -> datetime:
        """When it is due, in UTC."""
        return from_micros(self.due)


def set_timer(
    reaction: Reaction,
    timer: Timer,
    event: RecordedEvent[Any],
    index: int,
    command: RecordedCommand,
) -> SetTimer:
    """A timer as it is kept. Raises `DeclarationError` for one without a clear time or key."""
    check_text(timer.key, f"reaction {reaction.name!r}: timer key", DeclarationError)
    if len(timer.key.encode()) > _MAX_KEY_BYTES:
        raise DeclarationError(f"timer key {timer.key[:40]!r}…: {_MAX_KEY_BYTES} bytes at most")
    due = to_micros(timer.due(event))
    try:
        from_micros(due)
    except (OverflowError, ValueError) as error:
        raise DeclarationError(f"timer {timer.key!r} is due out of bounds, in UTC") from error
    metadata = event.metadata
    return SetTimer(
        timer.key,
        due,
        command,
        reaction.command_id(event, index),
        metadata.event_id,
        metadata.correlation_id,
        event.position,
    )


_MAX_KEY_BYTES: Final = 250
"""With the reaction's name it is a checkpoint's name, of 512 bytes."""


def timer_name(reaction: str, key: str) -> str:
    """The name of the checkpoint that a timer is kept under."""
    return f"timer/{reaction}/{key}"


def timer_checkpoint(reaction: str, timer: SetTimer) -> Checkpoint:
    """How a timer is kept."""
    return Checkpoint(timer_name(reaction, timer.key), timer.position, msgspec.json.encode(timer))


_decode_timer: Final = msgspec.json.Decoder(SetTimer).decode


def timers_of(checkpoints: Sequence[Checkpoint], reaction: str) -> dict[str, SetTimer]:
    """A reaction's timers, by key. Raises `StorageError` where one is damaged."""
    prefix = timer_name(reaction, "")
    found: dict[str, SetTimer] = {}
    for checkpoint in checkpoints:
        if checkpoint.name.startswith(prefix):
            try:
                timer = _decode_timer(checkpoint.data)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise StorageError(
                    f"checkpoint {checkpoint.name!r} is damaged ({error}); delete it, and see to "
                    f"its command by hand"
                ) from error
            found[timer.key] = timer
    return found
