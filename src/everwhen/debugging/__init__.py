"""A debugger of history, without a face: where one is, where to stop, and what there is to see.

The terminal and the editors are faces of it. It knows neither.
"""

from everwhen.debugging.breakpoints import (
    Breakpoint,
    Breakpoints,
    EventTrigger,
    PathTrigger,
    StateTrigger,
    Trigger,
    ValueTrigger,
)
from everwhen.debugging.command_parsing import break_of, known_types, watch_of
from everwhen.debugging.searching import InterruptedSearchError
from everwhen.debugging.session import LogLine, Session, Stop, WithoutEvent
from everwhen.state.short_values import sketch

__all__ = [
    "Breakpoint",
    "Breakpoints",
    "EventTrigger",
    "InterruptedSearchError",
    "LogLine",
    "PathTrigger",
    "Session",
    "StateTrigger",
    "Stop",
    "Trigger",
    "ValueTrigger",
    "WithoutEvent",
    "break_of",
    "known_types",
    "sketch",
    "watch_of",
]
