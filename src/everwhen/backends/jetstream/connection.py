"""A connection to the cluster, for threads: nats-py runs in one thread with an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.backends.jetstream.open_requests import OpenRequest, OpenRequests
from everwhen.backends.jetstream.ways_in import needs_tls, ways_in
from everwhen.vocabulary.errors import StorageError, StoreClosedError

R = TypeVar("R")
T = TypeVar("T")

_CONNECTING_SECONDS: Final = 2
_BETWEEN_CONNECTIONS: Final = 0.1
_PING_SECONDS: Final = 2
"""How often a server is asked whether it is there; after two pings without an answer it isn't."""
_CLOSING_SECONDS: Final = 5.0
_TRUSTED_SECONDS: Final = 4.0
"""For how long a server is asked in vain before another one is taken. Of three, the first has its
turn again after 12 s: later than the others have elected a leader, for which they take up to 9."""
_OPTIONS: Final[dict[str, Any]] = {
    "connect_timeout": _CONNECTING_SECONDS,
    "max_reconnect_attempts": -1,
    "allow_reconnect": True,
    "reconnect_time_wait": _BETWEEN_CONNECTIONS,
    "ping_interval": _PING_SECONDS,
    "max_outstanding_pings": 2,
    "dont_randomize": True,  # or the next server may be the same one
    "no_echo": True,  # the logs that share a connection have one file where they have one subject
}
_REMEMBERED: Final = 64
"""The latest failures to connect that are looked at; a cluster has fewer servers."""
_REPLIES: Final = "_INBOX."
_INBOX: Final = "_inbox"
_DENIED_SUBJECT: Final = re.compile(r'permissions violation for \w+ to "([^"]+)"')
"""In the small letters that the library makes of what servers say."""
_DENIALS: Final = (
    "authorization",
    "authentication expired",
    "authentication revoked",
    "tls required",
)
"""What servers say to those whom they don't let in."""
_BROKEN_OFF: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


class UnansweredError(StorageError):
    """Nobody answered: what was asked for may be done, be done later, or never."""


class DeniedError(StorageError):
    """The servers don't let this user in, or not do that; trying again doesn't help."""


class NotEncryptedError(NatsError):
    """A server doesn't speak TLS, or somebody on the way says that it doesn't."""

    def __str__(self) -> str:
        return "the server offers no TLS"


class _Listener(NamedTuple):
    subject: str
    hear: Callable[[Msg], Awaitable[None]]

    async def subscribed(self, client: Client) -> Subscription:
        return await client.subscribe(self.subject, cb=self.hear)


