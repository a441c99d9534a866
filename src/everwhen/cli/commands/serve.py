"""The command that opens a store to browsers and programs: ``serve``."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from everwhen.cli.exit_codes import USAGE, CommandStop
from everwhen.cli.options import EventsOption, StoreArgument
from everwhen.cli.user_code import event_types


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(serve)


def serve(
    store: StoreArgument,
    *,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8737,
    events: EventsOption = None,
) -> None:
    """Serve a store over HTTP, to this machine only, for reading."""
    try:
        from everwhen.web.serving import serve_store
    except ModuleNotFoundError as error:
        raise CommandStop(
            f"this needs the library {error.name}: pip install 'everwhen[server]'", USAGE
        ) from error
    asyncio.run(serve_store(store, port=port, events=event_types(events) or ()))
