"""What the casino takes back: mistakes of the cashier, bets that may still be cancelled, payouts.

Dice that were rolled stay rolled, and so does all that they did to the bets. Whatever is taken
back moves money by an event of its own, so that the books balance at every position.
"""

from __future__ import annotations

from typing import Final

from bitcraps.accounts import Account, account, withdraw
from bitcraps.betting import cancel_bet
from bitcraps.commands import CancelBet, Withdraw
from bitcraps.events import BetPlaced, BetWon, Deposited, PayoutTakenBack, Withdrawn
from bitcraps.game import Game, game
from bitcraps.refusals import BetNotAllowed, InsufficientBalance
from everwhen import Event, Query
from everwhen.undo import Compensations

corrections: Final = Compensations()
"""Which events can be undone, and how."""


def _of_player(event: Deposited | Withdrawn | BetWon) -> Query:
    return Query().tags(f"player:{event.player}")


@corrections.on(Deposited, given=account, of=_of_player)
def _(event: Deposited, account: Account) -> list[Event]:
    """Money that never came in goes out again, unless it was spent."""
    return withdraw(Withdraw(event.player, event.amount), account)


@corrections.on(Withdrawn)
def _(event: Withdrawn) -> Deposited:
    return Deposited(event.player, event.amount)


@corrections.redo(Withdrawn, given=account, of=_of_player)
def _(event: Withdrawn, account: Account) -> list[Event]:
    return withdraw(Withdraw(event.player, event.amount), account)


@corrections.on(BetPlaced, given=game)
def _(event: BetPlaced, game: Game) -> list[Event]:
    """As the player might do it: by the rules, as long as betting is open."""
    return cancel_bet(CancelBet(event.game, event.player, event.bet), game)


@corrections.redo(BetPlaced)
def _(event: BetPlaced) -> None:
    raise BetNotAllowed(f"bet {event.bet} was taken back; its player may place another one")


@corrections.on(BetWon, given=account, of=_of_player)
def _(event: BetWon, account: Account) -> PayoutTakenBack:
    """What was paid by mistake, unless the player has lost or taken it since."""
    if account.balance < event.payout:
        raise InsufficientBalance(account.balance, event.payout)
    return PayoutTakenBack(event.game, event.player, event.bet, event.kind, event.payout)


@corrections.redo(BetWon)
def _(event: BetWon) -> None:
    raise BetNotAllowed(f"bet {event.bet} is settled; pay what is due into the account")
