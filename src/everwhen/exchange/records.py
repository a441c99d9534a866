"""What passes between a file and the store: values, without any input or output.

A reader turns chunks of a file into `ForeignEvent`, `RestoredCommit` and `Invalid` items. A
`ForeignEvent` is one event of somebody else's log; a `RestoredCommit` is a commit of an Everwhen
store as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final, Literal, Protocol, TypeAlias

import msgspec

from everwhen.codec.recorded_events import RecordedEvent
from everwhen.exchange.notices import Notice
from everwhen.vocabulary.contract import EncodedSlice

UNTIMED: Final = -(1 << 62)
"""The time of a record that has none: it goes before all others, at the earliest one's time.

Where no record has one, all are recorded as of now.
"""


class ForeignEvent(msgspec.Struct, array_like=True, gc=False):
    """One event of a foreign log.

    ``time`` is in microseconds since 1970 UTC, or ``UNTIMED``; ``ordinal`` counts the file's events
    from 0 and ``line`` is where it begins. ``data`` and ``extras`` are JSON. ``occurred_at`` is an
    ISO 8601 text where the log tells it apart from ``time``. ``row`` stands for what the file says
    of the event, however that is read; it is empty where nothing tells one event from another.
    """

    time: int
    ordinal: int
    line: int
    stream: str
    type: str
    data: bytes
    tags: tuple[str, ...] = ()
    event_id: str | None = None
    schema_version: int = 1
    occurred_at: str | None = None
    extras: bytes | None = None
    row: bytes = b""


class RestoredEntry(msgspec.Struct, gc=False):
    """One event of an exported commit; everything in JSON as it was stored."""

    stream: str
    type: str
    schema_version: int
    data: bytes
    tags: tuple[str, ...]
    event_id: str | None
    occurred_at: str | None
    extras: bytes | None


class RestoredCommit(msgspec.Struct):
    """A commit as another store had it. ``id`` is 16 bytes, ``recorded_at`` in microseconds.

    ``origin`` is the id that it had there: the same, unless the export was a selection.
    ``before`` has each stream's version before the commit, and is empty where the export was a
    selection. ``slices`` are as the store had them, ``entries`` what they are made of.
    """

    line: int
    id: bytes
    recorded_at: int
    metadata: bytes | None
    before: tuple[tuple[str, int], ...]
    position: int
    slices: tuple[EncodedSlice, ...]
    entries: list[RestoredEntry]
    origin: bytes

    @property
    def events(self) -> int:
        """How many events the commit has."""
        return len(self.entries)


class Invalid(msgspec.Struct, frozen=True):
    """Something in the file that can't become an event: where, why, and how to fix it."""

    line: int
    reason: str


FileItem: TypeAlias = ForeignEvent | RestoredCommit | Invalid | Notice


class ExchangeProgress(msgspec.Struct, frozen=True):
    """How far an import, export or copy has come; ``total`` is None where nobody can know it."""

    stage: Literal["reading", "writing", "comparing"]
    done: int
    total: int | None
    unit: Literal["bytes", "events"]


class ImportReport(msgspec.Struct, frozen=True):
    """What an import did.

    ``events`` counts the valid events of the file: ``written`` are new in the store, ``repeated``
    were there from an earlier, interrupted import. ``invalid`` counts what was left out, and
    ``reasons`` has the first few. ``times`` says what became of the file's own times: they are
    the events' ``recorded_at`` ("recorded"), their ``occurred_at`` ("occurred"), or the one for
    some and the other for the rest ("mixed"). ``late`` counts the events among ``written`` that
    were recorded now, with their own time as ``occurred_at``. ``notices`` tell what else became of
    the file: what in it was passed over, and which events lack a time.
    """

    events: int
    written: int
    repeated: int
    invalid: int
    reasons: tuple[Invalid, ...]
    times: Literal["recorded", "occurred", "mixed"]
    late: int = 0
    notices: tuple[Notice, ...] = ()


class ExportReport(msgspec.Struct, frozen=True):
    """What an export wrote; ``bytes`` are those of the text, before any compression.

    ``notices`` tell what the format can't say, and was left out.
    """

    events: int
    bytes: int
    notices: tuple[Notice, ...] = ()


class CopyReport(msgspec.Struct, frozen=True):
    """What the copying of a store did: the copy has it up to ``position``, and its branches.

    ``events`` counts those of the store and of its branches: ``written`` are new in the copy,
    ``repeated`` were there before. ``newer`` counts those that the source has got meanwhile, which
    are not in the copy; copy it again for them.
    """

    position: int
    recorded_at: datetime | None
    branches: int
    events: int
    written: int
    repeated: int
    newer: int


class FileWriter(Protocol):
    """Turns events, page by page, into a file's content."""

    def of(self, events: Iterable[RecordedEvent[Any]]) -> bytes:
        """The text of events that follow on those before."""
        ...

    def rest(self) -> bytes:
        """What belongs at the end."""
        ...


class Format(Protocol):
    """A way to write events into a file, and to read them from one."""

    @property
    def name(self) -> str:
        """The format's name on the command line."""
        ...

    @property
    def identity(self) -> bytes:
        """Tells apart two readings of the same file; part of the imported commits' ids."""
        ...

    def text(self, *, part: bool) -> FileWriter:
        """How to write events; ``part`` where they are a selection of their commits."""
        ...

    def read(self, chunks: Iterator[bytes]) -> Iterator[FileItem]:
        """The file's items in its order.

        Raises `DamagedInputError` where it can't go on.
        """
        ...
