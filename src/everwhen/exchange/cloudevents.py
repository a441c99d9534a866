"""JSON Lines of CloudEvents 1.0: the exchange format.

A line of an export is a valid CloudEvent, and its extension attributes say everything else that
the store knows, so that the import of an export is the same store again:

| attribute                | what it holds                                                         |
|--------------------------|-----------------------------------------------------------------------|
| ``id``                   | the event id                                                          |
| ``source``               | what was given for the export, ``urn:everwhen`` unless said otherwise |
| ``type``, ``subject``    | the type name and the stream                                          |
| ``time``                 | ``occurred_at``; where there is none, ``recordedtime`` |
| ``data``                 | the stored JSON, of the stored schema version, with any codec steps   |
| ``recordedtime``         | ``recorded_at``                                                       |
| ``ewposition``, ``ewversion`` | position and version, as text (they may exceed 32 bits)          |
| ``ewschema``             | the schema version                                                    |
| ``ewcommit``, ``ewindex`` | the commit's id, and the event's index in it, from 0                 |
| ``ewlast``               | true on a commit's last event                                         |
| ``ewpart``               | true where the export was a selection: commits may lack events        |
| ``ewownid``, ``ewowntime`` | true where ``id`` or ``time`` were given by the writer              |
| ``ewtags``, ``ewextras`` | tags and extras, as JSON in a text                                    |
| ``causationid``, ``correlationid`` | the commit's metadata,                                     |
| ``ewuser``, ``ewsource``, ``ewcommitextras`` | all of it                                        |

Any other CloudEvent becomes an event of the stream ``subject``, or ``source`` where it has none.
A ``time`` that says more than Everwhen stores (a leap second, digits beyond a microsecond) is kept
among the extras as it was written. Data that isn't a JSON object is kept as ``{"value": …}``,
binary data as ``{"base64": …}``, and attributes that Everwhen has no place for in the event's
extras, as ``{"cloudevent": {…}}``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from everwhen.codec.json_encoding import encode_json
from everwhen.codec.recorded_events import (
    RecordedEvent,
    codec_of,
    commit_metadata,
    event_id,
    index_in_slice,
    stored_entry,
    stored_slice,
)
from everwhen.codec.slice_bodies import EntryMetadata, extras_text
from everwhen.commands.decisions import shown_command
from everwhen.exchange.log_times import checked
from everwhen.exchange.moments import text_of
from everwhen.exchange.records import FileItem, FileWriter
from everwhen.exchange.restoring import items_of

_encode_lines: Final = msgspec.json.Encoder().encode_lines
_NO_METADATA: Final = EntryMetadata()


class CloudEvents(msgspec.Struct, frozen=True):
    """JSON Lines of CloudEvents. ``source`` is the URI that exported events are said to be from.

    Imported events without a time get ``time``. Unless that is given, each gets the time of the one
    before it, or is recorded as of now where no event of the file has a time.
    """

    source: str = "urn:everwhen"
    time: datetime | None = None

    def __post_init__(self) -> None:
        checked(self.time)

    @property
    def name(self) -> str:
        """The format's name on the command line."""
        return "cloudevents"

    @property
    def identity(self) -> bytes:
        """What was chosen for reading."""
        chosen = b"" if self.time is None else encode_json({"time": self.time})
        return b"cloudevents" + chosen

    def text(self, *, part: bool) -> FileWriter:
        """Lines; ``part`` marks them as a selection of their commits."""
        return CloudEventsText(self.source, part=part)

    def read(self, chunks: Iterator[bytes]) -> Iterator[FileItem]:
        """Records of foreign events, or the restored commits of an Everwhen export."""
        return items_of(chunks, self.time)


class _Line(msgspec.Struct, omit_defaults=True, gc=False, kw_only=True):
    """One line of an export, in the order in which people like to read it."""

    specversion: str = msgspec.field(default_factory=lambda: "1.0")
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: Literal["application/json"]
    data: msgspec.Raw
    recordedtime: str
    ewposition: str
    ewversion: str
    ewschema: int
    ewcommit: str
    ewindex: int
    ewlast: bool = False
    ewpart: bool = False
    ewownid: bool = False
    ewowntime: bool = False
    ewtags: str = ""
    ewextras: str = ""
    causationid: str | None = None
    correlationid: str | None = None
    ewuser: str | None = None
    ewsource: str | None = None
    ewcommitextras: str = ""


class CloudEventsText:
    """Events, as stored, to lines. ``part`` says that they are a selection of their commits.

    One event is held back until it is known whether it is its commit's last.
    """

    def __init__(self, source: str, *, part: bool) -> None:
        self._source = source
        self._part = part
        self._held: _Line | None = None
        self._slice: object = None
        self._common: dict[str, Any] = {}

    def of(self, events: Iterable[RecordedEvent[Any]]) -> bytes:
        """The text of events that follow on those before."""
        lines: list[_Line] = []
        held = self._held
        for event in events:
            line = self._line(event)
            if held is not None:
                held.ewlast = not self._part and held.ewcommit != line.ewcommit
                lines.append(held)
            held = line
        self._held = held
        return _encode_lines(lines)

    def rest(self) -> bytes:
        """What was held back, at the end."""
        held, self._held = self._held, None
        if held is None:
            return b""
        held.ewlast = not self._part
        return _encode_lines([held])

    def _line(self, event: RecordedEvent[Any]) -> _Line:
        stored, entry, index = stored_slice(event), stored_entry(event), index_in_slice(event)
        if stored is not self._slice:
            self._slice = stored
            self._common = self._common_of(event)
        common = self._common
        own = entry.metadata or _NO_METADATA
        recorded = common["recordedtime"]
        return _Line(
            id=event_id(stored, entry, index),
            type=entry.type,
            time=recorded if own.occurred_at is None else _text(own.occurred_at),
            data=entry.data if codec_of(event).is_raw else msgspec.Raw(event.json),
            ewposition=str(event.position),
            ewversion=str(event.version),
            ewschema=entry.schema_version,
            ewindex=stored.first_index + index,
            ewownid=own.id is not None,
            ewowntime=own.occurred_at is not None,
            ewtags=encode_json(entry.tags).decode() if entry.tags else "",
            ewextras="" if own.extras is None else extras_text(own.extras),
            **common,
        )

    def _common_of(self, event: RecordedEvent[Any]) -> dict[str, Any]:
        """What the events of a slice have in common."""
        stored = stored_slice(event)
        metadata = commit_metadata(stored)
        extras, encryption, own_id = metadata.extras, codec_of(event).encryption, stored.commit_id
        if encryption is not None and extras:
            extras = shown_command(extras, UUID(bytes=own_id), encryption)
        return {
            "source": self._source,
            "subject": stored.stream,
            "datacontenttype": "application/json",
            "recordedtime": text_of(stored.recorded_at),
            "ewcommit": str(UUID(bytes=own_id)),
            "ewpart": self._part,
            "causationid": metadata.causation_id,
            "correlationid": metadata.correlation_id,
            "ewuser": metadata.user_id,
            "ewsource": metadata.source,
            "ewcommitextras": extras_text(extras) if extras else "",
        }


def _text(moment: object) -> str:
    return encode_json(moment).decode()[1:-1]
