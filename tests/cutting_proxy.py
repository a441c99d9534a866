"""A proxy before a PostgreSQL server, which cuts the connection at a message, or holds it up."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

Receiver = Literal["server", "client"]


class CuttingProxy:
    """Passes messages on, whole ones only. Sessions through it are unencrypted."""

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._lock = threading.Lock()
        self._receiver: Receiver | None = None
        self._left = 0
        self._meanwhile: Callable[[], object] | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, receiver: Receiver, number: int) -> None:
        """Lose the message of that number to the server or the client, from 1, and its session."""
        with self._lock:
            self._receiver, self._left, self._meanwhile = receiver, number, None

    def hold(self, number: int, meanwhile: Callable[[], object]) -> None:
        """Have something done before the server gets the message of that number, from 1."""
        with self._lock:
            self._receiver, self._left, self._meanwhile = "server", number, meanwhile

    def let_be(self) -> bool:
        """Do neither from now on; whether it has happened since it was told to."""
        with self._lock:
            receiver, self._receiver = self._receiver, None
            return receiver is None

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # or who accepts would wait for ever
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listening.accept()[0]
                server = socket.create_connection(self._server)
                ways: list[tuple[socket.socket, socket.socket, Receiver]] = [
                    (client, server, "server"),
                    (server, client, "client"),
                ]
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for way in ways:
                    threading.Thread(target=self._pass_on, args=way, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, to: Receiver) -> None:
        has_type = to == "client"  # a client's first message has none
        with source, suppress(OSError), source.makefile("rb") as messages:
            while header := messages.read(5 if has_type else 4):
                (length,) = struct.unpack("!I", header[-4:])
                message = header + messages.read(length - 4)
                if self._is_due(to):
                    if self._meanwhile is None:
                        break
                    self._meanwhile()
                target.sendall(message)
                has_type = True
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)  # its own thread closes it

    def _is_due(self, to: Receiver) -> bool:
        with self._lock:
            if self._receiver != to:
                return False
            self._left -= 1
            if self._left:
                return False
            self._receiver = None
            return True


@contextmanager
def cutting_proxy(port: int) -> Iterator[CuttingProxy]:
    """One before the server at a port of this machine."""
    proxy = CuttingProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
