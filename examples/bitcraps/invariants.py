"""What must hold whatever is merged: the casino's first law, and its second."""

from __future__ import annotations

from typing import Final

from bitcraps.accounts import Account, account
from bitcraps.events import EVENTS
from bitcraps.ledger import ledger
from everwhen import Event, Fold
from everwhen.merging import Invariant

accounts: Final[Fold[dict[str, Account]]] = Fold("accounts", dict, copy=dict.copy)
"""Every player's account."""


def _moved(state: dict[str, Account], event: Event) -> dict[str, Account]:
    player = getattr(event, "player", "")
    if player:
        state[player] = account.apply(state.get(player, Account()), [event])
    return state


for _class in EVENTS:
    if _class in account.event_classes:
        accounts.on(_class)(_moved)

conserved: Final = Invariant("money is conserved", ledger, lambda books: books.total == 0)
solvent: Final = Invariant(
    "nobody owes anything",
    accounts,
    lambda every: all(own.balance >= 0 and own.at_stake >= 0 for own in every.values()),
)
invariants: Final = (conserved, solvent)
