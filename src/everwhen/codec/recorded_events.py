"""Recorded events: what a reader gets, built from slices as late as possible.

A slice's envelope is decoded at once, in one call; the typed event only on first touch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast
from uuid import UUID

import msgspec

from everwhen.codec.blocks import Block
from everwhen.codec.codec import Codec
from everwhen.codec.json_encoding import decode_json
from everwhen.codec.slice_bodies import (
    Entry,
    EntryMetadata,
    decode_entries,
    id_in_commit,
    unreadable_extras,
    with_extras,
)
from everwhen.privacy.personal_values import ENCRYPTED
from everwhen.vocabulary.contract import EncodedCommit, StoredSlice
from everwhen.vocabulary.errors import CorruptStoreError, DecodeError, EverwhenError, SealedError
from everwhen.vocabulary.events import UnknownEvent
from everwhen.vocabulary.metadata import CommitMetadata, context
from everwhen.vocabulary.microseconds import from_micros
from everwhen.vocabulary.nesting import TOO_DEEP, is_deeper, is_value_deeper

if TYPE_CHECKING:
    from everwhen.codec.event_html import ShownEvent
    from everwhen.vocabulary.notebook_html import TableRow

E_co = TypeVar("E_co", covariant=True)

_SHOWN_CHARACTERS: Final = 120
"""How much of an event its ``repr`` shows: a line."""
_set = msgspec.structs.force_setattr


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known about a recorded event beside its data."""

    event_id: str
    commit_id: UUID
    schema_version: int
    causation_id: str | None
    correlation_id: str
    user_id: str | None
    source: str | None
    occurred_at: datetime | None
    extras: dict[str, Any]


class _Untouched(msgspec.Struct, frozen=True):
    """Stands for an event that nobody has looked at yet."""


_UNTOUCHED = _Untouched()


