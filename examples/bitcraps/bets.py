"""The bets of craps, what they pay, and what a roll makes of them. Nothing here knows of events.

A *point* is the number that the shooter has to repeat before a seven; without one (None) the next
roll is a *come-out roll*.
"""
# ruff: noqa: S105 ("pass" is not a password here)

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from fractions import Fraction
from typing import Final, TypeAlias

import msgspec

from bitcraps.dice import Roll


class BetKind(StrEnum):
    """Everything one can bet on."""

    PASS = "pass"
    DONT_PASS = "dont-pass"
    COME = "come"
    DONT_COME = "dont-come"
    PASS_ODDS = "pass-odds"
    DONT_PASS_ODDS = "dont-pass-odds"
    COME_ODDS = "come-odds"
    DONT_COME_ODDS = "dont-come-odds"
    PLACE = "place"
    FIELD = "field"
    HARDWAY = "hardway"
    ANY_SEVEN = "any-seven"
    ANY_CRAPS = "any-craps"


TRUE_ODDS: Final[Mapping[int, Fraction]] = {
    4: Fraction(2, 1),
    5: Fraction(3, 2),
    6: Fraction(6, 5),
    8: Fraction(6, 5),
    9: Fraction(3, 2),
    10: Fraction(2, 1),
}
"""How much likelier a seven is than each point number: what odds pay, with no edge at all."""

PLACE_ODDS: Final[Mapping[int, Fraction]] = {
    4: Fraction(9, 5),
    5: Fraction(7, 5),
    6: Fraction(7, 6),
    8: Fraction(7, 6),
    9: Fraction(7, 5),
    10: Fraction(9, 5),
}
HARDWAY_ODDS: Final[Mapping[int, Fraction]] = {
    4: Fraction(7),
    6: Fraction(9),
    8: Fraction(9),
    10: Fraction(7),
}
ONE_ROLL_ODDS: Final[Mapping[BetKind, Mapping[int, Fraction]]] = {
    BetKind.FIELD: {
        2: Fraction(2),
        **dict.fromkeys((3, 4, 9, 10, 11), Fraction(1)),
        12: Fraction(3),
    },
    BetKind.ANY_SEVEN: {7: Fraction(4)},
    BetKind.ANY_CRAPS: dict.fromkeys((2, 3, 12), Fraction(7)),
}
"""What each winning total pays; on any other total these bets lose."""

POINTS: Final = frozenset(TRUE_ODDS)
NATURALS: Final = frozenset((7, 11))
CRAPS: Final = frozenset((2, 3, 12))
BARRED: Final = 12
"""The craps on which the don't side gets its stake back, and no more."""

_EVEN: Final = Fraction(1)


class Bet(msgspec.Struct, frozen=True):
    """A bet on the table.

    ``number`` is what odds, place and hardway bets are on, and where a come or don't come bet has
    moved to; otherwise None.
    """

    player: str
    kind: BetKind
    amount: int
    number: int | None = None


class Stays(msgspec.Struct, frozen=True):
    """The roll doesn't concern the bet."""


class Wins(msgspec.Struct, frozen=True):
    """The stake comes back with the payout, and the bet is taken down."""

    payout: int


class Loses(msgspec.Struct, frozen=True):
    """The house takes the stake."""


class Pushes(msgspec.Struct, frozen=True):
    """The stake comes back, and nothing more."""


class Moves(msgspec.Struct, frozen=True):
    """The bet stays on the table, and from now on it is on this number."""

    number: int


Outcome: TypeAlias = Stays | Wins | Loses | Pushes | Moves


def resolve(bet: Bet, roll: Roll, point: int | None) -> Outcome:
    """What becomes of a bet by a roll that is thrown when the table has this point.

    Payouts are rounded down to whole units. Place bets are off on a come-out roll, and so are
    the odds that are taken behind a come bet: when that is settled then, they go back.
    """
    match bet.kind:
        case BetKind.PASS | BetKind.DONT_PASS:
            return _line(bet, roll, point)
        case BetKind.COME | BetKind.DONT_COME:
            outcome = _line(bet, roll, bet.number)
            waits = bet.number is None and isinstance(outcome, Stays)
            return Moves(roll.total) if waits else outcome
        case BetKind.PASS_ODDS | BetKind.COME_ODDS:
            outcome = _against_seven(bet, roll, TRUE_ODDS)
            settled = not isinstance(outcome, Stays)
            return Pushes() if settled and point is None else outcome
        case BetKind.DONT_PASS_ODDS | BetKind.DONT_COME_ODDS:
            return _for_seven(bet, roll)
        case BetKind.PLACE:
            return Stays() if point is None else _against_seven(bet, roll, PLACE_ODDS)
        case BetKind.HARDWAY:
            easy = roll.total == bet.number and not roll.is_hard
            return Loses() if easy else _against_seven(bet, roll, HARDWAY_ODDS)
        case BetKind.FIELD | BetKind.ANY_SEVEN | BetKind.ANY_CRAPS:
            odds = ONE_ROLL_ODDS[bet.kind].get(roll.total)
            return Loses() if odds is None else _paid(bet, odds)


def point_after(roll: Roll, point: int | None) -> int | None:
    """The table's point after a roll."""
    if point is None:
        return roll.total if roll.total in POINTS else None
    return None if roll.total in (point, 7) else point


def _line(bet: Bet, roll: Roll, number: int | None) -> Outcome:
    """Pass and come, and their opposites, before (None) and after they have a number."""
    wins, loses = (NATURALS, CRAPS) if number is None else ({number}, {7})
    if roll.total not in wins | loses:
        return Stays()
    right = bet.kind in (BetKind.PASS, BetKind.COME)
    if not right and roll.total == BARRED:
        return Pushes()
    return _paid(bet, _EVEN) if (roll.total in wins) == right else Loses()


def _against_seven(bet: Bet, roll: Roll, odds: Mapping[int, Fraction]) -> Outcome:
    if roll.total == 7:
        return Loses()
    return _paid(bet, odds[roll.total]) if roll.total == bet.number else Stays()


def _for_seven(bet: Bet, roll: Roll) -> Outcome:
    if roll.total == 7 and bet.number is not None:
        return _paid(bet, 1 / TRUE_ODDS[bet.number])
    return Loses() if roll.total == bet.number else Stays()


def _paid(bet: Bet, odds: Fraction) -> Wins:
    return Wins(int(bet.amount * odds))
