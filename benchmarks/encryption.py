"""What encryption costs: appends of an event with two fields, personal or not.

    python -m benchmarks.encryption [--quick] [--json FILE]

On SQLite files with the defaults, durable. Both stores get the same values of the same shape; in
one of them name and e-mail are personal, of a thousand subjects whose keys are made before. Rounds
are taken in turn; figures are medians, and what counts are the ratios of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

from everwhen import Commit, Event, KeyFile, Personal, Vault, Write, aio, open_store

SUBJECTS = 1_000
CLIENTS = 64


class Plain(Event):
    player: str
    name: str
    email: str
    amount: int


class Sealed(Event):
    data_subject: ClassVar[str] = "player"

    player: str
    name: Personal[str]
    email: Personal[str]
    amount: int


def made(kind: Any, number: int) -> Any:
    """The event of that number."""
    who = number % SUBJECTS
    return kind(f"p{who}", f"Player Number {who}", f"player.{who}@example.org", number)


async def at_once(path: Path, kind: Any, events: int, vault: Vault) -> float:
    """Events a second, one durable append each, from 64 tasks."""
    async with await aio.open_store(path, events=[kind], vault=vault) as store:

        async def client(first: int) -> None:
            for number in range(first, events, CLIENTS):
                await store.append(f"s-{number % SUBJECTS}", [made(kind, number)])

        began = time.perf_counter()
        await asyncio.gather(*(client(first) for first in range(CLIENTS)))
        return events / (time.perf_counter() - began)


def bulk(path: Path, kind: Any, events: int, vault: Vault) -> float:
    """Events a second, in commits of a thousand."""
    batch = [
        Commit([Write("s", [made(kind, first + i) for i in range(1_000)])])
        for first in range(0, events, 1_000)
    ]
    with open_store(path, events=[kind], vault=vault) as store:
        began = time.perf_counter()
        for commit in batch:
            store.commit(commit)
        return events / (time.perf_counter() - began)


def read(path: Path, kind: Any, events: int, vault: Vault) -> float:
    """Events a second, typed."""
    with open_store(path, events=[kind], vault=vault) as store:
        began = time.perf_counter()
        found = sum(len([e.event for e in page]) for page in store.read_pages())
        assert found == events
        return events / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    events, rounds = (4_000, 2) if given.quick else (20_000, 5)
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Vault(folder / "vault", KeyFile.create(folder / "key")) as vault:
            for subject in range(SUBJECTS):
                vault.newest(f"p{subject}")
            for turn in range(rounds):
                for kind in (Plain, Sealed):
                    what = kind.__name__.lower()
                    file = folder / f"{what}-{turn}.db"
                    rate = asyncio.run(at_once(file, kind, events, vault))
                    taken.setdefault(f"64 clients, {what}", []).append(rate)
                    file = folder / f"{what}-{turn}-bulk.db"
                    taken.setdefault(f"bulk, {what}", []).append(bulk(file, kind, events, vault))
                    taken.setdefault(f"read, {what}", []).append(read(file, kind, events, vault))
    figures = {line: statistics.median(rates) for line, rates in taken.items()}
    for line in ("64 clients", "bulk", "read"):
        plain, sealed = figures[f"{line}, plain"], figures[f"{line}, sealed"]
        print(f"{line:12} {plain:12,.0f} {sealed:12,.0f} {sealed / plain:6.2f}")
    if given.json:
        given.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