class _Client(Client):
    """Says to a server who it is only over TLS, where the URL says so, and waits for none to end.

    The library itself goes on in the clear where the server's first line, which comes in the clear,
    doesn't ask for TLS.
    """

    needs_tls = False

    async def _process_info(self, info: dict[str, Any], *args: Any, **named: Any) -> None:
        if self.needs_tls and self.is_connecting and not info.get("tls_required"):
            raise NotEncryptedError
        await super()._process_info(info, *args, **named)

    async def _attempt_reconnect(self) -> None:
        """Give up what is under way: a server that can't be reached would never have taken it."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        await super()._attempt_reconnect()

    def drop_connection(self) -> None:
        """Close what an attempt that failed has opened: the library forgets it."""
        if self._transport is not None:
            self._transport.close()  # type: ignore[no-untyped-call]


class Connection:
    """Shared by the logs of a store that one process has open. Each calls ``close`` once."""

    def __init__(self, address: ClusterAddress, patience: float) -> None:
        self._address = address
        self._ways_in = ways_in(address)
        self._patience = patience
        self._place = address.place
        self._users = 1
        self._users_lock = threading.Lock()
        self._denials: dict[str, str] = {}
        self._failures: deque[Exception] = deque(maxlen=_REMEMBERED)
        self._listening: dict[_Listener, Subscription] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reviving = asyncio.Lock()
        self._trusted_at = 0.0
        """When the server was last taken, or last proved that it reaches a majority."""
        self.servers_taken = 0
        """How often a server was taken: as long as that stays, one and the same has answered."""
        self._failing_since = self._failed_at = 0.0
        """When the tries began that have failed one after the other, and when the latest did."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="everwhen-nats", daemon=True
        )
        self._thread.start()
        try:
            self._client: Client = self._call(self._connected())
            self._open_requests = OpenRequests(self._client.new_inbox(), self._explained)
            self.listen(f"{self._open_requests.inbox}.*", self._open_requests.hear)
        except BaseException:
            self._end()
            raise

    def share(self) -> Connection:
        """The same one, for one more user."""
        with self._users_lock:
            self._users += 1
        return self

    @property
    def max_payload(self) -> int:
        """The most bytes that a message may have."""
        return int(self._client.max_payload)

    def request(
        self, subject: str, data: bytes, seconds: float, headers: dict[str, str] | None = None
    ) -> Msg:
        """The answer. Raises `UnansweredError` where none comes."""
        request = OpenRequest(subject, seconds)
        self._hand_over(self._begin, self._ask(request, data, headers))
        with self._answering():
            return request.answer.result()

    async def _ask(self, request: OpenRequest, data: bytes, headers: dict[str, str] | None) -> None:
        try:
            client = await self._living()
            self._denials.pop(request.subject.lower(), None)
            reply = self._open_requests.add(request)
            await client.publish(request.subject, data, reply=reply, headers=headers)
            self._open_requests.limit(request)
        except Exception as error:  # noqa: BLE001 (it goes to the thread that waits)
            self._open_requests.end(request, error)

    def _explained(self, request: OpenRequest, error: Exception) -> Exception:
        """What the servers have said of it, if anything; else the error itself."""
        if isinstance(error, NatsError):
            try:
                self._check_allowed(request.subject)
            except StorageError as said:
                return said
        return error

    def _check_allowed(self, subject: str) -> None:
        """Raises `DeniedError` where a server has said that it isn't."""
        if not self._client.is_connected and self._is_denied():
            raise self._unconnected()
        said = self._denials.get(subject.lower()) or self._denials.get(_INBOX)
        if said is not None:
            store, stream = self._address.store, self._address.stream
            raise DeniedError(
                f"{self._place}: the servers don't let this user do that ({said}); give the user "
                f"the permissions to publish on ew.{store}.>, $JS.API.>, $JS.FC.>, $O.{stream}.> "
                f"and _INBOX.>, and to subscribe on ew.{store}.> and _INBOX.>"
            )

    def requests(self, subject: str, data: bytes, seconds: float) -> list[Msg]:
        """All answers to one question, up to the one that says that there are no more.

        Raises `UnansweredError` where they break off.
        """
        return self._call(self._requests(subject, data, seconds))

    async def _requests(self, subject: str, data: bytes, seconds: float) -> list[Msg]:
        found: list[Msg] = []
        try:
            async with self._asking(subject, data) as answers:
                while True:
                    answer = await answers.next_msg(seconds)
                    found.append(answer)
                    if (answer.headers or {}).get("Status"):
                        return found
        except NatsError:
            self._check_allowed(subject)
            raise

    @asynccontextmanager
    async def _asking(self, subject: str, data: bytes) -> AsyncIterator[Subscription]:
        """Ask a question that may have several answers; where they come."""
        client = await self._living()
        self._denials.pop(subject.lower(), None)
        inbox = client.new_inbox()
        answers = await client.subscribe(inbox)
        try:
            await client.publish(subject, data, reply=inbox)
            yield answers
        finally:
            await answers.unsubscribe()

    def ask_all(self, subject: str, seconds: float, is_enough: Callable[[bytes], bool]) -> None:
        """Ask all who listen; ``is_enough`` is called with each answer, and says when to end.

        Raises `UnansweredError` where it can't be asked, and `DeniedError` where it may not.
        """
        self._call(self._asked_all(subject, seconds, is_enough))

    async def _asked_all(
        self, subject: str, seconds: float, is_enough: Callable[[bytes], bool]
    ) -> None:
        until = self._loop.time() + seconds
        async with self._asking(subject, b"") as answers:
            with contextlib.suppress(TimeoutError):
                while True:
                    answer = await answers.next_msg(max(0.001, until - self._loop.time()))
                    if (answer.headers or {}).get("Status") or is_enough(answer.data):
                        return  # nobody listens, or all have answered
        self._check_allowed(subject)

    def in_jetstream(self, work: Callable[[JetStreamContext], Coroutine[Any, Any, T]]) -> T:
        """What work by nats-py's own calls returns. Raises `UnansweredError` where one fails."""
        return self._call(self._in_jetstream(work))

    async def _in_jetstream(self, work: Callable[[JetStreamContext], Coroutine[Any, Any, T]]) -> T:
        return await work((await self._living()).jetstream())

    def trust(self) -> None:
        """Say that the server has just proved that it reaches a majority of the others."""
        self._trusted_at = time.monotonic()

    @property
    def is_trusted(self) -> bool:
        """Whether that was some seconds ago at most, or a server was taken since."""
        return time.monotonic() - self._trusted_at <= _TRUSTED_SECONDS

    def pause(self, seconds: float, since: float) -> None:
        """Wait, before what has failed since that moment is tried again.

        Another server is taken where this one has proved nothing for some seconds of failing, of
        this and of what was tried just before. It may be parted from the others, and answer pings,
        even questions, all the same. What others are asking meanwhile may go unanswered.
        """
        with contextlib.suppress(UnansweredError):
            self._call(self._doubted(since))
        time.sleep(seconds)

    async def _doubted(self, since: float) -> None:
        now = time.monotonic()
        if now - self._failed_at > 2 * _TRUSTED_SECONDS:  # nothing was tried meanwhile
            self._failing_since = since
        self._failed_at = now
        for_long = now - max(self._failing_since, self._trusted_at) > _TRUSTED_SECONDS
        if for_long and len(self._client.servers) > 1:
            self._trusted_at = now
            await self._client.force_reconnect()

    def say(self, subject: str, data: bytes) -> None:
        """Publish something that may be lost. Doesn't wait."""
        work = self._said(subject, data)
        try:
            self._begin(work)
        except RuntimeError:  # the loop is closed
            work.close()

    def answer(self, message: Msg, data: bytes) -> None:
        """Say it to whoever sent the message, where that listens as those do who ask."""
        if message.reply.startswith(_REPLIES):  # nobody has this node write into a log
            self.say(message.reply, data)

    async def _said(self, subject: str, data: bytes) -> None:
        with contextlib.suppress(NatsError):
            await self._client.publish(subject, data)

    def listen(self, subject: str, heard: Callable[[Msg], None]) -> Callable[[], None]:
        """Call ``heard``, which doesn't wait, for each message. Returns how to stop it."""

        async def hear(message: Msg) -> None:
            heard(message)

        listener = _Listener(subject, hear)

        async def start() -> None:
            self._listening[listener] = await listener.subscribed(self._client)

        async def end() -> None:
            listening = self._listening.pop(listener, None)
            if listening is not None:
                await listening.unsubscribe()

        def stop() -> None:
            with contextlib.suppress(StorageError, StoreClosedError):
                self._call(end())

        self._call(start())
        return stop

    async def _living(self) -> Client:
        """The client; a new one where a server has ended the old one for good.

        That is what it does where a user's time is over, or the user was taken away meanwhile. The
        library doesn't try again by itself.
        """
        async with self._reviving:
            if self._client.is_closed and self._users:
                self._client = await self._connected()
                for listener in self._listening:
                    self._listening[listener] = await listener.subscribed(self._client)
            return self._client

    async def _connected(self) -> Client:
        """A client that is in. Raises `DeniedError` where the servers don't want it."""
        client = _Client()
        client.needs_tls = needs_tls(self._address)
        is_denied = asyncio.Event()
        self._failures.clear()

        async def fail(error: Exception) -> None:
            self._note(error)
            if not client.is_connected:
                client.drop_connection()
                self._failures.append(error)
                if self._is_denied():
                    is_denied.set()

        async def take() -> None:
            self._failures.clear()
            self.servers_taken += 1
            self.trust()

        servers = [f"{self._address.scheme}://{server}" for server in self._address.servers]
        random.shuffle(servers)
        options = {**_OPTIONS, **self._ways_in, "error_cb": fail, "reconnected_cb": take}
        connecting = asyncio.ensure_future(client.connect(servers, **options))
        denied = asyncio.ensure_future(is_denied.wait())
        done, waiting = await asyncio.wait(
            (connecting, denied), timeout=self._patience, return_when=asyncio.FIRST_COMPLETED
        )
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        if connecting not in done:
            client.drop_connection()
            raise self._unconnected()
        await connecting
        await take()
        return client

    def _is_denied(self) -> bool:
        """Whether all servers have been asked since it was last connected, and one said no."""
        is_everyone = len(self._failures) >= len(self._address.servers)
        return is_everyone and any(map(_is_denial, self._failures))

    def _unconnected(self) -> StorageError:
        for failure in self._failures:
            if _is_denial(failure):
                return DeniedError(
                    f"{self._place}: the servers don't let this node in ({_said(failure)}); check "
                    f"{_ways_named(self._address)} against what their configuration allows"
                )
        why = _said(self._failures[-1]) if self._failures else "no answer"
        return UnansweredError(
            f"{self._place}: no server could be reached within {self._patience:g} s ({why}); see "
            f"that they run, and that the hosts and ports are right"
        )

    def _note(self, error: Exception) -> None:
        """Remember what a server doesn't let this user do: it says so beside the answers."""
        match = _DENIED_SUBJECT.search(str(error))
        if match is not None:
            subject = _INBOX if match[1].startswith(_INBOX) else match[1]
            self._denials[subject] = _said(error)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        running: Future[T] = self._hand_over(
            partial(asyncio.run_coroutine_threadsafe, loop=self._loop), work
        )
        try:
            with self._answering():
                return running.result()
        except BaseException:
            running.cancel()
            raise

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Have it done, waited for by nobody: that spares some turns of the loop."""
        self._loop.call_soon_threadsafe(self._keep, work)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _hand_over(
        self, hand_over: Callable[[Coroutine[Any, Any, T]], R], work: Coroutine[Any, Any, T]
    ) -> R:
        """Give work to the loop. Raises `StoreClosedError` where nobody would do it."""
        if sys.is_finalizing() or threading.current_thread() is self._thread:
            work.close()
            raise StoreClosedError
        try:
            return hand_over(work)
        except RuntimeError as error:
            work.close()
            raise StoreClosedError from error

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Around what waits for an answer. Raises `UnansweredError` where none comes."""
        try:
            yield
        except (NatsError, OSError, TimeoutError) as error:
            raise UnansweredError(
                f"{self._place}: no answer ({error or type(error).__name__})"
            ) from error

    def close(self) -> None:
        """Let go of it; the last user ends it."""
        with self._users_lock:
            self._users -= 1
            if self._users:
                return
        with contextlib.suppress(StorageError, StoreClosedError):
            self._call(self._closed())
        self._end()

    async def _closed(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING_SECONDS):
                await self._client.close()
        self._open_requests.end_all(ConnectionClosedError())

    def _end(self) -> None:
        if sys.is_finalizing():
            return  # its thread is gone
        self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join()
            self._loop.close()


def _is_denial(error: Exception) -> bool:
    if isinstance(error, ssl.SSLError):
        return not isinstance(error, _BROKEN_OFF)
    return isinstance(error, NotEncryptedError) or any(
        word in str(error).lower() for word in _DENIALS
    )


def _said(error: Exception) -> str:
    return str(error).removeprefix("nats: ").strip() or type(error).__name__


def _ways_named(address: ClusterAddress) -> str:
    """What the URL says of who comes in, but not the secrets."""
    named = [
        name
        for name in ("credentials", "nkey", "tls_ca", "tls_cert")
        if getattr(address, name) is not None
    ]
    if address.password is not None:
        named.insert(0, "user and password")
    elif address.user is not None:
        named.insert(0, "the token")
    return ", ".join(named) or "the URL, which has no user, credentials, nkey or tls_ca,"
