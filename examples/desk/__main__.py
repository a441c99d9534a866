"""The desk, opened: ``python -m desk STORE``."""

from __future__ import annotations

import argparse
import os

import uvicorn

from desk.application import LOCATION


def main() -> None:
    """Serve until Ctrl-C. Streams that are open then get a second to end."""
    arguments = argparse.ArgumentParser(description="The lending desk of a small library.")
    arguments.add_argument("store", help="a file, or the URL of a log in PostgreSQL")
    arguments.add_argument("--port", type=int, default=8000)
    arguments.add_argument("--workers", type=int, default=1, help="processes; all share the store")
    options = arguments.parse_args()
    os.environ[LOCATION] = options.store
    uvicorn.run(
        "desk.application:app",
        port=options.port,
        workers=options.workers,
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
