"""The adapter on a wire: standard input and output, or one connection to a local port."""

from __future__ import annotations

import contextlib
import queue
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, Final, TypeAlias

import msgspec

from everwhen.dap.adapter import Adapter, Opener
from everwhen.dap.framing import MalformedMessageError, Readable, framed, read_body

LOCAL: Final = "127.0.0.1"
_MAX_WAITING: Final = 1_000
"""Messages that may wait; then reading pauses until some are answered."""

_INTERRUPTS: Final = frozenset({"pause", "cancel", "disconnect", "terminate"})

_Arrival: TypeAlias = bytes | MalformedMessageError | None


class _Command(msgspec.Struct):
    command: str = ""


def serve_stdio(opener: Opener) -> bool:
    """Talk on standard input and output until the end; False where it was broken off.

    What anybody prints meanwhile, say a fold, goes to standard error.
    """
    # not sys.stdin.buffer: a thread may still be reading when the interpreter closes that
    incoming = open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115
    outgoing = sys.stdout.buffer
    printed, sys.stdout = sys.stdout, sys.stderr
    try:
        return _serve(opener, incoming, outgoing)
    finally:
        sys.stdout = printed


def serve_socket(opener: Opener, port: int, listening: Callable[[int], None]) -> bool:
    """Talk to the first that connects to a port of this machine; see `serve_stdio`.

    ``listening`` is called with the port: a free one, where ``port`` is 0.
    """
    with socket.create_server((LOCAL, port)) as server:
        listening(server.getsockname()[1])
        connection, _ = server.accept()
    with connection, connection.makefile("rb") as incoming, connection.makefile("wb") as outgoing:
        try:
            return _serve(opener, incoming, outgoing)
        finally:
            with contextlib.suppress(OSError):  # wakes whoever still reads
                connection.shutdown(socket.SHUT_RDWR)


def _serve(opener: Opener, incoming: Readable, outgoing: BinaryIO) -> bool:
    is_open = True

    def send(message: dict[str, Any]) -> None:
        nonlocal is_open
        if not is_open:
            return
        try:
            outgoing.write(framed(message))
            outgoing.flush()
        except (OSError, ValueError):  # nobody listens any more
            is_open = False

    adapter = Adapter(opener, send)
    arrivals: queue.Queue[_Arrival] = queue.Queue(_MAX_WAITING)
    reader = threading.Thread(
        target=_read, args=(incoming, arrivals, adapter), name="everwhen-dap", daemon=True
    )
    reader.start()
    try:
        while is_open and not adapter.is_over:
            arrival = arrivals.get()
            if isinstance(arrival, MalformedMessageError):
                adapter.refuse(str(arrival))
                return False
            if arrival is None:
                break
            adapter.handle(arrival)
        return True
    finally:
        adapter.close()


def _read(incoming: Readable, arrivals: queue.Queue[_Arrival], adapter: Adapter) -> None:
    """Take messages in while others are answered; those that end a search do so at once."""
    arrival: _Arrival = b""
    while isinstance(arrival, bytes):
        try:
            arrival = read_body(incoming)
        except MalformedMessageError as error:
            arrival = error
        except (OSError, ValueError):
            arrival = None
        if not isinstance(arrival, bytes) or _interrupts(arrival):
            adapter.interrupt()
        arrivals.put(arrival)


def _interrupts(body: bytes) -> bool:
    try:
        return msgspec.json.decode(body, type=_Command).command in _INTERRUPTS
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return False
