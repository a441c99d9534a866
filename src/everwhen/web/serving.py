"""A server of its own for one store: what ``everwhen serve`` runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import uvicorn

from everwhen.aio import EventTypes, open_store
from everwhen.web.application import create_app


async def serve_store(
    location: str, *, port: int, events: EventTypes | Iterable[type[Any]] = ()
) -> None:
    """Serve the store on the loopback address until the process is told to end."""
    async with open_store(location, events=events, read_only=True) as store:
        config = uvicorn.Config(
            create_app(store), host="127.0.0.1", port=port, log_level="warning", access_log=False
        )
        sys.stderr.write(f"http://127.0.0.1:{port}/\n")
        await uvicorn.Server(config).serve()
