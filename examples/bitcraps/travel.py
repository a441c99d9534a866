"""Back through the night: the same folds, up to other positions."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from rich.console import Console
from rich.text import Text

from bitcraps.accounts import account
from bitcraps.events import BetWon
from bitcraps.game import Game, game
from bitcraps.night import Night
from bitcraps.projections import leaderboard, top
from bitcraps.summary import heading, money, plain_table
from everwhen import Query, RecordedEvent
from everwhen.aio import Repository, Store


async def print_travels(console: Console, night: Night) -> str:
    """Print three journeys. Returns the player who won most."""
    store = night.casino.store
    middle = (night.first_position + night.last_position) // 2
    winner = await _half_time(console, store, middle, night.last_position)
    await _peak(console, store, winner)
    await _big_roll(console, store, night.first_position)
    return winner


async def _half_time(console: Console, store: Store, middle: int, end: int) -> str:
    """The leaderboard as it was then, beside the one at the end."""
    nets = Repository(store, leaderboard)
    then = (await nets.load(Query().up_to(middle))).state
    now = (await nets.load(Query().up_to(end))).state
    order = {player: place for place, (player, _) in enumerate(top(then, len(then)), 1)}
    heading(console, f"At half time, as at position {middle:,} of {end:,}")
    table = plain_table("player", "then", "place", "at the end", "place")
    for place, (player, net) in enumerate(top(now, 5), 1):
        was = (money(then[player]), str(order[player])) if player in then else ("", "")
        table.add_row(player, *was, money(net), str(place))
    console.print(table)
    return top(now, 1)[0][0] if now else ""


async def _peak(console: Console, store: Store, winner: str) -> None:
    """When the winner was richest: a fold, looked at after every event."""
    state, best, peak = account.initial(), 0, None
    async for recorded in store.read(Query().tags(f"player:{winner}")):
        state = account.evolve(state, recorded)
        if state.balance > best:
            best, peak = state.balance, recorded
    if peak is None:
        return
    heading(console, f"When {winner} was richest")
    ended = (await Repository(store, account).load(Query().tags(f"player:{winner}"))).state
    console.print(
        f"  {best:,} at {peak.recorded_at:%H:%M:%S.%f} UTC, position {peak.position:,}: "
        f"{peak.type} {_said(peak.event)}\n  {ended.balance:,} at the end"
    )


async def _big_roll(console: Console, store: Store, after: int) -> None:
    """The roll that paid most, step by step."""
    paid: dict[Any, int] = defaultdict(int)
    async for recorded in store.read(Query().types(BetWon).after(after)):
        paid[recorded.commit_id] += recorded.event.payout
    if not paid:
        return
    commit_id = max(paid, key=lambda one: paid[one])
    events = await store.commit_events(commit_id)
    first = events[0]
    before = Query().stream(first.stream).to_version(first.version - 1)
    state = (await Repository(store, game).load(before)).state
    heading(console, f"The roll that paid most, {paid[commit_id]:,}, step by step: {first.stream}")
    for recorded in events:
        changed = game.evolve(state, recorded)
        console.print(_step(recorded, state, changed), no_wrap=True, overflow="ellipsis")
        state = changed


def _step(recorded: RecordedEvent[Any], before: Game, after: Game) -> Text:
    """An event, and what it changed in the game."""
    line = Text.assemble(
        (f"  {recorded.position:>7,}  ", "dim"),
        (f"{recorded.type:<17}", "cyan"),
        f"{_said(recorded.event):<34}",
    )
    changes = []
    if before.point != after.point:
        changes.append(f"point {before.point or 'off'} → {after.point or 'off'}")
    if before.phase != after.phase:
        changes.append(f"{before.phase.value} → {after.phase.value}")
    on_table = [sum(bet.amount for bet in state.bets.values()) for state in (before, after)]
    if on_table[0] != on_table[1]:
        changes.append(f"table {on_table[0]:,} → {on_table[1]:,}")
    return line.append(", ".join(changes), "dim")


def _said(event: Any) -> str:
    """An event in a few words."""
    named = {name: getattr(event, name, None) for name in event.__struct_fields__}
    words = [str(named["player"])] if named.get("player") else []
    if named.get("kind"):
        number = f" {named['number']}" if named["number"] else ""
        words.append(f"{named['kind']}{number}:")
    if named.get("first"):
        words.append(f"{named['first']} and {named['second']}")
    if named.get("payout"):
        words.append(f"{named['stake']:,} wins {named['payout']:,}")
    elif named.get("stake"):
        words.append(f"{named['stake']:,}")
    elif named.get("amount"):
        words.append(f"{named['amount']:,}")
    if named.get("point"):
        words.append(f"on {named['point']}")
    return " ".join(words)
