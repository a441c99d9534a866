"""Who comes to play, what they say for luck, and where they sit."""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec

from bitcraps.accounts import Account
from bitcraps.game import Game
from bitcraps.habits import HABITS, Habit, Sight

_NAMES: Final = (
    "Ada", "Alan", "Barbara", "Bjarne", "Claude", "Dana", "Dennis", "Donald", "Edgar", "Edsger",
    "Emmy", "Evelyn", "Frances", "Grace", "Hedy", "Henri", "Ida", "Jean", "John", "Joan",
    "Karen", "Kathleen", "Ken", "Kurt", "Leslie", "Lynn", "Margaret", "Mary", "Maurice",
    "Niklaus", "Noether", "Olga", "Paul", "Peter", "Radia", "Robin", "Shafi", "Sophie",
    "Stephen", "Tony",
)  # fmt: skip
_SAYINGS: Final = (
    "seven come eleven",
    "baby needs new shoes",
    "roll them bones",
    "big red",
    "yo!",
    "hard eight, easy money",
    "",
)


class Person(msgspec.Struct):
    """A player, with a purse, a habit and a randomness of their own.

    ``account`` is what the player believes to own; the house asks its books.
    """

    id: str
    name: str
    habit: Habit
    random: Random
    account: Account = Account()
    lost_in_row: int = 0

    def luck(self) -> str:
        """Something to say when sitting down."""
        return self.random.choice(_SAYINGS)

    def shake(self) -> str:
        """How the dice are shaken this time."""
        return f"{self.random.getrandbits(32):08x}"

    def sees(self, game_id: str, game: Game) -> Sight:
        """What there is to decide on before a roll."""
        return Sight(game_id, game, self.id, self.account.balance, self.lost_in_row)


def person(index: int, seed: int, night: int) -> Person:
    """The player of that number, from 0. Name and habit are the same every night."""
    round_, place = divmod(index, len(_NAMES))
    name = _NAMES[place] + (f" {round_ + 1}" if round_ else "")
    id_ = name.lower().replace(" ", "-")
    habit = Random(id_).choice(HABITS)  # noqa: S311 (a game)
    return Person(id_, name, habit, Random(f"{seed}/{night}/{id_}"))  # noqa: S311
