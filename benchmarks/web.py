"""The HTTP API beside a bare Starlette answer, and beside the store itself.

    python -m benchmarks.web              # --rounds N for more or fewer than 7

A page of 200 events, asked for again and again by one client, and the same bytes from a bare
application; appends by 64 clients, a bare answer to the same requests, and as many tasks on the
store; and what a thousand idle followers cost.

All are measured in turn, in each round. Servers and the store's own process are pinned to one core,
the clients to another one, if there is one. Where others use the machine, the CPU time of what is
measured says more than the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import uvicorn
from benchmarks.http_load import load
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from everwhen import UnknownEvent, open_store
from everwhen.aio import open_store as open_async
from everwhen.audit.aio import AuditEntry, AuditLog
from everwhen.privacy import PLAINTEXT
from everwhen.web import OpenAccess, create_app
from everwhen.web.limits import RequestLimits
from everwhen.web.serving import listen, server_config

PAGES, CLIENTS, APPENDS, FOLLOWERS, IDLE_SECONDS = 400, 64, 40, 1_000, 10.0
PAGE = b"GET /v1/events?limit=200 HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = b'{"events":[{"type":"Placed","data":{"amount":5}}]}'
APPEND = (
    "POST /v1/streams/s-%d/events HTTP/1.1\r\nHost: localhost\r\n"
    f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
)


class Spent(NamedTuple):
    """Seconds for one request or append: by the clock, and of the measured process's CPU time."""

    wall: float
    cpu: float


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def serve(path: str, content: bytes, core: int, pipe: Connection) -> None:
    """A server of a store, or of these bytes; tells its CPU time whenever it is asked."""
    os.sched_setaffinity(0, {core})

    async def run() -> None:
        async with open_async(path, durable=False) as store:
            limits = RequestLimits(live_answers=FOLLOWERS)
            app = create_app(store, access=OpenAccess({"read", "append"}), limits=limits)
            await answer(bare(content) if content else app, pipe)

    asyncio.run(run())


def serve_audited(path: str, _: bytes, core: int, pipe: Connection) -> None:
    """The same with an audit log, which is in the store."""
    os.sched_setaffinity(0, {core})

    async def run() -> None:
        opening = open_async(path, durable=False, events=[AuditEntry], vault=PLAINTEXT)
        async with opening as store:
            audit = AuditLog(store, policy=lambda _: [])
            app = create_app(store, access=OpenAccess({"read", "append"}), audit=audit)
            await answer(app, pipe)

    asyncio.run(run())


async def answer(app: ASGIApp, pipe: Connection) -> None:
    """Answer by the application, until this process is ended."""
    with listen("127.0.0.1", 0) as listening:
        listening.listen(2 * FOLLOWERS)
        pipe.send(listening.getsockname()[1])

        def tell() -> None:
            try:
                pipe.recv()
                pipe.send(cpu())
            except (EOFError, BrokenPipeError):  # nobody measures any more
                server.should_exit = server.force_exit = True
                loop.remove_reader(pipe.fileno())

        server = uvicorn.Server(server_config(app, backlog=2 * FOLLOWERS))
        loop = asyncio.get_running_loop()
        loop.add_reader(pipe.fileno(), tell)
        await server.serve([listening])


def bare(content: bytes) -> Starlette:
    """An application that reads the request, and answers with these bytes."""

    async def same(request: Request) -> Response:
        await request.body()
        status = 201 if request.method == "POST" else 200
        return Response(content, status, media_type="application/json")

    paths = ("/v1/events", "/v1/streams/{stream}/events")
    return Starlette(routes=[Route(path, same, methods=["GET", "POST"]) for path in paths])


def append_here(path: str, _: bytes, core: int, pipe: Connection) -> None:
    """The store by itself: appends by as many tasks as there are clients, whenever it is asked."""
    os.sched_setaffinity(0, {core})

    async def run() -> None:
        async with open_async(path, durable=False) as store:

            async def append(number: int) -> None:
                for _ in range(APPENDS):
                    await store.append(f"s-{number}", [UnknownEvent("Placed", {"amount": 5})])

            pipe.send(0)
            while True:
                pipe.recv()
                began, used = time.perf_counter(), cpu()
                await asyncio.gather(*(append(number) for number in range(CLIENTS)))
                pipe.send((time.perf_counter() - began, cpu() - used))

    asyncio.run(run())


