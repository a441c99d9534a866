"""What each player has done, over all games."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec.structs import replace

from bitcraps.events import (
    BetCancelled,
    BetPlaced,
    BetRefunded,
    BetWon,
    DiceRolled,
    GameCompleted,
    GameStarted,
    GameWon,
    PayoutTakenBack,
    PlayerJoined,
)
from everwhen import Fold


class PlayerStatistics(msgspec.Struct, frozen=True):
    """One player's record.

    ``total_bet`` leaves out bets that were taken back; ``total_won`` counts payouts, not stakes.
    ``games_won`` counts how often the line won, and ``rolls`` the rolls, with this player shooting.
    """

    total_bet: int = 0
    total_won: int = 0
    games_played: int = 0
    games_won: int = 0
    rolls: int = 0


class Statistics(msgspec.Struct):
    """Every player's record, by player, and who shoots in the games that are going on."""

    players: dict[str, PlayerStatistics] = {}
    shooters: dict[str, str] = {}

    def copy(self) -> Statistics:
        """Another one, which stays as it is when this one changes."""
        return Statistics(self.players.copy(), self.shooters.copy())


statistics: Final = Fold("statistics", Statistics, copy=Statistics.copy)
"""All players' statistics, from all events of the store. Changed in place, like `projections`."""


@statistics.on(GameStarted)
def _(state: Statistics, event: GameStarted) -> Statistics:
    state.shooters[event.game] = event.shooter
    return state


@statistics.on(GameCompleted)
def _(state: Statistics, event: GameCompleted) -> Statistics:
    del state.shooters[event.game]
    return state


@statistics.on(PlayerJoined)
def _(state: Statistics, event: PlayerJoined) -> Statistics:
    return _counted(state, event.player, games_played=1)


@statistics.on(DiceRolled)
def _(state: Statistics, event: DiceRolled) -> Statistics:
    return _counted(state, state.shooters[event.game], rolls=1)


@statistics.on(GameWon)
def _(state: Statistics, event: GameWon) -> Statistics:
    return _counted(state, event.shooter, games_won=1)


@statistics.on(BetPlaced)
def _(state: Statistics, event: BetPlaced) -> Statistics:
    return _counted(state, event.player, total_bet=event.amount)


@statistics.on(BetWon)
def _(state: Statistics, event: BetWon) -> Statistics:
    return _counted(state, event.player, total_won=event.payout)


@statistics.on(PayoutTakenBack)
def _(state: Statistics, event: PayoutTakenBack) -> Statistics:
    return _counted(state, event.player, total_won=-event.payout)


def _taken_back(state: Statistics, event: BetCancelled | BetRefunded) -> Statistics:
    return _counted(state, event.player, total_bet=-event.amount)


statistics.on(BetCancelled)(_taken_back)
statistics.on(BetRefunded)(_taken_back)


def _counted(state: Statistics, player: str, **more: int) -> Statistics:
    before = state.players.get(player, PlayerStatistics())
    sums = {name: getattr(before, name) + amount for name, amount in more.items()}
    state.players[player] = replace(before, **sums)
    return state
