"""A night at the casino: many tables at once, each one a task of its own.

What is reproducible: with the same plan, on an empty store, every stream holds the same events;
but for the audit log, which is about who did what when.
For that, each player stays at one table, and has a randomness of their own. How the tables'
events fall between one another is up to the machine, and so are times and ids; and where a night
ends by the clock, how many hands were played.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import msgspec

from bitcraps.casino import Casino
from bitcraps.commands import RollDice
from bitcraps.dice import House
from bitcraps.people import person
from bitcraps.surveillance import HOUSE
from bitcraps.table import Table
from everwhen import Refusal
from everwhen.vocabulary import CommitMetadata


class Plan(msgspec.Struct, frozen=True):
    """What kind of night it is to be.

    Each table rolls ``rolls`` times, and then plays its hand to the end. After ``seconds``, hands
    are played to the end as well; None leaves that out.
    """

    tables: int = 16
    players: int = 96
    rolls: int | None = 40
    seconds: float | None = None
    seed: int = 7


Others: TypeAlias = Callable[[int, Callable[[], None]], Awaitable[list["Played"]]]
"""Plays what is left of the night of that number; it calls the function when all are ready."""


class Share(msgspec.Struct, frozen=True):
    """Which of the tables one of several processes deals at: every ``of`` th from ``index`` on."""

    index: int = 0
    of: int = 1


WHOLE: Final = Share()
"""All tables."""


class Played(msgspec.Struct, frozen=True):
    """What was played: hands and rolls, commands, and which of them were refused how often."""

    hands: int
    rolls: int
    commands: int
    refusals: dict[str, int]


class Night:
    """One night, from the first deposit to the last roll; or a ``share`` of one.

    The night of that ``number`` in the store; 0 for the next.
    """

    def __init__(
        self, casino: Casino, plan: Plan, *, number: int = 0, share: Share = WHOLE
    ) -> None:
        self.casino = casino
        self.plan = plan
        self.number = number
        self.share = share
        self.first_position = 0
        self.last_position = 0
        self.commands = 0
        self.refusals: Counter[str] = Counter()
        self.tables: list[Table] = []
        self._elsewhere: list[Played] = []
        self.seconds = 0.0
        self.is_closing = False
        self._began = time.perf_counter()

    def close(self) -> None:
        """Let every table finish its hand, and begin no other."""
        self.is_closing = True

    @property
    def elapsed(self) -> float:
        """For how many seconds it has been going on, or went."""
        return self.seconds or time.perf_counter() - self._began

    @property
    def middle(self) -> int:
        """The position at half time."""
        return (self.first_position + self.last_position) // 2

    @property
    def played(self) -> Played:
        """What was played, here and in other processes."""
        refusals = Counter(self.refusals)
        for other in self._elsewhere:
            refusals.update(other.refusals)
        return Played(
            sum(table.hands for table in self.tables) + sum(o.hands for o in self._elsewhere),
            sum(table.rolls for table in self.tables) + sum(o.rolls for o in self._elsewhere),
            self.commands + sum(other.commands for other in self._elsewhere),
            refusals,
        )

    def is_over(self, rolls: int) -> bool:
        """Whether a table that has rolled that many times begins no other hand."""
        plan = self.plan
        late = plan.seconds is not None and self.elapsed >= plan.seconds
        return self.is_closing or late or (plan.rolls is not None and rolls >= plan.rolls)

    async def play(self, others: Others | None = None) -> None:
        """Play it, all tables at once; ``others`` play the other shares, in other processes."""
        store = self.casino.store
        self.first_position = (await store.head()).position
        self.number = self.number or await self._number()
        self.tables = self._tables()
        self._began = time.perf_counter()
        ready = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            if others is None:
                ready.set()
            else:
                tasks.create_task(self._join(others, ready))
            await ready.wait()
            for table in self.tables:
                tasks.create_task(table.play(), name=table.id)
        self.seconds = time.perf_counter() - self._began
        self.last_position = (await store.head()).position

    async def _join(self, others: Others, ready: asyncio.Event) -> None:
        self._elsewhere = await others(self.number, ready.set)

    async def send(self, command: Any) -> tuple[Any, ...]:
        """Send a player's or the house's command. Raises its `Refusal`, having counted it."""
        self.commands += 1
        is_thrown = isinstance(command, RollDice)  # by the house, for the shooter
        player = None if is_thrown else getattr(command, "player", None)
        sender = CommitMetadata(user_id=player or HOUSE)
        try:
            return (await self.casino.bus.send(command, metadata=sender)).events
        except Refusal as refusal:
            self.refusals[type(refusal).__name__] += 1
            raise

    async def _number(self) -> int:
        """The number of this night in this store, from 1."""
        numbers = [0]
        async for info in self.casino.store.streams("game"):
            first = info.name.removeprefix("game-").partition(".")[0]
            numbers.append(int(first) if first.isdecimal() else 0)
        return max(numbers) + 1

    def _tables(self) -> list[Table]:
        """The tables, and who sits where; everybody comes in, however few the tables are."""
        plan = self.plan
        people = [person(index, plan.seed, self.number) for index in range(plan.players)]
        house = House(hashlib.sha256(f"the house, {plan.seed}".encode()).digest())
        return [
            Table(self, house, number, people[number - 1 :: plan.tables])
            for number in range(self.share.index + 1, plan.tables + 1, self.share.of)
        ]
