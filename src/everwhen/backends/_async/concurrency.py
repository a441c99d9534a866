"""Waiting in an event loop: the one module that the two flavours don't share."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import os
import queue
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar, Final, Generic, NoReturn, ParamSpec, Protocol, TypeAlias, TypeVar

from everwhen.backends.engine import Blocking, Engine, NotFetchedError
from everwhen.backends.notifier import News
from everwhen.system.fair_lock import FairLock
from everwhen.vocabulary.contract import EncodedCommit, Outcome
from everwhen.vocabulary.errors import StoreClosedError

P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V")


class Closable(Protocol):
    """Something that can be closed."""

    async def close(self) -> None:
        """Release everything."""
        ...


S = TypeVar("S", bound=Closable)

FLAVOUR: Final = "async"
OF_THE_OTHER_FLAVOUR: Final = (
    "this is of everwhen.aio, and the store isn't; open the store with everwhen.aio.open_store, or "
    "import everything from everwhen"
)
Lock: TypeAlias = asyncio.Lock
sleep = asyncio.sleep

_GROUP: Final = 2_048
_CLOSED_SECONDS: Final = 0.05


def caller() -> object:
    """Who is running: the task here, the thread in the other flavour."""
    return asyncio.current_task()


def home() -> object:
    """Where a lock of this flavour can be shared: the event loop; anywhere in the other one."""
    return asyncio.get_running_loop()


def turn(lock: FairLock) -> AbstractAsyncContextManager[None]:
    """Nothing to say: ``alone`` says it."""
    del lock
    return contextlib.nullcontext()


@asynccontextmanager
async def alone(lock: FairLock) -> AsyncIterator[None]:
    """Hold the lock, without holding up the loop while waiting for it."""
    if lock.wanted or not lock.mutex.acquire(blocking=False):
        await _Line.of(lock).join()
    try:
        yield
    finally:
        lock.mutex.release()


class _Line:
    """The event loops' tasks that wait for a lock, in order.

    While there are any, a thread of its own waits for the lock in their place. None of a pool
    will do: those who wait would leave it to nobody, not even to the one that they wait for.
    """

    _lines: ClassVar[weakref.WeakKeyDictionary[FairLock, _Line]] = weakref.WeakKeyDictionary()
    _guard: ClassVar = threading.Lock()

    def __init__(self, lock: FairLock) -> None:
        self._lock = lock
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._is_served = False

    @classmethod
    def of(cls, lock: FairLock) -> _Line:
        """The lock's line."""
        with cls._guard:
            return cls._lines.setdefault(lock, _Line(lock))

    async def join(self) -> None:
        """Take the lock; if cancelled, it is not taken."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        with self._guard:
            self._waiting.append((loop, turn))
            is_first, self._is_served = not self._is_served, True
        if is_first:
            threading.Thread(target=self._serve, name="everwhen-lock", daemon=True).start()
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._lock.mutex.release()
            raise

    def _serve(self) -> None:
        while True:
            with self._lock.turn():
                self._lock.mutex.acquire()
            while True:
                with self._guard:
                    self._is_served = bool(self._waiting)
                    if not self._is_served:
                        self._lock.mutex.release()
                        return
                    loop, turn = self._waiting.popleft()
                if _is_given(loop, turn):
                    break


def _is_given(loop: asyncio.AbstractEventLoop, turn: asyncio.Future[None]) -> bool:
    """Whether the one that waits in that loop takes what it has waited for."""
    answered = threading.Event()
    taken = False

    def give() -> None:
        nonlocal taken
        if not turn.done():
            turn.set_result(None)
            taken = True
        answered.set()

    try:
        loop.call_soon_threadsafe(give)
    except RuntimeError:  # the loop is closed
        return False
    while not answered.wait(_CLOSED_SECONDS):
        if loop.is_closed():
            return taken
    return taken


async def aside(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of a call that may wait for a disk, or for somebody else, made beside the loop.

    It has a thread of its own, so that it takes up no place in a pool. Returns only when the call
    has ended, even if cancelled meanwhile.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result = context.run(call, *args, **kwargs)
        except BaseException as failure:  # noqa: BLE001 (raised where it is awaited)
            end: Callable[[], object] = functools.partial(_fail, ended, failure)
        else:
            end = functools.partial(ended.set_result, result)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(end)

    thread = threading.Thread(target=run, name="everwhen-aside", daemon=True)
    thread.start()
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        await asyncio.wait([ended])
        raise
    finally:
        thread.join()  # it has nothing left to do


def _fail(ended: asyncio.Future[Any], failure: BaseException) -> None:
    if isinstance(failure, StopIteration):  # which no future takes
        failure = RuntimeError("the call raised StopIteration")
    ended.set_exception(failure)


class _Ended(Exception):  # noqa: N818 (nobody sees it: the cancelled task raises its own)
    """Ends a call in a thread whose task was cancelled."""


async def telling(
    call: Callable[[Callable[[V], None]], T], listener: Callable[[V], None] | None
) -> T:
    """The result of a long call, made in a thread of its own, which reports its progress.

    ``listener`` is called in the loop. Where it raises, or the task is cancelled, the call is
    ended at its next report, and the error comes out once it has ended.
    """
    loop = asyncio.get_running_loop()
    cancelled: list[BaseException] = []

    def hear(word: V, heard: Future[None]) -> None:
        try:
            if listener is not None:
                listener(word)
        except BaseException as failure:  # noqa: BLE001 (it ends the call, and comes out of it)
            heard.set_exception(failure)
        else:
            heard.set_result(None)

    def say(word: V) -> None:
        if cancelled:
            raise cancelled[0]
        if listener is not None:
            heard: Future[None] = Future()
            loop.call_soon_threadsafe(hear, word, heard)
            heard.result()

    with ThreadPoolExecutor(1, thread_name_prefix="everwhen-long") as thread:
        running = loop.run_in_executor(thread, call, say)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError as ending:
            cancelled.append(_Ended(ending))
            await asyncio.wait([running])
            running.exception()  # it was ended by that, or came to its end all the same
            raise


Cancelled: TypeAlias = asyncio.CancelledError
"""What breaks off a call that waits."""
INTERRUPTS: Final = (Cancelled, KeyboardInterrupt, SystemExit)
"""What ends a call from outside: nothing is wrong with what it does."""


_NOT_AWAITED: Final = (
    "the store is only being opened; await it first: store = await open_store(…), or "
    "async with open_store(…) as store"
)


class Opening(Generic[S]):
    """An opening store: await it, or enter it with ``async with``."""

    def __init__(self, opening: Coroutine[Any, Any, S]) -> None:
        self._opening = opening
        self._store: S | None = None

    def __await__(self) -> Generator[Any, None, S]:
        return self._opening.__await__()

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{name}: {_NOT_AWAITED}")

    def __enter__(self) -> NoReturn:
        self._opening.close()
        raise TypeError(_NOT_AWAITED)

    def __exit__(self, *failure: object) -> None:
        """Never entered."""

    async def __aenter__(self) -> S:
        self._store = await self._opening
        return self._store

    async def __aexit__(self, *failure: object) -> None:
        if self._store is not None:
            await self._store.close()


def opens(function: Callable[P, Coroutine[Any, Any, S]]) -> Callable[P, Opening[S]]:
    """Makes what a coroutine function opens enterable at once."""

    @functools.wraps(function)
    def opening(*args: P.args, **kwargs: P.kwargs) -> Opening[S]:
        return Opening(function(*args, **kwargs))

    return opening


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4, thread_name_prefix="everwhen-read")


class Calls:
    """Runs an engine's blocking calls in a few threads of its own."""

    def __init__(self, engine: Blocking) -> None:
        self._threads = _threads() if engine.blocking else None
        self._process = os.getpid()

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The call's result."""
        if self._threads is None:
            await asyncio.sleep(0)
            return call(*args, **kwargs)
        loop = asyncio.get_running_loop()
        if os.getpid() != self._process:  # a fork: the threads are the parent's
            self._threads, self._process = _threads(), os.getpid()
        try:
            return await loop.run_in_executor(self._threads, lambda: call(*args, **kwargs))
        except RuntimeError as error:
            if self._threads._shutdown:
                raise StoreClosedError from error
            raise

    async def finish(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like ``run``, but returns only when the call has ended, even if cancelled meanwhile."""
        running = asyncio.ensure_future(self.run(call, *args, **kwargs))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise

    async def close(self) -> None:
        """Let the threads go."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)


class _Ticket:
    __slots__ = ("commits", "failure", "future", "loop", "outcomes")

    def __init__(self, commits: Sequence[EncodedCommit], loop: asyncio.AbstractEventLoop) -> None:
        self.commits = commits
        self.loop = loop
        self.future: asyncio.Future[list[Outcome]] = loop.create_future()
        self.outcomes: list[Outcome] = []
        self.failure: BaseException | None = None


class Appender:
    """Group commit: one writer thread takes what all tasks have submitted, in one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: queue.SimpleQueue[list[_Ticket] | None] = queue.SimpleQueue()
        self._gathering: dict[asyncio.AbstractEventLoop, list[_Ticket]] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="everwhen-write", daemon=True)
        if engine.blocking:
            self._thread.start()

    async def append(self, commits: Sequence[EncodedCommit]) -> list[Outcome]:
        """The outcomes, once they are durable. A task cancelled here leaves the outcome open."""
        if not self._engine.blocking:
            async with alone(self._engine.lock):
                return self._engine.write(commits)
        if self._closed:
            raise StoreClosedError
        loop = asyncio.get_running_loop()
        ticket = _Ticket(commits, loop)
        gathering = self._gathering.get(loop)
        if gathering is None:
            self._gathering[loop] = [ticket]
            loop.call_soon(self._submit, loop)
        else:
            gathering.append(ticket)
        return await ticket.future

    def _submit(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand over what the loop's tasks asked for in its last round, all together.

        Waking the writer for each would only make it compete with the loop for the interpreter.
        """
        self._waiting.put(self._gathering.pop(loop))
        if not self._thread.is_alive():
            self._refuse_latecomers()

    async def close(self) -> None:
        """Write what was submitted, then stop."""
        if not self._closed:
            self._closed = True
            if self._engine.blocking:
                await asyncio.sleep(0)  # what was gathered goes first
                self._waiting.put(None)
                await aside(self._thread.join)
                self._refuse_latecomers()

    def _refuse_latecomers(self) -> None:
        """Tell those whom another loop handed over after the last write."""
        while True:
            try:
                tickets = self._waiting.get_nowait()
            except queue.Empty:
                return
            for ticket in tickets or ():
                ticket.failure = StoreClosedError()
            self._answer(tickets or [])

    def _work(self) -> None:
        while (tickets := self._waiting.get()) is not None:
            last = False
            while len(tickets) < _GROUP:
                try:
                    more = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                    break
                tickets += more
            self._write(tickets)
            if last:
                return

    def _write(self, tickets: list[_Ticket]) -> None:
        try:
            with self._engine.lock.turn(), self._engine.lock.mutex:
                outcomes = self._engine.write([c for t in tickets for c in t.commits])
        except BaseException as failure:  # noqa: BLE001 (it goes to those who wait for it)
            if isinstance(failure, NotFetchedError) and len(tickets) > 1:
                for ticket in tickets:  # the others needn't wait for an archive
                    self._write([ticket])
                return
            for ticket in tickets:
                ticket.failure = failure
        else:
            start = 0
            for ticket in tickets:
                ticket.outcomes = outcomes[start : start + len(ticket.commits)]
                start += len(ticket.commits)
        self._answer(tickets)

    def _answer(self, tickets: list[_Ticket]) -> None:
        for loop in {ticket.loop for ticket in tickets}:
            mine = [ticket for ticket in tickets if ticket.loop is loop]
            try:
                loop.call_soon_threadsafe(_resolve, mine)
            except RuntimeError:  # the loop is closed: nobody waits any more
                continue


def _resolve(tickets: list[_Ticket]) -> None:
    for ticket in tickets:
        if ticket.future.done():
            continue
        if ticket.failure is not None:
            ticket.future.set_exception(ticket.failure)
        else:
            ticket.future.set_result(ticket.outcomes)


async def wait_for_news(news: News, seen: int, seconds: float) -> None:
    """Return when something was published since ``seen``, or after ``seconds``."""
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(woken.set)
        except RuntimeError:  # the loop is closed
            return

    stop = news.listen(wake)
    try:
        if news.count == seen:
            async with asyncio.timeout(seconds):
                await woken.wait()
    except TimeoutError:
        return
    finally:
        stop()


class Background:
    """A call that goes on beside its caller."""

    def __init__(self, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._task = asyncio.create_task(call())

    async def join(self) -> None:
        """Wait for its end. Raises what it raised."""
        await self._task
