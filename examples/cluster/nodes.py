"""A node: a process with a replica of the casino's store."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bitcraps.casino import open_books, open_casino
from bitcraps.inspection import Findings, inspect_store
from bitcraps.ledger import Ledger, ledger
from bitcraps.night import Night, Plan, Played, Share
from everwhen import KeyFile, Vault


def open_vault(folder: Path, *, create: bool = False) -> Vault:
    """The keys of the players' names, which all nodes share. A real casino keeps them elsewhere."""
    return Vault(folder / "vault", KeyFile(folder / "vault.key"), create=create)


async def opened(folder: Path, url: str) -> None:
    """Make the store, where there is none."""
    with open_vault(folder) as vault:
        async with open_books(url, vault):
            pass


def play(folder: Path, url: str, plan: Plan, share: Share) -> Played:
    """Deal at the tables of a share, until the night is over."""
    return asyncio.run(_played(folder, url, plan, share))


async def _played(folder: Path, url: str, plan: Plan, share: Share) -> Played:
    with open_vault(folder) as vault:
        async with open_casino(url, vault) as casino:
            night = Night(casino, plan, number=1, share=share)
            await night.play()
            return night.played


async def counted(folder: Path, url: str) -> tuple[Findings, Ledger]:
    """What the inspector finds on this node, and the books, by all that was acknowledged."""
    with open_vault(folder) as vault:
        async with open_books(f"{url}&consistency=fresh", vault) as store:
            return await inspect_store(store), await store.fold(ledger)
