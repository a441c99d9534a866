"""What can happen in the casino. Accounts and games are streams: `account-<player>`, `game-<id>`.

A game is one shooter's hand: from its first come-out roll to the seven-out, which settles every
bet on the table. Whatever concerns a player's money is tagged ``player:<id>``.

Who a player is in real life stands in one place, `AccountOpened`, encrypted. Once a player is
forgotten that reads as `everwhen.privacy.Erased`; the id, and the money, go on.
"""

from __future__ import annotations

from typing import Final

from bitcraps.bets import BetKind
from everwhen import Event, Personal
from everwhen.audit import AuditEntry


class AccountOpened(Event):
    """Somebody became a player. The id that they chose says nothing of who they are."""

    tag_fields = ("player",)
    data_subject = "player"

    player: str
    name: Personal[str]
    email: Personal[str]


class Deposited(Event):
    """Money came in from outside."""

    tag_fields = ("player",)

    player: str
    amount: int


class Withdrawn(Event):
    """Money went out of the house."""

    tag_fields = ("player",)

    player: str
    amount: int


class GameStarted(Event):
    """A shooter has the dice, and the house is committed to the seed of the first roll."""

    game: str
    table: str
    shooter: str
    minimum: int
    maximum: int
    seed_hash: str


class PlayerJoined(Event):
    """A player took the next seat, and said something for luck."""

    tag_fields = ("player",)

    game: str
    player: str
    luck: str


class BettingClosed(Event):
    """The dice are out: no bet can be placed or cancelled until roll number ``roll`` is thrown.

    ``luck`` is how the shooter shook them.
    """

    game: str
    roll: int
    luck: str = ""


class DiceRolled(Event):
    """A roll, the seed it follows from, and the commitment to the next one (both in hex).

    Betting is open again. What the roll did to each bet follows, in the order of the bets.
    """

    game: str
    roll: int
    first: int
    second: int
    seed: str
    next_seed_hash: str


class PointEstablished(Event):
    """A come-out roll set the point."""

    game: str
    point: int


class GameWon(Event):
    """The line won: by a natural (``point`` is None) or because the point was made.

    The game goes on with another come-out roll.
    """

    game: str
    shooter: str
    point: int | None


class GameCompleted(Event):
    """The shooter sevened out. No bet is left on the table."""

    game: str
    rolls: int
    next_shooter: str


class BetEvent(Event):
    """What happens to one bet; bets are numbered from 1 in their game."""

    tag_fields = ("player",)

    game: str
    player: str
    bet: int


class BetPlaced(BetEvent):
    """The amount went from the player's account onto the table."""

    kind: BetKind
    number: int | None
    amount: int


class BetCancelled(BetEvent):
    """The player took the bet back; the amount is in the account again."""

    amount: int


class BetMoved(BetEvent):
    """A come or don't come bet has got its number."""

    number: int


class BetWon(BetEvent):
    """The stake and the payout went to the player's account.

    The bet is taken down, as every bet that wins: also a place or hardway bet, which many casinos
    leave on the table.
    """

    kind: BetKind
    number: int | None
    stake: int
    payout: int


class BetLost(BetEvent):
    """The stake went to the house."""

    kind: BetKind
    number: int | None
    stake: int


class BetPushed(BetEvent):
    """Neither won nor lost; the stake went back to the player's account."""

    kind: BetKind
    number: int | None
    stake: int


class BetRefunded(BetEvent):
    """The game was abandoned; the amount went back to the player's account."""

    amount: int


class PayoutTakenBack(Event):
    """A payout that should not have been made went from the player's account back to the house.

    The stake stays with the player, and what the game has made of it stands.
    """

    tag_fields = ("player",)

    game: str
    player: str
    bet: int
    kind: BetKind
    payout: int


EVENTS: Final[tuple[type[Event], ...]] = (
    AccountOpened,
    Deposited,
    Withdrawn,
    GameStarted,
    PlayerJoined,
    BettingClosed,
    DiceRolled,
    PointEstablished,
    GameWon,
    GameCompleted,
    BetPlaced,
    BetCancelled,
    BetMoved,
    BetWon,
    BetLost,
    BetPushed,
    BetRefunded,
    PayoutTakenBack,
    AuditEntry,
)
"""All of them, and what is said of them in the audit log; for `everwhen.open_store`."""
