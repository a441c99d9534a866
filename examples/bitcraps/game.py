"""The state of a game: who sits at the table, what lies on it, and where the hand stands."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeAlias

import msgspec
from msgspec.structs import replace

from bitcraps.bets import Bet
from bitcraps.dice import NO_LUCK, mixed
from bitcraps.events import (
    BetCancelled,
    BetLost,
    BetMoved,
    BetPlaced,
    BetPushed,
    BetRefunded,
    BettingClosed,
    BetWon,
    DiceRolled,
    GameCompleted,
    GameStarted,
    GameWon,
    PlayerJoined,
    PointEstablished,
)
from bitcraps.refusals import GameIsOver, NoSuchGame, NotAtTheTable
from everwhen import Fold


class Phase(StrEnum):
    """What a game is waiting for."""

    NOT_STARTED = "not-started"
    BETTING = "betting"
    ROLLING = "rolling"
    COMPLETED = "completed"


class Game(msgspec.Struct, frozen=True):
    """One shooter's hand.

    ``players`` are in seating order; ``bets`` by their number, oldest first. ``luck`` is what the
    next roll will depend on besides the seed that ``seed_hash`` commits the house to.
    """

    phase: Phase = Phase.NOT_STARTED
    table: str = ""
    shooter: str = ""
    minimum: int = 0
    maximum: int = 0
    players: tuple[str, ...] = ()
    luck: bytes = NO_LUCK
    seed_hash: str = ""
    point: int | None = None
    rolls: int = 0
    bets: dict[int, Bet] = {}
    bets_placed: int = 0

    @property
    def next_shooter(self) -> str:
        """Who sits behind the shooter; the shooter again, where nobody else does."""
        seat = self.players.index(self.shooter)
        return self.players[(seat + 1) % len(self.players)]


def check_in_play(game_id: str, game: Game) -> None:
    """Refuses a game that was not started, or is over."""
    if game.phase is Phase.NOT_STARTED:
        raise NoSuchGame(game_id)
    if game.phase is Phase.COMPLETED:
        raise GameIsOver(game_id)


def check_seated(player: str, game: Game) -> None:
    """Refuses somebody who is not at the table."""
    if player not in game.players:
        raise NotAtTheTable(player)


game: Final = Fold("game", Game)
"""A game, from the events of its stream."""


@game.on(GameStarted)
def _(state: Game, event: GameStarted) -> Game:
    return replace(
        state,
        phase=Phase.BETTING,
        table=event.table,
        shooter=event.shooter,
        minimum=event.minimum,
        maximum=event.maximum,
        seed_hash=event.seed_hash,
    )


@game.on(PlayerJoined)
def _(state: Game, event: PlayerJoined) -> Game:
    luck = mixed(state.luck, event.player, event.luck)
    return replace(state, players=(*state.players, event.player), luck=luck)


@game.on(BetPlaced)
def _(state: Game, event: BetPlaced) -> Game:
    said = (event.player, event.kind.value, str(event.number), str(event.amount))
    bet = Bet(event.player, event.kind, event.amount, event.number)
    return replace(
        state,
        luck=mixed(state.luck, *said),
        bets={**state.bets, event.bet: bet},
        bets_placed=event.bet,
    )


@game.on(BettingClosed)
def _(state: Game, event: BettingClosed) -> Game:
    return replace(state, phase=Phase.ROLLING, luck=mixed(state.luck, event.luck))


@game.on(DiceRolled)
def _(state: Game, event: DiceRolled) -> Game:
    return replace(state, phase=Phase.BETTING, rolls=event.roll, seed_hash=event.next_seed_hash)


@game.on(BetMoved)
def _(state: Game, event: BetMoved) -> Game:
    moved = replace(state.bets[event.bet], number=event.number)
    return replace(state, bets={**state.bets, event.bet: moved})


Settled: TypeAlias = BetWon | BetLost | BetPushed | BetCancelled | BetRefunded


def _taken_down(state: Game, event: Settled) -> Game:
    bets = dict(state.bets)
    del bets[event.bet]
    return replace(state, bets=bets)


game.on(BetWon)(_taken_down)
game.on(BetLost)(_taken_down)
game.on(BetPushed)(_taken_down)
game.on(BetCancelled)(_taken_down)
game.on(BetRefunded)(_taken_down)


@game.on(PointEstablished)
def _(state: Game, event: PointEstablished) -> Game:
    return replace(state, point=event.point)


@game.on(GameWon)
def _(state: Game, _event: GameWon) -> Game:
    return replace(state, point=None)


@game.on(GameCompleted)
def _(state: Game, _event: GameCompleted) -> Game:
    return replace(state, phase=Phase.COMPLETED, point=None)
