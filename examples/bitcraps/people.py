"""Who comes to play, what they say for luck, and where they sit."""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec

from bitcraps.accounts import Account
from bitcraps.game import Game
from bitcraps.habits import HABITS, Habit, Sight

_IDS: Final = (
    "ada", "alan", "barbara", "bjarne", "claude", "dana", "dennis", "donald", "edgar", "edsger",
    "emmy", "evelyn", "frances", "grace", "hedy", "henri", "ida", "jean", "john", "joan",
    "karen", "kathleen", "ken", "kurt", "leslie", "lynn", "margaret", "mary", "maurice",
    "niklaus", "noether", "olga", "paul", "peter", "radia", "robin", "shafi", "sophie",
    "stephen", "tony",
)  # fmt: skip
_GIVEN_NAMES: Final = (
    "Ambrose", "Araminta", "Augustin", "Barnaby", "Beatrix", "Clementine", "Cordelia",
    "Cornelius", "Dorothea", "Genevieve", "Horatio", "Ignatius", "Leopold", "Lysander",
    "Montague", "Ottoline", "Percival", "Perpetua", "Philippa", "Rosalind", "Seraphina",
    "Thaddeus", "Wilhelmina",
)  # fmt: skip
_FAMILY_NAMES: Final = (
    "Applegarth", "Ashgrove", "Blackwater", "Copperbeech", "Dovetail", "Elderberry",
    "Fairweather", "Featherstone", "Foxglove", "Goldsworth", "Greenhalgh", "Hawkridge",
    "Honeycutt", "Ironwood", "Juniper", "Larkspur", "Marchbanks", "Merriweather", "Moonraker",
    "Oakenshaw", "Pennyfeather", "Quillfeather", "Ravensworth", "Rosenthorpe", "Silverthorn",
    "Stonebridge", "Thistlewood", "Whitlocke", "Winterbourne",
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

    Everybody calls them by their ``id``; ``name`` and ``email`` are for the house alone.
    ``account`` is what the player believes to own; the house asks its books.
    """

    id: str
    name: str
    email: str
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
    """The player of that number, from 0. Who it is, and the habit, are the same every night."""
    round_, place = divmod(index, len(_IDS))
    id_ = _IDS[place] + (f"-{round_ + 1}" if round_ else "")
    given = _GIVEN_NAMES[index % len(_GIVEN_NAMES)]
    family = _FAMILY_NAMES[index % len(_FAMILY_NAMES)]
    email = f"{given}.{family}.{index + 1}@example.org".lower()
    habit = Random(id_).choice(HABITS)  # noqa: S311 (a game)
    randomness = Random(f"{seed}/{night}/{id_}")  # noqa: S311
    return Person(id_, f"{given} {family}", email, habit, randomness)
