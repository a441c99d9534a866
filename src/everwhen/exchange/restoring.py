"""CloudEvents lines to records, or to the commits they were exported from.

The first event decides: a file is either an Everwhen export, all of it, or somebody else's.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from everwhen.codec.json_encoding import decode_json, encode_json
from everwhen.codec.slice_bodies import decode_entries
from everwhen.exchange.entries import entry_of, slices_of, uuid8
from everwhen.exchange.lines import lines
from everwhen.exchange.log_times import Untimed, time_of
from everwhen.exchange.moments import micros_of
from everwhen.exchange.notices import Notices
from everwhen.exchange.records import (
    UNTIMED,
    FileItem,
    ForeignEvent,
    Invalid,
    RestoredCommit,
    RestoredEntry,
)
from everwhen.exchange.row_digests import row_of
from everwhen.vocabulary.contract import MAX_DEPTH, MAX_EVENT_BYTES
from everwhen.vocabulary.errors import EverwhenError, InvalidEventError
from everwhen.vocabulary.metadata import CommitMetadata
from everwhen.vocabulary.nesting import TOO_DEEP, is_deeper
from everwhen.vocabulary.validation import check_stream, check_tags, check_text, check_type_name

MAX_COMMIT_BYTES: Final = 1 << 30
"""A commit is held in memory until its last line was read."""

_LINE_BYTES: Final = 256
"""What a line takes in memory beside its texts, about."""

_KNOWN: Final = {"specversion", "id", "type", "subject", "time", "data", "data_base64"}
_RFC_3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_JSON: Final = b'"application/json"'


class _Line(msgspec.Struct, gc=False, kw_only=True):
    """What a line may have; the rest of it is only looked at where it is a foreign event."""

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    subject: str | None = None
    time: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"")
    data_base64: str | None = None
    recordedtime: str = ""
    ewposition: str = ""
    ewversion: str = ""
    ewschema: int = 1
    ewcommit: str | None = None
    ewindex: int = 0
    ewlast: bool = False
    ewpart: bool = False
    ewownid: bool = False
    ewowntime: bool = False
    ewtags: str = ""
    ewextras: str = ""
    causationid: Any = None
    correlationid: Any = None
    ewuser: str | None = None
    ewsource: str | None = None
    ewcommitextras: str = ""


class _CommitMetadata(msgspec.Struct, omit_defaults=True):
    """`CommitMetadata` with its extras in JSON already."""

    causation_id: str | None = None
    correlation_id: str | None = None
    user_id: str | None = None
    source: str | None = None
    extras: msgspec.Raw | None = None


_decode_line: Final = msgspec.json.Decoder(_Line).decode
_decode_attributes: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_tags: Final = msgspec.json.Decoder(tuple[str, ...]).decode
_decode_extras: Final = msgspec.json.Decoder(dict[str, Any]).decode
_decode_metadata: Final = msgspec.json.Decoder(CommitMetadata).decode
_UNDECODABLE: Final = (msgspec.MsgspecError, ValueError, RecursionError)


def items_of(chunks: Iterator[bytes], time: datetime | None = None) -> Iterator[FileItem]:
    """The records or commits of a file of CloudEvents lines; ``time`` is for events without one."""
    reading = _Reading(time)
    restoring: _Restoring | None = None
    is_export: bool | None = None
    ordinal = 0
    for number, text in lines(chunks):
        if text is None:
            yield Invalid(number, "the line is too long for an event; leave it out")
            continue
        if is_deeper(text, MAX_DEPTH + 1):
            yield Invalid(number, f"the event is {TOO_DEEP}; make it flatter, or leave it out")
            continue
        try:
            line = _decode_line(text)
        except _UNDECODABLE as error:
            if text and not text.isspace():
                yield Invalid(
                    number, f"this is not a CloudEvent: {error}; fix the line or leave it out"
                )
            continue
        if is_export is None:
            is_export = line.ewcommit is not None
            restoring = _Restoring() if is_export else None
        if is_export != (line.ewcommit is not None):
            yield Invalid(
                number,
                "an Everwhen export and other CloudEvents are mixed in one file; split it",
            )
        elif restoring is not None:
            yield from restoring.take(number, line)
        else:
            yield reading.record(number, ordinal, line, text)
        ordinal += 1
    if restoring is not None:
        yield from restoring.end()
    yield from reading.notices()


class _Reading:
    """Turns foreign CloudEvents into records, one by one."""

    def __init__(self, time: datetime | None) -> None:
        self._untimed = Untimed(time)
        self._notices = Notices()
        self._before = UNTIMED

    def notices(self) -> Notices:
        """The notices on the lines, once all were read."""
        self._untimed.tell(self._notices)
        return self._notices

    def record(self, number: int, ordinal: int, line: _Line, text: bytes) -> ForeignEvent | Invalid:
        """A line's event."""
        notice: str | None = None
        try:
            attributes = _decode_attributes(text)
            data = _object(line)
            if line.time is not None:
                if not _RFC_3339.fullmatch(line.time):
                    raise ValueError(
                        f"time {line.time[:60]!r} is not an RFC 3339 time with a zone, such as "
                        f"2026-03-01T09:00:00Z"
                    )
                time, notice = time_of(line.time)
        except _UNDECODABLE as error:
            return Invalid(number, f"{error}; fix or leave out the line")
        if line.time is None:
            time = self._untimed.time_after(self._before, number)
        else:
            self._before = time
            self._untimed.seen()
        kept = {name: value for name, value in attributes.items() if name not in _KNOWN}
        if notice is not None:
            self._notices.add(notice, number)
            kept["time"] = attributes["time"]
        stream = line.subject or line.source
        if stream == line.source:
            kept.pop("source", None)
        if bytes(kept.get("datacontenttype", msgspec.Raw(_JSON))) == _JSON:
            kept.pop("datacontenttype", None)
        return ForeignEvent(
            time,
            ordinal,
            number,
            stream,
            line.type,
            data,
            event_id=line.id,
            extras=encode_json({"cloudevent": kept}) if kept else None,
            row=row_of((line.source, line.id, line.type, line.subject or "", line.time or "")),
        )


