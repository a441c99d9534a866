"""Waiting in a thread: the one module that the two flavours don't share."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, ParamSpec, TypeAlias, TypeVar

from everwhen.contract import EncodedCommit, Outcome
from everwhen.engine import Blocking, Engine
from everwhen.news import News

P = ParamSpec("P")
T = TypeVar("T")

FLAVOUR: Final = "sync"
OF_THE_OTHER_FLAVOUR: Final = (
    "the store is of everwhen.aio, and this isn't; import this from everwhen.aio too, or open the "
    "store with everwhen.open_store"
)
Lock = threading.Lock
sleep = time.sleep

_GROUP: Final = 2_048


def caller() -> object:
    """Who is running: the thread here, the task in the other flavour."""
    return threading.get_ident()


def home() -> object:
    """Where a lock of this flavour can be shared: anywhere; an event loop in the other one."""
    return None


def acquire(lock: threading.Lock) -> None:
    """Take the lock."""
    lock.acquire()


def aside(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The call's result; in the other flavour it is made beside the loop."""
    return call(*args, **kwargs)


Cancelled: TypeAlias = KeyboardInterrupt
"""What breaks off a call that waits."""


def opens(function: Callable[P, T]) -> Callable[P, T]:
    """Nothing to add: a store is enterable once it is open."""
    return function


class Calls:
    """Runs an engine's calls right here: the caller's thread may wait."""

    def __init__(self, engine: Blocking) -> None:
        del engine

    def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The call's result."""
        return call(*args, **kwargs)

    finish = run

    def close(self) -> None:
        """Nothing is held."""


class _Ticket:
    __slots__ = ("commits", "done", "failure", "outcomes", "signal")

    def __init__(self, commits: Sequence[EncodedCommit]) -> None:
        self.commits = commits
        self.done = False
        self.outcomes: list[Outcome] = []
        self.failure: BaseException | None = None
        self.signal = threading.Lock()
        self.signal.acquire()

    def wake(self) -> None:
        try:
            self.signal.release()
        except RuntimeError:  # woken already
            return


class Appender:
    """Group commit without a thread of its own: whoever finds the lock free writes for all.

    A lone caller pays for no hand-over between threads. Under load, the callers that come while
    one is writing are written together by the next.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: deque[_Ticket] = deque()

    def append(self, commits: Sequence[EncodedCommit]) -> list[Outcome]:
        """The outcomes, once they are durable."""
        lock = self._engine.lock
        if not self._waiting and lock.acquire(blocking=False):
            try:
                return self._engine.write(commits)
            finally:
                lock.release()
                self.hand_over()
        return self._append_together(commits)

    def _append_together(self, commits: Sequence[EncodedCommit]) -> list[Outcome]:
        ticket = _Ticket(commits)
        self._waiting.append(ticket)
        lock = self._engine.lock
        while not ticket.done:
            if lock.acquire(blocking=False):
                try:
                    self._write()
                finally:
                    lock.release()
                    self.hand_over()
            else:
                self._wait(ticket)
        if ticket.failure is not None:
            raise ticket.failure
        return ticket.outcomes

    def close(self) -> None:
        """Nothing is held."""

    def hand_over(self) -> None:
        """Let the first of those who came too late for the last write lead the next one."""
        if self._waiting:
            try:
                self._waiting[0].wake()
            except IndexError:  # another took it in the meantime
                return

    def _wait(self, ticket: _Ticket) -> None:
        try:
            ticket.signal.acquire()
        except BaseException:  # interrupted: don't leave a leader in the queue who won't lead
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            self.hand_over()
            raise

    def _write(self) -> None:
        tickets: list[_Ticket] = []
        size = 0
        while self._waiting and size < _GROUP:
            ticket = self._waiting.popleft()
            tickets.append(ticket)
            size += len(ticket.commits)
        try:
            outcomes = self._engine.write([c for t in tickets for c in t.commits])
        except BaseException as failure:
            for ticket in tickets:
                ticket.failure = failure
            if not isinstance(failure, Exception):
                raise
        else:
            start = 0
            for ticket in tickets:
                ticket.outcomes = outcomes[start : start + len(ticket.commits)]
                start += len(ticket.commits)
        finally:
            for ticket in tickets:
                ticket.done = True
                ticket.wake()


def wait_for_news(news: News, seen: int, seconds: float) -> None:
    """Return when something was published since ``seen``, or after so many seconds."""
    news.wait(seen, seconds)


class Background:
    """A call that goes on beside its caller."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="everwhen-background", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._call()
        except BaseException as failure:  # noqa: BLE001 (raised where it is joined)
            self._failure = failure

    def join(self) -> None:
        """Wait for its end. Raises what it raised."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure
