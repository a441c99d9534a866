"""Progress bars, on standard error and only where people look at it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

import msgspec

from everwhen.cli.output import erased_by, is_terminal, messages
from everwhen.cluster import ReplicaProgress
from everwhen.exchange import ExchangeProgress
from everwhen.store import BackupProgress
from everwhen.vocabulary import CheckProgress


class TierProgress(msgspec.Struct, frozen=True):
    """How far work on old history has come: in positions, or in bytes."""

    stage: str
    done: int
    total: int


_Progress: TypeAlias = (
    ExchangeProgress | BackupProgress | CheckProgress | TierProgress | ReplicaProgress
)

_PATIENCE: Final = 0.3
_APART: Final = 0.1


@contextmanager
def shown(
    what: str,
) -> Iterator[Callable[[_Progress], None] | None]:
    """A bar while the block runs; None, for nobody, where standard error is no terminal.

    It comes once the work takes a while, and goes whenever something is written, so that it never
    stands in the middle of results.
    """
    if not is_terminal(sys.stderr):
        yield None
        return
    from rich import progress as rich

    columns = (
        rich.TextColumn("{task.description}", markup=False),
        rich.BarColumn(),
        rich.TaskProgressColumn(),
        rich.TimeRemainingColumn(),
    )
    bars = rich.Progress(*columns, console=messages(), transient=True, auto_refresh=False)
    task = bars.add_task(what)
    next_look = time.monotonic() + _PATIENCE

    def tell(progress: _Progress) -> None:
        nonlocal next_look
        bars.update(
            task,
            description=f"{what}: {progress.stage}",
            completed=progress.done,
            total=progress.total,
        )
        if time.monotonic() >= next_look:
            next_look = time.monotonic() + _APART
            bars.start()
            bars.refresh()

    with erased_by(bars.stop):
        try:
            yield tell
        finally:
            bars.stop()