def _object(line: _Line) -> bytes:
    """The event's data as a JSON object, whatever it was. Raises ``ValueError``."""
    raw = bytes(line.data)
    if line.data_base64 is not None:
        if raw:
            raise ValueError("the event has data and data_base64; keep one of them")
        try:
            content = b64decode(line.data_base64, validate=True)
        except ValueError as error:
            raise ValueError(f"data_base64 is not base64 ({error})") from error
        if b64encode(content).decode() != line.data_base64:
            raise ValueError("data_base64 is not base64 (its last character has too many bits)")
        return encode_json({"base64": line.data_base64})
    if not raw:
        return b"{}"
    return raw if isinstance(decode_json(raw), dict) else b'{"value":%b}' % raw


class _BrokenError(ValueError):
    """A commit that can't be restored; says why, and how to fix it."""


class _Restoring:
    """Gathers the lines of a commit, and gives the commit once it is whole."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, _Line]] = []
        self._size = 0
        self._broken: str | None = None
        self._position = 0
        self._recorded_at: int | None = None
        self._recorded_text = ""

    def take(self, number: int, line: _Line) -> Iterator[FileItem]:
        """One more line."""
        if self._broken == line.ewcommit:
            yield Invalid(number, "it belongs to a commit that has an invalid line; see above")
            return
        self._broken = None
        if self._lines and self._lines[-1][1].ewcommit != line.ewcommit:
            yield from self.end()
        self._lines.append((number, line))
        self._size += _LINE_BYTES + len(bytes(line.data)) + len(line.ewextras) + len(line.ewtags)
        if self._size > MAX_COMMIT_BYTES:
            yield from self._refused("the commit is larger than 1 GiB", line.ewcommit)
        elif line.ewlast:
            yield from self._finish()

    def end(self) -> Iterator[FileItem]:
        """No more lines for the commit that is being gathered."""
        if self._lines and self._lines[-1][1].ewpart:
            yield from self._finish()
        elif self._lines:
            yield from self._refused("the commit's last events are missing; export it again", None)

    def _finish(self) -> Iterator[FileItem]:
        try:
            commit = self._commit()
        except (EverwhenError, *_UNDECODABLE) as error:
            yield from self._refused(str(error), self._lines[-1][1].ewcommit)
        else:
            self._lines, self._size = [], 0
            self._position, self._recorded_at = commit.position, commit.recorded_at
            yield commit

    def _refused(self, reason: str, broken: str | None) -> Iterator[Invalid]:
        self._broken = broken
        gathered, self._lines, self._size = self._lines, [], 0
        for number, _ in gathered:
            yield Invalid(number, reason)

    def _commit(self) -> RestoredCommit:
        number, first = self._lines[0]
        part = first.ewpart
        own_id = _uuid(first.ewcommit or "")
        recorded_at = self._time_of(first)
        before: dict[str, int] = {}
        versions: dict[str, int] = {}
        entries: list[RestoredEntry] = []
        position = _number(first.ewposition, "position") - 1
        if position < self._position:
            raise _BrokenError(
                f"position {first.ewposition} goes back; keep the order of the lines"
            )
        index = -1
        for _, line in self._lines:
            entry = _entry(line, part=part)
            version = _number(line.ewversion, "version")
            if _common(line) != _common(first):
                raise _BrokenError("the commit's lines contradict each other; export it again")
            stream = entry.stream
            before.setdefault(stream, version - 1)
            self._check_order(line, index + 1, versions.get(stream, version - 1) + 1, position + 1)
            index, position, versions[stream] = line.ewindex, position + 1, version
            entries.append(entry)
        slices = slices_of((entry, entry_of(entry, entry.occurred_at)) for entry in entries)
        for part_of in slices:
            decode_entries(part_of.body)
        return RestoredCommit(
            number,
            _part_id(own_id, [line.ewindex for _, line in self._lines]) if part else own_id,
            recorded_at,
            _metadata(first),
            () if part else tuple(before.items()),
            _number(self._lines[-1][1].ewposition, "position"),
            slices,
            entries,
            own_id,
        )

    def _time_of(self, first: _Line) -> int:
        if self._recorded_at is None or first.recordedtime != self._recorded_text:
            if not first.recordedtime:
                raise _BrokenError("recordedtime is missing; export it again")
            recorded_at = micros_of(first.recordedtime)
            if self._recorded_at is not None and recorded_at < self._recorded_at:
                raise _BrokenError(
                    f"recordedtime {first.recordedtime} goes back; keep the order of the lines"
                )
            self._recorded_text = first.recordedtime
            return recorded_at
        return self._recorded_at

    @staticmethod
    def _check_order(line: _Line, index: int, version: int, position: int) -> None:
        if line.ewpart:
            if line.ewindex < index:
                raise _BrokenError(f"ewindex {line.ewindex} goes back; keep the order of the lines")
            return
        for name, found, due in (
            ("ewindex", line.ewindex, index),
            ("ewversion", int(line.ewversion), version),
            ("ewposition", _number(line.ewposition, "position"), position),
        ):
            if found != due:
                raise _BrokenError(
                    f"{name} is {found}, expected {due}: lines of the commit are missing or in the "
                    f"wrong order; export it again"
                )


def _common(line: _Line) -> tuple[object, ...]:
    """What all lines of a commit have to say alike."""
    return (
        line.recordedtime,
        line.ewpart,
        line.causationid,
        line.correlationid,
        line.ewuser,
        line.ewsource,
        line.ewcommitextras,
    )


def _entry(line: _Line, *, part: bool) -> RestoredEntry:
    stream = check_stream(line.subject or "")
    check_type_name(line.type, InvalidEventError)
    if not 0 < line.ewschema < 1 << 31:
        raise _BrokenError(f"ewschema {line.ewschema} is not a schema version; use a number from 1")
    data = bytes(line.data)
    if is_deeper(data):
        raise _BrokenError(f"the event is {TOO_DEEP}; make it flatter, or leave out its commit")
    decode_json(data)
    tags: tuple[str, ...] = ()
    if line.ewtags:
        tags = _decode_tags(line.ewtags)
        if check_tags(tags, line.type) != tags:
            raise _BrokenError("a tag is repeated; export it again")
    extras = None
    if line.ewextras:
        extras = _extras(line.ewextras)
    if len(data) + len(line.ewextras) + len(line.ewtags) > MAX_EVENT_BYTES:
        raise _BrokenError(f"the event is {len(data):,} bytes; the limit is {MAX_EVENT_BYTES:,}")
    own_id = check_text(line.id, "event id") if line.ewownid or part else None
    occurred_at = None
    if line.ewowntime:
        occurred_at = line.time or ""
        micros_of(occurred_at)
    return RestoredEntry(stream, line.type, line.ewschema, data, tags, own_id, occurred_at, extras)


def _uuid(text: str) -> bytes:
    try:
        return UUID(text).bytes
    except ValueError as error:
        raise _BrokenError(f"ewcommit {text[:60]!r} is not a UUID; export it again") from error


def _extras(text: str) -> bytes:
    """Metadata extras as an export has them, proven to be readable."""
    data = text.encode()
    if is_deeper(data):
        raise _BrokenError(f"the metadata extras are {TOO_DEEP}; leave out the commit")
    _decode_extras(data)
    return data


def _number(text: str, what: str) -> int:
    if not (0 < len(text) < 19 and text.isascii() and text.isdigit()) or not int(text):
        raise _BrokenError(f"{text[:40]!r} is not a valid {what}; export it again")
    return int(text)


def _metadata(line: _Line) -> bytes | None:
    extras = None
    if line.ewcommitextras:
        extras = msgspec.Raw(_extras(line.ewcommitextras))
    metadata = _CommitMetadata(
        line.causationid, line.correlationid, line.ewuser, line.ewsource, extras
    )
    if metadata == _NO_METADATA:
        return None
    for name in ("causation_id", "correlation_id", "user_id", "source"):
        value = getattr(metadata, name)
        if value is not None:
            check_text(value, name)
    encoded = encode_json(metadata)
    _decode_metadata(encoded)
    return encoded


_NO_METADATA: Final = _CommitMetadata()


def _part_id(commit_id: bytes, indexes: list[int]) -> bytes:
    """An id for a selection of a commit's events; a UUID version 8, the same each time."""
    digest = hashlib.sha256(commit_id + encode_json(indexes)).digest()
    return uuid8(digest).to_bytes(16, "big")