class RecordedEvent(msgspec.Struct, Generic[E_co], frozen=True, eq=False, gc=False):
    """An event as stored, with its place in the store.

    ``position`` is its global number and ``version`` its number in its stream. ``type`` is its
    current type name. Where an upcast split one stored event into several, they share position
    and version and ``part`` counts them from 0.
    """

    position: int
    version: int
    type: str
    _entry: Entry
    _source: StoredSlice | Block  # a block's events point into its columns: no slice is made
    _at: int  # which of the source's events it is
    _codec: Codec
    part: int = 0
    _current: tuple[int, bytes] | DecodeError | None = None  # an error says why it can't be upcast
    _event: Any = _UNTOUCHED

    @property
    def event(self) -> E_co:
        """The typed event, or `UnknownEvent`.

        Raises `DecodeError` if the data doesn't fit, or can't be upcast.
        """
        entry = self._entry
        if type(entry) is not Entry:
            return cast("E_co", entry.data)
        if self._event is _UNTOUCHED:
            _set(self, "_event", self._typed())
        return cast("E_co", self._event)

    def _typed(self) -> object:
        types = self._codec.types
        if isinstance(self._current, DecodeError):
            raise self._current
        try:
            if self._codec.is_plain:
                data = bytes(self._entry.data)
                return types.typed(self.type, self._entry.schema_version, data)
            return types.typed(self.type, self.schema_version, self._json(), self.stored_as)
        except SealedError:
            raise
        except DecodeError as error:
            if self._codec.encryption is None and ENCRYPTED in bytes(self._entry.data):
                why = "the store was opened without its vault: open_store(…, vault=…)"
                raise SealedError("somebody", self.event_id, self.type, why) from error
            raise DecodeError(f"{self._place}: {error}") from error

    @property
    def _place(self) -> str:
        return f"position {self.position}, {self.stream!r} version {self.version}"

    @property
    def data(self) -> dict[str, Any]:
        """The event's data as plain JSON values, current by upcasting.

        Raises `DecodeError` if it is nested too deep; its text is in ``json``.
        """
        data = self._json()
        if is_deeper(data):
            raise DecodeError(f"{self._place}: the data of {self.type!r} is {TOO_DEEP}")
        try:
            return cast("dict[str, Any]", decode_json(data))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _damaged(self._slice, error) from error

    @property
    def json(self) -> bytes:
        """The event's data as JSON text."""
        return self._json()

    @property
    def stream(self) -> str:
        """The stream's name."""
        source = self._source
        return source.stream if type(source) is StoredSlice else self._block.streams[self._row]

    @property
    def _slice(self) -> StoredSlice:
        """The slice that it is in."""
        source = self._source
        return source if type(source) is StoredSlice else self._block[self._row]

    @property
    def _index(self) -> int:
        """Which of its slice's events it is."""
        return self._at if type(self._source) is StoredSlice else self._block.place_of(self._at)[1]

    @property
    def _block(self) -> Block:
        return cast("Block", self._source)

    @property
    def _row(self) -> int:
        return self._block.place_of(self._at)[0]

    @property
    def _recorded_at(self) -> int:
        """In microseconds since 1970 UTC."""
        source = self._source
        if type(source) is StoredSlice:
            return source.recorded_at
        return self._block.recorded_at[self._row]

    @property
    def _commit_id(self) -> bytes:
        source = self._source
        return source.commit_id if type(source) is StoredSlice else self._block.commit_id(self._row)

    @property
    def schema_version(self) -> int:
        """The schema version the event has now; see ``stored_as`` for what is on disk."""
        current = self._current
        return current[0] if isinstance(current, tuple) else self._entry.schema_version

    @property
    def stored_as(self) -> tuple[str, int]:
        """The type name and schema version that the stored bytes have."""
        return self._entry.type, self._entry.schema_version

    @property
    def tags(self) -> tuple[str, ...]:
        """The event's tags."""
        return self._entry.tags

    @property
    def recorded_at(self) -> datetime:
        """When the store recorded it (system time), in UTC."""
        return from_micros(self._recorded_at)

    @property
    def occurred_at(self) -> datetime:
        """When it happened (valid time), as the writer said; else when it was recorded."""
        metadata = self._entry.metadata
        if metadata is not None and metadata.occurred_at is not None:
            return metadata.occurred_at
        return self.recorded_at

    @property
    def event_id(self) -> str:
        """The event's id: the writer's, or ``<commit id>/<index in the commit>``."""
        return event_id(self._slice, self._entry, self._index) + (
            f".{self.part}" if self.part else ""
        )

    @property
    def commit_id(self) -> UUID:
        """The id of the commit that wrote it."""
        return UUID(bytes=self._commit_id)

    @property
    def metadata(self) -> Metadata:
        """Everything else that was recorded with it."""
        commit = commit_metadata(self._slice)
        own = self._entry.metadata or EntryMetadata()
        commit_id = self.commit_id
        try:
            if is_value_deeper(own.extras):  # decoded all the same
                raise unreadable_extras()
            extras = {**commit.extras, **(own.extras or {})}
        except DecodeError as error:
            raise DecodeError(f"{self._place}: {error}") from error
        return Metadata(
            event_id=self.event_id,
            commit_id=commit_id,
            schema_version=self.schema_version,
            causation_id=commit.causation_id,
            correlation_id=(
                commit.correlation_id if commit.correlation_id is not None else str(commit_id)
            ),
            user_id=commit.user_id,
            source=commit.source,
            occurred_at=own.occurred_at,
            extras=extras,
        )

    def _json(self) -> bytes:
        if isinstance(self._current, DecodeError):
            raise self._current
        if self._current is not None:
            return self._current[1]
        entry = self._raw_entry()
        if self._codec.is_raw:
            return bytes(entry.data)
        return self._codec.decode_steps(entry, event_id(self._slice, entry, self._index))

    def _raw_entry(self) -> Entry:
        """The entry with its data as stored, also where it was decoded typed."""
        entry = self._entry
        return entry if type(entry) is Entry else entries_of(self._slice)[self._index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RecordedEvent):
            return NotImplemented
        mine, theirs = self._slice, other._slice
        return (
            self.position == other.position
            and self.part == other.part
            and self.version == other.version
            and mine.stream == theirs.stream
            and mine.recorded_at == theirs.recorded_at
            and mine.commit_id == theirs.commit_id
            and mine.metadata == theirs.metadata
            and self._raw_entry() == other._raw_entry()
        )

    def __hash__(self) -> int:
        return hash((self.position, self.part, self._commit_id))

    def __repr__(self) -> str:
        try:
            shown = self._shown()
        except EverwhenError as error:
            shown = f"{self.type} ({type(error).__name__}: {error})"
        shown = shown if len(shown) <= _SHOWN_CHARACTERS else shown[: _SHOWN_CHARACTERS - 1] + "…"
        return f"<{self.position} {self.stream}@{self.version} {shown}>"

    def _shown(self) -> str:
        """The typed event; as stored, where it is of no known type or has personal data.

        What is shown ends in logs, which no erasure reaches.
        """
        encrypted = self._encrypted()
        if encrypted is None:
            event: object = self.event
            if not isinstance(event, UnknownEvent):
                return repr(event)
            encrypted = bytes(self._raw_entry().data)
        return f"{self.type} {encrypted.decode(errors='replace')}"

    def _encrypted(self) -> bytes | None:
        """Its data as stored, before upcasts, if it has personal data; else None."""
        return self._codec.encrypted_data(self._raw_entry(), self.event_id)

    def _html_row_(self) -> TableRow:
        from everwhen.codec.event_html import event_row

        return event_row(shown_event(self))

    def _repr_html_(self) -> str:
        from everwhen.codec.event_html import event_card

        return event_card(shown_event(self))


