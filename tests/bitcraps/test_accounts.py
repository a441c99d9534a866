"""Accounts, the way a player meets them."""

from __future__ import annotations

import pytest

from bitcraps.accounts import Account, account, deposit, open_account, withdraw
from bitcraps.bets import BetKind
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
    Withdrawn,
)
from bitcraps.refusals import AccountExists, InsufficientBalance, NoSuchAccount
from everwhen import Event

NOBODY = Account()
ANN = Account(exists=True, balance=100)


def after(*events: Event) -> Account:
    return account.apply(account.initial(), events)


def test_an_account_is_opened_once() -> None:
    assert open_account(OpenAccount("ann", "Ann", "a@example.org"), NOBODY) == [
        AccountOpened("ann", "Ann", "a@example.org")
    ]
    assert after(AccountOpened("ann", "Ann", "a@example.org")) == Account(exists=True)
    with pytest.raises(AccountExists, match="'ann'") as caught:
        open_account(OpenAccount("ann", "Ann", "a@example.org"), ANN)
    assert caught.value.player == "ann"


def test_money_comes_in_and_goes_out() -> None:
    assert deposit(Deposit("ann", 5), ANN) == [Deposited("ann", 5)]
    assert withdraw(Withdraw("ann", 100), ANN) == [Withdrawn("ann", 100)]
    assert after(Deposited("ann", 7), Withdrawn("ann", 4)).balance == 3


def test_nobody_withdraws_more_than_there_is() -> None:
    with pytest.raises(InsufficientBalance, match="holds 100, and 101") as caught:
        withdraw(Withdraw("ann", 101), ANN)
    assert (caught.value.balance, caught.value.needed) == (100, 101)


def test_without_an_account_no_money_moves() -> None:
    with pytest.raises(NoSuchAccount, match="open one"):
        deposit(Deposit("ann", 5), NOBODY)
    with pytest.raises(NoSuchAccount, match="open one"):
        withdraw(Withdraw("ann", 5), NOBODY)


@pytest.mark.parametrize(
    ("event", "balance", "at_stake"),
    [
        (BetWon("g", "ann", 1, BetKind.FIELD, None, 10, 20), 120, 0),
        (BetLost("g", "ann", 1, BetKind.FIELD, None, 10), 90, 0),
        (BetPushed("g", "ann", 1, BetKind.DONT_PASS, None, 10), 100, 0),
        (BetCancelled("g", "ann", 1, 10), 100, 0),
        (BetRefunded("g", "ann", 1, 10), 100, 0),
    ],
)
def test_what_becomes_of_a_bet(event: Event, balance: int, at_stake: int) -> None:
    placed = account.apply(ANN, [BetPlaced("g", "ann", 1, BetKind.FIELD, None, 10)])
    assert (placed.balance, placed.at_stake) == (90, 10)
    settled = account.apply(placed, [event])
    assert (settled.balance, settled.at_stake) == (balance, at_stake)
