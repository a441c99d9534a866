"""A table and those who sit at it: hand after hand, one command after the other."""

from __future__ import annotations

from typing import Any, Final, Protocol

from bitcraps.accounts import account
from bitcraps.bets import BetKind
from bitcraps.casino import Casino
from bitcraps.commands import CloseBetting, Deposit, JoinGame, OpenAccount, RollDice, StartGame
from bitcraps.dice import House, commitment
from bitcraps.events import BetLost, BetWon, DiceRolled
from bitcraps.game import Game, Phase, game
from bitcraps.people import Person
from everwhen import Event, Query, Refusal
from everwhen.aio import Repository

MINIMUMS: Final = (5, 10, 25)
"""The tables' least bets, in turn; the most is 100 times that, and so is what people bring."""

_LINES: Final = frozenset((BetKind.PASS, BetKind.DONT_PASS))
_STAYS: Final = 0.8


class Evening(Protocol):
    """What a table needs of the night around it."""

    casino: Casino
    number: int

    def is_over(self, rolls: int) -> bool:
        """Whether no other hand begins after that many rolls."""
        ...

    async def send(self, command: Any) -> tuple[Any, ...]:
        """Send a command. Raises its `Refusal`."""
        ...


class Table:
    """One table. Its events depend on who sits at it and on the house's secret, and nothing else.

    ``seats`` are those who are still here. ``game`` is the hand that is played, as the players see
    it: they follow it by the events that their commands lead to.
    """

    def __init__(self, night: Evening, house: House, number: int, people: list[Person]) -> None:
        self.id = f"{night.number}.{number}"
        self.minimum = MINIMUMS[(number - 1) % len(MINIMUMS)]
        self.seats = people
        self.hands = 0
        self.rolls = 0
        self.game: Game = game.initial()
        self.game_id = ""
        self._night = night
        self._house = house

    async def play(self) -> None:
        """Play hands until the night is over. A table where nobody sits stays dark."""
        for person in self.seats:
            await self._welcome(person)
        shooter = self.seats[0].id if self.seats else ""
        while self.seats and not self._night.is_over(self.rolls):
            shooter = await self._hand(shooter)
            await self._count_purses()

    async def _welcome(self, person: Person) -> None:
        """An account for who has none, and money to begin with."""
        mine = Query().tags(f"player:{person.id}")
        person.account = (await Repository(self._night.casino.store, account).load(mine)).state
        if not person.account.exists:
            await self._send(OpenAccount(person.id, person.name, person.email))
        await self._send(Deposit(person.id, 100 * self.minimum))

    async def _count_purses(self) -> None:
        """Between hands, who is broke brings more money, or leaves; the last one always stays."""
        for person in list(self.seats):
            if person.account.balance >= self.minimum:
                continue
            if len(self.seats) == 1 or person.random.random() < _STAYS:
                await self._send(Deposit(person.id, 100 * self.minimum))
            else:
                self.seats.remove(person)

    async def _hand(self, shooter: str) -> str:
        """One shooter's hand, to the seven-out. Returns who shoots next."""
        if shooter not in [person.id for person in self.seats]:
            shooter = self.seats[0].id
        self.hands += 1
        self.game, self.game_id = game.initial(), f"{self.id}.{self.hands}"
        promise = commitment(self._house.seed(self.game_id, 1))
        limits = (self.minimum, 100 * self.minimum)
        await self._send(StartGame(self.game_id, f"table-{self.id}", shooter, *limits, promise))
        for person in self.seats:
            await self._send(JoinGame(self.game_id, person.id, person.luck()))
        while self.game.phase is not Phase.COMPLETED:
            await self._bets()
            await self._roll(self._seated(shooter))
        return self.game.next_shooter

    async def _bets(self) -> None:
        """Everybody bets, in seating order. A refusal is an answer, too."""
        for person in self.seats:
            for wish in person.habit(person.sees(self.game_id, self.game), person.random):
                try:
                    await self._send(wish)
                except Refusal:
                    continue

    async def _roll(self, shooter: Person) -> None:
        """The dice go out, and the house shows its seed."""
        await self._send(CloseBetting(self.game_id, shooter.id, shooter.shake()))
        number = self.game.rolls + 1
        seed = self._house.seed(self.game_id, number)
        promise = commitment(self._house.seed(self.game_id, number + 1))
        await self._send(RollDice(self.game_id, shooter.id, seed.hex(), promise))

    async def _send(self, command: Any) -> None:
        """Send a command, and see what comes of it."""
        for event in await self._night.send(command):
            self._see(event)

    def _see(self, event: Event) -> None:
        self.game = game.apply(self.game, (event,))
        player = getattr(event, "player", None)
        if player is not None:
            person = self._seated(player)
            person.account = account.apply(person.account, (event,))
            if isinstance(event, BetWon | BetLost) and event.kind in _LINES:
                person.lost_in_row = person.lost_in_row + 1 if isinstance(event, BetLost) else 0
        elif isinstance(event, DiceRolled):
            self.rolls += 1

    def _seated(self, player: str) -> Person:
        return next(person for person in self.seats if person.id == player)
