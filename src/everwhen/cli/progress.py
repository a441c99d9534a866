"""Progress bars, on standard error and only where people look at it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from everwhen.cli.terminal import is_terminal, messages
from everwhen.exchange import Progress


@contextmanager
def shown(what: str) -> Iterator[Callable[[Progress], None] | None]:
    """A bar while the block runs; None, for nobody, where standard error is no terminal."""
    if not is_terminal(sys.stderr):
        yield None
        return
    from rich import progress as rich

    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.TaskProgressColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=messages(), transient=True) as bars:
        task = bars.add_task(what)

        def tell(progress: Progress) -> None:
            bars.update(
                task,
                description=f"{what}: {progress.stage}",
                completed=progress.done,
                total=progress.total,
            )

        yield tell
