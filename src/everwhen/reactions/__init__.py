# Made from tools/front_door.toml: edit that, then `make sync`.
"""Reactions: from events to commands, now or at a later time."""

from typing import TYPE_CHECKING

from everwhen._lazy import lazily

if TYPE_CHECKING:
    from everwhen.reactions._sync.reaction_runner import ReactionRunner
    from everwhen.reactions.reactions import Reaction
    from everwhen.reactions.timers import CancelTimer, SetTimer, Timer
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "everwhen.reactions._sync.reaction_runner": ("ReactionRunner",),
            "everwhen.reactions.reactions": ("Reaction",),
            "everwhen.reactions.timers": ("CancelTimer", "SetTimer", "Timer"),
        },
    )

__all__ = ["CancelTimer", "Reaction", "ReactionRunner", "SetTimer", "Timer"]
