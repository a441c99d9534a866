"""How a game runs: it starts, players sit down, betting closes, and the dice are rolled."""

from __future__ import annotations

from collections.abc import Iterator

from bitcraps.accounts import Account
from bitcraps.bets import NATURALS, Bet, Loses, Moves, Pushes, Stays, Wins, point_after, resolve
from bitcraps.commands import CloseBetting, JoinGame, RollDice, StartGame
from bitcraps.dice import Roll, commitment, roll_of
from bitcraps.events import (
    BetLost,
    BetMoved,
    BetPushed,
    BettingClosed,
    BetWon,
    DiceRolled,
    GameCompleted,
    GameStarted,
    GameWon,
    PlayerJoined,
    PointEstablished,
)
from bitcraps.game import Game, Phase, check_in_play, check_seated
from bitcraps.refusals import (
    AlreadyAtTheTable,
    BettingIsClosed,
    BettingIsOpen,
    ForgedSeed,
    GameExists,
    LimitsContradict,
    NoSuchAccount,
    NotYourTurn,
)
from everwhen import Event


def start_game(command: StartGame, game: Game) -> list[Event]:
    """A shooter's hand begins, with betting open. Refuses to start a game twice."""
    if game.phase is not Phase.NOT_STARTED:
        raise GameExists(command.game)
    if command.minimum > command.maximum:
        raise LimitsContradict(command.minimum, command.maximum)
    return [
        GameStarted(
            command.game,
            command.table,
            command.shooter,
            command.minimum,
            command.maximum,
            command.seed_hash,
        )
    ]


def join_game(command: JoinGame, game: Game, account: Account) -> list[Event]:
    """The next free seat. Refuses it while the dice are out: nobody may touch their luck now."""
    check_in_play(command.game, game)
    if not account.exists:
        raise NoSuchAccount(command.player)
    if command.player in game.players:
        raise AlreadyAtTheTable(command.player)
    if game.phase is not Phase.BETTING:
        raise BettingIsClosed(game.rolls + 1)
    return [PlayerJoined(command.game, command.player, command.luck)]


def close_betting(command: CloseBetting, game: Game) -> list[Event]:
    """The dice are out. Refuses anybody but the shooter, or a timer."""
    check_in_play(command.game, game)
    if command.player is not None:
        _check_shooter(command.player, game)
    if game.phase is not Phase.BETTING:
        raise BettingIsClosed(game.rolls + 1)
    return [BettingClosed(command.game, game.rolls + 1, command.luck)]


def roll_dice(command: RollDice, game: Game) -> list[Event]:
    """The dice, what they do to each bet in the order of the bets, and then to the line.

    Refuses anybody but the shooter, open betting, and a seed that the house is not committed to.
    """
    check_in_play(command.game, game)
    _check_shooter(command.player, game)
    number = game.rolls + 1
    if game.phase is not Phase.ROLLING:
        raise BettingIsOpen(number)
    seed = bytes.fromhex(command.seed)
    if commitment(seed) != game.seed_hash:
        raise ForgedSeed(game.seed_hash)
    roll = roll_of(seed, game.luck)
    return [
        DiceRolled(
            command.game, number, roll.first, roll.second, command.seed, command.next_seed_hash
        ),
        *_settlements(command.game, game, roll),
        *_line(command.game, game, roll),
    ]


def _settlements(game_id: str, game: Game, roll: Roll) -> Iterator[Event]:
    for number, bet in game.bets.items():
        yield from _settlement(game_id, number, bet, roll, game.point)


def _settlement(
    game_id: str, number: int, bet: Bet, roll: Roll, point: int | None
) -> Iterator[Event]:
    player, kind, on, stake = bet.player, bet.kind, bet.number, bet.amount
    match resolve(bet, roll, point):
        case Wins(payout):
            yield BetWon(game_id, player, number, kind, on, stake, payout)
        case Loses():
            yield BetLost(game_id, player, number, kind, on, stake)
        case Pushes():
            yield BetPushed(game_id, player, number, kind, on, stake)
        case Moves(to):
            yield BetMoved(game_id, player, number, to)
        case Stays():
            pass


def _line(game_id: str, game: Game, roll: Roll) -> Iterator[Event]:
    after = point_after(roll, game.point)
    if game.point is None and after is not None:
        yield PointEstablished(game_id, after)
    elif game.point is None and roll.total in NATURALS:
        yield GameWon(game_id, game.shooter, None)
    elif game.point is not None and roll.total == game.point:
        yield GameWon(game_id, game.shooter, game.point)
    elif game.point is not None and roll.total == 7:
        yield GameCompleted(game_id, game.rolls + 1, game.next_shooter)


def _check_shooter(player: str, game: Game) -> None:
    if player != game.shooter:
        raise NotYourTurn(game.shooter)
    check_seated(player, game)
