# Generated from src/everwhen/partitions/_async/opening.py by tools/unasync.py: edit that, then run `make sync`.
"""Opening a partitioned store, and giving it more partitions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from everwhen.backends._sync.concurrency import aside, opens
from everwhen.backends.partitioned.engine import PartitionedEngine
from everwhen.backends.partitioned.strategies import PartitionStrategy
from everwhen.codec.event_types import EventTypes
from everwhen.codec.pipeline import CodecStep
from everwhen.privacy.vault import Vault
from everwhen.store._sync.store import Store, store_over
from everwhen.vocabulary.clock import Clock, system_clock
from everwhen.vocabulary.events import EventType
from everwhen.vocabulary.personal_data import Plaintext


@opens
def open_partitioned_store(
    folder: str | os.PathLike[str],
    strategy: PartitionStrategy | None = None,
    *,
    events: EventTypes | Iterable[type[Any] | EventType[Any]] = (),
    steps: Sequence[CodecStep] = (),
    vault: Vault | Plaintext | None = None,
    clock: Clock = system_clock,
    read_only: bool = False,
    durable: bool = True,
    busy_timeout: float = 30.0,
) -> Store:
    """Open a store that lies in several files of a folder; with a strategy, make it if need be.

    `ByStream` and `ByCategory` let several processes write side by side, each to another file.
    One commit can't touch two partitions then (`InvalidCommitError`). `ByTime` and `BySize` begin a
    new file now and then, and never change the older ones. In each case positions are one line over
    all files, with holes where a writer was killed; nothing runs inline; and `Store.backup` and
    `Store.sql_connection` raise `UnsupportedError`. The other options are those of `open_store`,
    which opens a folder that is there as well.

    Raises `DeclarationError` where the folder is partitioned by another strategy, `NotAStoreError`
    where there is no store and no strategy is given, and as `open_store` does.
    """
    opening = partial(
        PartitionedEngine,
        folder,
        strategy,
        clock=clock,
        read_only=read_only,
        durable=durable,
        busy_timeout=busy_timeout,
    )
    return store_over(
        opening, events=events, steps=steps, vault=vault, clock=clock, read_only=read_only
    )


def add_partitions(
    folder: str | os.PathLike[str], partitions: int, *, busy_timeout: float = 30.0
) -> None:
    """Have a folder's store in so many partitions: by stream or by category, and more than now.

    Nothing is rewritten, and others may have the store open. Streams that are there stay where they
    are, and categories likewise; new ones go where the new number puts them. Writers wait for
    a moment. Raises `DeclarationError` for any other number, and for other strategies.
    """

    def add() -> None:
        engine = PartitionedEngine(folder, busy_timeout=busy_timeout)
        try:
            engine.grow(partitions)
        finally:
            engine.close()

    aside(add)
