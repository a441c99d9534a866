"""What the casino takes back, and that money is conserved whatever it is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from tests.bitcraps.casino import Casino
from tests.bitcraps.table import SEATED, bet, point

from bitcraps.accounts import Account, account
from bitcraps.bets import BetKind
from bitcraps.commands import CloseBetting, PlaceBet, Withdraw
from bitcraps.corrections import corrections
from bitcraps.events import (
    EVENTS,
    AccountOpened,
    BetCancelled,
    BetWon,
    Deposited,
    DiceRolled,
    PayoutTakenBack,
    Withdrawn,
)
from bitcraps.game import game
from bitcraps.ledger import ledger
from everwhen import Event, Query, Refusal, Store, Undo, open_store
from everwhen.errors import UndoError
from everwhen.privacy import PLAINTEXT
from everwhen.undo import Positions


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store("memory:", events=EVENTS, vault=PLAINTEXT) as opened:
        yield opened


def write(store: Store, *events: Event) -> None:
    for event in events:
        named = getattr(event, "game", None)
        stream = f"account-{event.player}" if named is None else f"game-{named}"  # type: ignore[attr-defined]
        store.append(stream, [event])


def account_of(store: Store, player: str = "ann") -> Account:
    return store.fold(account, Query().tags(f"player:{player}"))


def test_a_bet_is_taken_back_while_betting_is_open(store: Store) -> None:
    write(store, Deposited("ann", 100), *SEATED, bet(1, BetKind.FIELD), bet(2, BetKind.PASS))
    undo = Undo(store, corrections)
    placed = [e.position for e in store.read(Query().stream("game-g").from_version(5))]
    undo.undo(placed[0])
    assert account_of(store) == Account(balance=90, at_stake=10)
    (cancelled,) = store.read(Query().types(BetCancelled))
    assert cancelled.event == BetCancelled("g", "ann", 1, 10)
    with pytest.raises(UndoError, match="place another one"):
        undo.redo(placed[0])
    write(store, point(6))
    with pytest.raises(UndoError, match="stays until it is settled"):
        undo.undo(placed[1])


def test_odds_go_back_with_the_bet_in_front_of_them(store: Store) -> None:
    """Each is judged by what the table will be once those after it are gone."""
    write(store, Deposited("ann", 500), *SEATED, bet(1, BetKind.DONT_PASS), point(6))
    write(store, bet(2, BetKind.DONT_PASS_ODDS, 60, 6))
    undo = Undo(store, corrections)
    bets = Query().stream("game-g").from_version(5)
    first = next(iter(store.read(bets))).position
    with pytest.raises(UndoError, match="odds stand behind"):
        undo.undo(first)
    plan = undo.plan(Positions(first))
    assert [u.event.type for u in plan.uncompensated] == ["PointEstablished"]
    undo.undo(plan, allow_partial=True)
    assert store.fold(game, "game-g").bets == {}
    assert account_of(store) == Account(balance=500)


def test_a_deposit_that_was_spent_stays(store: Store) -> None:
    write(store, Deposited("ann", 100), Deposited("ann", 7), *SEATED, bet(1, BetKind.FIELD, 50))
    write(store, AccountOpened("ann", "Ann", "a@example.org"))
    undo = Undo(store, corrections)
    with pytest.raises(UndoError, match="holds 57, and 100 are needed"):
        undo.undo(1)
    undo.undo(2)
    assert account_of(store).balance == 50
    undo.redo(2)
    assert account_of(store).balance == 57


def test_a_withdrawal(store: Store) -> None:
    write(
        store,
        Deposited("ann", 100),
        Withdrawn("ann", 60),
        AccountOpened("ann", "Ann", "a@example.org"),
    )
    undo = Undo(store, corrections)
    undo.undo(2)
    assert account_of(store).balance == 100
    write(store, Withdrawn("ann", 70))
    with pytest.raises(UndoError, match="holds 30, and 60 are needed"):
        undo.redo(2)


def test_a_payout_made_by_mistake(store: Store) -> None:
    write(store, Deposited("ann", 100), *SEATED, bet(1, BetKind.FIELD))
    write(
        store,
        DiceRolled("g", 1, 1, 1, "", ""),
        BetWon("g", "ann", 1, BetKind.FIELD, None, 10, 20),
    )
    undo = Undo(store, corrections)
    (won,) = store.read(Query().types(BetWon))
    (rolled,) = store.read(Query().types(DiceRolled))
    with pytest.raises(UndoError, match="no compensation is declared for DiceRolled"):
        undo.undo(rolled)
    undo.undo(won)
    assert account_of(store) == Account(balance=100)
    (back,) = store.read(Query().types(PayoutTakenBack))
    assert back.event.payout == 20
    with pytest.raises(UndoError, match="settled"):
        undo.redo(won)
    assert store.fold(ledger).house == 0


def _played(seed: int) -> Casino:
    chance = random.Random(seed)
    casino = Casino(seed.to_bytes(32, "big"), players=3)
    for _ in range(8):
        if casino.over:
            break
        for _ in range(3):
            player = chance.choice(list(casino.accounts))
            kind = chance.choice([BetKind.PASS, BetKind.FIELD, BetKind.DONT_PASS])
            command: Any = PlaceBet("g", player, kind, chance.randint(1, 200))
            if chance.random() < 0.2:
                command = Withdraw(player, chance.randint(1, 300))
            try:
                casino.send(command)
            except Refusal:
                continue
        casino.send(CloseBetting("g", "p0", "shake"))
        casino.roll()
    return casino


@pytest.mark.parametrize("seed", range(12))
def test_money_is_conserved_whatever_is_undone(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    write(store, *_played(seed).events)
    undo = Undo(store, corrections)
    last = store.head().position
    let_through = 0
    for _ in range(12):
        first = chance.randint(1, last)
        target: Any = first if chance.random() < 0.6 else Positions(first, first + 5)
        do = undo.redo if chance.random() < 0.3 else undo.undo
        try:
            do(target, allow_partial=True)
        except UndoError:
            continue
        let_through += 1
    assert let_through
    books, accounts = ledger.initial(), {f"p{n}": account.initial() for n in range(3)}
    table = game.initial()
    for recorded in store.read():
        event: Any = recorded.event
        books = ledger.evolve(books, recorded)
        assert books.total == 0, recorded
        table = game.evolve(table, recorded)
        player = getattr(event, "player", None)
        if player is not None:
            accounts[player] = account.evolve(accounts[player], recorded)
            assert accounts[player].balance >= 0, recorded
        assert books.accounts == sum(a.balance for a in accounts.values())
        assert books.at_stake == sum(b.amount for b in table.bets.values())
