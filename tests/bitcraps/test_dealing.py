"""How a hand runs, roll by roll."""

from __future__ import annotations

import pytest
from tests.bitcraps.table import HASH, RICH, STARTED, after, bet, moved, point, rolled, seated

from bitcraps.accounts import Account
from bitcraps.bets import BetKind
from bitcraps.commands import CloseBetting, JoinGame, RollDice, StartGame
from bitcraps.dealing import close_betting, join_game, roll_dice, start_game
from bitcraps.dice import House, commitment, roll_of
from bitcraps.events import (
    BetLost,
    BetPushed,
    BettingClosed,
    BetWon,
    DiceRolled,
    GameCompleted,
    GameWon,
    PlayerJoined,
)
from bitcraps.game import Game, Phase
from bitcraps.refusals import (
    AlreadyAtTheTable,
    BettingIsClosed,
    BettingIsOpen,
    ForgedSeed,
    GameExists,
    GameIsOver,
    LimitsContradict,
    NoSuchAccount,
    NoSuchGame,
    NotAtTheTable,
    NotYourTurn,
)
from everwhen import Event

CLOSED = BettingClosed("g", 1)
OVER = GameCompleted("g", 1, "bob")
START = StartGame("g", "table", "ann", 5, 100, HASH)
ROLL = RollDice("g", "ann", bytes(32).hex(), commitment(b"next"))


def test_a_game_starts_once() -> None:
    assert start_game(START, Game()) == [STARTED]
    with pytest.raises(GameExists) as caught:
        start_game(START, after(STARTED))
    assert caught.value.game == "g"


def test_limits_leave_some_room() -> None:
    assert start_game(StartGame("g", "table", "ann", 5, 5, HASH), Game())
    with pytest.raises(LimitsContradict) as caught:
        start_game(StartGame("g", "table", "ann", 6, 5, HASH), Game())
    assert (caught.value.minimum, caught.value.maximum) == (6, 5)


def test_players_sit_down_in_order() -> None:
    state = after(STARTED)
    for player in ("cid", "ann", "bob"):
        joined = join_game(JoinGame("g", player, "hi"), state, RICH)
        assert joined == [PlayerJoined("g", player, "hi")]
        state = after(STARTED, *(PlayerJoined("g", p, "hi") for p in state.players), *joined)
    assert state.players == ("cid", "ann", "bob")


def test_who_can_not_sit_down() -> None:
    command = JoinGame("g", "eve", "hi")
    assert join_game(command, seated(), RICH)
    with pytest.raises(NoSuchAccount):
        join_game(command, seated(), Account())
    with pytest.raises(AlreadyAtTheTable) as caught:
        join_game(JoinGame("g", "bob", "again"), seated(), RICH)
    assert caught.value.player == "bob"
    with pytest.raises(BettingIsClosed):
        join_game(command, seated(CLOSED), RICH)
    with pytest.raises(GameIsOver):
        join_game(command, seated(OVER), RICH)
    with pytest.raises(NoSuchGame):
        join_game(command, Game(), RICH)


def test_the_shooter_or_a_timer_closes_betting() -> None:
    for player in ("ann", None):
        command = CloseBetting("g", player, "shake")
        assert close_betting(command, seated()) == [BettingClosed("g", 1, "shake")]
    with pytest.raises(NotYourTurn) as caught:
        close_betting(CloseBetting("g", "bob"), seated())
    assert caught.value.shooter == "ann"
    with pytest.raises(NotAtTheTable):
        close_betting(CloseBetting("g", "ann"), after(STARTED))
    with pytest.raises(BettingIsClosed):
        close_betting(CloseBetting("g"), seated(CLOSED))
    with pytest.raises(GameIsOver):
        close_betting(CloseBetting("g"), seated(OVER))


def test_a_roll_shows_the_seed_and_opens_betting_again() -> None:
    state = seated(CLOSED)
    dice = roll_of(bytes(32), state.luck)
    shown = DiceRolled("g", 1, dice.first, dice.second, ROLL.seed, ROLL.next_seed_hash)
    assert roll_dice(ROLL, state)[0] == shown
    following = seated(CLOSED, shown)
    assert (following.phase, following.rolls) == (Phase.BETTING, 1)
    assert following.seed_hash == ROLL.next_seed_hash


def test_who_can_not_roll() -> None:
    for state in (seated(), seated(CLOSED, DiceRolled("g", 1, 1, 1, "", HASH))):
        with pytest.raises(BettingIsOpen) as open_:
            roll_dice(ROLL, state)
        assert open_.value.roll == state.rolls + 1
    with pytest.raises(NotYourTurn):
        roll_dice(RollDice("g", "bob", ROLL.seed, HASH), seated(CLOSED))
    with pytest.raises(NotAtTheTable):
        roll_dice(ROLL, after(STARTED, CLOSED))
    with pytest.raises(GameIsOver):
        roll_dice(ROLL, seated(OVER))
    with pytest.raises(NoSuchGame):
        roll_dice(ROLL, Game())


