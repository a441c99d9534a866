"""What can be asked of the casino, and which read model answers."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from bitcraps.accounts import Account, account
from bitcraps.ledger import Ledger, ledger
from bitcraps.players import PlayerStatistics, Statistics, statistics
from bitcraps.projections import (
    GameView,
    GameViews,
    HouseEdge,
    Leaderboard,
    game_views,
    house_edge,
    leaderboard,
)
from bitcraps.standings import standings
from everwhen import Projection, Query, StateOf, TableProjection, Tables
from everwhen.projections import Queries

the_books: Final = Projection(ledger)
the_edges: Final = Projection(house_edge)
the_games: Final = Projection(game_views)
the_nets: Final = Projection(leaderboard)
the_records: Final = Projection(statistics)

PROJECTIONS: Final[tuple[Projection[Any] | TableProjection, ...]] = (
    the_books,
    the_edges,
    the_games,
    the_nets,
    the_records,
    standings,
)
"""All read models, for a `ProjectionRunner`: the first five in memory, the last one in tables."""


class Standing(msgspec.Struct, frozen=True):
    """A player's row of the leaderboard. ``name`` is None once the player has been forgotten."""

    player: str
    name: str | None
    net: int
    wagered: int
    won: int
    games: int


class TopPlayers(msgspec.Struct, frozen=True):
    """Who won most: a list of `Standing`, best first."""

    count: int = 5


class StatisticsOf(msgspec.Struct, frozen=True):
    """A player's `PlayerStatistics`; None for somebody who never played."""

    player: str


class AccountOf(msgspec.Struct, frozen=True):
    """A player's `Account`. It can be asked about the past, too, as can all but `TopPlayers`."""

    player: str


class LedgerTotal(msgspec.Struct, frozen=True):
    """The casino's books: a `Ledger`, whose total is 0."""


class EdgesSeen(msgspec.Struct, frozen=True):
    """The house's `Takings`, by kind of bet."""


class GamesInPlay(msgspec.Struct, frozen=True):
    """The games that are not over: each one's `GameView`, by id."""


class NetOf(msgspec.Struct, frozen=True):
    """What a player has won, less what they lost."""

    player: str


queries: Final = Queries()


@queries.on(TopPlayers, standings)
def _(query: TopPlayers, tables: Tables) -> list[Standing]:
    rows = tables.execute(
        "SELECT player, name, net, wagered, won, games FROM {leaderboard}"
        " WHERE games > 0 ORDER BY net DESC, player LIMIT ?",
        (query.count,),
    )
    return [Standing(*row) for row in rows]


@queries.on(StatisticsOf, the_records)
def _(query: StatisticsOf, state: Statistics) -> PlayerStatistics | None:
    return state.players.get(query.player)


@queries.on(AccountOf, StateOf(account, lambda query: Query().tags(f"player:{query.player}")))
def _(_query: AccountOf, state: Account) -> Account:
    return state


@queries.on(LedgerTotal, the_books)
def _(_query: LedgerTotal, state: Ledger) -> Ledger:
    return state


@queries.on(EdgesSeen, the_edges)
def _(_query: EdgesSeen, state: HouseEdge) -> HouseEdge:
    return state.copy()


@queries.on(GamesInPlay, the_games)
def _(_query: GamesInPlay, state: GameViews) -> dict[str, GameView]:
    return {game: view for game, view in state.items() if not view.completed}


@queries.on(NetOf, the_nets)
def _(query: NetOf, state: Leaderboard) -> int:
    return state.get(query.player, 0)
