"""The books, the views and the audit, over a hand that was really played; and in a store."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
import pytest
from tests.bitcraps.casino import Casino
from tests.bitcraps.table import bet, point

from bitcraps.accounts import account
from bitcraps.audit import forged_rolls
from bitcraps.bets import BetKind
from bitcraps.commands import CloseBetting, PlaceBet, RollDice
from bitcraps.events import (
    EVENTS,
    BetLost,
    BetPushed,
    BetWon,
    Deposited,
    DiceRolled,
    GameCompleted,
    GameStarted,
    GameWon,
    PlayerJoined,
    Withdrawn,
)
from bitcraps.game import game
from bitcraps.ledger import Ledger, ledger
from bitcraps.players import PlayerStatistics, statistics
from bitcraps.projections import (
    GameView,
    Takings,
    game_views,
    house_edge,
    leaderboard,
    top,
)
from everwhen import Event, Fold, Query, open_store
from everwhen.privacy import PLAINTEXT

HAND: list[Event] = [
    Deposited("ann", 100),
    Deposited("bob", 50),
    GameStarted("g", "table", "ann", 5, 100, "00"),
    PlayerJoined("g", "ann", ""),
    PlayerJoined("g", "bob", ""),
    bet(1, BetKind.PASS),
    bet(2, BetKind.DONT_PASS, 20, player="bob"),
    DiceRolled("g", 1, 3, 4, "", ""),
    BetWon("g", "ann", 1, BetKind.PASS, None, 10, 10),
    BetLost("g", "bob", 2, BetKind.DONT_PASS, None, 20),
    GameWon("g", "ann", None),
    bet(3, BetKind.DONT_PASS),
    bet(4, BetKind.PLACE, 30, 6),
    DiceRolled("g", 2, 6, 6, "", ""),
    BetPushed("g", "ann", 3, BetKind.DONT_PASS, None, 10),
]
END: list[Event] = [
    DiceRolled("g", 3, 2, 2, "", ""),
    point(4),
    DiceRolled("g", 4, 1, 6, "", ""),
    BetLost("g", "ann", 4, BetKind.PLACE, 6, 30),
    GameCompleted("g", 4, "bob"),
    Withdrawn("bob", 30),
]


def of(fold: Fold[Any], events: list[Event]) -> Any:
    return fold.apply(fold.initial(), events)


def test_the_ledger() -> None:
    assert of(ledger, HAND) == Ledger(accounts=110, at_stake=30, house=10, outside=-150)
    assert of(ledger, HAND + END) == Ledger(accounts=80, at_stake=0, house=40, outside=-120)


def test_the_game_view() -> None:
    before = GameView("table", "ann", ("ann", "bob"), None, (6, 6), rolls=2, wins=1, on_table=30)
    assert of(game_views, HAND) == {"g": before}
    done = GameView("table", "ann", ("ann", "bob"), None, (1, 6), 4, 1, 0, completed=True)
    assert of(game_views, HAND + END) == {"g": done}
    assert of(game_views, HAND + END[:2])["g"].point == 4


def test_the_leaderboard() -> None:
    net = of(leaderboard, HAND + END)
    assert net == {"ann": -20, "bob": -20}
    assert top(net, 9) == [("ann", -20), ("bob", -20)]
    assert top(of(leaderboard, HAND), 1) == [("ann", 10)]
    assert top({}, 3) == []


def test_the_house_edge() -> None:
    edges = of(house_edge, HAND + END)
    assert edges == {
        BetKind.PASS: Takings(10, -10),
        BetKind.DONT_PASS: Takings(30, 20),
        BetKind.PLACE: Takings(30, 30),
    }
    assert edges[BetKind.DONT_PASS].edge == Fraction(2, 3)
    assert Takings().edge == 0


def test_the_players() -> None:
    state = of(statistics, HAND + END)
    assert state.players == {
        "ann": PlayerStatistics(total_bet=50, total_won=10, games_played=1, games_won=1, rolls=4),
        "bob": PlayerStatistics(total_bet=20, games_played=1),
    }
    assert state.shooters == {}


@pytest.mark.parametrize("fold", [game_views, leaderboard, house_edge, statistics])
def test_a_state_that_was_given_out_never_changes(fold: Fold[Any]) -> None:
    before = of(fold, HAND)
    after = fold.apply(before, END)
    assert before == of(fold, HAND) != after == of(fold, HAND + END)


@pytest.fixture(scope="module")
def evening() -> list[Event]:
    """A game of several rolls, with real dice."""
    casino = Casino(bytes(range(32)), players=2)
    while not casino.over:
        casino.send(PlaceBet("g", "p1", BetKind.FIELD, 10))
        casino.send(CloseBetting("g", "p0", "shake"))
        casino.roll()
    return casino.events


def test_an_audit_finds_every_forged_roll(evening: list[Event]) -> None:
    assert forged_rolls(evening) == []
    rolls = [i for i, event in enumerate(evening) if isinstance(event, DiceRolled)]
    assert len(rolls) > 2
    for number, index in enumerate(rolls, 1):
        honest = evening[index]
        assert isinstance(honest, DiceRolled)
        for change in (
            {"first": honest.first % 6 + 1},
            {"second": honest.second % 6 + 1},
            {"seed": bytes(32).hex()},
        ):
            forged = msgspec.structs.replace(honest, **change)
            assert forged_rolls([*evening[:index], forged, *evening[index + 1 :]]) == [number]


def test_an_audit_finds_luck_that_was_tampered_with(evening: list[Event]) -> None:
    index = next(i for i, event in enumerate(evening) if isinstance(event, PlayerJoined))
    joined = msgspec.structs.replace(evening[index], luck="another")
    assert forged_rolls([*evening[:index], joined, *evening[index + 1 :]])


def test_a_store_gives_back_the_same(evening: list[Event]) -> None:
    with open_store("memory:", events=EVENTS, vault=PLAINTEXT) as store:
        for event in evening:
            owner = getattr(event, "player", None)
            store.append("game-g" if hasattr(event, "game") else f"account-{owner}", [event])
        folds: list[Fold[Any]] = [ledger, game_views, leaderboard, house_edge, statistics]
        for fold in folds:
            assert store.fold(fold) == of(fold, evening)
        assert game.state_of(store.read("game-g")) == of(game, evening)
        for player in ("p0", "p1"):
            events = [e for e in evening if getattr(e, "player", None) == player]
            tagged = store.read(Query().tags(f"player:{player}"))
            assert account.state_of(tagged) == of(account, events)


@pytest.mark.parametrize(
    "fold", [ledger, game, account, game_views, leaderboard, house_edge, statistics]
)
def test_states_can_be_kept_as_snapshots(fold: Fold[Any], evening: list[Event]) -> None:
    for events in (evening, evening[: len(evening) // 2], HAND):
        state = of(fold, events)
        for coding in (msgspec.json, msgspec.msgpack):
            assert coding.decode(coding.encode(state), type=fold.state_type) == state


def test_every_command_reads_back_as_it_was() -> None:
    for command in (
        PlaceBet("g", "ann", BetKind.PLACE, 10, 6),
        CloseBetting("g"),
        RollDice("g", "ann", bytes(32).hex(), bytes(32).hex()),
    ):
        encoded = msgspec.json.encode(command)
        assert msgspec.json.decode(encoded, type=type(command)) == command
    for amount in (0, -5, 10**12 + 1):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(
                {"game": "g", "player": "a", "kind": "field", "amount": amount}, PlaceBet
            )
