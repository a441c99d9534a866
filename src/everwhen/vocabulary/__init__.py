# Made from tools/front_door.toml: edit that, then `make sync`.
"""The vocabulary: events, queries, times, names and errors, as values without I/O."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.vocabulary.clock import Clock, system_clock
    from everwhen.vocabulary.contract import (
        Capabilities,
        Checkpoint,
        CheckProgress,
        Condition,
        Head,
        Problem,
        Receipt,
        Snapshot,
        SnapshotInfo,
        StreamInfo,
        TableSize,
    )
    from everwhen.vocabulary.events import Event, EventType, NewEvent, UnknownEvent
    from everwhen.vocabulary.metadata import CommitMetadata, context
    from everwhen.vocabulary.query import Query, Selector
    from everwhen.vocabulary.streams import ANY, EXISTS, NO_STREAM, Expected, ExpectedVersion
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.vocabulary.clock": ("Clock", "system_clock"),
            "everwhen.vocabulary.contract": (
                "Capabilities",
                "CheckProgress",
                "Checkpoint",
                "Condition",
                "Head",
                "Problem",
                "Receipt",
                "Snapshot",
                "SnapshotInfo",
                "StreamInfo",
                "TableSize",
            ),
            "everwhen.vocabulary.events": ("Event", "EventType", "NewEvent", "UnknownEvent"),
            "everwhen.vocabulary.metadata": ("CommitMetadata", "context"),
            "everwhen.vocabulary.query": ("Query", "Selector"),
            "everwhen.vocabulary.streams": (
                "ANY",
                "EXISTS",
                "NO_STREAM",
                "Expected",
                "ExpectedVersion",
            ),
        },
    )

__all__ = [
    "ANY",
    "EXISTS",
    "NO_STREAM",
    "Capabilities",
    "CheckProgress",
    "Checkpoint",
    "Clock",
    "CommitMetadata",
    "Condition",
    "Event",
    "EventType",
    "Expected",
    "ExpectedVersion",
    "Head",
    "NewEvent",
    "Problem",
    "Query",
    "Receipt",
    "Selector",
    "Snapshot",
    "SnapshotInfo",
    "StreamInfo",
    "TableSize",
    "UnknownEvent",
    "context",
    "system_clock",
]