class Measured:
    """What is measured, in a process of its own on the first core; the clients have the last."""

    cores = sorted(os.sched_getaffinity(0))

    def __init__(
        self,
        path: Path,
        content: bytes = b"",
        target: Callable[[str, bytes, int, Connection], None] = serve,
    ) -> None:
        self._pipe, other = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        arguments = (str(path), content, self.cores[0], other)
        self._process = context.Process(target=target, args=arguments, daemon=True)
        self._process.start()
        self.port: int = self.told()
        self.content = b""

    def told(self) -> Any:
        return self._pipe.recv()

    def cpu(self) -> float:
        self._pipe.send(None)
        used: float = self.told()
        return used

    def spent(self, requests: Sequence[bytes], times: int) -> Spent:
        """For one of the requests, each of which a client of its own sends so many times."""
        used, began = self.cpu(), time.perf_counter()
        self.content = load(self.port, requests, times, self.cores[-1])
        wall = time.perf_counter() - began
        count = len(requests) * times
        return Spent(wall / count, (self.cpu() - used) / count)

    def own(self) -> Spent:
        """For one append of `append_here`."""
        self._pipe.send(None)
        wall, used = self.told()
        return Spent(wall / (CLIENTS * APPENDS), used / (CLIENTS * APPENDS))

    def end(self) -> None:
        self._process.terminate()
        self._process.join()


Rounds = dict[str, list[Spent]]


def row(rounds: Rounds, name: str, beside: str) -> None:
    """Print the medians of something, and of its ratios to another thing of the same round."""
    spent = rounds[name]
    cpus = [one.cpu / other.cpu for one, other in zip(spent, rounds[beside], strict=True)]
    walls = [one.wall / other.wall for one, other in zip(spent, rounds[beside], strict=True)]
    print(
        f"{name:20} {median(one.cpu for one in spent) * 1e6:5.0f} us of CPU,"
        f"{median(one.wall for one in spent) * 1e6:6.0f} us; {median(cpus):.2f} times {beside} "
        f"({min(cpus):.2f} to {max(cpus):.2f}), by the clock {median(walls):.2f}"
    )


async def idle(server: Measured) -> float:
    """The share of a core that idle followers take."""
    request = b"GET /v1/events/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    opened = []
    for _ in range(FOLLOWERS):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
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
    parser = argparse.ArgumentParser(description="Measure the HTTP API.")
    parser.add_argument("--rounds", type=int, default=7)
    number = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.db"
        with open_store(path, durable=False) as store:
            for amount in range(1_000):
                store.append(f"order-{amount % 50}", [UnknownEvent("Placed", {"amount": amount})])
        page, appends = [PAGE], [(APPEND % n).encode() + BODY for n in range(CLIENTS)]
        server = Measured(path)
        server.spent(page, 1)
        content = server.content
        server.spent(appends, 1)
        bare_page, bare_append = Measured(path, content), Measured(path, server.content)
        audited = Measured(Path(folder) / "audited.db", target=serve_audited)
        store_alone = Measured(Path(folder) / "own.db", target=append_here)
        rounds: Rounds = {}
        for _ in range(number + 1):
            for name, spent in (
                ("page", server.spent(page, PAGES)),
                ("bare page", bare_page.spent(page, PAGES)),
                ("append", server.spent(appends, APPENDS)),
                ("audited append", audited.spent(appends, APPENDS)),
                ("bare append", bare_append.spent(appends, APPENDS)),
                ("store", store_alone.own()),
            ):
                rounds.setdefault(name, []).append(spent)
        for found in rounds.values():
            del found[0]  # what is done once
        for one in (bare_page, bare_append, audited, store_alone):
            one.end()
        print(f"{number} rounds; a page has {len(content):,} bytes; load average {os.getloadavg()}")
        row(rounds, "page", "bare page")
        row(rounds, "append", "store")
        row(rounds, "append", "bare append")
        row(rounds, "bare append", "store")
        row(rounds, "audited append", "append")
        os.sched_setaffinity(0, Measured.cores)
        share = asyncio.run(idle(server))
        print(f"{FOLLOWERS:,} idle followers: {share:.1%} of a core; goal 5 %")
        server.end()


if __name__ == "__main__":
    main()
