# Made from tools/front_door.toml: edit that, then `make sync`.
"""Commands: from a decision to the events that are written once."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.commands._sync.command_bus import (
        CallNext,
        CommandBus,
        CommandResult,
        Envelope,
        Middleware,
    )
    from everwhen.commands._sync.middleware import authorised, logged, traced
    from everwhen.commands.decisions import Decisions, RecordedCommand, StateOf, command_of
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.commands._sync.command_bus": (
                "CallNext",
                "CommandBus",
                "CommandResult",
                "Envelope",
                "Middleware",
            ),
            "everwhen.commands._sync.middleware": ("authorised", "logged", "traced"),
            "everwhen.commands.decisions": (
                "Decisions",
                "RecordedCommand",
                "StateOf",
                "command_of",
            ),
        },
    )

__all__ = [
    "CallNext",
    "CommandBus",
    "CommandResult",
    "Decisions",
    "Envelope",
    "Middleware",
    "RecordedCommand",
    "StateOf",
    "authorised",
    "command_of",
    "logged",
    "traced",
]
