"""Word of what others commit: the server's notifications, with looks in between as the truth."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Final

import psycopg

from everwhen.backends.engine import WATCHED_SECONDS
from everwhen.backends.postgres.append_call import channel_of
from everwhen.backends.postgres.statements import PostgresSession, quoted, statements
from everwhen.system.threads import join
from everwhen.vocabulary.errors import EverwhenError

_LEFT_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.25
"""Where no notification comes, as through a pooler: how long until the log is looked at."""


class LogWatch:
    """Tells of commits while somebody wants to hear of them: a thread, with its own session."""

    def __init__(
        self, connect: Callable[[], PostgresSession], schema: str, publish: Callable[[], None]
    ) -> None:
        self._connect = connect
        self._schema = schema
        self._publish = publish
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._until = 0.0
        self._count = 0

    def go_on(self) -> int:
        """For a second from now on, publish what others commit; which watch this is."""
        with self._lock:
            self._until = time.monotonic() + WATCHED_SECONDS
            if self._thread is None and not self._stop.is_set():
                self._count += 1
                self._thread = threading.Thread(
                    target=self._run, name="everwhen-watch", daemon=True
                )
                self._thread.start()
            return self._count

    def stop(self) -> None:
        """End it, for good."""
        self._stop.set()
        with self._lock:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            join(thread, _LEFT_SECONDS)  # or it sits on a network that is dead

    def _run(self) -> None:
        try:
            with contextlib.closing(self._connect()) as session:
                with contextlib.suppress(psycopg.Error):  # a standby can't listen
                    session.execute(f"LISTEN {quoted(channel_of(self._schema))}")
                self._watch(session)
        except (psycopg.Error, EverwhenError):
            with self._lock:
                self._thread = None
            self._publish()  # whoever waits looks for itself, and meets the failure

    def _watch(self, session: PostgresSession) -> None:
        seen = self._head(session)
        self._publish()
        while not self._stop.is_set():
            with self._lock:
                if time.monotonic() > self._until:
                    self._thread = None
                    return
            heard = any(True for _ in session.notifies(timeout=_LOOK_SECONDS, stop_after=1))
            found = self._head(session)
            if heard or found != seen:
                seen = found
                self._publish()

    def _head(self, session: PostgresSession) -> object:
        return session.execute(statements("reading", self._schema)["head"]).fetchone()
