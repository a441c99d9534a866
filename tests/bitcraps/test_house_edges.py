"""The house's edge on every bet, exactly, and in a million rolls."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from fractions import Fraction
from itertools import product

import pytest

from bitcraps.bets import (
    POINTS,
    Bet,
    BetKind,
    Loses,
    Moves,
    Pushes,
    Stays,
    Wins,
    point_after,
    resolve,
)
from bitcraps.dice import Roll

ROLLS = [Roll(first, second) for first, second in product(range(1, 7), repeat=2)]
STAKE = 30  # every payout is whole
State = tuple[Bet, int | None]
Matrix = list[list[Fraction]]


def step(bet: Bet, roll: Roll, point: int | None) -> State | int:
    """What a roll leads to: the bet and the table's point, or what the player has won of it."""
    after = point_after(roll, point)
    match resolve(bet, roll, point):
        case Wins(payout):
            return payout
        case Loses():
            return -bet.amount
        case Pushes():
            return 0
        case Moves(number):
            return Bet(bet.player, bet.kind, bet.amount, number), after
        case Stays():
            return bet, after


def expectation(bet: Bet, point: int | None) -> Fraction:
    """What the player wins on average, of 1: the table as an absorbing Markov chain."""
    states: list[State] = [(bet, point)]
    chances: list[dict[int, Fraction]] = []
    rewards: list[Fraction] = []
    for state in states:  # grows while new states are met
        row: dict[int, Fraction] = defaultdict(Fraction)
        reward = Fraction(0)
        for roll in ROLLS:
            following = step(state[0], roll, state[1])
            if isinstance(following, int):
                reward += Fraction(following, 36)
                continue
            if following not in states:
                states.append(following)
            row[states.index(following)] += Fraction(1, 36)
        chances.append(row)
        rewards.append(reward)
    size = len(states)
    system = [[(i == j) - chances[i][j] for j in range(size)] + [rewards[i]] for i in range(size)]
    return solved(system)[0] / bet.amount


def solved(system: Matrix) -> list[Fraction]:
    """Gauss and Jordan, exactly; the last column is the right side."""
    for i in range(len(system)):
        pivot = next(j for j in range(i, len(system)) if system[j][i])
        system[i], system[pivot] = system[pivot], system[i]
        system[i] = [x / system[i][i] for x in system[i]]
        for j, row in enumerate(system):
            if j != i and row[i]:
                system[j] = [x - row[i] * y for x, y in zip(row, system[i], strict=True)]
    return [row[-1] for row in system]


PASS_EDGE, DONT_PASS_EDGE = Fraction(7, 495), Fraction(3, 220)
PLACE_EDGES = {4: 15, 5: 25, 6: 66, 8: 66, 9: 25, 10: 15}
PUBLISHED: list[tuple[BetKind, int | None, int | None, Fraction]] = [
    (BetKind.PASS, None, None, PASS_EDGE),
    (BetKind.DONT_PASS, None, None, DONT_PASS_EDGE),
    *((BetKind.COME, None, point, PASS_EDGE) for point in sorted(POINTS)),
    *((BetKind.DONT_COME, None, point, DONT_PASS_EDGE) for point in sorted(POINTS)),
    *((BetKind.PLACE, on, 8, Fraction(1, edge)) for on, edge in PLACE_EDGES.items()),
    *((BetKind.PLACE, on, None, Fraction(1, edge)) for on, edge in PLACE_EDGES.items()),
    *((BetKind.PASS_ODDS, point, point, Fraction(0)) for point in sorted(POINTS)),
    *((BetKind.DONT_PASS_ODDS, point, point, Fraction(0)) for point in sorted(POINTS)),
    *((BetKind.COME_ODDS, on, 6, Fraction(0)) for on in sorted(POINTS)),
    *((BetKind.COME_ODDS, on, None, Fraction(0)) for on in sorted(POINTS)),
    *((BetKind.DONT_COME_ODDS, on, None, Fraction(0)) for on in sorted(POINTS)),
    (BetKind.FIELD, None, None, Fraction(1, 36)),
    (BetKind.HARDWAY, 4, None, Fraction(1, 9)),
    (BetKind.HARDWAY, 6, None, Fraction(1, 11)),
    (BetKind.HARDWAY, 8, None, Fraction(1, 11)),
    (BetKind.HARDWAY, 10, None, Fraction(1, 9)),
    (BetKind.ANY_SEVEN, None, None, Fraction(1, 6)),
    (BetKind.ANY_CRAPS, None, None, Fraction(1, 9)),
]


@pytest.mark.parametrize(("kind", "number", "point", "edge"), PUBLISHED)
def test_exact_edge(kind: BetKind, number: int | None, point: int | None, edge: Fraction) -> None:
    assert -expectation(Bet("p", kind, STAKE, number), point) == edge


def test_every_kind_of_bet_is_published() -> None:
    assert {kind for kind, *_ in PUBLISHED} == set(BetKind)


SIMULATED = [
    (Bet("p", kind, STAKE, number), edge)
    for kind, number, point, edge in PUBLISHED
    if kind not in {BetKind.COME, BetKind.DONT_COME}  # which have a point of their own
    and (kind is not BetKind.PLACE or point is not None)
    and (kind is not BetKind.COME_ODDS or point is None)
]
ON_THE_POINT = {BetKind.PASS_ODDS, BetKind.DONT_PASS_ODDS}


def test_a_million_rolls_agree() -> None:
    """Each bet is on the table all the time; each mean is within four standard errors.

    What a roll does depends on nothing but the roll and the point, so it is enough to count those.
    """
    thrown: Counter[tuple[Roll, int | None]] = Counter()
    point: int | None = None
    for roll in random.Random(20).choices(ROLLS, k=1_000_000):
        thrown[roll, point] += 1
        point = point_after(roll, point)
    for bet, edge in SIMULATED:
        results: Counter[int] = Counter()
        for (roll, at), times in thrown.items():
            if bet.kind in ON_THE_POINT and bet.number != at:
                continue
            result = step(bet, roll, at)
            if isinstance(result, int):
                results[result] += times
        count = results.total()
        mean = sum(result * times for result, times in results.items()) / count
        square = sum(result * result * times for result, times in results.items()) / count
        error = math.sqrt((square - mean * mean) / count)
        assert abs(mean + STAKE * edge) < 4 * error, (bet, mean / STAKE, float(edge))
