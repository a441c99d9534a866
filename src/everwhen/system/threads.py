"""Threads that an interrupt may catch while they are being started."""

from __future__ import annotations

import threading
import time
from typing import Final

_STARTING_SECONDS: Final = 5.0
"""How long a thread may take to begin; one that an interrupt kept from it never does."""
_BETWEEN_LOOKS: Final = 0.001


def join(thread: threading.Thread, seconds: float | None = None) -> None:
    """Wait until the thread has ended, or for so many seconds.

    Ctrl-C may come out of ``Thread.start`` while the thread begins: until it has, Python's own
    ``join`` says that it wasn't started. One that never begins isn't waited for.
    """
    until = time.monotonic() + _STARTING_SECONDS
    while thread.ident is None and time.monotonic() < until:
        time.sleep(_BETWEEN_LOOKS)
    if thread.ident is not None:
        while not thread.is_alive() and thread in threading.enumerate():
            time.sleep(_BETWEEN_LOOKS)  # it has its number, and is about to say that it began
        if thread.is_alive():
            thread.join(seconds)
