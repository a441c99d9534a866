"""Which bets may be placed, taken back and refunded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bitcraps.accounts import Account
from bitcraps.bets import HARDWAY_ODDS, POINTS, Bet, BetKind
from bitcraps.commands import CancelBet, PlaceBet, RefundBet
from bitcraps.events import BetCancelled, BetPlaced, BetRefunded
from bitcraps.game import Game, Phase, check_in_play, check_seated
from bitcraps.refusals import (
    BetNotAllowed,
    BetOutOfLimits,
    BettingIsClosed,
    InsufficientBalance,
    NoSuchBet,
)
from everwhen import Event

BEHIND: Final[Mapping[BetKind, BetKind]] = {
    BetKind.PASS_ODDS: BetKind.PASS,
    BetKind.DONT_PASS_ODDS: BetKind.DONT_PASS,
    BetKind.COME_ODDS: BetKind.COME,
    BetKind.DONT_COME_ODDS: BetKind.DONT_COME,
}
"""Which bet each kind of odds stands behind."""

MOST_TAKEN: Final[Mapping[int | None, int]] = {4: 3, 5: 4, 6: 5, 8: 5, 9: 4, 10: 3}
"""How many times the bet in front of them the odds may be: 3-4-5x."""

MOST_LAID: Final = 6
"""The same for the don't side: whatever the number, it wins 3 times the bet in front at most."""

_LINE: Final = frozenset((BetKind.PASS, BetKind.DONT_PASS))
_COMES: Final = frozenset((BetKind.COME, BetKind.DONT_COME))
_LINE_ODDS: Final = frozenset((BetKind.PASS_ODDS, BetKind.DONT_PASS_ODDS))
_LAID_BEHIND: Final[Mapping[BetKind, BetKind]] = {
    BetKind.DONT_PASS: BetKind.DONT_PASS_ODDS,
    BetKind.DONT_COME: BetKind.DONT_COME_ODDS,
}
_NUMBERS: Final[Mapping[BetKind, frozenset[int]]] = {
    BetKind.PLACE: POINTS,
    BetKind.HARDWAY: frozenset(HARDWAY_ODDS),
    BetKind.COME_ODDS: POINTS,
    BetKind.DONT_COME_ODDS: POINTS,
}


def place_bet(command: PlaceBet, game: Game, account: Account) -> list[Event]:
    """A bet on the table, if the rules, the table's limits and the account allow it.

    The maximum is for all that a player has on the same bet. Odds have limits of their own: a
    multiple of the bet that they stand behind.
    """
    _check_open(command.game, game)
    check_seated(command.player, game)
    _check_moment(command.kind, game)
    bet = Bet(command.player, command.kind, command.amount, _number(command, game))
    least, most = _limits(bet, game)
    if not least <= bet.amount <= most:
        raise BetOutOfLimits(least, most, bet.amount)
    if account.balance < bet.amount:
        raise InsufficientBalance(account.balance, bet.amount)
    number = game.bets_placed + 1
    return [BetPlaced(command.game, bet.player, number, bet.kind, bet.number, bet.amount)]


def cancel_bet(command: CancelBet, game: Game) -> list[Event]:
    """The bet goes back to its player.

    Refuses contract bets (pass with a point, come with a number), and bets that odds stand behind.
    """
    _check_open(command.game, game)
    bet = game.bets.get(command.bet)
    if bet is None or bet.player != command.player:
        raise NoSuchBet(command.bet)
    if _is_contract(bet, game):
        raise BetNotAllowed("a pass or come bet that has its number stays until it is settled")
    if _holds_odds(bet, game):
        raise BetNotAllowed("odds stand behind this bet; take them back first")
    return [BetCancelled(command.game, bet.player, command.bet, bet.amount)]


def refund_bet(command: RefundBet, game: Game) -> list[Event]:
    """The bet goes back to its player, contract or not. Refuses bets that are settled."""
    bet = game.bets.get(command.bet)
    if bet is None:
        raise NoSuchBet(command.bet)
    return [BetRefunded(command.game, bet.player, command.bet, bet.amount)]


def _check_open(game_id: str, game: Game) -> None:
    check_in_play(game_id, game)
    if game.phase is not Phase.BETTING:
        raise BettingIsClosed(game.rolls + 1)


def _check_moment(kind: BetKind, game: Game) -> None:
    if kind in _LINE and game.point is not None:
        raise BetNotAllowed("bets on the line are placed before the come-out roll")
    if kind in _COMES | _LINE_ODDS and game.point is None:
        raise BetNotAllowed(f"a {kind} bet needs a point")


def _number(command: PlaceBet, game: Game) -> int | None:
    """The number that the bet is on; for odds behind the line, the point."""
    allowed = _NUMBERS.get(command.kind)
    if allowed is not None:
        if command.number not in allowed:
            raise BetNotAllowed(f"a {command.kind} bet is on one of {sorted(allowed)}")
        return command.number
    number = game.point if command.kind in _LINE_ODDS else None
    if command.number not in {None, number}:
        raise BetNotAllowed(f"a {command.kind} bet is not on {command.number}")
    return number


def _limits(bet: Bet, game: Game) -> tuple[int, int]:
    """The least and the most that this bet's amount may be."""
    if bet.kind not in BEHIND:
        room = game.maximum - _staked(bet, game)
        if room < game.minimum:
            raise BetNotAllowed(f"the {bet.kind} bet is at the table's limit, {game.maximum}")
        return game.minimum, room
    times = MOST_LAID if bet.kind in _LAID_BEHIND.values() else MOST_TAKEN[bet.number]
    most = times * _in_front(bet, game) - _staked(bet, game)
    if most <= 0:
        raise BetNotAllowed(f"no {BEHIND[bet.kind]} bet on {bet.number} has room for odds behind")
    return 1, most


def _in_front(odds: Bet, game: Game) -> int:
    """What the player has on the bets that the odds stand behind."""
    number = None if odds.kind in _LINE_ODDS else odds.number
    return _staked(Bet(odds.player, BEHIND[odds.kind], 0, number), game)


def _staked(like: Bet, game: Game) -> int:
    """What the same player has on the same kind of bet, on the same number."""
    wanted = (like.player, like.kind, like.number)
    return sum(b.amount for b in game.bets.values() if (b.player, b.kind, b.number) == wanted)


def _is_contract(bet: Bet, game: Game) -> bool:
    if bet.kind is BetKind.PASS:
        return game.point is not None
    return bet.kind is BetKind.COME and bet.number is not None


def _holds_odds(bet: Bet, game: Game) -> bool:
    """Whether without this bet more would be laid behind than allowed.

    Odds that are taken needn't be looked at: they stand behind contract bets.
    """
    kind = _LAID_BEHIND.get(bet.kind)
    if kind is None:
        return False
    odds = Bet(bet.player, kind, 0, game.point if kind in _LINE_ODDS else bet.number)
    return _staked(odds, game) > MOST_LAID * (_in_front(odds, game) - bet.amount)
