"""What can be asked of the casino. The bounds of each field stand in its type."""

from __future__ import annotations

from typing import Annotated, ClassVar, TypeAlias

import msgspec

from bitcraps.bets import BetKind
from everwhen import Personal

Amount: TypeAlias = Annotated[int, msgspec.Meta(gt=0, le=10**12)]
"""Whole units; bounded, so that no sum outgrows 64 bits."""

Id: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9._-]{1,64}\Z")]
Words: TypeAlias = Annotated[str, msgspec.Meta(max_length=256)]
Email: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[^@\s]+@[^@\s]+\Z", max_length=254)]
Hex32: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
"""32 bytes, in hex."""


class OpenAccount(msgspec.Struct, frozen=True):
    """Become a player. Commands are kept beside their events, and what is personal is encrypted."""

    data_subject: ClassVar[str] = "player"

    player: Id
    name: Personal[Words]
    email: Personal[Email]


class Deposit(msgspec.Struct, frozen=True):
    """Bring money in."""

    player: Id
    amount: Amount


class Withdraw(msgspec.Struct, frozen=True):
    """Take money out, of what is not on a table."""

    player: Id
    amount: Amount


class StartGame(msgspec.Struct, frozen=True):
    """Give a shooter the dice. The shooter takes a seat like everybody else: by `JoinGame`."""

    game: Id
    table: Id
    shooter: Id
    minimum: Amount
    maximum: Amount
    seed_hash: Hex32


class JoinGame(msgspec.Struct, frozen=True):
    """Take the next seat, and say something for luck."""

    game: Id
    player: Id
    luck: Words


class PlaceBet(msgspec.Struct, frozen=True):
    """Put money on the table.

    ``number`` is for place and hardway bets and odds behind a come or don't come bet. Odds behind
    the line are on the point, so that they need none.
    """

    game: Id
    player: Id
    kind: BetKind
    amount: Amount
    number: int | None = None


class CancelBet(msgspec.Struct, frozen=True):
    """Take a bet back."""

    game: Id
    player: Id
    bet: int


class CloseBetting(msgspec.Struct, frozen=True):
    """Let no more bets be placed before the roll. Up to the shooter, or a timer (None)."""

    game: Id
    player: Id | None = None
    luck: Words = ""


class RollDice(msgspec.Struct, frozen=True):
    """Throw the dice. The house adds the seed it is committed to, and its next commitment."""

    game: Id
    player: Id
    seed: Hex32
    next_seed_hash: Hex32


class RefundBet(msgspec.Struct, frozen=True):
    """Give back a bet of a game that was abandoned. Sent by a timer, never by a player."""

    game: Id
    bet: int
