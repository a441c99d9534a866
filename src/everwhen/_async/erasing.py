"""Erasures carried out in a store: recorded, and no trace left of what was deleted.

One vault may serve several stores, and somebody may be forgotten through any of them. So each
store remembers up to which of the vault's erasures it has carried them out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from everwhen._async.backend import Backend
from everwhen._async.branches import Branches
from everwhen.contract import Receipt
from everwhen.engine import EngineTransaction
from everwhen.erasures import ERASURES, PURGE_DUE, carried_out, erasure_commit, first_pending
from everwhen.vault import Stone, Vault

_RECORDED_AT_ONCE: Final = 1_000


async def carry_out(
    branches: Branches, vault: Vault, asked: Iterable[int] = ()
) -> tuple[list[Stone], dict[int, int]]:
    """Carry out the erasures that the store hasn't yet, and again those of the numbers ``asked``.

    Returns the former, and the positions of all records by number. The files are purged where there
    are any, and where a purge is due. A store without events has nothing to erase, and records
    nothing.
    """
    root, wanted = branches.root, set(asked)
    first = first_pending(await root.checkpoint(ERASURES), vault)
    stones = vault.stones(min((first, *wanted)))
    pending = [stone for stone in stones if stone.number >= first]
    positions: dict[int, int] = {}
    if wanted or (pending and (await root.head()).position):
        told = [stone for stone in stones if stone.number >= first or stone.number in wanted]
        positions = await _record(root, told)
    due = await root.checkpoint(PURGE_DUE)
    if positions or due is not None:
        await branches.purge()

    def note(transaction: EngineTransaction) -> None:
        if transaction.checkpoint(PURGE_DUE) == due:
            transaction.delete_checkpoint(PURGE_DUE)
        if pending:
            transaction.save_checkpoint(carried_out(pending[-1]))

    if pending or due is not None:
        await root.transact(note)
    return pending, positions


async def _record(root: Backend, stones: list[Stone]) -> dict[int, int]:
    positions: dict[int, int] = {}
    for start in range(0, len(stones), _RECORDED_AT_ONCE):
        some = stones[start : start + _RECORDED_AT_ONCE]
        outcomes = await root.append([erasure_commit(stone) for stone in some])
        for stone, outcome in zip(some, outcomes, strict=True):
            if not isinstance(outcome, Receipt):
                raise outcome
            positions[stone.number] = outcome.position
    return positions
