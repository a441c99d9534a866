"""Noticing what other processes write: one look at the sequencer's page for all who wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from everwhen.backends.engine import WATCHED_SECONDS
from everwhen.system.threads import join
from everwhen.vocabulary.errors import EverwhenError

_LOOK_SECONDS: Final = 0.01
"""How long after another process's commit those who wait hear of it, at most."""


class PageWatch:
    """A thread that publishes that more is settled, while somebody wants to know."""

    def __init__(self, settled: Callable[[], int], publish: Callable[[], None]) -> None:
        self._settled = settled
        self._publish = publish
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._until = 0.0
        self._round = 0
        self._thread: threading.Thread | None = None

    def go_on(self) -> int:
        """Watch from now on, for a while; the number of this watch, which has no gaps."""
        with self._lock:
            self._until = time.monotonic() + WATCHED_SECONDS
            if self._thread is None and not self._stop.is_set():
                seen = self._settled()  # before the caller looks
                self._round += 1
                self._thread = threading.Thread(
                    target=self._watch, args=(seen,), name="everwhen-watch", daemon=True
                )
                self._thread.start()
            return self._round

    def stop(self) -> None:
        """End it, for good."""
        self._stop.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            join(thread)

    def _watch(self, seen: int) -> None:
        try:
            while not self._stop.wait(_LOOK_SECONDS):
                with self._lock:
                    if time.monotonic() > self._until:
                        self._thread = None
                        return
                found = self._settled()
                if found != seen:
                    seen = found
                    self._publish()
        except (EverwhenError, OSError):  # those who wait look themselves, and get the error
            pass
        with self._lock:
            self._thread = None
        self._publish()
