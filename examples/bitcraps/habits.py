"""How people play: pure functions from what a player can see to what the player asks for.

A habit may ask for what the house will refuse. It is the house that knows the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Final, TypeAlias

import msgspec

from bitcraps.bets import BetKind
from bitcraps.betting import BEHIND, MOST_TAKEN
from bitcraps.commands import CancelBet, PlaceBet
from bitcraps.game import Game


class Sight(msgspec.Struct, frozen=True):
    """What a player sees before a roll.

    ``lost_in_row`` counts how many line bets this player has lost since the last one that won.
    """

    game_id: str
    game: Game
    player: str
    balance: int
    lost_in_row: int = 0

    def bet(self, kind: BetKind, amount: int, number: int | None = None) -> PlaceBet:
        """The wish to put an amount on something."""
        return PlaceBet(self.game_id, self.player, kind, amount, number)

    def on_table(self, kind: BetKind, number: int | None = None) -> int:
        """What this player has on a kind of bet, on that number."""
        wanted = (self.player, kind, number)
        bets = self.game.bets.values()
        return sum(b.amount for b in bets if (b.player, b.kind, b.number) == wanted)


Wish: TypeAlias = PlaceBet | CancelBet
Habit: TypeAlias = Callable[[Sight, Random], Iterator[Wish]]


def careful(sight: Sight, _random: Random) -> Iterator[Wish]:
    """The pass line, and behind it as much as the bank allows: odds have no edge."""
    point = sight.game.point
    if point is None:
        yield from _line(sight, BetKind.PASS, sight.game.minimum)
    elif not sight.on_table(BetKind.PASS_ODDS, point):
        odds = MOST_TAKEN[point] * sight.on_table(BetKind.PASS)
        yield from _affordable(sight, sight.bet(BetKind.PASS_ODDS, odds))


def dark_side(sight: Sight, _random: Random) -> Iterator[Wish]:
    """Against the shooter, and against the mood of the table."""
    point = sight.game.point
    if point is None:
        yield from _line(sight, BetKind.DONT_PASS, 2 * sight.game.minimum)
    elif not sight.on_table(BetKind.DONT_PASS_ODDS, point):
        odds = 2 * sight.on_table(BetKind.DONT_PASS)
        yield from _affordable(sight, sight.bet(BetKind.DONT_PASS_ODDS, odds))


def placer(sight: Sight, random: Random) -> Iterator[Wish]:
    """Six and eight, in multiples of six, as soon as there is a point; and nervous at times."""
    if sight.game.point is None:
        return
    amount = 6 * max(1, 2 * sight.game.minimum // 6)
    missing = [n for n in (6, 8) if not sight.on_table(BetKind.PLACE, n)]
    yield from _affordable(sight, *(sight.bet(BetKind.PLACE, amount, n) for n in missing))
    if random.random() < 0.05:
        yield from _last_taken_back(sight)


def comer(sight: Sight, _random: Random) -> Iterator[Wish]:
    """A come bet before every roll, three at most, and odds behind each."""
    game = sight.game
    if game.point is None:
        yield from _line(sight, BetKind.PASS, game.minimum)
        return
    mine = [b for b in game.bets.values() if b.player == sight.player and b.kind is BetKind.COME]
    odds = BetKind.COME_ODDS
    bare = {b.number for b in mine if b.number and not sight.on_table(odds, b.number)}
    bets = [sight.bet(odds, 2 * game.minimum, number) for number in sorted(bare)]
    if len(mine) < 3 and not sight.on_table(BetKind.COME):
        bets.append(sight.bet(BetKind.COME, game.minimum))
    yield from _affordable(sight, *bets)


def gambler(sight: Sight, random: Random) -> Iterator[Wish]:
    """Hardways and the middle of the table, where the house earns its money."""
    amount = sight.game.minimum * random.choice((1, 1, 2, 4))
    wishes = [sight.bet(random.choice((BetKind.ANY_SEVEN, BetKind.ANY_CRAPS)), amount)]
    number = random.choice((4, 6, 8, 10))
    if not sight.on_table(BetKind.HARDWAY, number):
        wishes.append(sight.bet(BetKind.HARDWAY, amount, number))
    yield from _affordable(sight, *random.sample(wishes, random.randint(0, len(wishes))))


def martingale(sight: Sight, _random: Random) -> Iterator[Wish]:
    """Twice as much after each loss, until the table's limit or the purse says no."""
    doubled = sight.game.minimum * 2 ** min(sight.lost_in_row, 20)
    yield from _line(sight, BetKind.PASS, min(doubled, sight.game.maximum))


def iron_cross(sight: Sight, _random: Random) -> Iterator[Wish]:
    """The field and five, six and eight: something wins on every roll but a seven."""
    if sight.game.point is None:
        return
    base = sight.game.minimum
    amounts: Mapping[int, int] = {5: 2 * base, 6: 12 * base // 5, 8: 12 * base // 5}
    missing = [n for n in amounts if not sight.on_table(BetKind.PLACE, n)]
    places = [sight.bet(BetKind.PLACE, amounts[n], n) for n in missing]
    yield from _affordable(sight, sight.bet(BetKind.FIELD, base), *places)


def tipsy(sight: Sight, random: Random) -> Iterator[Wish]:
    """Anything, whenever, for whatever amount. The house says no a lot."""
    if random.random() < 0.5:
        return
    kind = random.choice([kind for kind in BetKind if kind not in BEHIND])
    numbered = kind in {BetKind.PLACE, BetKind.HARDWAY}
    amount = random.choice((1, sight.game.minimum, 3 * sight.game.minimum, 2 * sight.balance + 1))
    yield sight.bet(kind, amount, random.randint(4, 10) if numbered else None)


HABITS: Final[tuple[Habit, ...]] = (
    careful,
    gambler,
    martingale,
    dark_side,
    placer,
    iron_cross,
    comer,
    tipsy,
)


def _line(sight: Sight, kind: BetKind, amount: int) -> Iterator[Wish]:
    if sight.game.point is None and not sight.on_table(kind):
        yield from _affordable(sight, sight.bet(kind, amount))


def _affordable(sight: Sight, *bets: PlaceBet) -> Iterator[Wish]:
    """As many of the bets, in this order, as the balance pays for; none of nothing."""
    left = sight.balance
    for bet in bets:
        if 0 < bet.amount <= left:
            left -= bet.amount
            yield bet


def _last_taken_back(sight: Sight) -> Iterator[Wish]:
    mine = [n for n, bet in sight.game.bets.items() if bet.player == sight.player]
    if mine:
        yield CancelBet(sight.game_id, sight.player, mine[-1])
