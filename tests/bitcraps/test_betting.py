"""Which bets are taken, and which are refused."""

from __future__ import annotations

import pytest
from tests.bitcraps.table import RICH, bet, moved, point, seated

from bitcraps.accounts import Account
from bitcraps.bets import BetKind
from bitcraps.betting import cancel_bet, place_bet, refund_bet
from bitcraps.commands import CancelBet, PlaceBet, RefundBet
from bitcraps.events import BetCancelled, BetPlaced, BetRefunded, BettingClosed, GameCompleted
from bitcraps.game import Game
from bitcraps.refusals import (
    BetNotAllowed,
    BetOutOfLimits,
    BettingIsClosed,
    GameIsOver,
    InsufficientBalance,
    NoSuchBet,
    NoSuchGame,
    NotAtTheTable,
)
from everwhen import Event

CLOSED = BettingClosed("g", 1)


def placed(
    state: Game, kind: BetKind, amount: int = 10, on: int | None = None, player: str = "ann"
) -> list[Event]:
    return place_bet(PlaceBet("g", player, kind, amount, on), state, RICH)


def test_a_bet_is_numbered_in_its_game() -> None:
    state = seated(bet(1, BetKind.FIELD), BetCancelled("g", "ann", 1, 10))
    assert placed(state, BetKind.PASS) == [bet(2, BetKind.PASS)]


@pytest.mark.parametrize("kind", [BetKind.PASS, BetKind.DONT_PASS])
def test_the_line_is_for_the_come_out_roll(kind: BetKind) -> None:
    assert placed(seated(), kind) == [bet(1, kind)]
    with pytest.raises(BetNotAllowed, match="before the come-out"):
        placed(seated(point(6)), kind)


@pytest.mark.parametrize("kind", [BetKind.COME, BetKind.DONT_COME])
def test_come_bets_need_a_point(kind: BetKind) -> None:
    assert placed(seated(point(6)), kind) == [bet(1, kind)]
    with pytest.raises(BetNotAllowed, match="needs a point") as caught:
        placed(seated(), kind)
    assert caught.value.why == str(caught.value)


@pytest.mark.parametrize("number", [None, 6])
def test_bets_on_numbers_are_on_numbers_that_exist(number: int | None) -> None:
    state = seated(*([] if number is None else [point(number)]))
    assert placed(state, BetKind.PLACE, on=9) == [bet(1, BetKind.PLACE, on=9)]
    assert placed(state, BetKind.HARDWAY, on=8) == [bet(1, BetKind.HARDWAY, on=8)]
    for kind, on in ((BetKind.PLACE, 7), (BetKind.PLACE, None), (BetKind.HARDWAY, 5)):
        with pytest.raises(BetNotAllowed, match="on one of"):
            placed(state, kind, on=on)
    with pytest.raises(BetNotAllowed, match="is not on "):
        placed(state, BetKind.FIELD, on=9)


def test_a_bet_keeps_within_the_limits() -> None:
    assert placed(seated(), BetKind.FIELD, 5)
    assert placed(seated(), BetKind.FIELD, 100)
    for amount in (4, 101):
        with pytest.raises(BetOutOfLimits, match="from 5 to 100") as caught:
            placed(seated(), BetKind.FIELD, amount)
        refused = caught.value
        assert (refused.minimum, refused.maximum, refused.amount) == (5, 100, amount)


def test_the_maximum_is_for_all_that_lies_on_the_same_bet() -> None:
    state = seated(bet(1, BetKind.PLACE, 60, 6), bet(2, BetKind.PLACE, 80, 8, "bob"))
    assert placed(state, BetKind.PLACE, 40, 6)
    with pytest.raises(BetOutOfLimits, match="from 5 to 40"):
        placed(state, BetKind.PLACE, 41, 6)
    assert placed(state, BetKind.PLACE, 100, 8)
    full = seated(bet(1, BetKind.FIELD, 96))
    with pytest.raises(BetNotAllowed, match="at the table's limit, 100"):
        placed(full, BetKind.FIELD, 5)


