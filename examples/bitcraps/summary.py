"""What a night came to, on paper."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from bitcraps.bets import BetKind
from bitcraps.inspection import Findings, inspect_store
from bitcraps.night import Night
from bitcraps.places import Places
from bitcraps.projections import HouseEdge
from bitcraps.proving import ProvenRoll
from bitcraps.questions import EdgesSeen, Standing, TopPlayers

_NONE: Final = (Fraction(0),)
TRUE_EDGES: Final[dict[BetKind, tuple[Fraction, ...]]] = {
    BetKind.PASS: (Fraction(7, 495),),
    BetKind.COME: (Fraction(7, 495),),
    BetKind.DONT_PASS: (Fraction(3, 220),),
    BetKind.DONT_COME: (Fraction(3, 220),),
    BetKind.PASS_ODDS: _NONE,
    BetKind.DONT_PASS_ODDS: _NONE,
    BetKind.COME_ODDS: _NONE,
    BetKind.DONT_COME_ODDS: _NONE,
    BetKind.PLACE: (Fraction(1, 66), Fraction(1, 15)),
    BetKind.FIELD: (Fraction(1, 36),),
    BetKind.HARDWAY: (Fraction(1, 11), Fraction(1, 9)),
    BetKind.ANY_SEVEN: (Fraction(1, 6),),
    BetKind.ANY_CRAPS: (Fraction(1, 9),),
}
"""What the house keeps of each unit in the long run: the least and the most, by the number."""


async def print_summary(console: Console, night: Night) -> Findings:
    """Print it, and what the inspector found. The projections have caught up before."""
    casino = night.casino
    await casino.runner.catch_up()
    heading(console, f"Night {night.number} is over")
    console.print(_figures(night))
    heading(console, "The luckiest")
    console.print(leaders((await casino.asks.ask(TopPlayers(5))).data))
    heading(console, "What the house keeps of a wager")
    console.print(_edges((await casino.asks.ask(EdgesSeen())).data))
    console.print("  What is seen is luck, and comes closer the longer they play.", style="dim")
    findings = await inspect_store(casino.store)
    heading(console, "The inspector's report")
    console.print(report(findings))
    return findings


def print_invitation(
    console: Console, night: Night, player: str, places: Places, proven: ProvenRoll | None
) -> None:
    """What to try next on the store."""
    store = shlex.quote(places.shown)
    vault = f"--vault {shlex.quote(str(places.vault))}"
    events = "--events bitcraps.events:EVENTS"
    code = f"--fold bitcraps.ledger:ledger {events}"
    nets = f"--fold bitcraps.projections:leaderboard {events}"
    commands = [
        f"everwhen info {store}",
        f"everwhen read {store} --tag player:{player} --backwards --limit 10",
        f"PYTHONPATH=examples everwhen {vault} at {store} {night.middle} {code}",
        f"PYTHONPATH=examples everwhen {vault} when {store} 'state[\"{player}\"] > 100' {nets}",
        f"PYTHONPATH=examples everwhen {vault} blame {store} {nets}",
        f"everwhen {vault} audit query {store} --resource games --result Failure --limit 10",
        f"everwhen verify {store}",
    ]
    if proven is not None:
        files = f"{shlex.quote(str(proven.file))} {shlex.quote(str(places.policy))}"
        commands += [f"everwhen-verify {files}", f"everwhen {vault} forget {store} {player}"]
    heading(console, "Try next")
    for command in commands:
        console.print(f"  {command}", soft_wrap=True)


def heading(console: Console, text: str) -> None:
    """A line in bold, set off."""
    console.print()
    console.print(Text(text, "bold"))


def money(amount: int) -> Text:
    """An amount, green where it is good for a player."""
    look = "green" if amount > 0 else "red" if amount < 0 else "dim"
    return Text(f"{amount:+,}" if amount else "0", look)


def leaders(standings: Sequence[Standing], *, brief: bool = False) -> RenderableType:
    """The leaderboard."""
    table = plain_table("player", "net", *(() if brief else ("wagered", "won", "games")))
    for row in standings:
        figures = () if brief else (f"{row.wagered:,}", f"{row.won:,}", f"{row.games:,}")
        name = Text("(erased)", "dim") if row.name is None else Text(row.name)
        table.add_row(name, money(row.net), *figures)
    return table


def plain_table(first: str, *rest: str) -> Table:
    """A table without lines, figures to the right."""
    table = Table(box=None, padding=(0, 2), show_edge=False, header_style="dim")
    table.add_column(first)
    for name in rest:
        table.add_column(name, justify="right")
    return table


def _figures(night: Night) -> RenderableType:
    events = night.last_position - night.first_position
    rate = 1 / (night.seconds or 1)
    played = night.played
    refusals = Counter(played.refusals)
    refused = ", ".join(f"{count:,} {name}" for name, count in refusals.most_common())
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_row("time", f"{night.seconds:.1f} s, {night.plan.tables} tables at once")
    grid.add_row("play", f"{played.hands:,} hands, {played.rolls:,} rolls")
    grid.add_row("events", f"{events:,}, {events * rate:,.0f}/s")
    grid.add_row("commands", f"{played.commands:,}, {played.commands * rate:,.0f}/s")
    grid.add_row("refused", f"{refusals.total():,}" + (f": {refused}" if refused else ""))
    return grid


def _edges(takings: HouseEdge) -> RenderableType:
    table = plain_table("bet", "wagered", "kept", "seen", "true")
    for kind, taken in sorted(takings.items(), key=lambda item: -item[1].wagered):
        true = " to ".join(f"{float(edge):.2%}" for edge in TRUE_EDGES[kind])
        seen = f"{float(taken.edge):+.2%}"
        table.add_row(kind.value, f"{taken.wagered:,}", f"{taken.kept:+,}", seen, true)
    return table


def report(findings: Findings) -> RenderableType:
    """What the inspector found."""
    conserved = "yes" if not findings.wrong else f"NO, not at {findings.wrong[:3]}"
    look = "green" if findings.all_is_well else "bold red"
    impossible = ", ".join(findings.impossible)
    return Text.assemble(
        "money conserved at every position: ",
        (conserved, look),
        f" ({findings.positions:,} positions checked)\n",
        f"dice verified: {findings.rolls:,} rolls, ",
        (f"{findings.forged:,} forged", look),
        (f"\ngames that contradict themselves: {impossible}" if impossible else "", look),
    )
