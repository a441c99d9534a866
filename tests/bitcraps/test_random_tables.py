"""Whatever players try, at whatever table: the money adds up, and every bet is settled once.

What is checked after every single event, the `Casino` in `casino.py` says.
"""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bitcraps.casino import Casino

from bitcraps.audit import forged_rolls
from bitcraps.bets import BetKind
from bitcraps.betting import BEHIND
from bitcraps.commands import (
    CancelBet,
    CloseBetting,
    Deposit,
    JoinGame,
    PlaceBet,
    RefundBet,
    Withdraw,
)
from bitcraps.game import Phase, game
from everwhen import Refusal

KINDS = list(BetKind)
ODDS = {front: odds for odds, front in BEHIND.items()}
NUMBERS = [None, 4, 5, 6, 8, 9, 10]


def any_bet(casino: Casino, random: Random) -> PlaceBet:
    """Any bet at all; often one that has a chance to be taken."""
    player = random.choice([*casino.accounts, "nobody"])
    kind, number = random.choice(KINDS), random.choice(NUMBERS)
    fronts = [bet for bet in casino.game.bets.values() if bet.kind in ODDS]
    if fronts and random.random() < 0.4:
        front = random.choice(fronts)
        player, kind, number = front.player, ODDS[front.kind], front.number
    if kind not in {BetKind.PLACE, BetKind.HARDWAY, BetKind.COME_ODDS, BetKind.DONT_COME_ODDS}:
        number = None
    return PlaceBet("g", player, kind, random.choice([1, 7, 10, 33, 60, 201]), number)


def anything_else(casino: Casino, random: Random) -> Any:
    player = random.choice([*casino.accounts, "nobody"])
    bet = random.randint(1, casino.game.bets_placed + 1)
    commands = [
        CancelBet("g", player, bet),
        CancelBet("g", player, bet),
        RefundBet("g", bet),
        Deposit(player, random.randint(1, 50)),
        Withdraw(player, random.randint(1, 900)),
        JoinGame("g", player, "again"),
        CloseBetting("g", player, str(random.random())),
    ]
    return random.choice(commands)


def attempt(casino: Casino, command: Any) -> None:
    """A refusal is a fine answer, and writes nothing; no other error is."""
    before = len(casino.events)
    try:
        casino.send(command)
    except Refusal:
        assert len(casino.events) == before


@settings(max_examples=100)
@given(
    secret=st.binary(min_size=32, max_size=32),
    players=st.integers(1, 4),
    busy=st.integers(0, 25),
    random=st.randoms(use_true_random=True),
)
def test_a_hand_at_a_random_table(secret: bytes, players: int, busy: int, random: Random) -> None:
    casino = Casino(secret, players)
    while not casino.over:
        for _ in range(busy):
            make = any_bet if random.random() < 0.8 else anything_else
            attempt(casino, make(casino, random))
        if casino.game.phase is Phase.BETTING:
            casino.send(CloseBetting("g"))
        casino.roll()
    assert casino.game.bets == {}
    assert set(casino.settled) == set(range(1, casino.game.bets_placed + 1))
    assert casino.ledger.at_stake == 0
    assert casino.game == game.apply(game.initial(), casino.events)
    assert forged_rolls(casino.events) == []
