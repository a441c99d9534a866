"""Tables as tests need them: a state from events, and dice that fall as the test wants."""

from __future__ import annotations

import itertools

import msgspec

from bitcraps.accounts import Account
from bitcraps.bets import BetKind
from bitcraps.commands import RollDice
from bitcraps.dealing import roll_dice
from bitcraps.dice import Roll, commitment, roll_of
from bitcraps.events import BetMoved, BetPlaced, GameStarted, PlayerJoined, PointEstablished
from bitcraps.game import Game, game
from everwhen import Event

HASH = commitment(bytes(32))
RICH = Account(exists=True, balance=10_000)
STARTED = GameStarted("g", "table", "ann", 5, 100, HASH)
SEATED: list[Event] = [
    STARTED,
    PlayerJoined("g", "ann", "seven come eleven"),
    PlayerJoined("g", "bob", "lucky"),
    PlayerJoined("g", "cid", ""),
]


def after(*events: Event) -> Game:
    return game.apply(game.initial(), events)


def seated(*events: Event) -> Game:
    """Ann, Bob and Cid are at the table, Ann shoots, and then something happens."""
    return after(*SEATED, *events)


def bet(
    number: int, kind: BetKind, amount: int = 10, on: int | None = None, player: str = "ann"
) -> BetPlaced:
    return BetPlaced("g", player, number, kind, on, amount)


def point(number: int) -> PointEstablished:
    return PointEstablished("g", number)


def moved(number: int, on: int) -> BetMoved:
    return BetMoved("g", "ann", number, on)


def rolled(state: Game, first: int, second: int) -> list[Event]:
    """What is decided on a roll with these dice, by the shooter."""
    roll = Roll(first, second)
    seeds = (number.to_bytes(32, "big") for number in itertools.count())
    seed = next(seed for seed in seeds if roll_of(seed, state.luck) == roll)
    promised = msgspec.structs.replace(state, seed_hash=commitment(seed))
    return roll_dice(RollDice("g", state.shooter, seed.hex(), HASH), promised)
