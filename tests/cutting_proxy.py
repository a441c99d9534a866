"""A proxy before a PostgreSQL server, which cuts the connection at a message of its protocol."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
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
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, receiver: Receiver, number: int) -> None:
        """Lose the message of that number to the server or the client, from 1, and its session."""
        with self._lock:
            self._receiver, self._left = receiver, number

    def let_be(self) -> bool:
        """Cut nothing from now on; whether it has cut since it was told to."""
        with self._lock:
            receiver, self._receiver = self._receiver, None
            return receiver is None

    def close(self) -> None:
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
                if self._is_lost(to):
                    break
                target.sendall(message)
                has_type = True
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)  # its own thread closes it

    def _is_lost(self, to: Receiver) -> bool:
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
