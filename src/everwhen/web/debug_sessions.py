"""Debuggers that callers have open: each at its place in history until it is idle for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from uuid import uuid4

from everwhen.debugging import InterruptedSearchError, Session
from everwhen.web.machines import AnyMachine
from everwhen.web.problems import TOO_MANY, UNAVAILABLE, UNKNOWN, ProblemError

_IDLE_SECONDS: Final = 600
_MAX_OF_CALLER: Final = 4
_MAX_SESSIONS: Final = 32
"""Of all callers: each holds the windows of one state."""
_MOVE_SECONDS: Final = 30
"""A movement may take as long; then it is broken off, and the session stays where it was."""


class DebugSession:
    """One caller's session, for one request at a time."""

    def __init__(self, owner: str | None, machine: AnyMachine) -> None:
        self.id = str(uuid4())
        self.owner = owner
        self.used_at = time.monotonic()
        self.session = Session(machine)
        self._lock = threading.Lock()

    @property
    def is_idle(self) -> bool:
        """Whether nobody has used it for long, or does now."""
        return not self._lock.locked() and time.monotonic() - self.used_at > _IDLE_SECONDS

    @contextmanager
    def used(self) -> Iterator[Session]:
        """The session, to be moved. Raises `ProblemError` while it moves, or takes too long."""
        if not self._lock.acquire(blocking=False):
            raise ProblemError(TOO_MANY, f"session {self.id} is moving; wait until it has stopped")
        limit = threading.Timer(_MOVE_SECONDS, self.session.interrupt)
        limit.daemon = True
        limit.start()
        try:
            yield self.session
        except InterruptedSearchError as error:
            raise ProblemError(
                UNAVAILABLE, f"that took more than {_MOVE_SECONDS} s, or the session was deleted"
            ) from error
        finally:
            limit.cancel()
            self.session.forget_interrupt()
            self.used_at = time.monotonic()
            self._lock.release()


class DebugSessions:
    """The sessions of all callers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_id: dict[str, DebugSession] = {}

    def open(self, owner: str | None, machine: AnyMachine) -> DebugSession:
        """A new one. Raises `ProblemError` where the caller, or all together, have too many."""
        with self._lock:
            self._forget_idle()
            own = [one.id for one in self._by_id.values() if one.owner == owner]
            if len(own) >= _MAX_OF_CALLER:
                raise ProblemError(
                    TOO_MANY, f"you have {len(own)} debug sessions; delete one: {', '.join(own)}"
                )
            if len(self._by_id) >= _MAX_SESSIONS:
                raise ProblemError(TOO_MANY, "too many debug sessions are open; try again later")
            found = DebugSession(owner, machine)
            self._by_id[found.id] = found
            return found

    def get(self, owner: str | None, id_: str) -> DebugSession:
        """One of the caller's own. Raises `ProblemError`."""
        with self._lock:
            self._forget_idle()
            found = self._by_id.get(id_)
        if found is None or found.owner != owner:
            raise ProblemError(
                UNKNOWN,
                f"you have no debug session {id_[:60]!r}; one that is idle for 10 minutes ends",
            )
        return found

    def delete(self, owner: str | None, id_: str) -> None:
        """End one, also while it moves. Raises `ProblemError`."""
        found = self.get(owner, id_)
        with self._lock:
            self._by_id.pop(id_, None)
        found.session.interrupt()

    def close(self) -> None:
        """End them all."""
        for one in list(self._by_id.values()):
            one.session.interrupt()

    def _forget_idle(self) -> None:
        for one in [one for one in self._by_id.values() if one.is_idle]:
            del self._by_id[one.id]
