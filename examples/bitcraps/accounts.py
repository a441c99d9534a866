"""Players' accounts. A player has one balance, whatever tables they sit at."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec.structs import replace

from bitcraps.commands import Deposit, OpenAccount, Withdraw
from bitcraps.events import (
    AccountOpened,
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
from bitcraps.refusals import AccountExists, InsufficientBalance, NoSuchAccount
from everwhen import Event, Fold


class Account(msgspec.Struct, frozen=True):
    """A player's money: what is free, and what is at stake on tables. Neither is ever negative."""

    exists: bool = False
    balance: int = 0
    at_stake: int = 0


account: Final = Fold("account", Account)
"""An account, from all events that are tagged with its player, in whatever streams."""


@account.on(AccountOpened)
def _(state: Account, _event: AccountOpened) -> Account:
    return replace(state, exists=True)


@account.on(Deposited)
def _(state: Account, event: Deposited) -> Account:
    return _moved(state, balance=event.amount)


@account.on(Withdrawn)
def _(state: Account, event: Withdrawn) -> Account:
    return _moved(state, balance=-event.amount)


@account.on(BetPlaced)
def _(state: Account, event: BetPlaced) -> Account:
    return _moved(state, balance=-event.amount, at_stake=event.amount)


@account.on(BetWon)
def _(state: Account, event: BetWon) -> Account:
    return _moved(state, balance=event.stake + event.payout, at_stake=-event.stake)


@account.on(BetLost)
def _(state: Account, event: BetLost) -> Account:
    return _moved(state, at_stake=-event.stake)


@account.on(BetPushed)
def _(state: Account, event: BetPushed) -> Account:
    return _moved(state, balance=event.stake, at_stake=-event.stake)


@account.on(PayoutTakenBack)
def _(state: Account, event: PayoutTakenBack) -> Account:
    return _moved(state, balance=-event.payout)


def _returned(state: Account, event: BetCancelled | BetRefunded) -> Account:
    return _moved(state, balance=event.amount, at_stake=-event.amount)


account.on(BetCancelled)(_returned)
account.on(BetRefunded)(_returned)


def open_account(command: OpenAccount, account: Account) -> list[Event]:
    """A new account, empty. Refuses a second one for the same player."""
    if account.exists:
        raise AccountExists(command.player)
    return [AccountOpened(command.player, command.name, command.email)]


def deposit(command: Deposit, account: Account) -> list[Event]:
    """Money from outside. Refuses it where there is no account."""
    if not account.exists:
        raise NoSuchAccount(command.player)
    return [Deposited(command.player, command.amount)]


def withdraw(command: Withdraw, account: Account) -> list[Event]:
    """Money to the outside. Refuses more than the balance."""
    if not account.exists:
        raise NoSuchAccount(command.player)
    if account.balance < command.amount:
        raise InsufficientBalance(account.balance, command.amount)
    return [Withdrawn(command.player, command.amount)]


def _moved(state: Account, *, balance: int = 0, at_stake: int = 0) -> Account:
    return Account(state.exists, state.balance + balance, state.at_stake + at_stake)
