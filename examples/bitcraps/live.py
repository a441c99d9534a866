"""The casino from above, while the night goes on: what the read models say, some times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bitcraps.ledger import Ledger
from bitcraps.night import Night
from bitcraps.projections import GameView
from bitcraps.questions import GamesInPlay, LedgerTotal, TopPlayers
from bitcraps.summary import leaders, money, plain_table
from everwhen import StaleError

_PAUSE: Final = 0.25
_DICE: Final = "⚀⚁⚂⚃⚄⚅"
_OTHER_LINES: Final = 10


async def watch(console: Console, night: Night) -> None:
    """Show it until cancelled."""
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            with suppress(StaleError):  # the first events may still have to be read
                live.update(await _view(night, console.height), refresh=True)
            await asyncio.sleep(_PAUSE)


async def _view(night: Night, height: int) -> RenderableType:
    asks = night.casino.asks
    books = await asks.ask(LedgerTotal())
    games = (await asks.ask(GamesInPlay())).data
    standings = (await asks.ask(TopPlayers(12))).data
    grid = Table.grid(padding=(0, 3), expand=True)
    grid.add_row(_tables(games, max(4, height - _OTHER_LINES)), leaders(standings, brief=True))
    title = f"[bold]BitCraps[/bold], night {night.number}"
    foot = "Ctrl-C lets every table finish its hand"
    body = Group(_figures(night, books.position), Text(), grid, Text(), _books(books.data))
    return Panel(body, title=title, subtitle=foot, border_style="dim", title_align="left")


def _figures(night: Night, position: int) -> Text:
    """How it goes, counted by what readers see."""
    seconds = max(night.elapsed, 0.001)
    events = max(0, position - night.first_position)
    return Text.assemble(
        (f"{night.elapsed:.0f} s", "bold"),
        ("   events ", "dim"),
        f"{events:,}",
        (f" {events / seconds:,.0f}/s", "green"),
        ("   commands ", "dim"),
        f"{night.commands:,}",
        (f" {night.commands / seconds:,.0f}/s", "green"),
        ("   refused ", "dim"),
        f"{night.refusals.total():,}",
        ("   closing", "yellow") if night.is_closing else "",
    )


def _tables(games: Mapping[str, GameView], most: int) -> RenderableType:
    table = plain_table("table", "shooter", "point", "dice", "roll", "bets")
    shown = sorted(games.values(), key=lambda view: (len(view.table), view.table))
    for view in shown[:most]:
        point = Text(str(view.point), "bold yellow") if view.point else Text("off", "dim")
        dice = "".join(_DICE[side - 1] for side in view.dice or ())
        row = (view.shooter, point, dice, str(view.rolls), f"{view.on_table:,}")
        table.add_row(view.table.removeprefix("table-"), *row)
    if len(shown) > most:
        table.add_row(Text(f"and {len(shown) - most} more", "dim"))
    return table


def _books(books: Ledger) -> Text:
    return Text.assemble(
        ("in accounts ", "dim"),
        f"{books.accounts:,}",
        ("   at stake ", "dim"),
        f"{books.at_stake:,}",
        ("   house ", "dim"),
        money(books.house),
        ("   outside ", "dim"),
        f"{books.outside:,}",
        ("   total ", "dim"),
        (f"{books.total}", "bold green" if not books.total else "bold red"),
    )
