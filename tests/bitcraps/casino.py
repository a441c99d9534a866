"""A whole casino in memory, with a referee who looks at every single event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from bitcraps.accounts import Account, account, deposit, open_account, withdraw
from bitcraps.betting import cancel_bet, place_bet, refund_bet
from bitcraps.commands import (
    CancelBet,
    CloseBetting,
    Deposit,
    JoinGame,
    OpenAccount,
    PlaceBet,
    RefundBet,
    RollDice,
    StartGame,
    Withdraw,
)
from bitcraps.dealing import close_betting, join_game, roll_dice, start_game
from bitcraps.dice import House, commitment
from bitcraps.events import (
    BetCancelled,
    BetEvent,
    BetLost,
    BetMoved,
    BetPlaced,
    BetPushed,
    BetRefunded,
    BettingClosed,
    BetWon,
    DiceRolled,
    GameCompleted,
    GameWon,
    PointEstablished,
)
from bitcraps.game import Game, Phase, game
from bitcraps.ledger import ledger
from bitcraps.projections import game_views
from everwhen import Event

Decide: TypeAlias = Callable[..., list[Event]]
BY_ACCOUNT: dict[type[Any], Decide] = {
    OpenAccount: open_account,
    Deposit: deposit,
    Withdraw: withdraw,
}
BY_GAME: dict[type[Any], Decide] = {
    StartGame: start_game,
    CancelBet: cancel_bet,
    CloseBetting: close_betting,
    RollDice: roll_dice,
    RefundBet: refund_bet,
}
BY_BOTH: dict[type[Any], Decide] = {JoinGame: join_game, PlaceBet: place_bet}


class Casino:
    """One game, `g`, of players p0, p1 … who have 1,000 each; p0 shoots."""

    def __init__(self, secret: bytes, players: int) -> None:
        self.house = House(secret)
        self.events: list[Event] = []
        self.accounts = {f"p{n}": account.initial() for n in range(players)}
        self.game = game.initial()
        self.ledger = ledger.initial()
        self.views = game_views.initial()
        self.settled: dict[int, Event] = {}
        self.send(StartGame("g", "t", "p0", 1, 200, commitment(self.house.seed("g", 1))))
        for player in self.accounts:
            self.send(OpenAccount(player, player.upper(), f"{player}@example.org"))
            self.send(Deposit(player, 1_000))
            self.send(JoinGame("g", player, f"{player} for luck"))

    @property
    def over(self) -> bool:
        return self.game.phase is Phase.COMPLETED

    def roll(self) -> None:
        number = self.game.rolls + 1
        seed, following = self.house.seed("g", number), self.house.seed("g", number + 1)
        self.send(RollDice("g", self.game.shooter, seed.hex(), commitment(following)))

    def send(self, command: Any) -> None:
        for event in self.decided(command):
            self._check_possible(event)
            self._record(event)
            self._check_books()

    def decided(self, command: Any) -> list[Event]:
        own = self.accounts.get(getattr(command, "player", None) or "", Account())
        kind = type(command)
        if kind in BY_ACCOUNT:
            return BY_ACCOUNT[kind](command, own)
        if kind in BY_GAME:
            return BY_GAME[kind](command, self.game)
        return BY_BOTH[kind](command, self.game, own)

    def _record(self, event: Event) -> None:
        self.events.append(event)
        player = getattr(event, "player", None)
        if player is not None:
            self.accounts[player] = account.apply(self.accounts[player], [event])
        self.game = game.apply(self.game, [event])
        self.ledger = ledger.apply(self.ledger, [event])
        self.views = game_views.apply(self.views, [event])

    def _check_books(self) -> None:
        assert self.ledger.total == 0
        accounts = self.accounts.values()
        assert all(a.balance >= 0 and a.at_stake >= 0 for a in accounts)
        assert self.ledger.accounts == sum(a.balance for a in accounts)
        assert self.ledger.at_stake == sum(a.at_stake for a in accounts)
        assert self.ledger.at_stake == sum(b.amount for b in self.game.bets.values())
        assert self.ledger.at_stake == self.views["g"].on_table
        assert self.views["g"].point == self.game.point

    def _check_possible(self, event: Event) -> None:
        """Nothing happens that what happened before makes impossible."""
        now = self.game
        assert now.phase is not Phase.COMPLETED or not hasattr(event, "game")
        match event:
            case BettingClosed():
                assert (now.phase, event.roll) == (Phase.BETTING, now.rolls + 1)
            case DiceRolled():
                assert (now.phase, event.roll) == (Phase.ROLLING, now.rolls + 1)
                assert commitment(bytes.fromhex(event.seed)) == now.seed_hash
            case PointEstablished():
                assert now.point is None
            case GameWon():
                assert (event.shooter, event.point) == (now.shooter, now.point)
            case GameCompleted():
                assert now.point is not None
                assert (now.bets, event.rolls) == ({}, now.rolls)
                assert event.next_shooter in now.players
            case BetPlaced():
                assert now.phase is Phase.BETTING
                assert event.bet == now.bets_placed + 1
            case BetEvent():
                self._check_bet(event, now)

    def _check_bet(self, event: BetEvent, now: Game) -> None:
        bet = now.bets[event.bet]
        assert bet.player == event.player
        match event:
            case BetMoved():
                assert bet.number is None
                return
            case BetWon() | BetLost() | BetPushed():
                seen = (event.kind, event.number, event.stake)
                assert seen == (bet.kind, bet.number, bet.amount)
            case BetCancelled() | BetRefunded():
                assert event.amount == bet.amount
        assert event.bet not in self.settled
        self.settled[event.bet] = event
