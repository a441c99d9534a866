"""Waiting in a thread: the one module that the two flavours don't share."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final, ParamSpec, TypeAlias, TypeVar

from everwhen.backends.engine import Blocking, Engine, NotFetchedError
from everwhen.backends.notifier import News
from everwhen.system.fair_lock import FairLock
from everwhen.system.forks import register
from everwhen.system.gathering import Gathering
from everwhen.vocabulary.contract import EncodedCommit, Outcome
from everwhen.vocabulary.errors import StorageError

P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V")

FLAVOUR: Final = "sync"
OF_THE_OTHER_FLAVOUR: Final = (
    "the store is of everwhen.aio, and this isn't; import this from everwhen.aio too, or open the "
    "store with everwhen.open_store"
)
Lock = threading.Lock
sleep = time.sleep

_GROUP: Final = 2_048
_MAIN: Final = threading.main_thread().ident


def caller() -> object:
    """Who is running: the thread here, the task in the other flavour."""
    return threading.get_ident()


def home() -> object:
    """Where a lock of this flavour can be shared: anywhere; an event loop in the other one."""
    return None


def turn(lock: FairLock) -> AbstractContextManager[None]:
    """A place among those who want the lock. Enter it around ``alone``."""
    return lock.turn()


def alone(lock: FairLock) -> AbstractContextManager[object]:
    """To be entered to hold the lock: the mutex itself, so that no interrupt can come between."""
    return lock.mutex


def aside(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The call's result; in the other flavour it is made beside the loop."""
    return call(*args, **kwargs)


def telling(call: Callable[[Callable[[V], None]], T], listener: Callable[[V], None] | None) -> T:
    """The result of a long call which reports its progress; what ``listener`` raises ends it."""
    return call(listener if listener is not None else lambda _: None)


Cancelled: TypeAlias = KeyboardInterrupt
"""What breaks off a call that waits."""
INTERRUPTS: Final = (Cancelled, SystemExit)
"""What ends a call from outside: nothing is wrong with what it does."""


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
    __slots__ = ("commits", "done", "failure", "interruptible", "outcomes", "signal")

    def __init__(self, commits: Sequence[EncodedCommit], *, interruptible: bool) -> None:
        self.commits = commits
        self.interruptible = interruptible
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


def _torn_away(failure: BaseException) -> StorageError:
    return StorageError(
        f"the thread that was writing this commit with its own was broken off "
        f"({type(failure).__name__}), so the outcome is open; repeat it with the same commit id"
    )


class Appender:
    """Group commit without a thread of its own: whoever finds the lock free writes for all.

    A lone caller pays for no hand-over between threads. Those that come while one is writing are
    written together: the first of them leads, it waits for the lock and takes them all along.

    Only the main thread can be interrupted. So it never writes for others: they would be torn
    away with it. It writes for itself, or is taken along.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue = threading.Lock()
        self._waiting: deque[_Ticket] = deque()
        self._has_leader = False
        self._gathering = Gathering()
        register(self)

    def append(self, commits: Sequence[EncodedCommit]) -> list[Outcome]:
        """The outcomes, once they are durable."""
        lock = self._engine.lock
        mutex = lock.mutex
        if threading.get_ident() == _MAIN:
            return self._append_interruptibly(commits)
        is_alone = self._gathering.company < 2 and not self._waiting and not lock.wanted
        if is_alone and mutex.acquire(blocking=False):
            try:
                return self._engine.write(commits)
            finally:
                self._gathering.company = 1 + len(self._waiting)
                mutex.release()
        return self._append_together(commits)

    def _append_interruptibly(self, commits: Sequence[EncodedCommit]) -> list[Outcome]:
        lock = self._engine.lock
        if not self._has_leader:
            if lock.wanted or lock.mutex.locked():
                with lock.turn(), lock.mutex:
                    return self._engine.write(commits)
            with lock.mutex:
                return self._engine.write(commits)
        ticket = _Ticket(commits, interruptible=True)
        try:
            with self._queue:
                self._waiting.append(ticket)
                self._ensure_leader()
            ticket.signal.acquire()
        except BaseException:
            with self._queue:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
            raise
        return self._outcomes(ticket) if ticket.done else self._append_interruptibly(commits)

    def _append_together(self, commits: Sequence[EncodedCommit]) -> list[Outcome]:
        ticket = _Ticket(commits, interruptible=False)
        with self._queue:
            self._waiting.append(ticket)
            leads = not self._has_leader
            self._has_leader = True
        if not leads:
            ticket.signal.acquire()
        if not ticket.done:
            self._lead(ticket)
        return self._outcomes(ticket)

    def _outcomes(self, ticket: _Ticket) -> list[Outcome]:
        if ticket.failure is not None:
            raise ticket.failure
        return ticket.outcomes

    def _lead(self, mine: _Ticket) -> None:
        lock = self._engine.lock
        leads = False
        try:
            with lock.turn(), lock.mutex:
                leads = True
                self._gathering.wait(self._waiting.__len__)
                group = self._group()
                self._write(group, mine)
                self._gathering.ended(len(group) + len(self._waiting))
        finally:
            if not leads:
                with self._queue:
                    self._waiting.remove(mine)
                    self._choose_leader()

    def _group(self) -> list[_Ticket]:
        """Those who are written now. One of those who are left leads the next."""
        group: list[_Ticket] = []
        size = 0
        with self._queue:
            while self._waiting and size < _GROUP:
                group.append(self._waiting.popleft())
                size += len(group[-1].commits)
            self._choose_leader()
        return group

    def _ensure_leader(self) -> None:
        if not self._has_leader:
            self._choose_leader()

    def _choose_leader(self) -> None:
        leader = next((one for one in self._waiting if not one.interruptible), None)
        self._has_leader = leader is not None
        if leader is not None:
            leader.wake()
            return
        while self._waiting:  # it writes for itself
            self._waiting.popleft().wake()

    def _write(self, tickets: list[_Ticket], mine: _Ticket) -> None:
        try:
            outcomes = self._engine.write([c for t in tickets for c in t.commits])
            start = 0
            for ticket in tickets:
                ticket.outcomes = outcomes[start : start + len(ticket.commits)]
                start += len(ticket.commits)
        except BaseException as failure:  # noqa: BLE001 (it goes to those who wait for it)
            if isinstance(failure, NotFetchedError) and len(tickets) > 1:
                for ticket in tickets:  # the others needn't wait for an archive
                    self._write([ticket], mine)
                return
            for ticket in tickets:
                is_theirs = ticket is mine or isinstance(failure, Exception)
                ticket.failure = failure if is_theirs else _torn_away(failure)
        finally:
            for ticket in tickets:
                ticket.done = True
                ticket.wake()

    def close(self) -> None:
        """Nothing is held."""

    # A child has nobody who waits

    def hold(self, seconds: float) -> bool:
        """Nothing is held."""
        del seconds
        return True

    def resume(self) -> None:
        """Nothing was held."""

    def forked(self, *, quiet: bool) -> None:
        """Whoever waits does so in the parent."""
        del quiet
        self._queue = threading.Lock()
        self._waiting.clear()
        self._has_leader = False


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
