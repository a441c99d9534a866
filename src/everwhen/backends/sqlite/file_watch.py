"""Noticing what other processes commit: one look at the file for all who wait."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import apsw

from everwhen.backends.engine import WATCHED_SECONDS
from everwhen.backends.sqlite.connection import is_outdated
from everwhen.system.forks import Inside
from everwhen.system.threads import join
from everwhen.vocabulary.errors import EverwhenError

_LOOK_SECONDS: Final = 0.01
"""How long after another process's commit those who wait hear of it, at most: nobody feels it,
and a hundred looks a second cost next to nothing."""


class Watch:
    """A thread that publishes that the file has changed, while somebody wants to know.

    It asks SQLite for a counter in shared memory: that costs microseconds, and no disk.
    """

    def __init__(
        self,
        connect: Callable[[], apsw.Connection],
        publish: Callable[[], None],
        inside: Inside,
    ) -> None:
        self.connections: list[apsw.Connection] = []
        self._connect = connect
        self._publish = publish
        self._inside = inside
        self._lock = threading.Lock()
        self._until = 0.0
        self._round = 0
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def go_on(self) -> int:
        """Watch from now on, for a while; the number of this watch, which has no gaps."""
        with self._lock:
            self._until = time.monotonic() + WATCHED_SECONDS
            if self._thread is None and not self._stopped:
                self.connections.append(connection := self._connect())
                version = _version_of(connection)  # before the caller looks
                self._round += 1
                self._thread = threading.Thread(
                    target=self._watch,
                    args=(connection, version),
                    name="everwhen-watch",
                    daemon=True,
                )
                self._thread.start()
            return self._round

    def stop(self) -> None:
        """End it, for good; its connection is closed when this returns."""
        with self._lock:
            self._stopped = True
            thread = self._thread
        self._stop.set()
        if thread is not None:
            join(thread)

    def _watch(self, connection: apsw.Connection, version: int) -> None:
        try:
            while not self._stop.wait(_LOOK_SECONDS):
                with self._lock:
                    if time.monotonic() > self._until:
                        self._thread = None
                        return
                with self._looking():
                    if is_outdated(connection):
                        connection = self._another(connection)
                        self._publish()
                    found = _version_of(connection)
                if found != version:
                    version = found
                    self._publish()
        except (
            apsw.Error,
            EverwhenError,
            OSError,
        ):  # those who wait look themselves, and get the error
            pass
        finally:
            with self._looking(), contextlib.suppress(apsw.Error):
                self._close(connection)
        with self._lock:
            self._thread = None
        self._publish()

    def _another(self, connection: apsw.Connection) -> apsw.Connection:
        self._close(connection)
        self.connections.append(connection := self._connect())
        return connection

    def _close(self, connection: apsw.Connection) -> None:
        connection.close()
        self.connections.remove(connection)

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """No fork comes in between."""
        token = object()
        try:
            self._inside.enter(token)
            yield
        finally:
            self._inside.leave(token)


def _version_of(connection: apsw.Connection) -> int:
    """What changes with every commit of another connection; it is read from shared memory."""
    return int(connection.pragma("data_version"))
