# Generated from src/everwhen/store/_async/erasure.py by tools/unasync.py: edit that, then run `make sync`.
"""Erasures carried out in a store: recorded, and no trace left of what was deleted.

One vault may serve several stores, and somebody may be forgotten through any of them. So each
store remembers up to which of the vault's erasures it has carried them out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from everwhen.backends._sync.backend import Backend
from everwhen.backends.engine import EngineTransaction
from everwhen.branches._sync.branches import Branches
from everwhen.privacy.vault import Tombstone, Vault
from everwhen.store.erasure_records import (
    carried_commit,
    carried_out,
    erasure_commit,
    first_pending,
    recorded_in,
)
from everwhen.vocabulary.contract import Receipt
from everwhen.vocabulary.erasures import ERASURES, PURGE_DUE
from everwhen.vocabulary.paging import PAGE_EVENTS, next_page
from everwhen.vocabulary.query import Query

_BATCH_COMMITS: Final = 1_000
"""Appended in one call: their cost is shared, and none waits for long."""


def carry_out(
    branches: Branches, vault: Vault, asked: Iterable[int] = ()
) -> tuple[list[Tombstone], dict[int, int]]:
    """Carry out the erasures that the store hasn't yet, and again those of the numbers ``asked``.

    Returns the former, and the positions of all records by number. The files are purged where there
    are any, and where a purge is due. A store without events has nothing to erase, and records
    nothing.
    """
    root, wanted = branches.root, set(asked)
    first = first_pending(root.checkpoint(ERASURES), vault)
    tombstones = vault.tombstones(min((first, *wanted)))
    pending = [tombstone for tombstone in tombstones if tombstone.number >= first]
    positions: dict[int, int] = {}
    if wanted or (pending and (root.head()).position):
        recorded = [
            tombstone
            for tombstone in tombstones
            if tombstone.number >= first or tombstone.number in wanted
        ]
        positions = _record(root, recorded)
    due = root.checkpoint(PURGE_DUE)
    if positions or due is not None:
        branches.purge()

    def note(transaction: EngineTransaction) -> None:
        if transaction.checkpoint(PURGE_DUE) == due:
            transaction.delete_checkpoint(PURGE_DUE, local=True)
        if pending:
            transaction.save_checkpoint(carried_out(pending[-1]), local=True)

    if pending or due is not None:
        root.transact(note)
    return pending, positions


def brought_back(root: Backend, vault: Vault, *, thorough: bool = False) -> list[str]:
    """The subjects of which the store records the erasure, and the vault has keys again.

    Where the vault knows the newest of the store's erasures it is taken to know all, unless the
    comparison is to be ``thorough``. A vault that never had keys of them brings nobody back: it may
    be another one.
    """
    query = Query().stream(ERASURES).backwards().skipping_retired()
    if not thorough and first_pending(root.checkpoint(ERASURES), vault) > 1:
        page = root.read(query.limit(1), 1)
        newest = next(filter(None, map(recorded_in, page.slices)), None)
        tombstones = [] if newest is None else vault.tombstones(newest.number)[:1]
        if newest is None or [tombstone.subject for tombstone in tombstones] == [newest.subject]:
            return []
    found: set[str] = set()
    while True:
        page = root.read(query, PAGE_EVENTS)
        found.update(one.subject for one in map(recorded_in, page.slices) if one is not None)
        if page.end:
            break
        query = next_page(query, page)
    return sorted(one for one in found if not vault.is_forgotten(one) and vault.subjects(one))


def carry_over(root: Backend, past: int) -> None:
    """Record anew the erasures that are recorded up to a position, before that is retired."""
    query = Query().stream(ERASURES).up_to(past).skipping_retired()
    while True:
        page = root.read(query, PAGE_EVENTS)
        erasures = [one for one in map(recorded_in, page.slices) if one is not None]
        for outcome in root.append([carried_commit(one, past) for one in erasures]):
            if isinstance(outcome, Exception):
                raise outcome
        if page.end:
            return
        query = next_page(query, page)


def _record(root: Backend, tombstones: list[Tombstone]) -> dict[int, int]:
    positions: dict[int, int] = {}
    for start in range(0, len(tombstones), _BATCH_COMMITS):
        some = tombstones[start : start + _BATCH_COMMITS]
        outcomes = root.append([erasure_commit(tombstone) for tombstone in some])
        for tombstone, outcome in zip(some, outcomes, strict=True):
            if not isinstance(outcome, Receipt):
                raise outcome
            positions[tombstone.number] = outcome.position
    return positions
