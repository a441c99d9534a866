"""The leaderboard in SQL tables: open the store with any SQLite client and look at it."""

from __future__ import annotations

from typing import Final

from bitcraps.events import AccountOpened, BetLost, BetPushed, BetWon, PayoutTakenBack, PlayerJoined
from everwhen import RecordedEvent, TableProjection, Tables
from everwhen.privacy import Erased

standings: Final = TableProjection(
    "standings",
    [
        """
        CREATE TABLE {leaderboard} (
            player TEXT PRIMARY KEY,
            name TEXT,
            net INTEGER NOT NULL DEFAULT 0,
            wagered INTEGER NOT NULL DEFAULT 0,
            won INTEGER NOT NULL DEFAULT 0,
            games INTEGER NOT NULL DEFAULT 0
        )
        """,
        "CREATE INDEX {leaderboard}_by_net ON {leaderboard} (net DESC, player)",
    ],
)
"""Each player's net win, what they wagered and won on settled bets, and how many games they sat in.
Without a name, the player has been forgotten: the tables are built anew then.

Rows and position change in one transaction, so that a crash counts no bet twice and forgets none.
"""


@standings.on(AccountOpened)
def _(tables: Tables, recorded: RecordedEvent[AccountOpened]) -> None:
    name = recorded.event.name
    row = (recorded.event.player, None if isinstance(name, Erased) else name)
    tables.execute("INSERT INTO {leaderboard} (player, name) VALUES (?, ?)", row)


@standings.on(PlayerJoined)
def _(tables: Tables, recorded: RecordedEvent[PlayerJoined]) -> None:
    _count(tables, recorded.event.player, games=1)


@standings.on(BetWon)
def _(tables: Tables, recorded: RecordedEvent[BetWon]) -> None:
    won = recorded.event
    _count(tables, won.player, net=won.payout, wagered=won.stake, won=won.payout)


@standings.on(PayoutTakenBack)
def _(tables: Tables, recorded: RecordedEvent[PayoutTakenBack]) -> None:
    payout = recorded.event.payout
    _count(tables, recorded.event.player, net=-payout, won=-payout)


@standings.on(BetLost)
def _(tables: Tables, recorded: RecordedEvent[BetLost]) -> None:
    lost = recorded.event
    _count(tables, lost.player, net=-lost.stake, wagered=lost.stake)


@standings.on(BetPushed)
def _(tables: Tables, recorded: RecordedEvent[BetPushed]) -> None:
    _count(tables, recorded.event.player, wagered=recorded.event.stake)


def _count(
    tables: Tables, player: str, *, net: int = 0, wagered: int = 0, won: int = 0, games: int = 0
) -> None:
    tables.execute(
        "UPDATE {leaderboard} SET net = net + ?, wagered = wagered + ?, won = won + ?,"
        " games = games + ? WHERE player = ?",
        (net, wagered, won, games, player),
    )