def test_the_house_keeps_to_its_seed() -> None:
    forged = House(bytes(32)).seed("g", 1).hex()
    with pytest.raises(ForgedSeed) as caught:
        roll_dice(RollDice("g", "ann", forged, HASH), seated(CLOSED))
    assert caught.value.seed_hash == HASH


@pytest.mark.parametrize(
    "other",
    [
        [PlayerJoined("g", "eve", ""), CLOSED],
        [bet(1, BetKind.FIELD), CLOSED],
        [BettingClosed("g", 1, "shake")],
    ],
)
def test_whatever_players_do_changes_the_luck(other: list[Event]) -> None:
    assert seated(*other).luck != seated(CLOSED).luck


def won(number: int, kind: BetKind, payout: int, on: int | None = None) -> BetWon:
    return BetWon("g", "ann", number, kind, on, 10, payout)


def lost(number: int, kind: BetKind, on: int | None = None) -> BetLost:
    return BetLost("g", "ann", number, kind, on, 10)


def test_a_point_is_established() -> None:
    state = seated(bet(1, BetKind.PASS), bet(2, BetKind.FIELD), CLOSED)
    assert rolled(state, 4, 5)[1:] == [won(2, BetKind.FIELD, 10), point(9)]


def test_a_natural_wins_and_the_shooter_goes_on() -> None:
    state = seated(bet(1, BetKind.DONT_PASS), bet(2, BetKind.PASS), CLOSED)
    for first, second in ((3, 4), (5, 6)):
        decided = rolled(state, first, second)[1:]
        assert decided == [
            lost(1, BetKind.DONT_PASS),
            won(2, BetKind.PASS, 10),
            GameWon("g", "ann", None),
        ]


def test_craps_lose_and_the_shooter_goes_on() -> None:
    state = seated(bet(1, BetKind.PASS), bet(2, BetKind.DONT_PASS), CLOSED)
    assert rolled(state, 1, 2)[1:] == [lost(1, BetKind.PASS), won(2, BetKind.DONT_PASS, 10)]
    barred = BetPushed("g", "ann", 2, BetKind.DONT_PASS, None, 10)
    assert rolled(state, 6, 6)[1:] == [lost(1, BetKind.PASS), barred]


def test_the_point_is_made_and_a_come_out_roll_follows() -> None:
    state = seated(
        bet(1, BetKind.PASS),
        point(6),
        bet(2, BetKind.PASS_ODDS, on=6),
        bet(3, BetKind.COME),
        bet(4, BetKind.HARDWAY, on=6),
        bet(5, BetKind.PLACE, on=8),
        CLOSED,
    )
    decided = rolled(state, 2, 4)[1:]
    assert decided == [
        won(1, BetKind.PASS, 10),
        won(2, BetKind.PASS_ODDS, 12, 6),
        moved(3, 6),
        lost(4, BetKind.HARDWAY, 6),
        GameWon("g", "ann", 6),
    ]
    following = seated(*(bet(number, BetKind.COME) for number in range(1, 5)), *decided)
    assert (following.point, set(following.bets)) == (None, {3})
    assert following.bets[3].number == 6


def test_a_seven_on_the_come_out_roll_leaves_place_bets_alone() -> None:
    state = seated(
        bet(1, BetKind.PLACE, on=6),
        bet(2, BetKind.COME),
        moved(2, 5),
        bet(3, BetKind.COME_ODDS, on=5),
        CLOSED,
    )
    assert rolled(state, 3, 4)[1:] == [
        lost(2, BetKind.COME, 5),
        BetPushed("g", "ann", 3, BetKind.COME_ODDS, 5, 10),
        GameWon("g", "ann", None),
    ]


def test_a_seven_out_settles_everything_and_the_dice_go_on() -> None:
    state = seated(
        bet(1, BetKind.PASS),
        bet(2, BetKind.DONT_PASS),
        point(6),
        bet(3, BetKind.COME),
        bet(4, BetKind.PLACE, on=8),
        CLOSED,
    )
    decided = rolled(state, 3, 4)[1:]
    assert decided == [
        lost(1, BetKind.PASS),
        won(2, BetKind.DONT_PASS, 10),
        won(3, BetKind.COME, 10),
        lost(4, BetKind.PLACE, 8),
        GameCompleted("g", 1, "bob"),
    ]


def test_a_roll_that_concerns_nobody() -> None:
    assert rolled(seated(bet(1, BetKind.PASS), point(6), CLOSED), 4, 4)[1:] == []


@pytest.mark.parametrize(("shooter", "following"), [("ann", "bob"), ("bob", "cid"), ("cid", "ann")])
def test_the_next_shooter_sits_behind_the_last(shooter: str, following: str) -> None:
    assert Game(shooter=shooter, players=("ann", "bob", "cid")).next_shooter == following
    assert Game(shooter="ann", players=("ann",)).next_shooter == "ann"
