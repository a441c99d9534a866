"""Word of what others commit: the server answers once there is something new."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from everwhen.backends.engine import WATCHED_SECONDS
from everwhen.backends.remote.messages import MAX_WAIT_SECONDS
from everwhen.system.threads import join
from everwhen.vocabulary.errors import EverwhenError

_LEFT_SECONDS: Final = 2.0


class ServerWatch:
    """Tells of commits while somebody wants to hear of them: a thread, with its own connection.

    ``head_after`` waits for so many seconds for an event after a position, and returns the head.
    """

    def __init__(
        self, head_after: Callable[[int, float], int], publish: Callable[[], None]
    ) -> None:
        self._head_after = head_after
        self._publish = publish
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._until = 0.0
        self._count = 0
        self._is_over = False

    def go_on(self) -> int:
        """For a second from now on, publish what others commit; which watch this is."""
        with self._lock:
            self._until = time.monotonic() + WATCHED_SECONDS
            if self._thread is None and not self._is_over:
                self._count += 1
                self._thread = threading.Thread(
                    target=self._run, name="everwhen-watch", daemon=True
                )
                self._thread.start()
            return self._count

    def stop(self) -> None:
        """End it, for good, once the connections are closed."""
        with self._lock:
            self._is_over = True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            join(thread, _LEFT_SECONDS)

    def _run(self) -> None:
        try:
            seen = self._head_after(0, 0)
            self._publish()
            while self._is_wanted():
                found = self._head_after(seen, MAX_WAIT_SECONDS)
                if found != seen:
                    seen = found
                    self._publish()
        except EverwhenError:
            with self._lock:
                self._thread = None
            self._publish()  # whoever waits looks for itself, and meets the failure

    def _is_wanted(self) -> bool:
        with self._lock:
            is_wanted = not self._is_over and time.monotonic() <= self._until
            if not is_wanted:
                self._thread = None
            return is_wanted
