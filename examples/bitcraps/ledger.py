"""The casino's books, by double entry: an event moves money, and neither makes nor destroys it."""

from __future__ import annotations

from typing import Final

import msgspec

from bitcraps.events import (
    BetCancelled,
    BetLost,
    BetPlaced,
    BetPushed,
    BetRefunded,
    BetWon,
    Deposited,
    PayoutTakenBack,
    Withdrawn,
)
from everwhen import Fold


class Ledger(msgspec.Struct, frozen=True):
    """Where all the money is, at one position of the store.

    ``outside`` is negative: it counts what players brought in and did not take out again.
    """

    accounts: int = 0
    at_stake: int = 0
    house: int = 0
    outside: int = 0

    @property
    def total(self) -> int:
        """Always 0, at every position."""
        return self.accounts + self.at_stake + self.house + self.outside


ledger: Final = Fold("ledger", Ledger)
"""The books, from all events of the store."""


@ledger.on(Deposited)
def _(state: Ledger, event: Deposited) -> Ledger:
    return _entry(state, accounts=event.amount, outside=-event.amount)


@ledger.on(Withdrawn)
def _(state: Ledger, event: Withdrawn) -> Ledger:
    return _entry(state, accounts=-event.amount, outside=event.amount)


@ledger.on(BetPlaced)
def _(state: Ledger, event: BetPlaced) -> Ledger:
    return _entry(state, accounts=-event.amount, at_stake=event.amount)


@ledger.on(BetWon)
def _(state: Ledger, event: BetWon) -> Ledger:
    back = event.stake + event.payout
    return _entry(state, accounts=back, at_stake=-event.stake, house=-event.payout)


@ledger.on(BetLost)
def _(state: Ledger, event: BetLost) -> Ledger:
    return _entry(state, at_stake=-event.stake, house=event.stake)


@ledger.on(BetPushed)
def _(state: Ledger, event: BetPushed) -> Ledger:
    return _entry(state, accounts=event.stake, at_stake=-event.stake)


@ledger.on(PayoutTakenBack)
def _(state: Ledger, event: PayoutTakenBack) -> Ledger:
    return _entry(state, accounts=-event.payout, house=event.payout)


def _returned(state: Ledger, event: BetCancelled | BetRefunded) -> Ledger:
    return _entry(state, accounts=event.amount, at_stake=-event.amount)


ledger.on(BetCancelled)(_returned)
ledger.on(BetRefunded)(_returned)


def _entry(
    state: Ledger, *, accounts: int = 0, at_stake: int = 0, house: int = 0, outside: int = 0
) -> Ledger:
    return Ledger(
        state.accounts + accounts,
        state.at_stake + at_stake,
        state.house + house,
        state.outside + outside,
    )
