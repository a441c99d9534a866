"""How a command that goes on and on is ended: by a signal, and cleanly."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Ending:
    """Whether the command is to end, and by which signal."""

    def __init__(self) -> None:
        self.by: int | None = None
        self._ended = threading.Event()

    def end(self, by: int) -> None:
        """It is to end."""
        self.by = by
        self._ended.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it is to end, after so many seconds at most."""
        return self._ended.wait(seconds)


@contextmanager
def ended_by(*signals: signal.Signals) -> Iterator[Ending]:
    """Inside, the first of these signals asks the command to end; a second one ends it anywhere."""
    ending = Ending()
    own = {one: signal.getsignal(one) for one in signals}

    def end(number: int, _: object) -> None:
        ending.end(number)
        restore()

    def restore() -> None:
        for one, handler in own.items():
            signal.signal(one, handler)

    for one in signals:
        signal.signal(one, end)
    try:
        yield ending
    finally:
        restore()