def test_the_account_covers_the_bet() -> None:
    command = PlaceBet("g", "ann", BetKind.FIELD, 10)
    assert place_bet(command, seated(), Account(exists=True, balance=10))
    with pytest.raises(InsufficientBalance) as caught:
        place_bet(command, seated(), Account(exists=True, balance=9, at_stake=50))
    assert (caught.value.balance, caught.value.needed) == (9, 10)


def test_bets_are_for_players_at_an_open_table() -> None:
    with pytest.raises(NotAtTheTable, match="'eve'"):
        placed(seated(), BetKind.FIELD, player="eve")
    with pytest.raises(BettingIsClosed) as caught:
        placed(seated(CLOSED), BetKind.FIELD)
    assert caught.value.roll == 1
    with pytest.raises(GameIsOver):
        placed(seated(GameCompleted("g", 1, "bob")), BetKind.FIELD)
    with pytest.raises(NoSuchGame):
        placed(Game(), BetKind.FIELD)


@pytest.mark.parametrize(("on", "most"), [(4, 30), (5, 40), (6, 50), (8, 50), (9, 40), (10, 30)])
def test_odds_are_taken_three_four_and_five_times(on: int, most: int) -> None:
    line = seated(bet(1, BetKind.PASS), point(on))
    assert placed(line, BetKind.PASS_ODDS, 1) == [bet(2, BetKind.PASS_ODDS, 1, on)]
    assert placed(line, BetKind.PASS_ODDS, most, on) == [bet(2, BetKind.PASS_ODDS, most, on)]
    come = seated(point(8), bet(1, BetKind.COME), moved(1, on))
    assert placed(come, BetKind.COME_ODDS, most, on) == [bet(2, BetKind.COME_ODDS, most, on)]
    for state, kind in ((line, BetKind.PASS_ODDS), (come, BetKind.COME_ODDS)):
        with pytest.raises(BetOutOfLimits) as caught:
            placed(state, kind, most + 1, on)
        assert (caught.value.minimum, caught.value.maximum) == (1, most)


@pytest.mark.parametrize("on", [4, 5, 6, 8, 9, 10])
def test_odds_are_laid_six_times(on: int) -> None:
    line = seated(bet(1, BetKind.DONT_PASS), point(on))
    come = seated(point(8), bet(1, BetKind.DONT_COME), moved(1, on))
    for state, kind in ((line, BetKind.DONT_PASS_ODDS), (come, BetKind.DONT_COME_ODDS)):
        assert placed(state, kind, 60, on) == [bet(2, kind, 60, on)]
        with pytest.raises(BetOutOfLimits):
            placed(state, kind, 61, on)


def test_odds_add_up() -> None:
    line = (bet(1, BetKind.PASS), bet(2, BetKind.PASS, 20), point(4))
    with pytest.raises(BetOutOfLimits) as caught:
        placed(seated(*line, bet(3, BetKind.PASS_ODDS, 80, 4)), BetKind.PASS_ODDS, 11)
    assert caught.value.maximum == 10
    with pytest.raises(BetNotAllowed, match="no pass bet on 4 has room"):
        placed(seated(*line, bet(3, BetKind.PASS_ODDS, 90, 4)), BetKind.PASS_ODDS, 1)


def test_odds_stand_behind_a_bet_of_ones_own_on_that_number() -> None:
    come = seated(point(8), bet(1, BetKind.COME), moved(1, 5))
    for kind, on, player in (
        (BetKind.COME_ODDS, 9, "ann"),
        (BetKind.COME_ODDS, 5, "bob"),
        (BetKind.DONT_COME_ODDS, 5, "ann"),
        (BetKind.PASS_ODDS, None, "ann"),
    ):
        with pytest.raises(BetNotAllowed, match="room for odds"):
            placed(come, kind, 1, on, player)
    with pytest.raises(BetNotAllowed, match="on one of"):
        placed(come, BetKind.COME_ODDS, 1)
    with pytest.raises(BetNotAllowed, match="is not on "):
        placed(seated(bet(1, BetKind.PASS), point(8)), BetKind.PASS_ODDS, 1, 5)
    with pytest.raises(BetNotAllowed, match="needs a point"):
        placed(seated(bet(1, BetKind.PASS)), BetKind.PASS_ODDS, 1)


