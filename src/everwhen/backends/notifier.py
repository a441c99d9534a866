"""Word that something was committed: a hint to look again, never the source of truth."""

from __future__ import annotations

import threading
from collections.abc import Callable


class News:
    """Wakes those who wait for commits made through this engine, in threads or event loops.

    Publishing without anyone waiting costs next to nothing: a waiter announces itself before it
    looks at ``count``, and the publisher counts before it looks for waiters, so neither misses
    the other.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._waiting = 0
        self._listeners: dict[int, Callable[[], None]] = {}

    @property
    def count(self) -> int:
        """How many times something was published; compare two readings to see a change."""
        return self._count

    def publish(self) -> None:
        """Wake everyone. Called after each commit, and when the engine closes."""
        self._count += 1
        if self._waiting:
            with self._changed:
                self._changed.notify_all()
        if self._listeners:
            with self._changed:
                listeners = list(self._listeners.values())
            for listener in listeners:
                listener()

    def wait(self, seen: int, seconds: float) -> None:
        """Return when ``count`` is no longer ``seen``, or after ``seconds``."""
        with self._changed:
            self._waiting += 1
            try:
                if self._count == seen:
                    self._changed.wait(seconds)
            finally:
                self._waiting -= 1

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener``, from any thread, at each publication. Returns how to stop it."""
        key = id(listener)
        with self._changed:
            self._listeners[key] = listener

        def stop() -> None:
            with self._changed:
                self._listeners.pop(key, None)

        return stop
