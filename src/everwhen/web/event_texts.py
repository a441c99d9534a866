"""Events in JSON, each on one line."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from everwhen.codec.json_encoding import encode_json
from everwhen.codec.recorded_events import RecordedEvent, plainly_stored
from everwhen.codec.slice_bodies import Entry, text_of_id
from everwhen.exchange.json_forms import event_form, micros_text
from everwhen.vocabulary.contract import StoredSlice

_PLAIN_FORM: Final = (
    b'{"position":%d,"stream":%b,"version":%d,"type":%b,"schema_version":%d,"recorded_at":"%b",'
    b'"occurred_at":null,"event_id":"%b/%d","commit_id":"%b","causation_id":null,'
    b'"correlation_id":"%b","user_id":null,"source":null,"tags":%b,"extras":{},"data":%b}'
)
"""An `EventForm` of an event without metadata, as it is encoded."""

_MAX_KEPT: Final = 8_192
_MAX_KEPT_BYTES: Final = 512
"""Texts of small events are kept, under all that they are made of: 10 MB at most. Many look at the
same pages, and comparing is five times as fast as encoding."""
_kept: Final[dict[tuple[StoredSlice, str], bytes]] = {}


def event_text(event: RecordedEvent[Any]) -> bytes:
    """The event's form in JSON, without a line break."""
    plain = plainly_stored(event)
    if plain is None:
        return one_line(encode_json(event_form(event)))
    stored, index, entry = plain
    if stored.count > 1 or len(stored.body) > _MAX_KEPT_BYTES:
        return _plain_text(event, stored, index, entry)
    key = stored, event.type
    text = _kept.get(key)
    if text is None:
        text = _plain_text(event, stored, index, entry)
        if len(_kept) >= _MAX_KEPT:
            _kept.clear()
        _kept[key] = text
    return text


def _plain_text(event: RecordedEvent[Any], stored: StoredSlice, index: int, entry: Entry) -> bytes:
    commit_id = text_of_id(stored.commit_id).encode()
    return one_line(
        _PLAIN_FORM
        % (
            event.position,
            _quoted(stored.stream),
            event.version,
            _quoted(event.type),
            entry.schema_version,
            micros_text(stored.recorded_at).encode(),
            commit_id,
            stored.first_index + index,
            commit_id,
            commit_id,
            encode_json(entry.tags) if entry.tags else b"[]",
            entry.data,
        )
    )


@lru_cache(maxsize=4_096)  # names of at most 512 bytes
def _quoted(name: str) -> bytes:
    return encode_json(name)


def one_line(text: bytes) -> bytes:
    """JSON without line breaks, which data that a codec step made might have between its parts."""
    if b"\n" in text or b"\r" in text:
        return text.replace(b"\n", b" ").replace(b"\r", b" ")
    return text
