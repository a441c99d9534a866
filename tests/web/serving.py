"""A server for tests: the application on a real socket of the loopback address, in a thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tests.patience import PATIENCE_SECONDS

from everwhen.aio import Store, open_store
from everwhen.audit.aio import AuditEntry, AuditFilter, AuditLog
from everwhen.privacy import PLAINTEXT
from everwhen.vocabulary.clock import Clock
from everwhen.web.access import SCOPES, OpenAccess
from everwhen.web.application import create_app
from everwhen.web.guards import Guards
from everwhen.web.limits import RequestLimits


def store_app(
    location: str | Path, *, opened: dict[str, Any] | None = None, **made: Any
) -> ASGIApp:
    """An application that opens its store when the server starts and closes it at the end.

    ``opened`` goes to `open_store`, the rest to `create_app`.
    """

    @asynccontextmanager
    async def opening() -> AsyncIterator[Guards]:
        async with open_store(location, **(opened or {})) as store:
            yield patient_app(store, **made)

    return lazily(opening())


def patient_app(store: Store, **made: Any) -> Guards:
    """What `create_app` makes, with time for requests on a machine that is busy."""
    made.setdefault("limits", RequestLimits(request_seconds=PATIENCE_SECONDS))
    return create_app(store, **made)


@contextmanager
def served_store(location: str | Path, **options: Any) -> Iterator[httpx2.Client]:
    """A client of a server for the store; ``options`` as of `store_app`."""
    with served(store_app(location, **options)) as url:
        with httpx2.Client(base_url=url, timeout=PATIENCE_SECONDS) as client:
            yield client


@asynccontextmanager
async def hosted(path: Path, **given: Any) -> AsyncIterator[Any]:
    """The application over the store at the path; what is given goes to `create_app`.

    With ``audit="here"`` it has an audit log in the same store, with ``audit="closed"`` one in a
    store that takes no more.
    """
    audited = given.pop("audit", None)
    opened: dict[str, Any] = {"events": [AuditEntry] if audited else [], "vault": PLAINTEXT}
    async with open_store(path, **opened) as store:
        log = store
        if audited == "closed":
            log = await open_store("memory:", **opened)
            await log.close()
        audit = AuditLog(log, policy=lambda _: [AuditFilter()], attempts=1) if audited else None
        yield patient_app(store, audit=audit, **given)


def lazily(opening: AbstractAsyncContextManager[Any]) -> ASGIApp:
    """An ASGI application that is opened when its server starts, and closed before that ends."""
    found: list[ASGIApp] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await found[0](scope, receive, send)
            return
        found.append(await opening.__aenter__())

        async def closing(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                await opening.__aexit__(None, None, None)
            await send(message)

        await found[0](scope, receive, closing)

    return app


@contextmanager
def served(app: Any, port: int = 0, **settings: Any) -> Iterator[str]:
    """The base URL at which the application answers, without a slash at its end.

    The settings are those of the server, uvicorn.
    """
    # the protocol is named: asyncio sets TCP_NODELAY on such sockets only
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        port = listening.getsockname()[1]
        config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="on", **settings)
        server = uvicorn.Server(config)
        started = threading.Event()
        startup = server.startup

        async def announced(sockets: list[socket.socket] | None = None) -> None:
            await startup(sockets)
            started.set()

        server.startup = announced  # type: ignore[method-assign]
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            while not started.wait(0.05):
                assert thread.is_alive(), "the server ended while it started"
            yield f"{'https' if 'ssl_certfile' in settings else 'http'}://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join()


class Stores:
    """An application of many stores, each below a path of its own: one server for many tests."""

    def __init__(self) -> None:
        self._clocks: dict[Path, Clock] = {}
        self._apps: dict[str, Guards] = {}
        self._opened: dict[str, Store] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def mounted(self, path: Path, clock: Clock) -> str:
        """Where the store of a file answers, opened by the server at the first request."""
        self._clocks[path] = clock
        return "/" + path.as_posix().strip("/").replace("/", "+")

    def unmount(self, path: Path) -> None:
        """Close the store, if it was opened."""
        mount = path.as_posix().strip("/").replace("/", "+")
        self._apps.pop(mount, None)
        store = self._opened.pop(mount, None)
        if store is not None and self._loop is not None:
            asyncio.run_coroutine_threadsafe(store.close(), self._loop).result()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return
        self._loop = asyncio.get_running_loop()
        mount, slash, rest = scope["path"].lstrip("/").partition("/")
        app = await self._app(mount)
        raw = scope["raw_path"].lstrip(b"/").partition(b"/")[2]
        await app({**scope, "path": slash + rest, "raw_path": b"/" + raw}, receive, send)

    async def _app(self, mount: str) -> Guards:
        async with self._opening.setdefault(mount, asyncio.Lock()):
            if mount not in self._apps:
                path = Path("/" + mount.replace("+", "/"))
                store = await open_store(path, clock=self._clocks[path])
                self._opened[mount] = store
                self._apps[mount] = patient_app(store, access=OpenAccess(set(SCOPES)))
            return self._apps[mount]