def shown_event(event: RecordedEvent[Any]) -> ShownEvent:
    """What a notebook shows of an event, and keeps: so personal values stay encrypted."""
    from everwhen.codec.event_html import ShownEvent

    problems: list[str] = []
    data, recorded_at, user_id, occurred_at = b"", None, None, None
    try:
        recorded_at = event.recorded_at
        data = event._encrypted() or event.json
    except EverwhenError as error:
        problems.append(f"{type(error).__name__}: {error}")
    try:
        metadata = event.metadata
        user_id, occurred_at = metadata.user_id, metadata.occurred_at
    except EverwhenError as error:
        problems.append(f"{type(error).__name__}: {error}")
    return ShownEvent(
        event.position,
        event.stream,
        event.version,
        event.type,
        recorded_at,
        occurred_at,
        event.tags,
        user_id,
        data,
        "; ".join(dict.fromkeys(problems)),
    )


def stored_slice(event: RecordedEvent[Any]) -> StoredSlice:
    """The slice that an event is in."""
    return event._slice


def index_in_slice(event: RecordedEvent[Any]) -> int:
    """Which of its slice's events it is, counted from 0."""
    return event._index


def plainly_stored(event: RecordedEvent[Any]) -> tuple[StoredSlice, int, Entry] | None:
    """An event's slice, its index there and its entry, where these are all that there is to know.

    None where it has metadata, was upcast, or a step of the codec has to be undone.
    """
    source, entry = event._source, event._entry
    if (
        type(source) is StoredSlice
        and type(entry) is Entry
        and entry.metadata is None
        and source.metadata is None
        and event._current is None
        and not event.part
        and event._codec.is_raw
    ):
        return source, event._at, entry
    return None


def stored_entry(event: RecordedEvent[Any]) -> Entry:
    """An event's entry in the slice's body, its data as stored."""
    return event._raw_entry()


def own_metadata(event: RecordedEvent[Any]) -> EntryMetadata | None:
    """What an event carries beside its data and tags, without its commit's."""
    return event._entry.metadata


def codec_of(event: RecordedEvent[Any]) -> Codec:
    """The codec that an event is decoded with."""
    return event._codec


def class_of_event(event: RecordedEvent[Any]) -> Any:
    """The class of the typed event. Data isn't decoded for it, unless it has yet to be upcast."""
    entry = event._entry
    if type(entry) is not Entry:
        return type(entry.data)
    name, version, types = event.type, event.schema_version, event._codec.types
    if not types.is_known(name, version):
        return UnknownEvent
    declared = types.class_of(name, version)
    return type(event.event) if declared is None else declared


def place_in_words(event: RecordedEvent[Any]) -> str:
    """Where an event stands: position, stream, version and type."""
    return f"position {event.position}, {event.stream}@{event.version}, {event.type}"


def is_upcast(event: RecordedEvent[Any]) -> bool:
    """Whether an event was upcast, or would have to be and can't."""
    return event._current is not None


def cannot_be_upcast(event: RecordedEvent[Any]) -> bool:
    """Whether an event is stale and its upcast failed; using it raises the reason."""
    return isinstance(event._current, DecodeError)


def event_id(stored: StoredSlice, entry: Entry, index: int) -> str:
    """A stored event's id, the writer's or the one that follows from its commit."""
    if entry.metadata is not None and entry.metadata.id is not None:
        return entry.metadata.id
    return id_in_commit(stored.commit_id, stored.first_index + index)


def commit_metadata(stored: StoredSlice) -> CommitMetadata:
    """The metadata of the slice's commit; its extras are `DeepExtras` if nested too deep."""
    try:
        return with_extras(stored.metadata, CommitMetadata) if stored.metadata else CommitMetadata()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(stored, error) from error


