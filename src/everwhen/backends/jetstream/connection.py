"""A connection to the cluster, for threads: nats-py runs in one thread with an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from everwhen.backends.jetstream.address import ClusterAddress
from everwhen.vocabulary.errors import DeclarationError, StorageError, StoreClosedError

T = TypeVar("T")

_CONNECTING_SECONDS: Final = 2
_BETWEEN_CONNECTIONS: Final = 0.1
_PING_SECONDS: Final = 2
"""How often a server is asked whether it is there; after two pings without an answer it isn't."""
_CLOSING_SECONDS: Final = 5.0


class UnansweredError(StorageError):
    """Nobody answered: what was asked for may be done, be done later, or never."""


class Connection:
    """Shared by the logs of a store that one process has open. Each calls ``close`` once."""

    def __init__(self, address: ClusterAddress, patience: float) -> None:
        self._place = address.place
        self._users = 1
        self._users_lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="everwhen-nats", daemon=True
        )
        self._thread.start()
        try:
            self._client: Client = self._call(_connected(address, patience))
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
        return self._call(self._client.request(subject, data, seconds, headers=headers))

    def requests(self, subject: str, data: bytes, seconds: float) -> list[Msg]:
        """All answers to one question, up to the one that says that there are no more.

        Raises `UnansweredError` where they break off.
        """
        return self._call(self._requests(subject, data, seconds))

    async def _requests(self, subject: str, data: bytes, seconds: float) -> list[Msg]:
        inbox = self._client.new_inbox()
        listening = await self._client.subscribe(inbox)
        found: list[Msg] = []
        try:
            await self._client.publish(subject, data, reply=inbox)
            while True:
                answer = await listening.next_msg(seconds)
                found.append(answer)
                if (answer.headers or {}).get("Status"):
                    return found
        finally:
            await listening.unsubscribe()

    def in_jetstream(self, work: Callable[[JetStreamContext], Coroutine[Any, Any, T]]) -> T:
        """What work by nats-py's own calls returns. Raises `UnansweredError` where one fails."""
        return self._call(work(self._client.jetstream()))

    def say(self, subject: str, data: bytes) -> None:
        """Publish something that may be lost. Doesn't wait."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            asyncio.run_coroutine_threadsafe(self._said(subject, data), self._loop)

    async def _said(self, subject: str, data: bytes) -> None:
        with contextlib.suppress(NatsError):
            await self._client.publish(subject, data)

    def listen(self, subject: str, heard: Callable[[Msg], None]) -> Callable[[], None]:
        """Call ``heard``, which doesn't wait, for each message. Returns how to stop it."""

        async def hear(message: Msg) -> None:
            heard(message)

        listening = self._call(self._client.subscribe(subject, cb=hear))

        def stop() -> None:
            with contextlib.suppress(StorageError, StoreClosedError):
                self._call(listening.unsubscribe())

        return stop

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        if sys.is_finalizing() or threading.current_thread() is self._thread:
            work.close()
            raise StoreClosedError  # nobody would do it
        try:
            running = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError as error:
            work.close()
            raise StoreClosedError from error
        try:
            return running.result()
        except (NatsError, OSError, TimeoutError) as error:
            raise UnansweredError(
                f"{self._place}: no answer ({error or type(error).__name__})"
            ) from error
        except BaseException:
            running.cancel()
            raise

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

    def _end(self) -> None:
        if sys.is_finalizing():
            return  # its thread is gone
        self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join()
            self._loop.close()


async def _connected(address: ClusterAddress, patience: float) -> Client:
    async def ignore(error: Exception) -> None:
        del error  # whoever asks something hears of it

    options: dict[str, Any] = {
        "user": address.user,
        "password": address.password,
        "user_credentials": address.credentials,
        "nkeys_seed": address.nkey,
        "tls": _tls(address),
    }
    until = asyncio.get_running_loop().time() + patience
    while True:
        try:
            return await nats.connect(
                [f"{address.scheme}://{server}" for server in address.servers],
                error_cb=ignore,
                connect_timeout=_CONNECTING_SECONDS,
                max_reconnect_attempts=-1,
                allow_reconnect=True,
                reconnect_time_wait=_BETWEEN_CONNECTIONS,
                ping_interval=_PING_SECONDS,
                max_outstanding_pings=2,
                **{name: value for name, value in options.items() if value is not None},
            )
        except (NatsError, OSError, TimeoutError):
            if asyncio.get_running_loop().time() > until:
                raise
        await asyncio.sleep(_BETWEEN_CONNECTIONS)


def _tls(address: ClusterAddress) -> ssl.SSLContext | None:
    if address.scheme != "tls" and not (address.tls_ca or address.tls_cert):
        return None
    try:
        context = ssl.create_default_context(cafile=address.tls_ca)
        if address.tls_cert is not None:
            context.load_cert_chain(address.tls_cert, address.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise DeclarationError(
            f"{address.place}: the files of tls_ca, tls_cert and tls_key can't be used ({error})"
        ) from error
    return context
