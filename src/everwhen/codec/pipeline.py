"""The steps between an event's plain data and what is stored of it, in one order, and reversed.

A batch goes through one step after another: on its way to the store, a stream's events in a commit;
on the way back those of a page, or the one event that is looked at. Whatever fails on the way says
at which step, and at which event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import length_hint
from typing import Any, Protocol

import msgspec

from everwhen.codec.event_types import DeclaredType, unreadable_data
from everwhen.codec.json_encoding import decode_json, encode_json
from everwhen.codec.slice_bodies import EntryMetadata
from everwhen.system.interrupts import is_interrupt
from everwhen.vocabulary.contract import MAX_DEPTH
from everwhen.vocabulary.errors import (
    DecodeError,
    EverwhenError,
    InvalidEventError,
    TooDeepError,
)
from everwhen.vocabulary.nesting import is_deeper


class CodecStep(Protocol):
    """A reversible change to an event's data on its way to the store.

    Both ways get the type, the schema version, the event id and the data as JSON, and return
    JSON. ``decode`` undoes ``encode`` exactly, and ``encode`` gives the same bytes for the same
    arguments, or a repeated commit could not be recognised. What ``decode`` raises reaches the
    reader as a `DecodeError`, unless it is an error of Everwhen's own.
    """

    def encode(self, type_name: str, schema_version: int, event_id: str, data: bytes) -> bytes:
        """The data to store."""
        ...

    def decode(self, type_name: str, schema_version: int, event_id: str, data: bytes) -> bytes:
        """The data as it was given to ``encode``."""
        ...


class StepEvent(msgspec.Struct, gc=False):
    """One event on its way through the steps, which change its ``content``.

    That is its data as JSON; on the way to the store it may be the typed event instead, which is
    encoded with the whole slice.
    """

    type_name: str
    schema_version: int
    event_id: str
    content: Any
    tags: tuple[str, ...] = ()
    metadata: EntryMetadata | None = None

    @property
    def data(self) -> bytes:
        """The content as JSON."""
        content = self.content
        return content if type(content) is bytes else encode_json(content)

    @property
    def entry(self) -> tuple[Any, ...]:
        """What is encoded of it in a slice's body."""
        content = self.content
        if type(content) is bytes:
            content = msgspec.Raw(content)
        if self.metadata is not None:
            return self.type_name, self.schema_version, content, self.tags, self.metadata
        if self.tags:
            return self.type_name, self.schema_version, content, self.tags
        return self.type_name, self.schema_version, content


class BatchStep(Protocol):
    """A step that takes many events at once, each once and in order."""

    name: str

    def changes(self, declared: DeclaredType) -> bool:
        """Whether it changes the data of events of a type."""
        ...

    def takes_typed(self, data: bytes) -> bool:
        """Whether it takes typed events in place of their JSON, which is in ``data``."""
        ...

    def encode(self, events: Iterable[StepEvent]) -> None:
        """Put what is stored in the place of each event's content."""
        ...

    def decode(self, events: Iterable[StepEvent]) -> None:
        """Put what was given to ``encode``, as JSON, in the place of each event's content."""
        ...


class EachEvent:
    """A `CodecStep` as a step for many events."""

    def __init__(self, step: CodecStep) -> None:
        self.name = type(step).__name__
        self._step = step

    def changes(self, declared: DeclaredType) -> bool:
        """Always: nobody knows what it does."""
        del declared
        return True

    def takes_typed(self, data: bytes) -> bool:
        """Never: it works on JSON."""
        del data
        return False

    def encode(self, events: Iterable[StepEvent]) -> None:
        """Have the step encode each. Raises `InvalidEventError` where that isn't JSON."""
        encode = self._step.encode
        for event in events:
            data = encode(event.type_name, event.schema_version, event.event_id, event.data)
            try:
                if not is_deeper(data):
                    decode_json(data)  # one entry that isn't JSON makes the whole slice unreadable
            except (msgspec.DecodeError, ValueError, TypeError, AttributeError) as error:
                raise InvalidEventError(
                    f"{event.type_name} can't be stored: the step {self.name} made of it what is "
                    f"no JSON ({error}); let it return JSON, as bytes"
                ) from error
            event.content = bytes(data)

    def decode(self, events: Iterable[StepEvent]) -> None:
        """Have the step decode each."""
        decode = self._step.decode
        for event in events:
            event.content = decode(
                event.type_name, event.schema_version, event.event_id, event.data
            )


class Pipeline:
    """Steps in the order in which they encode."""

    def __init__(self, steps: Sequence[BatchStep]) -> None:
        self.steps = tuple(steps)

    def changes(self, declared: DeclaredType) -> bool:
        """Whether any step changes the data of events of a type."""
        return any(step.changes(declared) for step in self.steps)

    def takes_typed(self, data: bytes) -> bool:
        """Whether all steps take typed events in place of their JSON, which is in ``data``."""
        for step in self.steps:  # noqa: SIM110 (a generator costs each single append)
            if not step.takes_typed(data):
                return False
        return True

    def encode(self, events: list[StepEvent]) -> None:
        """Make of each event's content what is stored.

        Raises `InvalidEventError` for what is nested too deep then, and whatever a step raises,
        with a note of the step and the event.
        """
        for step in self.steps:
            left = iter(events)
            try:
                step.encode(left)
            except Exception as error:
                error.add_note(_place(step, events, left))
                raise
        if self.steps:
            for event in events:
                if type(event.content) is bytes and is_deeper(event.content):
                    why = TooDeepError("it", MAX_DEPTH)
                    raise InvalidEventError(f"{event.type_name} can't be stored: {why}")

    def decode(self, events: list[StepEvent]) -> None:
        """Make of each event's content the JSON that it was before all steps.

        Raises `DecodeError` for what is nested too deep and for what a step can't decode, with
        the step and the event; other errors of Everwhen's own have them in a note.
        """
        for event in events:
            if is_deeper(event.content):
                why = unreadable_data(event.type_name, event.schema_version)
                raise DecodeError(f"event {event.event_id}: {why}")
        for step in reversed(self.steps):
            left = iter(events)
            try:
                step.decode(left)
            except Exception as error:
                place = _place(step, events, left)
                if type(error) is DecodeError:
                    raise DecodeError(f"{place}: {error}") from error
                if isinstance(error, EverwhenError) or is_interrupt(error):
                    error.add_note(place)
                    raise
                raise DecodeError(f"{place}: {error!r}") from error


def _place(step: BatchStep, events: list[StepEvent], left: Iterator[StepEvent]) -> str:
    """At which step and at which event it failed, which was the last that the step took."""
    event = events[max(0, len(events) - length_hint(left) - 1)]
    return f"step {step.name}, event {event.event_id} ({event.type_name})"
