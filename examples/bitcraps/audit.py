"""Whether the house kept its word, from the events of a game alone: no secret is needed."""

from __future__ import annotations

from collections.abc import Iterable

from bitcraps.dice import Roll, is_fair
from bitcraps.events import DiceRolled
from bitcraps.game import game
from everwhen import Event


def forged_rolls(events: Iterable[Event]) -> list[int]:
    """The numbers of the rolls that don't follow from what the house had promised.

    The events are one game's, oldest first, up to any point.
    """
    forged: list[int] = []
    state = game.initial()
    for event in events:
        if isinstance(event, DiceRolled):
            roll, seed = Roll(event.first, event.second), bytes.fromhex(event.seed)
            if not is_fair(roll, seed=seed, seed_hash=state.seed_hash, luck=state.luck):
                forged.append(event.roll)
        state = game.apply(state, [event])
    return forged