def is_same(commit: EncodedCommit, stored: Sequence[StoredSlice], codec: Codec) -> bool:
    """Whether a commit holds what is stored, once it is decrypted: keys may have changed.

    False where what is stored can't be opened any more, or is nested too deep.
    """
    given: list[tuple[object, ...]] = []
    for part in commit.slices:
        first = len(given)
        for index, entry in enumerate(decode_entries(part.body), first):
            own_id = id_in_commit(commit.id, index)
            if entry.metadata is not None and entry.metadata.id is not None:
                own_id = entry.metadata.id
            given.append(_content(part.stream, entry, own_id, codec))
    try:
        return given == [
            _content(part.stream, entry, event_id(part, entry, index), codec)
            for part in stored
            for index, entry in enumerate(entries_of(part))
        ]
    except DecodeError:
        return False


def _content(stream: str, entry: Entry, own_id: str, codec: Codec) -> tuple[object, ...]:
    data = codec.decode_steps(entry, own_id)
    return stream, entry.type, entry.schema_version, data, entry.tags, entry.metadata


def entries_of(stored: StoredSlice) -> list[Entry]:
    """A slice's entries. Raises `CorruptStoreError` where the body is damaged."""
    try:
        entries = decode_entries(stored.body)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:
        raise _damaged(stored, error) from error
    if len(entries) != stored.count:
        raise CorruptStoreError(
            f"the slice at position {stored.position} ({stored.stream!r}) holds {len(entries)} "
            f"events instead of {stored.count}; run check(), and restore the file from a backup"
        )
    return entries


def _damaged(stored: StoredSlice, error: Exception) -> CorruptStoreError:
    return CorruptStoreError(
        f"the slice at position {stored.position} ({stored.stream!r}) is damaged: {error}; "
        f"run check(), and restore the file from a backup"
    )


def recorded_events(
    stored: StoredSlice, entries: list[Entry], indexes: Iterable[int] | None, codec: Codec
) -> list[RecordedEvent[Any]]:
    """The slice's events at ``indexes`` (None for all), upcast where they are stale."""
    count = stored.count
    before, base = stored.position - count + 1, stored.version - count + 1
    if indexes is None and not codec.types.has_upcasts:
        return [
            RecordedEvent(before + i, base + i, entry.type, entry, stored, i, codec)
            for i, entry in enumerate(entries)
        ]
    found: list[RecordedEvent[Any]] = []
    for i in range(count) if indexes is None else indexes:
        entry = entries[i]
        event: RecordedEvent[Any] = RecordedEvent(
            before + i, base + i, entry.type, entry, stored, i, codec
        )
        if codec.types.is_stale(entry.type, entry.schema_version):
            found.extend(_upcast(event))
        else:
            found.append(event)
    return found


def _upcast(old: RecordedEvent[Any]) -> list[RecordedEvent[Any]]:
    name, version = old.stored_as
    try:
        currents = old._codec.types.upcast(name, version, old._json())
    except SealedError as error:
        return [msgspec.structs.replace(old, _current=error)]
    except DecodeError as error:
        return [msgspec.structs.replace(old, _current=DecodeError(f"{old._place}: {error}"))]
    return [
        RecordedEvent(
            old.position,
            old.version,
            current_name,
            old._entry,
            old._source,
            old._at,
            old._codec,
            part,
            (current_version, data),
        )
        for part, (current_name, current_version, data) in enumerate(currents)
    ]


def held_bytes(events: Iterable[RecordedEvent[Any]]) -> int:
    """How many bytes of stored text the events keep in memory, those that they share once."""
    sources = {id(event._source): event._source for event in events}
    return sum(
        len(source.body if type(source) is StoredSlice else cast("Block", source).entries)
        for source in sources.values()
    )


def events_of_block(
    block: Block, entries: Sequence[Entry], codec: Codec
) -> list[RecordedEvent[Any]]:
    """All of a block's events, none of which has an upcast to come."""
    return [
        RecordedEvent(position, version, entry.type, entry, block, at, codec)
        for at, (position, version, entry) in enumerate(
            zip(block.event_positions, block.event_versions, entries, strict=True)
        )
    ]


@contextmanager
def causation(cause: RecordedEvent[Any]) -> Iterator[None]:
    """Appends within are caused by this recorded event and belong to its correlation."""
    metadata = cause.metadata
    with context(causation_id=metadata.event_id, correlation_id=metadata.correlation_id):
        yield
