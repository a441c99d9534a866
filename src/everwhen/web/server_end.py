"""Whether the server is about to end: servers wait for open answers, and live ones have no end."""

from __future__ import annotations

import signal


def is_server_ending() -> bool:
    """Whether uvicorn, which handles this process's signals by itself, was told to end."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))
