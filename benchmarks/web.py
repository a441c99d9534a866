"""The HTTP API beside a bare Starlette answer, and beside the store itself.

    python -m benchmarks.web

A page of 200 events and the same bytes from a bare application; appends by 64 clients and by as
many tasks on the store; and what a thousand idle followers cost. The server is a process of its
own, whose CPU time is what counts where others use the machine.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import socket
import tempfile
import time
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from everwhen import UnknownEvent, open_store
from everwhen.aio import open_store as open_async
from everwhen.web import OpenAccess, create_app
from everwhen.web.limits import RequestLimits

T = TypeVar("T")

PAGES, CLIENTS, APPENDS, FOLLOWERS, IDLE_SECONDS = 500, 64, 40, 1_000, 10.0
PAGE = "/v1/events?limit=200"
BODY = b'{"events":[{"type":"Placed","data":{"amount":5}}]}'


def serve(path: str, content: bytes, pipe: Connection) -> None:
    """A server of a store, or of these bytes; tells its CPU time whenever it is asked."""

    async def run() -> None:
        async with open_async(path, durable=False) as store:
            app: Any = create_app(
                store,
                access=OpenAccess({"read", "append"}),
                limits=RequestLimits(live_answers=FOLLOWERS),
            )
            if content:

                async def bare(_: Request) -> Response:
                    return Response(content, media_type="application/json")

                app = Starlette(routes=[Route("/v1/events", bare)])
            with socket.socket() as listening:
                listening.bind(("127.0.0.1", 0))
                listening.listen(2 * FOLLOWERS)
                pipe.send(listening.getsockname()[1])

                def tell() -> None:
                    pipe.recv()
                    pipe.send(cpu())

                asyncio.get_running_loop().add_reader(pipe.fileno(), tell)
                config = uvicorn.Config(app, log_level="error", access_log=False, backlog=FOLLOWERS)
                await uvicorn.Server(config).serve([listening])

    asyncio.run(run())


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Measured:
    """A server in a process of its own."""

    def __init__(self, path: Path, content: bytes = b"") -> None:
        self._pipe, other = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=serve, args=(str(path), content, other))
        self._process.start()
        self.port: int = self._pipe.recv()

    def cpu(self) -> float:
        self._pipe.send(None)
        used: float = self._pipe.recv()
        return used

    def measured(self, work: Callable[[int], Coroutine[Any, Any, T]]) -> tuple[float, float, T]:
        """Wall and CPU seconds of the server, and what came of it."""
        began, used = time.perf_counter(), self.cpu()
        found = asyncio.run(work(self.port))
        return time.perf_counter() - began, self.cpu() - used, found

    def end(self) -> None:
        self._process.terminate()
        self._process.join()


async def exchange(port: int, request: bytes, times: int) -> bytes:
    """The last answer's content, after so many requests one after another."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    content = b""
    for _ in range(times):
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b" 200 " in head or b" 201 " in head, head
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        content = await reader.readexactly(length)
    writer.close()
    return content


async def pages(port: int) -> bytes:
    return await exchange(port, f"GET {PAGE} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), PAGES)


async def appends(port: int) -> None:
    head = (
        "POST /v1/streams/s-%d/events HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: application/json\r\n"
    )
    await asyncio.gather(
        *(
            exchange(
                port,
                f"{head % n}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY,
                APPENDS,
            )
            for n in range(CLIENTS)
        )
    )


async def own_appends(path: Path) -> float:
    """Seconds that the store takes for the same by itself."""

    async def append(number: int) -> None:
        for _ in range(APPENDS):
            await store.append(f"s-{number}", [UnknownEvent("Placed", {"amount": 5})])

    async with open_async(path, durable=False) as store:
        began = time.perf_counter()
        await asyncio.gather(*(append(number) for number in range(CLIENTS)))
        return time.perf_counter() - began


async def idle(port: int, server: Measured) -> float:
    """The share of a core that idle followers take."""
    request = b"GET /v1/events/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    opened = []
    for _ in range(FOLLOWERS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        opened.append((reader, writer))
    for reader, _ in opened:
        await reader.readuntil(b"caught-up")
    used = server.cpu()
    await asyncio.sleep(IDLE_SECONDS)
    share = (server.cpu() - used) / IDLE_SECONDS
    for _, writer in opened:
        writer.close()
    return share


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.db"
        with open_store(path, durable=False) as store:
            for number in range(1_000):
                store.append(f"order-{number % 50}", [UnknownEvent("Placed", {"amount": number})])
        server = Measured(path)
        server.measured(pages)
        wall, used, content = server.measured(pages)
        bare = Measured(path, content)
        bare.measured(pages)
        bare_wall, bare_used, _ = bare.measured(pages)
        bare.end()
        print(
            f"page of {len(content):,} bytes: {used / PAGES * 1e3:.2f} ms CPU, "
            f"{wall / PAGES * 1e3:.2f} ms"
        )
        print(
            f"bare answer: {bare_used / PAGES * 1e3:.2f} ms CPU, {bare_wall / PAGES * 1e3:.2f} ms"
        )
        print(f"ratio: {used / bare_used:.2f} of CPU, {wall / bare_wall:.2f} of time; goal 2")
        wall, used, _ = server.measured(appends)
        own = asyncio.run(own_appends(Path(folder) / "own.db"))
        count = CLIENTS * APPENDS
        print(f"appends: {count / wall:,.0f}/s over HTTP, {count / used:,.0f} per CPU second")
        print(f"appends: {count / own:,.0f}/s by the store; ratio {own / wall:.2f}; goal 0.5")
        share = asyncio.run(idle(server.port, server))
        print(f"{FOLLOWERS:,} idle followers: {share:.1%} of a core; goal 5 %")
        server.end()


if __name__ == "__main__":
    main()
