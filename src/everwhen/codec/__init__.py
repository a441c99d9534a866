# Made from tools/front_door.toml: edit that, then `make sync`.
"""The codec: events to stored bytes and back."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.codec.commits import Commit, Write
    from everwhen.codec.event_types import EventTypes
    from everwhen.codec.pipeline import CodecStep
    from everwhen.codec.recorded_events import Metadata, RecordedEvent, causation
    from everwhen.vocabulary.upcasting import Upcast
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.codec.commits": ("Commit", "Write"),
            "everwhen.codec.event_types": ("EventTypes",),
            "everwhen.codec.pipeline": ("CodecStep",),
            "everwhen.codec.recorded_events": ("Metadata", "RecordedEvent", "causation"),
            "everwhen.vocabulary.upcasting": ("Upcast",),
        },
    )

__all__ = [
    "CodecStep",
    "Commit",
    "EventTypes",
    "Metadata",
    "RecordedEvent",
    "Upcast",
    "Write",
    "causation",
]
