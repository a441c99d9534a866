"""Back through the night with a time machine, and what might have been."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from bitcraps.accounts import account
from bitcraps.casino import decisions
from bitcraps.commands import Deposit
from bitcraps.game import Game, game
from bitcraps.invariants import invariants
from bitcraps.ledger import ledger
from bitcraps.night import Night
from bitcraps.projections import leaderboard, top
from bitcraps.proving import best_payer
from bitcraps.summary import heading, money, plain_table
from everwhen import Query
from everwhen.aio import CommandBus, Store, TimeMachine
from everwhen.merging.aio import Merging
from everwhen.travel import HEAD, EventFilter, Step

BRANCH = "a-gift"
GIFT = 100


async def print_travels(console: Console, night: Night) -> str:
    """Print the journeys. Returns the player who won most."""
    store = night.casino.store
    winner = await _half_time(console, store, night.middle, night.last_position)
    if winner:
        await _peak(console, store, winner)
    await _big_roll(console, store, night.first_position)
    if winner:
        await _without(console, store, winner)
        await _gift(console, store, winner, night.middle)
    return winner


async def _half_time(console: Console, store: Store, middle: int, end: int) -> str:
    """The leaderboard as it was then, beside the one at the end."""
    machine = TimeMachine(store, leaderboard)
    then = (await machine.travel_to(middle)).state
    now = (await machine.travel_to(end)).state
    order = {player: place for place, (player, _) in enumerate(top(then, len(then)), 1)}
    heading(console, f"At half time, as at position {middle:,} of {end:,}")
    table = plain_table("player", "then", "place", "at the end", "place")
    for place, (player, net) in enumerate(top(now, 5), 1):
        was = (money(then[player]), str(order[player])) if player in then else ("", "")
        table.add_row(player, *was, money(net), str(place))
    console.print(table)
    return top(now, 1)[0][0] if now else ""


async def _peak(console: Console, store: Store, winner: str) -> None:
    """When the winner was richest: the history of one part of the state."""
    machine = TimeMachine(store, account, Query().tags(f"player:{winner}"))
    written = [one async for one in machine.history("balance")]
    peak = max(written, key=lambda one: one.after)
    heading(console, f"When {winner} was richest")
    console.print(
        f"  {peak.after:,} at {peak.event.recorded_at:%H:%M:%S.%f} UTC, "
        f"position {peak.position:,}: {peak.event.type} {_said(peak.event.event)}\n"
        f"  {written[-1].after:,} at the end"
    )


async def _big_roll(console: Console, store: Store, after: int) -> None:
    """The roll that paid most, step by step."""
    commit_id, paid = await best_payer(store, after)
    if commit_id is None:
        return
    events = await store.commit_events(commit_id)
    first, last = events[0], events[-1]
    heading(console, f"The roll that paid most, {paid:,}, step by step: {first.stream}")
    machine = TimeMachine(store, game, first.stream)
    async for step in machine.replay(first.position - 1, last.position):
        console.print(_step(step), no_wrap=True, overflow="ellipsis")


async def _without(console: Console, store: Store, winner: str) -> None:
    """The night as it would have been without the winner."""
    machine = TimeMachine(store, ledger)
    true = (await machine.travel_to(HEAD)).state
    supposed = await machine.altered(without=EventFilter(tags={f"player:{winner}"})).travel_to()
    heading(console, f"If {winner} had stayed at home")
    console.print(
        f"  the house would have {money(supposed.state.house)} instead of {money(true.house)}, "
        f"with {sum(supposed.left_out.values()):,} events left out"
    )


async def _gift(console: Console, store: Store, winner: str, middle: int) -> None:
    """A branch from half time on which the winner is given something, and merged."""
    if any(info.name == BRANCH for info in await store.branches()):
        await store.delete_branch(BRANCH)
    moment = (await TimeMachine(store, ledger).travel_to(middle)).recorded_at
    of_winner = Query().tags(f"player:{winner}")
    async with store.create_branch(BRANCH, at=moment) as branch:
        await CommandBus(branch, decisions).send(Deposit(winner, GIFT))
        there = (await branch.fold(account, of_winner)).balance
        merging = Merging(store, decisions, invariants=invariants)
        plan = await merging.plan(branch)
        before = (await store.fold(account, of_winner)).balance
        await merging.merge(branch)
    now = (await store.fold(account, of_winner)).balance
    heading(console, f"A gift of {GIFT} to {winner} at half time, on a branch, and merged")
    console.print(
        f"  on the branch {winner} has {there:,}; decided again in the present it comes out "
        f"{', '.join(plan.counts)}: {before:,} → {now:,}, and money is conserved"
    )


def _step(step: Step[Game]) -> Text:
    """An event, and what it changed in the game."""
    recorded, before, after = step.event, step.before, step.after
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
