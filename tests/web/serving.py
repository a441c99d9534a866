"""A server for tests: the application on a real socket of the loopback address, in a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The base URL at which the application answers, without a slash at its end."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="on")
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
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join()
