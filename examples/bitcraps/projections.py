"""What people want to see: games, players, who leads, and what the house keeps.

Each is a fold over all games. Their states are changed in place, so that an event costs the same
however many games there have been; what a fold gives out is a copy, and safe.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final, TypeAlias

import msgspec
from msgspec.structs import replace

from bitcraps.bets import BetKind
from bitcraps.events import (
    BetCancelled,
    BetLost,
    BetPlaced,
    BetPushed,
    BetRefunded,
    BetWon,
    DiceRolled,
    GameCompleted,
    GameStarted,
    GameWon,
    PayoutTakenBack,
    PlayerJoined,
    PointEstablished,
)
from everwhen import Fold


class GameView(msgspec.Struct, frozen=True):
    """A game, as a visitor sees it from behind the rail.

    ``on_table`` is the sum of all bets; ``wins`` counts how often the line won.
    """

    table: str
    shooter: str
    players: tuple[str, ...] = ()
    point: int | None = None
    dice: tuple[int, int] | None = None
    rolls: int = 0
    wins: int = 0
    on_table: int = 0
    completed: bool = False


GameViews: TypeAlias = dict[str, GameView]
game_views: Final[Fold[GameViews]] = Fold("game-views", dict, copy=dict.copy, state=GameViews)
"""Every game's view, by the game's id, oldest first."""


@game_views.on(GameStarted)
def _(views: GameViews, event: GameStarted) -> GameViews:
    views[event.game] = GameView(event.table, event.shooter)
    return views


@game_views.on(PlayerJoined)
def _(views: GameViews, event: PlayerJoined) -> GameViews:
    view = views[event.game]
    views[event.game] = replace(view, players=(*view.players, event.player))
    return views


@game_views.on(DiceRolled)
def _(views: GameViews, event: DiceRolled) -> GameViews:
    dice = (event.first, event.second)
    views[event.game] = replace(views[event.game], dice=dice, rolls=event.roll)
    return views


@game_views.on(PointEstablished)
def _(views: GameViews, event: PointEstablished) -> GameViews:
    views[event.game] = replace(views[event.game], point=event.point)
    return views


@game_views.on(GameWon)
def _(views: GameViews, event: GameWon) -> GameViews:
    view = views[event.game]
    views[event.game] = replace(view, point=None, wins=view.wins + 1)
    return views


@game_views.on(GameCompleted)
def _(views: GameViews, event: GameCompleted) -> GameViews:
    views[event.game] = replace(views[event.game], point=None, completed=True)
    return views


@game_views.on(BetPlaced)
def _(views: GameViews, event: BetPlaced) -> GameViews:
    return _laid(views, event.game, event.amount)


def _taken_back(views: GameViews, event: BetCancelled | BetRefunded) -> GameViews:
    return _laid(views, event.game, -event.amount)


def _settled(views: GameViews, event: BetWon | BetLost | BetPushed) -> GameViews:
    return _laid(views, event.game, -event.stake)


def _laid(views: GameViews, game: str, amount: int) -> GameViews:
    view = views[game]
    views[game] = replace(view, on_table=view.on_table + amount)
    return views


game_views.on(BetCancelled)(_taken_back)
game_views.on(BetRefunded)(_taken_back)
game_views.on(BetWon)(_settled)
game_views.on(BetLost)(_settled)
game_views.on(BetPushed)(_settled)


Leaderboard: TypeAlias = dict[str, int]
leaderboard: Final[Fold[Leaderboard]] = Fold("leaderboard", dict, copy=dict.copy, state=Leaderboard)
"""Each player's net win, of all bets that were settled."""


@leaderboard.on(BetWon)
def _(net: Leaderboard, event: BetWon) -> Leaderboard:
    net[event.player] = net.get(event.player, 0) + event.payout
    return net


@leaderboard.on(PayoutTakenBack)
def _(net: Leaderboard, event: PayoutTakenBack) -> Leaderboard:
    net[event.player] = net.get(event.player, 0) - event.payout
    return net


@leaderboard.on(BetLost)
def _(net: Leaderboard, event: BetLost) -> Leaderboard:
    net[event.player] = net.get(event.player, 0) - event.stake
    return net


def top(net: Leaderboard, count: int) -> list[tuple[str, int]]:
    """The players who won most, best first; of equals, by name."""
    return sorted(net.items(), key=lambda item: (-item[1], item[0]))[:count]


class Takings(msgspec.Struct, frozen=True):
    """What was wagered on settled bets, and what the house kept of it."""

    wagered: int = 0
    kept: int = 0

    @property
    def edge(self) -> Fraction:
        """The house's share; it comes close to the published one in the long run."""
        return Fraction(self.kept, self.wagered) if self.wagered else Fraction(0)


HouseEdge: TypeAlias = dict[BetKind, Takings]
house_edge: Final[Fold[HouseEdge]] = Fold("house-edge", dict, copy=dict.copy, state=HouseEdge)
"""The takings by kind of bet."""


@house_edge.on(BetWon)
def _(takings: HouseEdge, event: BetWon) -> HouseEdge:
    return _taken(takings, event.kind, event.stake, -event.payout)


@house_edge.on(PayoutTakenBack)
def _(takings: HouseEdge, event: PayoutTakenBack) -> HouseEdge:
    return _taken(takings, event.kind, 0, event.payout)


@house_edge.on(BetLost)
def _(takings: HouseEdge, event: BetLost) -> HouseEdge:
    return _taken(takings, event.kind, event.stake, event.stake)


@house_edge.on(BetPushed)
def _(takings: HouseEdge, event: BetPushed) -> HouseEdge:
    return _taken(takings, event.kind, event.stake, 0)


def _taken(takings: HouseEdge, kind: BetKind, wagered: int, kept: int) -> HouseEdge:
    before = takings.get(kind, Takings())
    takings[kind] = Takings(before.wagered + wagered, before.kept + kept)
    return takings
