"""The inspector's visit: one pass over all that ever happened, believing nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from bitcraps.accounts import Account, account
from bitcraps.audit import forged_rolls
from bitcraps.events import DiceRolled
from bitcraps.ledger import ledger
from everwhen import Event
from everwhen.aio import Store


class Findings(msgspec.Struct, frozen=True):
    """What came out.

    ``wrong`` holds the positions at which money was not where it has to be, ``impossible`` the
    games whose events contradict one another.
    """

    positions: int
    wrong: tuple[int, ...]
    rolls: int
    forged: int
    impossible: tuple[str, ...] = ()

    @property
    def all_is_well(self) -> bool:
        """Whether money was conserved throughout, and every game is as it can be."""
        return not self.wrong and not self.forged and not self.impossible


async def inspect_store(store: Store) -> Findings:
    """Recount the money after every single event, and throw every pair of dice again.

    The books must balance; the accounts' balances, and their stakes, must add up to what the
    books say of all of them; and nobody may ever have had less than nothing.
    """
    books = ledger.initial()
    accounts: dict[str, Account] = {}
    games: dict[str, list[Event]] = defaultdict(list)
    balances = stakes = positions = 0
    wrong: list[int] = []
    async for recorded in store.read():
        event: Any = recorded.event
        positions += 1
        books = ledger.apply(books, (event,))
        player = getattr(event, "player", None)
        low = 0
        if player is not None:
            before = accounts.get(player, Account())
            now = accounts[player] = account.apply(before, (event,))
            balances += now.balance - before.balance
            stakes += now.at_stake - before.at_stake
            low = min(now.balance, now.at_stake)
        if books.total or low < 0 or (balances, stakes) != (books.accounts, books.at_stake):
            wrong.append(recorded.position)
        if hasattr(event, "game"):
            games[event.game].append(event)
    return _with_games(Findings(positions, tuple(wrong), 0, 0), games)


def _with_games(findings: Findings, games: Mapping[str, list[Event]]) -> Findings:
    """The findings, with what there is to say about the games."""
    rolls = forged = 0
    impossible: list[str] = []
    for name, events in games.items():
        rolls += sum(isinstance(event, DiceRolled) for event in events)
        try:
            forged += len(forged_rolls(events))
        except (KeyError, ValueError):  # a bet that was never placed, a seed that isn't a number
            impossible.append(name)
    return replace(findings, rolls=rolls, forged=forged, impossible=tuple(impossible))