def test_odds_behind_a_come_bet_may_be_placed_before_a_come_out_roll() -> None:
    state = seated(bet(1, BetKind.COME), moved(1, 5))
    assert placed(state, BetKind.COME_ODDS, 40, 5) == [bet(2, BetKind.COME_ODDS, 40, 5)]


def cancelled(state: Game, number: int = 1, player: str = "ann") -> list[Event]:
    return cancel_bet(CancelBet("g", player, number), state)


@pytest.mark.parametrize(
    "events",
    [
        [bet(1, BetKind.PASS)],
        [bet(1, BetKind.DONT_PASS), point(6)],
        [point(6), bet(1, BetKind.COME)],
        [point(6), bet(1, BetKind.DONT_COME), moved(1, 8)],
        [bet(1, BetKind.PLACE, on=6), point(6)],
        [point(6), bet(1, BetKind.PASS_ODDS, on=6)],
        [bet(1, BetKind.DONT_PASS), bet(2, BetKind.DONT_PASS, 20), point(6), bet(3, BetKind.DONT_PASS_ODDS, 120, 6)],
    ],
)  # fmt: skip
def test_bets_can_be_taken_back(events: list[Event]) -> None:
    assert cancelled(seated(*events)) == [BetCancelled("g", "ann", 1, 10)]


@pytest.mark.parametrize(
    "events",
    [[bet(1, BetKind.PASS), point(6)], [point(6), bet(1, BetKind.COME), moved(1, 8)]],
)
def test_a_contract_is_a_contract(events: list[Event]) -> None:
    with pytest.raises(BetNotAllowed, match="stays until it is settled"):
        cancelled(seated(*events))


def test_a_bet_can_not_leave_its_odds_behind() -> None:
    line = [bet(1, BetKind.DONT_PASS), point(6), bet(2, BetKind.DONT_PASS_ODDS, 1, 6)]
    come = [point(6), bet(1, BetKind.DONT_COME), moved(1, 8)]
    odds = bet(2, BetKind.DONT_COME_ODDS, 60, 8)
    for events in (line, [*come, odds]):
        with pytest.raises(BetNotAllowed, match="take them back first"):
            cancelled(seated(*events))
        back = BetCancelled("g", "ann", 2, 1)
        assert cancelled(seated(*events, back))
    others = bet(2, BetKind.DONT_COME_ODDS, 60, 8, player="bob")
    assert cancelled(seated(*come, others))
    assert cancelled(seated(*come, odds, bet(3, BetKind.DONT_COME)), 3)


def test_only_ones_own_bets_on_the_table_can_be_taken_back() -> None:
    for state, number, player in (
        (seated(), 1, "ann"),
        (seated(bet(1, BetKind.FIELD)), 1, "bob"),
        (seated(bet(1, BetKind.FIELD), BetCancelled("g", "ann", 1, 10)), 1, "ann"),
    ):
        with pytest.raises(NoSuchBet) as caught:
            cancelled(state, number, player)
        assert caught.value.bet == number
    with pytest.raises(BettingIsClosed):
        cancelled(seated(bet(1, BetKind.FIELD), CLOSED))
    with pytest.raises(GameIsOver):
        cancelled(seated(GameCompleted("g", 1, "bob")))


def test_any_bet_of_an_abandoned_game_is_refunded_once() -> None:
    state = seated(bet(1, BetKind.PASS), point(6), CLOSED)
    refund = refund_bet(RefundBet("g", 1), state)
    assert refund == [BetRefunded("g", "ann", 1, 10)]
    with pytest.raises(NoSuchBet):
        refund_bet(RefundBet("g", 1), seated(bet(1, BetKind.PASS), *refund))


def test_a_bet_event_is_tagged_with_its_player() -> None:
    assert BetPlaced.tag_fields == BetCancelled.tag_fields == ("player",)
