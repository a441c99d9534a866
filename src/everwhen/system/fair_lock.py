"""A lock between threads and event loops that is handed over to those who wait for it.

What holds the lock is a mutex of the interpreter's own: it is entered with ``with``, the one way
that an interrupt (Ctrl-C, a signal's handler) can't come between taking a lock and the promise to
release it. Fairness comes on top of that: a thread that wants the lock registers, and one that
comes while the mutex is free, though another has registered, steps aside for a moment. It waits no
longer than that, so a thread that was cut off by an interrupt holds nobody up.
"""

from __future__ import annotations

import threading
import time
from typing import Final

_ASIDE_SECONDS: Final = 0.000_05
"""Shorter than a commit, so that stepping aside costs little when nobody comes."""
_PATIENCE_SECONDS: Final = 0.01
"""A thread that was woken runs long before that; one that was interrupted never does."""


class FairLock:
    """Enter it with ``with lock.turn(), lock.mutex:``."""

    __slots__ = ("__weakref__", "_wanted", "mutex")

    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self._wanted: set[object] = set()

    @property
    def wanted(self) -> bool:
        """Whether somebody has a turn: waits for the mutex, or holds it."""
        return bool(self._wanted)

    def turn(self) -> Turn:
        """Says, as long as it is entered, that somebody wants the lock."""
        return Turn(self)

    def step_aside(self) -> None:
        """Let those go first who have been waiting, once the mutex is free for them."""
        waiting = set(self._wanted)
        until = time.monotonic() + _PATIENCE_SECONDS
        while waiting & self._wanted and not self.mutex.locked():
            if time.monotonic() > until:
                self._wanted -= waiting  # cut off by an interrupt
                return
            time.sleep(_ASIDE_SECONDS)


class Turn:
    """A place among those who want a lock."""

    __slots__ = ("_lock",)

    def __init__(self, lock: FairLock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        lock = self._lock
        if lock._wanted:
            lock.step_aside()
        lock._wanted.add(self)

    def __exit__(self, *failure: object) -> None:
        self._lock._wanted.discard(self)
