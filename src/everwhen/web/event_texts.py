"""Events in JSON, each on one line."""

from __future__ import annotations

from typing import Any

from everwhen.codec.json_encoding import encode_json
from everwhen.codec.recorded_events import RecordedEvent
from everwhen.exchange.json_forms import event_form


def event_text(event: RecordedEvent[Any]) -> bytes:
    """The event's form in JSON, without a line break."""
    return one_line(encode_json(event_form(event)))


def one_line(text: bytes) -> bytes:
    """JSON without line breaks, which data that a codec step made might have between its parts."""
    if b"\n" in text or b"\r" in text:
        return text.replace(b"\n", b" ").replace(b"\r", b" ")
    return text
