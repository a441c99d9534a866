"""What each bet does on each roll."""

from __future__ import annotations

from itertools import product

import pytest

from bitcraps.bets import (
    PLACE_ODDS,
    POINTS,
    TRUE_ODDS,
    Bet,
    BetKind,
    Loses,
    Moves,
    Outcome,
    Pushes,
    Stays,
    Wins,
    point_after,
    resolve,
)
from bitcraps.dice import Roll

EASY = {total: Roll((total - 1) // 2, total // 2 + 1) for total in (4, 6, 8, 10)}
ANY = {
    2: Roll(1, 1),
    3: Roll(1, 2),
    5: Roll(1, 4),
    7: Roll(3, 4),
    9: Roll(4, 5),
    11: Roll(5, 6),
    12: Roll(6, 6),
    **EASY,
}
E = Wins(10)  # even money on the bets of 10 below


def outcomes(kind: BetKind, on: int | None, point: int | None) -> dict[int, Outcome]:
    """What becomes of a bet of 10 by each total, leaving out those on which it stays."""
    found = {total: resolve(Bet("p", kind, 10, on), ANY[total], point) for total in range(2, 13)}
    return {total: outcome for total, outcome in found.items() if outcome != Stays()}


def test_the_line_on_the_come_out_roll() -> None:
    craps: dict[int, Outcome] = dict.fromkeys((2, 3, 12), Loses())
    assert outcomes(BetKind.PASS, None, None) == {7: E, 11: E, **craps}
    bar = {2: E, 3: E, 7: Loses(), 11: Loses(), 12: Pushes()}
    assert outcomes(BetKind.DONT_PASS, None, None) == bar


@pytest.mark.parametrize("point", sorted(POINTS))
def test_the_line_with_a_point(point: int) -> None:
    assert outcomes(BetKind.PASS, None, point) == {point: E, 7: Loses()}
    assert outcomes(BetKind.DONT_PASS, None, point) == {point: Loses(), 7: E}


@pytest.mark.parametrize("point", [None, *sorted(POINTS)])
def test_come_bets_have_a_come_out_roll_of_their_own(point: int | None) -> None:
    moves: dict[int, Outcome] = {number: Moves(number) for number in POINTS}
    assert outcomes(BetKind.COME, None, point) == {
        7: E,
        11: E,
        2: Loses(),
        3: Loses(),
        12: Loses(),
        **moves,
    }
    assert outcomes(BetKind.DONT_COME, None, point) == {
        2: E,
        3: E,
        7: Loses(),
        11: Loses(),
        12: Pushes(),
        **moves,
    }
    assert outcomes(BetKind.COME, 9, point) == {9: E, 7: Loses()}
    assert outcomes(BetKind.DONT_COME, 9, point) == {9: Loses(), 7: E}


@pytest.mark.parametrize(("on", "taken", "laid"), [(4, 20, 5), (5, 15, 6), (6, 12, 8), (8, 12, 8), (9, 15, 6), (10, 20, 5)])  # fmt: skip
def test_odds_pay_true_odds(on: int, taken: int, laid: int) -> None:
    won_by_number = {on: Wins(taken), 7: Loses()}
    won_by_seven = {on: Loses(), 7: Wins(laid)}
    assert outcomes(BetKind.PASS_ODDS, on, on) == won_by_number
    assert outcomes(BetKind.COME_ODDS, on, 4) == won_by_number
    assert outcomes(BetKind.DONT_PASS_ODDS, on, on) == won_by_seven
    assert outcomes(BetKind.DONT_COME_ODDS, on, 4) == won_by_seven
    ways = {n: sum(a + b == n for a, b in product(range(1, 7), repeat=2)) for n in (on, 7)}
    assert TRUE_ODDS[on] * ways[on] == ways[7]


def test_odds_behind_a_come_bet_are_off_on_the_come_out_roll() -> None:
    assert outcomes(BetKind.COME_ODDS, 5, None) == {5: Pushes(), 7: Pushes()}
    assert outcomes(BetKind.DONT_COME_ODDS, 5, None) == {5: Loses(), 7: Wins(6)}


@pytest.mark.parametrize(("on", "payout"), [(4, 18), (5, 14), (6, 11), (8, 11), (9, 14), (10, 18)])
def test_place_bets_are_off_on_the_come_out_roll(on: int, payout: int) -> None:
    assert outcomes(BetKind.PLACE, on, 4) == {on: Wins(payout), 7: Loses()}
    assert outcomes(BetKind.PLACE, on, None) == {}
    assert PLACE_ODDS[on] < TRUE_ODDS[on]


@pytest.mark.parametrize("point", [None, 4, 9])
def test_hardways_win_only_as_a_pair(point: int | None) -> None:
    for on, payout in ((4, 70), (6, 90), (8, 90), (10, 70)):
        assert outcomes(BetKind.HARDWAY, on, point) == {on: Loses(), 7: Loses()}
        hard = Roll(on // 2, on // 2)
        assert resolve(Bet("p", BetKind.HARDWAY, 10, on), hard, point) == Wins(payout)


@pytest.mark.parametrize("point", [None, 6])
def test_bets_on_a_single_roll(point: int | None) -> None:
    lost = dict.fromkeys(range(2, 13), Loses())
    even = dict.fromkeys((3, 4, 9, 10, 11), E)
    field = {**lost, **even, 2: Wins(20), 12: Wins(30)}
    assert outcomes(BetKind.FIELD, None, point) == field
    assert outcomes(BetKind.ANY_SEVEN, None, point) == {**lost, 7: Wins(40)}
    assert outcomes(BetKind.ANY_CRAPS, None, point) == {
        **lost,
        **dict.fromkeys((2, 3, 12), Wins(70)),
    }


def test_payouts_are_rounded_down() -> None:
    assert resolve(Bet("p", BetKind.PLACE, 5, 6), Roll(1, 5), 8) == Wins(5)
    assert resolve(Bet("p", BetKind.DONT_PASS_ODDS, 1, 4), Roll(3, 4), 4) == Wins(0)
    large = 10**30 + 1
    assert resolve(Bet("p", BetKind.PLACE, large, 6), Roll(1, 5), 8) == Wins(large * 7 // 6)


def test_the_point() -> None:
    assert {total: point_after(ANY[total], None) for total in ANY} == {
        total: total if total in POINTS else None for total in ANY
    }
    assert {total for total in ANY if point_after(ANY[total], 6) is None} == {6, 7}
    assert point_after(ANY[8], 6) == 6


def test_a_seven_out_leaves_no_bet() -> None:
    for kind, on, point in product(BetKind, [None, *POINTS], POINTS):
        odds = kind.value.endswith("-odds") or kind in {BetKind.PLACE, BetKind.HARDWAY}
        if on is not None or not odds:
            outcome = resolve(Bet("p", kind, 10, on), ANY[7], point)
            assert isinstance(outcome, Wins | Loses), (kind, on, point)
