"""Every no of the casino, each with its facts."""

from __future__ import annotations

from everwhen import Refusal


class AccountExists(Refusal):
    """The player has an account already."""

    def __init__(self, player: str) -> None:
        self.player = player
        super().__init__(f"player {player!r} has an account already")


class NoSuchAccount(Refusal):
    """The player has no account."""

    def __init__(self, player: str) -> None:
        self.player = player
        super().__init__(f"player {player!r} has no account; open one first")


class InsufficientBalance(Refusal):
    """The account doesn't cover the amount. What is on a table is not in the account."""

    def __init__(self, balance: int, needed: int) -> None:
        self.balance = balance
        self.needed = needed
        super().__init__(f"the account holds {balance}, and {needed} are needed")


class GameExists(Refusal):
    """The game was started before."""

    def __init__(self, game: str) -> None:
        self.game = game
        super().__init__(f"game {game!r} was started before; take another id")


class LimitsContradict(Refusal):
    """No amount would be within the table's limits."""

    def __init__(self, minimum: int, maximum: int) -> None:
        self.minimum = minimum
        self.maximum = maximum
        super().__init__(f"no bet is at least {minimum} and at most {maximum}")


class NoSuchGame(Refusal):
    """The game was never started."""

    def __init__(self, game: str) -> None:
        self.game = game
        super().__init__(f"game {game!r} was never started")


class GameIsOver(Refusal):
    """The shooter has sevened out."""

    def __init__(self, game: str) -> None:
        self.game = game
        super().__init__(f"game {game!r} is over; the next shooter's game is another one")


class AlreadyAtTheTable(Refusal):
    """The player has a seat."""

    def __init__(self, player: str) -> None:
        self.player = player
        super().__init__(f"player {player!r} is at the table already")


class NotAtTheTable(Refusal):
    """The player has no seat in this game."""

    def __init__(self, player: str) -> None:
        self.player = player
        super().__init__(f"player {player!r} is not at the table; join the game first")


class NotYourTurn(Refusal):
    """Somebody else is the shooter."""

    def __init__(self, shooter: str) -> None:
        self.shooter = shooter
        super().__init__(f"the shooter is {shooter!r}")


class BettingIsClosed(Refusal):
    """The dice are out."""

    def __init__(self, roll: int) -> None:
        self.roll = roll
        super().__init__(f"the dice are out; wait for roll {roll}")


class BettingIsOpen(Refusal):
    """The dice can't be rolled while bets can be placed."""

    def __init__(self, roll: int) -> None:
        self.roll = roll
        super().__init__(f"betting on roll {roll} is still open; close it first")


class BetOutOfLimits(Refusal):
    """The amount is too small or too large for this bet, at this table, now."""

    def __init__(self, minimum: int, maximum: int, amount: int) -> None:
        self.minimum = minimum
        self.maximum = maximum
        self.amount = amount
        super().__init__(f"{amount} is not from {minimum} to {maximum}")


class BetNotAllowed(Refusal):
    """The rules of craps don't allow to do this now."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


class NoSuchBet(Refusal):
    """The player has no such bet on the table: it never was, or is settled."""

    def __init__(self, bet: int) -> None:
        self.bet = bet
        super().__init__(f"there is no such bet on the table: {bet}")


class ForgedSeed(Refusal):
    """The seed is not the one that the house is committed to."""

    def __init__(self, seed_hash: str) -> None:
        self.seed_hash = seed_hash
        super().__init__(f"the house is committed to another seed, whose SHA-256 is {seed_hash}")
