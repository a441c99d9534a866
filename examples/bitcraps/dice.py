"""Provably fair dice: neither the house nor the players can choose what is rolled.

The house commits itself to a seed (`commitment`) before anybody bets, and shows the seed with the
roll. What the players do in between is mixed into the *luck*: who joined with which words, every
bet, and the shooter's shake. The dice follow from both, so the house can't pick a seed that suits
it, and the players, who don't know the seed, can't pick a luck that suits them. Afterwards anybody
can check: see `is_fair`, and `audit` for a whole game.

The limits: where nobody bets, joins or shakes between two rolls, the house knew the luck when it
committed itself; and the last one to add to the luck must not be in league with the house.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
from collections.abc import Iterator
from typing import Final

import msgspec

NO_LUCK: Final = bytes(32)
"""The luck of a table where nothing has happened yet."""

_SIDES: Final = 6
_FAIR_BELOW: Final = 256 - 256 % _SIDES


class Roll(msgspec.Struct, frozen=True):
    """Two dice, each from 1 to 6."""

    first: int
    second: int

    @property
    def total(self) -> int:
        """From 2 to 12."""
        return self.first + self.second

    @property
    def is_hard(self) -> bool:
        """Whether it is a pair."""
        return self.first == self.second


class House:
    """The keeper of a secret, from which every seed of every game follows.

    So no seed needs to be kept anywhere before it is shown. Raises `ValueError` for a secret that
    is shorter than 32 bytes.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 32:
            raise ValueError(f"a secret of {len(secret)} bytes can be guessed; give 32 or more")
        self._secret = secret

    def seed(self, game: str, roll: int) -> bytes:
        """The seed of a game's roll, 32 bytes; rolls are numbered from 1."""
        return _hmac(self._secret, f"{roll}/{game}".encode())


def commitment(seed: bytes) -> str:
    """What is published of a seed while it is still secret: its SHA-256, in hex."""
    return hashlib.sha256(seed).hexdigest()


def mixed(luck: bytes, *contributions: str) -> bytes:
    """The luck after something has happened at the table; 32 bytes.

    It depends on everything before and on each contribution by itself: ``"ab", "c"`` is not
    ``"a", "bc"``.
    """
    digest = hashlib.sha256(luck)
    for contribution in contributions:
        data = contribution.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()


def roll_of(seed: bytes, luck: bytes) -> Roll:
    """The dice that follow from a seed and the luck at the table; each of the 36 is as likely."""
    dice = _dice(seed, luck)
    return Roll(next(dice), next(dice))


def is_fair(roll: Roll, *, seed: bytes, seed_hash: str, luck: bytes) -> bool:
    """Whether the house kept its word: this seed was promised, and these dice follow from it."""
    promised = hmac.compare_digest(commitment(seed), seed_hash)
    return promised and roll_of(seed, luck) == roll


def _dice(seed: bytes, luck: bytes) -> Iterator[int]:
    """Dice without end. Bytes that would make some sides likelier than others are left out."""
    for counter in itertools.count():
        for byte in _hmac(seed, luck + counter.to_bytes(8, "big")):
            if byte < _FAIR_BELOW:
                yield byte % _SIDES + 1


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
